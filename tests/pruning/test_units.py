"""A model without some units is the model whose units are masked."""
import copy
import pickle

import pytest
import torch
import torch.nn as nn
from mmengine.registry import MODELS
from torch import Tensor

from mmcompress.attention import attend
from mmcompress.pruning import cut, find_units
from mmcompress.quantization import QuantizeLayers, Quantizer

_ARCH = dict(embed_dims=12, num_layers=2, num_heads=3, feedforward_channels=24)
_SWIN = dict(window_size=2, out_indices=(0, 1))


def _build(cfg: dict) -> nn.Module:
    model = MODELS.build(cfg).double()
    model.eval()
    # biases that are 0 hide that they are lost
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def _vit(kind: str = 'VisionTransformer', **options) -> nn.Module:
    return _build({
        **dict(
            type=f'mmpretrain.{kind}', arch=_ARCH, img_size=16, patch_size=8),
        **options
    })


def _mmpretrain_swin() -> nn.Module:
    arch = dict(embed_dims=12, depths=[2, 2], num_heads=[3, 6])
    return _build(
        dict(
            type='mmpretrain.SwinTransformer',
            arch=arch,
            img_size=16,
            patch_size=2,
            **_SWIN))


def _swin(scope: str) -> nn.Module:
    return _build(
        dict(
            type=f'{scope}.SwinTransformer',
            embed_dims=12,
            depths=(2, 2),
            num_heads=(3, 6),
            strides=(2, 2),
            patch_size=2,
            **_SWIN))


def _segmenter() -> nn.Module:
    return _build(
        dict(
            type='mmseg.VisionTransformer',
            img_size=(16, 16),
            patch_size=8,
            embed_dims=12,
            num_layers=2,
            num_heads=3,
            mlp_ratio=2,
            out_indices=(0, 1)))


class _Text(nn.Module):
    """Blocks of CLIP's text tower, over tokens that come from an image."""

    def __init__(self) -> None:
        super().__init__()
        from mmpretrain.models.utils.clip_generator_helper import \
            ResidualAttentionBlock
        mask = torch.full((8, 8), -torch.inf).triu(1)
        self.resblocks = nn.Sequential(*(ResidualAttentionBlock(12, 3, mask)
                                         for _ in range(2)))
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                # CLIP's own computes in float32
                module.__class__ = nn.LayerNorm

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x.flatten().view(-1, 1, 12)[:8])


class _Detr(nn.Module):
    """A layer of DETR's encoder and one of its decoder."""

    def __init__(self) -> None:
        super().__init__()
        from mmdet.models.layers import (DetrTransformerDecoderLayer,
                                         DetrTransformerEncoderLayer)
        attn = dict(embed_dims=12, num_heads=3, batch_first=True)
        ffn = dict(embed_dims=12, feedforward_channels=24)
        self.encoder = DetrTransformerEncoderLayer(attn, ffn)
        self.decoder = DetrTransformerDecoderLayer(attn, attn, ffn)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten().view(2, -1, 12)
        padding = torch.arange(x.size(1)).expand(2, -1) > 20
        memory = self.encoder(x, 0.1 * x, padding)
        return self.decoder(
            x[:, :5],
            key=memory,
            value=memory,
            query_pos=x[:, 5:10],
            key_pos=x,
            self_attn_mask=torch.ones(5, 5, dtype=bool).triu(1),
            cross_attn_mask=None,
            key_padding_mask=padding)


class _Bert(nn.Module):
    """BLIP's text tower, which attends to an image."""

    def __init__(self, nlvr: bool = False) -> None:
        super().__init__()
        transformers = pytest.importorskip('transformers')
        from mmpretrain.models.multimodal.blip.language_model import BertLayer
        config = transformers.BertConfig(
            hidden_size=12,
            num_attention_heads=3,
            intermediate_size=24,
            add_cross_attention=True,
            encoder_width=6,
            nlvr=nlvr)
        self.nlvr = nlvr
        self.layer = BertLayer(config, 7)

    def forward(self, x: Tensor) -> Tensor:
        text = x.flatten().view(2, -1, 12)[:, :7]
        image = x.flatten().view(2, -1, 6)[:, :5]
        mask = torch.zeros(2, 1, 1,
                           7).masked_fill(torch.arange(7) > 5, -torch.inf)
        return self.layer(
            text,
            mask,
            encoder_hidden_states=[image, -image] if self.nlvr else image,
            encoder_attention_mask=[None] * 2 if self.nlvr else None,
            mode='multimodal')[0]


