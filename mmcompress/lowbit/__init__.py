from .layer import (FLOAT_LAYERS, LowBitLayer, LowBitModule, convert_layer,
                    float_arguments, float_kind, num_bytes, refuse_packed)
from .operands import (FLOAT, Grid, InferenceRule, OperandBits, Signs,
                       code_range_of)
from .optimizer_step import add_gradient, call_before_step
from .replace import ReplaceConvs, ReplaceLayers, float_twin
from .rules import Rules, folds, row_of

__all__ = [
    'FLOAT', 'FLOAT_LAYERS', 'Grid', 'InferenceRule', 'LowBitLayer',
    'LowBitModule', 'OperandBits', 'ReplaceConvs', 'ReplaceLayers', 'Rules',
    'Signs', 'add_gradient', 'call_before_step', 'code_range_of',
    'convert_layer', 'float_arguments', 'float_kind', 'float_twin', 'folds',
    'num_bytes', 'refuse_packed', 'row_of'
]
