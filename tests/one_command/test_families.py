"""Each kind of network finds its recipe, which trains."""
import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from quantization import small_models

import mmcompress.compat  # noqa: F401
from mmcompress.one_command.distillation import distillation
from mmcompress.one_command.families import Family, find_family, table
from mmcompress.one_command.low_bit import BITS, shorten, steps_for_bits
from mmcompress.registry import STEPS

KINDS = dict(
    retinanet='one-stage detector',
    rtmdet='one-stage detector',
    faster_rcnn='two-stage detector',
    detr='DETR',
    deformable_detr='DETR',
    resnet='CNN classifier',
    mobilenet_v2='CNN classifier',
    deit='vision transformer',
    swin='hierarchical transformer',
    upernet_swin='transformer segmenter',
    segformer='transformer segmenter',
    mmseg_vit='transformer segmenter',
    rtmpose='SimCC pose',
    vitpose='transformer pose')
FAST = ('retinanet', 'deit')


def each(*names):
    return [
        name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
        for name in names or KINDS
    ]


def config(name: str) -> Config:
    return Config(
        dict(
            default_scope=small_models.scope_of(name),
            model=small_models.config(name)))


def changed(name: str, changes: dict) -> tuple[Config, torch.nn.Module]:
    cfg = config(name)
    cfg.merge_from_dict(dict(model=changes))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return cfg, MODELS.build(copy.deepcopy(cfg.model))


def learn(name: str, teacher: Config, losses: dict) -> dict:
    """A training step; gradients reach the student."""
    scope = small_models.scope_of(name)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(
            dict(
                type='mmcompress.Distill',
                student=small_models.config(name),
                teacher=dict(
                    cfg=dict(teacher.model, _scope_=scope), allow_random=True),
                losses=copy.deepcopy(losses)))
        model.train()
        batch = small_models.batch_of(name, small_models.build(name))
        result = model(**batch, mode='loss')
        total, _ = model.parse_losses(result)
    total.backward()
    assert torch.isfinite(total)
    return result


@pytest.mark.parametrize('name', each())
def test_a_recipe_is_found_and_trains(name):
    model, cfg = small_models.build(name), config(name)
    family = find_family(cfg, model)
    assert family.name == KINDS[name]
    before = copy.deepcopy(model.state_dict())
    made = distillation(family, None, cfg, model, cfg, model)
    torch.testing.assert_close(model.state_dict(), before)
    assert made.recipe in family.recipes and family.evidence in made.why
    result = learn(name, cfg, made.losses)
    for key in made.losses:
        assert any(k == key or k.startswith(f'{key}.') for k in result)


@pytest.mark.parametrize('onnx', [False, True])
@pytest.mark.parametrize('bits', BITS)
@pytest.mark.parametrize('name', each())
def test_steps_for_bits_change_the_model(name, bits, onnx):
    model, cfg = small_models.build(name), config(name)
    if name == 'rtmpose' and bits == '1':
        pytest.skip('its small twin has hardly a layer of 32 channels')
    made = steps_for_bits(find_family(cfg, model), bits, model, for_onnx=onnx)
    kinds = {type(m) for m in model.modules()}
    for step in made.steps:
        STEPS.build(copy.deepcopy(step))(model)
    assert {type(m) for m in model.modules()} - kinds
    assert all(made.stays_float.values())


def test_a_wider_teacher_with_other_levels_is_adapted():
    """Strides 8, 16, ... of the student; 4, 8, 16, ... of the teacher."""
    student, cfg = small_models.build('retinanet'), config('retinanet')
    teacher_cfg, teacher = changed(
        'retinanet',
        dict(
            neck=dict(start_level=0, out_channels=24, num_outs=6),
            bbox_head=dict(in_channels=24)))
    teacher_cfg.model.bbox_head.anchor_generator.strides = [
        4, 8, 16, 32, 64, 128
    ]
    family = find_family(cfg, student)
    made = distillation(family, 'fgd', cfg, student, teacher_cfg, teacher)
    loss = made.losses['loss_fgd']
    assert (loss['student'], loss['teacher']) == ('neck', 'neck[1:6]')
    assert loss['student_channels'] == 16
    assert loss['teacher_channels'] == 24


