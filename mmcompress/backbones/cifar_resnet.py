"""The thin ResNets for CIFAR of the ResNet paper, which mmpretrain lacks."""
from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock

from mmcompress.registry import MODELS


@MODELS.register_module()
class CifarResNet(ResNet_CIFAR):
    """ResNet-20 to 110 (He et al., CVPR 2016, arXiv:1512.03385).

    Three stages ``layer1`` to ``layer3`` of ``(depth - 2) / 6`` blocks, of 16,
    32 and 64 channels. Shortcuts between stages are 1x1 convolutions (the
    paper's option B; its own CIFAR nets have option A, without parameters).

    Args:
        depth (int): 20, 32, 44, 56 or 110.
        **kwargs: Of mmpretrain's ``ResNet_CIFAR``.
    """

    arch_settings = {
        depth: (BasicBlock, 3 * [(depth - 2) // 6])
        for depth in (20, 32, 44, 56, 110)
    }

    def __init__(self, depth: int, **kwargs) -> None:
        thin = dict(
            stem_channels=16,
            base_channels=16,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2, ))
        super().__init__(depth, **{**thin, **kwargs})
