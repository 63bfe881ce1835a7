"""Go on with data where a training by iterations left off."""
import functools
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler, worker_init_fn
from mmengine.dist import get_rank
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader, Dataset


def seed_all(*numbers: int) -> None:
    """Seed python's, numpy's and torch's generators from some numbers."""
    words = np.random.SeedSequence(numbers)
    seeds = words.generate_state(3).tolist()
    random.seed(seeds[0])
    np.random.seed(seeds[1])
    torch.manual_seed(seeds[2])


def sampler_of(loader: DataLoader) -> Any:
    """The sampler that decides the order, also below a batch sampler."""
    if hasattr(loader.sampler, 'seed'):
        return loader.sampler
    return getattr(loader.batch_sampler, 'sampler', loader.batch_sampler)


class _SeededDataset(Dataset):
    """Draws for each sample from seeds that depend on where it is wanted."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int, int]) -> Any:
        iteration, position, index = key
        seed_all(self.seed, iteration, get_rank(), position)
        return self.dataset[index]


class _NumberedBatches:
    """The batches of an endless training, from some iteration on.

    Yields lists of (iteration, position in the batch, index).
    """

    def __init__(self, batches: BatchSampler, start: int) -> None:
        self.batches, self.start = batches, start

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        numbered = enumerate(self._all())
        for number, batch in itertools.islice(numbered, self.start, None):
            yield [(number, i, index) for i, index in enumerate(batch)]

    def _all(self) -> Iterator[list[int]]:
        for epoch in itertools.count():
            self.batches.sampler.set_epoch(epoch)
            yield from self.batches
