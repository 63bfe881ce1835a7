"""The step that quantizes models of the mm libraries."""
import copy

import pytest
import torch
import torch.nn as nn
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import DefaultScope

import mmcompress.quantization as Q
from mmcompress.analysis.complexity import complexity, total
from mmcompress.deploy import pack
from mmcompress.deploy.integer_layers import PackedIntegerLayer
from mmcompress.lowbit import LowBitLayer, float_twin
from mmcompress.quantization.first_last import first_and_last
from mmcompress.quantization.quantizer import pass_uninitialized
from mmcompress.registry import MODELS

LSQ4 = dict(type='LSQ', bits=4)
RESNET = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmpretrain.ResNet', depth=18, base_channels=8),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        in_channels=64,
        num_classes=3,
        loss=dict(type='mmpretrain.CrossEntropyLoss')))


def build(steps=None, model=RESNET, **options):
    """A classifier; its layers quantized, unless there are no options."""
    torch.manual_seed(0)
    cfg = copy.deepcopy(model)
    if options:
        steps = [dict(type='mmcompress.QuantizeLayers', **options)]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        if not steps:
            return MMENGINE_MODELS.build(cfg)
        return MODELS.build(
            dict(type='mmcompress.Compress', model=cfg, steps=steps))


def quantized(**options):
    return build(**{'weight': LSQ4, 'activation': LSQ4, **options})


def loss(model, seed=0):
    """Of a training step on noise."""
    from mmpretrain.structures import DataSample
    torch.manual_seed(seed)
    inputs = torch.randn(2, 3, 32, 32)
    samples = [DataSample().set_gt_label(i) for i in (0, 2)]
    return model(inputs, samples, mode='loss')['loss']


def layers_of(model):
    return {
        name: m
        for name, m in model.named_modules() if isinstance(m, Q.QuantLayer)
    }


def test_every_layer_is_quantized_in_place_and_first_and_last_at_8_bits():
    plain, model = build(), quantized()
    layers = layers_of(model)
    floats = [
        n for n, m in plain.named_modules()
        if isinstance(m, (nn.Linear, nn.Conv2d))
    ]
    assert list(layers) == floats
    bits = {n: m.operand_bits().factors for n, m in layers.items()}
    assert bits.pop('backbone.conv1') == bits.pop('head.fc') == (8, 8)
    assert set(bits.values()) == {(4, 4)}
    kept = plain.state_dict().keys()
    new = model.state_dict().keys() - kept
    assert kept <= model.state_dict().keys()
    assert all('_quant.' in name for name in new)


def test_a_float_checkpoint_loads_and_nothing_else_is_missing():
    model = quantized()
    loss(model)
    missing = model.load_state_dict(build().state_dict(), strict=True)
    assert not missing.missing_keys and not missing.unexpected_keys
    assert not any(m.is_initialized
                   for m in model.modules() if isinstance(m, Q.Quantizer))


def test_a_trained_checkpoint_continues_with_its_scales():
    model = quantized().train()
    expected = loss(model)
    again = quantized().train()
    again.load_state_dict(model.state_dict())
    again.eval(), model.eval()
    with torch.no_grad():
        x = torch.randn(1, 3, 32, 32)
        assert torch.equal(again(x)[0], model(x)[0])
    assert expected.isfinite()


def test_bypassed_it_is_the_float_model():
    plain, model = build().eval(), quantized().eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad(), Q.bypassed(model):
        assert torch.equal(model(x)[0], plain(x)[0])


def test_bits_by_pattern_the_later_first():
    model = quantized(
        exclude=['backbone.layer1'],
        overrides={
            'backbone.layer2': dict(weight=2),
            'backbone.layer2.*.conv2': dict(weight=3, activation=None),
            'head': dict(weight=dict(type='LSQ', bits=6, per='tensor'))
        })
    layers = layers_of(model)
    assert not any(name.startswith('backbone.layer1') for name in layers)
    assert layers['backbone.layer2.0.conv1'].operand_bits().factors == (2, 4)
    assert layers['backbone.layer2.0.conv2'].operand_bits().factors == (3, 32)
    assert layers['head.fc'].operand_bits().factors == (6, 8)
    assert layers['head.fc'].weight_quant.size == 1


def test_a_stem_that_sees_several_pixels_at_once_is_the_first_layer():
    # as YOLOX's
    stem = dict(stem=nn.Conv2d(12, 8, 3), conv=nn.Conv2d(8, 8, 3))
    assert first_and_last(stem) == {'stem'}
    assert not first_and_last(dict(neck=nn.Conv2d(64, 8, 1)))


def test_first_and_last_as_the_others():
    layers = layers_of(quantized(first_last=None))
    assert {m.operand_bits().factors for m in layers.values()} == {(4, 4)}


