"""What every distillation loss must bear."""
import inspect
import socket
from typing import Any

import pytest
import torch
from distill import pose_models
from distill.loss_cases import CASES, Case, change, cut, tensors_of
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmcompress.compat import close_process_group
from mmcompress.distill import losses
from mmcompress.distill.losses import DistillLoss

HALVES = (torch.half, torch.bfloat16)
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
