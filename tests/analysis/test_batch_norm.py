import pytest
import torch
import torch.nn as nn

from mmcompress.analysis.batch_norm import reestimate_statistics
from mmcompress.binary import IDaDetConv2d


class Model(nn.Module):
    """Convolution, norm, dropout; one norm is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = IDaDetConv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4, momentum=0.3)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.BatchNorm1d(4)
        self.unused = nn.BatchNorm2d(4)
        self.modes = []

    def data_preprocessor(self, batch, training):
        """Scale, as mm models do before their forward."""
        self.modes.append(training)
        return dict(inputs=batch['inputs'] / 2)

    def forward(self, inputs, mode):
        """Shape (N, 3, H, W) to (N, 4)."""
        assert mode == 'tensor'
        x = self.dropout(self.norm(self.conv(inputs)))
        return self.last(x.mean((2, 3)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Model()
    for norm in (model.norm, model.last, model.unused):
        norm.running_mean.normal_()
        norm.running_var.uniform_()
    return model


def batches(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [
        dict(inputs=torch.randn(size, 3, 6, 6, generator=generator))
        for size in sizes
    ]


def test_statistics_are_the_averages_over_batches(model):
    data = batches(4, 4, 6)
    assert reestimate_statistics(model, data) == ['norm', 'last']
    features = [model.conv(batch['inputs'] / 2) for batch in data]
    means = torch.stack([x.mean((0, 2, 3)) for x in features])
    variances = torch.stack([x.var((0, 2, 3)) for x in features])
    torch.testing.assert_close(model.norm.running_mean, means.mean(0))
    torch.testing.assert_close(model.norm.running_var, variances.mean(0))
    assert model.norm.num_batches_tracked == 3
    # the norm normalised by its batch, without dropout
    outputs = torch.stack([
        nn.functional.batch_norm(x, None, None, training=True).mean((0, 2, 3))
        for x in features
    ])
    torch.testing.assert_close(model.last.running_mean, outputs.mean(0))


def test_nothing_else_changes(model):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    reestimate_statistics(model, batches(4, 4))
    changed = [
        key for key, value in model.state_dict().items()
        if not torch.equal(value, before[key])
    ]
    assert changed == [
        f'{norm}.{name}' for norm in ('norm', 'last')
        for name in ('running_mean', 'running_var', 'num_batches_tracked')
    ]
    assert model.norm.momentum == 0.3
    assert not any(module.training for module in model.modules())
    assert model.modes == [False, False]


def test_a_second_time_gives_the_same(model):
    data = batches(4, 5)
    reestimate_statistics(model, data)
    before = model.norm.running_var.clone()
    reestimate_statistics(model, data)
    assert torch.equal(model.norm.running_var, before)


def test_a_model_without_batch_norms_is_refused():
    with pytest.raises(ValueError, match='Conv2d has no batch norm'):
        reestimate_statistics(nn.Conv2d(3, 4, 3), batches(2))


def test_no_batches_are_refused_and_change_nothing(model):
    before = model.norm.running_mean.clone()
    with pytest.raises(ValueError, match='no batches'):
        reestimate_statistics(model, [])
    assert torch.equal(model.norm.running_mean, before)
