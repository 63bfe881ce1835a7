"""The MLPs of all leaves, with what they share along the tree."""
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.quantization import Quantizer, build_quantizer
from mmcompress.quantization.layers import Place
from .plan import Plan

# nodes whose widths are equal in these units are computed together
_UNIT = 4


def _bounds(shapes: list[tuple[int, int]], gain: float) -> Tensor:
    """The largest absolute initial weight, for each of the weights."""
    return torch.cat(
        [torch.full((a * b, ), gain / math.sqrt(a)) for a, b in shapes])


class Layer(nn.Module):
    """One layer of all nodes of a level.

    The parameters are vectors, node by node and without padding, so that one
    quantizer sees all weights of the layer and another one all biases.

    Args:
        shapes (list[tuple[int, int]]): Inputs and outputs of each node.
        groups (list[np.ndarray]): Nodes that are computed together.
        sizes (list[tuple[int, int]]): Of each group, inputs and outputs with
            padding.
        weight_quant (dict | None): Config of a quantizer; None: none.
        bias_quant (dict | None): The same.
    """

    def __init__(self, shapes: list[tuple[int, int]], groups: list[np.ndarray],
                 sizes: list[tuple[int, int]], weight_quant: dict | None,
                 bias_quant: dict | None) -> None:
        super().__init__()
        self.shapes = shapes
        self.weight = nn.Parameter(torch.zeros(sum(a * b for a, b in shapes)))
        self.bias = nn.Parameter(torch.zeros(sum(b for _, b in shapes)))
        self.weight_quant = build_quantizer(weight_quant, Place())
        self.bias_quant = build_quantizer(bias_quant, Place())
        for quantizer in (self.weight_quant, self.bias_quant):
            if quantizer is not None and quantizer.stateful:
                quantizer.be_signed()
        self._sizes = [(len(g), *size) for g, size in zip(groups, sizes)]
        weight_ends = np.cumsum([0] + [a * b for a, b in shapes])
        bias_ends = np.cumsum([0] + [b for _, b in shapes])
        for i, (nodes, size) in enumerate(zip(groups, sizes)):
            # what padding reads is a zero behind the parameters
            weights = np.full((len(nodes), *size), weight_ends[-1])
            biases = np.full((len(nodes), 1, size[1]), bias_ends[-1])
            for row, node in enumerate(nodes):
                a, b = shapes[node]
                weights[row, :a, :b] = weight_ends[node] + np.arange(
                    a * b).reshape(a, b)
                biases[row, 0, :b] = bias_ends[node] + np.arange(b)
            self.register_buffer(
                f'weights{i}', torch.from_numpy(weights), persistent=False)
            self.register_buffer(
                f'biases{i}', torch.from_numpy(biases), persistent=False)

    def spans(self) -> list[tuple[slice, slice]]:
        """Where each node has its weights and its biases."""
        spans, weights, biases = [], 0, 0
        for a, b in self.shapes:
            spans.append((slice(weights,
                                weights + a * b), slice(biases, biases + b)))
            weights, biases = weights + a * b, biases + b
        return spans

    def operands(self) -> list[tuple[Tensor, Tensor]]:
        """Weights (N, in, out) and biases (N, 1, out) of each group, as they
        are multiplied; padding is zero."""
        weight, bias = self.weight, self.bias
        if self.weight_quant is not None:
            weight = self.weight_quant(weight)
        if self.bias_quant is not None:
            bias = self.bias_quant(bias)
        weight, bias = F.pad(weight, (0, 1)), F.pad(bias, (0, 1))
        return [(weight[getattr(self, f'weights{i}')],
                 bias[getattr(self, f'biases{i}')])
                for i in range(len(self._sizes))]


