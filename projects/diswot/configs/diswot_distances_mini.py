# The two distances as distillation losses
_base_ = 'mmcompress::kd/kd_resnet_mini.py'

custom_imports = dict(
    imports=['mmcompress.compat', 'diswot'], allow_failed_imports=False)

model = dict(
    losses=dict(
        _delete_=True,
        loss_relation=dict(
            type='mmcompress.RelationDistanceLoss',
            student='backbone.layer3',
            teacher='backbone.layer3',
            loss_weight=3000.0),
        loss_semantic=dict(
            type='mmcompress.ChannelSemanticLoss',
            student='backbone.layer3',
            teacher='backbone.layer3',
            student_channels=32,
            teacher_channels=128,
            loss_weight=2.5)))
