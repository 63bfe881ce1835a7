"""What cross tokens of images and of texts are trained by: that they agree."""
import torch
import torch.nn.functional as F
from torch import Tensor


def js_loss(image: Tensor, text: Tensor) -> Tensor:
    """Divergence of two distributions from their mean, each row by itself.

    As in the official code: ``KL(mean || p)`` instead of the Jensen-Shannon
    divergence's ``KL(p || mean)``.

    Args:
        image (Tensor): Cross features, shape (L * B, D).
        text (Tensor): Cross features, shape (L * B, D).

    Returns:
        Tensor: Mean over the rows and both, at least 0.
    """
    pair = [F.log_softmax(x, dim=-1) for x in (image, text)]
    mean = sum(x.exp() for x in pair) / 2
    return sum(F.kl_div(x, mean, reduction='batchmean') for x in pair) / 2


def repeated(crosses: tuple[Tensor, ...], num: int) -> list[Tensor]:
    """Cross tokens of a tower for the layers of a deeper one.

    Args:
        crosses (tuple[Tensor, ...]): One per layer, at most ``num``.
        num (int): Layers of the deeper tower.
    """
    own = len(crosses)
    return [
        cross for i, cross in enumerate(crosses)
        for _ in range((i + 1) * num // own - i * num // own)
    ]


def cross_features(crosses: list[Tensor], norm: torch.nn.LayerNorm,
                   projection: Tensor) -> Tensor:
    """Project cross tokens; neither the norm nor the projection learns by it.

    Args:
        crosses (list[Tensor]): One per layer, shape (B, C).
        norm (nn.LayerNorm): Of the tower.
        projection (Tensor): Of the tower's features, shape (C, D).

    Returns:
        Tensor: Shape (L * B, D), layer by layer.
    """
    x = torch.cat(crosses)
    x = F.layer_norm(x, norm.normalized_shape, norm.weight.detach(),
                     norm.bias.detach(), norm.eps)
    return x @ projection.detach()
