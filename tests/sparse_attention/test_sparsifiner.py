import copy
import math
import pickle

import pytest
import torch
from golden import assert_golden, golden
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.models.backbones import (DistilledVisionTransformer,
                                         VisionTransformer)
from torch import nn

from mmcompress.attention import attend
from mmcompress.builder import Compress
from mmcompress.pruning import KeepUnits
from mmcompress.quantization import QuantizeLayers
from mmcompress.sparse_attention import (MaskPredictor, SparseAttention,
                                         Sparsifiner, TokenPruner, largest,
                                         macs)
from mmcompress.sparse_attention.predictor import Macs

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
SWIN = dict(embed_dims=8, depths=[1] * 4, num_heads=[1] * 4)
PRUNED = dict(token_pruning_loc=[0], token_keep_rate=0.5)


@golden('sparsifiner')
def test_matches_the_official_numbers(case):
    assert_golden(case)


class Model(nn.Module):

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x):
        return self.backbone(x)[0]


def dense(cls=VisionTransformer, **kwargs):
    torch.manual_seed(0)
    cfg = dict(arch=ARCH, img_size=16, patch_size=4, **kwargs)
    return Model(cls(**cfg)).eval()


def sparse(stage='finetune', model=None, **kwargs):
    model = dense() if model is None else copy.deepcopy(model)
    Sparsifiner(stage, basis_threshold=0.0, **kwargs)(model)
    return model


def images(num=2):
    return torch.rand(
        num, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def predictor(num_tokens=17, **kwargs):
    torch.manual_seed(0)
    return MaskPredictor(num_tokens, 2, 8, basis_threshold=0.0, **kwargs)


def queries_and_keys(num_tokens=17):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, 2, num_tokens, 8, generator=generator)


def predictors(model):
    return [m for m in model.modules() if isinstance(m, MaskPredictor)]


# ---- The predictor ---------------------------------------------------------


@pytest.mark.parametrize('num', [1, 3, 50])
def test_the_first_of_equal_values_are_the_largest(num):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(4, (5, 40), generator=generator).float()
    x[0], x[1, 7:] = 2, -torch.inf
    order = x.argsort(dim=-1, descending=True, stable=True)[:, :num]
    expected = torch.zeros(5, 40, dtype=torch.bool).scatter(1, order, True)
    assert torch.equal(largest(x, num), expected)


@pytest.mark.parametrize('extra', [0, 1, 2])
def test_each_query_has_its_budget_and_the_first_have_all_keys(extra):
    p = predictor(num_extra_tokens=extra)
    mask = p.mask(p(*queries_and_keys()))
    assert mask.shape == (3, 2, 17, 17)
    assert mask[:, :, :extra].all()
    assert (mask[:, :, extra:].sum(-1) == math.ceil(17 / 4)).all()


def test_forced_keys_belong_to_the_budget():
    p = predictor(keep_self=True, keep_extra=True)
    mask = p.mask(p(*queries_and_keys()))
    assert (mask[:, :, 1:].sum(-1) == 5).all()
    assert mask[..., 0].all()
    assert mask.diagonal(dim1=-2, dim2=-1).all()
    assert not predictor().mask(p(*queries_and_keys()))[..., 0].all()


def test_pruned_tokens_are_no_keys_and_change_nothing():
    p = predictor(keep_self=True)
    q, k = queries_and_keys()
    left = torch.ones(3, 16, dtype=torch.bool)
    left[:, 4:] = False
    approx = p(q, k, left)
    mask = p.mask(approx, left)
    assert (approx[..., 5:] == -torch.inf).all()
    assert not mask[:, :, 1:, 5:].any()
    # itself, class token and three others: no more than are left
    assert (mask[:, :, 1:].sum(-1) == 5).all()
    k[:, :, 5:] = 9
    assert torch.equal(p(q, k, left), approx)
    p.prune_rows = True
    assert not p.mask(approx, left)[:, :, 5:].any()


def test_it_is_signed_in_the_first_stage_only():
    p = predictor(reconstruct=True)
    q, k = queries_and_keys()
    assert (p(q, k) < 0).any()
    p.eval()
    assert (p(q, k) >= 0).all()


