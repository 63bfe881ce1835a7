"""Pack a trained model: first the folded twin, then the packed one."""
import copy

import torch
import torch.nn as nn

from mmcompress.lowbit import LowBitLayer
from . import attention  # noqa: F401  registers its rule
from .file.index_buffers import leave_out
from .file.record import attach_record, seal
from .fold import Folding, Trace
from .integer_layers import PackedIntegerLayer
from .prepacked import Prepacked
from .roi_align import ChannelsLastRoIAlign


def set_twin(model: nn.Module, twin: str) -> nn.Module:
    """Choose what the packed layers of a model, and RoIAlign, run on.

    Args:
        model (nn.Module): A packed model, changed in place.
        twin (str): ``'packed'``: the kernels. ``'folded'``: plain PyTorch.

    Returns:
        nn.Module: The model.

    Raises:
        ValueError: On another twin.
    """
    if twin not in ('packed', 'folded'):
        raise ValueError(f"twin must be 'packed' or 'folded', got {twin!r}")
    for module in model.modules():
        if isinstance(module, (Prepacked, ChannelsLastRoIAlign)):
            module.twin = twin
        if isinstance(module, Prepacked):
            module.rearrange()
    return model


def _make_contiguous(module: nn.Module, args: tuple) -> tuple:
    return tuple(arg.contiguous() if isinstance(arg, torch.Tensor) else arg
                 for arg in args)


def protect_foreign_kernels(model: nn.Module) -> None:
    """Give mmcv's own kernels the one memory layout that they read.

    Packed layers give channels-last memory, which torch understands; mmcv's
    RoIAlign on a CPU, for one, takes it for the other and returns nonsense.

    Args:
        model (nn.Module): Its layers from ``mmcv.ops`` get a hook.
    """
    for module in model.modules():
        if type(module).__module__.startswith('mmcv.ops.'):
            module.register_forward_pre_hook(_make_contiguous)


def fold_in_place(model: nn.Module) -> tuple[nn.Module, list[Trace]]:
    """Turn a model into its folded twin.

    Args:
        model (nn.Module): Changed; it is of no use afterwards.

    Returns:
        tuple[nn.Module, list[Trace]]: The folded twin, in eval mode, and
        which layer stands for what.

    Raises:
        ValueError: If there is no low-bit layer, or a 1-bit one whose weight
            is real.
    """
    if not any(isinstance(m, LowBitLayer) for m in model.modules()):
        raise ValueError(
            f'{type(model).__name__} has no 1-bit layer and no other low-bit '
            'one, there is nothing to pack: it is a float model. Give it few '
            'bits first, by `python tools/compress.py CONFIG CHECKPOINT '
            '--bits 8` (or `--bits 1 --train`), or by a config with '
            'mmcompress.Compress: docs/user_guide/one_bit.md')
    # what a distiller has put on the instance
    for name in ('distill', 'loss', 'init_weights'):
        model._modules.pop(name, None)
        vars(model).pop(name, None)
    # one by one: train() of some backbones in mm libraries returns None
    model.float()
    model.requires_grad_(False)
    model.eval()
    folding = Folding(model)
    folded = folding.fold(model)
    folded.eval()
    protect_foreign_kernels(folded)
    if any(isinstance(m, PackedIntegerLayer) for m in folded.modules()):
        # files of 1-bit models have had them
        leave_out(folded)
    attach_record(folded)
    return set_twin(folded, 'folded'), folding.traces


def pack(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Make the inference twins of a trained model with 1-bit layers.

    Both have the same weights: one bit each in 1-bit layers, with norms,
    scales, shifts and activations around them folded into a few constants per
    channel.

    Args:
        model (nn.Module): Any model with layers of :mod:`mmcompress.binary`.
            It is not changed.

    Returns:
        tuple[nn.Module, nn.Module]: The folded twin, in plain PyTorch and the
        kernels' order of operations, and the packed model, on the kernels.
        They give equal results, bit for bit.

    Raises:
        ValueError: If there is no low-bit layer, or a 1-bit one whose weight
            is real.
    """
    folded, _ = fold_in_place(copy.deepcopy(model))
    return folded, on_kernels(folded)


def on_kernels(folded: nn.Module) -> nn.Module:
    """The packed model of a folded twin."""
    packed = set_twin(copy.deepcopy(folded), 'packed')
    for module in packed.modules():
        if isinstance(module, Prepacked):
            module.loaded()
    seal(packed)
    seal(folded)
    return packed


def round_leftovers(model: nn.Module) -> list[str]:
    """Round the weights of the float layers to half precision, in place.

    Weights have two or more dimensions; biases, norms and the constants of
    packed layers stay as they are. A weight beyond the range of float16 stays
    as well.

    Returns:
        list[str]: Names of what was rounded, as in the state dict.
    """
    rounded = []
    for name, parameter in model.named_parameters():
        half = parameter.half()
        if parameter.dim() > 1 and torch.isfinite(half).all():
            parameter.data.copy_(half)
            rounded.append(name)
    return rounded
