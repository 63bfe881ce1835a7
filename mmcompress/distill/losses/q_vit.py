"""Q-ViT: tokens are as alike to the queries and keys as to the teacher's."""
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.precision import at_least_float32
from mmcompress.registry import MODELS
from .attention import QueriesAndKeys, check_alike
from .base import DistillLoss


def token_similarity(x: Tensor,
                     norm: str = 'frobenius',
                     eps: float = 0.0) -> Tensor:
    """Products of all pairs of tokens, normalised.

    Args:
        x (Tensor): Queries or keys, shape (..., L, D).
        norm (str): ``'frobenius'``: the matrix has norm 1; ``'row'``: each of
            its rows has. Zeros stay zeros.
        eps (float): Added to the norms.

    Returns:
        Tensor: Symmetric with ``'frobenius'``, shape (..., L, L). Multiplying
        ``x`` by a number changes nothing.
    """
    products = x @ x.mT
    axes = (-2, -1) if norm == 'frobenius' else (-1, )
    size = torch.linalg.vector_norm(products, dim=axes, keepdim=True)
    return products / torch.where(size > 0, size + eps, 1)


def similarity_distance(student: Tensor,
                        teacher: Tensor,
                        norm: str = 'frobenius',
                        eps: float = 0.0) -> Tensor:
    """Frobenius norm of the difference of token similarities.

    Args:
        student (Tensor): Queries or keys, shape (N, H, L, D).
        teacher (Tensor): Shape (N, H, L, D').
        norm (str): See :func:`token_similarity`.
        eps (float): See :func:`token_similarity`.

    Returns:
        Tensor: Shape (N, H).
    """
    difference = token_similarity(teacher, norm, eps) - token_similarity(
        student, norm, eps)
    return torch.linalg.vector_norm(difference, dim=(-2, -1))


@MODELS.register_module()
class DGDLoss(DistillLoss):
    """Distribution guided distillation of Q-ViT (Li et al., NeurIPS 2022,
    arXiv:2210.06707).

    ``loss_weight`` times :func:`similarity_distance` of the queries plus that
    of the keys, as a mean over images (in Swin: windows) and a sum over heads
    and layers. Heads and tokens must correspond; widths may differ.

    A tap is the list of the layers' ``qkv``, such as
    ``['backbone.layers.0.attn.qkv', ...]`` in mmpretrain's vision
    transformers and ``'backbone.stages.0.blocks.0.attn.w_msa.qkv'`` in its
    Swin. Where queries and keys are normalised before they are quantized,
    the student's is the dict of what does that:
    ``dict(q=['backbone.layers.0.attn.norm_q', ...], k=[...])``.

    Args:
        norm (str): See :func:`token_similarity`; the paper doesn't say.
        eps (float): See :func:`token_similarity`.
        num_heads (int | None): Of each layer. None: the number of the
            attention that is tapped, as its ``num_heads`` says.
        loss_weight (float): Defaults to 1.0.

    Raises:
        ValueError: If ``norm`` is neither or ``eps`` negative, or in
            ``forward`` if layers, images, heads or tokens don't correspond.
    """

    takes_levels = True

    def __init__(self,
                 norm: str = 'frobenius',
                 eps: float = 0.0,
                 num_heads: int | None = None,
                 loss_weight: float = 1.0) -> None:
        super().__init__()
        if norm not in ('frobenius', 'row'):
            raise ValueError(
                f"norm must be 'frobenius' or 'row', got {norm!r}")
        if eps < 0:
            raise ValueError(f'eps must not be negative, got {eps}')
        self.norm = norm
        self.eps = eps
        self.loss_weight = loss_weight
        self.queries_and_keys = QueriesAndKeys(self, num_heads)

    def look_at_tap(self, model: nn.Module, path: str) -> None:
        """Note the student's number of heads."""
        self.queries_and_keys.look('student', model, path)

    def look_at_teacher_tap(self, model: nn.Module, path: str) -> None:
        """Note the teacher's number of heads."""
        self.queries_and_keys.look('teacher', model, path)

    def forward(self, student: Any, teacher: Any) -> Tensor:
        """Compute the loss.

        Args:
            student (Any): Of each layer, ``qkv`` (N, L, 3 * H * D); or a dict
                of lists ``q`` and ``k``, (N, H, L, D).
            teacher (Any): The same, of another D perhaps.

        Returns:
            Tensor: Scalar; 0 without images.
        """
        # (N, H, L, D) of q, k, q, k, ...
        layers_s, layers_t = (
            [x for pair in self.queries_and_keys.read(self, side, tapped)
             for x in pair]
            for side, tapped in (('student', student), ('teacher', teacher))
        )  # yapf: disable
        check_alike(self, layers_s[::2], layers_t[::2],
                    '(images, heads, tokens)')
        total = self.zero(*layers_s)
        with torch.autocast(total.device.type, enabled=False):
            for s, t in zip(layers_s, layers_t):
                if s.numel():
                    total = total + similarity_distance(
                        at_least_float32(s), at_least_float32(t.detach()),
                        self.norm, self.eps).mean(0).sum()
        return self.loss_weight * total
