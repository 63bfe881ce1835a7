import runpy
import sys

import numpy as np
import pytest
import torch
from integration.small_runs import fgd, ida_det
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

import mmcompress.compat  # noqa: F401
from mmcompress.registry import MODELS
from mmcompress.visualization.features import (activation, build_distilled,
                                               feature_maps, pictures)

ROOT = sys.modules['integration.small_runs'].ROOT
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(160, 128), keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs')
]


def test_tokens_become_maps_without_those_before_the_patches():
    patches = torch.arange(8.0).view(1, 4, 2)
    tokens = torch.cat([torch.full((1, 2, 2), 9.), patches], 1)
    feature, = feature_maps(tokens)
    assert feature[0, 0].tolist() == [[0, 2], [4, 6]]


def test_maps_are_found_wherever_they_are():
    level = torch.zeros(1, 2, 3, 3)
    value = dict(neck=(level, [level]), logits=torch.zeros(1, 10))
    assert len(list(feature_maps(value))) == 2


def test_activations_compare_networks_of_different_scale():
    feature = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(activation(feature), activation(-7 * feature))
    assert activation(feature).mean((1, 2)).tolist() == pytest.approx([1, 1])
    assert not activation(torch.zeros(1, 2, 3, 3)).any()


@pytest.mark.parametrize('bgr_to_rgb', [True, False])
def test_pictures_are_the_images_again(bgr_to_rgb):
    with DefaultScope.overwrite_default_scope('mmdet'):
        preprocessor = MODELS.build(
            dict(
                type='DetDataPreprocessor',
                mean=[10, 20, 30],
                std=[2, 3, 4],
                bgr_to_rgb=bgr_to_rgb))
    model = torch.nn.Module()
    model.data_preprocessor = preprocessor
    rgb = torch.randint(0, 255, (3, 4, 5), dtype=torch.uint8)
    # images are read as BGR
    inputs = preprocessor(dict(inputs=[rgb.flip(0)], data_samples=None))
    picture, = pictures(model, inputs['inputs'])
    np.testing.assert_allclose(picture, rgb.permute(1, 2, 0) / 255, atol=1e-6)


def config(model, tmp_path):
    path = tmp_path / 'config.py'
    cfg = Config(
        dict(
            default_scope='mmdet',
            model=model,
            test_dataloader=dict(dataset=dict(pipeline=PIPELINE))))
    cfg.dump(path)
    return path


def run(tool, *arguments, monkeypatch):
    path = ROOT / 'tools' / 'visualization' / tool
    monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
    runpy.run_path(str(path), run_name='__main__')


@pytest.mark.parametrize('model, rows', [(fgd, 5), (ida_det, 15)])
def test_draws_a_row_for_each_map(model, rows, tmp_path, monkeypatch, capsys):
    path = config(model(), tmp_path)
    student = build_distilled(Config.fromfile(path))
    torch.save(dict(state_dict=student.state_dict()), tmp_path / 'after.pth')
    Image.fromarray(np.full((30, 40, 3), 90,
                            dtype=np.uint8)).save(tmp_path / 'image.png')
    run('compare_features.py',
        path,
        tmp_path / 'after.pth',
        tmp_path / 'image.png',
        '--out',
        tmp_path / 'out.png',
        monkeypatch=monkeypatch)
    assert f'{rows} feature maps of loss_' in capsys.readouterr().out
    width, height = Image.open(tmp_path / 'out.png').size
    assert (width, height) == (1500, 300 * rows)


def test_a_loss_that_is_not_there_is_named(tmp_path, monkeypatch):
    path = config(fgd(), tmp_path)
    student = build_distilled(Config.fromfile(path))
    torch.save(dict(state_dict=student.state_dict()), tmp_path / 'after.pth')
    Image.fromarray(np.zeros((30, 40, 3),
                             dtype=np.uint8)).save(tmp_path / 'image.png')
    with pytest.raises(ValueError, match='--loss loss_x: .* loss_fgd'):
        run('compare_features.py',
            path,
            tmp_path / 'after.pth',
            tmp_path / 'image.png',
            '--loss',
            'loss_x',
            monkeypatch=monkeypatch)


def test_a_plain_config_is_refused(tmp_path):
    path = config(fgd()['student'], tmp_path)
    with pytest.raises(ValueError, match='has no distillation'):
        build_distilled(Config.fromfile(path))
