"""Change layers of any mm model, by steps that a config lists."""
import torch.nn as nn
from mmengine.registry import MODELS as MMENGINE_MODELS

from mmcompress.lowbit import (LowBitLayer, ReplaceConvs, ReplaceLayers,
                               refuse_packed)
from mmcompress.lowbit.share import announce_share
from mmcompress.registry import MODELS, STEPS
from mmcompress.selection import match_modules, selects

__all__ = [
    'Compress', 'ReplaceConvs', 'ReplaceLayers', 'build_inner',
    'match_modules', 'selects'
]


def build_inner(builder: str, cfg: dict, data_preprocessor: dict | None,
                unexpected: dict) -> nn.Module:
    """Build the model that one of our builders is about.

    Args:
        builder (str): Name of the builder, for messages.
        cfg (dict): Config of any mm model.
        data_preprocessor (dict | None): The model's, where the config has it
            outside of ``model``.
        unexpected (dict): Arguments that the builder doesn't know.

    Raises:
        TypeError: If there are unexpected arguments.
    """
    if unexpected:
        raise TypeError(
            f'mmcompress.{builder} got the keys {", ".join(unexpected)}, which'
            ' belong to the model of a base config: write '
            f"`model = dict(_delete_=True, type='mmcompress.{builder}', ...)`")
    if data_preprocessor is not None:
        cfg = {'data_preprocessor': data_preprocessor, **cfg}
    return MMENGINE_MODELS.build(cfg)


def _refuse_packed(model: nn.Module, state_dict: dict, prefix: str,
                   *args) -> None:
    # a packed twin of the model has the hook, too
    if any(isinstance(module, LowBitLayer) for module in model.modules()):
        refuse_packed(state_dict, prefix)


@MODELS.register_module()
def Compress(model: dict,
             steps: list[dict],
             data_preprocessor: dict | None = None,
             **unexpected) -> nn.Module:
    """Build a model and change its layers.

    The result is the model itself; its class and its parameter names stay.

    Args:
        model (dict): Config of any mm model.
        steps (list[dict]): Configs of steps, applied in this order.
        data_preprocessor (dict | None): The model's, where the config has it
            outside of ``model``.

    Returns:
        nn.Module: The changed model.

    Raises:
        TypeError: If keys of a base config were not deleted.
    """
    built = build_inner('Compress', model, data_preprocessor, unexpected)
    for step in steps:
        STEPS.build(step)(built)
    announce_share(built)
    built.register_load_state_dict_pre_hook(_refuse_packed)
    return built
