"""Configs of models: read, freed of what our builders add, and built."""
import copy
import os.path as osp
from typing import Any

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope

# our builders that train a model beside others, and where they have it
_DISTILLING = dict(Distill='student', MutualDistill='student')


def find_file(key: str,
              path: str,
              folder: str | None = None,
              hint: str = '') -> str:
    """Absolute path of a file that is named in a config.

    Args:
        key (str): What names it, for the message.
        path (str): As written there.
        folder (str | None): That of the config, where relative paths start;
            the current directory is looked into as well.
        hint (str): Ends the message.

    Raises:
        FileNotFoundError: If there is no such file; says where it looked.
    """
    tried = [
        osp.abspath(osp.join(start, osp.expanduser(path)))
        for start in dict.fromkeys([folder or '.', '.'])
    ]
    found = next(filter(osp.isfile, tried), None)
    if found is None:
        raise FileNotFoundError(
            f'{key}: no file {path!r}; looked for {" and ".join(tried)}. '
            'A relative path starts at the folder of the config; '
            "'{{ fileDirname }}/name' starts at the file it is written in"
            f'{hint}')
    return found


def read_config(config: dict | str,
                options: dict | None = None,
                folder: str | None = None,
                key: str = 'config') -> Config:
    """Read a config of an mm library or of ours.

    Args:
        config (dict | str): Model config or whole config; the path of one;
            or ``'mmdet::folder/name.py'``.
        options (dict | None): Keys to override.
        folder (str | None): Where relative paths start.
        key (str): What names it, for messages.

    Returns:
        Config: With at least the key ``model``.

    Raises:
        FileNotFoundError: If there is no such file; says where it looked.
        ValueError: If the config has no model.
    """
    if isinstance(config, dict):
        cfg = Config(config if 'model' in config else dict(model=config))
    elif '::' in config:
        cfg = get_config(config)
    else:
        cfg = Config.fromfile(find_file(key, config, folder))
    cfg.merge_from_dict(options or {})
    if 'model' not in cfg:
        named = config if isinstance(config, str) else 'the dict'
        raise ValueError(f'{key}: {named} has no key `model`')
    return cfg


def _builder(model: dict) -> str:
    """Which builder of ours a model config is for; else an empty string."""
    kind = model.get('type')
    if not isinstance(kind, str):
        # an object, as in configs that are written in pure Python
        module = str(getattr(kind, '__module__', ''))
        kind = f'{module.partition(".")[0]}.{getattr(kind, "__name__", "")}'
    # by the scope of the registry, or by the path of the import, as such
    # configs have it once they are dicts
    scope, name = kind.partition('.')[0], kind.rpartition('.')[2]
    known = (*_DISTILLING, 'Compress', 'Packed')
    return name if scope in (name, 'mmcompress') and name in known else ''


def _inside(model: dict, key: str) -> dict:
    """What a builder's config has under a key, as the builder builds it."""
    inner = dict(model[key])
    if model.get('data_preprocessor') is not None:
        inner.setdefault('data_preprocessor', model['data_preprocessor'])
    return inner


def without_distillation(model: dict) -> dict:
    """Config of the model that is trained, without what trains it.

    Of a distilled model its student remains, of two that learn from each
    other the student, wherever that stands among our builders.

    Args:
        model (dict): Config of a model.
    """
    while _builder(model) in _DISTILLING:
        model = _inside(model, _DISTILLING[_builder(model)])
    model = dict(model)
    if _builder(model) == 'Compress':
        model['model'] = without_distillation(model['model'])
    return model


def teacher_of(model: dict) -> dict | str | None:
    """Config of the model that another learns from; None without one.

    Args:
        model (dict): Config of a model, wherever a distillation stands among
            our builders.

    Returns:
        dict | str | None: As it is written, see :func:`read_config`.
    """
    while builder := _builder(model):
        if builder == 'MutualDistill':
            return model['peer']
        if model.get('teacher'):
            return model['teacher']['cfg']
        if builder == 'Packed':
            break
        model = model[_DISTILLING.get(builder, 'model')]
    return None


def inner_model(model: dict) -> tuple[dict, list[dict]]:
    """The model inside of all of our builders.

    Args:
        model (dict): Config of a model.

    Returns:
        tuple[dict, list[dict]]: Its own config, and those of the steps that
        are applied to it, the first one first.
    """
    steps: list[dict] = []
    while builder := _builder(model):
        if builder == 'Packed':
            model = dict(model)
            steps = [*(model.pop('packed_steps', None) or []), *steps]
            model.pop('packed_twin', None)
            model['type'] = model.pop('packed_type')
        elif builder == 'Compress':
            steps = [*model['steps'], *steps]
            model = _inside(model, 'model')
        else:
            model = _inside(model, _DISTILLING[builder])
    return dict(model), steps


def has_preprocessor(cfg: Config) -> bool:
    """Whether a config says how its images are preprocessed.

    Args:
        cfg (Config): See :func:`read_config`.
    """
    model, _ = inner_model(cfg.model)
    return (model.get('data_preprocessor')
            or cfg.get('data_preprocessor')) is not None


def without_pretrained(value: Any) -> Any:
    """A config that asks for no other checkpoint.

    Args:
        value (Any): A config or a part of one.
    """
    if isinstance(value, dict):
        return {
            key: without_pretrained(item)
            for key, item in value.items() if key != 'pretrained'
            and not (key == 'init_cfg' and 'Pretrained' in str(item))
        }
    if isinstance(value, (list, tuple)):
        return type(value)(map(without_pretrained, value))
    return value


def without_downloads(model: nn.Module) -> None:
    """Let ``init_weights`` give random weights."""
    for module in model.modules():
        if 'Pretrained' in str(getattr(module, 'init_cfg', None)):
            module.init_cfg = None
        # of what keeps its weights in another place than `init_cfg`
        forget = getattr(module, 'forget_pretrained', None)
        if forget is not None:
            forget()


def build_model(cfg: Config) -> nn.Module:
    """Build the model of a config, as its own library would.

    Of a model that was distilled, what remains is its student. Random numbers
    that building draws are not missed by what follows.

    Args:
        cfg (Config): See :func:`read_config`.
    """
    # some write into their config, as DETR's head does
    model = copy.deepcopy(dict(cfg.model))
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    current = DefaultScope.get_current_instance()
    scope = cfg.get('default_scope', current and current.scope_name)
    with torch.random.fork_rng(devices=[]), \
            DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(without_distillation(model))


def build_untrained(cfg: Config) -> nn.Module:
    """Build a config's model with random weights, without any download.

    Args:
        cfg (Config): See :func:`read_config`.
    """
    model = build_model(cfg)
    init_untrained(model, cfg)
    return model


def init_untrained(model: nn.Module, cfg: Config) -> None:
    """Give a config's model random weights, without any download.

    Some parameters are memory as it was until ``init_weights``, as those that
    tell DINO's levels apart.

    Args:
        model (nn.Module): The model; random numbers are drawn.
        cfg (Config): See :func:`read_config`.
    """
    without_downloads(model)
    current = DefaultScope.get_current_instance()
    scope = cfg.get('default_scope', current and current.scope_name)
    with DefaultScope.overwrite_default_scope(scope):
        model.init_weights()
