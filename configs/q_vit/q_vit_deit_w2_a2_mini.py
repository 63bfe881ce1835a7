# both: norms of queries and keys, and the teacher's similarities of tokens
_base_ = './q_vit_deit_w2_a2_irm_mini.py'

attentions = [f'backbone.layers.{i}.attn' for i in range(5)]
products = [f'{attn}.scaled_dot_product_attention' for attn in attentions]

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/../vitkd/vitkd_deit_mini_teacher.py',
        checkpoint='cache://vitkd_deit_mini_teacher'),
    losses=dict(
        loss_dgd=dict(
            type='mmcompress.DGDLoss',
            student=dict(
                q=[f'{product}.norm_q' for product in products],
                k=[f'{product}.norm_k' for product in products]),
            teacher=[f'{attn}.qkv' for attn in attentions])))
