import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import MessageHub

import mmcompress.compat  # noqa: F401
from mmcompress.distill.listing import (Row, build_side, describe,
                                        describe_calls, list_modules,
                                        list_taps, select_rows)
from mmcompress.model.inputs import made_up_batch

TOOL = Path(__file__).parents[2] / 'tools' / 'misc' / 'list_taps.py'
RESNET = '''
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8,
                  init_cfg=dict(type='Pretrained', checkpoint='nowhere.pth')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=5, in_channels={width},
              loss=dict(type='CrossEntropyLoss', loss_weight=1.0)),
    data_preprocessor=dict(type='ClsDataPreprocessor', mean=[0] * 3,
                           std=[255] * 3))
'''
DISTILL = '''
_base_ = './student.py'
model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(cfg='./teacher.py', checkpoint='none.pth'),
    losses=dict())
'''


class Head(nn.Module):
    """Two levels through the same convolution, then an in-place ReLU."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.act = nn.ReLU(inplace=True)
        self.criterion = nn.MSELoss()
        self.unused = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return [self.act(self.conv(level)) for level in (x, x[..., ::2])]


class Model(nn.Module):

    def __init__(self):
        super().__init__()
        self.head = Head()

    def forward(self, inputs, data_samples, mode):
        assert self.training == (mode == 'loss')
        # heads such as TOOD's compare it
        assert MessageHub.get_current_instance().get_info('epoch') == 0
        # as mm models do, past the hooks
        outputs = self.head.forward(inputs)
        if mode == 'loss':
            if data_samples is None:
                raise KeyError('labels')
            self.head.criterion(outputs[0], data_samples.expand_as(outputs[0]))
        return outputs


def toy_rows(data_samples=torch.zeros(1), **kwargs):
    batch = dict(inputs=torch.ones(2, 3, 4, 8), data_samples=data_samples)
    rows, errors = list_modules(Model(), batch, **kwargs)
    return {row.path: row for row in rows}, errors


@pytest.fixture
def configs(tmp_path):
    (tmp_path / 'student.py').write_text(RESNET.format(width=64))
    teacher = RESNET.replace('depth=18', 'depth=50')
    (tmp_path / 'teacher.py').write_text(teacher.format(width=256))
    (tmp_path / 'distill.py').write_text(DISTILL)
    return tmp_path


def test_describes_nested_outputs():
    a, b = torch.zeros(2, 3), torch.zeros(())
    assert describe([a,
                     dict(x=(a, b),
                          y=None)]) == '(2x3, {x: (2x3, scalar), y: NoneType})'


def test_one_call_shows_the_indices_that_a_tap_takes():
    a, b = torch.zeros(2, 3), torch.zeros(4)
    assert describe_calls([(a, [a, b])]) == '[0] 2x3\n[1] (2x3, 4)'
    assert describe_calls([a]) == '2x3'


def test_several_calls_are_shown_call_by_call():
    a, b = torch.zeros(2, 3), torch.zeros(4)
    assert describe_calls([a, b]) == 'call 1: 2x3\ncall 2: 4'
    assert describe_calls([a, a]) == 'each call: 2x3'
    shown = describe_calls([torch.zeros(i) for i in range(9)], most=3)
    assert shown == 'call 1: 0\ncall 2: 1\n... 7 more'


def test_calls_are_counted_by_mode():
    rows, errors = toy_rows()
    assert not errors
    assert rows['head'].num_calls == dict(loss=1, tensor=1)
    assert rows['head.conv'].num_calls == dict(loss=2, tensor=2)
    assert rows['head.criterion'].num_calls == dict(loss=1, tensor=0)
    assert 'head.unused' not in rows


def test_shows_what_a_shared_module_gives_per_call():
    rows, _ = toy_rows()
    assert rows['head.conv'].output == 'call 1: 2x4x4x8\ncall 2: 2x4x4x4'
    assert rows['head'].output == '[0] 2x4x4x8\n[1] 2x4x4x4'


def test_marks_what_is_changed_in_place_afterwards():
    rows, _ = toy_rows()
    assert rows['head.conv'].overwritten
    assert not rows['head.act'].overwritten
    assert not rows['head'].overwritten


def test_unsuitable_labels_leave_what_was_seen_and_a_message():
    rows, errors = toy_rows(data_samples=None)
    assert errors == dict(loss="KeyError: 'labels'")
    assert rows['head'].num_calls == dict(loss=1, tensor=1)


def test_puts_every_forward_back():
    model = Model()
    list_modules(model, dict(inputs=torch.ones(1, 3, 2, 2), data_samples=None))
    assert not any('forward' in vars(m) for m in model.modules())


def rows_of(*paths):
    return [Row(path, '', '', {}, False) for path in paths]


def selected(*args):
    rows = rows_of('neck', 'neck.a', 'neck.a.conv', 'necklace', 'head.a')
    return [row.path for row in select_rows(rows, *args)]


def test_selects_a_module_and_what_is_below_it():
    assert selected('neck') == ['neck', 'neck.a', 'neck.a.conv']
    assert selected('neck', 2) == ['neck', 'neck.a']


def test_selects_by_wildcard():
    assert selected('*.a') == ['neck.a', 'head.a']


def test_a_filter_that_selects_nothing_is_an_error():
    with pytest.raises(ValueError, match='--filter nek .* such as neck, '):
        selected('nek')


def test_lists_the_student_of_a_distillation_config(configs):
    table = list_taps(
        str(configs / 'distill.py'), size=(32, 32), pattern='backbone.layer4')
    assert 'ImageClassifier, input 2x3x32x32' in table
    assert '2x64x1x1' in table


def test_lists_the_teacher_without_its_checkpoint(configs):
    table = list_taps(
        str(configs / 'distill.py'), 'teacher', 'head', size=(32, 32))
    assert '2x5' in table
    model, scope = build_side(str(configs / 'distill.py'), 'teacher')
    assert model.backbone.depth == 50 and scope == 'mmpretrain'


def test_a_config_without_a_teacher_is_named(configs):
    with pytest.raises(ValueError, match='student.py has no model.teacher'):
        build_side(str(configs / 'student.py'), 'teacher')


def test_images_have_the_size_that_the_config_tests_on(tmp_path, configs):
    cfg = Config.fromfile(str(configs / 'student.py'))
    cfg.test_dataloader = dict(dataset=dict(type='CIFAR10', pipeline=[]))
    cfg.dump(str(tmp_path / 'small.py'))
    table = list_taps(str(tmp_path / 'small.py'), pattern='head')
    assert 'input 2x3x32x32' in table and 'to save memory' not in table
    cfg.test_dataloader.dataset.pipeline = [
        dict(type='Resize', scale=(2000, 1000))
    ]
    cfg.dump(str(tmp_path / 'large.py'))
    table = list_taps(str(tmp_path / 'large.py'), pattern='head')
    assert 'input 2x3x250x500' in table
    assert 'those of the config have 1000 x 2000' in table


def test_the_models_own_error_is_not_hidden(tmp_path, configs):
    """Where it stops before what one asks for, the reason is told."""
    cfg = Config.fromfile(str(configs / 'student.py'))
    cfg.model.head.in_channels = 3
    cfg.dump(str(tmp_path / 'wrong.py'))
    with pytest.raises(
            ValueError, match='(?s)fits --filter head.loss.*shapes'):
        list_taps(
            str(tmp_path / 'wrong.py'), pattern='head.loss', size=(32, 32))
    table = list_taps(str(tmp_path / 'wrong.py'), size=(32, 32))
    assert "mode 'loss' stopped early" in table and 'shapes' in table


def test_weights_are_random_whatever_the_config_wants_to_load(configs):
    model, _ = build_side(str(configs / 'student.py'))
    assert all(p.isfinite().all() for p in model.parameters())


def test_options_override_the_config(configs):
    model, _ = build_side(
        str(configs / 'student.py'), options={'model.head.num_classes': 7})
    assert model.head.fc.out_features == 7


@pytest.mark.parametrize('config', [
    'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
    'mmpose::body_2d_keypoint/rtmpose/coco/'
    'rtmpose-t_8xb256-420e_coco-256x192.py',
    'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'
])
def test_made_up_inputs_suit_the_libraries(config):
    model, scope = build_side(config)
    size = None if scope == 'mmpose' else (64, 64)
    batch = made_up_batch(model, scope, size)
    _, errors = list_modules(model, batch)
    assert not errors


def test_an_unknown_library_is_named():
    with pytest.raises(ValueError, match="'mmocr'.*mmdet, mmpose"):
        made_up_batch(nn.Module(), 'mmocr')


@pytest.mark.slow
def test_the_tool_prints_the_table_and_nothing_else(configs):
    run = subprocess.run([
        sys.executable, TOOL, configs / 'student.py', '--size', '32', '32',
        '--depth', '1'
    ], capture_output=True, text=True, check=True)  # yapf: disable
    assert run.stdout.startswith('\nImageClassifier, input 2x3x32x32\n+--')
    assert run.stdout.endswith('3 of 79 modules that are called are shown\n')
