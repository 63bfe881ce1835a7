"""Inference twins of the 1-bit layers: packed weights, folded constants."""
from collections.abc import Iterator

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import InferenceRule, OperandBits
from mmcompress.ops import reference
from mmcompress.pixels import as_pixels, from_pixels
from mmcompress.precision import as_real
from .file.weight_bits import store_signs, weight_rows
from .geometry import Geometry
from .integer_layers import PackedIntegerLayer
from .prepacked import Prepacked

# who computes: the kernels, or plain PyTorch in the kernels' order; export
# adds one that writes nodes
ENGINES = dict(packed=torch.ops.mmcompress, folded=reference)


class PackedLayer(Prepacked):
    """What the packed layers share: bits of weights, signs of the input.

    An input value ``x`` becomes the bit ``x > threshold``, or ``x <
    threshold`` where ``flip`` is True, see
    :func:`mmcompress.ops.binary_pack`. Inputs are images (N, C, H, W); where
    the geometry is that of a linear layer, also features (L, C) and their
    bits (L, B), which cost less to call.

    Args:
        rule (InferenceRule): What the trained layer computes.
        threshold (Tensor): float32, shape (C, ).
        flip (Tensor | None): bool, shape (C, ).

    Attributes:
        geometry (Geometry): Shape of the weight, stride and so on.
    """

    # layers in a row hand on bits past `forward`
    other_calls = ('only_bits', )

    def __init__(self, rule: InferenceRule, threshold: Tensor,
                 flip: Tensor | None) -> None:
        super().__init__()
        self.geometry = Geometry.of(rule)
        self.register_buffer('weight_bits', store_signs(rule.codes))
        self.register_buffer('threshold', threshold)
        self.register_buffer('flip', flip)

    def extra_repr(self) -> str:
        return f'{self.geometry}, twin={self.twin}'

    def operand_bits(self) -> OperandBits:
        """1 and 1."""
        return OperandBits(1, (1, ))

    def record(self) -> tuple:
        """What a file of another architecture differs in."""
        return tuple(self.geometry)

    def num_packed_weights(self) -> int:
        """Number of signs."""
        return torch.Size(self.geometry.weight_shape).numel()

    @property
    def engine(self):
        """Operators that this layer runs on."""
        return ENGINES[self.twin]

    @property
    def stored(self) -> Tensor:
        return self.weight_bits

    def prepack(self) -> Tensor:
        return self.engine.binary_prepack(
            weight_rows(self.weight_bits, self.geometry.weight_shape),
            self.geometry.weight_shape, self.geometry.groups,
            'reference' if self.twin == 'folded' else '')

    def impossible(self, stored: dict[str, Tensor]) -> str | None:
        """Infinite constants; only thresholds may be. Bits beyond the last.

        """
        for name in ('scale', 'shift', 'pre', 'slope', 'post'):
            if name in stored and stored[name].isinf().any():
                return f'{name} has infinite values'
        filled = self.num_packed_weights() % 8
        if filled and int(stored['weight_bits'][-1]) >> filled:
            return 'weight_bits has more bits than weights'
        return None

    def pack(self, x: Tensor) -> Tensor:
        """Bits of a float input, shape (N, C, H, W) or (L, C)."""
        run = self.engine.binary_pack if x.dim() == 4 else \
            self.engine.binary_linear_pack
        return run(x, self.threshold, self.flip)

    def count(self, bits: Tensor) -> Tensor:
        """Integers of packed input bits: int32, shape (N, K, H', W')."""
        return self.engine.binary_conv2d(bits, self.blob, *self.geometry)


