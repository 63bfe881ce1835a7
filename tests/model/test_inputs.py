import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.complexity import complexity, total
from mmcompress.analysis.subject import build_subject
from mmcompress.model.config import read_config
from mmcompress.model.inputs import image_size, noise_batch, pipeline_size


@pytest.mark.parametrize('config, size', [
    # by the data itself, whose images no transform touches
    ('mmpretrain::resnet/resnet18_8xb16_cifar10.py', (32, 32)),
    ('configs/xnor/xnor_nin_cifar10.py', (32, 32)),
    ('mmpretrain::lenet/lenet5_mnist.py', (32, 32)),
    ('mmpretrain::deit3/deit3-small-p16_64xb64_in1k.py', (224, 224)),
    ('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py', (416, 416)),
    ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', (800, 1333)),
    ('mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192'
     '.py', (256, 192)),
    ('configs/poem/poem_pointnet_mini.py', (3, 256)),
])  # yapf: disable
def test_the_test_pipeline_says_how_large_images_are(config, size):
    assert pipeline_size(read_config(config)) == size


def files(tmp_path, *pipeline, size=(20, 28)):
    """Config of a classifier on a folder with an image."""
    from mmcv import imwrite
    for name in 'ab':
        imwrite(
            np.zeros((*size, 3), np.uint8),
            str(tmp_path / 'data' / name / '0.png'))
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                data_preprocessor=dict(num_classes=2),
                backbone=dict(type='ResNet', depth=18),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(
                    type='LinearClsHead', num_classes=2, in_channels=512)),
            test_dataloader=dict(
                dataset=dict(
                    type='CustomDataset',
                    data_root=str(tmp_path / 'data'),
                    pipeline=[
                        dict(type='LoadImageFromFile'), *pipeline,
                        dict(type='PackInputs')
                    ]))))


def test_files_that_no_transform_touches_are_looked_at(tmp_path):
    assert pipeline_size(files(tmp_path)) == (20, 28)


@pytest.mark.parametrize('transform, size', [
    (dict(type='CenterCrop', crop_size=16), (16, 16)),
    (dict(type='Resize', scale=(24, 12)), (12, 24)),
    (dict(type='Resize', scale=(12, 24), keep_ratio=True), (12, 24)),
])
def test_transforms_are_run(tmp_path, transform, size):
    assert pipeline_size(files(tmp_path, transform)) == size


def test_the_sizes_of_pil_images_are_not_turned_around(tmp_path):
    cfg = files(tmp_path, dict(type='NumpyToPIL'),
                dict(type='torchvision/Resize', size=(12, 24)))
    assert pipeline_size(cfg) == (12, 24)


def test_where_a_transform_wants_more_a_real_image_is_taken(tmp_path):
    cfg = files(tmp_path, dict(type='mmpose.TopdownAffine', input_size=(4, 4)))
    assert pipeline_size(cfg) is None
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        from mmpretrain.registry import TRANSFORMS

    @TRANSFORMS.register_module(name='WantsLabel', force=True)
    def wants_label():
        return lambda results: results if results['gt_label'] == 0 else None

    assert pipeline_size(files(tmp_path, dict(type='WantsLabel'))) == (20, 28)


def test_data_that_would_be_downloaded_is_not_looked_at(tmp_path, monkeypatch):
    cfg = files(tmp_path, dict(type='mmpose.TopdownAffine', input_size=(4, 4)))
    looked = []
    monkeypatch.setattr('mmcompress.model.inputs._first_image', looked.append)
    assert pipeline_size(cfg) is None and len(looked) == 1
    cfg.test_dataloader.dataset.type = 'CIFAR10'
    assert pipeline_size(cfg) is None and len(looked) == 1


def test_a_size_that_nothing_says_is_told_on_stderr(tmp_path, capsys):
    cfg = files(tmp_path)
    cfg.test_dataloader.dataset.data_root = str(tmp_path / 'nowhere')
    model = build_subject(cfg)
    assert image_size(cfg, model) == (224, 224)
    said = capsys.readouterr()
    assert '224 x 224 is assumed' in said.err and not said.out


def test_complexity_is_that_of_the_images_that_are_tested(tmp_path):
    cfg = files(tmp_path)
    model = build_subject(cfg)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        small = total(complexity(model, noise_batch(cfg, model)))
        large = total(complexity(model, noise_batch(cfg, model, (224, 224))))
    assert 50 * small.flops < large.flops


@pytest.mark.slow
def test_json_is_json_whatever_is_printed_on_the_way():
    run = subprocess.run([
        sys.executable, 'tools/analysis_tools/get_complexity.py',
        'configs/react/react_r18_mini.py', '--json'
    ], capture_output=True, text=True, check=True)  # yapf: disable
    assert json.loads(run.stdout)['subject'].endswith('3 x 32 x 32')


def test_noise_has_the_number_of_images_that_is_asked_for(tmp_path):
    cfg = files(tmp_path)
    batch = noise_batch(cfg, build_subject(cfg), num=3)
    assert isinstance(batch['inputs'], torch.Tensor)
    assert batch['inputs'].shape == (3, 3, 20, 28)
