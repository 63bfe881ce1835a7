"""Layers that act between steps, under all that surrounds a training step.

Each of them is compared with the card of its method, written out below as a
plain loop that knows nothing of optimizers and hooks.
"""
import copy
import functools
import pickle
import socket
import threading

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from hooks.toy_runner import LossLog, toy_runner
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from mmcompress.binary import (IDaDetConv2d, RBONNConv2d, ReBNNConv2d,
                               XNORConv2d)
from mmcompress.compat import close_process_group
from mmcompress.hooks import ExactResumeHook, PlainCheckpointHook

STEPS = 5
LR = dict(xnor=5e-3, ida_det=1, rebnn=5, rbonn=5)
# the limits are out of the way of this problem's gammas, but for one of them
GAMMA_CLAMP = (1e-3, 4e-3)
LAYERS = dict(
    xnor=functools.partial(XNORConv2d),
    ida_det=functools.partial(IDaDetConv2d, recon_weight=0.02),
    rebnn=functools.partial(ReBNNConv2d, gamma_clamp=GAMMA_CLAMP),
    rbonn=functools.partial(RBONNConv2d, recon_weight=0.02))

every_layer = pytest.mark.parametrize('kind', list(LAYERS))


def randn(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.double)


def batch(step):
    return randn(4, 5, 6, 6, seed=step), randn(4, 10, 6, 6, seed=100 + step)


class Net(BaseModel):
    """A 1-bit convolution, and the squared error of what it computes."""

    def __init__(self, kind, recompute=False, dtype=torch.double):
        super().__init__()
        self.kind = kind
        torch.manual_seed(0)
        self.conv = LAYERS[kind](5, 10, 3, padding=1, bias=False).to(dtype)
        self.conv.weight.data.copy_(0.5 * randn(10, 5, 3, 3, seed=7))
        self.recompute = recompute

    def forward(self, x, target, mode='loss'):
        x = x.to(self.conv.weight.dtype)
        if self.recompute:
            y = checkpoint(self.conv, x, use_reentrant=False)
        else:
            y = self.conv(x)
        return dict(loss=(y - target.to(y)).square().mean())


def sgd(net, **kwargs):
    return torch.optim.SGD(net.parameters(), lr=LR[net.kind], **kwargs)


def train(net, wrapper, steps=range(STEPS), parts=1):
    """Train as mmengine does; each batch comes in some parts."""
    for step in steps:
        for data in zip(*[tensor.chunk(parts) for tensor in batch(step)]):
            with wrapper.optim_context(net):
                loss = net(*data)['loss']
            wrapper.update_params(loss)
    return net


def trained(kind, steps=range(STEPS)):
    net = Net(kind)
    return train(net, OptimWrapper(sgd(net)), steps)


def state(net):
    return {k.split('.')[-1]: v.clone() for k, v in net.state_dict().items()}


def assert_same(actual, expected, **tolerance):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, msg=key, **tolerance)


def gradient_of_binary_weight(w_hat, data):
    w_hat = w_hat.detach().requires_grad_()
    x, target = data
    y = F.conv2d(torch.where(x > 0, 1.0, -1.0).to(x), w_hat, padding=1)
    (y - target).square().mean().backward()
    return w_hat.grad


def total(x):
    return x.sum((1, 2, 3), keepdim=True)


def xnor_by_the_card(w, data, lr):
    n, c = w[0].numel(), w.shape[1]
    w = (w - w.mean(1, keepdim=True)).clamp(-1, 1)
    alpha = total(w.abs()) / n
    G = gradient_of_binary_weight(alpha * w.sign(), data)
    grad = n * (1 - 1 / c) * (
        alpha * G + w.sign() * total(w.sign() * G) / n)  # yapf: disable
    return dict(weight=w - lr * grad)


