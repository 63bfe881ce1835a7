"""Build a packed model from a config, ready to load its checkpoint."""
import torch.nn as nn

from mmcompress.builder import build_inner
from mmcompress.registry import MODELS, STEPS
from .twins import fold_in_place, set_twin


@MODELS.register_module()
def Packed(packed_type: str,
           packed_steps: list[dict] | None = None,
           packed_twin: str = 'packed',
           **model) -> nn.Module:
    """Build a model whose 1-bit layers are packed.

    ``tools/deploy/pack.py`` writes such configs. The result is the model that
    the other keys describe, of its own class; packed layers stand where the
    1-bit ones were, and wait for the packed checkpoint.

    Args:
        packed_type (str): Type of the model.
        packed_steps (list[dict] | None): Steps of ``mmcompress.Compress``
            that put the 1-bit layers in.
        packed_twin (str): ``'packed'``, or ``'folded'`` to run the same
            weights in plain PyTorch.
        **model: The other keys of the model.

    Returns:
        nn.Module: In eval mode, without gradients.
    """
    built = build_inner('Packed', dict(type=packed_type, **model), None, {})
    for step in packed_steps or []:
        STEPS.build(step)(built)
    folded, _ = fold_in_place(built)
    return set_twin(folded, packed_twin)
