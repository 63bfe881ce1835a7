"""The contract of low-bit layers: all that the package asks of them."""
from collections.abc import Iterable

import torch
import torch.nn as nn
from torch import Tensor

from .operands import InferenceRule, OperandBits
from .optimizer_step import call_before_step

_CONV = ('in_channels', 'out_channels', 'kernel_size', 'stride', 'padding',
         'dilation', 'groups', 'padding_mode')
# what a float layer is made of again, besides its bias
FLOAT_LAYERS = {
    nn.Linear: ('in_features', 'out_features'),
    nn.Conv1d: _CONV,
    nn.Conv2d: _CONV,
    nn.Conv3d: _CONV,
    nn.ConvTranspose2d: (*_CONV, 'output_padding'),
}
# what packed layers keep in place of a weight
_PACKED_WEIGHTS = ('weight_bits', 'weight_codes')


def float_kind(cls: type[nn.Module]) -> type[nn.Module]:
    """Which layer of :data:`FLOAT_LAYERS` a class derives from.

    Raises:
        TypeError: If it derives from none.
    """
    for base in cls.__mro__:
        if base in FLOAT_LAYERS:
            return base
    known = ', '.join(kind.__name__ for kind in FLOAT_LAYERS)
    raise TypeError(f'{cls.__name__} derives from none of {known}, so it is '
                    'unknown what it replaces')


def float_arguments(layer: nn.Module) -> dict:
    """Constructor arguments of a layer of :data:`FLOAT_LAYERS`."""
    names = FLOAT_LAYERS[float_kind(type(layer))]
    arguments = {name: getattr(layer, name) for name in names}
    # which not every convolution takes
    if arguments.get('padding_mode') == 'zeros':
        del arguments['padding_mode']
    return dict(arguments, bias=layer.bias is not None)


def convert_layer(layer: nn.Module, cls: type[nn.Module],
                  **options) -> nn.Module:
    """Make a layer of another class of a layer, with its weights.

    What isn't trained stays so: parameters keep their ``requires_grad``, and
    those that the layer hasn't got are as its weight.

    Args:
        layer (nn.Module): Derives from one of :data:`FLOAT_LAYERS`.
        cls (type[nn.Module]): Takes the arguments of that, and loads its
            state dict.
        **options: Other arguments of the class.

    Returns:
        nn.Module: In the same mode, dtype and place.
    """
    new = cls(**{**float_arguments(layer), **options})
    new.to(layer.weight).train(layer.training)
    new.load_state_dict(layer.state_dict())
    trained = {n: p.requires_grad for n, p in layer.named_parameters()}
    for name, parameter in new.named_parameters():
        parameter.requires_grad_(
            trained.get(name, trained.get('weight', True)))
    return new


def weight_macs(layer: nn.Module, args: tuple, output: Tensor) -> int:
    """Multiply-accumulates with the weights of a layer in a forward.

    Args:
        layer (nn.Module): Of :data:`FLOAT_LAYERS`, or an attention of torch,
            whose output projection is a layer of its own.
        args (tuple): What the forward was given, in its order.
        output (Tensor): What it returned.
    """
    if isinstance(layer, nn.MultiheadAttention):
        query, key, value = args[:3]
        inputs = query.numel() + key.numel() + value.numel()
        # pruned, it is narrower than the embedding
        return inputs * len(layer.out_proj.weight[0])
    if isinstance(layer, nn.ConvTranspose2d):
        # each input adds to the outputs that its channel's weights reach
        return args[0].numel() * layer.weight[0].numel()
    # each output is a sum over the weights of its channel
    return output.numel() * layer.weight[0].numel()


def num_bytes(tensors: Iterable[Tensor | None]) -> int:
    """Bytes of tensors, as they are."""
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


class LowBitModule(nn.Module):
    """What computes with low-bit operands, in training or packed.

    Attributes:
        other_calls (tuple[str, ...]): Methods by which its users call it past
            ``forward``, for what watches calls.
    """

    other_calls: tuple[str, ...] = ()

    def operand_bits(self) -> OperandBits:
        """Bits of what it multiplies."""
        raise NotImplementedError(
            f'{type(self).__name__} has to say its operand_bits()')

    def num_packed_weights(self) -> int:
        """Number of weights that it holds as codes and not as parameters."""
        return 0

    def inference_bytes(self) -> int | None:
        """Bytes of its own in a packed file; None: as they are."""
        return None

    def record(self) -> tuple:
        """What tells a packed layer from others of equal tensors."""
        return ()


