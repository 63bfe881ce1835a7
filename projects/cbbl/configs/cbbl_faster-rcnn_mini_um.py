# with the entropy of the predictions, lambda 0.5
_base_ = './cbbl_faster-rcnn_mini_ce.py'

model = dict(
    rpn_head=dict(loss_bbox=dict(lambda_um=0.5)),
    roi_head=dict(bbox_head=dict(loss_bbox=dict(lambda_um=0.5))))
