"""Merged tokens as an object that others take for a tensor."""
import copy
import operator
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmcompress.tokens import Tokens

OTHER = torch.linspace(-1, 1, 40).view(2, 5, 4)
WEIGHT = torch.linspace(-1, 1, 16).view(4, 4)


def tokens() -> Tokens:
    """Five of each image, of which three are left."""
    torch.manual_seed(0)
    group = torch.tensor([[0, 1, 2, 1, 2], [0, 2, 2, 1, 1]])
    mass = torch.tensor([[1., 2., 2.], [1., 2., 2.]]).unsqueeze(-1)
    return Tokens(torch.randn(2, 3, 4), mass, group, (0, ))


LOOKS = {
    'left of an operator': lambda t: (t + OTHER, t - 1, t * 2, t / 2, t**2,
                                      t // 1, t % 1, t @ WEIGHT),
    'right of an operator': lambda t: (OTHER + t, 1 - t, 2 * t, 2 / t, 2**t,
                                       OTHER * t),
    'both sides': lambda t: t * t - t,
    'signs': lambda t: (-t, +t, abs(t)),
    'comparisons': lambda t: (t == 0, t != OTHER, t > 0, t <= OTHER, 0 < t),
    'indices': lambda t: (t[:, 0], t[:, -1], t[:, 1:], t[..., 0], t[0],
                          t[:, True], t[:, None], t[np.array([0, 1]), 1]),
    'loops': lambda t: (torch.stack(list(t)), torch.stack([*reversed(t)])),
    'lists': lambda t: (torch.stack([t, OTHER]), torch.cat((t, OTHER), 1)),
    'keywords': lambda t: (F.linear(input=t, weight=WEIGHT), F.gelu(input=t),
                           F.layer_norm(input=t, normalized_shape=(4, ))),
    'other places': lambda t: (F.linear(OTHER, t[0]), torch.where(
        OTHER > 0, t, 0.), torch.einsum('ij,bnj->bni', WEIGHT, t)),
    'per token': lambda t: (F.layer_norm(t, (4, ), WEIGHT[0]), F.rms_norm(
        t, (4, )), F.linear(t, WEIGHT), F.relu(t), F.silu(t)),
    'over tokens': lambda t: (F.layer_norm(t, (5, 4)), F.rms_norm(t, (5, 4)),
                              F.batch_norm(t, None, None, training=True),
                              F.group_norm(t, 1), t.softmax(1), t.mean(1)),
    'kinds': lambda t: (t.double(), t.half(), t.to(torch.bfloat16),
                        t.detach(), t.contiguous()),
    'arrays': lambda t: torch.from_numpy(np.asarray(t)),
    'written to another': lambda t: OTHER.clone().add_(t),
}  # yapf: disable


def tensors(value) -> list[torch.Tensor]:
    if isinstance(value, tuple):
        return [t for item in value for t in tensors(item)]
    return [value.full() if isinstance(value, Tokens) else value]


@pytest.mark.parametrize('look', LOOKS)
def test_looks_like_the_full_sequence(look):
    seen = tensors(LOOKS[look](tokens()))
    for a, b in zip(seen, tensors(LOOKS[look](tokens().full())), strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)


@pytest.mark.parametrize('function', [
    lambda t: F.layer_norm(t, (4, )), lambda t: F.gelu(input=t),
    lambda t: F.linear(t, WEIGHT), lambda t: F.dropout(t, 0.5, True)
])
def test_what_treats_each_token_alone_keeps_them_merged(function):
    merged = function(tokens())
    assert merged.x.shape == (2, 3, 4)
    assert torch.equal(merged.mass, tokens().mass)


def assign(t, value) -> None:
    t.requires_grad = value


@pytest.mark.parametrize(
    'change, name',
    [(lambda t: t.add_(1), 'add_'), (lambda t: torch.relu_(t), 'relu_'),
     (lambda t: torch.nn.init.zeros_(t), 'zero_'),
     (lambda t: operator.iadd(t, 1), '__iadd__'),
     (lambda t: operator.imul(t, 2), '__imul__'),
     (lambda t: operator.setitem(t, (slice(None), 0), 0), '__setitem__'),
     (lambda t: torch.add(OTHER, 1, out=t), 'out='),
     (lambda t: t.requires_grad_(), 'requires_grad_'),
     (lambda t: assign(t, True), 'requires_grad ='),
     (lambda t: t.register_hook(print), 'register_hook'),
     (lambda t: t.retain_grad(), 'retain_grad'), (lambda t: t.grad, 'grad')])
def test_a_change_that_would_be_lost_is_refused(change, name):
    with pytest.raises(TypeError, match=f"'{name}' on merged tokens.*clone"):
        change(tokens())


def test_several_values_are_not_one_truth():
    with pytest.raises(RuntimeError, match='ambiguous'):
        bool(tokens())


@pytest.mark.parametrize(
    'copied',
    [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_are_equal(copied):
    other, t = copied(tokens()), tokens()
    assert torch.equal(other.full(), t.full())
    assert torch.equal(other.mass, t.mass) and other.protected == (0, )
