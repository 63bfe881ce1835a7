"""What every distillation loss must bear, in one table.

A loss that is new in mmcompress.distill.losses needs a case: an entry of the
dict `EVERY_LOSS` in its own test file, as in test_g2sd.py, or one in `CASES`.
"""
import inspect
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from distill import pose_models
from golden.nkd import labelled
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmcompress.compat import close_process_group
from mmcompress.distill import losses
from mmcompress.distill.losses import DistillLoss, uskd

SIZES = ((8, 12), (4, 6))
IMAGE = (64, 96)
HALVES = (torch.half, torch.bfloat16)


def randn(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, *shape, generator=generator)


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


def detected(*boxes):
    """Data samples of mmdet with these boxes."""
    metainfo = dict(img_shape=IMAGE, batch_input_shape=IMAGE)
    return [
        SimpleNamespace(
            gt_instances=InstanceData(bboxes=b), metainfo=metainfo)
        for b in boxes
    ]


NONE = torch.zeros(0, 4)
BOXES = detected(
    torch.tensor([[10.0, 8, 50, 40], [40, 20, 90, 60]]),
    torch.tensor([[0.0, 0, 96, 64]]))
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
# the test file of a method may have its cases: arguments of case(), and of
# which of the inputs above they are
for file in sorted(Path(__file__).parent.glob('test_*.py')):
    if '\nEVERY_LOSS = ' in file.read_text():
        for key, own in import_module(file.stem).EVERY_LOSS.items():
            inputs = globals()[own['inputs']]
            CASES[key] = case(own['name'], **own.get('kwargs', {}), **inputs)

EXTREMES = dict(
    large=lambda x: 1e4 * x / x.abs().max().clamp(min=1e-12),
    constant=lambda x: torch.full_like(x, 3),
    large_constant=lambda x: torch.full_like(x, 1e4),
    zero=torch.zeros_like)

every_loss = pytest.mark.parametrize('name', CASES)


def test_no_loss_is_left_out():
    all_losses = {
        name
        for name, kind in inspect.getmembers(losses, inspect.isclass)
        if issubclass(kind, DistillLoss) and kind is not DistillLoss
    }
    assert all_losses == {type(c.loss()).__name__ for c in CASES.values()}


@every_loss
@pytest.mark.parametrize('dtype', HALVES, ids=str)
def test_autocast_gives_the_loss_of_float32(name, dtype):
    it = CASES[name]
    loss = it.loss()
    expected = it.run(loss, it.student, it.teacher)
    with torch.autocast('cpu', dtype=dtype):
        actual = it.run(loss, change(lambda x: x.to(dtype), it.student),
                        change(lambda x: x.to(dtype), it.teacher))
    assert {term.dtype for term in actual} == {torch.float32}
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=1e-6)


@every_loss
@pytest.mark.parametrize('num', [2, 1])
@pytest.mark.parametrize('teacher', [None, *EXTREMES])
def test_values_and_gradients_are_finite(name, teacher, num):
    it = CASES[name]

    def extreme(value, kind):
        value = change(torch.clone, cut(value, slice(num)))
        return change(EXTREMES[kind], value) if kind else value

    for kind in (None, *EXTREMES):
        loss = it.loss()
        student = change(lambda x: x.requires_grad_(),
                         extreme(it.student, kind))
        total = sum(it.run(loss, student, extreme(it.teacher, teacher)))
        total.backward()
        assert total.isfinite(), kind
        # DDP waits for the gradient of every parameter
        grads = [p.grad for p in loss.parameters()]
        assert all(grad is not None for grad in grads), kind
        reached = [x.grad for x in tensors_of(student) if x.grad is not None]
        assert reached
        assert all(g.isfinite().all() for g in grads + reached), kind


