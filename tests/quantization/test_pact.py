import copy

import pytest
import torch

from mmcompress.quantization import PACT


def trained(quantizer, *batches):
    """The gradient that a step uses."""
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.1)
    before = quantizer.alpha.detach().clone()
    for x in batches:
        quantizer(x).sum().backward()
    optimizer.step()
    return (before - quantizer.alpha.detach()) / 0.1


def test_the_penalty_is_added_once_per_step():
    # 6 and 7 are clipped at 2
    x = torch.tensor([1., 6, 7])
    for quantizer in (PACT(4, alpha=2., penalty=0.1),
                      copy.deepcopy(PACT(4, alpha=2., penalty=0.1))):
        torch.testing.assert_close(
            trained(quantizer, x, x), torch.tensor([2 * 2 + 2 * 0.1 * 2]))


def test_a_step_without_a_gradient_has_no_penalty():
    quantizer = PACT(4)
    torch.optim.SGD(quantizer.parameters(), lr=0.1).step()
    assert quantizer.alpha == 6


def test_needs_no_data():
    with torch.no_grad():
        y = PACT(2, alpha=3.)(torch.tensor([-1., 0.4, 0.6, 2.4, 5]))
    assert y.tolist() == [0, 0, 1, 2, 3]


@pytest.mark.parametrize('options', [dict(alpha=0.), dict(penalty=-1.)])
def test_refuses_what_clips_nothing(options):
    with pytest.raises(ValueError, match='alpha must be positive'):
        PACT(4, **options)
