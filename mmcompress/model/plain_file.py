"""What a checkpoint of a finished model holds, and no more."""
from typing import Any

import torch.nn as nn

from mmcompress.hooks.plain_checkpoint import to_plain
from mmcompress.pruning.structure import mark_pruned

# of the meta data of a training, what says how to use the model
_KEPT = ('dataset_meta', )


def plain_content(model: nn.Module, meta: dict, **more: Any) -> dict:
    """A checkpoint that loads under torch's restricted loading.

    Args:
        model (nn.Module): Its weights are written, in main memory. Those of a
            pruned model say so.
        meta (dict): Of the checkpoint that it comes from.
        **more: Further meta data.

    Returns:
        dict: With ``meta`` and ``state_dict``.
    """
    # with the versions of modules, by which mmpose's heads rename weights
    state = model.state_dict()
    for key, value in state.items():
        state[key] = value.detach().cpu()
    mark_pruned(model, state)
    kept = to_plain({k: meta[k] for k in _KEPT if k in meta}, ('meta', ), [])
    return dict(meta={**kept, **more}, state_dict=state)