def assert_zero(it: Case, student: Any, teacher: Any) -> None:
    """The loss is 0, and all that waits for a gradient gets zeros."""
    loss = it.loss()
    before = {k: v.clone() for k, v in loss.named_buffers()}
    student = change(lambda x: x.detach().clone().requires_grad_(), student)
    total = sum(it.run(loss, student, teacher))
    total.backward()
    assert total == 0 and total.dtype == torch.float32
    grads = [p.grad for p in loss.parameters()]
    assert all(grad is not None and not grad.any() for grad in grads)
    reached = [x for x in tensors_of(student) if x.grad is not None]
    assert reached and not any(x.grad.any() for x in reached)
    # BN would take the mean of nothing, which is NaN
    torch.testing.assert_close(dict(loss.named_buffers()), before)


@every_loss
def test_no_image_adds_nothing(name):
    it = CASES[name]
    nothing = [cut(side, slice(0)) for side in (it.student, it.teacher)]
    assert_zero(it, *nothing)


MAPS = [
    name for name in CASES
    if CASES[name].student is not None and 'ida_det' not in name and any(
        x.dim() == 4 for x in tensors_of(CASES[name].student))
]


@pytest.mark.parametrize('name', MAPS)
def test_an_empty_map_adds_nothing_or_is_refused(name):
    it = CASES[name]
    sides = [
        change(lambda x: x[..., :0, :0] if x.dim() == 4 else x, side)
        for side in (it.student, it.teacher)
    ]
    if name.startswith('uskd'):
        with pytest.raises(ValueError, match='feature .2, 4, 0, 0. must be'):
            it.run(it.loss(), *sides)
        return
    assert_zero(it, *sides)


@pytest.mark.parametrize('name', MAPS)
@pytest.mark.parametrize('num', [2, 1])
@pytest.mark.filterwarnings('ignore:.* adds? nothing')
def test_maps_of_one_position_are_finite(name, num):
    it = CASES[name]
    student, teacher = (
        change(lambda x: x[..., :1, :1].clone() if x.dim() == 4 else x,
               cut(side, slice(num))) for side in (it.student, it.teacher))
    loss = it.loss()
    student = change(lambda x: x.detach().clone().requires_grad_(), student)
    total = sum(it.run(loss, student, teacher))
    total.backward()
    grads = [p.grad for p in loss.parameters()]
    assert all(grad is not None for grad in grads)
    grads += [x.grad for x in tensors_of(student) if x.grad is not None]
    assert total.isfinite() and all(g.isfinite().all() for g in grads)


WRONG = dict(
    scalar=lambda x: x.sum(),
    one_axis=lambda x: x.flatten(),
    five_axes=lambda x: x.reshape(*x.shape, *[1] * (5 - x.dim())),
    another_batch=lambda x: torch.cat([x, x[:1]]),
    integers=lambda x: x.long(),
    a_list=lambda x: [x],
    none=lambda x: None,
)
NAMED = dict(integers='int64', a_list='list of 1', none='got None')


@every_loss
@pytest.mark.parametrize('wrong', WRONG)
@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_other_inputs_are_refused_in_a_sentence(name, wrong, side):
    it = CASES[name]
    sides = dict(student=it.student, teacher=it.teacher)
    if sides[side] is None:
        return
    sides[side] = change(WRONG[wrong], sides[side])
    loss = it.loss()
    with pytest.raises((TypeError, ValueError)) as error:
        it.run(loss, **sides)
    text = str(error.value)
    assert text.startswith(type(loss).__name__)
    given = tensors_of(sides[side])
    if wrong == 'another_batch':
        assert '(3, ' in text or ' of 3 images' in text
    elif wrong in NAMED:
        assert NAMED[wrong] in text
    else:
        assert any(str(tuple(x.shape)) in text for x in given)


@every_loss
@pytest.mark.parametrize('dtype', HALVES, ids=str)
def test_extremes_do_not_overflow_in_half_precision(name, dtype):
    it = CASES[name]
    for kind, extreme in EXTREMES.items():
        both = [
            change(lambda x: extreme(x).to(dtype), side)
            for side in (it.student, it.teacher)
        ]
        with torch.autocast('cpu', dtype=dtype):
            assert sum(it.run(it.loss(), *both)).isfinite(), kind


