"""Models that are built pruned, and files that only they load."""
import copy
import subprocess
import sys

import pytest
import torch
import torch.nn as nn
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from mmpretrain.structures import DataSample
from torch.optim import SGD

from mmcompress.builder import Compress
from mmcompress.deploy.twins import fold_in_place, on_kernels
from mmcompress.model.checkpoint import weights_of
from mmcompress.pruning import KeepUnits, cut
from mmcompress.pruning.structure import PrunedTensor, mark_pruned

_UNITS = {'backbone.layers.0.attn': 2, 'backbone.layers.1.ffn': 5}
_LSQ = dict(type='LSQ', bits=8)


def _classifier(**backbone) -> dict:
    arch = dict(
        embed_dims=12, num_layers=2, num_heads=3, feedforward_channels=24)
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.VisionTransformer',
            arch=arch,
            img_size=16,
            patch_size=8,
            **backbone),
        head=dict(
            type='mmpretrain.VisionTransformerClsHead',
            num_classes=3,
            in_channels=12))


def _pruned(*steps: dict) -> nn.Module:
    return Compress(_classifier(),
                    [dict(type='KeepUnits', units=_UNITS), *steps])


def _dense() -> nn.Module:
    return Compress(_classifier(), [])


def _shapes(model: nn.Module) -> dict:
    return {name: p.shape for name, p in model.named_parameters()}


def _file(path, model: nn.Module) -> str:
    state = model.state_dict()
    mark_pruned(model, state)
    torch.save(dict(meta={}, state_dict=state), path)
    return str(path)


def test_shapes_are_those_of_cutting():
    dense = _dense()
    cut(dense, {name: torch.arange(n) for name, n in _UNITS.items()})
    assert _shapes(_pruned()) == _shapes(dense)


