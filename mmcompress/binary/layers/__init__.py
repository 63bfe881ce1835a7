from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        base=['BinaryConv1d', 'BinaryConv2d', 'BinaryLinear', 'InferenceRule'],
        bidet=['BiDetConv2d', 'BiDetLinear'],
        binary_conv=['binary_conv2d', 'binary_linear'],
        bireal=['BiRealConv2d', 'bireal_weight'],
        ida_det=['IDaDetConv2d'],
        poem=['PoemConv1d', 'PoemLinear'],
        rbonn=['RBONNConv2d'],
        react=['RPReLU', 'RSign', 'ReActConv2d', 'Shift'],
        rebnn=['ReBNNConv2d'],
        sign=['binary_sign', 'bireal_sign'],
        xnor=['XNORConv2d', 'XNORLinear']))
