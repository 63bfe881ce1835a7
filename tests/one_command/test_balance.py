"""Losses are weighed by gradients, and nothing else notices."""
import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

import mmcompress.compat  # noqa: F401
from mmcompress.one_command.balance import (LEAST, MOST, Balanced, apply,
                                            balance)

KD = dict(
    type='mmcompress.KDLoss',
    student='head',
    teacher='head',
    tau=4.0,
    loss_weight=1.0)
NKD = dict(type='mmcompress.NKDLoss', student='head', teacher='head')


def classifier(width: int) -> dict:
    return dict(
        type='ImageClassifier',
        _scope_='mmpretrain',
        data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True),
        backbone=dict(
            type='ResNet',
            depth=18,
            num_stages=2,
            out_indices=(1, ),
            strides=(1, 2),
            dilations=(1, 1),
            stem_channels=width,
            base_channels=width),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=3,
            in_channels=2 * width,
            loss=dict(type='CrossEntropyLoss')))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('things')
    generator = np.random.RandomState(0)
    for name in 'abc':
        (root / name).mkdir()
        for i in range(4):
            pixels = generator.randint(256, size=(32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f'{i}.png')
    return root


def config(folder, losses: dict) -> Config:
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='mmcompress.Distill',
                student=classifier(4),
                teacher=dict(cfg=classifier(8), allow_random=True),
                losses=losses),
            train_dataloader=dict(
                batch_size=4,
                num_workers=2,
                persistent_workers=True,
                sampler=dict(type='DefaultSampler', shuffle=True),
                dataset=dict(
                    type='CustomDataset',
                    data_root=str(folder),
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='RandomFlip', prob=0.5),
                        dict(type='PackInputs')
                    ]))))


def measured(folder, **losses) -> list[Balanced]:
    return balance(config(folder, losses), batches=2)


def test_a_loss_times_c_gets_the_factor_divided_by_c(folder):
    plain, large = (
        measured(folder, loss_kd=dict(KD, loss_weight=weight))[0]
        for weight in (1e3, 5e4))
    assert plain.task_gradient == pytest.approx(large.task_gradient, rel=1e-3)
    assert large.gradient == pytest.approx(50 * plain.gradient, rel=1e-3)
    ratio = plain.gradient / plain.task_gradient
    assert plain.factor == pytest.approx(MOST / ratio, rel=1e-3)
    assert large.factor == pytest.approx(plain.factor / 50, rel=1e-3)


def test_balanced_losses_stay_as_they_are(folder):
    before = dict(
        loss_kd=dict(KD, loss_weight=1e4),
        loss_nkd=dict(NKD),
        loss_weak=dict(KD, loss_weight=1e-4))
    after = apply(before, measured(folder, **before))
    again = measured(folder, **after)
    assert [b.factor for b in again] == [1.0, 1.0, 1.0]
    for b in again:
        assert 0.9 * LEAST < b.gradient / b.task_gradient < 1.1 * MOST
    assert apply(after, again) == after


@pytest.mark.slow
@pytest.mark.gate
def test_the_largest_factor_of_a_schedule_counts(folder):
    warmup = dict(
        type='mmcompress.PiecewiseLinear', points=[[0, 0.0], [0.1, 2.0]])
    plain, = measured(folder, loss_kd=dict(KD))
    warmed, = measured(folder, loss_kd=dict(KD, schedule=warmup))
    assert warmed.gradient == pytest.approx(2 * plain.gradient, rel=1e-3)


def test_a_loss_without_a_gradient_is_said_in_words(folder):
    zero, = measured(folder, loss_kd=dict(KD, loss_weight=0.0))
    assert zero.factor == 1
    assert 'no gradient' in zero.sentence()


@pytest.mark.slow
@pytest.mark.gate
def test_random_numbers_go_on_as_if_nothing_had_been(folder):

    def states():
        return (torch.rand(1).item(), np.random.rand(), random.random())

    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = states()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    measured(folder, loss_kd=dict(KD))
    assert states() == expected


@pytest.mark.slow
@pytest.mark.gate
def test_it_measures_the_same_twice(folder):
    first, second = (measured(folder, loss_kd=KD)[0] for _ in range(2))
    assert first.gradient == pytest.approx(second.gradient, rel=1e-3)


def test_a_config_without_distillation_is_refused(folder):
    cfg = config(folder, dict(loss_kd=KD))
    cfg.model = classifier(4)
    with pytest.raises(ValueError, match='no distillation'):
        balance(cfg)


def test_weights_are_multiplied_together_and_nothing_else():
    fgd = dict(
        type='mmcompress.FGDLoss', student_channels=8, num_levels=5, temp=0.5)
    new = apply(dict(loss_fgd=fgd), [Balanced('loss_fgd', 4., 2., 0.5)])
    assert new['loss_fgd'] == dict(
        fgd,
        alpha_fgd=5e-4,
        beta_fgd=2.5e-4,
        gamma_fgd=5e-4,
        lambda_fgd=2.5e-6)
    assert 'alpha_fgd' not in fgd


def test_a_loss_without_a_weight_gets_a_constant_schedule():
    new = apply(dict(loss_nkd=NKD), [Balanced('loss_nkd', 4., 2., 0.5)])
    assert new['loss_nkd']['schedule'] == dict(
        type='mmcompress.PiecewiseLinear', points=[[0, 0.5]])


def test_what_can_not_be_multiplied_is_named():
    loss = dict(NKD, schedule=dict(type='mmcompress.IterWarmup', num_iters=5))
    with pytest.raises(ValueError, match='loss_nkd.*NKDLoss.*IterWarmup'):
        apply(dict(loss_nkd=loss), [Balanced('loss_nkd', 4., 2., 0.5)])
    with pytest.raises(KeyError, match='loss_x'):
        apply(dict(loss_nkd=NKD), [Balanced('loss_x', 4., 2., 0.5)])