def test_it_computes_in_float32_whatever_the_attention_does():
    p = predictor()
    q, k = queries_and_keys()
    expected = p(q.bfloat16(), k.bfloat16())
    assert expected.dtype == torch.float32
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(p(q.bfloat16(), k.bfloat16()), expected)
    assert p.bfloat16()(q, k).dtype == torch.float32


def test_a_shared_projection_is_one_parameter():
    shared, apart = predictor(share_inout_proj=True), predictor()
    assert shared.proj_n is shared.proj_back_n
    assert len(list(shared.parameters())) == 5
    assert shared.state_dict().keys() == apart.state_dict().keys()
    copied = copy.deepcopy(shared)
    assert copied.proj_n is copied.proj_back_n is not shared.proj_n


@pytest.mark.parametrize('kwargs, message', [
    (dict(attn_keep_rate=0), r'attn_keep_rate must be in \(0, 1\], got 0'),
    (dict(coef_topk=None), 'give one of coef_topk and coef_threshold'),
    (dict(coef_threshold=0.1), 'give one of coef_topk and coef_threshold'),
    (dict(coef_topk=0), 'coef_topk must be positive, got 0'),
    (dict(reduce_n_factor=18), '17 tokens and heads 8 wide are too few'),
])
def test_numbers_out_of_range_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        predictor(**kwargs)


def test_another_number_of_tokens_is_refused():
    with pytest.raises(ValueError, match='of 17 tokens and got 16'):
        predictor()(*queries_and_keys(16))


# ---- Multiply-accumulates --------------------------------------------------


def test_counts_are_those_of_the_paper_for_deit_small():
    of = macs(197, 6, 64, 50, 32, 32, 8)
    narrow, down = 2 * 197 * 64 * 32 * 6, 32 * 197 * 32 * 6
    scores, up = 196 * 32 * 32 * 6, 196 * 8 * 197 * 6
    assert of == Macs(2 * 197**2 * 384, 2 * 384 * (50 * 196 + 197),
                      narrow + down + scores + up)
    assert [round(n / 1e6, 2) for n in (of.dense, of.sparse, of.predictor)
            ] == [29.81, 7.68, 9.11]
    assert [round(n / 1e6, 2)
            for n in (narrow, down, scores, up)] == [4.84, 1.21, 1.20, 1.85]


def test_a_predictor_counts_what_its_basis_leaves():
    p = MaskPredictor(197, 6, 64)
    with torch.no_grad():
        p.proj_back_n.fill_(1)
    assert p.macs() == macs(197, 6, 64, 50, 32, 32, 8)
    with torch.no_grad():
        p.proj_back_n.zero_()
    assert p.macs() == macs(197, 6, 64, 50, 32, 32, 8, basis_density=0.0)


# ---- Attention -------------------------------------------------------------


@pytest.mark.parametrize(
    'cls, kwargs', [
        (VisionTransformer, {}),
        (VisionTransformer, dict(with_cls_token=False, out_type='featmap')),
        (DistilledVisionTransformer, dict(out_type='featmap')),
    ],
    ids=['cls', 'no_cls', 'distilled'])
def test_with_all_keys_attention_is_dense(cls, kwargs):
    model = dense(cls, **kwargs)
    rows = [p.num_extra_tokens for p in predictors(sparse(model=model))]
    assert rows == [model.backbone.num_extra_tokens] * 3
    torch.testing.assert_close(
        sparse(model=model, attn_keep_rate=1)(images()), model(images()))
    assert not torch.allclose(sparse(model=model)(images()), model(images()))


def test_maps_are_zero_outside_of_the_mask_and_sum_to_one():
    attn = sparse().backbone.layers[0].attn
    q, k, _ = attn.split_qkv(torch.randn(2, 17, 16))
    maps = attn.maps(q, k)
    kept = attn.mask_predictor.mask(attn.mask_predictor(q, k))
    assert not maps[~kept].any()
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, 17))


def test_a_query_without_keys_attends_to_nothing_and_has_gradients():
    model = sparse(score_threshold=1e9)
    model(images()).sum().backward()
    grads = [p.grad for p in model.backbone.layers.parameters()
             if p.requires_grad]  # yapf: disable
    assert all(g.isfinite().all() for g in grads)


