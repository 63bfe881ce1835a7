"""Stand-in for mmcv's compiled module: the operators that are there.

Those that are not raise ``NotImplementedError`` when they are called, not
when mmcv is imported.
"""
from collections.abc import Callable

from mmcompress.tested_packages import BUILD_MMCV
from .boxes import bbox_overlaps, nms, nms_match, softnms
from .deform_attention import ms_deform_attn_backward, ms_deform_attn_forward
from .deform_conv import (deform_conv_backward_input,
                          deform_conv_backward_parameters, deform_conv_forward,
                          modulated_deform_conv_backward,
                          modulated_deform_conv_forward)
from .focal_loss import (sigmoid_focal_loss_backward,
                         sigmoid_focal_loss_forward,
                         softmax_focal_loss_backward,
                         softmax_focal_loss_forward)
from .roi_align import roi_align_backward, roi_align_forward
from .roi_pool import roi_pool_backward, roi_pool_forward

__all__ = [
    'bbox_overlaps', 'deform_conv_backward_input',
    'deform_conv_backward_parameters', 'deform_conv_forward',
    'get_compiler_version', 'get_compiling_cuda_version',
    'modulated_deform_conv_backward', 'modulated_deform_conv_forward',
    'ms_deform_attn_backward', 'ms_deform_attn_forward', 'nms', 'nms_match',
    'roi_align_backward', 'roi_align_forward', 'roi_pool_backward',
    'roi_pool_forward', 'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward', 'softmax_focal_loss_backward',
    'softmax_focal_loss_forward', 'softnms'
]


def get_compiler_version() -> str:
    """What mmengine's log of the environment shows."""
    return 'none (mmcompress.light_ops)'


def get_compiling_cuda_version() -> str:
    """What mmengine's log of the environment shows."""
    return 'not available'


def find_operator(name: str) -> Callable:
    """An operator that is not here: refuses when it is called.

    Args:
        name (str): Of the operator in ``mmcv._ext``.

    Raises:
        AttributeError: For names that no operator has.
    """
    if name.startswith('_'):
        raise AttributeError(f"module 'mmcv._ext' has no attribute '{name}'")

    def refuse(*args, **kwargs):
        raise NotImplementedError(
            f"mmcv's operator '{name}' is not in mmcompress.light_ops; it "
            'takes the compiled mmcv: `make demo SETUP=full` in a checkout '
            'of mmcompress, elsewhere pip uninstall -y mmcv-lite && '
            f'{BUILD_MMCV}')

    refuse.__name__ = name
    return refuse
