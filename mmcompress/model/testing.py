"""The metrics of a model, as the test loop of its config measures them."""
import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader

from mmcompress.data_paths import check_data_paths
from mmcompress.model.loader import build_loader

_PARTS = ('test', 'val')


def _part(cfg: Config, parts: Sequence[str]) -> str:
    """Which data of a config has a metric."""
    for part in parts:
        if cfg.get(f'{part}_dataloader') and cfg.get(f'{part}_evaluator'):
            return part
    raise ValueError('the config has neither `test_dataloader` and '
                     '`test_evaluator` nor `val_dataloader` and '
                     '`val_evaluator`, so it has no metric (the tool goes '
                     'without by --no-metric)')


@dataclass(frozen=True)
class LabelledData:
    """Data that a config can measure a model on.

    Attributes:
        part (str): ``'test'`` or ``'val'``, as the config calls it.
        loader (DataLoader): Gives batches.
        evaluator (dict | list): Config of what measures.
    """
    part: str
    loader: DataLoader
    evaluator: dict | list


def labelled_data(cfg: Config, parts: Sequence[str] = _PARTS) -> LabelledData:
    """Load what a config tests on.

    Args:
        cfg (Config): Whole config.
        parts (Sequence[str]): Which of its data, the first that it has.

    Raises:
        FileNotFoundError: If there are no files where it says.
        ValueError: If the config has no metric, or several test data sets.
        RuntimeError: If the data can not be loaded.
    """
    part = _part(cfg, parts)
    loader = cfg[f'{part}_dataloader']
    if isinstance(loader, (list, tuple)):
        raise ValueError(f'{part}_dataloader is a list, of which there is no '
                         'one metric: give a config with one of them')
    check_data_paths(cfg, [f'{part}_dataloader'])
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        try:
            built = build_loader(cfg, loader)
        except Exception as error:
            raise RuntimeError(f'`{part}_dataloader` of the config can not be '
                               f'built: {error}') from error
    return LabelledData(part, built, cfg[f'{part}_evaluator'])


@torch.no_grad()
def measure(cfg: Config,
            model: nn.Module,
            progress: Callable[[Iterable], Iterable] = iter,
            data: LabelledData | None = None) -> dict[str, float]:
    """Test a model on the data of its config.

    Args:
        cfg (Config): Whole config.
        model (nn.Module): Its model; in eval mode afterwards.
        progress (Callable): Wraps the data loader.
        data (LabelledData | None): To measure on; None for what
            :func:`labelled_data` finds, whose errors it raises.

    Returns:
        dict[str, float]: The config's own metrics.
    """
    data = data or labelled_data(cfg)
    model.eval()
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        evaluator = Evaluator(copy.deepcopy(data.evaluator))
        dataset = data.loader.dataset
        evaluator.dataset_meta = getattr(dataset, 'metainfo', None)
        for batch in progress(data.loader):
            samples = model.test_step(batch)
            evaluator.process(data_samples=samples, data_batch=batch)
        return evaluator.evaluate(len(dataset))
