"""From a trained checkpoint to a packed one."""
import copy
import logging
from itertools import islice
from pathlib import Path

import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from mmcompress.analysis.subject import load_weights
from mmcompress.data_paths import check_data_paths
from mmcompress.model.config import build_model
from mmcompress.model.loader import build_loader
from ..twins import fold_in_place, on_kernels, round_leftovers
from ..verify import (check_wiring, compare_layouts, compare_twins,
                      compare_with_trained, end_to_end_difference)
from ..verify.report import (differences_table, layer_table, state_bytes,
                             totals_table)
from .checkpoint import write_packed
from .config import packed_config
from .index_buffers import check_index_buffers
from .values import impossible_value

LEFTOVERS = ('float32', 'float16')


def test_batches(cfg: Config, num_batches: int) -> list:
    """The first batches that a config tests on.

    Args:
        cfg (Config): Whole config.
        num_batches (int): How many.

    Raises:
        ValueError: If it has no ``test_dataloader``.
    """
    loader = cfg.get('test_dataloader')
    if loader is None:
        raise ValueError('the config has no `test_dataloader`, on whose '
                         'images packing is verified')
    check_data_paths(cfg, ['test_dataloader'])
    loader = copy.deepcopy(loader[0] if isinstance(loader, list) else loader)
    loader.update(num_workers=0, persistent_workers=False)
    return list(islice(build_loader(cfg, loader), num_batches))


def _say(text: str, level: int = logging.INFO) -> None:
    print_log(text, logger='current', level=level)


def _one_image(model: nn.Module, batch: dict) -> dict:
    """The first image of a batch, preprocessed."""
    batch = copy.deepcopy(batch)
    return model.data_preprocessor(
        {
            key: value[:1]
            for key, value in batch.items()
        }, False)


def pack_file(config: str,
              checkpoint: str,
              out: str,
              leftovers: str = 'float32',
              num_batches: int = 2,
              options: dict | None = None) -> None:
    """Pack a checkpoint, verify, write, and log what became of it.

    Args:
        config (str): Of the trained model.
        checkpoint (str): Its weights.
        out (str): What to write, ``*.pth``; the config lies beside it.
        leftovers (str): How the weights of the float layers are stored,
            ``'float32'`` or ``'float16'``; computed with is float32.
        num_batches (int): Batches of the test data to verify with.
        options (dict | None): Keys of the config to override.

    Raises:
        ValueError: On arguments that aren't allowed, if there is nothing to
            pack, or if the checkpoint has values that can't be packed.
        VerificationError: If the packed model doesn't compute what it stands
            for; names the layer. Nothing is written.
    """
    if leftovers not in LEFTOVERS:
        raise ValueError(
            f'leftovers must be one of {", ".join(LEFTOVERS)}: {leftovers}')
    if num_batches < 1:
        raise ValueError('verifying needs at least one batch, got '
                         f'{num_batches}')
    path = Path(out)
    if path.suffix != '.pth':
        raise ValueError(f'the file to write must end with .pth: {out}')
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(options or {})
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        trained = build_model(cfg)
        built = copy.deepcopy(trained)
        meta = load_weights(trained, checkpoint).get('meta', {})
        check_index_buffers(trained, built)
        # not chained: train() of some backbones in mm libraries returns None
        trained.eval()
        folded, traces = fold_in_place(copy.deepcopy(trained))
        in_half = round_leftovers(folded) if leftovers == 'float16' else []
        packed = on_kernels(folded)
        problem = impossible_value(packed, packed.state_dict())
        if problem is not None:
            raise ValueError(f'{checkpoint} can not be packed: {problem}')
        batches = test_batches(cfg, num_batches)
        # minutes, with many large images
        _say('Verifying on the first '
             f'{sum(len(batch["inputs"]) for batch in batches)} images of the '
             'test data: layer by layer, against the trained model')
        checks = compare_with_trained(trained, traces, batches)
        check_wiring(trained, traces, batches[0])
        _say('Verifying end to end: packed model and folded twin')
        compare_layouts(folded, batches)
        compare_twins(folded, packed, batches)
        differences = end_to_end_difference(trained, folded, batches)
        table, before, left = layer_table(trained, packed, traces, checks,
                                          _one_image(trained, batches[0]),
                                          in_half)
    write_packed(packed, packed_config(cfg), meta, path, in_half)
    for text in (table, differences_table(differences),
                 totals_table(before, left, state_bytes(trained.state_dict()),
                              path.stat().st_size)):
        _say(text)
    _say(f'Verified on {len(batches)} batches: packed = folded twin, bit for '
         f'bit; integers of all {len(traces)} layers = those of the trained '
         f'model.\nWritten: {path} and {path.with_suffix(".py")}')
    if not traces:
        _say(
            f'{path} is no smaller than {checkpoint}: no layer of it has '
            'integers, for the reasons that stand in the table above',
            logging.WARNING)
