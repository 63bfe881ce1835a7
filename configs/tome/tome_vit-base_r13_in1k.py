_base_ = './tome_vit-base_r8_in1k.py'

model = dict(steps=[dict(type='mmcompress.MergeTokens', r=13)])
