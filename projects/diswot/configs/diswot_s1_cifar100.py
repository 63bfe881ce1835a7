# The 64 nets of the paper's space S1, distilled from ResNet-56 by plain KD
_base_ = './diswot_s1_teacher_cifar100.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=dict(
        type='ImageClassifier',
        backbone=dict(
            type='mmcompress.StageResNetCIFAR',
            stage_blocks=(3, 3, 3),
            base_channels=16,
            stem_channels=16),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=100,
            in_channels=64,
            loss=dict(type='CrossEntropyLoss', loss_weight=0.1))),
    teacher=dict(
        cfg='{{ fileDirname }}/diswot_s1_teacher_cifar100.py',
        checkpoint='cache://diswot_s1_teacher_cifar100'),
    losses=dict(
        loss_kd=dict(
            type='mmcompress.KDLoss',
            student='head.fc',
            teacher='head.fc',
            tau=4.0,
            loss_weight=0.9)))

# only the teacher is kept
default_hooks = dict(keep=dict(name=None))

diswot = dict(
    space=dict(
        type='ResNetSpace',
        base_channels=[16],
        stage_blocks=[[1, 3, 5, 7], [1, 3, 5, 7], [1, 3, 5, 7]]),
    batch_size=64,
    evaluations=40,
    population=8,
    tournament=4,
    num_parents=1)
