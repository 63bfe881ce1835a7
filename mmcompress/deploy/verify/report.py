"""What packing made of a model, as tables."""
import torch.nn as nn
from torch import Tensor

from mmcompress.analysis.complexity import LayerCost, complexity, total
from mmcompress.lowbit import LowBitModule
from mmcompress.ops import build_info, choose_engine
from mmcompress.quantization import QuantLayer
from mmcompress.tables import format_table
from ..attention import PackedProjections
from ..fold import Trace
from ..inference_only import InferenceOnly
from ..integer_layers import PackedIntegerLayer
from ..packed_layers import PackedBackbone
from ..roi_align import ChannelsLastRoIAlign
from .layers import LayerCheck


def _bytes_of(module: nn.Module, name: str, in_half: set[str]) -> int:
    """Bytes of a module's own tensors in the file."""
    tensors = {**module._parameters, **module._buffers}
    return sum(
        t.numel() * (2 if f'{name}.{key}' in in_half else t.element_size())
        for key, t in tensors.items()
        if t is not None and key not in module._non_persistent_buffers_set)


def _why_float(name: str, packed: nn.Module) -> str:
    """Why a layer isn't packed."""
    path = name.split('.')
    module = packed.get_submodule(name)
    if isinstance(module, QuantLayer):
        return module.why_no_integers()
    if isinstance(module, LowBitModule):
        return 'product of two activations, or an attention: in float'
    if 'shortcut' in path:
        return 'shortcut that changes the shape; its norm is folded in'
    for i in range(len(path)):
        parent = packed.get_submodule('.'.join(path[:i]))
        if isinstance(parent, PackedBackbone) and path[i + 1] == '0':
            return 'takes the image'
    return 'real-valued in training'


def _kernel() -> str:
    info = build_info()
    return info['isa'] if not info['reason'] else 'PyTorch reference'


def _runs_on(layer: LowBitModule) -> str:
    if isinstance(layer, (PackedIntegerLayer, PackedProjections)):
        return choose_engine().name
    return _kernel()


def _packed_row(trace: Trace, trained: nn.Module, cost: LayerCost,
                check: LayerCheck) -> list:
    layer = trace.layer
    state = layer.state_dict()
    out = 'float'
    if trace.following:
        out = 'codes' if isinstance(layer, PackedIntegerLayer) else 'bits'
    return [
        trace.conv,
        type(trained.get_submodule(trace.conv)).__name__,
        '{}/{}'.format(*layer.operand_bits().factors),
        f'{sum(t.numel() * t.element_size() for t in state.values()):,}', '-',
        f'{cost.bops:,}', f'{_runs_on(layer)}, {out} out',
        f'{check.error:.0e}' if check.runs else 'did not run'
    ]


def _float_row(cost: LayerCost, module: nn.Module, in_half: set[str],
               packed: nn.Module) -> list:
    stored = 16 if f'{cost.name}.weight' in in_half else 32
    return [
        cost.name, cost.kind, f'{stored}/32',
        f'{_bytes_of(module, cost.name, in_half):,}', f'{cost.macs:,}', '-',
        'torch',
        _why_float(cost.name, packed)
    ]


def _pooling_rows(packed: nn.Module) -> list[list]:
    return [[
        name, 'RoIAlign', '-/32', '0', '-', '-',
        _kernel(), 'averages real values; reads channels-last memory'
    ] for name, module in packed.named_modules()
            if isinstance(module, ChannelsLastRoIAlign)]


def layer_table(trained: nn.Module, packed: nn.Module, traces: list[Trace],
                checks: dict[str, LayerCheck], batch: dict,
                in_half: list[str]) -> tuple[str, LayerCost, LayerCost]:
    """One row per layer.

    Args:
        trained (nn.Module): The trained model.
        packed (nn.Module): The packed model.
        traces (list[Trace]): Which layer stands for what.
        checks (dict[str, LayerCheck]): What the verification saw.
        batch (dict): A preprocessed image.
        in_half (list[str]): What is stored in half precision.

    Returns:
        tuple[str, LayerCost, LayerCost]: The table; the total cost of the
        trained model and of the packed one's float layers.
    """
    before = complexity(trained, batch)
    by_name = {cost.name: cost for cost in before}
    rows = [
        _packed_row(trace, trained, by_name[trace.conv], checks[trace.conv])
        for trace in traces
    ]
    modules = dict(packed.named_modules())
    leftovers = [
        cost for cost in complexity(packed, batch)
        if not isinstance(modules[cost.name], InferenceOnly)
    ]
    half = set(in_half)
    others = []
    for cost in leftovers:
        if cost.macs:
            rows.append(_float_row(cost, modules[cost.name], half, packed))
        elif cost.bytes_stored:
            others.append(cost)
    rows += _pooling_rows(packed)
    if others:
        stored = sum(
            _bytes_of(modules[cost.name], cost.name, half) for cost in others)
        kinds = ', '.join(sorted({cost.kind for cost in others}))
        rows.append([
            f'{len(others)} others', kinds, '32/32', f'{stored:,}', '-', '-',
            'torch', 'no products'
        ])
    table = format_table('Layers of the packed model', [
        'layer', 'kind', 'bits', 'bytes', 'FLOPs', 'BOPs', 'runs on',
        'rounding error, or why it is float'
    ], rows)
    return table, total(before), total(leftovers)


def totals_table(before: LayerCost, leftovers: LayerCost, size_before: int,
                 size_after: int) -> str:
    """Sizes and operations before and after.

    Args:
        before (LayerCost): Total of the trained model.
        leftovers (LayerCost): Total of the packed model's float layers.
        size_before (int): Bytes of the trained model's weights.
        size_after (int): Bytes of the packed file.
    """
    bops = before.bops - leftovers.bops
    ops = bops / 64 + leftovers.macs
    return format_table(
        'In all, operations for one image',
        ['', 'before, as float', 'packed', 'ratio'],
        [[
            'bytes on disk', f'{size_before:,}', f'{size_after:,}',
            f'{size_before / size_after:.1f}'
        ],
         [
             'FLOPs', f'{before.macs:,}', f'{leftovers.macs:,}',
             _ratio(before.macs, leftovers.macs)
         ], ['BOPs', '-', f'{bops:,}', '-'],
         [
             'OPs = BOPs / 64 + FLOPs', f'{before.macs:,}', f'{round(ops):,}',
             _ratio(before.macs, ops)
         ]])


def _ratio(a: float, b: float) -> str:
    return f'{a / b:.1f}' if b else '-'


def differences_table(differences: dict[str, float]) -> str:
    """What folding's roundings do end to end.

    Args:
        differences (dict[str, float]): See
            :func:`mmcompress.deploy.verify.end_to_end_difference`.
    """
    return format_table(
        'Trained and packed model, end to end: a rounding that turns a sign '
        'is carried on', ['part', 'relative difference of its outputs'],
        [[name, f'{value:.1e}'] for name, value in differences.items()])


def state_bytes(state_dict: dict[str, Tensor]) -> int:
    """Bytes of all tensors of a state dict."""
    return sum(t.numel() * t.element_size() for t in state_dict.values())
