"""Every distillation loss, with what its forward gets.

A loss that is new in mmcompress.distill.losses needs a case: an entry of the
dict `EVERY_LOSS` in its own test file, as in test_g2sd.py, or one in `CASES`.
"""
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from distill.loss_inputs import AWAY, BOXES, NONE, detected, queries, randn
from golden.nkd import labelled
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from mmcompress.distill import losses
from mmcompress.distill.losses import DistillLoss, uskd

SIZES = ((8, 12), (4, 6))


def levels(channels, seed):
    return [randn(channels, *size, seed=seed) for size in SIZES]


def tokens(dims, seed):
    low = [randn(17, dims, seed=seed + i) for i in (1, 2)]
    return dict(low=low, high=randn(17, dims, seed=seed))


def decoded(dims, seed):
    mask = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 1]])
    return dict(hidden=randn(5, dims, seed=seed), mask=mask)


def two_stage(channels, seed):
    objectness = [randn(3, *size, seed=seed + 10) for size in SIZES]
    return dict(feats=levels(channels, seed), objectness=objectness)


CLASSES = labelled(torch.tensor([0, 3]))
MIXED = labelled(torch.tensor([[.7, 0, .3, 0, 0], [0, .5, .5, 0, 0]]))


def detector():
    """What IDa-Det asks of a two-stage detector: its RPN's predictions."""
    proposal = dict(
        nms_pre=30,
        max_per_img=10,
        nms=dict(type='nms', iou_threshold=0.7),
        min_bbox_size=0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = MODELS.build(
            dict(
                type='mmdet.RPNHead',
                in_channels=4,
                feat_channels=4,
                anchor_generator=dict(
                    type='AnchorGenerator',
                    scales=[4],
                    ratios=[1.0],
                    strides=[8, 16])))
    return SimpleNamespace(
        rpn_head=head,
        train_cfg=ConfigDict(rpn_proposal=proposal),
        test_cfg=ConfigDict(rpn=proposal))


def neck_and_rpn(seed, score=0.0):
    # far apart, so that rounding doesn't change their order
    scores = [
        3 * randn(1, *size, seed=5) + score + i for i, size in enumerate(SIZES)
    ]
    deltas = [0.1 * randn(4, *size, seed=6) for size in SIZES]
    return dict(neck=levels(4, seed), rpn=(scores, deltas))


@dataclass
class Case:
    """A loss, and what its forward gets.

    Attributes:
        make (Callable): Builds it.
        student, teacher (Any): Tensors in dicts, lists and tuples.
        others (dict): Callables that make the other keywords.
        constants (list): What is computed without a gradient from what has
            one, as owner and name.
        detached (str): Parameters whose gradient leaves out a part of the
            loss; what their names begin with.
    """
    make: Callable[[], DistillLoss]
    student: Any
    teacher: Any = None
    others: dict[str, Callable] = field(default_factory=dict)
    constants: list[tuple] = field(default_factory=list)
    detached: str = 'none'

    def loss(self) -> DistillLoss:
        torch.manual_seed(0)
        return self.make()

    def run(self, loss: DistillLoss, student: Any,
            teacher: Any) -> list[Tensor]:
        """Its losses, always with the same random draws."""
        torch.manual_seed(0)
        first = tensors_of(student)[0]
        # whatever is not a tensor of images comes with the samples of two
        num = len(first) if first is not None and first.dim() else 2
        given = {k: make() for k, make in self.others.items()}
        given = {k: v[:num] if isinstance(v, list) else v
                 for k, v in given.items()}  # yapf: disable
        if self.teacher is not None:
            given['teacher'] = teacher
        result = loss(student=student, **given)
        if not isinstance(result, dict):
            result = dict(loss=result)
        return [
            term for key, value in result.items() if 'loss' in key
            for term in tensors_of(value)
        ]


def tensors_of(value: Any) -> list[Tensor]:
    if value is None or isinstance(value, Tensor):
        return [value]
    value = list(value.values()) if isinstance(value, dict) else value
    return [t for item in value for t in tensors_of(item)]


def change(function: Callable, value: Any) -> Any:
    """Apply a function to all tensors of nested dicts, lists and tuples."""
    if value is None:
        return None
    if isinstance(value, dict):
        return {k: v if k == 'mask' else change(function, v)
                for k, v in value.items()}  # yapf: disable
    if isinstance(value, (list, tuple)):
        return type(value)(change(function, v) for v in value)
    return function(value)


def cut(value: Any, images: slice) -> Any:
    """Some images of all tensors, masks as well."""
    if isinstance(value, dict) and 'mask' in value:
        return dict(change(lambda x: x[images], value),
                    mask=value['mask'][images])  # yapf: disable
    return change(lambda x: x[images], value)


def case(name: str, *args, student, teacher=None, samples=None, others=None,
         constants=(), detached='none', **kwargs):  # yapf: disable
    others = dict(others or {})
    if samples is not None:
        others['data_samples'] = lambda: samples
    return Case(lambda: getattr(losses, name)(*args, **kwargs), student,
                teacher, others, list(constants), detached)


def maps(channels, seed):
    return randn(channels, *SIZES[0], seed=seed)


LOGITS = dict(student=randn(5, seed=1), teacher=randn(5, seed=2))
SIMCC = dict(
    student=(randn(3, 24, seed=1), randn(3, 32, seed=2)),
    teacher=(randn(3, 24, seed=3), randn(3, 32, seed=4)))
ONE_MAP = dict(student=maps(4, 1), teacher=maps(6, 2))
ADAPTED = dict(student_channels=4, teacher_channels=6, **ONE_MAP)
NECK = dict(student=levels(4, 1), teacher=levels(6, 2))
SELF = dict(feature=maps(4, 1), logits=randn(5, seed=2))
SELF_CONSTANTS = [(uskd, 'soft_target'), (losses.USKDLoss, 'nontarget_labels')]
DETECTORS = dict(student_model=detector, teacher_model=detector)

QUERIES = dict(
    student=queries(4, 1, *AWAY), teacher=queries(6, 2), samples=BOXES)
QKV = dict(
    student=[randn(5, 3 * 4, seed=i) for i in (1, 2)],
    teacher=[randn(5, 3 * 8, seed=i) for i in (3, 4)])
# the second layer has one head
HEADS = dict(
    student=dict(
        q=[randn(3, 5, 4, seed=1),
           randn(1, 5, 4, seed=2)],
        k=[randn(3, 5, 4, seed=3),
           randn(1, 5, 4, seed=4)]),
    teacher=dict(
        q=[randn(3, 5, 6, seed=5),
           randn(1, 5, 4, seed=6)],
        k=[randn(3, 5, 6, seed=7),
           randn(1, 5, 4, seed=8)]))
ATTENTION = dict(
    student=[randn(3, 5, 7, seed=1).softmax(-1)],
    teacher=[randn(3, 5, 7, seed=2).softmax(-1)])

CASES = dict(
    fgd=case('FGDLoss', 4, 6, 2, samples=BOXES, **NECK),
    fgd_no_boxes=case('FGDLoss', 4, 6, 2, samples=detected(NONE, NONE),
                      **NECK),
    mgd=case('MGDLoss', 4, 6, 2, **NECK),
    mgd_channels=case(
        'MGDLoss', 4, 6, 2, mask_type='channel', lambda_mgd=0.15, **NECK),
    mgd_all_dropped=case('MGDLoss', 4, 6, 2, lambda_mgd=1.0, **NECK),
    cwd=case('CWDLoss', tau=4.0, **ADAPTED),
    pkd=case('PKDLoss', **ADAPTED),
    kd=case('KDLoss', tau=2.0, **LOGITS),
    kd_dense=case('KDLoss', student=maps(4, 1), teacher=maps(4, 2)),
    kd_sigmoid=case('KDLoss', tau=2.0, activation='sigmoid', **LOGITS),
    kd_queries=case('KDLoss', class_axis=-1, student=randn(7, 5, seed=1),
                    teacher=randn(7, 5, seed=2)),
    fitnets=case('FeatureL2Loss', **ADAPTED),
    nkd=case('NKDLoss', temp=3.0, samples=CLASSES, **LOGITS),
    nkd_mixed=case('NKDLoss', samples=MIXED, **LOGITS),
    uskd=case('USKDLoss', 4, 5, student=SELF, samples=CLASSES,
              constants=SELF_CONSTANTS),
    uskd_mixed=case('USKDLoss', 4, 5, student=SELF, samples=MIXED,
                    constants=SELF_CONSTANTS),
    tf_nkd=case('TfNKDLoss', student=LOGITS['student'], samples=CLASSES,
                constants=SELF_CONSTANTS[:1]),
    vitkd=case('ViTKDLoss', 4, 6, student=tokens(4, 1), teacher=tokens(6, 5)),
    dwpose_feature=case('DWPoseFeatureLoss', **ADAPTED),
    dwpose_logit=case('DWPoseLogitLoss', beta=10.0, **SIMCC),
    ida_det=case('IDaDetLoss', 4, 2, gamma=1.0, student=neck_and_rpn(1),
                 teacher=neck_and_rpn(2), samples=BOXES, others=DETECTORS),
    ida_det_no_candidates=case(
        'IDaDetLoss', 4, 2, student=neck_and_rpn(1, -20),
        teacher=neck_and_rpn(2, -20), samples=BOXES, others=DETECTORS),
    ie_kd=case('IEKDLoss', 4, 6, num_levels=2, **NECK),
    ie_kd_mutual=case('IEKDLoss', 4, 3, num_levels=2, teacher_channels=6,
                      inh_loss='cos', exp_loss='cos',
                      detached='autoencoder', **NECK),
    g2sd=case('G2SDGenericLoss', 4, 6, student=decoded(4, 1),
              teacher=decoded(6, 2)),
    g2sd_det=case('G2SDDetLoss', 4, 6, 2, student=two_stage(4, 1),
                  teacher=two_stage(6, 2)),
)  # yapf: disable
# the test file of a method may have its cases: arguments of case(), and its
# inputs, or which of those above they are
for file in sorted((Path(__file__).parent / 'losses').glob('test_*.py')):
    if '\nEVERY_LOSS = ' in file.read_text():
        for key, own in import_module(file.stem).EVERY_LOSS.items():
            inputs = own['inputs']
            if isinstance(inputs, str):
                inputs = globals()[inputs]
            CASES[key] = case(own['name'], **own.get('kwargs', {}), **inputs)