_MODELS = {
    'vit': _vit,
    'deit': lambda: _vit('DistilledVisionTransformer'),
    'deit3': lambda: _vit('DeiT3', arch=dict(_ARCH, feedforward_channels=24)),
    'swin-mmpretrain': _mmpretrain_swin,
    'swin-mmdet': lambda: _swin('mmdet'),
    'swin-mmseg': lambda: _swin('mmseg'),
    'segmenter': _segmenter,
    'clip-text': lambda: _build(dict(type=_Text)),
    'detr': lambda: _build(dict(type=_Detr)),
    'bert': lambda: _build(dict(type=_Bert)),
    'bert-nlvr': lambda: _build(dict(type=_Bert, nlvr=True)),
}


def _groups(model: nn.Module) -> dict[str, int]:
    return {units.name: units.num for units in find_units(model)}


def _some(model: nn.Module) -> dict[str, Tensor]:
    """Another number of units of each group, at random."""
    return {
        name: torch.randperm(num)[:1 + i % (num - 1)]
        for i, (name, num) in enumerate(_groups(model).items(), 1)
    }


def _mask(model: nn.Module, kept: dict[str, Tensor]) -> nn.Module:
    """The same shapes; what computes a removed unit is 0."""
    masked = copy.deepcopy(model)
    for units in find_units(masked):
        gone = torch.ones(units.num, dtype=torch.bool)
        gone[kept[units.name]] = False
        for layer, key, dim, index in units.slots(masked):
            if dim == 0:
                getattr(layer, key).data[index[gone].flatten()] = 0
    return masked


