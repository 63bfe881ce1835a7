# 192 tokens become 96, from the fifth layer on
_base_ = ('mmpose::body_2d_keypoint/topdown_heatmap/coco/'
          'td-hm_ViTPose-small_8xb64-210e_coco-256x192.py')

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.MergeTokens', r=[0] * 4 + [12] * 8)])

# AP 73.9
load_from = 'https://download.openmmlab.com/mmpose/v1/body_2d_keypoint/topdown_heatmap/coco/td-hm_ViTPose-small_8xb64-210e_coco-256x192-62d7a712_20230314.pth'  # noqa: E501

# what ../_base_/hooks.py has; that base imports something, too
custom_imports = dict(
    imports=['mmcompress.compat', *_base_.custom_imports.imports])
custom_hooks = _base_.custom_hooks + [
    dict(type='mmcompress.InformTeacherHook'),
    dict(type='mmcompress.PlainCheckpointHook'),
    dict(type='mmcompress.ExactResumeHook'),
    dict(type='mmcompress.NonFiniteLossHook'),
    dict(type='mmcompress.CheckDataHook'),
]
