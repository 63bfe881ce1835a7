_base_ = './vitkd_deit-small_deit3-base_in1k.py'

model = dict(
    losses=dict(
        loss_nkd=dict(
            type='mmcompress.NKDLoss',
            student='head',
            teacher='head',
            temp=1.0,
            gamma=1.0)))
