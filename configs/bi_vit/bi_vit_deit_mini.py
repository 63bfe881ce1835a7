# maps by LSF, and the teacher's order in them
_base_ = './bi_vit_deit_lsf_mini.py'

attentions = [f'backbone.layers.{i}.attn' for i in range(5)]

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/../vitkd/vitkd_deit_mini_teacher.py',
        checkpoint='cache://vitkd_deit_mini_teacher'),
    losses=dict(
        loss_rank=dict(
            type='mmcompress.RankDistillLoss',
            student=[
                f'{attn}.scaled_dot_product_attention.av@input'
                for attn in attentions
            ],
            teacher=[f'{attn}.qkv' for attn in attentions])))
