"""Sparsifiner: each query attends to few keys, which a predictor chooses."""
import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.logging import print_log
from mmpretrain.models.backbones import (DeiT3, DistilledVisionTransformer,
                                         VisionTransformer)
from mmpretrain.models.backbones.vision_transformer import \
    TransformerEncoderLayer
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor

from mmcompress.registry import STEPS
from mmcompress.tables import format_table
from mmcompress.tokens import Tokens
from .attention import SparseAttention
from .predictor import MaskPredictor, largest

STAGES = ('reconstruct', 'finetune')
# backbones whose extra tokens come first, and whose tokens are always as many
_FORWARDS = {
    cls.forward
    for cls in (DeiT3, DistilledVisionTransformer, VisionTransformer)
}


class TokenPruner(nn.Module):
    """Keeps the patches that the class token attends to.

    Args:
        keep_rate (float): Share of all patches, rounded up.
        num_extra_tokens (int): Tokens before the patches.
    """

    def __init__(self, keep_rate: float, num_extra_tokens: int = 1) -> None:
        super().__init__()
        self.keep_rate = keep_rate
        self.num_extra_tokens = num_extra_tokens

    def forward(self, attn: Tensor, token_mask: Tensor | None) -> Tensor:
        """Choose.

        Args:
            attn (Tensor): The layer's attention, shape (B, H, N, N).
            token_mask (Tensor | None): True for what earlier layers kept,
                shape (B, N - extra). What they did not stays pruned.

        Returns:
            Tensor: Bool, shape (B, N - extra).
        """
        score = attn.detach()[:, :, 0, self.num_extra_tokens:].mean(1)
        if token_mask is not None:
            score = score.masked_fill(~token_mask, -torch.inf)
        kept = largest(score, math.ceil(self.keep_rate * score.shape[1]))
        return kept if token_mask is None else kept & token_mask


