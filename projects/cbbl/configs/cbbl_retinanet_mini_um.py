# with the entropy of the predictions, lambda 0.5
_base_ = './cbbl_retinanet_mini_ce.py'

model = dict(bbox_head=dict(loss_bbox=dict(lambda_um=0.5)))
