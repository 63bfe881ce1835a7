from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        layers=[
            'Place', 'Product', 'QuantConv2d', 'QuantConvTranspose2d',
            'QuantLayer', 'QuantLinear', 'bits_of', 'build_quantizer'
        ],
        lsq=['LSQ'],
        observers=[
            'MSE', 'MinMax', 'MovingAverage', 'OBSERVERS', 'Observer',
            'Percentile'
        ],
        quantizer=['Codes', 'Quantizer', 'Summary', 'bypassed'],
        spec=['Spec'],
        step=['QuantizeLayers']))
