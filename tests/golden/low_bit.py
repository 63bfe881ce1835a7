"""What the adapters of quantizers share."""
import torch
import torch.nn as nn
from golden import Case
from torch import Tensor

from mmcompress.quantization import QuantConv2d, QuantLayer, QuantLinear
from mmcompress.quantization.quantizer import Quantizer

# what the official codes call our parameters
_NAMES = dict(
    alpha='scale', s='scale', zero_point='zero_point', beta='beta', a='scale')


def leaf(case: Case, key: str = 'in/x') -> Tensor:
    """An input to differentiate by."""
    return case[key].clone().requires_grad_()


def begin(quantizer: Quantizer, state: dict[str, Tensor]) -> Quantizer:
    """Give a quantizer its scales, unless it has to find them in the data.

    Args:
        quantizer (Quantizer): Not begun.
        state (dict[str, Tensor]): By official names. An ``init_state`` of 0
            says that it has none.
    """
    state = {key: value for key, value in state.items() if '.' not in key}
    values = {_NAMES[k]: v for k, v in state.items() if k in _NAMES}
    quantizer.to(next(iter(values.values())).dtype)
    if not state.get('init_state', torch.ones(1)).any():
        return quantizer
    with torch.no_grad():
        for name, value in values.items():
            getattr(quantizer, name).copy_(value)
        if 'signed' in state:
            quantizer.signed.copy_(state['signed'].bool().squeeze())
        quantizer.initialized.fill_(True)
    return quantizer


def state_of(quantizer: Quantizer, prefix: str = '') -> dict[str, Tensor]:
    """Scales by the names of Q-ViT, Q-DETR and Bi-ViT."""
    names = dict(alpha='scale', zero_point='zero_point')
    state = {
        f'{prefix}{theirs}': getattr(quantizer, ours)
        for theirs, ours in names.items()
        if getattr(quantizer, ours, None) is not None
    }
    dtype = quantizer.scale.dtype
    flags = dict(init_state=quantizer.initialized, signed=quantizer.signed)
    return state | {
        f'{prefix}{key}': flag.view(1).to(dtype)
        for key, flag in flags.items()
    }


def quantized_layer(case: Case,
                    weight_quant: dict,
                    input_quant: dict,
                    prefix: str = '',
                    bias: bool | None = None,
                    act_granularity: str = 'channel') -> QuantLayer:
    """A linear layer or a convolution, with the weights of a fixture.

    Args:
        case (Case): Has ``param/<prefix>weight``, and perhaps ``alpha`` and
            ``act.alpha`` beside it.
        weight_quant (dict): As of the layer.
        input_quant (dict): As of the layer.
        prefix (str): Of the names.
        bias (bool | None): Whether the bias is added. None: if there is one.
        act_granularity (str): As of the layer.
    """
    params = {
        key.removeprefix(prefix): value
        for key, value in case.group('param').items() if key.startswith(prefix)
    }
    weight = params['weight']
    if bias is None:
        bias = 'bias' in params
    options = dict(
        bias=bias,
        weight_quant=weight_quant,
        input_quant=input_quant,
        act_granularity=act_granularity)
    if weight.dim() == 2:
        layer = QuantLinear(*weight.shape[::-1], **options)
    else:
        hyper = case.hyper
        groups = hyper.get('groups', 1)
        layer = QuantConv2d(
            weight.shape[1] * groups,
            weight.shape[0],
            tuple(weight.shape[2:]),
            groups=groups,
            **{
                key: hyper[key]
                for key in ('stride', 'padding', 'dilation') if key in hyper
            },
            **options)
    layer.to(weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias:
            layer.bias.copy_(params['bias'])
    if 'alpha' in params:
        begin(layer.weight_quant, params)
    act = {
        key.removeprefix('act.'): value
        for key, value in params.items() if key.startswith('act.')
    }
    if act:
        begin(layer.input_quant, act)
    return layer


def layer_state(layer: QuantLayer, prefix: str = '') -> dict[str, Tensor]:
    """Parameters and flags of a layer, by official names."""
    state = {f'{prefix}weight': layer.weight}
    if layer.bias is not None:
        state[f'{prefix}bias'] = layer.bias
    for name, quantizer in ((prefix, layer.weight_quant), (f'{prefix}act.',
                                                           layer.input_quant)):
        if getattr(quantizer, 'scale', None) is not None:
            state |= state_of(quantizer, name)
    return state


def finish(case: Case, inputs: dict[str, Tensor], state: dict[str, Tensor],
           y: Tensor, **outputs: Tensor) -> dict[str, Tensor]:
    """Differentiate ``sum(y * in/gout)``.

    Args:
        case (Case): The fixture.
        inputs (dict[str, Tensor]): Leaves by key, such as ``x``.
        state (dict[str, Tensor]): Parameters and flags by official names.
        y (Tensor): ``out/y``.
        **outputs (Tensor): Other outputs.
    """
    result = {f'out/{key}': value for key, value in outputs.items()}
    result['out/y'] = y
    for name, value in state.items():
        result[f'out/after_init/{name}'] = value
    if 'in/gout' in case:
        (y * case['in/gout']).sum().backward()
        for name, value in (inputs | state).items():
            if value.grad is not None:
                result[f'grad/{name}'] = value.grad
    return {
        key: value.detach().clone()
        for key, value in result.items() if key in case
    }


def run_quantizer(case: Case,
                  quantizer: Quantizer,
                  key: str = 'x') -> dict[str, Tensor]:
    """One quantizer, whose state is the fixture's."""
    begin(quantizer, case.group('param'))
    x = leaf(case, f'in/{key}')
    y = quantizer(x)
    codes = quantizer.quantize_int(case[f'in/{key}']).values
    return finish(case, {key: x}, state_of(quantizer), y, codes=codes)


def run_layer(case: Case, layer: nn.Module) -> dict[str, Tensor]:
    """One quantized layer."""
    x = leaf(case)
    y = layer(x)
    return finish(case, dict(x=x), layer_state(layer), y)
