"""What a config trains, in the words of a record of results."""
import logging
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger

from mmcompress.lowbit.layer import LowBitModule
from mmcompress.lowbit.operands import FLOAT
from mmcompress.model.config import (build_model, inner_model,
                                     without_distillation, without_pretrained)
from .metafiles import read_metafiles

# the tasks of records, by the library; collections may say another
TASKS = dict(
    mmdet='detection',
    mmpose='pose',
    mmpretrain='classification',
    mmseg='segmentation')
_SPECIAL = ('point clouds', 'retrieval')
# of these types a model's name is that of its backbone
_PLAIN = ('ImageClassifier', 'TopdownPoseEstimator', 'PointCloudClassifier')


@dataclass(frozen=True)
class Network:
    """A network and what was done to it.

    Args:
        task (str): As in records.
        model (str): Its name.
        methods (list[str]): As in the metafiles; none of a plain network.
        bits (str): Of most weights and of what they are multiplied with.
        parameters (int): How many numbers are its weights.
    """
    task: str
    model: str
    methods: list[str]
    bits: str
    parameters: int


@cache
def _metafiles(root: Path) -> dict[str, tuple[str, dict]]:
    """Collection and all collections' metadata, by base name of a config."""
    found = {}
    for _, content in read_metafiles(root):
        metadata = content['Collections'][0]['Metadata']
        for model in content['Models']:
            found[model['Name']] = model['In Collection'], metadata
    return found


@cache
def _names(root: Path) -> dict[str, str]:
    """Collections by what names of configs begin with, the longest first."""
    names = {}
    for file, content in read_metafiles(root):
        names[file.parent.name] = content['Collections'][0]['Name']
    return dict(sorted(names.items(), key=lambda pair: -len(pair[0])))


def methods_of(stem: str, root: Path) -> list[str]:
    """Methods of a config of the repository: its own, then what it is on.

    Args:
        stem (str): Base name of the config.
        root (Path): The checkout.
    """
    entry = _metafiles(root).get(stem.lower())
    methods = [entry[0]] if entry else []
    rest = stem.lower()
    for prefix, name in _names(root).items():
        rest, count = re.subn(rf'(?:^|(?<=_)){prefix}(?=_)', '', rest)
        # NKD is part of the name of tf-NKD
        if count and not any(name in method for method in methods):
            methods.append(name)
    return methods


def is_plain(stem: str) -> bool:
    """Whether a base name is that of what methods start from."""
    return bool({'teacher', 'student', 'float'} & set(re.split('[_.]', stem)))


def task_of(cfg: Config, stem: str, root: Path) -> str:
    """A config's task, as in records."""
    entry = _metafiles(root).get(stem.lower())
    first = entry[1]['Summary']['Tasks'][0] if entry else ''
    if first in _SPECIAL:
        return first
    return TASKS.get(cfg.get('default_scope'), '')


def model_name(model: dict) -> str:
    """Type, backbone and its depth, as ``'RetinaNet, ResNet-18'``.

    Args:
        model (dict): Config of a model, of our builders as well.
    """
    inner, _ = inner_model(dict(model))
    kind = str(inner['type']).split('.')[-1]
    backbone = inner.get('backbone') or inner.get('detector',
                                                  {}).get('backbone') or {}
    name = str(backbone.get('type', '')).split('.')[-1]
    size = backbone.get('depth', backbone.get('arch', ''))
    if isinstance(size, (int, str)) and size:
        name += f'-{size}'
    if not name:
        return kind
    return name if kind in _PLAIN else f'{kind}, {name}'


def bits_of(model) -> str:
    """Bits of most weights, and of what they are multiplied with.

    Args:
        model (nn.Module): Any network.

    Returns:
        str: As ``'w4a8'``; ``'float'`` without a low-bit layer.
    """
    counts = Counter()
    for layer in model.modules():
        if isinstance(layer, LowBitModule):
            operands = layer.operand_bits()
            if operands.weight is not None:
                size = getattr(layer, 'weight', None)
                counts[operands.factors] += 1 if size is None else size.numel()
    if not counts:
        return 'float'
    weight, activation = counts.most_common(1)[0][0]
    return f'w{weight}' + ('' if activation == FLOAT else f'a{activation}')


def network_of(path: Path, root: Path, options: dict | None = None) -> Network:
    """Read and build what a config trains, without what teaches it.

    Args:
        path (Path): Of the config.
        root (Path): The checkout.
        options (dict | None): Keys to override.
    """
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options or {})
    own = without_distillation(cfg.model.to_dict())
    small = cfg.copy()
    small.model = without_pretrained(own)
    logger = MMLogger.get_current_instance()
    level = logger.level
    # what is quantized or merged, layer by layer
    logger.setLevel(logging.ERROR)
    try:
        model = build_model(small)
    finally:
        logger.setLevel(level)
    bits = bits_of(model)
    plain = bits == 'float' and ('mmcompress.' not in str(cfg.model)
                                 or is_plain(path.stem))
    return Network(
        task=task_of(cfg, path.stem, root),
        model=model_name(own),
        methods=[] if plain else methods_of(path.stem, root),
        bits=bits,
        parameters=sum(p.numel() for p in model.parameters()))
