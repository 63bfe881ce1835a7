import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmcompress.analysis.throughput import throughput, without_merging

MERGE = dict(type='mmcompress.MergeTokens', r=8)
OTHER = dict(type='mmcompress.ReplaceLayers', layers={})


class Model(nn.Module):
    """Counts its calls, each of which takes a second."""
    calls = 0

    def forward(self, inputs, mode):
        """Do nothing."""
        assert mode == 'tensor' and not torch.is_grad_enabled()
        self.calls += 1
        self.dtype = torch.matmul(inputs, inputs).dtype


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_first_quarter_does_not_count(dtype):
    model, read = Model(), []

    def clock():
        read.append(model.calls)
        # slow until it is warm
        return 0 if model.calls == 10 else 5 * (model.calls - 10)

    speed = throughput(model, dict(inputs=torch.ones(3, 2, 2)), clock,
                       dtype=dtype)  # yapf: disable
    assert model.calls == 40 and read == [10, 40]
    assert speed == pytest.approx(3 / 5)
    assert model.dtype is dtype


def test_only_what_merges_is_taken_out_wherever_it_is():
    inner = dict(
        type='mmcompress.Compress', model=dict(), steps=[OTHER, MERGE])
    cfg = Config(dict(model=dict(type='mmcompress.Distill', student=inner)))
    dense = without_merging(cfg)
    assert dense.model.student.steps == [OTHER]
    assert cfg.model.student.steps == [OTHER, MERGE]
    assert without_merging(dense) is None
