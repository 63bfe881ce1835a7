"""Test clouds with noise, or with fewer points."""
import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor


@dataclass(frozen=True)
class Corruption:
    """What happens to the clouds of a config's ``test_dataloader``.

    Args:
        noise (float): Standard deviation of normal noise on each coordinate,
            added to the normalised cloud: in units of its radius.
        dropped (float): Share of the points that is missing from the start:
            those left are normalised by themselves. In [0, 1).

    Raises:
        ValueError: If ``noise`` is negative or infinite, or ``dropped`` is
            not in [0, 1).
    """
    noise: float = 0.0
    dropped: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.noise < float('inf') or not 0 <= self.dropped < 1:
            raise ValueError('noise must be finite and not negative, dropped '
                             f'in [0, 1), got {self.noise} and {self.dropped}')

    def pipeline(self, pipeline: list[dict]) -> list[dict]:
        """A pipeline of point clouds with this corruption in it.

        Args:
            pipeline (list[dict]): With ``LoadPoints`` and
                ``NormalizePoints``; not changed.

        Raises:
            ValueError: If one of them is missing.
        """
        pipeline = copy.deepcopy(list(pipeline))
        names = [t['type'].rpartition('.')[2] for t in pipeline]
        for name in ('LoadPoints', 'NormalizePoints'):
            if name not in names:
                raise ValueError(f'the pipeline has no {name}, but {names}')
        # points stand in random order: the first ones are a random share
        load = pipeline[names.index('LoadPoints')]
        left = round((1 - self.dropped) * load['num_points'])
        load['num_points'] = max(1, left)
        if self.noise:
            pipeline.insert(
                names.index('NormalizePoints') + 1,
                dict(
                    type='mmcompress.JitterPoints',
                    sigma=self.noise,
                    clip=float('inf')))
        return pipeline


def corrupted_clouds(cfg: Config,
                     corruption: Corruption,
                     seed: int = 0) -> tuple[Tensor, Tensor]:
    """Read all test clouds of a config with a corruption.

    Args:
        cfg (Config): Whole config.
        corruption (Corruption): What happens to them.
        seed (int): Of the noise: all networks get the same.

    Returns:
        tuple[Tensor, Tensor]: Points, float32 (B, 3, N), and labels (B).
    """
    dataset = copy.deepcopy(cfg.test_dataloader.dataset)
    dataset['pipeline'] = corruption.pipeline(dataset['pipeline'])
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            samples = list(DATASETS.build(dataset))
    finally:
        np.random.set_state(before)
    labels = [sample['data_samples'].gt_label for sample in samples]
    return torch.stack([s['inputs'] for s in samples]), torch.cat(labels)


@torch.no_grad()
def accuracy(model: nn.Module,
             clouds: Tensor,
             labels: Tensor,
             batch_size: int = 250) -> float:
    """Share of clouds that a classifier gets right, in percent.

    Args:
        model (nn.Module): Of mmpretrain.
        clouds (Tensor): Shape (B, 3, N).
        labels (Tensor): Shape (B).
        batch_size (int): Clouds at a time.
    """
    model.eval()
    scores = torch.cat([
        model(inputs=part, mode='tensor') for part in clouds.split(batch_size)
    ])
    return 100 * (scores.argmax(1) == labels).double().mean().item()
