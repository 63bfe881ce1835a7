"""Say what to put where, before mm code fails on a dataset."""
import os.path as osp
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.fileio import list_from_file

from .annotations import (check_classes, check_coco_names, check_found,
                          check_images, check_json, xml_names)

# what lies below data_root, by type of the dataset
LAYOUTS = {
    'VOCDataset':
    'VOC2007/{Annotations/*.xml, ImageSets/Main/*.txt, '
    'JPEGImages/*.jpg}, and VOC2012 likewise',
    'CocoDataset':
    'annotations/*.json, and the images in train2017/ and '
    'val2017/',
    'ImageNet':
    'train/<class>/*.JPEG and val/<class>/*.JPEG',
    'CityscapesDataset':
    'leftImg8bit/{train,val}/ and gtFine/{train,val}/',
    'ADE20KDataset':
    'images/{training,validation}/ and '
    'annotations/{training,validation}/',
    'ModelNet40':
    'modelnet40_{train,test}.txt and <class>/<class>_*.txt '
    '(modelnet40_normal_resampled)',
    'CocoWholeBodyDataset':
    'annotations/coco_wholebody_*.json, and the '
    'images in train2017/ and val2017/',
}


def _datasets(cfg: dict, key: str) -> Iterator[tuple[str, dict]]:
    """The innermost dataset configs below a key, with their own keys."""
    # rendered into the cache folder when it is built
    if str(cfg.get('type')).endswith('Rendered'):
        return
    if 'dataset' in cfg:
        yield from _datasets(cfg['dataset'], f'{key}.dataset')
    elif 'datasets' in cfg:
        for i, inner in enumerate(cfg['datasets']):
            yield from _datasets(inner, f'{key}.datasets.{i}')
    elif str(cfg.get('type')).split('.')[-1] in LAYOUTS:
        yield key, cfg


def _check_detection(key: str, dataset: dict, path: str) -> None:
    """Check what mmdet reads, and that annotations fit the classes.

    mmdet says of a file that it cannot read neither the name nor the reason.
    """
    kind = str(dataset['type']).split('.')[-1]
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix') or {}
    classes = (dataset.get('metainfo') or {}).get('classes')
    check_classes(key, classes)
    if isinstance(classes, str):
        classes = list_from_file(classes)
    if kind == 'CocoDataset':
        if 'img' not in prefix:
            raise ValueError(
                f"{key}.data_prefix has no 'img', the folder of the images "
                f"below data_root: write data_prefix=dict(img='FOLDER/'), it "
                f'is {prefix}')
        folder = osp.join(root, prefix['img'])
        check_images(osp.join(folder, name) for name in check_json(path))
        if classes:
            check_coco_names(key, classes, path)
    elif kind == 'VOCDataset':
        folder = osp.join(root, prefix.get('sub_data_root', ''))
        xmls = osp.join(folder, dataset.get('ann_subdir', 'Annotations'))
        images = osp.join(folder, dataset.get('img_subdir', 'JPEGImages'))
        names = list_from_file(path)
        found = xml_names(osp.join(xmls, f'{name}.xml') for name in names)
        check_images(osp.join(images, f'{name}.jpg') for name in names)
        if classes:
            check_found(key, classes, found, xmls)


def check_data_paths(cfg: Config, dataloaders: list[str]) -> None:
    """Check that datasets exist, and that detectors can read theirs.

    Only of the types in :data:`LAYOUTS`: others may download themselves.

    Args:
        cfg (Config): The config of a run.
        dataloaders (list[str]): Keys of the dataloaders that it will use.

    Raises:
        FileNotFoundError: If one doesn't; says which config key names it,
            and what belongs there.
        ValueError: If annotations cannot be read, or don't fit the classes.
    """
    for loader in dataloaders:
        if not isinstance(cfg.get(loader), dict):
            continue
        for key, dataset in _datasets(cfg[loader], loader):
            kind = str(dataset['type']).split('.')[-1]
            root = dataset.get('data_root') or ''
            ann_file = dataset.get('ann_file') or ''
            backend = (dataset.get('backend_args') or {}).get('backend')
            # ImageNet does without; remote storage is not ours to look into
            if (kind == 'ImageNet' or not isinstance(ann_file, str)):
                ann_file = ''
            path = osp.join(root, ann_file)
            if backend not in (None, 'local') or not path or '://' in path:
                continue
            if osp.exists(path):
                # mmpose has a CocoDataset, too
                *scope, _ = str(dataset['type']).split('.')
                scope = scope or [cfg.get('default_scope') or 'mmdet']
                if osp.isfile(path) and scope == ['mmdet']:
                    _check_detection(key, dataset, path)
                continue
            raise FileNotFoundError(
                f'{key}: {osp.abspath(path)} does not exist '
                f'(data_root={root!r}, ann_file={ann_file!r}). Put the '
                'dataset there, link it (ln -s /path/to/it '
                f'{root.rstrip("/") or "."}), or say where it is: '
                f'--cfg-options {key}.data_root=PATH. {kind} expects below '
                f'data_root: {LAYOUTS[kind]}.')
