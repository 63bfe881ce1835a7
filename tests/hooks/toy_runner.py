"""A Runner small enough to train a few steps in a moment."""
import logging
import random

import numpy as np
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset


class ToyDataset(Dataset):
    """Eight numbers, augmented with every random generator there is."""

    metainfo = dict(sigmas=np.array([0.5, 0.25]), classes=('a', 'b'))

    def __len__(self):
        return 8

    def __getitem__(self, index):
        noise = np.random.rand() + random.random() + torch.rand(1).item()
        return dict(inputs=torch.full((3, ), index + noise))


class ToyModel(BaseModel):
    """A linear layer and a norm layer; its loss draws random numbers too."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, inputs, mode='tensor'):
        inputs = torch.stack(inputs) if isinstance(inputs, list) else inputs
        out = self.linear(inputs + torch.rand_like(inputs))
        out = out + 0.1 * self.norm(out)
        if mode != 'loss':
            return list(out)
        return dict(loss_toy=(out - 1).square().mean())


class ToyMetric(BaseMetric):
    """Grows with every validation."""

    calls = 0

    def process(self, data_batch, data_samples):
        self.results.append(random.random())

    def compute_metrics(self, results):
        self.calls += 1
        return dict(toy=np.float64(self.calls))


class LossLog(Hook):
    """Remembers the losses, and stops where it is told to."""

    def __init__(self, stop_at=None):
        self.losses, self.stop_at = [], stop_at

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.losses.append(outputs['loss'].item())
        if runner.iter + 1 == self.stop_at:
            raise KeyboardInterrupt

    def train(self, runner):
        """Losses of a run that has this hook, up to where it is stopped."""
        try:
            runner.train()
        except KeyboardInterrupt:
            assert self.stop_at
        return self.losses


def toy_runner(work_dir, loop='epoch', hooks=(), val=True, **kwargs):
    """Build a Runner: 4 epochs of 4 iterations, or 16 iterations.

    Every epoch, or every 4 iterations, writes a checkpoint.
    """
    by_epoch = loop == 'epoch'
    cfg = dict(
        model=dict(type=ToyModel),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=ToyDataset(),
            batch_size=2,
            num_workers=0,
            sampler=dict(
                type='DefaultSampler' if by_epoch else 'InfiniteSampler',
                shuffle=True),
            collate_fn=dict(type='default_collate')),
        train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=1)
        if by_epoch else dict(by_epoch=False, max_iters=16, val_interval=4),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
        param_scheduler=dict(
            type='LinearLR', start_factor=0.1, by_epoch=False, end=10),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(
                type='CheckpointHook',
                interval=1 if by_epoch else 4,
                by_epoch=by_epoch)),
        custom_hooks=list(hooks),
        default_scope='mmengine',
        log_level='ERROR',
        randomness=dict(seed=0),
        experiment_name=f'toy{random.SystemRandom().random()}')
    if val:
        cfg.update(
            val_dataloader=dict(
                dataset=ToyDataset(),
                batch_size=2,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False)),
            val_cfg=dict(),
            val_evaluator=Evaluator(ToyMetric(prefix='toy')))
    cfg.update(kwargs)
    logging.getLogger('mmengine').setLevel(logging.ERROR)
    return Runner(**cfg)
