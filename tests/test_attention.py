import pytest
import torch
import torch.nn as nn
from mmpretrain.models.utils import (BEiTAttention, MultiheadAttention,
                                     WindowMSA)
from mmpretrain.models.utils.attention import PromptMultiheadAttention

from mmcompress.attention import attend
from mmcompress.quantization import Spec
from mmcompress.quantization.attention import QuantDotProduct, attention_rule

C, H, N, B = 12, 3, 6, 2
LSQ = dict(type='LSQ', bits=3)
SPEC = Spec(
    weight=LSQ,
    activation=LSQ,
    attention=LSQ,
    query_norm=dict(type='IRM'),
    key_norm=dict(type='IRM'))


def _mmpretrain(**options):
    return MultiheadAttention(C, H, layer_scale_init_value=.5, **options)


def _quantized(attn):
    attention_rule.find(attn)(attn, SPEC)
    if hasattr(attn, 'qkv'):
        SPEC.swap(attn.qkv)
    return attn


KINDS = {
    'mmpretrain':
    _mmpretrain,
    'mmpretrain_shortcut':
    lambda: MultiheadAttention(C, 1, v_shortcut=True, qkv_bias=False),
    'mmpretrain_quantized':
    lambda: _quantized(_mmpretrain()),
    'torch':
    lambda: nn.MultiheadAttention(C, H, batch_first=True),
    'torch_quantized':
    lambda: _quantized(nn.MultiheadAttention(C, H, batch_first=True)),
}
every_kind = pytest.mark.parametrize('kind', KINDS)


def make(kind):
    torch.manual_seed(0)
    attn = KINDS[kind]()
    for parameter in attn.parameters():
        if parameter.dim() > 1 or parameter.numel() > C:
            nn.init.normal_(parameter, std=.5)
    return attn, torch.randn(B, N, C)


def call(attn, x, mask=None):
    if isinstance(attn, nn.MultiheadAttention):
        return attn(x, x, x, attn_mask=mask, need_weights=False)[0]
    return attn(x)


@every_kind
@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_equals_the_forward(kind, training):
    attn, x = make(kind)
    # the first call of a quantizer gives it scales
    call(attn, x)
    y, q, k = attend(attn.train(training), x)
    torch.testing.assert_close(y, call(attn, x), rtol=1e-6, atol=1e-6)
    heads = attn.num_heads
    assert q.shape == k.shape == (B, heads, N, C // heads)


@pytest.mark.parametrize('kind', ['torch', 'torch_quantized'])
def test_a_bias_is_added_as_a_mask_is(kind):
    attn, x = make(kind)
    mask = torch.randn(N, N)
    mask[2, 4:] = -torch.inf
    expected = call(attn, x, mask)
    y, _, _ = attend(attn, x, mask[None, None])
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)


@every_kind
def test_a_bias_of_infinity_hides_a_token(kind):
    attn, x = make(kind)
    bias = torch.zeros(1, 1, 1, N)
    bias[..., -1] = -torch.inf
    attend(attn, x)
    y, _, _ = attend(attn.eval(), x, bias)
    other = x.clone()
    other[:, -1] = x[:, 0]
    hidden, _, _ = attend(attn, other, bias)
    torch.testing.assert_close(hidden[:, :-1], y[:, :-1])


@every_kind
def test_keys_are_those_before_norms_and_quantizers(kind):
    attn, x = make(kind)
    _, q, k = attend(attn, x)
    assert k.requires_grad and k.unique().numel() > 2**3 * H
    # IRM would make it 0
    assert k.mean(-1).abs().min() > 1e-4


def test_a_pruned_attention_keeps_its_scale_and_has_smaller_heads():
    attn, x = make('mmpretrain')
    expected, _, _ = attend(attn, x)
    # two channels of each head that are 0 change nothing
    keep = torch.tensor([0, 1])
    with torch.no_grad():
        for name in ('weight', 'bias'):
            getattr(attn.qkv, name).view(3, H, 4, -1)[:, :, 2:] = 0
    expected, _, _ = attend(attn, x)
    small = nn.Linear(C, 3 * H * 2)
    proj = nn.Linear(H * 2, C)
    with torch.no_grad():
        small.weight.copy_(
            attn.qkv.weight.view(3, H, 4, C)[:, :, keep].flatten(0, 2))
        small.bias.copy_(attn.qkv.bias.view(3, H, 4)[:, :, keep].flatten())
        proj.weight.copy_(
            attn.proj.weight.view(C, H, 4)[:, :, keep].flatten(1))
        proj.bias.copy_(attn.proj.bias)
    attn.qkv, attn.proj, attn.head_dims, attn.scale = small, proj, 2, 4**-.5
    torch.testing.assert_close(attend(attn, x)[0], expected)


def test_works_under_autocast():
    for kind in KINDS:
        attn, x = make(kind)
        with torch.autocast('cpu', torch.bfloat16):
            y, _, _ = attend(attn, x, torch.zeros(1, 1, 1, N))
        assert y.isfinite().all()


@pytest.mark.parametrize(
    'attn', [
        WindowMSA(C, (2, 3), H),
        BEiTAttention(C, H, None, False),
        PromptMultiheadAttention(C, H),
        nn.Linear(2, 2)
    ],
    ids=lambda attn: type(attn).__name__)
def test_other_classes_are_refused_by_name(attn):
    with pytest.raises(TypeError, match=type(attn).__name__):
        attend(attn, torch.zeros(1, N, C))


def test_keys_that_are_no_tokens_are_refused():
    attn = nn.MultiheadAttention(C, H, add_bias_kv=True)
    with pytest.raises(ValueError, match='add_bias_kv'):
        attend(attn, torch.zeros(1, N, C))


def test_the_quantized_attention_quantizes_here_too():
    attn, x = make('mmpretrain_quantized')
    seen = []
    product = attn.scaled_dot_product_attention
    assert isinstance(product, QuantDotProduct)
    product.qk.register_forward_hook(lambda *args: seen.append(1))
    attend(attn, x)
    assert seen == [1]


@pytest.mark.parametrize('kind', ['mmpretrain', 'torch', 'torch_quantized'])
def test_the_map_drops_out_in_training_only(kind):
    attn, x = make(kind)
    attn.attn_drop = attn.dropout = 0.9
    attend(attn, x)
    assert not torch.equal(attend(attn, x)[0], attend(attn, x)[0])
    attn.eval()
    assert torch.equal(attend(attn, x)[0], attend(attn, x)[0])