def ida_det_by_the_card(w, s, data, lr):
    b = 0.02 * w.sign()
    w_hat = b * s.abs()
    G = gradient_of_binary_weight(w_hat, data)
    e = w - w_hat
    return dict(
        weight=w - lr * (G * s.abs() + 0.02 * e),
        scale=s - lr * s.sign() * (total(G * w) - 0.02 * total(e * b)))


def rebnn_by_the_card(w, s, prev_sign, data, lr):
    b = 0.02 * w.sign()
    w_hat = b * s.abs()
    G = gradient_of_binary_weight(w_hat, data)
    e = w - w_hat
    flips = torch.zeros_like(w)
    if prev_sign is not None:
        flips = (prev_sign != w.sign()).to(w)
    gamma = flips.mean((1, 2, 3), keepdim=True) * G.abs().amax(
        (1, 2, 3), keepdim=True)
    gamma = gamma.clamp(*GAMMA_CLAMP)
    grad_alpha = total(G * w) - gamma * total(e * b)
    return dict(
        weight=w - lr * (gamma * e + G * s.abs()),
        scaling_factor=s - lr * s.sign() * grad_alpha,
        prev_sign=w.sign()), gamma


def rbonn_by_the_card(w, s, u, prev_grad, data, lr):
    T = int(len(w) * 0.6)
    dense = s.abs().flatten().argsort().argsort() >= T
    weak = w.abs().sum((1, 2, 3)).argsort().argsort() < T
    indicator = (dense & weak).view(-1, 1, 1, 1).to(w)
    PI = torch.zeros_like(w) if prev_grad is None else prev_grad * indicator
    w = w - u * PI
    b = 0.02 * w.sign()
    w_hat = b * s.abs()
    G = gradient_of_binary_weight(w_hat, data)
    e = w - w_hat
    grad = 0.02 * e + G * s.abs()
    grad_alpha = total(G * w) - 0.02 * total(e * b)
    return dict(
        weight=w + u * PI - lr * grad,
        scale_factor=s - lr * s.sign() * grad_alpha,
        u=u + lr * total(grad * PI),
        prev_grad=grad), indicator


def by_the_card(kind, steps=STEPS):
    """State after some steps, and what else shows that they mattered."""
    lr = LR[kind]
    current, others = state(Net(kind)), []
    stateless = dict(xnor=xnor_by_the_card, ida_det=ida_det_by_the_card)
    if kind not in stateless:
        # known after the first step only
        current['prev_sign' if kind == 'rebnn' else 'prev_grad'] = None
    for step in range(steps):
        if kind in stateless:
            rule = stateless[kind]
            current = rule(*current.values(), batch(step), lr)
            continue
        rule = rebnn_by_the_card if kind == 'rebnn' else rbonn_by_the_card
        current, other = rule(*current.values(), batch(step), lr)
        others.append(other)
    return current, others


@every_layer
def test_follows_the_card_in_mmengines_order(kind):
    assert_same(state(trained(kind)), by_the_card(kind)[0], check_dtype=False)


def test_the_state_mattered_in_what_was_compared():
    """Or else the tests of this file compare nothing."""
    _, gammas = by_the_card('rebnn')
    inside = [((g > GAMMA_CLAMP[0]) & (g < GAMMA_CLAMP[1])).any()
              for g in gammas]
    assert not inside[0] and all(inside[1:])
    _, indicators = by_the_card('rbonn')
    assert all(i.any() and not i.all() for i in indicators)
    assert (state(trained('rbonn'))['u'] - 0.2).abs().max() > 1e-3
    # centring changes the weights of every step
    w = state(trained('xnor'))['weight']
    assert w.mean(1).abs().max() > 1e-3


