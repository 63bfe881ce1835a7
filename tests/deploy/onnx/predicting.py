"""Small models of the libraries' configs, to predict with."""
import torch
from mmengine.registry import DefaultScope
from quantization import small_models

_R18 = dict(depth=18, base_channels=8)
_FPN = dict(in_channels=[8, 16, 32, 64], out_channels=16)
_DENSE = dict(
    backbone=dict(_R18, style='pytorch'),
    neck=_FPN,
    bbox_head=dict(in_channels=16, feat_channels=32, stacked_convs=1))
_SIZE = (128, 160)
_REGIONS = dict(
    backbone=_R18,
    neck=_FPN,
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=[
            dict(
                type='Shared2FCBBoxHead',
                in_channels=16,
                fc_out_channels=32,
                roi_feat_size=7,
                num_classes=80,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder',
                    target_means=[0.] * 4,
                    target_stds=[.1, .1, .2, .2]),
                reg_class_agnostic=True) for _ in range(3)
        ]),
    test_cfg=dict(rcnn=dict(score_thr=0.)))
_MASKS = dict(
    _REGIONS,
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16)))
_YOLOX = dict(
    backbone=dict(widen_factor=0.125),
    neck=dict(in_channels=[32, 64, 128], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32))
_HEATMAP = dict(
    backbone=dict(base_channels=8),
    head=dict(in_channels=256, deconv_out_channels=[8, 8, 8]))
_PSP = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    decode_head=dict(in_channels=64, channels=16, num_classes=4),
    auxiliary_head=dict(in_channels=32, channels=16, num_classes=4))
_POSE = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/'
#: Config, changes and size, of models that other tests don't have.
OTHERS = dict(
    fcos=('mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', _DENSE, _SIZE),
    gfl=('mmdet::gfl/gfl_r50_fpn_1x_coco.py', _DENSE, _SIZE),
    atss=('mmdet::atss/atss_r50_fpn_1x_coco.py', _DENSE, _SIZE),
    tood=('mmdet::tood/tood_r50_fpn_1x_coco.py', _DENSE, _SIZE),
    yolox=('mmdet::yolox/yolox_s_8xb8-300e_coco.py', _YOLOX, None),
    ssd=('mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py', {},
         None),
    cascade_rcnn=('mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
                  _REGIONS, None),
    mask_rcnn=('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', _MASKS, None),
    heatmap=(_POSE + 'td-hm_res50_8xb64-210e_coco-256x192.py', _HEATMAP, None),
    pspnet=('mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
            _PSP, (64, 64)))
for key, (config, changes, shape) in OTHERS.items():
    small_models.MODELS_OF_LIBRARIES.setdefault(
        key, small_models.Small(config, changes, shape))


def scope(name):
    """The default scope of a model's library."""
    return DefaultScope.overwrite_default_scope(small_models.scope_of(name))


def size_of(name, model):
    """Height and width of its images."""
    return tuple(small_models.batch_of(name, model)['inputs'].shape[-2:])


def build(name, steps=None):
    """A model that predicts something, in eval mode."""
    model = small_models.build(name, steps)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, .1)
            module.running_var.uniform_(.5, 2)
            module.weight.data.uniform_(.5, 1.5)
    # more, and scores of 1 would tie
    spread = 0.05 if hasattr(model, 'roi_head') else 0.15
    heads = ('bbox_head', 'rpn_head', 'roi_head')
    if name == 'heatmap':
        # as they are initialized, heatmaps hardly depend on the image, and
        # where they are highest is a matter of rounding
        heads = ('head.deconv_layers', 'head.final_layer')
    for key, parameter in model.named_parameters():
        is_head = key.startswith(heads)
        if is_head and parameter.dim() > 1:
            parameter.data.normal_(0, spread)
        if is_head and key.endswith('bias'):
            parameter.data.zero_()
    model.requires_grad_(False)
    model.eval()
    if steps:
        batch = small_models.batch_of(name, model)
        with torch.enable_grad():
            model(**batch, mode='tensor')
    return model
