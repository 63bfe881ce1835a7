"""Point clouds of ModelNet40, from either of the releases people have."""
import os.path as osp

import numpy as np
from mmengine.dataset import BaseDataset

from mmcompress.registry import DATASETS

CLASSES = ('airplane', 'bathtub', 'bed', 'bench', 'bookshelf', 'bottle',
           'bowl', 'car', 'chair', 'cone', 'cup', 'curtain', 'desk', 'door',
           'dresser', 'flower_pot', 'glass_box', 'guitar', 'keyboard', 'lamp',
           'laptop', 'mantel', 'monitor', 'night_stand', 'person', 'piano',
           'plant', 'radio', 'range_hood', 'sink', 'sofa', 'stairs', 'stool',
           'table', 'tent', 'toilet', 'tv_stand', 'vase', 'wardrobe', 'xbox')


def _read_lines(path: str) -> list[str]:
    with open(path, encoding='utf-8') as file:
        return [line.strip() for line in file if line.strip()]


def _read_hdf5(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Points (M, N, 3), float32, and labels (M,) of one file."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{path} is an HDF5 file, and h5py is not installed: run `pip '
            'install h5py`, or use the text files of '
            'modelnet40_normal_resampled') from error
    with h5py.File(path, 'r') as file:
        points = np.asarray(file['data'], dtype=np.float32)
        return points, np.asarray(file['label'], dtype=np.int64).reshape(-1)


@DATASETS.register_module()
class ModelNet40(BaseDataset):
    """Classified point clouds in a layout of ModelNet40 (Wu et al., CVPR 2015,
    arXiv:1406.5670).

    ``ann_file`` is what tells the two common releases apart.

    - ``modelnet40_normal_resampled``: a line of ``modelnet40_train.txt`` names
      a cloud, such as ``night_stand_0001``; its points are the lines
      ``x,y,z,nx,ny,nz`` of ``night_stand/night_stand_0001.txt``. The normals
      may be missing.
    - ``modelnet40_ply_hdf5_2048``: a line of ``train_files.txt`` names a file
      such as ``ply_data_train0.h5``, whose folders are left out; it holds
      ``data`` (M, 2048, 3) and ``label`` (M, 1), numbers of the lines of
      ``shape_names.txt``. Needs h5py. All is kept in memory, 240 MB.

    A sample has ``gt_label``, and ``points_path`` or ``points``: the transform
    :class:`LoadPoints` takes either.

    Args:
        ann_file (str): The list, relative to ``data_root``.
        **kwargs: As for :class:`mmengine.dataset.BaseDataset`. ``classes`` of
            ``metainfo`` replaces the 40 names, for other data in the same
            layout.

    Raises:
        ValueError: If a cloud is of a class that ``metainfo`` doesn't have.
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(self, ann_file: str, **kwargs) -> None:
        super().__init__(ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the list, and the points if they are in HDF5 files."""
        lines = _read_lines(self.ann_file)
        if lines and lines[0].endswith('.h5'):
            return self._load_hdf5(lines)
        return [
            dict(
                points_path=osp.join(self.data_root,
                                     name.rpartition('_')[0], f'{name}.txt'),
                gt_label=self._label(name.rpartition('_')[0]))
            for name in lines
        ]

    def _load_hdf5(self, files: list[str]) -> list[dict]:
        names = _read_lines(osp.join(self.data_root, 'shape_names.txt'))
        labels = [self._label(name) for name in names]
        samples = []
        for file in files:
            # the lists of the release start at some folder of its authors
            clouds = _read_hdf5(osp.join(self.data_root, osp.basename(file)))
            samples += [
                dict(points=points, gt_label=labels[label])
                for points, label in zip(*clouds)
            ]
        return samples

    def _label(self, name: str) -> int:
        classes = self.metainfo['classes']
        if name not in classes:
            raise ValueError(f'{self.ann_file}: {name!r} is not among the '
                             f'classes of metainfo, {list(classes)}')
        return classes.index(name)
