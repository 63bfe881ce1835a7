import copy
import socket

import pytest
import torch
from pruning.test_unit_masks import lower, masked, packed_attention, x
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from mmcompress.compat import close_process_group
from mmcompress.pruning import (MaskGradients, add_masks, find_units,
                                masked_units)


def masks(model):
    return list(dict.fromkeys(mask for _, mask in masked_units(model)))


def searched():
    """A model in float64 whose masks are 1 and 0.5, and its gradients."""
    model = masked().double()
    lower(model)
    return model, MaskGradients(model)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=.1)


def loss(model, inputs=None):
    return model(x() if inputs is None else inputs, mode='loss')['loss']


def by_autograd(model, inputs=None):
    """The masks' gradients, and none of the parameters'."""
    model = copy.deepcopy(model)
    values = [mask.value.requires_grad_() for mask in masks(model)]
    return torch.autograd.grad(loss(model, inputs), values)


def sums(model):
    return [mask.gradient for mask in masks(model)]


def test_they_are_the_derivatives():
    model, gradients = searched()
    optimizer = sgd(model)
    expected = by_autograd(model)
    loss(model).backward()
    optimizer.step()
    torch.testing.assert_close(sums(model), list(expected))
    # and are summed
    later = by_autograd(model)
    optimizer.zero_grad()
    loss(model).backward()
    optimizer.step()
    expected = [a + b for a, b in zip(expected, later)]
    torch.testing.assert_close(sums(model), expected)
    assert gradients.num_steps == 2


def test_they_are_the_derivatives_in_torchs_attention():
    attn, tokens = packed_attention()
    attn, tokens = attn.double(), tokens.double()
    add_masks(attn, find_units(attn))
    attn.unit_mask.value[1] = .25
    gradients = MaskGradients(attn)
    twin = copy.deepcopy(attn)
    value = twin.unit_mask.value.requires_grad_()
    expected, = torch.autograd.grad(
        twin(tokens, tokens, tokens)[0].square().sum(), value)
    attn(tokens, tokens, tokens)[0].square().sum().backward()
    gradients.before_step()
    torch.testing.assert_close(attn.unit_mask.gradient, expected)


def test_a_step_counts_once_however_its_gradients_came():
    model, gradients = searched()
    expected = by_autograd(model)
    for part in x().split(1):
        (loss(model, part) / 4).backward()
    sgd(model).step()
    torch.testing.assert_close(sums(model), list(expected))
    assert gradients.num_steps == 1


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_activation_checkpointing_changes_nothing(use_reentrant):
    model, _gradients = searched()
    expected = by_autograd(model)
    inputs = x().double().requires_grad_()
    checkpoint(
        lambda x: loss(model, x), inputs,
        use_reentrant=use_reentrant).backward()
    sgd(model).step()
    torch.testing.assert_close(sums(model), list(expected))


def test_the_scale_of_amp_is_not_in_them():
    model, _gradients = searched()
    expected = by_autograd(model)
    scaler = torch.amp.GradScaler('cpu', init_scale=256.)
    scaler.scale(loss(model)).backward()
    scaler.step(sgd(model))
    torch.testing.assert_close(sums(model), list(expected))


def test_a_step_that_amp_skips_does_not_count():
    model, gradients = searched()
    scaler = torch.amp.GradScaler('cpu', init_scale=256.)
    scaler.scale(loss(model)).backward()
    model.blocks[1].fc2.weight.grad[0, 0] = torch.inf
    scaler.step(sgd(model))
    assert not gradients.num_steps and not sums(model)[0].any()


def test_a_step_that_is_not_finite_counts_for_no_mask():
    model, gradients = searched()
    loss(model).backward()
    model.blocks[1].fc1.weight.grad[0, 0] = torch.nan
    sgd(model).step()
    assert gradients.num_dropped == 1
    assert not any(gradient.any() for gradient in sums(model))


def test_a_mask_of_0_gets_none():
    model = masked()
    lower(model, 0)
    _gradients = MaskGradients(model)  # noqa: F841
    loss(model).backward()
    sgd(model).step()
    for gradient in sums(model):
        assert not gradient[::2].any() and gradient[1::2].all()


def test_what_was_derived_is_what_counts():
    model, gradients = searched()
    expected = by_autograd(model)
    loss(model).backward()
    gradients.derive()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    sgd(model).step()
    torch.testing.assert_close(sums(model), list(expected))


def test_what_was_not_trained_adds_nothing():
    model, gradients = searched()
    loss(model).backward()
    for key in 'qkv':
        for parameter in getattr(model.blocks[0], key).parameters():
            parameter.grad = None
    sgd(model).step()
    assert gradients.num_steps == 1
    assert not sums(model)[0].any() and sums(model)[1].all()


def _step_in_a_process(rank, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    model, _gradients = searched()
    parallel = DistributedDataParallel(model)
    parallel(x()[2 * rank:][:2], mode='loss')['loss'].backward()
    sgd(model).step()
    torch.save(sums(model), f'{folder}/{rank}.pth')
    close_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path):
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    # not forked: threads that other tests started would be missing there
    torch.multiprocessing.spawn(
        _step_in_a_process, (port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f'{i}.pth') for i in range(2))
    assert all(a.equal(b) for a, b in zip(first, second))
    torch.testing.assert_close(first, list(by_autograd(searched()[0])))
