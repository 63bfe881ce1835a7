# 65 tokens become 9
_base_ = './tome_vit_r8_mini.py'

model = dict(steps=[dict(type='mmcompress.MergeTokens', r=12)])
