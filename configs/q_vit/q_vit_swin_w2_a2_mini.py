_base_ = '../lsq/lsq_swin_w2_a2_mini.py'

attentions = [
    f'backbone.stages.{stage}.blocks.{block}.attn.w_msa' for stage in range(2)
    for block in range(2)
]

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=dict(
        _base_.model,
        steps=[
            dict(
                _base_.model.steps[0],
                query_norm=dict(type='IRM'),
                key_norm=dict(type='IRM'))
        ]),
    teacher=dict(
        cfg='{{ fileDirname }}/q_vit_swin_mini_teacher.py',
        checkpoint='cache://q_vit_swin_mini_teacher'),
    losses=dict(
        loss_dgd=dict(
            type='mmcompress.DGDLoss',
            student=dict(
                q=[f'{attn}.products.norm_q' for attn in attentions],
                k=[f'{attn}.products.norm_k' for attn in attentions]),
            teacher=[f'{attn}.qkv' for attn in attentions])))
