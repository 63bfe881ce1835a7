_base_ = './upop_vit_p50_mini.py'

default_hooks = dict(upop=dict(p=0.75))
