from .folding import fold_affine, fold_threshold
from .packed_layers import (PackedBackbone, PackedBitsConv2d, PackedBlock,
                            PackedChain, PackedConv2d, PackedLayer)
from .packed_model import Packed
from .packing import pack, set_twin

__all__ = [
    'Packed', 'PackedBackbone', 'PackedBitsConv2d', 'PackedBlock',
    'PackedChain', 'PackedConv2d', 'PackedLayer', 'fold_affine',
    'fold_threshold', 'pack', 'set_twin'
]
