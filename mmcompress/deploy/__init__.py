from .builder import Packed
from .fold import fold_affine, fold_threshold
from .packed_layers import (PackedBackbone, PackedBitsConv2d, PackedBlock,
                            PackedChain, PackedConv2d, PackedLayer)
from .twins import pack, set_twin

__all__ = [
    'Packed', 'PackedBackbone', 'PackedBitsConv2d', 'PackedBlock',
    'PackedChain', 'PackedConv2d', 'PackedLayer', 'fold_affine',
    'fold_threshold', 'pack', 'set_twin'
]
