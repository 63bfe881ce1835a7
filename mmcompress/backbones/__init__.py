import mmcompress.compat  # noqa: F401
from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        biformer=['BiFormer'],
        cifar_resnet=['CifarResNet'],
        deit3=['DeiT3'],
        g2sd=[
            'DistTokenClsHead', 'DistTokenVisionTransformer',
            'MAEFeatureDecoder', 'MAEWithoutPixels'
        ],
        layer_decay=['BackboneLayerDecay'],
        mobilenet_v1=['MobileNetV1'],
        vitdet=['SimpleFPN', 'ViTDet']))
