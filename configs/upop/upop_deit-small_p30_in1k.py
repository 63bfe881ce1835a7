_base_ = './upop_deit-small_p50_in1k.py'

default_hooks = dict(upop=dict(p=0.3))
