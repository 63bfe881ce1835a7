"""The model of one file: a tree of SIRENs that fits a budget of bits."""
import math
from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmcompress.registry import MODELS
from . import file_format
from .network import TreeSiren
from .plan import plan_widths, shares_of, split_depth
from .signal import load_signal
from .tree import Tree

_DEPTH = 3


@MODELS.register_module()
class TINC(BaseModel):
    """Tree-structured implicit neural compression (Yang et al., CVPR 2023).

    The signal is cut into the leaves of a :class:`Tree`. Each has a small MLP
    with sines from local coordinates to values, whose sine layers are shared
    along the tree: those nearest to the input belong to the root, the next to
    the node one level down, the last to the leaf alone. Nodes get parameters
    in proportion to the variance of their blocks, so many that the file keeps
    the budget whatever the codes are.

    Written from the abstract of the paper; ``README.md`` lists what was
    reconstructed.

    Args:
        signal (dict): Arguments of :func:`~tinc.signal.load_signal`.
        bpp (float): Bits per pixel (or voxel) of the file, at most.
        levels (int): Of the tree. 1: a plain SIREN.
        depth (int | None): Sine layers of a leaf's MLP, its own and those
            that it shares; None: 3, or as many as there are levels.
        allotment (str): ``'variance'`` or ``'equal'``, see
            :func:`~tinc.plan.shares_of`.
        omega_0 (float): Of the initial weights of SIREN.
        weight_quant (dict): Quantizer of weights: signed codes times one
            scale. Its ``bits`` are what a weight counts in the budget.
        fine_quant (dict): Of biases and of the weights of the coordinates,
            phases and frequencies, which are few.
        data_preprocessor (dict | None): As of the base.

    Raises:
        ValueError: If the budget is too small for the tree, or an option is
            not as described.

    Attributes:
        budget (int): Bytes of the file, at most.
    """

    def __init__(self,
                 signal: dict,
                 bpp: float,
                 levels: int = 2,
                 depth: int | None = None,
                 allotment: str = 'variance',
                 omega_0: float = 30.,
                 weight_quant: dict = dict(type='LSQ', bits=6),
                 fine_quant: dict = dict(type='LSQ', bits=8),
                 data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor)
        if not (0 < bpp < math.inf and 0 < omega_0 < math.inf):
            raise ValueError('bpp and omega_0 must be positive, got '
                             f'{bpp} and {omega_0}')
        self.signal = load_signal(**signal)
        file_format.check_axes(self.signal.shape, self.signal.channels)
        self.budget = int(bpp * self.signal.num_pixels / 8)
        tree = Tree(self.signal.shape, levels)
        layers = split_depth(
            max(_DEPTH, levels) if depth is None else depth, levels)
        values = self.signal.normalized()
        shares = shares_of(tree.variances(values), allotment)
        bits = (weight_quant['bits'], fine_quant['bits'])
        plan = plan_widths(tree, self.signal.channels, layers, shares,
                           self.budget,
                           lambda plan: file_format.largest_size(plan, bits))
        self.network = TreeSiren(plan, omega_0, weight_quant, fine_quant)
        blocks, there = tree.split(values)
        self.network.begin_with_means(
            blocks.sum(1) / there.sum(1, keepdims=True))

    def quantize(self, on: bool) -> None:
        """Let the network compute with codes, or with real parameters.

        Args:
            on (bool): Quantizers begin with the parameters that they see
                first.
        """
        for quantizer in self.network.quantizers():
            quantizer.bypass = not on

    def to_bytes(self) -> bytes:
        """The file.

        Raises:
            RuntimeError: If it is larger than the budget.
        """
        data = file_format.encode(self.network, self.signal)
        if len(data) > self.budget:
            raise RuntimeError(
                f'the file has {len(data)} bytes, and the budget is '
                f'{self.budget}: give the quantizers fewer bits, or raise bpp')
        return data

    def forward(self,
                coordinates: Sequence[Tensor],
                values: Sequence[Tensor] | None = None,
                there: Sequence[Tensor] | None = None,
                mode: str = 'tensor') -> dict[str, Tensor] | Tensor:
        """Compute values, or how far they are from those of the signal.

        Args:
            coordinates (Sequence[Tensor]): Of local positions, (P, d) each.
            values (Sequence[Tensor]): Of all leaves there, (N, P, C) each.
            there (Sequence[Tensor]): Whether a leaf has the position, boolean,
                (N, P) each.
            mode (str): ``'loss'``: the mean squared error of what is there.
                ``'tensor'`` and ``'predict'``: the values.

        Returns:
            dict | Tensor: The loss, or values (N, P, C), P all positions.

        Raises:
            ValueError: On another mode, or values of another tree.
        """
        predicted = self.network(torch.cat(list(coordinates)))
        if mode in ('tensor', 'predict'):
            return predicted
        if mode != 'loss':
            raise ValueError("mode must be 'loss', 'tensor' or 'predict', got "
                             f'{mode!r}')
        values, there = torch.cat(list(values), 1), torch.cat(list(there), 1)
        if values.shape != predicted.shape:
            raise ValueError(
                f'the data have values {tuple(values.shape)} and the model '
                f'{tuple(predicted.shape)} (leaves, positions, channels): '
                'signal and levels of model and dataset must be equal')
        errors = (predicted - values).square().mean(-1) * there
        return dict(loss_mse=errors.sum() / there.sum())
