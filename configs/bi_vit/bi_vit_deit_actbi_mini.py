# maps as in the released code: at the beginning each is one number
_base_ = './bi_vit_deit_lsf_mini.py'

model = dict(steps=[dict(_base_.model.steps[0], softmax=dict(type='ActBi'))])