@every_layer
@pytest.mark.parametrize('clip', [False, True])
def test_mixed_precision_changes_nothing(kind, clip, monkeypatch):
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available',
                        lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler',
                        functools.partial(torch.amp.GradScaler, 'cpu'))
    net = Net(kind)
    clip_grad = dict(max_norm=1e6) if clip else None
    wrapper = AmpOptimWrapper(
        optimizer=sgd(net), dtype='bfloat16', clip_grad=clip_grad)
    assert wrapper.loss_scaler.get_scale() == 65536
    assert_same(state(train(net, wrapper)), state(trained(kind)))


@every_layer
def test_a_fused_optimizer_that_unscales_by_itself_changes_nothing(kind):
    net = Net(kind)
    optimizer = sgd(net, fused=True)
    assert optimizer._step_supports_amp_scaling
    scaler = torch.amp.GradScaler('cpu')
    for step in range(STEPS):
        scaler.scale(net(*batch(step))['loss']).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    # the kernel computes in its own order
    assert_same(state(net), state(trained(kind)), rtol=1e-5, atol=1e-6)


@every_layer
@pytest.mark.parametrize('fused', [False, True])
def test_a_skipped_step_changes_nothing(kind, fused):
    net = trained(kind)
    before = state(net)
    optimizer, scaler = sgd(net, fused=fused), torch.amp.GradScaler('cpu')
    scaler.scale(net(*batch(9))['loss'] * float('inf')).backward()
    scaler.step(optimizer)
    assert_same(state(net), before, rtol=0, atol=0)


@every_layer
def test_accumulated_gradients_are_those_of_one_batch(kind):
    net = Net(kind)
    wrapper = OptimWrapper(sgd(net), accumulative_counts=4)
    wrapper.initialize_count_status(net, 0, 4 * STEPS)
    assert_same(state(train(net, wrapper, parts=4)), state(trained(kind)))


@every_layer
def test_recomputed_activations_change_nothing(kind):
    net = Net(kind, recompute=True)
    train(net, OptimWrapper(sgd(net)))
    assert_same(state(net), state(trained(kind)), rtol=0, atol=0)


@every_layer
def test_forward_and_backward_change_no_state(kind):
    net = trained(kind)
    before = state(net)
    net(*batch(9))['loss'].backward()
    net.eval()(*batch(9))
    assert_same(state(net), before, rtol=0, atol=0)


@every_layer
def test_a_layer_called_twice_counts_once(kind):
    """As a head that the levels of a pyramid share."""
    net, x = trained(kind), batch(9)[0]
    twin = copy.deepcopy(net)
    for model, loss in ((net, net.conv(torch.cat([x, x])).square().sum()),
                        (twin, 2 * twin.conv(x).square().sum())):
        loss.backward()
        sgd(model).step()
    assert_same(state(net), state(twin))


@every_layer
@pytest.mark.parametrize('copied', [
    copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)),
    lambda net: Net(net.kind)
])
def test_a_resumed_training_equals_an_uninterrupted_one(kind, copied):
    net = Net(kind)
    optimizer = sgd(net, momentum=0.9)
    train(net, OptimWrapper(optimizer), range(2))
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    resumed = copied(net)
    train(net, OptimWrapper(optimizer), range(2, STEPS))

    resumed.load_state_dict(saved[0])
    optimizer = sgd(resumed, momentum=0.9)
    optimizer.load_state_dict(saved[1])
    train(resumed, OptimWrapper(optimizer), range(2, STEPS))
    assert_same(state(resumed), state(net), rtol=0, atol=0)


@every_layer
def test_a_copy_that_is_not_trained_keeps_its_state(kind):
    net = trained(kind)
    average = copy.deepcopy(net)
    before = state(average)
    train(net, OptimWrapper(sgd(net)), [5])
    assert_same(state(average), before, rtol=0, atol=0)


@every_layer
def test_frozen_weights_keep_their_state(kind):
    net = trained(kind)
    before = state(net)
    net.conv.requires_grad_(False)
    extra = nn.Parameter(torch.ones((), dtype=torch.double))
    optimizer = torch.optim.SGD([*net.parameters(), extra], lr=0.1)
    (net(*batch(9))['loss'] * extra).backward()
    optimizer.step()
    assert_same(state(net), before, rtol=0, atol=0)


