"""Adapter of the POEM fixtures."""
import torch
from golden import Case
from golden.one_bit import finish, leaf
from torch import Tensor

from mmcompress.binary.backbones.pointnet import PointUnit
from mmcompress.binary.layers.poem import (PoemLinear, em_pull, em_step,
                                           reconstruction_loss, sign_split)
from mmcompress.deploy.fold import fold_affine, fold_threshold
from mmcompress.ops import (binary_linear, binary_linear_pack, binary_pack,
                            binary_prepack, binary_unpack)


def weights(case: Case) -> dict[str, float]:
    """The layer's hyperparameters."""
    return dict(
        rec_weight=case.hyper.get('rec_weight', 1e-4),
        em_weight=case.hyper.get('em_weight', 1e-3))


def run_layer(case: Case) -> dict[str, Tensor]:
    """The 1-bit layer and its EM step."""
    weight = case['param/weight']
    layer = PoemLinear(*weight.shape[::-1], **weights(case)).double()
    layer.load_state_dict(case.group('param'))
    x = leaf(case)
    xi, theta = em_step(weight, case['in/theta'],
                        case.hyper.get('var_floor', 1e-8))
    grads = finish(case, layer, dict(x=x), dict(y=(layer(x), case['in/g'])))
    return grads | {
        'out/xi': xi.movedim(0, -1),
        'out/theta_new': theta,
        'out/em': em_pull(weight, xi, theta),
        'out/loss_rec': reconstruction_loss(weight, case['param/alpha'])
    }


def run_em(case: Case) -> dict[str, Tensor]:
    """EM repeated on the same weights."""
    weight = case['in/weight']
    thetas = [sign_split(weight)]
    for _ in range(case.hyper['steps']):
        xi, theta = em_step(weight, thetas[-1],
                            case.hyper.get('var_floor', 1e-8))
        thetas.append(theta)
    return {
        'out/theta': torch.stack(thetas),
        'out/xi': xi.movedim(0, -1),
        'out/em': em_pull(weight, xi, theta)
    }


# the beginnings of our names, and of the fixtures'
_NAMES = {'fc.': '', 'bn.': 'bn_out.', 'act.': 'prelu.'}


def fixture_name(name: str) -> str:
    """``fc.weight`` -> ``weight``, ``bn.bias`` -> ``bn_out.bias``."""
    for ours, theirs in _NAMES.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def build_unit(case: Case) -> PointUnit:
    """The fixture's Bi-FC unit."""
    c_out, c_in = case['param/weight'].shape[:2]
    unit = PointUnit(c_in, c_out, dict(type='poem', **weights(case))).double()
    for bn in (unit.bn_in, unit.bn):
        bn.eps = case.hyper.get('bn_eps', 1e-5)
        bn.momentum = case.hyper.get('bn_momentum', 0.1)
        bn.train(case.hyper.get('bn_train', False))
    params = case.group('param')
    state = {
        name: params.get(fixture_name(name), value).view_as(value)
        for name, value in unit.state_dict().items()
    }
    unit.load_state_dict(state)
    return unit


def run_unit(case: Case) -> dict[str, Tensor]:
    """The Bi-FC unit on points."""
    unit, x = build_unit(case), leaf(case)
    y = unit(x)
    (y * case['in/g']).sum().backward()
    with torch.no_grad():
        unit.fc.before_step()
    result = {'out/y': y, 'grad/x': x.grad}
    for name, buffer in unit.named_buffers():
        result[f'out/{fixture_name(name)}'] = buffer
    for name, parameter in unit.named_parameters():
        name = fixture_name(name)
        result[f'grad/{name}'] = parameter.grad.reshape(
            case[f'param/{name}'].shape)
    return {key: value for key, value in result.items() if key in case}


def run_packed(case: Case) -> dict[str, Tensor]:
    """Packed inference of the Bi-FC unit, up to the PReLU."""
    unit = build_unit(case)
    rule = unit.fc.inference_rule()
    threshold, flip = fold_threshold(unit.bn_in)
    scale, shift = fold_affine(rule, unit.bn)
    weight_bits = binary_pack(rule.codes.float())
    shape = list(rule.codes.shape)
    # points are what a linear layer calls tokens
    tokens = case['in/x'].transpose(1, 2)
    bits = binary_linear_pack(tokens.float(), threshold.float(), flip)
    k = binary_linear(bits, binary_prepack(weight_bits, shape), shape)
    k = k.transpose(1, 2)
    points = binary_unpack(bits[:, None], tokens.shape[-1])[:, :, 0]
    return {
        'out/threshold': threshold,
        'out/flip': flip,
        'out/x_bits': points > 0,
        'out/w_bits': rule.codes[:, :, 0, 0] > 0,
        'out/k': k,
        'out/A': scale,
        'out/B': shift,
        'out/y': scale[:, None] * k + shift[:, None]
    }


KINDS = dict(layer=run_layer, em=run_em, unit=run_unit, packed=run_packed)


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores; None for an unknown kind."""
    adapter = KINDS.get(case.kind)
    return None if adapter is None else adapter(case)
