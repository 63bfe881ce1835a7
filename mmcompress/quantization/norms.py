"""Batch norms of quantized models: frozen, or with a quantized output."""
import torch.nn as nn
from mmengine.utils.dl_utils.parrots_wrapper import SyncBatchNorm, _BatchNorm
from torch import Tensor

from mmcompress.lowbit import Rules
from .layers import Place, build_quantizer


class FrozenNorm:
    """Stays in eval mode, and is not trained."""

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode, which is eval whatever is asked for."""
        return super().train(False)


class FrozenBatchNorm1d(FrozenNorm, nn.BatchNorm1d):
    """Batch norm of vectors by its stored statistics, also in training."""


class FrozenBatchNorm2d(FrozenNorm, nn.BatchNorm2d):
    """Batch norm by its stored statistics, also in training."""


class QuantOutput:
    """Quantizes what the norm returns."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and quantize, any shape of the norm."""
        return self.output_quant(super().forward(x))


class QuantOutputBatchNorm2d(QuantOutput, nn.BatchNorm2d):
    """Batch norm with a quantized output."""


class QuantOutputFrozenBatchNorm2d(QuantOutput, FrozenBatchNorm2d):
    """Frozen batch norm with a quantized output."""


class QuantOutputSyncBatchNorm(QuantOutput, nn.SyncBatchNorm):
    """Batch norm over several processes with a quantized output."""


_FROZEN = {
    nn.BatchNorm1d:
    FrozenBatchNorm1d,
    nn.BatchNorm2d:
    FrozenBatchNorm2d,
    # with nothing to exchange, what reverts these has to leave it
    nn.SyncBatchNorm:
    FrozenBatchNorm2d,
    # SyncBN of configs
    SyncBatchNorm:
    FrozenBatchNorm2d,
}
_QUANT_OUTPUT = {
    nn.BatchNorm2d: QuantOutputBatchNorm2d,
    nn.SyncBatchNorm: QuantOutputSyncBatchNorm,
    SyncBatchNorm: QuantOutputSyncBatchNorm,
    FrozenBatchNorm2d: QuantOutputFrozenBatchNorm2d,
}


def freeze_norms(model: nn.Module) -> int:
    """Let all batch norms of a model use their stored statistics.

    Then a norm is a gain and a shift of each channel, in training as in
    inference, which folding takes into the scales of a layer's weights. That
    changes no code where these have one scale per output channel, so training
    with folded weights would be the same.

    Args:
        model (nn.Module): Changed in place; the norms are no longer trained.

    Returns:
        int: How many there are.

    Raises:
        ValueError: If a norm is of another class. No norm is changed then.
    """
    norms = []
    for name, norm in model.named_modules():
        if type(norm) in _FROZEN:
            norms.append(norm)
        elif isinstance(norm, _BatchNorm) and not isinstance(norm, FrozenNorm):
            raise ValueError(
                f"norms='frozen': {name} is a {type(norm).__name__}, of which "
                'there is no frozen version; quantize with '
                "norms='trained', or take BN or SyncBN")
    for norm in norms:
        norm.__class__ = _FROZEN[type(norm)]
        norm.eval().requires_grad_(False)
    return len(norms)


#: ``rule(block)`` returns the norms at the ends of a block's branches.
branch_ends = Rules('way to find what its sum adds')


@branch_ends('mmdet.models.backbones.resnet.BasicBlock',
             'mmseg.models.backbones.resnet.BasicBlock',
             'mmpose.models.backbones.resnet.BasicBlock',
             'mmpretrain.models.backbones.resnet.BasicBlock')
def _basic_block(block: nn.Module) -> list[nn.Module]:
    return [block.norm2, *_end_of(block.downsample)]


@branch_ends('mmdet.models.backbones.resnet.Bottleneck',
             'mmseg.models.backbones.resnet.Bottleneck',
             'mmpose.models.backbones.resnet.Bottleneck',
             'mmpretrain.models.backbones.resnet.Bottleneck')
def _bottleneck(block: nn.Module) -> list[nn.Module]:
    return [block.norm3, *_end_of(block.downsample)]


@branch_ends('mmpretrain.models.backbones.mobilenet_v2.InvertedResidual',
             'mmseg.models.utils.inverted_residual.InvertedResidual')
def _inverted_residual(block: nn.Module) -> list[nn.Module]:
    return [block.conv[-1].norm] if block.use_res_connect else []


@branch_ends('mmdet.models.layers.inverted_residual.InvertedResidual')
def _mmdet_inverted_residual(block: nn.Module) -> list[nn.Module]:
    return [block.linear_conv.norm] if block.with_res_shortcut else []


def _end_of(downsample: nn.Sequential | None) -> list[nn.Module]:
    return [] if downsample is None else [downsample[-1]]


def has_branches(model: nn.Module) -> bool:
    """Whether :func:`quantize_branches` finds what it can quantize."""
    rules = ((branch_ends.find(block), block) for block in model.modules())
    ends = [norm for rule, block in rules if rule for norm in rule(block)]
    return bool(ends) and all(type(norm) in _QUANT_OUTPUT for norm in ends)


def quantize_branches(model: nn.Module, cfg: dict) -> list[str]:
    """Quantize what the sums of residual blocks add.

    ONNX Runtime computes a convolution in integers only where its output is
    quantized, too.

    Args:
        model (nn.Module): Changed in place.
        cfg (dict): Config of the quantizers.

    Returns:
        list[str]: Names of the norms that got one.

    Raises:
        ValueError: If a branch ends in something else than a batch norm; if
            the model has no residual blocks that are known.
    """
    names = {module: name for name, module in model.named_modules()}
    changed = []
    for block in model.modules():
        rule = branch_ends.find(block)
        for norm in rule(block) if rule else ():
            if type(norm) not in _QUANT_OUTPUT:
                raise ValueError(
                    f'residual: {names[norm]}, where a branch of '
                    f'{names[block]} ends, is a {type(norm).__name__}; a '
                    'batch norm is expected')
            norm.__class__ = _QUANT_OUTPUT[type(norm)]
            quantizer = build_quantizer(cfg, Place()).train(norm.training)
            # DDP waits for those of a stage that is frozen later
            weights = [p for p in block.parameters() if p.dim() > 1]
            norm.output_quant = quantizer.to(weights[0]).requires_grad_(
                any(weight.requires_grad for weight in weights))
            changed.append(names[norm])
    if not changed:
        raise ValueError(
            f'residual: {type(model).__name__} has none of the blocks whose '
            f'sums are known: {", ".join(branch_ends.paths)}')
    return changed