@every_layer
def test_every_parameter_has_a_gradient_from_the_first_step_on(kind):
    net = Net(kind)
    net(*batch(0))['loss'].backward()
    assert all(p.grad is not None for p in net.parameters())


class NetOfNumbers(BaseModel):
    """The toy runner's numbers as small images."""

    def __init__(self, kind):
        super().__init__()
        self.conv = LAYERS[kind](3, 10, 3, padding=1)

    def forward(self, inputs, mode='tensor'):
        images = torch.stack(list(inputs)).view(-1, 3, 1, 1) - 4
        y = self.conv(images * torch.tensor([[1.0, -1, 0.5, 2]]))
        if mode != 'loss':
            return list(y)
        return dict(loss_toy=(y - 1).square().mean())


def losses_of_a_run(folder, kind, stop_at=None, **kwargs):
    log = LossLog(stop_at)
    runner = toy_runner(
        folder,
        hooks=[log, PlainCheckpointHook(),
               ExactResumeHook()],
        model=dict(type=NetOfNumbers, kind=kind),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=LR[kind], momentum=0.9)),
        **kwargs)
    return log.train(runner), state(runner.model)


@every_layer
def test_a_runner_needs_no_hook_for_it_and_resumes(kind, tmp_path):
    losses, expected = losses_of_a_run(tmp_path / 'a', kind)
    if kind == 'rbonn':
        assert (expected['u'] != 0.2).any() and expected['prev_grad'].any()
    head, _ = losses_of_a_run(tmp_path / 'b', kind, stop_at=10)
    torch.seed()
    tail, actual = losses_of_a_run(tmp_path / 'b', kind, resume=True)
    assert head[:8] + tail == losses
    assert_same(actual, expected, rtol=0, atol=0)


class Wrapping(torch.optim.Optimizer):
    """Steps another optimizer, as those that look ahead or shard do."""

    def __init__(self, inner):
        super().__init__([p for g in inner.param_groups for p in g['params']],
                         {})
        self.inner = inner

    def step(self, closure=None):
        self.inner.step()


@every_layer
def test_an_optimizer_within_an_optimizer_counts_once(kind):
    net = Net(kind)
    train(net, OptimWrapper(Wrapping(sgd(net))))
    assert_same(state(net), state(trained(kind)), rtol=0, atol=0)


class Breaking(torch.optim.SGD):
    """Is interrupted in its first step."""

    error = None

    def step(self, closure=None):
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return super().step(closure)


