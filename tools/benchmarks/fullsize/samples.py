"""Small sets of photographs in place of full-size data, to try the path.

Whole networks, few images, one epoch: whether everything fits together. The
scores say nothing.
"""
from pathlib import Path

from mmengine.config import Config

from mmcompress.model.config import without_pretrained
from .data import LOADERS, PARTS, _plain
from .walk import dicts, kind

# below the folder of samples, by the type of the dataset
_SETS = {
    'CocoDataset':
    dict(name='COCO 128', data_root='coco128/'),
    'VOCDataset':
    dict(
        name='BCCD',
        data_root='bccd/',
        data_prefix=dict(sub_data_root='VOC2007/'),
        metainfo=dict(classes=('RBC', 'WBC', 'Platelets'))),
    'CocoWholeBodyDataset':
    dict(
        name='four images of COCO-WholeBody',
        data_root='mmpose/coco/',
        ann_file='test_coco_wholebody.json',
        data_prefix=dict(img=''),
        bbox_file=None),
}
_SIDES = (224, 160)
REMARK = ('Tries the path, not the method: {images} images of {data}, one '
          'epoch, random weights where checkpoints would be downloaded. The '
          'score says nothing.')


def _shrink_dataset(dataset: dict, root: Path, images: int) -> str:
    """Put samples into a dataset; the name of their set.

    Raises:
        ValueError: If there is no sample of its type.
    """
    while 'datasets' in dataset or 'dataset' in dataset:
        if 'datasets' in dataset:
            dataset['datasets'] = dataset['datasets'][:1]
            dataset.pop('ignore_keys', None)
            inner = dataset['datasets'][0]
        else:
            dataset['times'] = 1
            inner = dataset['dataset']
        dataset = inner
    if kind(dataset) not in _SETS:
        raise ValueError(f'there is no sample of {kind(dataset)}, only of '
                         f'{", ".join(_SETS)}')
    chosen = dict(_SETS[kind(dataset)])
    name = chosen.pop('name')
    dataset.update(
        chosen, data_root=f'{root / chosen["data_root"]}/', indices=images)
    if kind(dataset) == 'VOCDataset':
        dataset['ann_file'] = dataset['ann_file'].replace('2012', '2007')
    return name


def _shrink_pipelines(value) -> None:
    for inner in dicts(value):
        if kind(inner) == 'Resize' and 'scale' in inner:
            inner['scale'] = _SIDES
        if 'Resize' in kind(inner) and 'scales' in inner:
            inner['scales'] = [_SIDES]
        if 'pipeline' in inner and isinstance(inner['pipeline'], list):
            # an extra of mmpose
            inner['pipeline'] = [
                step for step in inner['pipeline']
                if kind(step) != 'Albumentation'
            ]


def _shrink_schedule(cfg: Config) -> None:
    loop = cfg.train_cfg
    counted = 'max_epochs' if 'max_epochs' in loop else 'max_iters'
    steps = 1 if counted == 'max_epochs' else 2
    loop.update({counted: steps, 'val_interval': steps})
    loop.pop('dynamic_intervals', None)
    cfg.param_scheduler = []
    checkpoint = dict(cfg.default_hooks.get('checkpoint', {}), interval=steps)
    checkpoint.pop('save_best', None)
    cfg.default_hooks.checkpoint = checkpoint
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    if cfg.get('custom_hooks'):
        cfg.custom_hooks = [
            hook for hook in cfg.custom_hooks if 'switch_epoch' not in hook
        ]


def _shrink_model(cfg: Config) -> None:
    model = without_pretrained(_plain(cfg.model))
    teacher = model.get('teacher')
    if teacher and '://' in str(teacher.get('checkpoint')):
        teacher.update(checkpoint=None, allow_random=True)
    for inner in dicts(model):
        # no processor has it
        if inner.get('type') == 'SyncBN':
            inner['type'] = 'BN'
        # a network that was hardly trained is sure of nothing
        for test in dicts(inner.get('test_cfg') or {}):
            if 'score_thr' in test:
                test['score_thr'] = 0.0
    cfg.model = model
    if '://' in str(cfg.get('load_from')):
        cfg.load_from = None


def shrink(cfg: Config, folder: Path, images: int) -> str:
    """Make a full-size config one of samples.

    Args:
        cfg (Config): Is changed.
        folder (Path): With ``coco128``, ``bccd`` and ``mmpose``, see
            CONTRIBUTING.md.
        images (int): How many of each set; persons of pose data.

    Returns:
        str: Of which data.

    Raises:
        ValueError: If there is no sample of its data.
    """
    name = ''
    folder = folder.resolve()
    for key in LOADERS:
        loader = _plain(cfg[key])
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.pop('prefetch_factor', None)
        name = _shrink_dataset(loader['dataset'], folder, images)
        _shrink_pipelines(loader)
        cfg[key] = loader
    for key in PARTS[len(LOADERS):]:
        for inner in dicts(evaluator := _plain(cfg[key])):
            if str(inner.get('ann_file', '')).endswith('.json'):
                inner['ann_file'] = str(_annotations(inner, folder))
        cfg[key] = evaluator
    _shrink_schedule(cfg)
    _shrink_model(cfg)
    return name


def _annotations(evaluator: dict, folder: Path) -> Path:
    if 'WholeBody' in kind(evaluator):
        return folder / 'mmpose/coco/test_coco_wholebody.json'
    return folder / 'coco128/annotations' / Path(evaluator['ann_file']).name
