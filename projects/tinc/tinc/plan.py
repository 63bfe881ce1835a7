"""How wide the network of each node is, under a budget of bits."""
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .tree import Tree

# what 16 bits of the file hold
MAX_WIDTH = 2**16 - 1
_LARGEST_TOTAL = 2.**50
ALLOTMENTS = ('variance', 'equal')


@dataclass(frozen=True, eq=False)
class Plan:
    """Shapes of the layers of all nodes.

    A node of level l has ``layers[l]`` sine layers, all of them as wide as
    its width; the first of them reads its parent's last one, that of the root
    the coordinates. A leaf has one more layer, linear, to the values.

    Attributes:
        tree (Tree): Of the signal.
        channels (int): Of its values.
        layers (tuple[int, ...]): Sine layers of a node, by level.
        widths (list[np.ndarray]): Of each node, by level.
    """
    tree: Tree
    channels: int
    layers: tuple[int, ...]
    widths: list[np.ndarray]

    def shapes(self) -> list[list[tuple[int, int]]]:
        """Inputs and outputs of each node, layer by layer.

        The layers go from the input to the output; each lists the nodes of
        its level row by row.
        """
        shapes = []
        inputs = np.array([self.tree.dims])
        for level, num in enumerate(self.layers):
            inputs = inputs[self.tree.parents(level)]
            for _ in range(num):
                shapes.append(list(zip(inputs.tolist(), self.widths[level])))
                inputs = self.widths[level]
        shapes.append([(int(width), self.channels) for width in inputs])
        return [[(int(a), int(b)) for a, b in layer] for layer in shapes]

    def num_weights(self) -> int:
        return sum(a * b for layer in self.shapes() for a, b in layer)

    def num_biases(self) -> int:
        return sum(b for layer in self.shapes() for _, b in layer)

    def num_frequencies(self) -> int:
        """Weights of the coordinates."""
        return sum(a * b for a, b in self.shapes()[0])


def split_depth(depth: int, levels: int) -> tuple[int, ...]:
    """Share the sine layers of a leaf's MLP among the levels.

    Equal numbers, and what remains to the levels nearest to the input.

    Raises:
        ValueError: If a level would have none, or one more than 255.
    """
    if not levels <= depth <= 255:
        raise ValueError(f'depth={depth} must be between levels={levels}, so '
                         'that each level has a layer, and 255')
    each, rest = divmod(depth, levels)
    return tuple(each + (level < rest) for level in range(levels))


def shares_of(variances: list[np.ndarray], allotment: str) -> list[np.ndarray]:
    """Each node's part of all parameters; together they are 1.

    Args:
        variances (list[np.ndarray]): By level.
        allotment (str): ``'variance'``: in proportion to the variance of the
            node's block, over the nodes of all levels. ``'equal'``, and if
            all variances are 0: equal parts.

    Raises:
        ValueError: On another allotment.
    """
    if allotment not in ALLOTMENTS:
        raise ValueError(f'allotment must be one of {ALLOTMENTS}, got '
                         f'{allotment!r}')
    total = sum(v.sum() for v in variances)
    if allotment == 'equal' or total == 0:
        count = sum(map(len, variances))
        return [np.full(len(v), 1 / count) for v in variances]
    return [v / total for v in variances]


def _widest(parameters: np.ndarray, inputs: np.ndarray, num_layers: int,
            outputs: int) -> np.ndarray:
    """The largest widths with so many parameters; may be below 1.

    ``num_layers`` layers have (inputs + 1) w + (num_layers - 1)(w^2 + w)
    parameters, and the last one (w + 1) outputs.
    """
    square = num_layers - 1
    linear = inputs + num_layers + outputs
    free = np.maximum(parameters - outputs, 0)
    if square == 0:
        width = free / linear
    else:
        width = (np.sqrt(linear**2 + 4 * square * free) - linear) / (2 *
                                                                     square)
    return np.floor(width + 1e-9).astype(np.int64)


def _widths(total: float, shares: list[np.ndarray], tree: Tree, channels: int,
            layers: tuple[int, ...]) -> list[np.ndarray]:
    """Widths of nodes that have so many parameters together, about."""
    widths = []
    inputs = np.array([tree.dims])
    for level, num in enumerate(layers):
        parents = tree.parents(level)
        is_leaf = level == len(layers) - 1
        width = _widest(total * shares[level], inputs[parents], num,
                        channels if is_leaf else 0)
        if not is_leaf:
            children = np.bincount(
                tree.parents(level + 1), total * shares[level + 1])
            mean = children / 2**tree.dims
            width = np.minimum(width, np.sqrt(mean).astype(np.int64))
        inputs = width.clip(1, MAX_WIDTH)
        widths.append(inputs)
    return widths


def plan_widths(tree: Tree, channels: int, layers: tuple[int, ...],
                shares: list[np.ndarray], budget: int,
                size_of: Callable[[Plan], int]) -> Plan:
    """The widths that use a budget, in proportion to shares.

    A node is as wide as its share of the parameters allows, given the width
    of its parent, and at least 1. An inner node is not wider than the square
    root of the mean share of its children: the weights between two nodes are
    the child's, and a child could not pay for more inputs than it can have
    outputs. What such a node leaves is shared by all. The total is the
    largest that keeps the budget; what rounding leaves of it widens leaves
    by 1, those first whose shares were rounded down most.

    Args:
        tree (Tree): Of the signal.
        channels (int): Of its values.
        layers (tuple[int, ...]): By level.
        shares (list[np.ndarray]): By level, of each node.
        budget (int): In the unit of ``size_of``.
        size_of (Callable): The largest size of a plan's file.

    Raises:
        ValueError: If widths of 1 are too much.
    """

    def plan(total: float) -> Plan:
        return Plan(tree, channels, layers,
                    _widths(total, shares, tree, channels, layers))

    low, high = 0., 1.
    if size_of(plan(low)) > budget:
        least = size_of(plan(low))
        pixels = math.prod(tree.shape)
        raise ValueError(
            f'{tree.num_leaves} leaves of {tree.levels} levels need at least '
            f'{least} bytes, {8 * least / pixels:.4f} bits per pixel, got '
            f'{budget} bytes, {8 * budget / pixels:.4f}: raise bpp or lower '
            'levels')
    # without variance in the leaves, nothing grows with the total
    while high < _LARGEST_TOTAL and size_of(plan(high)) <= budget:
        low, high = high, 2 * high
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        if size_of(plan(middle)) <= budget:
            low = middle
        else:
            high = middle
    return _fill(plan(low), low * shares[-1], budget, size_of)


def _fill(plan: Plan, parameters: np.ndarray, budget: int,
          size_of: Callable[[Plan], int]) -> Plan:
    """Widen leaves by 1 while the budget allows it."""
    level = plan.tree.levels - 1
    shapes = plan.shapes()[sum(plan.layers[:-1]):]
    used = sum(np.array([(a + 1) * b for a, b in layer]) for layer in shapes)
    for leaf in np.argsort(used - parameters, kind='stable'):
        widths = plan.widths[level].copy()
        widths[leaf] += 1
        wider = Plan(plan.tree, plan.channels, plan.layers,
                     plan.widths[:-1] + [widths])
        if widths[leaf] <= MAX_WIDTH and size_of(wider) <= budget:
            plan = wider
    return plan
