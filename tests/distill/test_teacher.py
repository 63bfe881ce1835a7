import re

import pytest
import torch
from distill.models import batch, build, detection_scope, distill, retinanet
from mmengine.config import Config

from mmcompress.distill.teacher import Teacher
from mmcompress.distill.teacher_source import find_checkpoint, read_config


def saved(tmp_path, cfg=None, seed=5, **changes):
    """A trained model's checkpoint, and the model."""
    model = build(cfg or retinanet(), seed)
    state = {**model.state_dict(), **changes}
    path = tmp_path / 'teacher.pth'
    torch.save(
        dict(state_dict={
            k: v
            for k, v in state.items() if v is not None
        }), path)
    return str(path), model


def student_of(teacher):
    return build(distill(teacher=teacher))


def test_is_loaded_from_its_checkpoint(tmp_path):
    path, original = saved(tmp_path)
    model = student_of(dict(cfg=retinanet(), checkpoint=path))
    assert model.distill.teacher.model is None
    model.init_weights()
    teacher = model.distill.teacher.model
    for key, value in original.state_dict().items():
        assert torch.equal(teacher.state_dict()[key], value), key
    assert not any(p.requires_grad for p in teacher.parameters())


def test_a_top_level_pretrained_student_gets_its_teacher_too(tmp_path):
    """Mmengine's init_weights then returns before the children."""
    path, _ = saved(tmp_path)
    student = retinanet()
    student['init_cfg'] = dict(type='Pretrained', checkpoint=path)
    model = build(distill(student=student))
    model.init_weights()
    assert model.distill.teacher.model is not None


def test_is_built_before_the_first_step_without_init_weights(tmp_path):
    path, _ = saved(tmp_path)
    model = student_of(dict(cfg=retinanet(), checkpoint=path))
    with detection_scope():
        model(**batch(model), mode='loss')
    assert model.distill.teacher.model is not None


def test_building_it_draws_no_random_numbers_of_the_students(tmp_path):
    path, _ = saved(tmp_path)
    model = student_of(dict(cfg=retinanet(), checkpoint=path))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with detection_scope():
        model.distill.prepare()
    assert torch.equal(before, torch.get_rng_state())


def test_running_it_draws_no_random_numbers_of_the_students():
    model = build(distill())
    model.init_weights()
    teacher = model.distill.teacher
    # as the random masks of an autoencoder
    teacher.model.backbone.register_forward_pre_hook(
        lambda *args: torch.rand(3).sum() > 9 or None)
    data = batch(model)
    before = torch.get_rng_state()
    teacher(**data)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize('changes, message', [
    ({
        'neck.fpn_convs.0.conv.bias': None
    }, 'missing'),
    ({
        'extra.weight': torch.zeros(1)
    }, 'left over'),
    ({
        'bbox_head.retina_cls.bias': torch.zeros(7)
    }, 'shapes differ'),
])
def test_the_checkpoint_must_fit_the_whole_teacher(tmp_path, changes, message):
    path, _ = saved(tmp_path, **changes)
    model = student_of(dict(cfg=retinanet(), checkpoint=path))
    with pytest.raises(
            RuntimeError, match=f'{re.escape(path)} does not fit.*{message}'):
        model.init_weights()


def test_a_checkpoint_of_another_architecture(tmp_path):
    path, _ = saved(tmp_path, retinanet(depth=34))
    model = student_of(dict(cfg=retinanet(), checkpoint=path))
    with pytest.raises(RuntimeError, match='of another architecture'):
        model.init_weights()


def test_ignored_keys_may_differ(tmp_path):
    path, _ = saved(
        tmp_path, **{
            'bbox_head.retina_cls.bias': None,
            'extra.weight': torch.zeros(1)
        })
    teacher = dict(cfg=retinanet(), checkpoint=path)
    model = student_of(
        dict(teacher, ignore=[r'bbox_head\.retina_cls', 'extra']))
    model.init_weights()
    with pytest.raises(RuntimeError, match='left over'):
        student_of(dict(teacher, ignore=[r'bbox_head'])).init_weights()