class LowBitLayer(LowBitModule):
    """Base of the layers that are trained to compute with low-bit operands.

    It stands before the float layer's class::

        class MyConv2d(LowBitLayer, nn.Conv2d):

    whose constructor arguments it takes, among others, and whose state dict
    it loads. Then a step puts it into any model (:class:`ReplaceLayers`), it
    is counted, timed against its float layer, packed, verified and stored, by
    what it says of itself: ``operand_bits`` and ``inference_rule``. A product
    of two activations derives from nothing else and has no rule.

    A subclass with a ``before_step`` has it called before each step of an
    optimizer, see :func:`~mmcompress.lowbit.optimizer_step.call_before_step`.

    Attributes:
        replaces (tuple[type, ...]): Which layers it can be made of; by
            default the float layer that it derives from.
    """

    replaces: tuple[type[nn.Module], ...] = ()

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._listen_to_steps()

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._listen_to_steps()

    def _listen_to_steps(self) -> None:
        if type(self).before_step is not LowBitLayer.before_step:
            call_before_step(self)

    def before_step(self) -> None:
        """Change gradients or state; nothing, unless a subclass does."""

    @classmethod
    def from_float(cls, layer: nn.Module, **options) -> 'LowBitLayer':
        """The low-bit version of a float layer, with its weights.

        Args:
            layer (nn.Module): Of :data:`FLOAT_LAYERS`.
            **options: Arguments that only the low-bit layer has.
        """
        return convert_layer(layer, cls, **options)

    def to_float(self) -> nn.Module:
        """A plain layer of the same shape, with the same parameters.

        It computes something else, unless this layer was made of a float one
        and not trained since.
        """
        kind = float_kind(type(self))
        plain = kind(**float_arguments(self)).to(self.weight)
        plain.weight, plain.bias = self.weight, self.bias
        return plain.train(self.training)

    def inference_rule(self) -> InferenceRule | None:
        """What it computes in eval mode; None: nothing that can be packed."""
        return None

    def macs(self, args: tuple, output: Tensor) -> int:
        """Multiply-accumulates of a forward.

        Args:
            args (tuple): What it was given, in its order.
            output (Tensor): What it returned.
        """
        return weight_macs(self, args, output)

    @torch.no_grad()
    def inference_bytes(self) -> int | None:
        """Codes at their bits, and scale and bias; without a rule as it is."""
        if not self.operand_bits().are_low:
            return None
        rule = self.inference_rule()
        if rule is None:
            return None
        codes = (rule.codes.numel() * rule.bits.weight + 7) // 8
        return codes + num_bytes([rule.scale, rule.bias])

    def __setattr__(self, name: str, value) -> None:
        old = self.__dict__.get('_parameters', {}).get(name)
        if name == 'weight' and old is not None and value is not old:
            raise RuntimeError(
                f'the weight of {type(self).__name__} is latent, what it '
                'stands for is its low-bit version: it takes no other weight, '
                'such as one with a norm fused into it (fuse_conv_bn, '
                '--fuse-conv-bn). tools/deploy/pack.py folds norms exactly')
        super().__setattr__(name, value)


def refuse_packed(state_dict: dict, prefix: str = '') -> None:
    """Refuse the weights of a packed model, before anything is loaded.

    mmengine would warn of keys that don't match, and go on with random
    weights.

    Args:
        state_dict (dict): What is about to be loaded.
        prefix (str): Of the module that it is loaded into.

    Raises:
        RuntimeError: If it has packed weights of that module.
    """
    if any(
            key.startswith(prefix) and key.endswith(_PACKED_WEIGHTS)
            for key in state_dict):
        # only the root's dict has it
        metadata = getattr(state_dict, '_metadata', None) or {}
        file = metadata.get('', {}).get('file')
        raise RuntimeError(
            (f'{file}: ' if file else '') +
            'the checkpoint is a packed one, and the config that of the '
            'trained model: use the config that tools/deploy/pack.py wrote '
            'beside the checkpoint')
