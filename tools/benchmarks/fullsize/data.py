"""Where the data of full-size configs lie, and where they come from."""
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from mmcompress.data_paths import check_data_paths
from .walk import dicts, kind, replace_strings, strings

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
PARTS = (*LOADERS, 'val_evaluator', 'test_evaluator')
# where configs look
DATA = 'data/'
_COCO = ('train2017.zip, val2017.zip and annotations_trainval2017.zip from '
         'https://cocodataset.org/#download, or `mim download mmdet '
         '--dataset coco2017`')
# by the type of the dataset
SOURCES = {
    'CocoWholeBodyDataset':
    f'the images of COCO 2017 ({_COCO}); annotations from '
    'https://github.com/jin-s13/COCO-WholeBody',
    'UBody2dDataset':
    'UBody: https://github.com/IDEA-Research/OSX',
    'CocoDataset':
    _COCO,
    'VOCDataset':
    'http://host.robots.ox.ac.uk/pascal/VOC/voc2007 and voc2012, or '
    '`mim download mmdet --dataset voc2007` (and voc2012)',
    'ImageNet':
    'ILSVRC 2012 from https://image-net.org/download (needs an account)',
    'ADE20KDataset':
    'ADEChallengeData2016.zip from '
    'https://data.csail.mit.edu/places/ADEchallenge',
    'CityscapesDataset':
    'https://www.cityscapes-dataset.com (needs an account); labels are '
    'converted by cityscapesscripts (createTrainIdLabelImgs)',
    'ModelNet40':
    'modelnet40_normal_resampled from https://modelnet.cs.princeton.edu',
}
_DETECTIONS = ('COCO_val2017_detections_AP_H_56_person.json, the detected '
               'persons, is linked in the data page of mmpose')


def move_data(cfg: Config, root: str | None) -> None:
    """Let a config look for data below another folder than ``data/``.

    Args:
        cfg (Config): Is changed.
        root (str | None): The folder that holds ``coco/``, ``VOCdevkit/`` and
            so on.
    """
    if root is None:
        return
    folder = str(Path(root).resolve())

    def moved(text: str) -> str:
        if text.startswith(DATA):
            return f'{folder}/{text.removeprefix(DATA)}'
        return text

    for part in PARTS:
        if cfg.get(part) is not None:
            cfg[part] = replace_strings(_plain(cfg[part]), moved)


def _plain(value):
    """Of mmengine's config types."""
    return Config(dict(x=value)).to_dict()['x']


def _files(cfg: Config) -> Iterator[tuple[str, str]]:
    """Files of annotations that no dataset is asked for."""
    for part in PARTS:
        for key, text in strings(_plain(cfg.get(part) or {}), part):
            name = key.rpartition('.')[2]
            if name == 'bbox_file' or (name == 'ann_file'
                                       and 'evaluator' in key):
                yield key, text


def problems(cfg: Config) -> list[str]:
    """What a config needs and is not there, and where to get it.

    Args:
        cfg (Config): The config of a run.
    """
    found = []
    try:
        check_data_paths(cfg, list(LOADERS))
    except (FileNotFoundError, ValueError) as error:
        text = str(error)
        names = [name for name in SOURCES if f'{name} expects' in text]
        found.append(text + ''.join(f' Get it: {SOURCES[n]}.' for n in names))
    # what the data check says is enough
    for key, text in [] if found else _files(cfg):
        if text and '://' not in text and not Path(text).is_file():
            hint = f' {_DETECTIONS}.' if key.endswith('bbox_file') else ''
            found.append(f'{key}: {text} does not exist.{hint}')
    steps = {kind(step) for part in LOADERS for step in dicts(
        _plain(cfg.get(part) or {}))}  # yapf: disable
    if 'Albumentation' in steps and not importlib.util.find_spec(
            'albumentations'):
        found.append('the pipeline needs albumentations: '
                     'pip install albumentations')
    return found
