# the teacher's similarities of tokens alone, without norms
_base_ = '../lsq/lsq_deit_w2_a2_mini.py'

qkv = [f'backbone.layers.{i}.attn.qkv' for i in range(5)]

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/../vitkd/vitkd_deit_mini_teacher.py',
        checkpoint='cache://vitkd_deit_mini_teacher'),
    losses=dict(
        loss_dgd=dict(type='mmcompress.DGDLoss', student=qkv, teacher=qkv)))
