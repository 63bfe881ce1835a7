from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        bi_vit=['ActBi', 'LSF', 'SignActivation', 'SignWeight'],
        codes=['Codes', 'Summary'],
        dorefa=['DoReFaActivation', 'DoReFaWeight'],
        dynamic=['Dynamic'],
        layers=[
            'Place', 'Product', 'QuantConv2d', 'QuantConvTranspose2d',
            'QuantLayer', 'QuantLinear', 'bits_of', 'build_quantizer'
        ],
        lsq=['LSQ'],
        observed=['Observed'],
        observers=[
            'MSE', 'MinMax', 'MovingAverage', 'OBSERVERS', 'Observer',
            'Percentile'
        ],
        pact=['PACT'],
        quantization_networks=['QNActivation', 'QNWeight'],
        quantizer=['Quantizer', 'bypassed'],
        query_norms=['DistributionAlignment', 'IRM'],
        spec=['Spec'],
        step=['QuantizeLayers'],
        ternary=['TernaryWeight']))
