"""What the configs of Bi-ViT promise: one bit, and maps that say something."""
import pytest
import torch
from quantization.mini_transformers import batch, build, load, quantizers_of

from mmcompress.lowbit import FLOAT, LowBitLayer
from mmcompress.quantization import LSF, ActBi, SignActivation, SignWeight


def maps_of(name):
    """Each head's quantized attention map of the first step, by layer."""
    model = build(load(name))
    maps = {}
    for path, quantizer in quantizers_of(model, 'av.a_quant').items():
        quantizer.register_forward_hook(
            lambda *args, path=path: maps.update({path: args[-1].detach()}))
    model(**batch(), mode='loss')
    return model, {
        path: attn.transpose(0, 1).flatten(1)
        for path, attn in maps.items()
    }


@pytest.mark.parametrize('name, layers', [('bi_vit_deit_mini', 5),
                                          ('bi_vit_swin_mini', 4)])
def test_maps_begin_with_zeros_and_ones(name, layers):
    model, maps = maps_of(name)
    assert len(maps) == layers
    for path, heads in maps.items():
        assert isinstance(model.get_submodule(path), LSF)
        ones = (heads > 0).float().mean(1)
        assert ((ones > 0.01) & (ones < 0.99)).all()
        for head in heads:
            assert len(head.unique()) == 2


def test_a_map_of_the_released_quantizer_begins_as_one_number():
    model, maps = maps_of('bi_vit_deit_actbi_mini')
    assert len(maps) == 5
    for path, heads in maps.items():
        quantizer = model.get_submodule(path)
        assert isinstance(quantizer, ActBi)
        assert not quantizer.zero_point.round().any()
        for head in heads:
            assert len(head.unique()) == 1


def test_everything_between_patches_and_classes_has_one_bit():
    model = build(load('bi_vit_swin_mini'))
    bits = {
        path: module.operand_bits()
        for path, module in model.named_modules()
        if isinstance(module, LowBitLayer)
    }
    assert all(
        b.weight in (1, None) and {*b.activations} == {1}
        for b in bits.values())
    linear = {
        path
        for path, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
    }
    assert linear - bits.keys() == {
        'backbone.patch_embed.projection', 'head.fc'
    }
    merging = model.backbone.stages[0].downsample.reduction
    assert isinstance(merging.weight_quant, ActBi)
    assert merging.weight_quant.zero_point is None
    qkv = model.backbone.stages[0].blocks[0].attn.w_msa.qkv
    assert isinstance(qkv.weight_quant, SignWeight)
    assert isinstance(qkv.input_quant, SignActivation)
    assert FLOAT not in bits[
        'backbone.stages.0.blocks.0.attn.w_msa.products.av'].activations


@pytest.mark.parametrize('name', ['bi_vit_deit_mini', 'bi_vit_swin_mini'])
def test_ranking_teaches_queries_and_keys_before_the_map_is_binary(name):
    model = build(load(name))
    value = model(**batch(), mode='loss')['loss_rank']
    value.backward()
    assert 0 < value < 1
    for path, quantizer in quantizers_of(model, 'qk.a_quant').items():
        assert quantizer.scale.grad.any(), path
    # the map's own scale is behind it in its layer, and before it in the next
    scales = list(quantizers_of(model, 'av.a_quant').values())
    assert scales[0].scale.grad.any() and scales[-1].scale.grad is None
