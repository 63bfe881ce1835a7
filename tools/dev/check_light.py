"""Train a step of a model of each kind, and predict, on mmcv as it is here.

For the set-up without compiled operators (``make check-light``), and for the
one with them: ``--out FILE`` writes losses, gradients and predictions, and
``--like FILE`` compares with those that the other set-up wrote. Models are the
libraries' own, with random weights, on two images of noise.
"""
import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.structures import PixelData

import mmcompress.compat  # noqa: F401
from mmcompress.light_ops.hook import in_use

# name -> config and what is changed in it; the last are deformable
# convolutions, plain and modulated, soft NMS, and maximum and RoI pooling
DCN = 'model.backbone.dcn'
POOL = 'model.roi_head.bbox_roi_extractor.roi_layer'
MODELS = {
    'RetinaNet': ('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', {}),
    'Faster R-CNN': ('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', {}),
    'Mask R-CNN': ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', {}),
    'RTMDet': ('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', {}),
    'DETR': ('mmdet::detr/detr_r50_8xb2-150e_coco.py', {}),
    'Deformable DETR':
    ('mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py', {}),
    'PSPNet':
    ('mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py', {}),
    'RTMPose': ('mmpose::body_2d_keypoint/rtmpose/coco/'
                'rtmpose-t_8xb256-420e_coco-256x192.py', {}),
    'ResNet': ('mmpretrain::resnet/resnet18_8xb32_in1k.py', {}),
    'RetinaNet, DCN': ('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', {
        DCN:
        dict(type='DCN', deform_groups=1),
        'model.backbone.stage_with_dcn': (False, True, True, True),
        'model.backbone.depth':
        50,
        'model.neck.in_channels': [256, 512, 1024, 2048],
        'model.test_cfg.nms.type':
        'soft_nms'
    }),
    'Faster R-CNN, DCNv2, max':
    ('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', {
        DCN: dict(type='DCNv2', deform_groups=1),
        'model.backbone.stage_with_dcn': (False, True, True, True),
        f'{POOL}.pool_mode': 'max'
    }),
}


def build(path: str, changes: dict) -> nn.Module:
    """A model of a library's config, with random weights.

    Args:
        path (str): ``package::path``.
        changes (dict): Dotted keys and their values.
    """
    from mmcompress.registry import MODELS as REGISTRY
    scope = path.split('::')[0]
    cfg: Config = get_config(path)
    cfg.merge_from_dict(changes)
    _drop_downloads(cfg.model)
    init_default_scope(scope)
    if scope == 'mmseg':
        # the batch norms of several processes need these
        cfg.merge_from_dict({
            'norm_cfg.type': 'BN',
            'model.data_preprocessor.size': (64, 64)
        })
        _plain_norms(cfg.model)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(scope):
        model = REGISTRY.build(cfg.model)
        model.init_weights()
    return model


def _drop_downloads(cfg: dict) -> None:
    """Take pretrained weights out of a model's config."""
    for key in list(cfg):
        value = cfg[key]
        if key == 'pretrained' or (key == 'init_cfg'
                                   and 'checkpoint' in str(value)):
            cfg[key] = None
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, dict):
                _drop_downloads(part)


def _plain_norms(cfg: dict) -> None:
    """SyncBN to BN."""
    for value in cfg.values():
        if isinstance(value, dict):
            _plain_norms(value)
    if cfg.get('type') == 'SyncBN':
        cfg['type'] = 'BN'


