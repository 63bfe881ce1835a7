import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope

from mmcompress.datasets import (DropPoints, JitterPoints, LoadPoints,
                                 MiniPointClouds, ModelNet40, NormalizePoints,
                                 PointCloudPreprocessor, RotatePoints)
from mmcompress.datasets.manifest import find_damage
from mmcompress.datasets.point_clouds import SHAPES

CONFIGS = Path(__file__).parents[2] / 'configs/poem'
SMALL = dict(num_train=7, num_val=4, num_points=32)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clouds')
    MiniPointClouds(**SMALL).write(folder)
    return folder


@pytest.fixture(autouse=True)
def fixed_seed():
    np.random.seed(0)


def points_of(num=1000):
    return np.random.default_rng(0).normal(size=(num, 3)).astype(np.float32)


def applied(transform, points):
    before = points.copy()
    after = transform(dict(points=points))['points']
    # the dataset may hold the array in memory
    assert np.array_equal(points, before)
    assert after.dtype == np.float32 and after.shape == points.shape
    return after


def distance_to_surface(name, points):
    x, y, z = points.T
    radius = np.hypot(x, y)
    if name == 'sphere':
        return abs(np.linalg.norm(points, axis=1) - 1)
    if name == 'cube':
        return abs(abs(points).max(1) - 1)
    if name == 'cylinder':
        return abs(np.maximum(radius, abs(z)) - 1)
    if name == 'cone':
        return np.minimum(abs(z + 1), abs(radius - (1 - z) / 2))
    return abs(np.hypot(radius - 0.7, z) - 0.3)


@pytest.mark.parametrize('name', SHAPES)
def test_points_lie_on_the_surface(name):
    points = SHAPES[name](np.random.default_rng(0), 2000)
    assert points.shape == (2000, 3)
    assert distance_to_surface(name, points).max() < 1e-12


@pytest.mark.parametrize('name, mean', [('sphere', 0), ('cube', 0),
                                        ('cylinder', 0), ('torus', 0),
                                        ('cone', -0.54)])
def test_points_are_uniform_on_the_surface(name, mean):
    """By the centre of mass; of a cone, (1/3 * sqrt(5) + 1) / (sqrt(5) + 1)
    below the middle."""
    points = SHAPES[name](np.random.default_rng(0), 50000)
    np.testing.assert_allclose(points.mean(0), [0, 0, mean], atol=0.02)


def test_mini_data_is_in_the_layout_of_modelnet40(folder):
    train = (folder / 'modelnet40_train.txt').read_text().split()
    test = (folder / 'modelnet40_test.txt').read_text().split()
    assert (len(train), len(test)) == (7, 4) and not {*train} & {*test}
    names = (folder / 'modelnet40_shape_names.txt').read_text().split()
    assert names == list(SHAPES)
    lines = (folder / f'cube/{train[1]}.txt').read_text().splitlines()
    assert len(lines) == 32 and len(lines[0].split(',')) == 3


def test_clouds_do_not_depend_on_their_number():
    few, more = MiniPointClouds(num_train=2), MiniPointClouds(num_train=9)
    assert np.array_equal(few.make('train', 1)[0], more.make('train', 1)[0])
    assert not np.array_equal(few.make('train', 1)[0], few.make('val', 1)[0])


def test_mini_data_is_made_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MMCOMPRESS_CACHE', str(tmp_path))
    cfg = Config.fromfile(CONFIGS / 'poem_pointnet_mini.py')
    for loader, num in [('train_dataloader', 7), ('val_dataloader', 4)]:
        dataset = cfg[loader].dataset
        dataset.settings = dict(SMALL, num_points=256)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            dataset = DATASETS.build(dataset)
        assert type(dataset) is ModelNet40 and len(dataset) == num
        assert dataset.metainfo['classes'] == tuple(SHAPES)
        sample = dataset[1]
        assert sample['inputs'].shape == (3, 256)
        assert sample['inputs'].dtype == torch.float32
        assert sample['data_samples'].gt_label.tolist() == [1]
    settings = MiniPointClouds(**dict(SMALL, num_points=256)).settings
    made, = tmp_path.glob('mini/point-clouds*256*0')
    assert find_damage(made, json.loads(json.dumps(settings))) is None


@pytest.mark.parametrize('settings', [
    dict(num_train=0),
    dict(num_points=0),
    dict(stretch=0.5),
    dict(noise=-1),
])
def test_bad_settings_of_the_mini_data(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        MiniPointClouds(**settings)


def write_release(folder, classes, normals=True):
    """Two clouds of 50 points, as the text release has them."""
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(50, 6)).astype(np.float32) for _ in classes]
    names = []
    for name, cloud in zip(classes, clouds):
        (folder / name).mkdir(exist_ok=True)
        names.append(f'{name}_{len(names) + 1:04d}')
        np.savetxt(
            folder / name / f'{names[-1]}.txt',
            cloud if normals else cloud[:, :3],
            fmt='%.6f',
            delimiter=',')
    (folder / 'modelnet40_train.txt').write_text('\n'.join(names))
    return clouds


