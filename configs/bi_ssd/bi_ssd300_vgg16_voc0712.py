# mmdet's recipe; the backbone starts from the float VGG-16
_base_ = 'mmdet::pascal_voc/ssd300_voc0712.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmcompress.BiSSDVGG',
        depth=16,
        init_cfg=dict(
            type='Pretrained', checkpoint='open-mmlab://vgg16_caffe')),
    # mmdet 3.3.0's own can't predict
    bbox_head=dict(type='mmcompress.SSDHead'))

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))

# runtime.py can't be a second base: mmdet's config has hooks, too
custom_imports = dict(
    imports=['mmcompress.compat'], allow_failed_imports=False)
custom_hooks = [
    dict(type='NumClassCheckHook'),
    dict(type='mmcompress.InformTeacherHook'),
    dict(type='mmcompress.PlainCheckpointHook'),
    dict(type='mmcompress.ExactResumeHook'),
    dict(type='mmcompress.NonFiniteLossHook'),
    dict(type='mmcompress.CheckDataHook'),
]