def _groups(widths: np.ndarray) -> tuple[list[np.ndarray], list[int]]:
    """Nodes of equal padded width, and these widths."""
    padded = -(-widths // _UNIT) * _UNIT
    sizes = np.unique(padded)
    return [np.flatnonzero(padded == size) for size in sizes], sizes.tolist()


class TreeSiren(nn.Module):
    """SIRENs (Sitzmann et al., NeurIPS 2020) of the leaves of a tree.

    A sine layer is ``sin(W x + b)``. omega_0 is part of the stored W: where
    the reference computes ``sin(omega_0 (W x + b))`` with small W, this one
    stores the products, and they begin as those of the reference do: uniform
    within ``omega_0 / d`` for the coordinates, ``sqrt(6 / inputs)`` for sine
    layers behind, and ``sqrt(6 / inputs) / omega_0`` for the values.

    Differs from the reference: phases b begin uniform over one period.

    All leaves have the same local coordinates, so that a node's features are
    computed once for all leaves below it. Nodes of a level whose widths agree
    when rounded up to a multiple of 4 are one batched product. Padding is
    exact: a unit of weights and phase zero is ``sin(0) = 0``.

    Args:
        plan (Plan): Shapes.
        omega_0 (float | None): Of the initial weights. None: they are zero,
            for parameters that come from elsewhere.
        weight_quant (dict | None): Config of the quantizers of weights, one
            scale for each layer of a level; None: none.
        fine_quant (dict | None): Of biases, and of the weights of the
            coordinates, which are frequencies.
    """

    def __init__(self,
                 plan: Plan,
                 omega_0: float | None = 30.,
                 weight_quant: dict | None = None,
                 fine_quant: dict | None = None) -> None:
        super().__init__()
        self.plan = plan
        self.layers = nn.ModuleList()
        shapes = iter(plan.shapes())
        # positions of the nodes of the level above among its groups
        place, inputs = np.zeros(1, np.int64), plan.tree.dims
        for level, num in enumerate(plan.layers):
            groups, sizes = _groups(plan.widths[level])
            parents = place[plan.tree.parents(level)]
            for i, nodes in enumerate(groups):
                self.register_buffer(
                    f'parents{level}_{i}',
                    torch.from_numpy(parents[nodes]),
                    persistent=False)
            padded = [inputs] * len(groups)
            is_leaf = level == len(plan.layers) - 1
            for layer in range(num + is_leaf):
                outputs = sizes
                if layer == num:
                    outputs = [plan.channels] * len(groups)
                self.layers.append(
                    Layer(
                        next(shapes), groups, list(zip(padded, outputs)),
                        weight_quant if self.layers else fine_quant,
                        fine_quant))
                padded = outputs
            place = np.argsort(np.concatenate(groups))
            inputs = sizes[-1]
        self.register_buffer(
            'order', torch.from_numpy(place), persistent=False)
        if omega_0 is not None:
            self._initialize(omega_0)

    @torch.no_grad()
    def _initialize(self, omega_0: float) -> None:
        gain = math.sqrt(6)
        for i, layer in enumerate(self.layers):
            if i == 0:
                # (1 / d) omega_0
                bound = _bounds(layer.shapes, omega_0 / layer.shapes[0][0]**.5)
            elif i < len(self.layers) - 1:
                bound = _bounds(layer.shapes, gain)
            else:
                bound = _bounds(layer.shapes, gain / omega_0)
            layer.weight.copy_((2 * torch.rand(len(bound)) - 1) * bound)
            if i < len(self.layers) - 1:
                layer.bias.uniform_(-math.pi, math.pi)

    @torch.no_grad()
    def begin_with_means(self, means: np.ndarray) -> None:
        """Let the values of each leaf begin with the mean of its block.

        Args:
            means (np.ndarray): Shape (N, C).
        """
        self.layers[-1].bias.copy_(torch.from_numpy(means).flatten())

    def quantizers(self) -> list[Quantizer]:
        """Of all layers."""
        return [m for m in self.modules() if isinstance(m, Quantizer)]

    def tensors(self) -> list[tuple[nn.Parameter, Quantizer | None]]:
        """Weights and biases with their quantizers, as they are in a file."""
        return [(parameter, quantizer) for layer in self.layers
                for parameter, quantizer in ((layer.weight,
                                              layer.weight_quant),
                                             (layer.bias, layer.bias_quant))]

    def forward(self, coordinates: Tensor) -> Tensor:
        """Values of all leaves.

        Args:
            coordinates (Tensor): Shape (P, d), in [-1, 1].

        Returns:
            Tensor: Shape (N, P, C), leaves row by row.
        """
        layers = iter(self.layers)
        features = coordinates[None]
        last = len(self.plan.layers) - 1
        for level, num in enumerate(self.plan.layers):
            operands = [next(layers).operands() for _ in range(num)]
            if level == last:
                operands.append(next(layers).operands())
            outputs = []
            for i, group in enumerate(zip(*operands)):
                x = features.index_select(0,
                                          getattr(self, f'parents{level}_{i}'))
                for weight, bias in group[:num]:
                    x = torch.sin(torch.baddbmm(bias, x, weight))
                if level == last:
                    x = torch.baddbmm(group[-1][1], x, group[-1][0])
                outputs.append(x)
            widest = outputs[-1].shape[-1]
            features = torch.cat(
                [F.pad(x, (0, widest - x.shape[-1])) for x in outputs])
        return features[self.order]
