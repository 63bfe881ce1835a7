"""Local positions with the values that all leaves have there."""
import numpy as np
import torch
from torch.utils.data import Dataset

from mmcompress.registry import DATASETS
from .signal import load_signal
from .tree import Tree


@DATASETS.register_module()
class SignalBlocks(Dataset):
    """The pixels of one signal, as a :class:`~tinc.tree.Tree` cuts it.

    An item is a random part of the local positions; all items together are
    all positions. Leaves share what is computed of a position, so an item has
    the values of all leaves there.

    Args:
        signal (dict): Arguments of :func:`~tinc.signal.load_signal`.
        levels (int): Of the tree.
        pixels (int): About so many pixels in an item.
        seed (int): Of which positions come together.

    Raises:
        ValueError: If an item would have no pixel.
    """

    # mmengine asks for it
    metainfo: dict = {}

    def __init__(self,
                 signal: dict,
                 levels: int,
                 pixels: int = 16384,
                 seed: int = 0) -> None:
        if pixels < 1:
            raise ValueError(f'pixels must be positive, got {pixels}')
        signal = load_signal(**signal)
        tree = Tree(signal.shape, levels)
        blocks, there = tree.split(signal.normalized())
        self._coordinates = torch.from_numpy(tree.coordinates())
        self._values = torch.from_numpy(blocks)
        self._there = torch.from_numpy(there)
        num = -(-blocks[..., 0].size // pixels)
        num = min(num, tree.num_positions)
        order = np.random.default_rng(seed).permutation(tree.num_positions)
        # along the positions of a part, memory is read in order
        self._parts = [
            torch.from_numpy(np.sort(part))
            for part in np.array_split(order, num)
        ]

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Get a part.

        Returns:
            dict: ``coordinates`` (P, d), ``values`` (N, P, C) and ``there``
            (N, P), whether a leaf has the position.
        """
        part = self._parts[index]
        return dict(
            coordinates=self._coordinates[part],
            values=self._values[:, part],
            there=self._there[:, part])