def test_a_missing_checkpoint_file():
    model = student_of(dict(cfg=retinanet(), checkpoint='no/such.pth'))
    with pytest.raises(
            FileNotFoundError,
            match=r"teacher.checkpoint: no file 'no/such.pth'.*"
            r'Train the teacher first'):
        model.init_weights()


def test_a_missing_config_file():
    model = student_of(dict(cfg='no/such.py', checkpoint='x.pth'))
    with pytest.raises(
            FileNotFoundError, match="teacher.cfg: no file 'no/such.py'"):
        model.init_weights()


def test_random_weights_must_be_asked_for():
    with pytest.raises(ValueError, match='allow_random=True'):
        Teacher(cfg=retinanet())


def test_random_weights_are_the_initialisation_of_the_teacher(monkeypatch):
    """Some are memory as it was before, as DINO's level_embed."""
    filled = []
    monkeypatch.setattr(
        'mmdet.models.RetinaNet.init_weights',
        lambda model: filled.append(model) or torch.nn.init.constant_(
            model.bbox_head.retina_cls.bias, 7.0))
    model = build(
        distill(teacher=dict(cfg=retinanet(), allow_random=True)), False)
    model.distill.prepare()
    teacher = model.distill.teacher.model
    assert any(teacher is module for module in filled)
    assert (teacher.bbox_head.retina_cls.bias == 7.0).all()


def test_a_missing_mini_teacher_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv('MMCOMPRESS_CACHE', str(tmp_path))
    with pytest.raises(FileNotFoundError, match='tools/train.py configs/x.py'):
        find_checkpoint('configs/x.py', 'cache://x')


def test_relative_paths_start_at_the_config(tmp_path, monkeypatch):
    path, _ = saved(tmp_path)
    (tmp_path / 'sub').mkdir()
    Config(dict(model=retinanet())).dump(tmp_path / 'sub' / 't.py')
    model = student_of(dict(cfg='sub/t.py', checkpoint='teacher.pth'))
    model.distill.teacher.config_dir = str(tmp_path)
    with detection_scope():
        model.init_weights()
    assert model.distill.teacher.model is not None


def test_configs_of_installed_libraries():
    cfg = read_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py')
    assert cfg.model.type == 'RetinaNet'


def test_a_distilled_teacher_is_its_student(tmp_path):
    path, original = saved(tmp_path, distill())
    model = student_of(dict(cfg=distill(), checkpoint=path))
    model.init_weights()
    assert not hasattr(model.distill.teacher.model, 'distill')
    assert torch.equal(model.distill.teacher.model.backbone.conv1.weight,
                       original.backbone.conv1.weight)


def test_outputs_that_are_not_finite_stop_the_run(tmp_path):
    path, _ = saved(
        tmp_path,
        **{'neck.fpn_convs.2.conv.bias': torch.full((16, ), float('nan'))})
    model = student_of(dict(cfg=retinanet(), checkpoint=path))
    with pytest.raises(RuntimeError, match='loss_tiny is not finite'):
        model(**batch(model), mode='loss')


@pytest.mark.parametrize('key, value', [('mode', 'predict'),
                                        ('autocast', 'int8')])
def test_rejects_unknown_options(key, value):
    with pytest.raises(ValueError, match=f'teacher.{key}'):
        Teacher(cfg={}, allow_random=True, **{key: value})


def test_channels_last_and_bfloat16_give_nearly_the_same(tmp_path):
    path, _ = saved(tmp_path)
    teacher = dict(cfg=retinanet(), checkpoint=path)
    plain = student_of(teacher)
    other = student_of(dict(teacher, autocast='bfloat16', channels_last=True))
    other.load_state_dict(plain.state_dict())
    data = batch(plain)
    with torch.no_grad():
        a, b = (
            torch.stack(model.eval()(**data, mode='loss')['loss_tiny'])
            for model in (plain, other))
    torch.testing.assert_close(a, b, rtol=5e-2, atol=1e-3)
    assert not torch.equal(a, b)


# ---- preprocessing ---------------------------------------------------------


