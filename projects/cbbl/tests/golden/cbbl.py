"""C-BBL: the loss of a set of coordinates, and perturbed levels."""
import torch
import torch.nn.functional as F
from cbbl import (TwoHotLocalizationLoss, cross_entropy, entropy,
                  label_entropy, make_grid, perturbations, two_hot)
from golden import Case
from torch import Tensor


def _loss(case: Case,
          like: Tensor,
          loss_weight: float = 1.0) -> TwoHotLocalizationLoss:
    """The loss of a fixture, with its grid in the precision of an input."""
    hyper = case.hyper
    loss = TwoHotLocalizationLoss(
        alpha=hyper['alpha'],
        n=hyper['n'],
        beta=hyper.get('beta'),
        one_sided=hyper.get('one_sided', False),
        lambda_um=hyper.get('lambda_um', 0.5),
        um_mode=hyper.get('um_mode', 'min'),
        loss_weight=loss_weight)
    loss.grid = make_grid(**loss.settings, dtype=like.dtype)
    return loss


def _optional(case: Case, key: str) -> Tensor | None:
    return case[key] if key in case else None


def _run_loss(case: Case) -> dict[str, Tensor]:
    """Every part for each coordinate, the loss and its gradient."""
    loss = _loss(case, case['in/logits'], case.hyper.get('loss_weight', 1.0))
    target = case['in/target']
    logits = case['in/logits'].clone().requires_grad_()
    left, label = two_hot(target, loss.grid)
    value = loss(logits, target, _optional(case, 'in/weight'),
                 _optional(case, 'in/avg_factor'))
    grad, = torch.autograd.grad(value, logits)
    return {
        'out/grid': loss.grid,
        'out/two_hot': label,
        'out/left_index': left,
        'out/ce': cross_entropy(logits, label),
        'out/entropy': entropy(logits),
        'out/label_entropy': label_entropy(label),
        'out/decoded': loss.decode(logits),
        'out/loss': value,
        'grad/logits': grad
    }


def _terms(case: Case, loss: TwoHotLocalizationLoss, levels: list[Tensor],
           weight: Tensor,
           bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """CE, UM and the whole loss of a 1x1 convolution on all levels."""
    logits, targets, masks = [], [], []
    for i, level in enumerate(levels):
        out = F.conv2d(level, weight, bias).permute(0, 2, 3, 1)
        logits.append(out.reshape(-1, 4, loss.num_points))
        target = case[f'in/target{i}'].permute(0, 2, 3, 1).reshape(-1, 4)
        targets.append(target)
        mask = _optional(case, f'in/mask{i}')
        mask = torch.ones_like(target[:, 0]) if mask is None else mask
        masks.append(mask.reshape(-1).to(target.dtype))
    logits, targets, masks = map(torch.cat, (logits, targets, masks))
    avg_factor = masks.sum().clamp(min=1)
    with loss.recording() as record:
        total = loss(logits, targets, masks, avg_factor)
    um, = record.uncertainty
    return total - loss.lambda_um * um, um, total


def _run_ur(case: Case) -> dict[str, Tensor]:
    """Terms before and after the perturbation, and all gradients."""
    loss, hyper = _loss(case, case['in/feat0']), case.hyper
    num = sum(key.startswith('in/feat') for key in case.arrays)
    levels = [case[f'in/feat{i}'].clone().requires_grad_() for i in range(num)]
    params = {
        name: param.clone().requires_grad_()
        for name, param in case.group('param').items()
    }
    conv = params['reg.weight'], params.get('reg.bias')
    ce, um, loss_clean = _terms(case, loss, levels, *conv)
    eps = perturbations(um, levels, hyper.get('rho', 0.5),
                        hyper.get('eps_norm', 1e-12))
    moved = [x + e for x, e in zip(levels, eps)]
    ce_moved, um_moved, loss_moved = _terms(case, loss, moved, *conv)
    total = loss_clean + hyper.get('gamma', 0.1) * loss_moved
    total.backward()
    return {
        'out/grid': loss.grid,
        'out/ce': ce,
        'out/um': um,
        'out/ce_perturbed': ce_moved,
        'out/um_perturbed': um_moved,
        'out/total': total,
        **{
            f'out/eps{i}': e
            for i, e in enumerate(eps)
        },
        **{
            f'grad/feat{i}': level.grad
            for i, level in enumerate(levels)
        },
        **{
            f'grad/{name}': param.grad
            for name, param in params.items()
        }
    }


def run(case: Case) -> dict[str, Tensor] | None:
    """Arrays of a fixture; None for an unknown kind."""
    runs = dict(loss=_run_loss, ur=_run_ur)
    return runs[case.kind](case) if case.kind in runs else None
