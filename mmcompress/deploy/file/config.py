"""The config of a packed model."""
import inspect

from mmengine.config import Config
from mmengine.runner import Runner

from mmcompress.model.config import inner_model, without_pretrained

# what else mm's inferencers read
_FOR_INFERENCE = ('custom_imports', 'vis_backends', 'test_pipeline',
                  'tta_model', 'tta_pipeline')
_FOR_TRAINING = ('train_dataloader', 'train_cfg', 'optim_wrapper',
                 'param_scheduler', 'auto_scale_lr', 'load_from', 'resume',
                 'work_dir')
_COMPAT = 'mmcompress.compat'


def _is_for_training(hook: dict | None) -> bool:
    # None, where a config takes one of mmengine's away
    return hook is not None and str(hook.get('type')).startswith('mmcompress.')


def packed_config(cfg: Config) -> Config:
    """Config of the packed model, for testing and inference.

    What only training needs is left out: the teacher, the optimizer, the
    training data, our hooks, checkpoints to start from.

    Args:
        cfg (Config): That of the trained model.

    Returns:
        Config: Complete, without a base.
    """
    model, steps = inner_model(cfg.model.to_dict())
    model = without_pretrained(model)
    packed = dict(type='mmcompress.Packed', packed_type=model.pop('type'))
    if steps:
        packed['packed_steps'] = steps
    return inference_config(cfg, {**packed, **model})


def inference_config(cfg: Config, model: dict) -> Config:
    """A config without what only training needs.

    Args:
        cfg (Config): Whole config.
        model (dict): That of the model, to take the place of its own.

    Returns:
        Config: Complete, without a base.
    """
    known = {*inspect.signature(Runner.__init__).parameters, *_FOR_INFERENCE}
    content = {
        key: value
        for key, value in cfg.to_dict().items()
        if key in known and key not in _FOR_TRAINING
    }
    content['model'] = model
    for key in ('custom_hooks', 'default_hooks'):
        content[key] = _inference_hooks(content.get(key))
    imports = dict(content.get('custom_imports') or dict(imports=[]))
    if _COMPAT not in imports['imports']:
        imports['imports'] = [*imports['imports'], _COMPAT]
    content['custom_imports'] = imports
    return Config({key: v for key, v in content.items() if v is not None})


def _inference_hooks(hooks: dict | list | None) -> dict | list | None:
    if isinstance(hooks, dict):
        return {k: h for k, h in hooks.items() if not _is_for_training(h)}
    if isinstance(hooks, list):
        return [h for h in hooks if not _is_for_training(h)]
    return hooks
