"""What is slower packed than in float is found, and said in words."""
import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import mmcompress.compat  # noqa: F401
from mmcompress.lowbit import LowBitLayer, ReplaceConvs
from mmcompress.one_command import pays
from mmcompress.one_command.pays import LayerTime, slower, what_pays
from mmcompress.ops import build_info

# through whole models and files: beside the suite
pytestmark = [pytest.mark.slow, pytest.mark.gate]


def classifier():
    return MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            _scope_='mmpretrain',
            data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
            backbone=dict(
                type='ResNet',
                depth=18,
                num_stages=2,
                out_indices=(1, ),
                strides=(1, 2),
                dilations=(1, 1),
                stem_channels=32,
                base_channels=32),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3,
                      in_channels=64))).eval()


CFG = Config(
    dict(
        default_scope='mmpretrain',
        model=dict(),
        test_dataloader=dict(
            dataset=dict(pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='Resize', scale=(32, 32)),
                dict(type='PackInputs')
            ]))))


def measured(layer: str, gain: tuple, kind='1x1 convolutions of 16 channels'):
    return LayerTime(layer, kind, (1, 16, 8, 8), 0.8, 1.0, gain,
                     (f'{layer}.conv', ))


def test_slow_layers_are_told_by_kind():
    times = [
        measured('a', (0.7, 0.9)),
        measured('b', (0.7, 0.9)),
        measured('c', (0.7, 1.1)),
        measured('d', (3.0, 4.0), '3x3 convolutions of 256 channels')
    ]
    names, sentences = slower(times)
    assert names == ['a.conv', 'b.conv']
    assert sentences == [
        '1x1 convolutions of 16 channels (2): slower than float (0.8 x); '
        'left float'
    ]


def test_nothing_is_said_where_all_pays():
    assert slower([measured('a', (0.9, 1.0))]) == ([], [])


@pytest.mark.skipif(
    build_info()['isa'] == 'reference', reason='the kernels are not built')
def test_every_low_bit_layer_is_timed_and_models_stay(monkeypatch):
    monkeypatch.setattr(pays, 'SECONDS', 0)
    torch.manual_seed(0)
    model = classifier()
    compressed = copy.deepcopy(model)
    ReplaceConvs(
        dict(type='mmcompress.IDaDetConv2d'), ['backbone.layer*'],
        ['*.downsample.0'])(
            compressed)
    states = [copy.deepcopy(m.state_dict()) for m in (model, compressed)]
    threads = torch.get_num_threads()
    times = what_pays(model, compressed, CFG)
    low_bit = [
        name for name, module in compressed.named_modules()
        if isinstance(module, LowBitLayer)
    ]
    assert sorted(n for time in times for n in time.layers) == sorted(low_bit)
    assert all(t.float_ms > 0 and t.packed_ms > 0 for t in times)
    assert all(t.gain[0] <= t.gain[1] for t in times)
    assert times[0].kind == 'blocks of 4 convolutions of 32 channels'
    assert torch.get_num_threads() == threads
    for state, m in zip(states, (model, compressed)):
        torch.testing.assert_close(state, m.state_dict())


def test_a_float_model_has_nothing_to_time():
    assert what_pays(classifier(), classifier(), CFG) == []


def test_without_kernels_nothing_is_left_float_for_its_time(monkeypatch):
    info = dict(
        isa='reference', reason='no file', engine='reference', engines={})
    monkeypatch.setattr(pays, 'build_info', lambda: info)
    compressed = classifier()
    ReplaceConvs(dict(type='mmcompress.IDaDetConv2d'), ['backbone.layer2.1'])(
        compressed)
    said = []
    monkeypatch.setattr(pays, 'print_log', lambda text, **_: said.append(text))
    assert what_pays(classifier(), compressed, CFG) == []
    assert 'no file' in said[0]
