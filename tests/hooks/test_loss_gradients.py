import pytest
import torch
from hooks.toy_runner import ToyModel, toy_runner
from torch import nn

import mmcompress.compat  # noqa: F401
from mmcompress.distill import DistillLoss
from mmcompress.distill.gradient_norms import gradient_norms, short_name
from mmcompress.hooks import LossGradientHook
from mmcompress.registry import MODELS


@MODELS.register_module(force=True)
class ToySelfLoss(DistillLoss):
    """Three times the sum of what is tapped."""

    def forward(self, student):
        return 3 * student.sum()


class Student(ToyModel):
    """A model whose ``loss`` a distiller can replace."""

    def loss(self, inputs, data_samples=None):
        out = self.norm(self.linear(inputs))
        return dict(loss_toy=(out - 1).square().mean(), acc=out.detach().sum())

    def forward(self, inputs, mode='tensor'):
        if mode == 'loss':
            return self.loss(inputs)
        return super().forward(inputs, mode)


CFG = dict(
    type='mmcompress.Distill',
    student=dict(type=Student),
    losses=dict(
        loss_self=dict(type='mmcompress.ToySelfLoss', student='linear')))


def run(folder, interval=4, **kwargs):
    messages = []
    runner = toy_runner(
        folder,
        hooks=[dict(type='mmcompress.LossGradientHook', interval=interval)],
        val=False,
        **kwargs)
    runner.logger.info, info = messages.append, runner.logger.info
    try:
        runner.train()
    finally:
        runner.logger.info = info
    tables = [m for m in messages if 'gradients' in str(m)]
    return runner, tables


def test_logs_a_table_every_interval(tmp_path):
    runner, tables = run(tmp_path, model=CFG)
    assert len(tables) == 4
    assert 'iteration 4\n' in tables[0] and 'iteration 16\n' in tables[3]
    assert 'loss_self' in tables[0] and 'loss_toy' in tables[0]
    assert 'gradient at self' in tables[0]
    assert 'acc' not in tables[0]
    # 3 in each of the 2 x 2 outputs
    row, = [x for x in tables[0].splitlines() if 'loss_self' in x]
    assert row.split('|')[3].strip() == '6'


def test_measures_only_in_those_steps(tmp_path):
    runner, _ = run(tmp_path, model=CFG)
    history = runner.message_hub.get_scalar('train/gradient.self@self')
    assert history.data[0].tolist() == [6.0] * 4
    assert not runner.model.distill.log_gradients


def test_measuring_changes_nothing(tmp_path):
    often, _ = run(tmp_path / 'a', interval=1, model=CFG)
    never, tables = run(tmp_path / 'b', interval=100, model=CFG)
    assert not tables
    for a, b in zip(often.model.parameters(), never.model.parameters()):
        assert torch.equal(a, b)


def test_a_model_without_a_distiller_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='Distill.*ToyModel has not'):
        run(tmp_path)


def test_needs_no_run_to_be_built():
    assert LossGradientHook().interval == 50


def test_norms_are_those_of_the_derivatives():
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    y = torch.ones(2, requires_grad=True)
    norms = gradient_norms(
        dict(
            loss_a=x.square().sum() / 2,
            loss_b=[2 * x.sum(), y.sum()],
            loss=[x.square().mean()],
            acc=x.sum(),
            loss_constant=torch.ones(())),
        dict(loss_x=[x], loss_both=(x, [y])))
    expected = {
        'gradient.a@x': 5.0,
        'gradient.a@both': 5.0,
        'gradient.b@x': 8**0.5,
        'gradient.b@both': 10**0.5,
        'gradient.task@x': 5.0,
        'gradient.task@both': 5.0,
    }
    assert {k: v.item() for k, v in norms.items()} == pytest.approx(expected)
    assert not any(v.requires_grad for v in norms.values())
    assert x.grad is None and y.grad is None


def test_a_loss_that_does_not_reach_a_tap_has_no_gradient_there():
    x, y = (torch.ones(2, requires_grad=True) for _ in range(2))
    norms = gradient_norms(dict(loss_y=y.sum()), dict(loss_x=x))
    assert norms['gradient.y@x'] == 0


def test_parameters_get_no_gradient():
    layer = nn.Linear(2, 2)
    out = layer(torch.ones(1, 2))
    loss = out.sum()
    gradient_norms(dict(loss_a=loss), dict(loss_a=out))
    assert layer.weight.grad is None
    loss.backward()
    assert layer.weight.grad is not None


def test_half_precision_does_not_overflow():
    # 300 squared is more than half precision can hold
    x = torch.ones(4, dtype=torch.half, requires_grad=True)
    norms = gradient_norms(
        dict(loss_a=(300 * x).float().sum()), dict(loss_a=x))
    assert norms['gradient.a@a'].dtype == torch.float32
    assert norms['gradient.a@a'] == 600


@pytest.mark.parametrize('name, short', [
    ('loss_cls', 'cls'),
    ('loss', 'task'),
    ('d0.loss_bbox', 'd0.bbox'),
    ('decode.loss_ce', 'decode.ce'),
])
def test_short_names_do_not_count_as_losses(name, short):
    assert short_name(name) == short