def test_it_trains_quantized_and_packs():
    quantize = dict(
        type='QuantizeLayers', weight=_LSQ, activation=_LSQ, attention=_LSQ)
    model = _pruned(quantize)
    images = torch.rand(2, 3, 16, 16)
    optimizer = SGD(model.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(images).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
    model.eval()
    with torch.no_grad():
        trained = model(images)
        packed = on_kernels(fold_in_place(copy.deepcopy(model))[0])
        torch.testing.assert_close(packed(images), trained, rtol=.1, atol=.1)


def test_it_merges_tokens_quantized():
    """All steps of one config; without merging nothing changes."""
    quantize = dict(
        type='QuantizeLayers',
        weight=_LSQ,
        activation=_LSQ,
        attention=_LSQ,
        first_last=None)
    images = torch.rand(2, 3, 16, 16)
    outputs = []
    for r in (0, 1):
        torch.manual_seed(0)
        model = _pruned(dict(type='MergeTokens', r=r), quantize)
        model(images).sum().backward()
        model.eval()
        outputs.append(model(images))
    torch.manual_seed(0)
    plain = _pruned(quantize)
    plain(images).sum().backward()
    plain.eval()
    torch.testing.assert_close(outputs[0], plain(images))
    assert not torch.allclose(outputs[1], outputs[0])


def test_it_learns_from_the_dense_model(tmp_path):
    torch.save(_dense().state_dict(), tmp_path / 'dense.pth')
    taps = dict(
        low=['backbone.layers.0', 'backbone.layers.1'],
        high='backbone.layers.1')
    loss = dict(
        type='mmcompress.ViTKDLoss',
        student=taps,
        teacher=taps,
        student_dims=12,
        teacher_dims=12,
        alpha_vitkd=1.,
        beta_vitkd=1.)
    model = MODELS.build(
        dict(
            type='mmcompress.Distill',
            student=dict(
                type='mmcompress.Compress',
                model=_classifier(),
                steps=[dict(type='mmcompress.KeepUnits', units=_UNITS)]),
            teacher=dict(
                cfg=_classifier(), checkpoint=str(tmp_path / 'dense.pth')),
            losses=dict(loss_vitkd=loss)))
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    losses = model(torch.rand(2, 3, 16, 16), samples, mode='loss')
    sum(value.sum() for value in losses.values()).backward()
    assert model.backbone.layers[0].attn.head_dims == 2
    assert model.backbone.layers[0].attn.qkv.weight.grad.shape == (18, 12)
    # its own checkpoint stays one of a pruned model
    state = model.state_dict()
    mark_pruned(model, state)
    assert isinstance(state['backbone.layers.0.attn.qkv.weight'], PrunedTensor)


@pytest.mark.parametrize('units, error, message', [
    ({}, ValueError, 'units is empty'),
    ({
        'a': 0
    }, ValueError, "'a' must keep at least one unit, got 0"),
    ({
        'a': 2.5
    }, TypeError, "'a' needs a number of units, got 2.5"),
])
def test_counts(units, error, message):
    with pytest.raises(error, match=message):
        KeepUnits(units)


def test_more_than_there_are():
    model = _dense()
    shapes = _shapes(model)
    with pytest.raises(ValueError, match='keep 5 units: it has 4'):
        KeepUnits({
            'backbone.layers.1.ffn': 3,
            'backbone.layers.0.attn': 5
        })(
            model)
    with pytest.raises(KeyError, match="'backbone.layers.0.attn'"):
        KeepUnits({'backbone.layers.0.attention': 5})(model)
    assert _shapes(model) == shapes


def test_nothing_is_loaded_into_parts():
    init_cfg = dict(type='Pretrained', checkpoint='not_there.pth')
    model = Compress(
        _classifier(init_cfg=init_cfg), [dict(type='KeepUnits', units=_UNITS)])
    model.init_weights()


# ---- Files -----------------------------------------------------------------


def test_its_file_loads(tmp_path):
    model = _pruned()
    path = _file(tmp_path / 'pruned.pth', model)
    for other in (_pruned(), copy.deepcopy(_pruned()),
                  nn.ModuleDict(dict(student=_pruned()))):
        is_root = not isinstance(other, nn.ModuleDict)
        load_checkpoint(
            other,
            path,
            strict=True,
            revise_keys=[] if is_root else [('^', 'student.')])
        inner = other if is_root else other['student']
        for name, value in model.state_dict().items():
            assert torch.equal(inner.state_dict()[name], value)


def test_the_dense_model_refuses_it(tmp_path):
    path = _file(tmp_path / 'pruned.pth', _pruned())
    dense = _dense()
    before = copy.deepcopy(dense.state_dict())
    message = (r'of a pruned model: backbone.layers.0.attn.qkv.weight has '
               r'shape \(18, 12\).*KeepUnits')
    with pytest.raises(RuntimeError, match=message):
        load_checkpoint(dense, path)
    with pytest.raises(RuntimeError, match=message):
        dense.load_state_dict(torch.load(path)['state_dict'], strict=False)
    # what is read before that is of the same shapes in both
    assert before.keys() == dense.state_dict().keys()


def test_a_model_that_keeps_others_refuses_it(tmp_path):
    path = _file(tmp_path / 'pruned.pth', _pruned())
    others = dict(_UNITS, **{'backbone.layers.1.ffn': 6})
    other = Compress(_classifier(), [dict(type='KeepUnits', units=others)])
    with pytest.raises(RuntimeError, match='pruned in another way'):
        load_checkpoint(other, path)
    with pytest.raises(RuntimeError, match='the checkpoint is dense'):
        load_checkpoint(other, _file(tmp_path / 'dense.pth', _dense()))
    less = {'backbone.layers.0.attn': 2}
    other = Compress(_classifier(), [dict(type='KeepUnits', units=less)])
    with pytest.raises(RuntimeError, match='layers.1.ffn.layers.0.0.weight'):
        load_checkpoint(other, path)


@pytest.mark.slow
def test_without_this_package_it_is_no_checkpoint(tmp_path):
    """torch names what it doesn't know."""
    path = _file(tmp_path / 'pruned.pth', _pruned())
    code = f'import torch; torch.load({path!r})'
    run = subprocess.run([sys.executable, '-c', code],
                         capture_output=True,
                         text=True)
    assert run.returncode
    assert 'mmcompress.pruning.structure.PrunedTensor' in run.stderr


def test_marked_tensors_compute_nothing():
    marked = PrunedTensor('a.weight', torch.rand(2))
    for use in (lambda: torch.add(marked, 1), lambda: marked.shape):
        with pytest.raises(RuntimeError, match='a.weight has shape'):
            use()
    weights = weights_of(dict(state_dict={'a.weight': marked}))
    assert torch.equal(weights['a.weight'], marked.tensor)