class TokenPruningLayer(TransformerEncoderLayer):
    """Encoder layer that tells the next one which tokens were pruned.

    Between layers these are :class:`Tokens` of mass 0: they remain, as zeros
    behind the layer that prunes them, but nothing except the tokens at the
    front attends to them.

    Attributes:
        token_pruner (TokenPruner | None): What prunes behind this layer.
        is_last (bool): Whether there is no next layer.
    """

    @classmethod
    def swap(cls, layer: TransformerEncoderLayer, pruner: TokenPruner | None,
             is_last: bool) -> None:
        """Turn a layer into one, in place."""
        layer.__class__ = cls
        layer.token_pruner = pruner
        layer.is_last = is_last

    def forward(self, x: Tensor | Tokens) -> Tensor | Tokens:
        """Keeps the shape (B, N, C)."""
        tokens = Tokens.of(x)
        extra = self.attn.mask_predictor.num_extra_tokens
        mask = None if tokens.mass is None else tokens.mass[:, extra:, 0] > 0
        x, mask = self.run(tokens.x, mask)
        if self.is_last or mask is None:
            return x
        return Tokens(x, _with_ones(mask, extra).to(torch.float32))

    def run(self, x: Tensor,
            token_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The layer, and which patches are left.

        Args:
            x (Tensor): Shape (B, N, C).
            token_mask (Tensor | None): Bool, shape (B, N - extra).
        """
        y, attn = self.attn.attend(self.ln1(x), token_mask)
        x = x + y
        x = self.ffn(self.ln2(x), identity=x)
        if self.token_pruner is not None:
            token_mask = self.token_pruner(attn, token_mask)
            x = x * _with_ones(token_mask, self.token_pruner.num_extra_tokens)
        return x, token_mask


def _with_ones(token_mask: Tensor, num_extra_tokens: int) -> Tensor:
    """A mask of patches as one of all tokens, shape (B, N, 1)."""
    return F.pad(token_mask, (num_extra_tokens, 0), value=True)[..., None]


# ---- The step --------------------------------------------------------------


def _refuse(backbone: nn.Module, path: str) -> None:
    """Refuse what isn't a plain vision transformer.

    Raises:
        TypeError: If it is something else; says why.
    """
    name = type(backbone).__name__
    if type(backbone).forward in _FORWARDS:
        return
    why = ('its layers are not those of a plain vision transformer, its '
           'number of tokens changes, or its extra tokens are not the first')
    if any(
            hasattr(m, 'relative_position_bias_table')
            for m in backbone.modules()):
        why = ('relative positions are added to its scores, which the '
               'predictor does not see; and in windows of 49 tokens the '
               'predictor and the pairs that it keeps take 80 % of the '
               'products of dense attention')
    raise TypeError(
        f'Sparsifiner can not be applied to {path!r} ({name}): {why}. It '
        'knows VisionTransformer, DistilledVisionTransformer and DeiT3 of '
        'mmpretrain; name where the model has one, as `backbone`')


def _refuse_products(attn: MultiheadAttention, path: str) -> None:
    """Refuse an attention whose products are not the plain ones.

    Raises:
        TypeError: If they are quantized, or scaled in another way.
    """
    product = attn.scaled_dot_product_attention
    if isinstance(product, nn.Module):
        raise TypeError(
            f'Sparsifiner: the products of {path} are a '
            f'{type(product).__name__} of an earlier step, and those of '
            'sparse attention are float: name Sparsifiner first')
    # of pruned ones, the scale is known
    pruned = getattr(attn, 'scale', None) is not None
    if isinstance(product, partial) and not pruned:
        raise TypeError(
            f'Sparsifiner: {path} has a qk_scale, which mmpretrain does not '
            'scale its scores by: leave it out of the config')


def _listed(rate: float | Sequence[float], num: int, name: str,
            whose: str) -> list[float]:
    """One number for each of them."""
    rates = [rate] * num if isinstance(rate, (int, float)) else list(rate)
    if len(rates) != num:
        raise ValueError(f'{name} has {len(rates)} numbers, and there are '
                         f'{num} {whose}')
    wrong = [r for r in rates if not 0 < r <= 1]
    if wrong:
        raise ValueError(f'{name} must be in (0, 1], got {wrong[0]}')
    return rates


@STEPS.register_module()
class Sparsifiner:
    """Step of Sparsifiner (Wei et al., CVPR 2023, arXiv:2303.13755).

    Each query of a vision transformer attends to a share of the keys, chosen
    for each image by :class:`MaskPredictor`; see there what else can be
    given. Training has two stages, with a checkpoint between them:

    - ``'reconstruct'``: attention is dense, and nothing but the predictors is
      trained, by :class:`AttentionReconLoss`. Evaluation is sparse.
    - ``'finetune'``: attention is sparse. The predictors, which no loss of
      the task reaches, are frozen.

    Parameters of the model keep their names, so that its dense checkpoint
    loads; those of the predictors are ``attn.mask_predictor.*`` more.

    A mask saves no time: a table says what it would save in theory.

    Differs from the official code: ties are broken by the lower index, and a
    token that was pruned stays so.

    Args:
        stage (str): ``'reconstruct'`` or ``'finetune'``.
        attn_keep_rate (float | Sequence[float]): Share of the keys that are
            kept, of all layers or of each.
        backbone (str): Where the model has its vision transformer.
        token_pruning_loc (Sequence[int]): Layers behind which patches are
            pruned, too: they become zeros, and no patch attends to them.
        token_keep_rate (float | Sequence[float] | None): Share of all patches
            that is left behind these layers.
        **predictor: Other arguments of :class:`MaskPredictor`, such as
            ``basis_threshold``.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self,
                 stage: str,
                 attn_keep_rate: float | Sequence[float] = 0.25,
                 backbone: str = 'backbone',
                 token_pruning_loc: Sequence[int] = (),
                 token_keep_rate: float | Sequence[float] | None = None,
                 **predictor) -> None:
        if stage not in STAGES:
            raise ValueError(f'stage must be {" or ".join(map(repr, STAGES))},'
                             f' got {stage!r}')
        if bool(token_pruning_loc) != (token_keep_rate is not None):
            raise ValueError('give both token_pruning_loc and token_keep_rate,'
                             f' got {token_pruning_loc} and {token_keep_rate}')
        if token_pruning_loc and stage == 'reconstruct':
            raise ValueError(
                "token_pruning_loc belongs to stage='finetune': the attention "
                'that predictors learn is that of all tokens')
        self.stage = stage
        self.attn_keep_rate = attn_keep_rate
        self.backbone = backbone
        self.token_pruning_loc = list(token_pruning_loc)
        self.token_keep_rate = token_keep_rate
        self.predictor = predictor

    def __call__(self, model: nn.Module) -> None:
        """Change the model in place, and log a table.

        Raises:
            TypeError: If the backbone is no plain vision transformer.
            ValueError: If numbers don't fit it.
        """
        backbone = model.get_submodule(self.backbone)
        _refuse(backbone, self.backbone)
        attentions = {
            f'{self.backbone}.layers.{i}.attn': layer.attn
            for i, layer in enumerate(backbone.layers)
        }
        for path, attn in attentions.items():
            if type(attn) is not MultiheadAttention:
                raise TypeError(
                    f'Sparsifiner: {path} is a {type(attn).__name__}, which '
                    'an earlier step made: Sparsifiner comes first, once')
            _refuse_products(attn, path)
        rates = _listed(self.attn_keep_rate, len(attentions), 'attn_keep_rate',
                        'layers')
        extra = backbone.num_extra_tokens
        num_tokens = math.prod(backbone.patch_resolution) + extra
        predictors = [
            MaskPredictor(
                num_tokens,
                attn.num_heads,
                attn.head_dims,
                rate,
                num_extra_tokens=extra,
                reconstruct=self.stage == 'reconstruct',
                **self.predictor)
            for attn, rate in zip(attentions.values(), rates)
        ]
        pruners = self._pruners(len(attentions), extra)
        if self.stage == 'reconstruct':
            model.requires_grad_(False)
        for attn, predictor in zip(attentions.values(), predictors):
            predictor.requires_grad_(self.stage == 'reconstruct')
            SparseAttention.swap(attn, predictor)
        self._prune_tokens(backbone.layers, pruners)
        _log(dict(zip(attentions, predictors)))

    def _pruners(self, num_layers: int,
                 num_extra_tokens: int) -> dict[int, TokenPruner]:
        """By the layer behind which they prune."""
        where = self.token_pruning_loc
        if not where:
            return {}
        if num_extra_tokens == 0:
            raise ValueError('token_pruning_loc: patches are pruned by the '
                             'attention of the class token, and there is none')
        outside = [i for i in where if not 0 <= i < num_layers]
        if outside:
            raise ValueError(f'token_pruning_loc: there is no layer '
                             f'{outside[0]}, they are 0 to {num_layers - 1}')
        rates = _listed(self.token_keep_rate, len(where), 'token_keep_rate',
                        'layers in token_pruning_loc')
        return {
            i: TokenPruner(rate, num_extra_tokens)
            for i, rate in zip(where, rates)
        }

    @staticmethod
    def _prune_tokens(layers: nn.ModuleList,
                      pruners: dict[int, TokenPruner]) -> None:
        for i in range(min(pruners, default=len(layers)), len(layers)):
            wrong = type(layers[i]).forward is not \
                TransformerEncoderLayer.forward
            if wrong:
                raise TypeError(
                    'token_pruning_loc: patches are pruned between layers of '
                    'VisionTransformer and DistilledVisionTransformer, and '
                    f'layer {i} is a {type(layers[i]).__name__}')
            TokenPruningLayer.swap(layers[i], pruners.get(i),
                                   i == len(layers) - 1)


def _log(predictors: dict[str, MaskPredictor]) -> None:
    rows = []
    for path, predictor in predictors.items():
        # before training, any threshold would leave little of the basis
        of = predictor.macs(basis_density=1.0)
        kept = 'by score'
        if predictor.score_threshold is None:
            kept = f'{predictor.budget} of {predictor.num_tokens}'
        rows.append([
            path, kept, f'{predictor.reduced_n} maps, {predictor.reduced_c}',
            *(f'{n / 1e6:.2f}' for n in (of.dense, of.sparse, of.predictor))
        ])
    header = [
        'attention', 'keys', 'rank, width', 'dense', 'sparse', 'predictor'
    ]
    title = ('Sparse attention; the last columns are millions of '
             'multiply-accumulates per image, in theory: it runs as dense '
             'attention with a mask')
    print_log(format_table(title, header, rows), logger='current')