@pytest.mark.parametrize('options, words', [
    (dict(overrides={'head': dict(bits=3)}), "'head': unknown keys .*bits"),
    (dict(norms='gone'), "norms must be 'trained' or 'frozen'"),
    (dict(act_granularity='row'), 'act_granularity must be'),
    (dict(include=['neck']), "'neck' selects no Linear"),
    (dict(exclude='head'), r"exclude is a list .* write \['head'\]"),
    (dict(weight=dict(type='LSQ', bits=1)), 'LSQ: the codes of 1 bit'),
    (dict(weight=dict(type='ResNet', depth=18)), 'is no quantizer'),
    (dict(overrides={'nowhere': dict(weight=2)}), "'nowhere' selects no"),
])
def test_refuses_in_words(options, words):
    with pytest.raises((ValueError, TypeError, KeyError), match=words):
        quantized(**options)


class Standardised(nn.Conv2d):
    """As mmcv's ConvWS2d."""

    def forward(self, x):
        weight = self.weight / self.weight.std()
        return self._conv_forward(x, weight, self.bias)


class Stolen(nn.Module):
    """Reads the weight of a layer that it never calls."""

    def __init__(self):
        super().__init__()
        self.called, self.read = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return nn.functional.linear(self.called(x), self.read.weight)


def test_layers_that_compute_otherwise_are_refused_by_name():
    model = nn.Sequential(nn.Linear(2, 2), Standardised(3, 4, 1))
    step = Q.QuantizeLayers(weight=LSQ4, activation=LSQ4)
    with pytest.raises(ValueError, match=r"(?s)Standardised.*\['1'\]"):
        step(model)
    assert type(model[0]) is nn.Linear
    Q.QuantizeLayers(weight=LSQ4, exclude=['1'])(model)
    assert type(model[0]) is Q.QuantLinear


def test_a_quantizer_that_nothing_calls_is_an_error_that_names_it():
    model = Stolen()
    Q.QuantizeLayers(weight=LSQ4, activation=LSQ4)(model)
    with pytest.raises(RuntimeError, match=r"(?s)read.*exclude=\['read'\]"):
        model(torch.randn(2, 3))
    model = Stolen()
    Q.QuantizeLayers(weight=LSQ4, activation=LSQ4, exclude=['read'])(model)
    model(torch.randn(2, 3))


@pytest.mark.parametrize('options', [
    dict(exclude=['*.out_proj']),
    dict(overrides={'0.out_proj': dict(weight=8)}),
])
def test_what_is_quantized_with_its_attention_has_no_pattern_of_its_own(
        options):
    model = nn.Sequential(nn.MultiheadAttention(8, 2), nn.Linear(8, 8))
    with pytest.raises(ValueError, match='selects 0.out_proj.*name 0 instead'):
        Q.QuantizeLayers(weight=LSQ4, activation=LSQ4, **options)(model)
    assert type(model[0]) is nn.MultiheadAttention


def test_a_layer_in_several_places_is_quantized_once():
    shared = nn.Linear(3, 3)
    model = nn.ModuleDict(dict(a=shared, b=nn.Sequential(shared)))
    Q.QuantizeLayers(weight=LSQ4, activation=LSQ4)(model)
    assert model['a'] is model['b'][0] is shared
    assert len([m for m in model.modules() if isinstance(m, Q.Quantizer)]) == 2


def test_hooks_and_frozen_parameters_stay():
    model = nn.Sequential(nn.Linear(3, 3).requires_grad_(False))
    calls = []
    model[0].register_forward_hook(lambda *args: calls.append(1))
    Q.QuantizeLayers(weight=LSQ4, activation=LSQ4)(model)
    model(torch.randn(2, 3))
    assert calls == [1]
    assert not any(p.requires_grad for p in model.parameters())


def test_the_float_twin_is_the_float_model():
    plain, model = build().eval(), quantized().eval()
    twin = float_twin(model)
    assert not any(isinstance(m, LowBitLayer) for m in twin.modules())
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(twin(x)[0], plain(x)[0])
    assert isinstance(model.head.fc, Q.QuantLinear)


def test_decay_of_scales_is_refused_and_the_base_config_exempts_them():
    from mmengine.config import Config
    base = Config.fromfile('configs/_base_/quantization.py')
    model = quantized().train()
    wrapper = dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=0.1, weight_decay=1e-4))
    with pytest.raises(ValueError, match="'_quant': dict"):
        build_optim_wrapper(model, wrapper).update_params(loss(model))
    wrapper.update(paramwise_cfg=base.no_decay)
    build_optim_wrapper(model, wrapper).update_params(loss(model))


def test_complexity_counts_bits():
    model = quantized().eval()
    pass_uninitialized(model)

    class Called(nn.Module):

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, inputs, mode):
            return self.model.backbone(inputs)

    costs = complexity(Called(), dict(inputs=torch.randn(1, 3, 32, 32)))
    costs = [c for c in costs if c.flops or c.bops]
    by_bits = {c.bits for c in costs}
    assert by_bits == {(4, 4), (8, 8)}
    assert total(costs).flops == 0
    conv = next(c for c in costs if c.name == 'model.backbone.layer1.0.conv2')
    assert conv.bops == 16 * 8 * 8 * 9 * 8 * 8
    assert conv.bytes_packed == 8 * 8 * 9 // 2 + 4 * 8


