"""ResNets of any number of blocks per stage, for detectors.

A module of its own: classifiers need no mmdet. Configs of detectors import
``diswot.detection``.
"""
from collections.abc import Sequence

from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck

from mmcompress.registry import MODELS
from .stages import stage_arguments

BLOCKS = dict(BasicBlock=BasicBlock, Bottleneck=Bottleneck)


@MODELS.register_module()
class StageDetResNet(ResNet):
    """mmdet's ResNet with the stages one wants.

    Args:
        stage_blocks (Sequence[int]): Blocks of each of one to four stages.
        block (str): ``'BasicBlock'`` or ``'Bottleneck'``.
        **kwargs: Of mmdet's ``ResNet``, without ``depth`` and ``num_stages``.
            ``out_indices`` defaults to the last stage; a pyramid needs more.

    Raises:
        ValueError: If block or numbers are none that there are.
    """

    def __init__(self,
                 stage_blocks: Sequence[int],
                 block: str = 'BasicBlock',
                 **kwargs) -> None:
        depth, entry, kwargs = stage_arguments(block, BLOCKS, stage_blocks,
                                               kwargs)
        self.arch_settings = {depth: entry}
        super().__init__(depth, **kwargs)