class PackedConv2d(PackedLayer):
    """1-bit convolution with what surrounds it, in one operator.

    With the integer ``k``, per output channel, every operation rounded on its
    own in float32::

        y = scale * k + shift
        y = y + residual                  if given
        y = y + pre                       if there is one
        y = y if y > 0 else slope * y     if there is one
        y = y + post                      if there is one

    Args:
        rule (InferenceRule): What the trained layer computes.
        threshold (Tensor): float32, shape (C, ).
        flip (Tensor | None): bool, shape (C, ).
        scale (Tensor): float32, shape (K, ).
        shift (Tensor): float32, shape (K, ).
        pre (Tensor | None): float32, shape (K, ).
        slope (Tensor | None): float32, shape (K, ).
        post (Tensor | None): float32, shape (K, ).
    """

    def __init__(self,
                 rule: InferenceRule,
                 threshold: Tensor,
                 flip: Tensor | None,
                 scale: Tensor,
                 shift: Tensor,
                 pre: Tensor | None = None,
                 slope: Tensor | None = None,
                 post: Tensor | None = None) -> None:
        super().__init__(rule, threshold, flip)
        for name, value in dict(
                scale=scale, shift=shift, pre=pre, slope=slope,
                post=post).items():
            self.register_buffer(name, value)

    def _run(self,
             x: Tensor,
             residual: Tensor | None = None,
             then: PackedLayer | None = None,
             bits_only: bool = False) -> tuple[Tensor, Tensor]:
        self.check_input(x)
        # finding nine attributes of modules takes as long as a small layer
        own = self._buffers
        threshold, flip = own['threshold'], own['flip']
        if x.dtype == torch.uint8:
            threshold = flip = None
        elif x.dtype != torch.float32:
            x = x.float()
        if residual is not None and residual.dtype != torch.float32:
            residual = residual.float()
        next_threshold = next_flip = None
        if then is not None:
            next_threshold = then._buffers['threshold']
            next_flip = then._buffers['flip']
        is_image = x.dim() == 4
        run = self.engine.binary_conv2d_fused if is_image else \
            self.engine.binary_linear_fused
        size = self.geometry if is_image else self.geometry.weight_shape[:2]
        return run(x, self.blob, own['scale'], own['shift'], threshold, flip,
                   residual, own['pre'], own['slope'], own['post'],
                   next_threshold, next_flip, *size, bits_only)

    def forward(
            self,
            x: Tensor,
            residual: Tensor | None = None,
            then: PackedLayer | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Compute real values, and the bits that the next layer makes of them.

        Args:
            x (Tensor): Real-valued, shape (N, C, H, W) or (L, C), or packed
                bits.
            residual (Tensor | None): Shape of the result.
            then (PackedLayer | None): The next layer.

        Returns:
            Tensor | tuple[Tensor, Tensor]: Shape (N, K, H', W'), channels-last
            memory, or (L, K), in the dtype of ``x``; float32 for bits. With
            ``then``, also its packed bits.
        """
        y, bits = self._run(x, residual, then)
        if x.is_floating_point():
            y = y.to(x.dtype)
        return y if then is None else (y, bits)

    def only_bits(self, x: Tensor, then: PackedLayer) -> Tensor:
        """Compute the bits of the next layer; the real values stay inside."""
        return self._run(x, then=then, bits_only=True)[1]


class PackedBitsConv2d(PackedLayer):
    """1-bit convolution with only monotone maps up to the next 1-bit layer.

    The next layer's bit is ``(k >= limit) ^ limit_flip``: no float at all.

    Args:
        rule (InferenceRule): What the trained layer computes.
        threshold (Tensor): float32, shape (C, ).
        flip (Tensor | None): bool, shape (C, ).
        limit (Tensor): int32, shape (K, ), as
            :func:`mmcompress.ops.integer_limits` finds it.
        limit_flip (Tensor): bool, shape (K, ).
    """

    def __init__(self, rule: InferenceRule, threshold: Tensor,
                 flip: Tensor | None, limit: Tensor,
                 limit_flip: Tensor) -> None:
        super().__init__(rule, threshold, flip)
        self.register_buffer('limit', limit)
        self.register_buffer('limit_flip', limit_flip)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the bits of the next layer.

        Args:
            x (Tensor): Real-valued, shape (N, C, H, W), or packed bits.

        Returns:
            Tensor: Packed bits, shape (N, H', W', 8 * ceil(K / 64)).
        """
        self.check_input(x)
        if x.dtype != torch.uint8:
            x = self.pack(x.float())
        if x.dim() == 4:
            return self.engine.binary_conv2d_bits(x, self.blob, self.limit,
                                                  self.limit_flip,
                                                  *self.geometry)
        return self.engine.binary_linear_bits(x, self.blob, self.limit,
                                              self.limit_flip,
                                              *self.geometry.weight_shape[:2])

    def only_bits(self, x: Tensor, then: PackedLayer) -> Tensor:
        """The same; ``then`` is already in the limits."""
        return self(x)


class PackedChain(nn.Sequential):
    """1-bit layers in a row, packed in between.

    All but the last hand on bits only.

    Args:
        *layers (PackedLayer): The last is a :class:`PackedConv2d`.
        features_last (bool): The input is that of linear layers, (..., C).
            Otherwise it is (N, C), (N, C, L) or (N, C, H, W).
    """

    def __init__(self,
                 *layers: PackedLayer,
                 features_last: bool = False) -> None:
        super().__init__(*layers)
        self.features_last = features_last
        self.is_linear = all(layer.geometry.is_linear for layer in layers)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the chain.

        Args:
            x (Tensor): Real-valued.

        Returns:
            Tensor: Real-valued, with as many dimensions.
        """
        x = as_real(x)
        has_features = self.features_last or x.dim() <= 2
        if not (has_features and self.is_linear):
            y = self.run(as_pixels(x, self.features_last)).to(x.dtype)
            return from_pixels(y, x, self.features_last)
        if x.dim() == 2:
            return self.run(x).to(x.dtype)
        y = self.run(x.reshape(-1, x.shape[-1])).to(x.dtype)
        return y.reshape(*x.shape[:-1], y.shape[-1])

    @property
    def last(self) -> PackedConv2d:
        """The layer that gives real values."""
        return self[-1]

    def run(self,
            x: Tensor,
            residual: Tensor | None = None,
            then: 'PackedChain | None' = None
            ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the chain for an image, or its bits.

        Args:
            x (Tensor): Shape (N, C, H, W), or packed bits.
            residual (Tensor | None): What the last layer adds.
            then (PackedChain | None): The next chain.

        Returns:
            Tensor | tuple[Tensor, Tensor]: As of the last layer. With
            ``then``, also the bits that its first layer takes.
        """
        layers = list(self)
        for layer, following in zip(layers, layers[1:]):
            x = layer.only_bits(x, following)
        return layers[-1](x, residual, next(iter(then)) if then else None)


class PackedBlock(nn.Module):
    """Residual block whose main path is a chain of low-bit layers.

    Args:
        chain (nn.Module): A :class:`PackedChain`, or one of integers. Its
            last layer adds the shortcut and computes what follows.
        shortcut (nn.Module | None): None: the block has none.
    """

    def __init__(self, chain: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.chain = chain
        self.shortcut = shortcut

    def forward(
            self,
            x: Tensor,
            bits: Tensor | None = None,
            then: 'PackedBlock | None' = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the block, and the bits that the next one makes of it.

        Args:
            x (Tensor): Shape (N, C, H, W).
            bits (Tensor | None): Those of ``x``, or its codes, where they are
                known.
            then (PackedBlock | None): The next block.

        Returns:
            Tensor | tuple[Tensor, Tensor]: Shape (N, K, H', W'). With
            ``then``, also its packed bits.
        """
        x, residual = as_real(x), None
        if self.shortcut is not None:
            # saves a call, a tenth of the block's time in Python
            is_identity = isinstance(self.shortcut, nn.Identity)
            residual = x if is_identity else self.shortcut(x)
        start = x if bits is None else bits
        if then is None:
            return self.chain.run(start, residual).to(x.dtype)
        y, bits = self.chain.run(start, residual, then.chain)
        return y.to(x.dtype), bits


def run_in_row(layers: list[nn.Module], x: Tensor) -> Iterator[Tensor]:
    """Compute layers, one after the other.

    Where packed blocks follow each other, the bits or codes of a block's
    input come from the operator that computes it, not from a pass of their
    own.

    Args:
        layers (list[nn.Module]): In the order of execution.
        x (Tensor): Shape (N, C, H, W).

    Yields:
        Tensor: The output of each layer.
    """
    bits = None
    for layer, then in zip(layers, [*layers[1:], None]):
        if not isinstance(layer, PackedBlock):
            x = layer(x)
        elif (isinstance(then, PackedBlock)
              and type(then.chain) is type(layer.chain)):
            x, bits = layer(x, bits, then)
        else:
            x, bits = layer(x, bits), None
        yield x


class PackedStage(nn.Sequential):
    """Packed blocks in a row, see :func:`run_in_row`."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the blocks, shape (N, C, H, W)."""
        for y in run_in_row(list(self), x):
            pass
        return y


class PackedBackbone(nn.Module):
    """Layers in a row, of which some outputs are returned.

    See :func:`run_in_row`.

    Args:
        layers (list[nn.Module]): In the order of execution.
        out_indices (list[int]): Numbers of the layers whose outputs are
            returned.
    """

    def __init__(self, layers: list[nn.Module],
                 out_indices: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.out_indices = list(out_indices)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            x (Tensor): Images, shape (N, C, H, W).

        Returns:
            tuple[Tensor]: Features, channels-last memory.
        """
        layers = list(self.layers)
        # layers of integers read any layout while they quantize
        if not isinstance(layers[0], PackedIntegerLayer):
            x = x.contiguous(memory_format=torch.channels_last)
        outputs = run_in_row(layers, x)
        return tuple(y for i, y in enumerate(outputs) if i in self.out_indices)
