# A student of any block, width and depth for the teacher of kd_resnet_mini.py
_base_ = 'mmcompress::kd/kd_resnet_mini.py'

# a list replaces that of the base, so what it imports is repeated
custom_imports = dict(
    imports=['mmcompress.compat', 'diswot'], allow_failed_imports=False)

model = dict(
    student=dict(
        backbone=dict(
            _delete_=True,
            type='mmcompress.StageResNetCIFAR',
            stage_blocks=(2, 2, 2),
            block='BasicBlock',
            base_channels=8,
            stem_channels=8,
            strides=(2, 2, 2))))

diswot = dict(
    space=dict(
        type='ResNetSpace',
        block=['BasicBlock', 'Bottleneck'],
        base_channels=[4, 8, 12, 16],
        stage_blocks=[[1, 2, 3, 4]] * 3),
    # about as many operations as the student above has
    max_flops=1.9e6,
    # channels of candidates differ from each other and from the teacher's
    w_semantic=0.0,
    evaluations=60,
    population=8,
    tournament=4,
    num_parents=1)
