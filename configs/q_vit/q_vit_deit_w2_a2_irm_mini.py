# the norms of queries and keys alone, without a teacher
_base_ = '../lsq/lsq_deit_w2_a2_mini.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0],
        query_norm=dict(type='IRM'),
        key_norm=dict(type='IRM'))
])