@every_loss
def test_the_gradient_is_the_derivative(name, monkeypatch):
    it = CASES[name]
    for owner, constant in it.constants:
        hold(monkeypatch, owner, constant)
    student, teacher = (
        change(lambda x: x.double(), side)
        for side in (it.student, it.teacher))
    loss = it.loss().double()
    places = [x for x in tensors_of(student) if x.is_floating_point()]
    places += [
        p for name, p in loss.named_parameters()
        if not name.startswith(it.detached)
    ]
    generator = torch.Generator().manual_seed(0)

    def like(place):
        return torch.randn(
            place.shape, generator=generator, dtype=torch.double)

    # past zeros, where a kink may be
    starts = [place.detach() + 0.1 * like(place) for place in places]
    directions = [like(place) for place in places]

    def along(step):
        """The loss after a step in a random direction."""
        with torch.no_grad():
            for place, start, way in zip(places, starts, directions):
                place.copy_(start + step * way)
        return sum(it.run(loss, student, teacher))

    along(0.0)
    for place in places:
        place.requires_grad_()
    grads = torch.autograd.grad(along(0.0), places, allow_unused=True)
    slope = sum((grad * way).sum() for grad, way in zip(grads, directions)
                if grad is not None)  # yapf: disable
    step = 1e-6
    expected = (along(step) - along(-step)) / (2 * step)
    torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-8)


def hold(monkeypatch, owner, name):
    """Make a function return what it returned first."""
    function, results = getattr(owner, name), []

    def held(*args):
        if not results:
            results.append(function(*args))
        return results[0]

    monkeypatch.setattr(owner, name, held)


class OnOneImage(nn.Module):
    """A case's loss of one of its two images, and a parameter before it."""

    def __init__(self, it: Case) -> None:
        super().__init__()
        self.it = it
        self.loss = it.loss()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image: int) -> Tensor:
        part = slice(image, image + 1)
        student = change(lambda x: self.scale * x, cut(self.it.student, part))
        teacher = cut(self.it.teacher, part)
        return sum(self.it.run(self.loss, student, teacher))


def _gradients(net: nn.Module, image: int, parallel=None) -> list[Tensor]:
    for _ in range(2):
        # DDP complains about unused parameters in the second step
        net.zero_grad()
        (parallel or net)(image).backward()
    return [parameter.grad for parameter in net.parameters()]


def _train_in_a_process(rank, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    grads = {}
    for name, it in CASES.items():
        net = OnOneImage(it)
        parallel = DistributedDataParallel(net, find_unused_parameters=False)
        grads[name] = _gradients(net, rank, parallel)
    torch.save(grads, f'{folder}/{rank}.pth')
    close_process_group()


@pytest.mark.slow
def test_two_processes_average_the_gradients(tmp_path):
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    # not forked: threads that other tests started would be missing there
    torch.multiprocessing.spawn(
        _train_in_a_process, (port, str(tmp_path)), nprocs=2)
    first, second = [torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1)]
    for name, it in CASES.items():
        alone = [_gradients(OnOneImage(it), image) for image in (0, 1)]
        expected = [(a + b) / 2 for a, b in zip(*alone)]
        torch.testing.assert_close(first[name], expected, msg=name)
        torch.testing.assert_close(second[name], expected, msg=name)


def test_pose_models_bear_that_no_keypoint_is_visible():
    model = pose_models.build(
        pose_models.first_stage(pose_models.rtmpose(),
                                pose_models.rtmpose(0.125)))
    batch = pose_models.batch(model, num=1)
    batch['data_samples'][0].gt_instance_labels.keypoint_weights.zero_()
    results = model(**batch, mode='loss')
    # the teacher still has an opinion
    assert results['loss_kpt'] == 0 and results['loss_logit'] > 0
    sum(v for k, v in results.items() if 'loss' in k).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
