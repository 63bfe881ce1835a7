"""The step on models of the libraries' own configs, made smaller."""
import copy
import socket

import pytest
import torch
from mmengine.registry import DefaultScope
from small_models import MODELS_OF_LIBRARIES, batch_of, build, scope_of
from torch.nn.parallel import DistributedDataParallel

from mmcompress.compat import close_process_group
from mmcompress.quantization import Quantizer, bypassed

LSQ = dict(type='LSQ', bits=4)
STEP = dict(
    type='mmcompress.QuantizeLayers',
    weight=LSQ,
    activation=LSQ,
    attention=dict(type='LSQ', bits=8))
# where content and positions have weights of their own
ZEROS = dict.fromkeys(['conditional_detr', 'dab_detr'],
                      ('qcontent', 'kcontent', 'v'))
QUICK = {'beit', 'deit'}
every_model = pytest.mark.parametrize('name', [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in MODELS_OF_LIBRARIES
])


def quantizers(model):
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Quantizer)
    }


def tensors(x):
    """All in nested outputs."""
    if isinstance(x, torch.Tensor):
        return [x]
    if isinstance(x, dict):
        x = x.values()
    if isinstance(x, (list, tuple, type({}.values()))):
        return [tensor for item in x for tensor in tensors(item)]
    return []


@torch.no_grad()
def outputs(model, batch, mode='tensor'):
    torch.manual_seed(0)
    return tensors(model(**copy.deepcopy(batch), mode=mode))


def train(model, batch):
    """A training step."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    loss, _ = model.train().parse_losses(
        model(**copy.deepcopy(batch), mode='loss'))
    loss.backward()
    assert loss.isfinite()
    optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())


@every_model
def test_step_trains_predicts_and_reaches_every_quantizer(name):
    plain, model = build(name), build(name, [STEP])
    batch = batch_of(name, plain)
    with DefaultScope.overwrite_default_scope(scope_of(name)):
        assert_same_without_quantizers(plain, model, batch)
        train(model, batch)
        missing = [
            key for key, p in model.named_parameters()
            if p.requires_grad and '_quant.' in key and p.grad is None
        ]
        assert missing == []
        with torch.no_grad():
            model.eval()(**copy.deepcopy(batch), mode='predict')
        assert_every_quantizer_matters(name, model, batch)


def assert_same_without_quantizers(plain, model, batch):
    state = plain.state_dict()
    # Swin V2 computes some buffers anew
    absent = copy.deepcopy(plain).load_state_dict(state, strict=False)
    assert model.load_state_dict(state, strict=False) == absent
    expected = outputs(plain.eval(), batch)
    with bypassed(model):
        actual = outputs(model.eval(), batch)
    assert len(actual) == len(expected) > 0
    for a, b in zip(actual, expected):
        scale = max(b.abs().max().item(), 1) if b.numel() else 1
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6 * scale)


def assert_every_quantizer_matters(name, model, batch):
    """What is predicted, or a loss, changes with each."""
    with bypassed(model):
        silent = unheard(model.eval(), batch, quantizers(model), 'tensor')
        # auxiliary heads are for training
        silent = unheard(model.train(), batch, silent, 'loss')
    first = 'decoder.layers.0.self_attn'
    # the queries of a DETR begin as zeros, which meet these weights
    zeros = {f'{first}.{x}_proj.weight_quant' for x in ZEROS.get(name, ())}
    assert set(silent) == zeros


def unheard(model, batch, candidates, mode):
    """Quantizers whose output may be anything."""
    before = outputs(model, batch, mode)
    silent = {}
    # dropout draws the same as before
    generator = torch.Generator().manual_seed(0)
    for name, quantizer in candidates.items():
        handle = quantizer.register_forward_hook(
            lambda module, args, y: torch.randn(y.shape, generator=generator))
        after = outputs(model, batch, mode)
        handle.remove()
        if all(map(torch.equal, before, after)):
            silent[name] = quantizer
    return silent


def _train_in_a_process(rank, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    model = build('detr', [STEP])
    parallel = DistributedDataParallel(model.train())
    optimizer = torch.optim.SGD(parallel.parameters(), 1e-4)
    with DefaultScope.overwrite_default_scope('mmdet'):
        for step in range(3):
            batch = batch_of('detr', model, seed=10 * step + rank)
            losses = parallel(**batch, mode='loss')
            optimizer.zero_grad()
            model.parse_losses(losses)[0].backward()
            optimizer.step()
    torch.save(model.state_dict(), f'{folder}/{rank}.pth')
    close_process_group()


@pytest.mark.slow
def test_two_processes_keep_a_detr_equal(tmp_path):
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    # not forked: threads that other tests started would be missing there
    torch.multiprocessing.spawn(
        _train_in_a_process, (port, str(tmp_path)), nprocs=2)
    one, other = (torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    begun = [key for key in one if key.endswith('.initialized') and one[key]]
    assert len(begun) > 100
    for key, value in one.items():
        # statistics of batch norms are each process's own
        if 'running_' not in key:
            assert torch.equal(value, other[key]), key
