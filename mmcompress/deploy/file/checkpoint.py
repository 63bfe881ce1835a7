"""Write a packed model: its checkpoint, and the config beside it."""
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config

from mmcompress.atomic import replacing
from mmcompress.version import __version__


def write_packed(packed: nn.Module, cfg: Config, meta: dict, out: Path,
                 in_half: list[str]) -> None:
    """Write checkpoint and config; each is complete or not there.

    Args:
        packed (nn.Module): The packed model.
        cfg (Config): Its config, see :mod:`.config`.
        meta (dict): Of the trained checkpoint.
        out (Path): The checkpoint, ``*.pth``. The config lies beside it, with
            the same name and the suffix ``.py``.
        in_half (list[str]): What is stored in half precision.
    """
    # with the versions of modules, by which mmpose's heads rename weights
    state = packed.state_dict()
    for name, tensor in state.items():
        state[name] = tensor.detach().cpu().contiguous()
    for name in in_half:
        state[name] = state[name].half()
    kept = {key: meta[key] for key in ('dataset_meta', ) if key in meta}
    checkpoint = dict(
        meta=dict(kept, mmcompress_version=__version__), state_dict=state)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as weights, \
            replacing(out.with_suffix('.py')) as config:
        torch.save(checkpoint, weights)
        cfg.dump(str(config))