@pytest.mark.parametrize('other', [
    dict(mean=[100.0, 110.0, 120.0], std=[1.0, 1.0, 1.0], bgr_to_rgb=True),
    dict(mean=[103.53, 116.28, 123.675], std=[57.0, 58.0, 59.0],
         bgr_to_rgb=False),
    dict(bgr_to_rgb=False),
])  # yapf: disable
def test_sees_the_image_as_it_was_trained_on_it(other):
    from mmdet.testing import demo_mm_inputs
    cfg = retinanet()
    cfg['data_preprocessor'] = dict(
        type='DetDataPreprocessor', pad_size_divisor=32, **other)
    model = build(
        distill(teacher=dict(cfg=cfg, checkpoint=None, allow_random=True)))
    model.init_weights()
    teacher = model.distill.teacher
    # of different sizes, so that there is padding
    raw = demo_mm_inputs(2, [(3, 60, 40), (3, 50, 64)], num_items=[1, 1])
    raw = dict(raw, inputs=[image.float() for image in raw['inputs']])
    seen = teacher.model.data_preprocessor(raw, True)['inputs']
    data = model.data_preprocessor(raw, True)
    converted = teacher._convert(data['inputs'], data['data_samples'])
    torch.testing.assert_close(converted, seen, rtol=1e-4, atol=1e-3)


def test_equal_preprocessing_converts_nothing():
    model = build(distill())
    model.init_weights()
    assert model.distill.teacher._convert is None


def test_another_padding_value_is_converted():
    cfg = retinanet()
    cfg['data_preprocessor'] = dict(cfg['data_preprocessor'], pad_value=114)
    model = build(
        distill(teacher=dict(cfg=cfg, checkpoint=None, allow_random=True)))
    model.init_weights()
    from mmdet.testing import demo_mm_inputs
    raw = demo_mm_inputs(2, [(3, 60, 40), (3, 50, 64)], num_items=[1, 1])
    raw = dict(raw, inputs=[image.float() for image in raw['inputs']])
    teacher = model.distill.teacher
    seen = teacher.model.data_preprocessor(raw, True)['inputs']
    data = model.data_preprocessor(raw, True)
    torch.testing.assert_close(
        teacher._convert(data['inputs'], data['data_samples']), seen)


def test_images_that_were_cropped_are_not_filled():
    """Mmpose's img_shape is that of the image before the crop."""
    from mmengine.model import ImgDataPreprocessor
    from mmpose.structures import PoseDataSample

    from mmcompress.distill.preprocessing import renormalize
    convert = renormalize(
        ImgDataPreprocessor(mean=[1.0] * 3, std=[1.0] * 3),
        ImgDataPreprocessor(mean=[0.0] * 3, std=[2.0] * 3))
    sample = PoseDataSample(metainfo=dict(img_shape=(10, 8)))
    out = convert(torch.ones(1, 3, 32, 24), [sample])
    torch.testing.assert_close(out, torch.ones(1, 3, 32, 24))


def test_gray_images_stay_gray():
    from mmengine.model import ImgDataPreprocessor

    from mmcompress.distill.preprocessing import renormalize
    convert = renormalize(
        ImgDataPreprocessor(mean=[1.0], std=[1.0]),
        ImgDataPreprocessor(mean=[0.0], std=[2.0]))
    assert convert(torch.ones(2, 1, 8, 8), None).shape == (2, 1, 8, 8)


def test_calls_that_become_more_need_the_whole_forward():
    model = build(
        distill(
            teacher=dict(
                cfg=retinanet(),
                checkpoint=None,
                allow_random=True,
                stop_early=False)))
    data = batch(model)
    model(**data, mode='loss')
    model.distill.teacher._num_calls = {'neck': 1}
    ran = []
    model.distill.teacher.model.bbox_head.register_forward_hook(
        lambda *args: ran.append(1))
    head = model.distill.teacher.model.bbox_head
    original = head.forward
    head.forward = lambda *args: ran.append(1) or original(*args)
    model(**data, mode='loss')
    assert ran


def test_a_teacher_that_changes_its_input_leaves_the_students(monkeypatch):
    model = build(distill())
    model.init_weights()
    teacher = model.distill.teacher.model
    forward = teacher.backbone.forward
    monkeypatch.setattr(teacher.backbone, 'forward',
                        lambda x: forward(x.mul_(2)))
    data = batch(model)
    before = data['inputs'].clone()
    with detection_scope():
        model(**data, mode='loss')
    assert torch.equal(data['inputs'], before)
