"""Low-bit operators: compiled kernels, or their definition in PyTorch."""
from .arguments import packed_bytes
from .binary_conv import binary_conv2d, binary_conv2d_bits, binary_conv2d_fused
from .blob import binary_prepack
from .fake_quantize import lsq_fake_quantize
from .library import build_info, reference
from .limits import integer_limits
from .linear import (binary_linear, binary_linear_bits, binary_linear_fused,
                     binary_linear_pack)
from .packing import binary_pack, binary_unpack
from .roi_align import roi_align

__all__ = [
    'binary_conv2d', 'binary_conv2d_bits', 'binary_conv2d_fused',
    'binary_linear', 'binary_linear_bits', 'binary_linear_fused',
    'binary_linear_pack', 'binary_pack', 'binary_prepack', 'binary_unpack',
    'build_info', 'integer_limits', 'lsq_fake_quantize', 'packed_bytes',
    'reference', 'roi_align'
]
