# Blocks of each stage for a bottleneck student of the teacher's channels
_base_ = './diswot_resnet_mini.py'

model = dict(
    student=dict(
        backbone=dict(block='Bottleneck'), head=dict(in_channels=128)))

diswot = dict(
    _delete_=True,
    space=dict(
        type='ResNetSpace',
        block=['Bottleneck'],
        base_channels=[8],
        stage_blocks=[[1, 2, 3, 4]] * 3),
    combine='rank_sum',
    evaluations=40,
    population=8,
    tournament=4,
    num_parents=1)
