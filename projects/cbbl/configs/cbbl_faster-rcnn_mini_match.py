# with the difference of the entropies of predictions and labels
_base_ = './cbbl_faster-rcnn_mini_um.py'

model = dict(
    rpn_head=dict(loss_bbox=dict(um_mode='match')),
    roi_head=dict(bbox_head=dict(loss_bbox=dict(um_mode='match'))))
