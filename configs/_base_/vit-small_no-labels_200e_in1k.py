# one class token, and no loss of its own: NKD of G2SD replaces it
_base_ = './vit-small_dist-token_200e_in1k.py'

model = dict(
    backbone=dict(type='VisionTransformer'),
    head=dict(type='VisionTransformerClsHead', loss=dict(loss_weight=0.0)))