@torch.no_grad()
def _run(model: nn.Module) -> list[Tensor]:
    image = torch.rand(
        2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    out = model(image)
    return list(out) if isinstance(out, tuple) else [out]


def _assert_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('kind', _MODELS)
def test_cut_is_masked(kind):
    model = _MODELS[kind]()
    kept = _some(model)
    groups = _groups(model)
    masked = _run(_mask(model, kept))
    before = sum(p.numel() for p in model.parameters())
    leave = sum(
        units.parameters_per_unit(model) * (units.num - len(kept[units.name]))
        for units in find_units(model))

    cut(model, kept)

    assert len(groups) >= 3
    _assert_equal(_run(model), masked)
    assert _groups(model) == {name: len(k) for name, k in kept.items()}
    assert sum(p.numel() for p in model.parameters()) == before - leave
    _assert_equal(_run(copy.deepcopy(model)), masked)
    if kind not in ('clip-text', 'detr', 'bert', 'bert-nlvr'):
        _assert_equal(_run(pickle.loads(pickle.dumps(model))), masked)


def test_cut_twice():
    model = _vit()
    kept = {name: torch.arange(2) for name in _groups(model)}
    masked = _run(_mask(model, kept))
    cut(model, {name: torch.arange(3) for name in kept})
    cut(model, kept)
    _assert_equal(_run(model), masked)


def test_nothing_is_removed():
    model = _segmenter()
    before = _run(model)
    classes = [type(module) for module in model.modules()]
    cut(model, {name: torch.arange(n) for name, n in _groups(model).items()})
    assert [type(module) for module in model.modules()] == classes
    assert all(map(torch.equal, _run(model), before))


def test_parameters_stay_as_they_were():
    model = _vit().bfloat16()
    model.layers[0].attn.qkv.requires_grad_(False)
    bias = model.layers[0].attn.qkv.bias.clone()
    cut(model, {'layers.0.attn': torch.tensor([3, 1])})
    attn = model.layers[0].attn
    assert not attn.qkv.weight.requires_grad and attn.proj.weight.requires_grad
    assert attn.qkv.weight.dtype == torch.bfloat16
    assert torch.equal(attn.qkv.bias, bias.view(9, 4)[:, [1, 3]].flatten())
    assert (attn.qkv.out_features, attn.proj.in_features) == (18, 6)


def _pruned_torch(**options) -> nn.MultiheadAttention:
    attn = _build(
        dict(type=nn.MultiheadAttention, embed_dim=12, num_heads=3, **options))
    cut(attn, {'': torch.tensor([0, 2])})
    return attn


@pytest.mark.parametrize('need_weights', [True, False])
def test_torch_attention(need_weights):
    whole = _build(dict(type=nn.MultiheadAttention, embed_dim=12, num_heads=3))
    attn = copy.deepcopy(whole)
    kept = {'': torch.tensor([0, 2])}
    cut(attn, kept)
    inputs = torch.randn(3, 5, 2, 12).double()
    options = dict(
        need_weights=need_weights,
        key_padding_mask=torch.arange(5).expand(2, -1) > 3,
        attn_mask=torch.eye(5).bool().roll(1, 0))
    theirs = _mask(whole, kept)(*inputs, **options)
    ours = attn(*inputs, **options)
    _assert_equal(ours[:1], theirs[:1])
    if need_weights:
        _assert_equal(ours[1:], theirs[1:])
    unbatched = attn(*inputs[:, :, 0])[0]
    _assert_equal([unbatched], [_mask(whole, kept)(*inputs[:, :, 0])[0]])


def test_torch_encoder_layer_has_no_shortcut():
    """In eval mode, torch reads the weights of whole attentions."""
    layer = _build(
        dict(
            type=nn.TransformerEncoderLayer,
            d_model=12,
            nhead=3,
            batch_first=True))
    kept = {'self_attn': torch.tensor([1, 2])}
    x = torch.randn(2, 5, 12).double()
    with torch.no_grad():
        masked = _mask(layer, kept)(x)
        cut(layer, kept)
        _assert_equal([layer(x)], [masked])


def _attentions() -> dict:
    vit = _vit()
    cut(vit, {'layers.0.attn': torch.tensor([0, 3])})
    return {
        'mmpretrain': vit.layers[0].attn,
        'torch': _pruned_torch(batch_first=True)
    }


_BITS = dict(type='LSQ', bits=8)


def _quantize(model: nn.Module, **options) -> None:
    """With quantizers that let everything pass."""
    QuantizeLayers(_BITS, _BITS, _BITS, first_last=None, **options)(model)
    for module in model.modules():
        if isinstance(module, Quantizer):
            module.bypass = True


@pytest.mark.parametrize('kind', ['mmpretrain', 'torch'])
@pytest.mark.parametrize('quantized', [False, True])
@torch.no_grad()
def test_attend(kind, quantized):
    attn = _attentions()[kind]
    x = torch.randn(2, 5, 12).double()
    y = attn(x) if kind == 'mmpretrain' else attn(x, x, x)[0]
    if quantized:
        model = nn.ModuleDict(dict(attn=attn))
        _quantize(model)
        ours = attn(x) if kind == 'mmpretrain' else attn(x, x, x)[0]
        _assert_equal([ours], [y])
    attended, q, k = attend(attn, x)
    assert q.shape == k.shape == (2, 3, 5, 2)
    _assert_equal([attended], [y])


@pytest.mark.parametrize('kind', ['swin-mmpretrain', 'swin-mmdet'])
def test_windows_are_quantized(kind):
    model = _MODELS[kind]()
    cut(model, _some(model))
    plain = _run(model)
    _quantize(model)
    _assert_equal(_run(model), plain)
    _assert_equal(_run(pickle.loads(pickle.dumps(model))), plain)
    again = _MODELS[kind]()
    cut(again, _some(again))
    _quantize(again, query_norm=dict(type='IRM'))
    _run(again)


# ---- What is refused -------------------------------------------------------


@pytest.mark.parametrize('kept, message', [
    ([], 'at least one'),
    ([0.5], 'at least one'),
    ([4], '0 to 3'),
    ([-1], '0 to 3'),
    ([1, 1], 'kept once'),
])
def test_kept(kept, message):
    model = _vit()
    shapes = [p.shape for p in model.parameters()]
    with pytest.raises(ValueError, match=f'layers.1.attn.*{message}'):
        cut(model, {
            'layers.0.ffn': torch.arange(2),
            'layers.1.attn': torch.tensor(kept)
        })
    assert [p.shape for p in model.parameters()] == shapes


def test_unknown_name():
    with pytest.raises(KeyError, match="'layers.0.atn'.*'layers.0.attn'"):
        cut(_vit(), {'layers.0.atn': torch.arange(2)})
    with pytest.raises(ValueError, match='Linear has no units'):
        cut(nn.Linear(2, 2), {'': torch.arange(1)})


def test_quantized_layers_are_not_cut():
    model = _vit()
    QuantizeLayers(_BITS, _BITS)(model)
    with pytest.raises(ValueError, match='KeepUnits be the first step'):
        cut(model, {'layers.0.ffn': torch.arange(2)})


def test_tied_layers_are_not_cut():
    model = _vit()
    model.layers[0].ffn.layers[1].weight = model.layers[1].ffn.layers[1].weight
    with pytest.raises(ValueError, match='one parameter'):
        cut(model, {'layers.0.ffn': torch.arange(2)})


def test_units_that_can_not_be_removed():
    """Where 0 is not 0 behind the activation, or values are added."""
    model = _vit(layer_cfgs=dict(act_cfg=dict(type='Sigmoid')))
    assert list(_groups(model)) == ['layers.0.attn', 'layers.1.attn']
    from mmpretrain.models.utils import MultiheadAttention
    assert not find_units(MultiheadAttention(12, 1, 6, v_shortcut=True))
    assert not find_units(nn.MultiheadAttention(12, 3, add_bias_kv=True))
    assert not find_units(nn.MultiheadAttention(12, 3, kdim=6))