def test_other_classes_fall_back_with_the_reason():
    student, cfg = small_models.build('deit'), config('deit')
    teacher_cfg, teacher = changed('deit', dict(head=dict(num_classes=7)))
    family = find_family(cfg, student)
    made = distillation(family, None, cfg, student, teacher_cfg, teacher)
    assert made.recipe == 'vitkd'
    assert 'not vitkd_nkd: head of the student gives 1000 classes, head of ' \
        'the teacher 7 classes' in made.why
    with pytest.raises(ValueError, match='7 classes.*what fits: vitkd$'):
        distillation(family, 'nkd', cfg, student, teacher_cfg, teacher)


def test_another_task_is_refused():
    student, cfg = small_models.build('deit'), config('deit')
    teacher, other = small_models.build('retinanet'), config('retinanet')
    with pytest.raises(ValueError, match='for classification.*for detection'):
        distillation(
            find_family(cfg, student), None, cfg, student, other, teacher)


def test_an_unknown_recipe_lists_those_that_there_are():
    model, cfg = small_models.build('deit'), config('deit')
    with pytest.raises(ValueError, match="'fgd'.*vitkd_nkd, vitkd, nkd, kd"):
        distillation(find_family(cfg, model), 'fgd', cfg, model, cfg, model)


def test_a_model_of_no_known_task_is_refused():
    cfg = Config(dict(model=dict(type='Thing'), default_scope='things'))
    with pytest.raises(ValueError, match='Thing.*things.*detection'):
        find_family(cfg, torch.nn.Conv2d(1, 1, 1))


def test_every_family_names_recipes_and_bits_that_there_are():
    rows = table()
    for row in rows['families']:
        wanted = [*row['recipes'], *row.get('other_family', [])]
        assert set(wanted) <= set(rows['recipes'])
        assert row['one_bit'] in rows['one_bit']
        assert row['ternary'] in rows['ternary']
        assert row['task'] in rows['tasks'] and row['evidence']


def test_what_stays_float_with_1_bit_has_a_reason():
    model, cfg = small_models.build('retinanet'), config('retinanet')
    made = steps_for_bits(
        find_family(cfg, model), '1', model, ['backbone.layer4.1'])
    reasons = made.stays_float
    assert reasons['backbone.conv1'] == 'sees the image'
    assert reasons['backbone.layer4.1'] == 'asked for'
    assert 'gives the predictions' in reasons.values()
    assert 'a 1x1 shortcut, which hands on real values' in reasons.values()
    # mmdet's configs freeze a stage and all norms
    assert made.model == dict(backbone=dict(norm_eval=False, frozen_stages=0))


@pytest.mark.parametrize('bits', BITS)
def test_what_only_trains_stays_float(bits):
    model, cfg = small_models.build('retinanet'), config('retinanet')
    model.auxiliary_head = torch.nn.Sequential(torch.nn.Conv2d(64, 64, 3))
    made = steps_for_bits(find_family(cfg, model), bits, model)
    assert made.stays_float['auxiliary_head'] == 'only helps in training'
    STEPS.build(copy.deepcopy(made.steps[0]))(model)
    assert type(model.auxiliary_head[0]) is torch.nn.Conv2d


def test_bad_bits_and_patterns_are_refused():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
    family = Family('CNN classifier', 'classification', [], '')
    with pytest.raises(ValueError, match="'2' is none of 8, w4a8"):
        steps_for_bits(family, '2', model)
    with pytest.raises(ValueError, match="'nek' selects no module"):
        steps_for_bits(family, '8', model, ['nek'])
    with pytest.raises(ValueError, match='can have 1 bit: sees the image'):
        steps_for_bits(family, '1', model)


def test_patterns_select_these_layers_and_no_others():
    names = [f'b.layer{i}.{j}.conv1' for i in (1, 2) for j in (0, 1)]
    assert shorten(names, ['b.layer1.0.conv2']) == ['*.conv1']
    assert shorten(names[:2], names[2:]) == ['b.layer1']