def test_the_first_stage_trains_predictors_in_dense_attention():
    model = sparse('reconstruct').train()
    seen = []
    for p in predictors(model):
        p.register_forward_hook(lambda module, args, out: seen.append(out))
    assert torch.equal(
        model(images()),
        sparse(model=dense(), attn_keep_rate=1)(images()))
    sum(x.square().sum() for x in seen).backward()
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    assert trained == {
        n
        for n, p in model.named_parameters() if '.mask_predictor.' in n
    } == {n
          for n, p in model.named_parameters() if p.requires_grad}
    assert not torch.equal(model.eval()(images()), dense()(images()))


def test_the_second_stage_trains_all_but_predictors():
    model = sparse().train()
    model(images()).sum().backward()
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    assert trained == {
        n
        for n, p in model.named_parameters() if '.mask_predictor.' not in n
    }


def test_checkpoints_go_from_dense_to_the_first_and_the_second_stage():
    first, second = sparse('reconstruct'), sparse(model=dense(init_cfg=None))
    missing, unexpected = first.load_state_dict(dense().state_dict(), False)
    assert not unexpected
    assert all('.attn.mask_predictor.' in name for name in missing)
    assert len(missing) == 3 * 6
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images()), second(images()))


def test_it_can_be_copied_and_pickled():
    model = sparse(**PRUNED)
    expected = model(images())
    assert torch.equal(copy.deepcopy(model)(images()), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(images()), expected)


@pytest.mark.slow
@pytest.mark.parametrize('kwargs', [{}, PRUNED], ids=['', 'fewer_tokens'])
def test_it_can_be_exported_and_compiled(kwargs):
    model = sparse(**kwargs)
    for module in model.modules():
        # mmpretrain's is of numpy, which breaks the graph of any model
        if hasattr(module, 'drop_prob'):
            module.drop_prob = float(module.drop_prob)
    expected = model(images())
    exported = torch.export.export(model, (images(), )).module()
    torch.testing.assert_close(exported(images()), expected)
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(compiled(images()), expected)


def test_images_do_not_change_each_other():
    model = sparse(**PRUNED)
    alone = [model(image[None]) for image in images(3)]
    torch.testing.assert_close(torch.cat(alone), model(images(3)))


def test_the_attention_gives_queries_and_keys_and_takes_a_bias():
    attn = sparse().backbone.layers[0].attn
    x = torch.randn(2, 17, 16)
    y, q, k = attend(attn, x)
    assert torch.equal(y, attn(x))
    assert q.shape == k.shape == (2, 2, 17, 8)
    bias = torch.zeros(1, 1, 1, 17)
    assert torch.equal(attend(attn, x, bias)[0], y)
    assert not torch.equal(
        attend(attn, x, bias.index_fill(3,
                                        k.new_tensor([0]).long(),
                                        -torch.inf))[0], y)
    with pytest.raises(ValueError, match='tokens can not be merged'):
        attend(attn, x[:, 1:])


# ---- Pruned tokens ---------------------------------------------------------


def test_pruned_tokens_stay_pruned_and_are_zeros_behind_the_layer():
    model = sparse(token_pruning_loc=[0, 1], token_keep_rate=[0.5, 0.25])
    seen = []
    for layer in model.backbone.layers:
        layer.register_forward_hook(lambda module, args, out: seen.append(out))
    model(images())
    first, second, last = seen
    left = [(x.mass[..., 0] > 0) for x in (first, second)]
    assert [x.sum(1).tolist() for x in left] == [[9, 9], [5, 5]]
    assert not (left[1] & ~left[0]).any()
    assert not first.x[~left[0]].any() and not second.x[~left[1]].any()
    assert isinstance(last, torch.Tensor)


def test_the_class_token_chooses_and_the_first_of_equals_stays():
    attn = torch.zeros(1, 2, 6, 6)
    attn[0, 0, 0] = torch.tensor([9., 1, 3, 0, 1, 1])
    attn[0, 1, 0] = torch.tensor([9., 1, 0, 0, 1, 1])
    pruner = TokenPruner(0.5)
    assert pruner(attn, None).tolist() == [[True, True, False, True, False]]
    left = torch.tensor([[False, True, True, True, True]])
    assert pruner(attn, left).tolist() == [[False, True, False, True, True]]


