# with the difference of the entropies of predictions and labels
_base_ = './cbbl_fcos_mini_um.py'

model = dict(bbox_head=dict(loss_bbox=dict(um_mode='match')))
