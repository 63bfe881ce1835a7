"""What the configs of Q-DETR promise about layers, stages and losses."""
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import pytest
import test_distill_configs
import torch
import torch.nn as nn
import yaml
from meta_device import build_on_meta
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.distill.builder import build_slot
from mmcompress.lowbit import LowBitLayer
from mmcompress.model.inputs import made_up_batch
from mmcompress.quantization import LSQ, DistributionAlignment, QuantLayer
from mmcompress.quantization.attention.multihead import QuantMultiheadAttention

FOLDER = Path(__file__).parents[2] / 'configs' / 'q_detr'
DETR = 'q_detr_detr_r50_{}_coco'
METAFILE = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
SETTINGS = METAFILE['Collections'][0]['Metadata']['Official Settings']
FILES = sorted(FOLDER.glob('*_coco.py'))
TAUGHT = [
    file.stem for file in FILES
    if 'stage2' in file.stem or 'losses=' in file.read_text()
]
# of attentions in DETR's decoder
KINDS = ('self_attn', 'cross_attn')
LAYER = dict(ffn_cfg=dict(feedforward_channels=16))
SMALL = dict(
    num_queries=7,
    backbone=dict(depth=18, base_channels=8, stem_channels=8, init_cfg=None),
    neck=dict(in_channels=[64]),
    encoder=dict(num_layers=1, layer_cfg=LAYER),
    decoder=dict(num_layers=2, layer_cfg=LAYER))


@lru_cache(maxsize=None)
def _load(name):
    return Config.fromfile(FOLDER / f'{name}.py')


def load(name):
    # heads change the config that they are built from
    return deepcopy(_load(name))


def quantizer_of(name):
    """Its config of ``Compress``."""
    model = load(name).model
    return model.get('student', model)


@lru_cache(maxsize=None)
def on_meta_device(name):
    cfg = Config(dict(model=quantizer_of(name), default_scope='mmdet'))
    return build_on_meta(cfg)


def small(name):
    """The quantized detector with a small backbone and few layers."""
    cfg = Config(dict(model=quantizer_of(name)))
    cfg.merge_from_dict(dict(model=dict(model=SMALL)))
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model.train()


