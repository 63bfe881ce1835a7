from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        bi_vit=['ActBi', 'LSF', 'SignActivation', 'SignWeight'],
        dorefa=['DoReFaActivation', 'DoReFaWeight'],
        dynamic=['Dynamic'],
        layers=[
            'Place', 'Product', 'QuantConv2d', 'QuantConvTranspose2d',
            'QuantLayer', 'QuantLinear', 'bits_of', 'build_quantizer'
        ],
        lsq=['LSQ'],
        observers=[
            'MSE', 'MinMax', 'MovingAverage', 'OBSERVERS', 'Observer',
            'Percentile'
        ],
        observed=['Observed'],
        pact=['PACT'],
        quantizer=['Codes', 'Quantizer', 'Summary', 'bypassed'],
        spec=['Spec'],
        ternary=['TernaryWeight']))
