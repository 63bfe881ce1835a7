_base_ = './vitkd_deit-tiny_deit3-small_in1k.py'

model = dict(
    losses=dict(
        loss_nkd=dict(
            type='mmcompress.NKDLoss',
            student='head',
            teacher='head',
            temp=1.0,
            gamma=1.0)))
