"""LayerNorms that hand codes to the integer linear layer behind them."""
import copy
import io
import pickle

import pytest
import torch
import torch.nn as nn
from deploy.fold.test_integer_folding import STEP, assert_exact_and_near

from mmcompress.deploy import pack, set_twin
from mmcompress.deploy.norm_linear import PackedNormLinear
from mmcompress.deploy.twins import fold_in_place
from mmcompress.deploy.verify import VerificationError, compare_with_trained
from mmcompress.quantization import QuantizeLayers, Spec


class WithShape(nn.Module):
    """Swin's blocks want to know the height and width."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return self.block(x, (5, 4))


def encoder_layer(**kwargs):
    from mmpretrain.models.backbones.vision_transformer import \
        TransformerEncoderLayer
    return TransformerEncoderLayer(24, 3, 48, **kwargs)


def mmseg_layer():
    from mmseg.models.backbones.vit import TransformerEncoderLayer
    return TransformerEncoderLayer(24, 3, 48, attn_cfg={}, ffn_cfg={})


def swin_block():
    from mmdet.models.backbones.swin import SwinBlock
    return WithShape(SwinBlock(24, 3, 48, window_size=4, shift=True))


def trained(block):
    torch.manual_seed(0)
    for name, parameter in block.named_parameters():
        if 'ln' in name or 'norm' in name:
            nn.init.normal_(parameter)
    x = torch.randn(2, 20, 24)
    step = {key: value for key, value in STEP.items() if key != 'type'}
    QuantizeLayers(**step)(block)
    # scales from data
    block(x)
    return block.eval(), x


def joined(model):
    return [
        name for name, module in model.named_modules()
        if isinstance(module, PackedNormLinear)
    ]


@pytest.mark.parametrize('build, names', [
    (encoder_layer, ['attn.qkv', 'ffn.layers.0.0']),
    (mmseg_layer, ['ffn.layers.0.0']),
    (swin_block, ['block.ffn.layers.0.0']),
])
def test_norms_in_front_of_one_linear_layer(build, names):
    packed, traces = assert_exact_and_near(*trained(build()))
    assert joined(packed) == names
    assert not any(trace.following for trace in traces)
    norms = [m for m in packed.modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 2 - len(names)


def with_another_reader():
    block = encoder_layer()
    block.again = block.ln2
    return block


def with_another_class():

    class Attention(type(encoder_layer().attn)):
        pass

    block = encoder_layer()
    block.attn.__class__ = Attention
    return block


def without_bias():
    block = encoder_layer()
    block.ln1 = nn.LayerNorm(24, bias=False)
    return block


@pytest.mark.parametrize('build, names', [
    (with_another_reader, ['attn.qkv']),
    (with_another_class, ['ffn.layers.0.0']),
    (without_bias, ['ffn.layers.0.0']),
    (lambda: encoder_layer(norm_cfg=dict(type='LN', eps=2.)), []),
    (lambda: encoder_layer(norm_cfg=dict(type='LN', elementwise_affine=False)),
     []),
    (lambda: encoder_layer(ffn_type='swiglu_fused'), ['attn.qkv']),
])
def test_other_norms_stay(build, names):
    packed, _ = assert_exact_and_near(*trained(build()))
    assert joined(packed) == names


@pytest.mark.parametrize('activation', [
    dict(type='LSQ', bits=8, offset='beta'),
    dict(type='Dynamic', bits=8),
])
def test_codes_that_follow_from_real_values_stay(activation):
    block = encoder_layer()
    Spec(
        weight=dict(type='LSQ', bits=8),
        activation=activation).swap(block.attn.qkv)
    packed, _ = assert_exact_and_near(*trained(block))
    assert joined(packed) == ['ffn.layers.0.0']


def test_a_wrong_norm_is_found():
    model, x = trained(encoder_layer())
    folded, traces = fold_in_place(copy.deepcopy(model))
    checks = compare_with_trained(model, traces, [x])
    assert checks['attn.qkv'].runs == 1
    folded.attn.qkv.norm_bias += 0.01
    with pytest.raises(VerificationError, match='attn.qkv: .* codes handed'):
        compare_with_trained(model, traces, [x])


def test_ties_are_counted():
    model, x = trained(encoder_layer())
    quantizer = model.attn.qkv.input_quant
    # every code of a constant lies between two
    nn.init.zeros_(model.ln1.weight)
    nn.init.constant_(model.ln1.bias, 0.5 * (1 + 1e-7))
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.fill_(1)
    folded, traces = fold_in_place(copy.deepcopy(model))
    folded.attn.qkv.norm_bias.fill_(0.5)
    checks = compare_with_trained(model, traces, [x])
    assert checks['attn.qkv'].ties == x.numel()


def test_copies_files_and_half_precision():
    model, x = trained(encoder_layer())
    packed = pack(model)[1]
    empty = pack(trained(encoder_layer())[0])[1]
    empty.attn.qkv.norm_bias.zero_()
    with torch.no_grad():
        expected = packed(x)
        for other in (copy.deepcopy(packed),
                      pickle.loads(pickle.dumps(packed)),
                      set_twin(copy.deepcopy(packed), 'folded')):
            assert other(x).equal(expected)
        file = io.BytesIO()
        torch.save(packed.state_dict(), file)
        file.seek(0)
        empty.load_state_dict(torch.load(file))
        assert empty(x).equal(expected)
        qkv = packed.half().attn.qkv
        assert qkv.norm_weight.dtype == torch.float32
        assert qkv(x.half()).dtype == torch.float16


def test_a_file_of_another_eps_is_refused():
    packed = pack(trained(encoder_layer())[0])[1]
    other = trained(encoder_layer(norm_cfg=dict(type='LN', eps=1e-6)))[0]
    with pytest.raises(RuntimeError, match='another architecture'):
        pack(other)[1].load_state_dict(packed.state_dict())


def test_infinite_norms_are_refused():
    from mmcompress.deploy.file.values import impossible_value
    packed = pack(trained(encoder_layer())[0])[1]
    packed.attn.qkv.norm_bias[3] = torch.inf
    problem = impossible_value(packed, packed.state_dict())
    assert problem == 'attn.qkv.norm_bias has infinite values'


def test_export():
    model, x = trained(encoder_layer())
    packed = pack(model)[1]
    with torch.no_grad():
        program = torch.export.export(packed, (x, ))
        assert program.module()(x).equal(packed(x))
    targets = [str(node.target) for node in program.graph.nodes]
    assert sum('layer_norm_codes' in target for target in targets) == 2
