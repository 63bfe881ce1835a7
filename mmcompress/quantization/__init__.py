from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        layers=[
            'Place', 'Product', 'QuantConv2d', 'QuantConvTranspose2d',
            'QuantLayer', 'QuantLinear', 'bits_of', 'build_quantizer'
        ],
        lsq=['LSQ'],
        quantization_networks=['QNActivation', 'QNWeight'],
        quantizer=['Codes', 'Quantizer', 'Summary', 'bypassed'],
        spec=['Spec'],
        step=['QuantizeLayers']))
