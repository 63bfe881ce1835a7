"""Go on with the data where a training by iterations left off.

mmengine loads all earlier batches once more and throws them away.
"""
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_rank
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset


def seed_all(*numbers: int) -> None:
    """Seed the generators of python, numpy and torch from some numbers."""
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
    """Draws for each sample from a seed of its own.

    The generators of workers can't be stored; their seeds follow from where
    the sample stands in the training.
    """

    def __init__(self, dataset: Dataset, seed: int, rank: int) -> None:
        self.dataset, self.seed, self.rank = dataset, seed, rank

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int, int]) -> Any:
        iteration, position, index = key
        seed_all(self.seed, self.rank, iteration, position)
        return self.dataset[index]


class _NumberedBatches:
    """The batches of an endless training, from an iteration on.

    They are lists of (iteration, position in the batch, index).
    """

    def __init__(self, batches: BatchSampler, start: int) -> None:
        self.batches, self.start = batches, start

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        numbered = enumerate(self._from_the_beginning())
        for number, batch in itertools.islice(numbered, self.start, None):
            yield [(number, i, index) for i, index in enumerate(batch)]

    def _from_the_beginning(self) -> Iterator[list[int]]:
        sampler = self.batches.sampler
        if isinstance(sampler, InfiniteSampler):
            # its stream, from which the loop's workers have taken already
            sampler.indices = sampler._indices_of_rank()
        for epoch in itertools.count():
            sampler.set_epoch(epoch)
            yield from self.batches


def can_seed_samples(loader: DataLoader) -> bool:
    """Whether a loader has workers, and an order that can be computed."""
    return (loader.num_workers > 0
            and type(loader.batch_sampler) is BatchSampler
            and type(loader.batch_sampler.sampler)
            in (DefaultSampler, InfiniteSampler))


def has_begun(runner: Runner) -> bool:
    """Whether workers load batches that nobody can call back."""
    loader = runner.train_dataloader
    return (loader.num_workers > 0 and not can_seed_samples(loader)
            and hasattr(runner.train_loop, 'dataloader_iterator'))


def _seeded_batches(runner: Runner, start: int) -> Iterator[Any]:
    """Batches of workers, from an iteration on."""
    loader = runner.train_dataloader
    # end the workers of the loop, which have begun with the first batches
    runner.train_loop.dataloader_iterator = loader._iterator = None
    return iter(
        DataLoader(
            _SeededDataset(loader.dataset, runner.seed, get_rank()),
            batch_sampler=_NumberedBatches(loader.batch_sampler, start),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            generator=loader.generator,
            prefetch_factor=loader.prefetch_factor))


def _set_epoch(loader: DataLoader, epoch: int) -> None:
    for sampler in (loader.sampler, sampler_of(loader)):
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)
            break


def _advance(iterator: Iterator[Any], runner: Runner, steps: int) -> None:
    """Take a loop's iterator over some batches, by their indices alone."""
    loader = runner.train_dataloader
    if (loader.num_workers or isinstance(loader.dataset, IterableDataset)
            or not hasattr(iterator, '_iterator')):
        runner.logger.warning(
            f'The data of {steps} iterations is loaded once more, to find '
            'out where the run left off: '
            f'{type(sampler_of(loader)).__name__} cannot tell.')
        for _ in range(steps):
            next(iterator)
        return
    epoch, batches = 0, iter(loader)
    for _ in range(steps):
        try:
            batches._next_index()
        except StopIteration:
            # as mmengine's iterator goes on
            epoch += 1
            _set_epoch(loader, epoch)
            batches = iter(loader)
            batches._next_index()
    iterator._iterator, iterator._epoch = batches, epoch


class _Resumed:
    """An iterator of the batches from somewhere on.

    The loop doesn't know it, and takes the earlier ones as well: it gets
    nothing. What has to be done is done before the first batch that counts.
    """

    def __init__(self, batches: Iterator[Any], skip: int,
                 begin: Callable[[], None]) -> None:
        self.batches, self.skip, self.begin = batches, skip, begin
        self.has_begun = False

    def __next__(self) -> Any:
        if self.skip:
            self.skip -= 1
            return None
        if not self.has_begun:
            self.begin()
            self.has_begun = True
        return next(self.batches)

    def skip_iter(self, num_iters: int) -> None:
        """What newer loops call, instead of taking so many batches."""
        self.skip -= num_iters


def go_on_with_data(runner: Runner, restore: Callable[[], None]) -> None:
    """Have a loop over iterations take the batches that it wants next.

    With workers, each sample draws from a seed of its own, in every run, so
    that a resumed one can draw the same.

    Args:
        runner (Runner): Before the loop takes its first batch.
        restore (Callable): Called before the first batch of a resumed run is
            loaded: earlier ones may draw random numbers, as may hooks.
    """
    loop, steps = runner.train_loop, runner.train_loop.iter
    is_seeded = can_seed_samples(runner.train_dataloader)
    if is_seeded:
        loop.dataloader_iterator = _seeded_batches(runner, steps)
    if steps == 0:
        return
    batches = loop.dataloader_iterator

    def begin() -> None:
        if not is_seeded:
            _advance(batches, runner, steps)
        restore()

    # a loop may be told not to skip
    skips = not getattr(loop, 'fast_forward_on_resume', False)
    loop.dataloader_iterator = _Resumed(batches, steps if skips else 0, begin)
