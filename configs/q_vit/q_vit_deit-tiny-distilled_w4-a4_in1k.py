_base_ = './q_vit_deit-small-distilled_w4-a4_in1k.py'

# top-1 74.51
float_ckpt = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-tiny-distilled_3rdparty_pt-4xb256_in1k_20211216-c429839a.pth'  # noqa: E501

model = dict(
    student=dict(
        model=dict(
            backbone=dict(arch='deit-tiny'), head=dict(in_channels=192))),
    teacher=dict(
        cfg='mmpretrain::deit/deit-tiny-distilled_4xb256_in1k.py',
        checkpoint=float_ckpt))

load_from = float_ckpt

# each image once in an epoch
train_dataloader = dict(
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))
