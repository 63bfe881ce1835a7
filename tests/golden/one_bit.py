"""What the adapters of the 1-bit methods share."""
import torch
import torch.nn as nn
from golden import Case
from torch import Tensor

from mmcompress.binary.backbones.bi_resnet import BiBlock
from mmcompress.binary.layers import RSign
from mmcompress.binary.layers.sign import bireal_sign, clipped_sign
from mmcompress.registry import MODELS


def load(module: nn.Module, params: dict[str, Tensor]) -> nn.Module:
    """Load every parameter; counters of BN are not in the fixtures."""
    missing, unexpected = module.double().load_state_dict(params, strict=False)
    left = [key for key in missing if 'num_batches_tracked' not in key]
    assert not left and not unexpected, (left, unexpected)
    return module


def finish(case: Case,
           module: nn.Module,
           inputs: dict[str, Tensor],
           outputs: dict[str, tuple[Tensor, Tensor]],
           prefix: str = '') -> dict[str, Tensor]:
    """Differentiate ``sum(output * cotangent)``, up to the optimizer's step.

    Args:
        case (Case): The fixture.
        module (nn.Module): Its parameters' names are those of the fixture,
            but for the prefix.
        inputs (dict[str, Tensor]): Leaves by key, such as ``x``.
        outputs (dict): Output and cotangent by key, such as ``y``.
        prefix (str): What the fixture puts before names of parameters.
    """
    sum((y * g).sum() for y, g in outputs.values()).backward()
    with torch.no_grad():
        for layer in module.modules():
            if hasattr(layer, 'before_step'):
                layer.before_step()
    result = {f'out/{key}': y for key, (y, _) in outputs.items()}
    result |= {f'out/{prefix}{k}': b for k, b in module.named_buffers()}
    result |= {
        f'grad/{prefix}{k}': p.grad
        for k, p in module.named_parameters()
    }
    result |= {f'grad/{key}': x.grad for key, x in inputs.items()}
    return {key: value for key, value in result.items() if key in case}


def leaf(case: Case, key: str = 'in/x') -> Tensor:
    """An input to differentiate by."""
    return case[key].clone().requires_grad_()


def options(case: Case, *names: str) -> dict:
    """Keyword arguments of a layer, from the hyperparameters.

    Args:
        case (Case): The fixture. Without a ``zero_as``, zeros stay zero: that
            is what all official codes do.
        *names (str): Those to take, where they exist.
    """
    hyper = case.hyper
    kwargs = {name: hyper[name] for name in names if name in hyper}
    return dict(kwargs, zero_as=hyper.get('zero_as', 'zero'))


def layer_of(case: Case,
             conv: str,
             linear: str | None = None,
             **kwargs) -> nn.Module:
    """The layer of a fixture, loaded.

    Args:
        case (Case): With ``param/weight``, of four dimensions, or of two.
        conv (str): Type of the convolution.
        linear (str, optional): Type of the linear layer.
        **kwargs: For both.
    """
    hyper = case.hyper
    weight = case['param/weight']
    out_channels, in_channels, *kernel = weight.shape
    kwargs['bias'] = 'param/bias' in case
    if not kernel:
        cfg = dict(
            type=f'mmcompress.{linear}',
            in_features=in_channels,
            out_features=out_channels)
    else:
        groups = hyper.get('groups', 1)
        cfg = dict(
            type=f'mmcompress.{conv}',
            in_channels=in_channels * groups,
            out_channels=out_channels,
            kernel_size=tuple(kernel),
            groups=groups)
        for key in ('stride', 'padding', 'dilation'):
            if key in hyper:
                value = hyper[key]
                cfg[key] = tuple(value) if isinstance(value, list) else value
    layer = load(MODELS.build(dict(cfg, **kwargs)), case.group('param'))
    return layer.train(hyper.get('training', True))


def run_activation(case: Case, ste: str = 'bireal') -> dict[str, Tensor]:
    """The sign of an activation, with or without a shift.

    Args:
        case (Case): The fixture.
        ste (str): ``'bireal'`` or ``'clip'``, the gradient without a shift.
    """
    x = leaf(case)
    if 'param/move0.bias' in case:
        sign = RSign(x.shape[1], **options(case))
        sign = load(sign, dict(bias=case['param/move0.bias']))
        return finish(case, sign, dict(x=x), dict(y=(sign(x), case['in/g'])),
                      'move0.')
    sign = dict(bireal=bireal_sign, clip=clipped_sign)[ste]
    y = sign(x, **options(case))
    return finish(case, nn.Identity(), dict(x=x), dict(y=(y, case['in/g'])))


def run_block(case: Case,
              conv_cfg: dict,
              shifts: bool = True) -> dict[str, Tensor]:
    """A residual block, whose convolution the fixtures call binary_conv.

    Args:
        case (Case): The fixture.
        conv_cfg (dict): Which 1-bit convolution.
        shifts (bool): As for :class:`BiBlock`.
    """
    hyper = case.hyper
    norm_cfg = dict(
        type='BN',
        eps=hyper.get('bn_eps', 1e-5),
        momentum=hyper.get('bn_momentum', 0.1))
    block = BiBlock(
        hyper['in_channels'],
        hyper['out_channels'],
        hyper['stride'],
        conv_cfg,
        norm_cfg,
        shifts=shifts,
        bias='param/binary_conv.bias' in case)
    load(
        block, {
            key.replace('binary_conv.', 'conv.'): value
            for key, value in case.group('param').items()
        })
    block.train(hyper.get('training', False) or hyper.get('bn_train', False))
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(hyper.get('bn_train', False))
    official = Case(
        case.name, case.kind, hyper, case.rtol, case.atol, {
            key.replace('/binary_conv.weights', '/conv.weight').replace(
                '/binary_conv.', '/conv.'):
            value
            for key, value in case.arrays.items()
        })
    x = leaf(case)
    result = finish(official, block, dict(x=x),
                    dict(y=(block(x), case['in/g'])))
    result = {
        key.replace('/conv.', '/binary_conv.'): value
        for key, value in result.items()
    }
    flat = 'grad/binary_conv.weights'
    if flat in case:
        result[flat] = result.pop('grad/binary_conv.weight').view(-1, 1)
    return result
