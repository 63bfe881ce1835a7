"""Norms of queries and keys, so that quantizing keeps what tells them apart.

A spec's ``query_norm`` and ``key_norm`` name them; heads share their
parameters. They have one dimension, so that the ``init_weights`` of a DETR
leaves them alone, and keep their values when a float checkpoint is loaded.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.precision import at_least_float32
from mmcompress.registry import MODELS


class _HeadNorm(nn.Module):

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args) -> None:
        for name, value in self.state_dict().items():
            state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, *args)


@MODELS.register_module()
class IRM(_HeadNorm, nn.LayerNorm):
    """Information rectification module (Li et al., NeurIPS 2022, 2210.06707).

    For queries and keys of Q-ViT: layer norm over the channels of a head.

    Differs from the paper, whose formula adds the bias before it divides; the
    official code has this one.

    Args:
        dims (int): Channels of a head.
        eps (float): Added to the variance.
    """

    def __init__(self, dims: int, eps: float = 1e-5) -> None:
        super().__init__(dims, eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize.

        Args:
            x (Tensor): Shape (B, H, N, D).

        Returns:
            Tensor: Same shape, at least float32.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = at_least_float32(x, like=self.weight)
            return F.layer_norm(x, self.normalized_shape,
                                self.weight.to(x.dtype), self.bias.to(x.dtype),
                                self.eps)


@MODELS.register_module()
class DistributionAlignment(_HeadNorm):
    """Distribution alignment of queries (Xu et al., CVPR 2023, 2304.00253).

    ``(q - mean) / sqrt(var + eps) * scale + bias`` over the channels of a
    head, with the unbiased variance.

    Args:
        dims (int): Channels of a head. Of one, only the bias is left.
        eps (float): Added to the variance.
    """

    def __init__(self, dims: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.dims = dims
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(dims))
        self.bias = nn.Parameter(torch.zeros(dims))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize.

        Args:
            x (Tensor): Shape (B, H, N, D).

        Returns:
            Tensor: Same shape, at least float32.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = at_least_float32(x, like=self.scale)
            # of one value, the unbiased variance is no number
            variance, mean = torch.var_mean(
                x, -1, correction=int(self.dims > 1), keepdim=True)
            x = (x - mean) / (variance + self.eps).sqrt()
            return x * self.scale + self.bias