@pytest.mark.parametrize('normals', [True, False])
def test_text_files_of_modelnet40(tmp_path, normals):
    clouds = write_release(tmp_path, ['night_stand', 'airplane'], normals)
    dataset = ModelNet40(
        'modelnet40_train.txt',
        data_root=str(tmp_path),
        pipeline=[LoadPoints(20)])
    assert len(dataset) == 2
    assert dataset.metainfo['classes'][23] == 'night_stand'
    assert [dataset[i]['gt_label'] for i in range(2)] == [23, 0]
    np.testing.assert_allclose(
        dataset[0]['points'], clouds[0][:20, :3], atol=1e-6)


def test_hdf5_files_of_modelnet40(tmp_path):
    h5py = pytest.importorskip('h5py')
    points = points_of(2 * 3 * 60).reshape(2, 3, 60, 3)
    # numbers of the lines of shape_names.txt
    labels = np.array([[[1], [0], [1]], [[0], [0], [1]]], np.uint8)
    (tmp_path / 'shape_names.txt').write_text('airplane\nvase\n')
    (tmp_path / 'train_files.txt'
     ).write_text('data/modelnet40_ply_hdf5_2048/a.h5\nb.h5\n')
    for name, data, label in zip('ab', points, labels):
        with h5py.File(tmp_path / f'{name}.h5', 'w') as file:
            file['data'], file['label'] = data, label
    dataset = ModelNet40(
        'train_files.txt', data_root=str(tmp_path), pipeline=[LoadPoints(50)])
    assert len(dataset) == 6
    assert [dataset[i]['gt_label'] for i in range(6)] == [37, 0, 37, 0, 0, 37]
    assert np.array_equal(dataset[4]['points'], points[1, 1, :50])


def test_hdf5_files_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'h5py', None)
    (tmp_path / 'shape_names.txt').write_text('airplane\n')
    (tmp_path / 'train_files.txt').write_text('a.h5\n')
    with pytest.raises(ModuleNotFoundError, match='pip install h5py'):
        ModelNet40('train_files.txt', data_root=str(tmp_path))


def test_classes_of_other_data(folder):
    with pytest.raises(ValueError, match="'sphere' is not among"):
        ModelNet40('modelnet40_train.txt', data_root=str(folder))
    dataset = ModelNet40(
        'modelnet40_train.txt',
        data_root=str(folder),
        metainfo=dict(classes=list(SHAPES)))
    assert dataset.get_data_info(6)['gt_label'] == 1


def test_too_few_points(folder):
    dataset = ModelNet40(
        'modelnet40_train.txt',
        data_root=str(folder),
        metainfo=dict(classes=list(SHAPES)),
        pipeline=[LoadPoints(33)])
    with pytest.raises(ValueError, match='sphere_0001.txt has 32 points'):
        dataset[0]


def test_normalized_points_fill_the_unit_sphere():
    points = applied(NormalizePoints(), 5 * points_of() + 2)
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-6)
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(1)
    same = applied(NormalizePoints(), np.full((4, 3), 2.0, np.float32))
    assert (same == 0).all()


@pytest.mark.parametrize('up', ['x', 'y', 'z'])
def test_rotation_keeps_the_axis_that_points_up(up):
    points = points_of()
    rotated = applied(RotatePoints(up), points)
    axis = 'xyz'.index(up)
    assert np.array_equal(rotated[:, axis], points[:, axis])
    assert abs(rotated - points).max() > 0.1
    # a rotation, not a reflection
    matrix = np.linalg.lstsq(points, rotated, rcond=None)[0]
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)


def test_jitter_is_clipped():
    points = points_of()
    moved = applied(JitterPoints(sigma=0.04, clip=0.05), points) - points
    assert 0.02 < moved.std() < 0.04
    assert abs(moved).max() < 0.0501


def test_dropped_points_become_the_first():
    points = points_of()
    counts = []
    for _ in range(50):
        left = applied(DropPoints(0.5), points)
        changed = (left != points).any(1)
        assert (left[changed] == points[0]).all()
        counts.append(changed.mean())
    assert 0.15 < np.mean(counts) < 0.35 and max(counts) < 0.56
    assert np.array_equal(applied(DropPoints(0), points), points)


@pytest.mark.parametrize('build, message', [
    (lambda: LoadPoints(0), 'num_points'),
    (lambda: RotatePoints('up'), "up must be 'x', 'y' or 'z'"),
    (lambda: JitterPoints(sigma=-1), 'sigma and clip'),
    (lambda: DropPoints(1.5), 'max_ratio'),
    (lambda: PointCloudPreprocessor(dict(augments=[])), 'train_cfg'),
])
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_the_preprocessor_leaves_coordinates_alone():
    clouds = [dict(inputs=torch.randn(3, 8)) for _ in range(2)]
    for batch in (pseudo_collate(clouds),
                  dict(inputs=torch.stack([c['inputs'] for c in clouds]))):
        out = PointCloudPreprocessor()(batch)
        assert torch.equal(out['inputs'][1], clouds[1]['inputs'])
    clouds[1]['inputs'] = torch.randn(3, 9)
    with pytest.raises(ValueError, match='same number of points'):
        PointCloudPreprocessor()(pseudo_collate(clouds))
