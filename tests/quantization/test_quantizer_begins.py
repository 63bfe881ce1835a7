"""What quantizers begin with: data, or the scales of a checkpoint."""
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from mmcompress.quantization import LSQ


def begun(**options):
    quantizer = LSQ(**{'bits': 4, **options})
    quantizer(torch.randn(8, 4))
    return quantizer


@pytest.mark.parametrize(
    'options, words', [
        (dict(bits=2), 'of 4 bits, not 2'),
        (dict(axis=0, size=8), 'with 1 values of scale, not 8'),
        (dict(signed=False), 'with signed=True, not False'),
        (dict(offset='beta'), 'without beta'),
    ],
    ids=['bits', 'size', 'sign', 'offset'])
def test_scales_of_another_quantizer_are_refused_in_words(options, words):
    state = begun().state_dict()
    with pytest.raises(RuntimeError, match=words):
        # mmengine only warns of what doesn't fit
        LSQ(**{'bits': 4, **options}).load_state_dict(state, strict=False)


def test_what_has_not_begun_says_nothing_of_others():
    LSQ(2).load_state_dict(LSQ(4).state_dict())


def test_scales_of_older_files_load():
    state = begun().state_dict()
    del state['stored_bits']
    quantizer = LSQ(4)
    quantizer.load_state_dict(state)
    assert quantizer.is_initialized


@pytest.mark.parametrize('factor', [1., 1e-6])
def test_the_sign_does_not_depend_on_the_unit(factor):
    x = factor * torch.tensor([-1., 0.5, 1.])
    noise = factor * torch.tensor([-1e-6, 0.5, 1.])
    quantizer, other = LSQ(4), LSQ(4)
    quantizer(x)
    other(noise)
    assert quantizer.is_signed and not other.is_signed


@pytest.mark.parametrize('use_reentrant', [False, True])
def test_begins_in_what_is_recomputed(use_reentrant):
    x = torch.randn(8, 4, requires_grad=True)
    quantizer = LSQ(4)
    checkpoint(
        quantizer, x, use_reentrant=use_reentrant).square().sum().backward()
    plain = begun()
    plain.load_state_dict(quantizer.state_dict())
    other = x.detach().requires_grad_()
    plain(other).square().sum().backward()
    assert torch.equal(x.grad, other.grad)
    assert torch.equal(quantizer.scale.grad, plain.scale.grad)
