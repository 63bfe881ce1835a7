"""Adapter of the fixtures of gradient filtering."""
import torch
from golden import Case
from gradient_filter import gradient_filter_conv2d
from torch import Tensor


def _correction(case: Case) -> dict:
    """The official rule, of most fixtures, over-scales with a stride."""
    return dict(stride_correction=case.hyper.get('stride_correction', False))


def _pair(value) -> tuple[int, int] | str:
    if isinstance(value, str):
        return value
    return (value, value) if isinstance(value, int) else tuple(value)


def _leaf(case: Case, key: str) -> Tensor | None:
    return case[key].clone().requires_grad_() if key in case else None


def _conv(case: Case) -> dict[str, Tensor]:
    hyper = case.hyper
    leaves = {
        key: _leaf(case, f'{"in" if key == "x" else "param"}/{key}')
        for key in ('x', 'weight', 'bias')
    }
    options = {
        key: _pair(hyper.get(key, default))
        for key, default in (('stride', 1), ('padding', 0), ('dilation', 1))
    }
    y = gradient_filter_conv2d(
        **leaves,
        **options,
        groups=hyper.get('groups', 1),
        patch=hyper['patch'],
        **_correction(case))
    y.backward(case['in/grad_y'])
    result = {
        f'grad/{key}': leaf.grad
        for key, leaf in leaves.items() if leaf is not None
    }
    x, weight, bias = (
        leaf if leaf is None else leaf.detach().clone()
        for leaf in leaves.values())
    exact = [x.requires_grad_(), weight.requires_grad_()]
    ordinary = torch.nn.functional.conv2d(
        *exact, bias, **options, groups=hyper.get('groups', 1))
    ordinary.backward(case['in/grad_y'])
    return result | {
        'out/y': y,
        'out/exact_grad_x': x.grad,
        'out/exact_grad_weight': weight.grad
    }


def _chain(case: Case) -> dict[str, Tensor]:
    x = _leaf(case, 'in/x')
    y, leaves = x, {'x': x}
    for i in (1, 2):
        weight, bias = (
            _leaf(case, f'param/conv{i}.{n}') for n in ('weight', 'bias'))
        if i == 2:
            y = y.relu()
        y = gradient_filter_conv2d(
            y,
            weight,
            bias,
            padding=tuple(k // 2 for k in weight.shape[2:]),
            patch=case.hyper['patch'],
            **_correction(case))
        leaves |= {f'conv{i}.weight': weight, f'conv{i}.bias': bias}
    loss = y.square().mean()
    loss.backward()
    return {
        f'grad/{key}': leaf.grad
        for key, leaf in leaves.items() if leaf is not None
    } | {
        'out/y': y,
        'out/loss': loss
    }


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    run_kind = dict(conv=_conv, chain=_chain).get(case.kind)
    return run_kind and run_kind(case)
