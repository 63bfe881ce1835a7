"""Merged tokens in whole backbones: what looks at them, what runs them."""
import copy
import io
import pickle
import socket
import threading
from contextlib import nullcontext

import pytest
import torch
import torch.nn as nn
from integration.small_runs import ROOT, train, weights
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.activation_checkpointing import \
    turn_on_activation_checkpointing
from tokens.models import BACKBONES, OUT_TYPES, build, images, merging
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.utils.checkpoint import checkpoint

from mmcompress.compat import close_process_group
from mmcompress.tokens import MergingLayer, Tokens

every_backbone = pytest.mark.parametrize('name', BACKBONES)
out_types = pytest.mark.parametrize('name, out_type',
                                    [(name, out)
                                     for name, outs in OUT_TYPES.items()
                                     for out in outs])


def flat(outputs) -> list[torch.Tensor]:
    """All tensors of what a backbone gives."""
    return [
        t for out in outputs
        for t in (out if isinstance(out, (tuple, list)) else [out])
    ]


def assert_same(first, second, **tolerance) -> None:
    first, second = flat(first), flat(second)
    assert len(first) == len(second)
    tolerance = tolerance or dict(rtol=0, atol=0)
    for a, b in zip(first, second):
        torch.testing.assert_close(a, b, **tolerance)


# ---- What it computes -------------------------------------------------------


@out_types
def test_no_merging_changes_nothing(name, out_type):
    cfg = dict(out_type=out_type, out_indices=(1, 3))
    with torch.no_grad():
        dense = build(name, **cfg).backbone(images())
        assert_same(build(name, merging(0), **cfg).backbone(images()), dense)


@every_backbone
def test_a_layer_that_merges_nothing_computes_the_same(name):
    """Also where it is behind one that merges; mmseg's to rounding."""
    dense, merged = build(name), build(name, merging(0))
    layers = build(name, merging([1])).backbone.layers
    for layer, new in zip(merged.backbone.layers, layers):
        layer.__class__, layer.merging = new.__class__, layers[1].merging
    tolerance = dict(rtol=1e-6, atol=1e-6) if 'mmseg' in name else {}
    with torch.no_grad():
        assert_same(
            merged.backbone(images()), dense.backbone(images()), **tolerance)


@out_types
def test_shapes_are_those_of_the_dense_model(name, out_type):
    cfg = dict(out_type=out_type, out_indices=(0, 2, 3))
    with torch.no_grad():
        dense = build(name, **cfg).backbone(images())
        merged = build(name, merging(), **cfg).backbone(images())
    assert [t.shape for t in flat(dense)] == [t.shape for t in flat(merged)]
    # the first layer merges behind its attention
    assert not torch.equal(flat(dense)[-1], flat(merged)[-1])


@every_backbone
def test_equal_tokens_merge_without_a_trace(name):
    """Proportional attention sees a group as the tokens that it stands for."""
    model, dense = build(name, merging(2)), build(name)
    for m in (model, dense):
        m.backbone.pos_embed.data.zero_()
        m.backbone.double()
    # patches are equal
    x = torch.ones((2, 3, 32, 32), dtype=torch.float64)
    with torch.no_grad():
        assert_same(seen(model, x), seen(dense, x), rtol=0, atol=1e-12)


