import random

import numpy as np
import pytest
import torch
from hooks.toy_runner import LossLog, ToyDataset, toy_runner
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import BatchSampler, IterableDataset, RandomSampler

import mmcompress.compat  # noqa: F401
from mmcompress.hooks import ExactResumeHook, PlainCheckpointHook
from mmcompress.hooks.skip_data import _SeededDataset


class CountingDataset(ToyDataset):
    """Counts what is loaded, in all workers together."""

    def __init__(self, length, log):
        self.length, self.log = length, log

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        with self.log.open('a') as log:
            log.write('.')
        return super().__getitem__(index)


class UnknownBatches(BatchSampler):
    """A batch sampler that keeps something of its own."""

    def __init__(self, sampler, batch_size):
        super().__init__(sampler, batch_size, drop_last=True)


def train(folder,
          workers=0,
          sampler='InfiniteSampler',
          length=8,
          stop_at=None,
          loop=IterBasedTrainLoop,
          batch_sampler=None,
          loader=None,
          **kwargs):
    """Losses, images that were loaded, and warnings of a run."""
    loaded = folder / 'loaded.txt'
    folder.mkdir(exist_ok=True)
    loaded.write_text('')
    dataset = CountingDataset(length, loaded)
    log, said = LossLog(stop_at), []
    loader = dict(
        loader or {},
        dataset=dataset,
        batch_size=3,
        num_workers=workers,
        sampler=dict(type=sampler, shuffle=True),
        collate_fn=dict(type='default_collate'))
    if batch_sampler is not None:
        loader['batch_sampler'] = dict(type=batch_sampler)
    if sampler is None:
        loader['sampler'] = RandomSampler(
            dataset, generator=torch.Generator().manual_seed(1))
    runner = toy_runner(
        folder,
        'iter', [log, PlainCheckpointHook(),
                 ExactResumeHook()],
        val=False,
        train_dataloader=loader,
        train_cfg=dict(type=loop, max_iters=16),
        **kwargs)
    runner.logger.warning = said.append
    log.train(runner)
    # ends the workers
    runner.train_loop.dataloader_iterator = None
    return log.losses, loaded.stat().st_size, ' '.join(said)


def resumed(folder, **kwargs):
    """The same of a run that is killed, and resumed at iteration 8 of 16."""
    head = train(folder, stop_at=10, **kwargs)[0][:8]
    random.seed(), np.random.seed(), torch.seed()
    tail, loaded, said = train(folder, resume=True, **kwargs)
    assert len(tail) == 8
    return head + tail, loaded, said


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch):
    """mmengine sleeps at the end of the data."""
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda _: None)


# the data ends with a whole batch, with a part of one, or after the run
@pytest.mark.parametrize('length', [9, 8, 50])
@pytest.mark.parametrize('sampler', ['InfiniteSampler', 'DefaultSampler'])
def test_earlier_data_is_not_loaded_again(tmp_path, sampler, length):
    kwargs = dict(sampler=sampler, length=length)
    expected, *_ = train(tmp_path / 'a', **kwargs)
    actual, again, _ = resumed(tmp_path / 'b', **kwargs)
    assert actual == pytest.approx(expected, abs=1e-6)
    sizes = [3] * 16
    if (sampler, length) == ('DefaultSampler', 8):
        sizes[2::3] = [2] * 5
    assert again == sum(sizes[8:])


@pytest.mark.parametrize('kwargs', [
    dict(),
    *(pytest.param(kwargs, marks=[pytest.mark.slow, pytest.mark.gate])
      for kwargs in (dict(sampler='DefaultSampler'),
                     dict(loader=dict(persistent_workers=True)),
                     dict(randomness=dict(seed=None)))),
])
def test_nor_by_workers(tmp_path, kwargs):
    """Apart from what they load ahead, and what their loop began with."""
    kwargs = dict(kwargs, workers=2)
    actual, again, said = resumed(tmp_path / 'b', **kwargs)
    if 'randomness' not in kwargs:
        expected, loaded, _ = train(tmp_path / 'a', **kwargs)
        assert actual == pytest.approx(expected, abs=1e-6)
    # two workers with two batches each, of the loop and of the hook
    assert again <= 3 * (8 + 2 * 4 + 2)
    assert 'begun' not in said


