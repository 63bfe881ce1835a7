"""What the configs of TerViT promise: three values, two stages."""
import pytest
import torch
from quantization.mini_transformers import batch, build, load, loss

from mmcompress.quantization import Dynamic, QuantLinear, TernaryWeight


def ternary_layers(model):
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(getattr(module, 'weight_quant', None), TernaryWeight)
    }


def test_each_row_has_three_values():
    model = build(load('tervit_stage2_deit_mini', layers=2))
    layers = ternary_layers(model)
    assert len(layers) == 2 * 4
    for layer in layers.values():
        for row in layer.quantized_weight().detach():
            scale = row.abs().max()
            assert scale > 0
            assert {*row.tolist()} == {-scale.item(), 0., scale.item()}
        assert isinstance(layer.input_quant, Dynamic)
    # what sees the image and what predicts
    for layer in (model.backbone.patch_embed.projection,
                  model.head.layers.head):
        bits = layer.operand_bits()
        assert (bits.weight, bits.activations) == (8, (8, ))


def test_more_than_two_fifths_of_normal_weights_are_zero():
    torch.manual_seed(0)
    quantizer = TernaryWeight(axis=0, size=4)
    codes = quantizer.quantize_int(torch.randn(4, 100_000)).values
    zeros = (codes == 0).float().mean(1)
    assert ((zeros > 0.40) & (zeros < 0.45)).all()


@pytest.mark.parametrize('spread', [0., 1.])
def test_a_scale_per_channel_is_nearer_than_one_for_all(spread):
    model = build(load('ternary_deit_mini', layers=1))
    per_tensor = TernaryWeight(clip=2.5)
    for layer in ternary_layers(model).values():
        torch.manual_seed(0)
        with torch.no_grad():
            layer.weight *= (spread * torch.randn(len(layer.weight), 1)).exp()
            far = (per_tensor(layer.weight) - layer.weight).norm()
            near = (layer.quantized_weight() - layer.weight).norm()
        assert near < far


@pytest.fixture(scope='module')
def first():
    """A model of the first stage that has learnt eight images by heart."""
    model = build(load('tervit_stage1_deit_mini', layers=2))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(20):
        optimizer.zero_grad()
        loss(model, **batch(8))['loss'].backward()
        optimizer.step()
    return model


def test_the_second_stage_goes_on_where_the_first_ended(first):
    model = build(load('tervit_stage2_deit_mini', layers=2))
    restart = loss(model, **batch(8))['loss']
    state = first.state_dict()
    # quantizers have nothing to carry over
    assert model.load_state_dict(state) == ([], [])
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
    assert isinstance(model.backbone.layers[0].attn.qkv, QuantLinear)
    handed_over = loss(model, **batch(8))['loss']
    assert loss(first, **batch(8))['loss'] < handed_over < restart


@pytest.mark.parametrize('library', ['deit-small', 'swin-small'])
def test_stages_are_one_training(library):
    one, two = (
        load(f'tervit_stage{stage}_{library}_in1k') for stage in (1, 2))
    folder, file = two.load_from.split('/')[1:]
    assert folder == f'tervit_stage1_{library}_in1k'
    assert file == f'epoch_{one.train_cfg.max_epochs}.pth'
    assert one.train_cfg.max_epochs * 3 == two.train_cfg.max_epochs
    for cfg in (one, two):
        assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_epochs
    assert one.optim_wrapper == two.optim_wrapper
    assert one.model.model == two.model.model
