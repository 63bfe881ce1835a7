"""The tree of blocks: halves along each axis, level by level."""
import itertools

import numpy as np


class Tree:
    """Quadtree of an image, or octree of a volume, all of whose leaves are at
    the last level.

    Level ``l`` cuts each axis in ``2^l`` parts; level 0 is the whole signal.
    Part i of an axis of S pixels begins at ``floor(i S / 2^l)``, so parts
    differ by at most one pixel, and those of a level are unions of the next
    level's. All leaves have the local coordinates of the largest; a smaller
    one lacks the last.

    Args:
        shape (tuple[int, ...]): Pixels along each axis.
        levels (int): 1: one block.

    Raises:
        ValueError: If there is no level, or a part would be empty.

    Attributes:
        block (tuple[int, ...]): Pixels of the largest leaf along each axis.
    """

    def __init__(self, shape: tuple[int, ...], levels: int) -> None:
        parts = 2**(levels - 1)
        if levels < 1 or min(shape) < parts:
            raise ValueError(
                f'levels={levels} must be at least 1, and cuts each axis in '
                f'{parts} parts, so a signal of {tuple(shape)} pixels can '
                f'have at most {max(min(shape), 1).bit_length()}')
        self.shape = tuple(shape)
        self.levels = levels
        self.dims = len(shape)
        self.block = tuple(-(-size // parts) for size in shape)

    def num_nodes(self, level: int) -> int:
        return 2**(self.dims * level)

    @property
    def num_leaves(self) -> int:
        return self.num_nodes(self.levels - 1)

    @property
    def num_positions(self) -> int:
        """Local positions of a leaf."""
        return int(np.prod(self.block))

    def parts(self, level: int) -> list[tuple[slice, ...]]:
        """Where the nodes of a level are, row by row."""
        axes = []
        for size in self.shape:
            edges = [i * size // 2**level for i in range(2**level + 1)]
            axes.append([slice(a, b) for a, b in zip(edges, edges[1:])])
        return list(itertools.product(*axes))

    def parents(self, level: int) -> np.ndarray:
        """Of each node of a level, its parent's number one level up; the
        root has 0, which stands for the coordinates."""
        if level == 0:
            return np.zeros(1, np.int64)
        grid = np.indices((2**level, ) * self.dims).reshape(self.dims, -1) // 2
        return np.ravel_multi_index(
            tuple(grid), (2**(level - 1), ) * self.dims)

    def coordinates(self) -> np.ndarray:
        """Local coordinates of positions, in [-1, 1].

        Returns:
            np.ndarray: Float32, shape (M, d), row by row.
        """
        axes = [
            np.linspace(-1, 1, size) if size > 1 else np.zeros(1)
            for size in self.block
        ]
        grid = np.meshgrid(*axes, indexing='ij')
        return np.stack([a.ravel() for a in grid], 1).astype(np.float32)

    def split(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cut a signal into its leaves.

        Args:
            values (np.ndarray): Shape (*shape, C).

        Returns:
            tuple: Values (N, M, C) of the N leaves at M positions, zero where
            a leaf has no such position, and whether it has, (N, M).
        """
        blocks = np.zeros((self.num_leaves, *self.block, values.shape[-1]),
                          values.dtype)
        there = np.zeros((self.num_leaves, *self.block), bool)
        for i, part in enumerate(self.parts(self.levels - 1)):
            inside = tuple(slice(s.stop - s.start) for s in part)
            blocks[(i, *inside)] = values[part]
            there[(i, *inside)] = True
        return (blocks.reshape(self.num_leaves, -1, values.shape[-1]),
                there.reshape(self.num_leaves, -1))

    def join(self, blocks: np.ndarray) -> np.ndarray:
        """Put leaves (N, M, C) together to a signal (*shape, C)."""
        channels = blocks.shape[-1]
        blocks = blocks.reshape(self.num_leaves, *self.block, channels)
        values = np.empty((*self.shape, channels), blocks.dtype)
        for block, part in zip(blocks, self.parts(self.levels - 1)):
            inside = tuple(slice(s.stop - s.start) for s in part)
            values[part] = block[inside]
        return values

    def variances(self, values: np.ndarray) -> list[np.ndarray]:
        """Variance of each node's block, the mean over channels.

        Args:
            values (np.ndarray): Shape (*shape, C).

        Returns:
            list[np.ndarray]: One array per level, float64.
        """
        axes = tuple(range(self.dims))
        return [
            np.array([
                values[part].astype(np.float64).var(axis=axes).mean()
                for part in self.parts(level)
            ]) for level in range(self.levels)
        ]
