from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        beit=['QuantBEiTAttention', 'QuantCrossAttention'],
        conditional=['QuantConditionalAttention'],
        deformable=['QuantDeformableAttention'],
        dot_product=['QuantDotProduct'],
        multihead=['QuantMultiheadAttention'],
        rules=[
            'attention_rule', 'eight_bit_children', 'float_layers',
            'float_products', 'handled_children'
        ],
        window=['QuantWindowMSA', 'QuantWindowMSAV2']))