def take_step(model):
    """Forward and backward, without an optimizer."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        batch = made_up_batch(model, 'mmdet', (64, 64))
        loss, _ = model.parse_losses(model(**batch, mode='loss'))
    loss.backward()
    return loss


def bits_of(model, part):
    """Bits of weights and of what they are multiplied with, below a part."""
    found = set()
    for name, module in model.named_modules():
        if f'.{part}.' in f'.{name}.' and isinstance(module, LowBitLayer):
            bits = module.operand_bits()
            if bits.weight is not None:
                found |= {(bits.weight, x) for x in bits.activations}
    return found


@pytest.mark.parametrize(('name', 'num_weights'), [
    (DETR.format('2-2-8_stage2'), 2),
    ('q_detr_conditional-detr_r50_4-4-8_coco', 7),
])
def test_every_weight_of_the_cross_attention_has_few_levels(name, num_weights):
    model = small(name)
    assert take_step(model).isfinite()
    bits = int(name.split('r50_')[1][0])
    layers = [(path, m) for path, m in model.decoder.named_modules()
              if '.cross_attn.' in path and getattr(m, 'weight_quant', None)]
    # later layers of a Conditional DETR have one less
    assert len(layers) >= 2 * num_weights - 1
    for path, layer in layers:
        weight = getattr(layer, 'in_proj_weight', None)
        weight = layer.weight if weight is None else weight
        rows = layer.weight_quant(weight).detach()
        assert max(len(row.unique()) for row in rows) <= 2**bits, path
    # and nothing is multiplied that is not
    floats = [
        path for path, m in model.decoder.named_modules()
        if '.cross_attn' in path and isinstance(m, nn.Linear)
        and not isinstance(m, QuantLayer)
    ]
    assert not floats


@pytest.mark.parametrize('bits', [4, 3, 2])
def test_detr_has_the_bits_of_its_name(bits):
    model = on_meta_device(DETR.format(f'{bits}-{bits}-8_stage2'))
    eight = {(8, 8)}
    assert bits_of(model, 'backbone.conv1') == eight
    assert bits_of(model, 'downsample') == bits_of(model, 'neck') == eight
    for part in ('conv2', 'encoder', 'decoder'):
        assert bits_of(model, part) == {(bits, bits)}
    assert not bits_of(model, 'bbox_head')
    products = [m for n, m in model.named_modules() if n.endswith('.qk')]
    assert len(products) == 18
    assert {m.operand_bits().factors for m in products} == {(8, 8)}


def aligned(model):
    """Which attentions have aligned queries."""
    return {
        name.partition('.products')[0].removesuffix('.attn')
        for name, m in model.named_modules()
        if isinstance(m, DistributionAlignment)
    }


@pytest.mark.parametrize(('name', 'kinds'), [
    (DETR.format('4-4-8_stage2'), KINDS),
    ('q_detr_dab-detr_r50_4-4-8_coco', KINDS),
    ('q_detr_deformable-detr_r50_4-4-8_coco', KINDS[:1]),
    ('q_detr_dino_r50_4-4-8_coco', KINDS[:1]),
    (DETR.format('4-4-8_released'), KINDS[:1]),
    (DETR.format('4-4-8_stage1'), ()),
])
def test_queries_of_the_decoder_are_aligned_and_no_others(name, kinds):
    expected = {
        f'decoder.layers.{i}.{kind}'
        for i in range(6)
        for kind in kinds
    }
    assert aligned(on_meta_device(name)) == expected


def test_aligned_queries_use_their_codes_more_evenly():
    torch.manual_seed(0)
    # each token has a range of its own
    queries = torch.randn(2, 4, 50, 16) * torch.randn(2, 1, 50, 1).exp()

    def entropy(x):
        codes = LSQ(bits=4, axis=1, size=4)
        codes(x.requires_grad_())
        counts = codes.quantize_int(x).values.unique(return_counts=True)[1]
        share = counts / counts.sum()
        return -(share * share.log2()).sum()

    assert entropy(DistributionAlignment(16)(queries).detach()) > \
        entropy(queries) + 0.1


def test_the_released_code_leaves_weights_of_the_cross_attention_float():
    model = on_meta_device(DETR.format('4-4-8_released'))
    for layer in model.decoder.layers:
        cross, own = layer.cross_attn.attn, layer.self_attn.attn
        assert isinstance(cross, QuantMultiheadAttention)
        assert cross.weight_quant is None
        assert not isinstance(cross.out_proj, QuantLayer)
        assert own.weight_quant.bits == own.out_proj.weight_quant.bits == 4
        for attn in (cross, own):
            # what is projected is float, what is multiplied is not
            assert attn.query_quant is None
            assert attn.products.qk.operand_bits().factors == (8, 8)
        assert own.out_proj.input_quant is None
    ffn = model.encoder.layers[0].ffn.layers[1].input_quant
    assert ffn.size == 2048 and ffn.zero_point is not None


@pytest.mark.parametrize('bits', [4, 3, 2])
def test_the_first_stage_quantizes_the_backbone_and_the_second_goes_on(bits):
    first, second = (DETR.format(f'{bits}-{bits}-8_stage{i}') for i in (1, 2))
    epochs = load(first).train_cfg.max_epochs
    assert load(second).load_from == f'work_dirs/{first}/epoch_{epochs}.pth'
    model, whole = on_meta_device(first), on_meta_device(second)
    for part in ('encoder', 'decoder', 'neck', 'bbox_head'):
        assert not bits_of(model, part)
    assert bits_of(model, 'backbone') == bits_of(whole, 'backbone')
    kept = {k: v.shape for k, v in model.state_dict().items()}
    assert kept.items() <= {
        k: v.shape
        for k, v in whole.state_dict().items()
    }.items()


def test_the_second_stage_begins_with_the_scales_of_the_first():
    first = small(DETR.format('2-2-8_stage1'))
    take_step(first)
    second = small(DETR.format('2-2-8_stage2'))
    result = second.load_state_dict(first.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    quants = {n: m for n, m in second.named_modules() if isinstance(m, LSQ)}
    for name, quantizer in quants.items():
        assert quantizer.is_initialized == name.startswith('backbone.')
        if quantizer.is_initialized:
            assert torch.equal(quantizer.scale,
                               first.get_submodule(name).scale)


@pytest.mark.parametrize('name', TAUGHT)
def test_distillation_has_the_settings_of_the_paper_and_finds_a_teacher(name):
    model = load(name).model
    assert model.losses.keys() == SETTINGS.keys()
    for key, expected in SETTINGS.items():
        loss = vars(build_slot(key, model.losses[key]).loss)
        assert {k: loss[k] for k in expected} == expected
    published = test_distill_configs.checkpoints_of(model.teacher.cfg)
    assert model.teacher.checkpoint in published


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_the_page_names_every_config(file):
    assert f'({file.name})' in (FOLDER / 'README.md').read_text()
