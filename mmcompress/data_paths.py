"""Say what to put where, before mm code fails on a missing dataset."""
import os.path as osp
from collections.abc import Iterator

from mmengine.config import Config

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


def check_data_paths(cfg: Config, dataloaders: list[str]) -> None:
    """Check that the annotations and folders of datasets exist.

    Only of the types in :data:`LAYOUTS`: others may download themselves.

    Args:
        cfg (Config): The config of a run.
        dataloaders (list[str]): Keys of the dataloaders that it will use.

    Raises:
        FileNotFoundError: If one doesn't; says which config key names it,
            and what belongs there.
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
            if (backend not in (None, 'local') or not path or '://' in path
                    or osp.exists(path)):
                continue
            raise FileNotFoundError(
                f'{key}: {osp.abspath(path)} does not exist '
                f'(data_root={root!r}, ann_file={ann_file!r}). Put the '
                'dataset there, link it (ln -s /path/to/it '
                f'{root.rstrip("/") or "."}), or say where it is: '
                f'--cfg-options {key}.data_root=PATH. {kind} expects below '
                f'data_root: {LAYOUTS[kind]}.')
