from pathlib import Path

import pytest
import torch
from attention_transfer import AttentionTransferLoss
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmcompress.model.inputs import made_up_batch

CONFIG = Path(__file__).parents[1].joinpath(
    'configs', 'at_resnet18_resnet34_8xb32_in1k.py')


def pair(channels=3, **kwargs):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(2, channels, 4, 5, generator=generator, **kwargs)
    teacher = torch.randn(2, 7, 4, 5, generator=generator, **kwargs)
    return student, teacher


def test_equals_the_formula_image_by_image():
    student, teacher = pair(dtype=torch.double)
    expected = 0
    for s, t in zip(student, teacher):
        q_s, q_t = (x.square().sum(0) for x in (s, t))
        difference = q_s / q_s.norm() - q_t / q_t.norm()
        expected += 5.0 / 2 * difference.norm()**2 / 2
    loss = AttentionTransferLoss(beta=5.0)(student, teacher)
    torch.testing.assert_close(loss, expected)


def test_gradient_is_the_derivative():
    student, teacher = pair(dtype=torch.double)
    assert torch.autograd.gradcheck(AttentionTransferLoss(),
                                    (student.requires_grad_(), teacher))


def test_ignores_scale_sign_and_order_of_channels():
    student, teacher = pair(dtype=torch.double)
    loss = AttentionTransferLoss()
    torch.testing.assert_close(
        loss(-3 * student[:, [2, 0, 1]], teacher), loss(student, teacher))


def test_is_zero_with_a_gradient_of_zero_where_the_maps_agree():
    student, _ = pair()
    student.requires_grad_()
    loss = AttentionTransferLoss()(student, 2 * student.detach())
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert student.grad.abs().max() < 1e-6


def test_a_feature_of_zeros_gives_no_nan():
    _, teacher = pair()
    student = torch.zeros(2, 3, 4, 5, requires_grad=True)
    AttentionTransferLoss()(student, teacher).backward()
    assert student.grad.isfinite().all()


def test_half_precision_neither_overflows_nor_stays_half():
    student, teacher = (1000 * x for x in pair())
    loss = AttentionTransferLoss()(student.half(), teacher.half())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss, AttentionTransferLoss()(student, teacher), rtol=1e-2, atol=0)


def test_error_names_both_shapes():
    with pytest.raises(ValueError, match=r'\(1, 2, 4, 4\).*\(1, 2, 2, 2\)'):
        AttentionTransferLoss()(torch.zeros(1, 2, 4, 4),
                                torch.zeros(1, 2, 2, 2))


def test_tokens_are_no_map():
    tokens = torch.zeros(2, 17, 8)
    with pytest.raises(ValueError, match='must be maps'):
        AttentionTransferLoss()(tokens, tokens)


def test_no_image_adds_nothing():
    student = torch.zeros(0, 3, 4, 4, requires_grad=True)
    loss = AttentionTransferLoss()(student, torch.zeros(0, 5, 4, 4))
    loss.backward()
    assert loss == 0


def test_the_config_takes_a_step():
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({
        'model.teacher.checkpoint': None,
        'model.teacher.allow_random': True
    })
    # as a Runner does
    cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model).train()
        batch = made_up_batch(model, 'mmpretrain', (64, 64))
        losses = model(**batch, mode='loss')
    assert len(losses['loss_at']) == 3
    model.parse_losses(losses)[0].backward()
    assert model.backbone.conv1.weight.grad.isfinite().all()
