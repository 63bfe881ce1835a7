# plain regression: what the others are compared with
_base_ = 'mmcompress::fgd/fgd_retinanet_mini_student.py'
