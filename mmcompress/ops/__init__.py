"""1-bit operators: compiled kernels, or their definition in PyTorch."""
from .functional import (binary_conv2d, binary_conv2d_bits,
                         binary_conv2d_fused, binary_linear,
                         binary_linear_bits, binary_linear_fused,
                         binary_linear_pack, binary_pack, binary_prepack,
                         binary_unpack)
from .library import build_info
from .reference import integer_limits, packed_bytes
from .roi_align import roi_align

__all__ = [
    'binary_conv2d', 'binary_conv2d_bits', 'binary_conv2d_fused',
    'binary_linear', 'binary_linear_bits', 'binary_linear_fused',
    'binary_linear_pack', 'binary_pack', 'binary_prepack', 'binary_unpack',
    'build_info', 'integer_limits', 'packed_bytes', 'roi_align'
]
