# image tokens: 65 become 9; text tokens: 9 become 5
_base_ = './crossget_clip_rv12_mini.py'

model = dict(steps=[dict(type='mmcompress.CrossGET', vision=14, text=1)])