def make_batch(path: str) -> dict:
    """Two images of noise with their targets, as a data loader gives them."""
    scope = path.split('::')[0]
    noise = np.random.RandomState(0)

    def image(height, width):
        pixels = noise.randint(0, 255, (3, height, width), dtype=np.uint8)
        return torch.from_numpy(pixels)

    if scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs
        return demo_mm_inputs(
            2, [(3, 128, 160), (3, 128, 128)],
            num_items=[4, 3],
            num_classes=10,
            with_mask='mask' in path)
    if scope == 'mmpose':
        from mmpose.testing import get_packed_inputs
        return get_packed_inputs(
            2,
            num_keypoints=17,
            input_size=(192, 256),
            img_shape=(256, 192),
            with_simcc_label=True)
    images = [image(64, 64) for _ in range(2)]
    if scope == 'mmpretrain':
        from mmpretrain.structures import DataSample
        samples = [DataSample().set_gt_label(i) for i in (3, 7)]
    else:
        from mmseg.structures import SegDataSample
        samples = [
            SegDataSample(
                metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)),
                gt_sem_seg=PixelData(
                    data=torch.from_numpy(noise.randint(0, 19, (1, 64, 64)))))
            for _ in images
        ]
    return dict(inputs=images, data_samples=samples)


def _predictions(samples: list) -> list[float]:
    """Numbers of what a model found: boxes, scores, classes."""
    numbers = []
    for sample in samples:
        found = sample.get('pred_instances')
        if found is not None:
            for key in ('scores', 'bboxes'):
                if key in found:
                    values = torch.as_tensor(found[key])
                    numbers += [len(values), float(values.sum())]
        elif 'pred_score' in sample:
            numbers.append(float(sample.pred_score.max()))
        else:
            numbers.append(float(sample.seg_logits.data.double().mean()))
    return numbers


def run(path: str, changes: dict) -> dict:
    """One training step, and predictions.

    Returns:
        dict: Losses by name, the norm of all gradients, numbers of
        predictions, and seconds.
    """
    model = build(path, changes).train()
    start = time.time()
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    batch = model.data_preprocessor(make_batch(path), True)
    losses, log = model.parse_losses(model(**batch, mode='loss'))
    losses.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.stack([g.double().norm() for g in grads]).norm()
    optimizer.step()
    if not (torch.isfinite(norm) and norm > 0):
        raise FloatingPointError(f'{path}: the gradient is {float(norm)}')
    model.eval()
    with torch.no_grad():
        batch = model.data_preprocessor(make_batch(path), False)
        samples = model(**batch, mode='predict')
    return dict(
        losses={
            name: float(value)
            for name, value in log.items()
        },
        gradient=float(norm),
        predictions=_predictions(samples),
        seconds=round(time.time() - start, 1))


def differences(name: str, mine: dict, other: dict,
                tolerance: float) -> list[str]:
    """Which numbers of a model are not those of the other set-up."""
    found = []
    pairs = [('gradient', mine['gradient'], other['gradient'])]
    pairs += [(key, value, other['losses'].get(key))
              for key, value in mine['losses'].items()]
    pairs += [(f'prediction {i}', a, b) for i, (
        a, b) in enumerate(zip(mine['predictions'], other['predictions']))]
    for key, a, b in pairs:
        if b is None or abs(a - b) > tolerance * max(abs(a), abs(b), 1e-3):
            found.append(f'{name}, {key}: {a} here, {b} there')
    return found


def main() -> int:
    """Run all models.

    Returns:
        int: 0 if all work, and equal the other set-up's where given.
    """
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, help='json to write')
    parser.add_argument('--like', type=Path, help='json to compare with')
    parser.add_argument(
        '--tolerance', type=float, default=1e-3, help='relative, with --like')
    parser.add_argument('--only', help='part of the names of models')
    args = parser.parse_args()
    print(f"mmcv's operators: {'ours' if in_use() else 'compiled'}")
    results, errors = {}, []
    for name, (path, changes) in MODELS.items():
        if args.only and args.only not in name:
            continue
        results[name] = result = run(path, changes)
        print(
            f'{name}: loss {result["losses"]["loss"]:.6f}, gradient '
            f'{result["gradient"]:.6g}, {result["seconds"]} s',
            flush=True)
        if args.like:
            errors += differences(name, result,
                                  json.loads(args.like.read_text())[name],
                                  args.tolerance)
    if args.out:
        args.out.write_text(json.dumps(results, indent=2) + '\n')
    print(*errors, sep='\n')
    return int(bool(errors))


if __name__ == '__main__':
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        sys.exit(main())
