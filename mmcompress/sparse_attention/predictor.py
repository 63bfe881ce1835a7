"""Which keys a query attends to, predicted at low rank."""
import math
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.precision import at_least_float32


def largest(x: Tensor, num: int) -> Tensor:
    """The largest of each row, on all devices the same.

    Args:
        x (Tensor): Shape (..., N).
        num (int): How many; of equal ones those with lower index.

    Returns:
        Tensor: Bool, same shape; ``min(num, N)`` of each row are True.
    """
    num = min(num, x.shape[-1])
    # its values are certain; which of equal ones it takes is not
    least = x.topk(num, sorted=False).values.amin(-1, keepdim=True)
    above, ties = x > least, x == least
    # of few columns, int32 takes half the time
    room = num - above.sum(-1, keepdim=True, dtype=torch.int32)
    return above | ties & (ties.cumsum(-1, dtype=torch.int32) <= room)


def coefficients(q: Tensor, k: Tensor, proj_n: Tensor, scale: float,
                 num_extra_tokens: int) -> Tensor:
    """How much of each basis map a query's attention has.

    Args:
        q (Tensor): Narrow queries, shape (B, H, N, c).
        k (Tensor): Narrow keys, shape (B, H, N, c).
        proj_n (Tensor): From N keys to n, shape (N, n).
        scale (float): Of the scores.
        num_extra_tokens (int): Queries at the front that are left out.

    Returns:
        Tensor: Shape (B, H, N - extra, n); rows sum to 1.
    """
    scores = q[:, :, num_extra_tokens:] @ (k.mT @ proj_n) * scale
    return scores.softmax(-1)


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one attention and image, in theory.

    Without the layers ``qkv`` and ``proj``, and without what it takes to
    select the keys.

    Attributes:
        dense (int): Of both products of dense attention.
        sparse (int): Of the pairs that are kept.
        predictor (int): Of the predictor.
    """
    dense: int
    sparse: int
    predictor: int


def macs(num_tokens: int,
         num_heads: int,
         head_dims: int,
         num_kept: int,
         reduced_n: int,
         reduced_c: int,
         num_coefficients: int,
         basis_density: float = 1.0,
         num_extra_tokens: int = 1) -> Macs:
    """What sparse attention would compute, were there kernels for it.

    Args:
        num_tokens (int): N.
        num_heads (int): H.
        head_dims (int): Width of a head.
        num_kept (int): Keys of a query.
        reduced_n (int): Number of basis maps.
        reduced_c (int): Width of narrow queries and keys.
        num_coefficients (int): That are kept of each query.
        basis_density (float): Share of the basis that is not 0.
        num_extra_tokens (int): Queries that attend to everything.
    """
    width = num_heads * head_dims
    rows = num_tokens - num_extra_tokens
    narrow = 2 * num_tokens * head_dims * reduced_c
    down = reduced_c * num_tokens * reduced_n
    scores = rows * reduced_c * reduced_n
    up = rows * num_coefficients * basis_density * num_tokens
    return Macs(
        dense=2 * num_tokens**2 * width,
        sparse=2 * width * (num_kept * rows + num_tokens * num_extra_tokens),
        predictor=num_heads * round(narrow + down + scores + up))


class MaskPredictor(nn.Module):
    """Predicts attention from queries and keys, and which of it to keep.

    A query's row is a mixture of n basis maps. Its weights are
    ``softmax(q' (k'^T proj_n) * scale)`` of narrow queries and keys q' and
    k'; the maps are the columns of ``proj_back_n``. All heads share both.

    In training with ``reconstruct`` the mixture is as it is. Otherwise, also
    in evaluation, the maps are absolute values, 0 up to ``basis_threshold``,
    and few weights of a query are kept, which then sum to less than 1.

    Args:
        num_tokens (int): N, to which the predictor is tied.
        num_heads (int): Of the attention.
        head_dims (int): Width of a head.
        attn_keep_rate (float): Share of the N keys that a query attends to,
            rounded up.
        reduce_n_factor (int): n is N divided by it.
        reduce_c_factor (int): The width of q' and k' is that of a head,
            divided by it.
        share_inout_proj (bool): Whether ``proj_back_n`` is ``proj_n``.
        basis_threshold (float): See above.
        coef_topk (int | None): How many weights of a query are kept.
        coef_threshold (float | None): Instead: those above it are. Give one
            of both.
        score_threshold (float | None): Keep the keys above this score
            instead of a fixed share.
        scale (float | None): Of the scores. Defaults to H**-0.5, as in the
            official code.
        num_extra_tokens (int): Queries at the front, of class and
            distillation token, that attend to all keys.
        keep_self (bool): Whether a query keeps its own key in any case.
        keep_extra (bool): Whether the keys of the tokens at the front are
            kept in any case.
        prune_rows (bool): Whether pruned tokens attend to nothing.
        reconstruct (bool): See above.

    Raises:
        ValueError: If numbers are out of range.
    """

    def __init__(self,
                 num_tokens: int,
                 num_heads: int,
                 head_dims: int,
                 attn_keep_rate: float = 0.25,
                 reduce_n_factor: int = 6,
                 reduce_c_factor: int = 2,
                 share_inout_proj: bool = False,
                 basis_threshold: float = 0.02,
                 coef_topk: int | None = 8,
                 coef_threshold: float | None = None,
                 score_threshold: float | None = None,
                 scale: float | None = None,
                 num_extra_tokens: int = 1,
                 keep_self: bool = False,
                 keep_extra: bool = False,
                 prune_rows: bool = False,
                 reconstruct: bool = False) -> None:
        super().__init__()
        if not 0 < attn_keep_rate <= 1:
            raise ValueError('attn_keep_rate must be in (0, 1], got '
                             f'{attn_keep_rate}')
        if (coef_topk is None) == (coef_threshold is None):
            raise ValueError(
                'give one of coef_topk and coef_threshold, and None for the '
                f'other; got {coef_topk} and {coef_threshold}')
        if coef_topk is not None and coef_topk < 1:
            raise ValueError(f'coef_topk must be positive, got {coef_topk}')
        self.reduced_n = num_tokens // reduce_n_factor
        self.reduced_c = head_dims // reduce_c_factor
        if min(self.reduced_n, self.reduced_c) < 1:
            raise ValueError(
                f'{num_tokens} tokens and heads {head_dims} wide are too few '
                f'for reduce_n_factor={reduce_n_factor} and '
                f'reduce_c_factor={reduce_c_factor}: nothing would remain')
        self.num_tokens = num_tokens
        self.num_heads = num_heads
        self.budget = math.ceil(attn_keep_rate * num_tokens)
        self.basis_threshold = basis_threshold
        self.coef_topk = coef_topk
        self.coef_threshold = coef_threshold
        self.score_threshold = score_threshold
        self.scale = num_heads**-0.5 if scale is None else scale
        self.num_extra_tokens = num_extra_tokens
        self.keep_self = keep_self
        self.keep_extra = keep_extra
        self.prune_rows = prune_rows
        self.reconstruct = reconstruct
        self.proj_c_q = nn.Linear(head_dims, self.reduced_c)
        self.proj_c_k = nn.Linear(head_dims, self.reduced_c)
        self.proj_n = nn.Parameter(torch.empty(num_tokens, self.reduced_n))
        self.proj_back_n = self.proj_n if share_inout_proj else \
            nn.Parameter(torch.empty_like(self.proj_n))
        for layer in (self.proj_c_q, self.proj_c_k):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        for projection in (self.proj_n, self.proj_back_n):
            nn.init.trunc_normal_(projection, std=0.02)

    @property
    def reconstructs(self) -> bool:
        """Whether attention is predicted for its own sake, unpruned."""
        return self.reconstruct and self.training

    def forward(self,
                q: Tensor,
                k: Tensor,
                token_mask: Tensor | None = None) -> Tensor:
        """Predict attention.

        Args:
            q (Tensor): Queries, shape (B, H, N, D), not scaled.
            k (Tensor): Keys, shape (B, H, N, D).
            token_mask (Tensor | None): True for patches that were not
                pruned, shape (B, N - extra).

        Returns:
            Tensor: At least float32, shape (B, H, N - extra, N); of keys that
            were pruned, -inf.

        Raises:
            ValueError: If N is another.
        """
        if q.shape[2] != self.num_tokens:
            raise ValueError(
                f'Sparsifiner predicts attention of {self.num_tokens} tokens '
                f'and got {q.shape[2]}: images need the size that the model '
                'is built for, and tokens can not be merged or dropped')
        with torch.autocast(q.device.type, enabled=False):
            coef = self.mixture(q, k, token_mask)
            approx = coef @ self.basis()
            if token_mask is not None:
                gone = ~self._with_extra(token_mask)[:, None, None]
                approx = approx.masked_fill(gone, -torch.inf)
            return approx

    def mixture(self,
                q: Tensor,
                k: Tensor,
                token_mask: Tensor | None = None) -> Tensor:
        """Weights of the basis maps, shape (B, H, N - extra, n)."""
        dtype = self.proj_c_q.weight.dtype
        q = at_least_float32(self.proj_c_q(at_least_float32(q).to(dtype)))
        k = at_least_float32(self.proj_c_k(at_least_float32(k).to(dtype)))
        if token_mask is not None:
            gone = ~self._with_extra(token_mask)[:, None, :, None]
            q, k = q.masked_fill(gone, 0), k.masked_fill(gone, 0)
        coef = coefficients(q, k, at_least_float32(self.proj_n), self.scale,
                            self.num_extra_tokens)
        if self.reconstructs:
            return coef
        kept = (
            coef > self.coef_threshold if self.coef_topk is None else largest(
                coef, self.coef_topk))
        return torch.where(kept, coef, 0)

    def basis(self) -> Tensor:
        """The maps, shape (n, N)."""
        basis = at_least_float32(self.proj_back_n).mT
        if self.reconstructs:
            return basis
        basis = basis.abs()
        return torch.where(basis > self.basis_threshold, basis, 0)

    @torch.no_grad()
    def mask(self, approx: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Which keys each query attends to.

        Args:
            approx (Tensor): What :meth:`forward` gave.
            token_mask (Tensor | None): See there.

        Returns:
            Tensor: Bool, shape (B, H, N, N).
        """
        there = approx > -torch.inf
        scores = approx.masked_fill(
            self._in_any_case(approx) & there, torch.inf)
        if self.score_threshold is None:
            kept = largest(scores, self.budget) & there
        else:
            kept = scores > self.score_threshold
        if self.prune_rows and token_mask is not None:
            kept = kept & token_mask[:, None, :, None]
        shape = (*kept.shape[:2], self.num_extra_tokens, self.num_tokens)
        return torch.cat([kept.new_ones(shape), kept], dim=2)

    def macs(self, basis_density: float | None = None) -> Macs:
        """Of the attention that it serves; see :func:`macs`.

        With ``score_threshold``, all keys count, as how many remain depends
        on the image.

        Args:
            basis_density (float | None): None: as dense as the basis is now.
        """
        if basis_density is None:
            left = self.proj_back_n.abs() > self.basis_threshold
            basis_density = left.float().mean().item()
        return macs(
            self.num_tokens,
            self.num_heads,
            self.proj_c_q.in_features,
            self.budget if self.score_threshold is None else self.num_tokens,
            self.reduced_n,
            self.reduced_c,
            min(self.coef_topk or self.reduced_n, self.reduced_n),
            basis_density=basis_density,
            num_extra_tokens=self.num_extra_tokens)

    def _with_extra(self, token_mask: Tensor) -> Tensor:
        """Of all tokens, shape (B, N)."""
        extra = token_mask.new_ones(len(token_mask), self.num_extra_tokens)
        return torch.cat([extra, token_mask], dim=1)

    def _in_any_case(self, approx: Tensor) -> Tensor:
        """Keys that are kept whatever their score, shape (N - extra, N)."""
        rows, columns = approx.shape[-2:]
        column = torch.arange(columns, device=approx.device)
        kept = torch.zeros(
            rows, columns, dtype=torch.bool, device=approx.device)
        if self.keep_extra:
            kept = kept | (column < self.num_extra_tokens)
        if self.keep_self:
            row = torch.arange(rows, device=approx.device)[:, None]
            kept = kept | (column == row + self.num_extra_tokens)
        return kept
