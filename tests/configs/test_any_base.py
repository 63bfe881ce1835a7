"""The guide's first example on models of every family of each library."""
import re
from pathlib import Path

import pytest
from meta_device import on_meta
from mmengine.config import Config
from mmengine.config import config as mmengine_config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch import nn

import mmcompress.compat  # noqa: F401
from mmcompress.hooks.standard import STANDARD

GUIDE = Path(__file__).parents[2] / 'docs' / 'user_guide' / 'distill.md'
EXAMPLE, = re.findall(r'```python\n# my_configs/bccd_fgd_r18_r50.py\n(.*?)```',
                      GUIDE.read_text('utf-8'), re.S)
FGD = EXAMPLE[EXAMPLE.index('        loss_fgd'):]
BASES = dict(
    mmdet=[
        'convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco',
        'deformable_detr/deformable-detr_r50_16xb2-50e_coco',
        'faster_rcnn/faster-rcnn_r50_fpn_1x_coco', 'fcos/'
        'fcos_r50-caffe_fpn_gn-head_1x_coco',
        'retinanet/retinanet_r50_fpn_1x_coco',
        'rtmdet/rtmdet_tiny_8xb32-300e_coco', 'ssd/ssd300_coco',
        'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco',
        'yolox/yolox_tiny_8xb8-300e_coco'
    ],
    mmpose=[
        'body_2d_keypoint/rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192',
        'body_2d_keypoint/rtmo/coco/rtmo-s_8xb32-600e_coco-640x640',
        'body_2d_keypoint/simcc/coco/simcc_res50_8xb64-210e_coco-256x192',
        'body_2d_keypoint/topdown_heatmap/coco/'
        'td-hm_hrnet-w32_8xb64-210e_coco-256x192',
        'body_2d_keypoint/topdown_heatmap/coco/'
        'td-hm_ViTPose-small_8xb64-210e_coco-256x192'
    ],
    mmpretrain=[
        'convnext/convnext-tiny_32xb128_in1k', 'deit/deit-tiny_4xb256_in1k',
        'mobilenet_v3/mobilenet-v3-small_8xb128_in1k',
        'regnet/regnetx-400mf_8xb128_in1k', 'resnet/resnet18_8xb32_in1k',
        'swin_transformer/swin-tiny_16xb64_in1k',
        't2t_vit/t2t-vit-t-14_8xb64_in1k'
    ],
    mmseg=[
        'convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512',
        'deeplabv3/deeplabv3_r50-d8_4xb2-40k_cityscapes-512x1024',
        'pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024',
        'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512',
        'swin/swin-tiny-patch4-window7-in1k-pre_upernet_'
        '8xb2-160k_ade20k-512x512'
    ])


def no_metafiles(*args):
    raise ValueError


@pytest.mark.parametrize('base', [
    f'{library}::{name}.py' for library, names in BASES.items()
    for name in names
], ids=lambda base: base.rpartition('/')[2][:-3])  # yapf: disable
def test_the_guides_example_fits_any_base(base, tmp_path, monkeypatch):
    monkeypatch.setattr(mmengine_config, '_get_external_cfg_path',
                        no_metafiles)
    # it prints the environment, which takes seconds
    monkeypatch.setattr(Runner, '_log_env', lambda *args: None)
    text = EXAMPLE.replace("'./bccd_retinanet_r18.py'", repr(base))
    text = text.replace(
        FGD, "        loss_l2=dict(type='mmcompress.FeatureL2Loss', "
        "student='backbone', teacher='backbone')))\n")
    (tmp_path / 'user.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'user.py')
    with on_meta(), DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    assert model.distill.taps
    plain = Config.fromfile(tmp_path / 'user.py')
    del plain.default_hooks['mmcompress']
    kinds = []
    for hooks in (cfg, plain):
        runner = Runner(
            nn.Linear(1, 1),
            str(tmp_path),
            default_hooks=hooks.default_hooks,
            custom_hooks=hooks.get('custom_hooks'),
            default_scope=cfg.default_scope,
            experiment_name=f'{base}{len(kinds)}',
            log_level='ERROR')
        runner.call_hook('before_run')
        kinds.append([type(hook).__name__ for hook in runner.hooks])
    ours, theirs = kinds
    # nothing of the base is lost, ours is added; its checkpoint hook becomes
    # one that writes safely
    theirs[theirs.index('CheckpointHook')] = 'SafeCheckpointHook'
    assert sorted(ours) == sorted([*theirs, 'StandardHooks', *STANDARD])