@every_layer
@pytest.mark.parametrize('error', [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize('wrapped', [False, True])
def test_an_interrupted_step_switches_nothing_off(kind, error, wrapped):
    """Neither for its optimizer, which goes on, nor for any other."""
    net = Net(kind)
    optimizer = Breaking(net.parameters(), lr=LR[kind])
    outer = Wrapping(optimizer) if wrapped else optimizer
    optimizer.error = error()
    start = copy.deepcopy(net.state_dict())
    # a traceback that somebody keeps holds the frames of the step
    with pytest.raises(error) as kept:
        train(net, OptimWrapper(outer), [0])
    expected = by_the_card(kind)[0]
    assert_same(state(trained(kind)), expected, check_dtype=False)
    net.zero_grad()
    net.load_state_dict(start)
    assert_same(
        state(train(net, OptimWrapper(outer))), expected, check_dtype=False)
    assert kept.tb is not None


def test_a_layer_that_fails_leaves_the_gradients_as_they_were(monkeypatch):
    """Scaled, as those of layers that were not called yet."""
    net = Net('rebnn')
    optimizer = sgd(net, fused=True)
    scaler = torch.amp.GradScaler('cpu')
    scaler.scale(net(*batch(0))['loss']).backward()
    expected = [p.grad.clone() for p in net.parameters()]
    steps = []

    def fail(self):
        steps.append(self.weight.grad.clone())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ReBNNConv2d, 'before_step', fail)
        with pytest.raises(KeyboardInterrupt):
            scaler.step(optimizer)
    torch.testing.assert_close(steps[0] * 65536, net.conv.weight.grad)
    for parameter, grad in zip(net.parameters(), expected):
        assert torch.equal(parameter.grad, grad)
    assert_same(state(trained('rebnn')), by_the_card('rebnn')[0],
                check_dtype=False)  # yapf: disable


class Derived(torch.optim.SGD):
    """Steps as the class that it derives from."""

    def step(self, closure=None):
        return super().step(closure)


def test_a_step_that_calls_the_step_it_overrides_counts_once(monkeypatch):
    net, calls = Net('xnor'), []
    monkeypatch.setattr(XNORConv2d, 'before_step',
                        lambda layer: calls.append(layer))
    sgd(net)
    optimizer = Derived(net.parameters(), lr=0.1)
    net(*batch(0))['loss'].backward()
    optimizer.step()
    assert calls == [net.conv]


def test_optimizers_of_several_threads_are_not_nested(monkeypatch):
    """One that steps meanwhile in another thread is no outer one."""
    nets = [Net('xnor'), Net('xnor')]
    optimizers = [sgd(net) for net in nets]
    for net in nets:
        net(*batch(0))['loss'].backward()
    calls = []

    def before_step(layer):
        calls.append(layer)
        if layer is nets[0].conv:
            thread = threading.Thread(target=optimizers[1].step)
            thread.start()
            thread.join()

    monkeypatch.setattr(XNORConv2d, 'before_step', before_step)
    optimizers[0].step()
    assert calls == [nets[0].conv, nets[1].conv]


@every_layer
def test_a_frozen_scale_stays(kind):
    net = trained(kind)
    before = state(net)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name == 'conv.weight')
    train(net, OptimWrapper(sgd(net)), [5])
    after = state(net)
    assert not torch.equal(after.pop('weight'), before.pop('weight'))
    for key in ('scale', 'scaling_factor', 'scale_factor', 'u'):
        assert key not in before or torch.equal(after[key], before[key])


def _train_in_a_process(rank, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    for kind in LAYERS:
        net = Net(kind)
        # an unused parameter would be an error in the second step
        parallel = DistributedDataParallel(net, find_unused_parameters=False)
        optimizer = sgd(net)
        for step in range(STEPS):
            data = [tensor.chunk(2)[rank] for tensor in batch(step)]
            parallel(*data)['loss'].backward()
            optimizer.step()
            optimizer.zero_grad()
        torch.save(state(net), f'{folder}/{kind}_{rank}.pth')
    close_process_group()


def _free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


@pytest.mark.slow
@pytest.mark.gate
def test_two_processes_equal_one(tmp_path):
    # not forked: threads that other tests started would be missing there
    torch.multiprocessing.spawn(
        _train_in_a_process, (_free_port(), str(tmp_path)), nprocs=2)
    for kind in LAYERS:
        first, second = [
            torch.load(tmp_path / f'{kind}_{rank}.pth') for rank in (0, 1)
        ]
        assert_same(first, second, rtol=0, atol=0)
        assert_same(first, state(trained(kind)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@every_layer
@pytest.mark.parametrize('fused', [False, True])
def test_mixed_precision_on_a_gpu_changes_nothing(kind, fused):
    net = Net(kind).cuda()
    wrapper = AmpOptimWrapper(optimizer=sgd(net, fused=fused))
    for step in range(STEPS):
        with wrapper.optim_context(net):
            loss = net(*[tensor.cuda() for tensor in batch(step)])['loss']
        wrapper.update_params(loss)
    assert_same(state(net.cpu()), state(trained(kind)), rtol=1e-4, atol=1e-5)
