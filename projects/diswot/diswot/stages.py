"""ResNets of any number of blocks per stage, for classifiers."""
from collections.abc import Sequence

from mmpretrain.models.backbones import ResNet, ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock, Bottleneck

from mmcompress.registry import MODELS

BLOCKS = dict(BasicBlock=BasicBlock, Bottleneck=Bottleneck)


def stage_arguments(block: str, blocks: dict, stage_blocks: Sequence[int],
                    given: dict) -> tuple[int, tuple, dict]:
    """What a ResNet's class needs to know of its stages.

    Args:
        block (str): Name of the block.
        blocks (dict): Classes of blocks by name.
        stage_blocks (Sequence[int]): Number of blocks of each stage.
        given (dict): Other arguments of the class.

    Returns:
        tuple[int, tuple, dict]: The depth, as the layers with weights are
        counted; the entry of the table of architectures; and ``given`` with
        as many strides, dilations and outputs as there are stages.

    Raises:
        ValueError: If block or numbers are none that there are.
    """
    if block not in blocks:
        raise ValueError(f'block={block!r} is none of {", ".join(blocks)}')
    stages = tuple(stage_blocks)
    if not 1 <= len(stages) <= 4 or not all(
            isinstance(n, int) and n > 0 for n in stages):
        raise ValueError(f'stage_blocks={stage_blocks!r} must be one to four '
                         'numbers of blocks, each at least 1')
    num = len(stages)
    depth = 2 + sum(stages) * (2 if block == 'BasicBlock' else 3)
    defaults = dict(
        strides=(1, 2, 2, 2)[:num],
        dilations=(1, ) * num,
        out_indices=(num - 1, ))
    return depth, (blocks[block], stages), {
        **defaults,
        **given, 'num_stages': num
    }


@MODELS.register_module()
class StageResNet(ResNet):
    """mmpretrain's ResNet with the stages one wants.

    Args:
        stage_blocks (Sequence[int]): Blocks of each of one to four stages.
        block (str): ``'BasicBlock'`` or ``'Bottleneck'``.
        **kwargs: Of mmpretrain's ``ResNet``, without ``depth`` and
            ``num_stages``. ``base_channels`` is the width of the first stage;
            each further one has twice that of the one before. Defaults of
            ``strides``, ``dilations`` and ``out_indices`` fit the number of
            stages.

    Raises:
        ValueError: If block or numbers are none that there are.
    """

    def __init__(self,
                 stage_blocks: Sequence[int],
                 block: str = 'BasicBlock',
                 **kwargs) -> None:
        depth, entry, kwargs = stage_arguments(block, BLOCKS, stage_blocks,
                                               kwargs)
        # the table of the class, for this one network
        self.arch_settings = {depth: entry}
        super().__init__(depth, **kwargs)


@MODELS.register_module()
class StageResNetCIFAR(ResNet_CIFAR):
    """mmpretrain's ResNet for small images with the stages one wants.

    Its stem is a 3x3 convolution of stride 1 without pooling. With
    ``base_channels=16, stem_channels=16`` and three stages, it is the family
    of ResNet-20.

    Args:
        stage_blocks (Sequence[int]): See :class:`StageResNet`.
        block (str): See :class:`StageResNet`.
        **kwargs: See :class:`StageResNet`.

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
