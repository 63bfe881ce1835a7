"""The metrics of a model, as the test loop of its config measures them."""
import copy
from collections.abc import Callable, Iterable

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope

from mmcompress.data_paths import check_data_paths
from mmcompress.model.loader import build_loader

_PARTS = ('test', 'val')


def _part(cfg: Config) -> str:
    """Which data of a config has a metric."""
    for part in _PARTS:
        if cfg.get(f'{part}_dataloader') and cfg.get(f'{part}_evaluator'):
            return part
    raise ValueError('the config has neither `test_dataloader` and '
                     '`test_evaluator` nor `val_dataloader` and '
                     '`val_evaluator`, so it has no metric (the tool goes '
                     'without by --no-metric)')


@torch.no_grad()
def measure(
        cfg: Config,
        model: nn.Module,
        progress: Callable[[Iterable], Iterable] = iter) -> dict[str, float]:
    """Test a model on the data of its config.

    Args:
        cfg (Config): Whole config.
        model (nn.Module): Its model; in eval mode afterwards.
        progress (Callable): Wraps the data loader.

    Returns:
        dict[str, float]: The config's own metrics.

    Raises:
        ValueError: If the config has no metric, or several test data sets.
        RuntimeError: If the data can not be loaded.
    """
    part = _part(cfg)
    loader = cfg[f'{part}_dataloader']
    if isinstance(loader, (list, tuple)):
        raise ValueError(f'{part}_dataloader is a list, of which there is no '
                         'one metric: give a config with one of them')
    check_data_paths(cfg, [f'{part}_dataloader'])
    model.eval()
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        try:
            loader = build_loader(cfg, loader)
        except Exception as error:
            raise RuntimeError(f'`{part}_dataloader` of the config can not be '
                               f'built: {error}') from error
        evaluator = Evaluator(copy.deepcopy(cfg[f'{part}_evaluator']))
        evaluator.dataset_meta = getattr(loader.dataset, 'metainfo', None)
        for batch in progress(loader):
            samples = model.test_step(batch)
            evaluator.process(data_samples=samples, data_batch=batch)
        return evaluator.evaluate(len(loader.dataset))
