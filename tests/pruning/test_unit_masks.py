import copy
import pickle

import pytest
import torch
from pruning.toy_blocks import MLP, Attention, Blocks
from torch import nn

from mmcompress.attention import attend
from mmcompress.builder import Compress
from mmcompress.pruning import (MaskUnits, add_masks, find_units, masked_units,
                                masks_of)

GROUPS = ['blocks.0', 'blocks.1', 'blocks.2', 'blocks.3']


def masked(**options):
    model = Blocks()
    MaskUnits(**options)(model)
    return model


def lower(model, low=.5):
    """Give every second unit a smaller mask."""
    for mask in masks_of(model).values():
        mask[::2] = low


def x():
    return torch.linspace(-2, 2, 12).view(4, 3)


def packed_attention(**kwargs):
    """torch's, and an input."""
    torch.manual_seed(0)
    attn = nn.MultiheadAttention(8, 2, batch_first=True, **kwargs)
    nn.init.normal_(attn.in_proj_bias)
    return attn, torch.randn(2, 5, 8)


def test_masks_of_1_leave_every_bit():
    assert torch.equal(masked()(x()), Blocks()(x()))


def test_masks_multiply_what_layers_return():
    plain, model = Blocks(), masked()
    lower(model)
    factor = masks_of(model)['blocks.1']
    plain.blocks[1].fc1.register_forward_hook(lambda m, a, y: y * factor)
    for i in (0, 2):
        rows = masks_of(model)[f'blocks.{i}'].repeat(2)
        for key in 'qkv':
            getattr(
                plain.blocks[i],
                key).register_forward_hook(lambda m, a, y, rows=rows: y * rows)
    factor3 = masks_of(model)['blocks.3']
    plain.blocks[3].fc1.register_forward_hook(lambda m, a, y: y * factor3)
    torch.testing.assert_close(model(x()), plain(x()))


@pytest.mark.parametrize('training', [True, False])
def test_torchs_attention_is_masked_on_all_its_paths(training):
    attn, tokens = packed_attention()
    plain = copy.deepcopy(attn)
    add_masks(attn, find_units(attn))
    attn.unit_mask.value[1] = .25
    rows = attn.unit_mask.value.repeat(6)
    with torch.no_grad():
        plain.in_proj_weight *= rows[:, None]
        plain.in_proj_bias *= rows
        plain.train(training)
        attn.train(training)
        expected = plain(tokens, tokens, tokens)[0]
        torch.testing.assert_close(attn(tokens, tokens, tokens)[0], expected)
        torch.testing.assert_close(attend(attn, tokens)[0], expected)


def test_torchs_encoder_layer_reads_masked_parameters():
    attn, tokens = packed_attention()
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    layer.self_attn = attn.eval()
    add_masks(attn, find_units(attn))
    attn.unit_mask.value[1] = .25
    with torch.no_grad():
        fast = layer(tokens)
    torch.testing.assert_close(fast, layer(tokens))


def test_masks_have_the_names_of_the_groups():
    model = nn.ModuleDict(dict(student=masked(), teacher=Blocks()))
    assert list(masks_of(model)) == [f'student.{name}' for name in GROUPS]
    assert not masks_of(Blocks())


def test_a_group_has_one_mask_in_all_its_layers():
    model = pickle.loads(pickle.dumps(copy.deepcopy(masked())))
    attn = model.double().blocks[0]
    assert attn.q.unit_mask is attn.k.unit_mask is attn.v.unit_mask
    assert attn.q.unit_mask.value.dtype == torch.float64
    assert len({id(mask) for _, mask in masked_units(model)}) == 4


def test_copies_have_masks_of_their_own():
    model = masked()
    lower(copy.deepcopy(model))
    assert all(mask.all() for mask in masks_of(model).values())


def test_checkpoints_have_masks_and_need_none():
    model, other = masked(), masked()
    lower(model)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x()), model(x()))
    model.load_state_dict(Blocks().state_dict())
    assert torch.equal(other(x()), model(x()))


def test_half_precision_stays_half_and_its_masks_float():
    model = masked().to(torch.bfloat16)
    assert model(x()).dtype == torch.bfloat16
    assert Blocks().to(torch.bfloat16)(x()).equal(model(x()))
    late = Blocks().to(torch.bfloat16)
    MaskUnits()(late)
    assert masks_of(late)['blocks.1'].dtype == torch.float32


def test_patterns_select_groups():
    model = masked(include=['blocks.[01]', 'blocks.3'], exclude=['blocks.0'])
    assert list(masks_of(model)) == ['blocks.1', 'blocks.3']


@pytest.mark.parametrize('options, message', [
    (dict(include=['blocks.7']), r'include.*blocks\.7.*closest: blocks\.'),
    (dict(exclude=['neck']), r"exclude: 'neck' selects no group"),
    (dict(exclude=['blocks']), 'takes away everything'),
])
def test_what_selects_nothing_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        masked(**options)


def test_a_pattern_is_no_list():
    with pytest.raises(TypeError, match=r"write \['blocks'\]"):
        MaskUnits(include='blocks')


def test_a_model_without_units_is_an_error():
    with pytest.raises(ValueError, match='Linear has no attention'):
        MaskUnits()(nn.Linear(2, 2))


def test_another_computation_is_not_replaced():

    class Scaled(nn.Linear):

        def forward(self, x):
            return 2 * super().forward(x)

    model = Blocks()
    model.blocks[3].fc1 = Scaled(6, 10)
    with pytest.raises(TypeError, match=r'blocks\.3\.fc1.*Scaled.*Exclude'):
        MaskUnits()(model)
    assert not masks_of(model)


def test_masks_are_given_once():
    model = masked(include=['blocks.0'])
    with pytest.raises(ValueError, match='blocks.0.q has masks already'):
        MaskUnits()(model)


class Averaged(nn.Module):
    """Lists its average as mmpretrain's BlipRetrieval does."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(Attention(), MLP())
        self.net_m = copy.deepcopy(self.net).requires_grad_(False)
        self.model_pairs = [[self.net, self.net_m]]


def test_moving_averages_share_the_masks():
    model = Averaged()
    MaskUnits(include=['net.1'])(model)
    masks = masks_of(model)
    assert list(masks) == ['net.1', 'net_m.1']
    assert masks['net_m.1'] is masks['net.1']


def test_builder_knows_the_step():
    model = Compress(
        dict(type=Blocks), steps=[dict(type='mmcompress.MaskUnits')])
    assert len(masks_of(model)) == len(find_units(model)) == 4
