# plain regression: what the others are compared with
_base_ = 'mmcompress::ida_det/_base_/ida_det_faster-rcnn_mini.py'
