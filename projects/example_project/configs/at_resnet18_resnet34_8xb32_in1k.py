_base_ = [
    'mmpretrain::resnet/resnet18_8xb32_in1k.py',
    '../../../configs/_base_/runtime.py'
]

# a list replaces that of the base, so what runtime.py imports is repeated
custom_imports = dict(
    imports=['mmcompress.compat', 'attention_transfer'],
    allow_failed_imports=False)

# top-1 accuracy 73.62
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmpretrain::resnet/resnet34_8xb32_in1k.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_at=dict(
            type='mmcompress.AttentionTransferLoss',
            student=['backbone.layer2', 'backbone.layer3', 'backbone.layer4'],
            teacher=['backbone.layer2', 'backbone.layer3', 'backbone.layer4'],
            beta=10.0)))