def test_all_tokens_kept_is_as_if_none_were_pruned():
    model = sparse(token_pruning_loc=[0], token_keep_rate=1.0)
    torch.testing.assert_close(model(images()), sparse()(images()))


# ---- The step --------------------------------------------------------------


def test_each_layer_may_keep_another_share():
    model = sparse(attn_keep_rate=[0.25, 0.5, 1.0])
    assert [p.budget for p in predictors(model)] == [5, 9, 17]
    assert all(
        isinstance(layer.attn, SparseAttention)
        for layer in model.backbone.layers)


@pytest.mark.parametrize('kwargs, message', [
    (dict(stage='both'), "'reconstruct' or 'finetune', got 'both'"),
    (dict(attn_keep_rate=[0.5]), 'attn_keep_rate has 1 numbers.* 3 layers'),
    (dict(attn_keep_rate=[0.5, 2, 1]), 'attn_keep_rate must be .* got 2'),
    (dict(token_pruning_loc=[1]), 'give both token_pruning_loc and'),
    (dict(token_pruning_loc=[3], token_keep_rate=.5), 'they are 0 to 2'),
    (dict(token_pruning_loc=[1],
          token_keep_rate=[.5, .5]), 'token_keep_rate has 2 numbers'),
    (dict(stage='reconstruct', token_pruning_loc=[1],
          token_keep_rate=.5), "belongs to stage='finetune'"),
])
def test_what_does_not_fit_is_refused(kwargs, message):
    model = dense()
    with pytest.raises(ValueError, match=message):
        Sparsifiner(**{'stage': 'finetune', **kwargs})(model)
    assert not predictors(model)


def test_without_a_class_token_nothing_says_which_tokens_to_prune():
    model = dense(with_cls_token=False, out_type='featmap')
    with pytest.raises(ValueError, match='there is none'):
        sparse(model=model, **PRUNED)


def quantize(model, **kwargs):
    quantizer = dict(type='LSQ', bits=8)
    QuantizeLayers(quantizer, quantizer, **kwargs)(model)
    return model


def test_products_that_are_quantized_are_refused():
    model = quantize(dense(), attention=dict(type='LSQ', bits=8))
    with pytest.raises(TypeError, match='name Sparsifiner first'):
        sparse(model=model)


def test_quantized_behind_it_layers_of_predictors_stay_float():
    model = quantize(sparse(), attention=dict(type='LSQ', bits=8))
    low_bit = {n for n, m in model.named_modules() if 'Quant' in str(type(m))}
    assert 'backbone.layers.0.attn.qkv' in low_bit
    assert not any('mask_predictor' in name for name in low_bit)
    assert all(type(layer.attn) is SparseAttention
               for layer in model.backbone.layers)  # yapf: disable


def test_scores_of_pruned_heads_keep_their_scale():
    model = dense()
    KeepUnits({'backbone.layers.1.attn': 3})(model)
    torch.testing.assert_close(
        sparse(model=model, attn_keep_rate=1)(images()), model(images()))


def test_once_is_enough():
    with pytest.raises(TypeError, match=r'layers\.0\.attn is a SparseAttent'):
        sparse(model=sparse())


@pytest.mark.parametrize(
    'cfg, message', [
        (dict(type='SwinTransformer', arch=SWIN), 'windows of 49 tokens'),
        (dict(type='MAEViT', arch=ARCH, img_size=16,
              patch_size=4), 'its number of tokens changes'),
        (dict(type='ResNet', depth=18, stem_channels=4,
              base_channels=4), 'not those of a plain vision'),
    ],
    ids=['swin', 'mae', 'resnet'])
def test_other_backbones_are_refused_with_the_reason(cfg, message):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = Model(MODELS.build(cfg))
    with pytest.raises(TypeError, match=message):
        Sparsifiner('finetune')(model)


def test_it_is_a_step_of_compress():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = Compress(
            dict(
                type='ImageClassifier',
                backbone=dict(
                    type='VisionTransformer',
                    arch=ARCH,
                    img_size=16,
                    patch_size=4)),
            [dict(type='Sparsifiner', stage='reconstruct')])
    assert len(predictors(model)) == 3
    assert not model.backbone.pos_embed.requires_grad
