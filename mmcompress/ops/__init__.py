"""Low-bit operators: compiled kernels, or their definition in PyTorch."""
from .arguments import packed_bytes
from .binary_conv import binary_conv2d, binary_conv2d_bits, binary_conv2d_fused
from .blob import binary_prepack
from .engines import Engine, build_info, choose_engine, why_not
from .fake_quantize import lsq_fake_quantize
from .integer import integer_conv2d, integer_conv2d_codes, integer_linear
from .integer_blob import integer_prepack
from .layer_norm import layer_norm_codes
from .library import reference
from .limits import integer_limits
from .linear import (binary_linear, binary_linear_bits, binary_linear_fused,
                     binary_linear_pack)
from .match_merge import match_merge
from .packing import binary_pack, binary_unpack
from .pooling import max_pool_codes
from .quantize import quantize_codes
from .roi_align import roi_align
from .routed_attention import routed_attention
from .weight_codes import read_codes, store_codes, stored_bits

__all__ = [
    'Engine', 'binary_conv2d', 'binary_conv2d_bits', 'binary_conv2d_fused',
    'binary_linear', 'binary_linear_bits', 'binary_linear_fused',
    'binary_linear_pack', 'binary_pack', 'binary_prepack', 'binary_unpack',
    'build_info', 'choose_engine', 'integer_conv2d', 'integer_conv2d_codes',
    'integer_limits', 'integer_linear', 'integer_prepack', 'layer_norm_codes',
    'lsq_fake_quantize', 'match_merge', 'max_pool_codes', 'packed_bytes',
    'quantize_codes', 'read_codes', 'reference', 'roi_align',
    'routed_attention', 'store_codes', 'stored_bits', 'why_not'
]