def seen(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What each layer gives, of all tokens."""
    outs = []
    hooks = [
        layer.register_forward_hook(
            lambda module, args, out: outs.append(Tokens.of(out).full()))
        for layer in model.backbone.layers
    ]
    model.backbone(x)
    for hook in hooks:
        hook.remove()
    return outs


@every_backbone
def test_the_tokens_that_stay_are_not_merged(name):
    model = build(name, merging([5, 4, 3, 2]))
    kept = []
    model.backbone.layers[-1].register_forward_hook(
        lambda module, args, out: kept.append(out))
    with torch.no_grad():
        model.backbone(images(3))
    tokens = kept[0]
    dense = build(name)
    num = seen(dense, images(1))[0].size(1)
    assert tokens.shape[1] == num and tokens.x.size(1) < num - 9
    assert (tokens.mass.sum(dim=1) == num).all()
    positions = dict(
        deit=(0, 1), g2sd=(0, num - 1), vitpose=(), mmseg_no_cls=())
    for position in positions.get(name, (0, )):
        row = tokens.group[:, position]
        assert (tokens.mass.squeeze(-1).gather(1, row[:, None]) == 1).all()


@every_backbone
def test_images_of_a_batch_do_not_meet(name):
    model = build(name, merging())
    with torch.no_grad():
        together = seen(model, images(3))
        alone = seen(model, images(3)[1:2])
    for a, b in zip(together, alone):
        torch.testing.assert_close(a[1:2], b, rtol=1e-4, atol=1e-5)


# ---- What runs it -----------------------------------------------------------


def test_names_of_parameters_stay():
    dense, merged = build('vit'), build('vit', merging())
    assert list(dense.state_dict()) == list(merged.state_dict())
    assert isinstance(merged.backbone.layers[0],
                      type(dense.backbone.layers[0]))


@every_backbone
def test_copies_compute_the_same(name):
    model = build(name, merging())
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    copies = [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(buffer, weights_only=False),
        ExponentialMovingAverage(model, momentum=0.1).module
    ]
    with torch.no_grad():
        expected = model.backbone(images())
        for other in copies:
            assert_same(other.backbone(images()), expected)


def test_threads_share_a_model():
    model = build('vit', merging(), out_type='featmap')
    inputs = [images(n + 1) for n in range(4)]
    results = {}

    def run(i: int) -> None:
        with torch.no_grad():
            results[i] = model.backbone(inputs[i])

    for _ in range(3):
        threads = [threading.Thread(target=run, args=(i, )) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i in range(4):
            with torch.no_grad():
                assert_same(results[i], model.backbone(inputs[i]))


def gradients(model: nn.Module, run=None) -> dict[str, torch.Tensor]:
    """Of all parameters that have one."""
    model.train()
    model.zero_grad()
    x = images().requires_grad_()
    outs = (run or model.backbone)(x)
    sum(t.square().sum() for t in flat(outs)).backward()
    return {n: p.grad for n, p in model.named_parameters()}


@pytest.mark.parametrize('name', ['vit', 'mmseg'])
@pytest.mark.parametrize('how',
                         ['own', 'runner', 'reentrant', 'not reentrant'])
def test_checkpointing_keeps_all_gradients(name, how):
    cfg = dict(out_type='featmap') if name == 'vit' else {}
    expected = gradients(build(name, merging(), **cfg))
    # PyTorch's default, and so mmengine's, loses all but those of tensors
    model = build(name, merging(checkpoint=how == 'own'), **cfg)
    run = None
    layers = [f'backbone.layers.{i}' for i in range(4)]
    if how == 'runner':
        turn_on_activation_checkpointing(model, layers)
    elif how != 'own':
        reentrant = how == 'reentrant'
        for i in range(4):
            layer = model.backbone.layers[i]
            layer.forward = recompute(layer, reentrant)
    actual = gradients(model, run)
    assert expected.keys() == actual.keys()
    for key, value in expected.items():
        if value is None:
            assert actual[key] is None, key
        else:
            assert torch.equal(value, actual[key]), key


def recompute(layer: MergingLayer, reentrant: bool):
    forward = layer.forward

    def checkpointed(x):
        return checkpoint(forward, x, use_reentrant=reentrant)

    return checkpointed


@every_backbone
def test_all_parameters_get_a_gradient(name):
    dense, merged = gradients(build(name)), gradients(build(name, merging()))
    for key, value in dense.items():
        assert (value is None) == (merged[key] is None), key
        if value is not None and 'ln1' not in key:
            assert merged[key].isfinite().all(), key


def test_half_precision_keeps_masses_exact():
    model = build('vit', merging(6))
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        kept = []
        model.backbone.layers[-1].register_forward_hook(
            lambda module, args, out: kept.append(out))
        model.backbone(images())
    assert kept[0].mass.dtype == torch.float32
    assert (kept[0].mass.sum(dim=1) == 17).all()


# ---- Graphs -----------------------------------------------------------------


@pytest.mark.parametrize('name', [
    'vit',
    pytest.param('deit', marks=pytest.mark.slow),
    pytest.param('mmseg', marks=pytest.mark.slow)
])
def test_export(name):
    model = build(name, merging())
    with torch.no_grad():
        expected = model.backbone(images())
        program = torch.export.export(model.backbone, (images(), ))
        assert_same(program.module()(images()), expected)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['vit', 'mmseg', 'g2sd'])
def test_compile_makes_one_graph(name):
    model = build(name, merging(), drop_path_rate=0.1)
    with torch.no_grad():
        expected = model.backbone(images())
        compiled = torch.compile(model.backbone, fullgraph=True)
        assert_same(compiled(images()), expected, rtol=1e-4, atol=1e-4)


# ---- Processes --------------------------------------------------------------


def _half(rank: int, port: int, folder: str, sharded: bool) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    model = build('vit', merging()).train()
    whole = nullcontext()
    if sharded:
        # each layer by itself: what it returns must be found to hold tensors
        parallel = FSDP(
            model.backbone,
            auto_wrap_policy=ModuleWrapPolicy({MergingLayer}),
            use_orig_params=True,
            device_id=torch.device('cpu'))
        whole = FSDP.summon_full_params(parallel, with_grads=True)
    else:
        parallel = nn.parallel.DistributedDataParallel(model.backbone)
    # gradients of two halves, averaged, are those of the mean
    parallel(images(4)[2 * rank:2 * rank + 2])[0].square().mean().backward()
    with whole:
        gradients = {
            n.replace('_fsdp_wrapped_module.', ''): p.grad
            for n, p in model.named_parameters()
        }
        if rank == 0:
            torch.save(gradients, f'{folder}/gradients.pth')
    close_process_group()


@pytest.mark.slow
@pytest.mark.parametrize('sharded', [False, True], ids=['ddp', 'fsdp'])
def test_two_processes_give_the_gradients_of_one(tmp_path, sharded):
    model = build('vit', merging()).train()
    model.backbone(images(4))[0].square().mean().backward()
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    torch.multiprocessing.spawn(
        _half, (port, str(tmp_path), sharded), nprocs=2)
    gradients = torch.load(tmp_path / 'gradients.pth')
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            gradients[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path):
    """Merging keeps nothing between steps that a checkpoint would miss."""
    small = ['train_dataloader.batch_size=8', 'train_cfg.max_epochs=2',
             'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=1',
             'train_dataloader.dataset.settings.num_train=16',
             'val_dataloader.dataset.settings.num_val=8',
             'test_dataloader.dataset.settings.num_val=8'
             ]  # yapf: disable
    config = ROOT / 'configs' / 'tome' / 'tome_vit_r8_mini.py'
    options = ('--cfg-options', 'load_from=None', *small)
    train(config, tmp_path / 'whole', *options)
    train(config, tmp_path / 'parts', *options, 'train_cfg.max_epochs=1')
    train(config, tmp_path / 'parts', '--resume', *options)
    whole, parts = (
        weights(tmp_path / name, 'epoch_2.pth') for name in ('whole', 'parts'))
    for key, value in whole.items():
        assert torch.equal(parts[key], value), key