def test_the_table_and_the_shares_are_logged(logged):
    loss(quantized(exclude=['backbone.layer4']).train())
    text = '\n'.join(logged)
    assert 'backbone.layer4.0.conv1' in text and 'not selected' in text
    assert "of the model's weights are low-bit" in text
    assert "of the operations of the model's layers are low-bit" in text


def test_frozen_norms_stay_in_eval_mode_and_are_not_trained():
    model = quantized(norms='frozen').train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    before = copy.deepcopy(model.state_dict())
    loss(model).backward()
    assert norms and not any(m.training for m in norms)
    assert not any(p.requires_grad for m in norms for p in m.parameters())
    after = model.state_dict()
    assert all(
        torch.equal(before[k], after[k]) for k in before
        if 'running' in k or 'num_batches' in k)


def test_residual_branches_end_on_a_grid():
    model = quantized(residual=True).train()
    loss(model)
    block = model.eval().backbone.layer2[0]
    ends = []
    block.bn2.register_forward_hook(lambda m, args, out: ends.append(out))
    block.downsample[-1].register_forward_hook(
        lambda m, args, out: ends.append(out))
    with torch.no_grad():
        model(torch.randn(1, 3, 32, 32))
    assert len(ends) == 2
    assert all(len(end.unique()) <= 16 for end in ends)
    count = sum(hasattr(m, 'output_quant') for m in model.modules())
    assert count == 8 + 4


def test_residual_is_refused_where_there_are_no_blocks():
    with pytest.raises(ValueError, match='residual: Sequential has none'):
        Q.QuantizeLayers(
            weight=LSQ4, residual=LSQ4)(
                nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.parametrize('options', [
    dict(),
    dict(residual=True),
    dict(norms='frozen', exclude=['backbone.conv1']),
    dict(activation=dict(type='LSQ', bits=8, offset='zero_point')),
    dict(act_granularity='channel'),
])
def test_packed_it_computes_the_same(options):
    """But where a sum of another order is rounded to another code."""
    model = quantized(**options).train()
    loss(model)
    model.eval()
    packed = pack(model)[1]
    integers = [
        m for m in packed.modules() if isinstance(m, PackedIntegerLayer)
    ]
    assert len(integers) == (0 if 'act_granularity' in options else len(
        layers_of(model)))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected, y = model(x)[0], packed(x)[0]
    assert (y - expected).norm() < 1e-3 * expected.norm()


def test_an_image_without_a_batch_has_its_channels_scales():
    # as many rows as channels
    layer = Q.QuantConv2d(
        4,
        4,
        1,
        bias=False,
        input_quant=dict(type='LSQ', bits=4),
        act_granularity='channel')
    x = torch.randn(4, 4, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(4).view(4, 4, 1, 1))
    batch = layer(x[None])
    assert torch.equal(layer(x), batch[0])


# ---- What would go wrong without a message ---------------------------------


def test_by_default_first_and_last_quantize_what_the_others_do():
    layers = layers_of(build(weight=LSQ4))
    assert all(layer.input_quant is None for layer in layers.values())
    assert layers['backbone.conv1'].weight_quant.bits == 8


@pytest.mark.parametrize(
    'options, words',
    [(dict(attention=LSQ4), 'nothing to do.*no quantizer is given'),
     (dict(weight=LSQ4, residual=True), 'residual=True.*give it a config'),
     (dict(weight=dict(bits=4)), 'needs a type'),
     (dict(weight=4), 'needs a type'),
     (dict(weight=LSQ4, overrides={'head': dict(activation=8)
                                   }), 'needs a type')],
    ids=['attention', 'residual', 'bits', 'number', 'override'])
def test_refuses_what_would_do_nothing_or_says_too_little(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        build(**options)


def test_a_second_step_leaves_the_first_ones_layers():
    with pytest.raises(ValueError, match='low-bit by an earlier step'):
        build([dict(type='mmcompress.QuantizeLayers', weight=LSQ4)] * 2)


def test_frozen_norms_of_several_processes_end_on_a_grid():
    model = copy.deepcopy(RESNET)
    model['backbone']['norm_cfg'] = dict(type='SyncBN')
    model = build(
        model=model,
        weight=LSQ4,
        activation=LSQ4,
        norms='frozen',
        residual=True)
    # as tools do on a CPU
    block = revert_sync_batchnorm(model).train().backbone.layer1[0]
    assert not block.bn1.training and not block.bn2.training
    assert block.bn2.output_quant.bits == 4


def test_branches_of_frozen_stages_have_frozen_quantizers():
    model = copy.deepcopy(RESNET)
    model['backbone']['frozen_stages'] = 1
    backbone = build(
        model=model, weight=LSQ4, activation=LSQ4, residual=True).backbone
    for layer, trained in ((backbone.layer1, False), (backbone.layer2, True)):
        assert layer[0].bn2.output_quant.scale.requires_grad == trained


def test_frozen_norms_that_are_replaced_are_an_error():
    model = quantized(norms='frozen')
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model).eval()
    loss(model)
    model.train()
    for norm in model.modules():
        if isinstance(norm, nn.SyncBatchNorm):
            # which wants a GPU in training
            norm.eval()
    with pytest.raises(RuntimeError, match='bn1 was frozen .*sync_bn'):
        loss(model)
