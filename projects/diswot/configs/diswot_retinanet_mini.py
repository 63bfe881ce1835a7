# The backbone of a RetinaNet for the teacher of fgd_retinanet_mini.py
_base_ = 'mmcompress::fgd/fgd_retinanet_mini.py'

custom_imports = dict(
    imports=['mmcompress.compat', 'diswot', 'diswot.detection'],
    allow_failed_imports=False)

model = dict(
    student=dict(
        backbone=dict(
            _delete_=True,
            type='mmcompress.StageDetResNet',
            stage_blocks=(2, 2, 2, 2),
            block='BasicBlock',
            base_channels=8,
            stem_channels=8,
            out_indices=(1, 2, 3),
            frozen_stages=-1,
            norm_eval=False)))

diswot = dict(
    space=dict(
        type='ResNetSpace',
        block=['BasicBlock', 'Bottleneck'],
        base_channels=[4, 8, 12, 16],
        stage_blocks=[[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]]),
    # about as many parameters as the student above has
    max_params=5.2e5,
    # a detector has no linear classifier on pooled features
    w_semantic=0.0,
    batch_size=16,
    evaluations=60,
    population=8,
    tournament=4,
    num_parents=1)
