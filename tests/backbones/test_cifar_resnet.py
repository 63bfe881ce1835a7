import pytest
import torch

import mmcompress.compat  # noqa: F401
from mmcompress.registry import MODELS


def build(depth, **kwargs):
    torch.manual_seed(0)
    return MODELS.build(dict(type='CifarResNet', depth=depth, **kwargs))


# of the paper, in millions; with the shortcuts and without the classifier
@pytest.mark.parametrize('depth, millions', [(20, 0.27), (56, 0.85)])
def test_has_the_papers_size(depth, millions):
    model = build(depth)
    num_convs = sum(
        isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)
        for m in model.modules())
    # the last layer is the classifier
    assert num_convs == depth - 1
    num_parameters = sum(p.numel() for p in model.parameters())
    assert num_parameters / 1e6 == pytest.approx(millions, abs=0.01)


def test_its_stages():
    model = build(20, out_indices=(0, 1, 2))
    shapes = [tuple(x.shape) for x in model(torch.rand(2, 3, 32, 32))]
    assert shapes == [(2, 16, 32, 32), (2, 32, 16, 16), (2, 64, 8, 8)]
    assert len(build(20)(torch.rand(1, 3, 32, 32))) == 1


def test_unknown_depths_are_refused():
    with pytest.raises(KeyError, match='18'):
        build(18)