def test_a_run_without_a_seed_resumes_with_workers(tmp_path):
    kwargs = dict(workers=1, randomness=dict(seed=None))
    expected, *_ = train(tmp_path, **kwargs)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_8.pth'))
    actual, *_ = train(tmp_path, resume=True, **kwargs)
    assert actual == pytest.approx(expected[8:], abs=1e-6)


def test_the_number_of_workers_may_change(tmp_path):
    """Each sample has a seed of its own."""
    expected, *_ = train(tmp_path / 'a', workers=1)
    head = train(tmp_path / 'b', workers=1, stop_at=10)[0][:8]
    tail, *_ = train(tmp_path / 'b', workers=2, resume=True)
    assert head + tail == pytest.approx(expected, abs=1e-6)


def test_a_sample_draws_by_where_it_stands_in_the_training():
    drawn = [
        float(
            _SeededDataset(ToyDataset(), seed, rank)[place, position,
                                                     0]['inputs'][0])
        for seed in (1, 2) for rank in (0, 1) for place in (0, 1)
        for position in (0, 1)
    ]
    assert len(set(drawn)) == 16
    again = _SeededDataset(ToyDataset(), 1, 0)[0, 0, 0]['inputs'][0]
    assert float(again) == drawn[0]


def test_workers_draw_differently_for_every_sample(tmp_path):
    losses = train(
        tmp_path,
        workers=2,
        length=1,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)))[0]
    assert len(set(losses)) == 16


@pytest.mark.parametrize('kwargs', [
    dict(sampler=None),
    dict(batch_sampler=UnknownBatches),
])
def test_other_samplers_are_advanced_too(tmp_path, kwargs):
    expected, loaded, _ = train(tmp_path / 'a', **kwargs)
    actual, again, _ = resumed(tmp_path / 'b', **kwargs)
    assert actual == pytest.approx(expected, abs=1e-6)
    assert again <= 24 < loaded


def test_workers_with_other_samplers_load_again_and_say_so(tmp_path):
    kwargs = dict(workers=1, batch_sampler=UnknownBatches)
    expected, *_ = train(tmp_path / 'a', **kwargs)
    actual, again, said = resumed(tmp_path / 'b', **kwargs)
    assert actual == pytest.approx(expected, abs=1e-6)
    assert again >= 3 * 16
    assert 'The data of 8 iterations is loaded once more' in said


class SkippingLoop(IterBasedTrainLoop):
    """As onedl-mmengine's, from 0.10.12 on."""

    fast_forward_on_resume = False

    def run(self):
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        if self._iter > 0 and not self.fast_forward_on_resume:
            self.dataloader_iterator.skip_iter(self._iter)
        while self._iter < self._max_iters:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')


class LoopThatDoesNotSkip(SkippingLoop):
    fast_forward_on_resume = True


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('loop', [SkippingLoop, LoopThatDoesNotSkip])
def test_loops_that_skip_by_themselves(tmp_path, loop, workers):
    kwargs = dict(loop=loop, workers=workers)
    expected, loaded, _ = train(tmp_path / 'a', **kwargs)
    actual, again, _ = resumed(tmp_path / 'b', **kwargs)
    assert actual == pytest.approx(expected, abs=1e-6)
    assert workers or again == 3 * 8


class Stream(IterableDataset):
    """Of which only its reader knows where it is."""

    metainfo = dict(classes=('a', ))

    def __len__(self):
        return 10**6

    def __iter__(self):
        for i in range(10**6):
            yield dict(inputs=torch.full((3, ), float(i % 8)))


def test_a_stream_is_read_again(tmp_path):

    def run(folder, stop_at=None, **options):
        log, said = LossLog(stop_at), []
        runner = toy_runner(
            folder,
            'iter', [log, PlainCheckpointHook(),
                     ExactResumeHook()],
            val=False,
            train_dataloader=torch.utils.data.DataLoader(
                Stream(), batch_size=2),
            **options)
        runner.logger.warning = said.append
        return log.train(runner), ' '.join(said)

    expected, _ = run(tmp_path / 'a')
    head, _ = run(tmp_path / 'b', stop_at=10)
    tail, said = run(tmp_path / 'b', resume=True)
    assert head[:8] + tail == pytest.approx(expected, abs=1e-6)
    assert 'loaded once more' in said
