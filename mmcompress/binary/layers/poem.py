"""The 1-bit fully-connected layer of POEM: bimodal weights, a learnt scale."""
import math

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import LowBitLayer, add_gradient
from mmcompress.registry import MODELS
from .base import BinaryConv1d, BinaryLinear
from .sign import binary_sign, clipped_sign

# below it a component's variance, and its share of the weights, is no number
# to divide by or to take the logarithm of
VAR_FLOOR = 1e-8
BETA_FLOOR = 1e-12


def _m_step(weight: Tensor, xi: Tensor) -> Tensor:
    """theta (2, 3) of the weights (m, ) that belong to it by xi (2, m)."""
    number = xi.sum(1)
    # a component of nobody has the mean 0 / 1
    divisor = number.clamp(min=BETA_FLOOR)
    mean = xi @ weight / divisor
    square = (weight - mean[:, None]).square_()
    variance = square.mul_(xi).sum(1) / divisor
    return torch.stack([number / len(weight), mean, variance], -1)


def sign_split(weight: Tensor) -> Tensor:
    """The two Gaussians of the negative weights and of the others.

    Args:
        weight (Tensor): Any shape.

    Returns:
        Tensor: theta, shape (2, 3): a row (beta, mu, v) per component, its
        share of the weights, mean and population variance. An empty component
        has mean and variance 0.
    """
    weight = weight.flatten()
    xi = torch.stack([weight < 0, weight >= 0]).to(weight.dtype)
    return _m_step(weight, xi)


def em_step(weight: Tensor,
            theta: Tensor,
            var_floor: float = VAR_FLOOR) -> tuple[Tensor, Tensor]:
    """One E and one M step of the mixture of two Gaussians.

    Args:
        weight (Tensor): Any shape.
        theta (Tensor): Rows (beta, mu, v), shape (2, 3).
        var_floor (float): Least variance in the E step.

    Returns:
        tuple[Tensor, Tensor]: xi, the probability of each component given the
        weight, shape (2, *weight.shape), and the new theta.
    """
    beta, mean, variance = theta.unbind(-1)
    variance = variance.clamp(min=var_floor)
    offset = beta.clamp(
        min=BETA_FLOOR).log() - 0.5 * torch.log(2 * math.pi * variance)
    flat = weight.flatten()
    square = (flat - mean[:, None]).square_()
    logits = offset[:, None] - 0.5 * square.div_(variance[:, None])
    xi = logits.softmax(0)
    return xi.view(2, *weight.shape), _m_step(flat, xi)


def em_pull(weight: Tensor, xi: Tensor, theta: Tensor) -> Tensor:
    """Where the mixture wants each weight to move, the paper's EM(w).

    Args:
        weight (Tensor): Any shape.
        xi (Tensor): Of the E step, shape (2, *weight.shape).
        theta (Tensor): After the M step, shape (2, 3).

    Returns:
        Tensor: The expected way to the component's mean, for weights strictly
        between the two means; 0 for the others. Shape of ``weight``.
    """
    mean = theta[:, 1]
    pull = xi[0] * (mean[0] - weight) + xi[1] * (mean[1] - weight)
    inside = (weight > mean.min()) & (weight < mean.max())
    return torch.where(inside, pull, 0)


@torch.no_grad()
def expectation_maximization(weight: Tensor) -> Tensor:
    """EM(w) after one step from the sign split.

    The split is made anew each time, so nothing is kept between steps: a
    mixture that goes on from the last step's merges its means near zero.

    Args:
        weight (Tensor): All weights of a layer, any shape.

    Returns:
        Tensor: Same shape; all 0 if fewer than two weights are on one side of
        zero, which have no variance.
    """
    negative = (weight < 0).sum()
    enough = torch.minimum(negative, weight.numel() - negative) >= 2
    xi, theta = em_step(weight, sign_split(weight))
    return torch.where(enough, em_pull(weight, xi, theta), 0)


def extra_gradients(weight: Tensor, alpha: Tensor, rec_weight: float,
                    em_weight: float) -> tuple[Tensor, Tensor]:
    """What POEM adds to the gradients of the task's loss.

    With ``e = w - |alpha| * sign(w)``:

    - w: ``rec_weight * e - em_weight * EM(w)``, see
      :func:`expectation_maximization`,
    - alpha: ``-sign(alpha) * rec_weight * sum(e * sign(w))`` over each output
      channel.

    The terms with e are the gradient of ``rec_weight`` times
    :func:`reconstruction_loss`.

    Args:
        weight (Tensor): Shape (C_out, C_in).
        alpha (Tensor): Shape (C_out, ).
        rec_weight (float): The paper's lambda.
        em_weight (float): The paper's tau. At 0, EM isn't computed.

    Returns:
        tuple[Tensor, Tensor]: Of the weight and of alpha, their shapes.
    """
    signs = binary_sign(weight)
    error = rec_weight * (weight - alpha.abs()[:, None] * signs)
    grad_alpha = -alpha.sign() * (error * signs).sum(1)
    if em_weight > 0:
        error = error - em_weight * expectation_maximization(weight)
    return error, grad_alpha


def reconstruction_loss(weight: Tensor, alpha: Tensor) -> Tensor:
    """``0.5 * |w - |alpha| * sign(w)|**2``, the paper's L_R, to look at.

    Its gradient is in :func:`extra_gradients`, so it is no part of a loss.

    Args:
        weight (Tensor): Shape (C_out, C_in).
        alpha (Tensor): Shape (C_out, ).

    Returns:
        Tensor: Scalar, without gradient.
    """
    weight = weight.detach()
    error = weight - alpha.detach().abs()[:, None] * binary_sign(weight)
    return 0.5 * error.square().sum()


def matching_alpha(weight: Tensor) -> Tensor:
    """``mean(|w|)`` of each output channel, where a float layer starts."""
    return weight.detach().flatten(1).abs().mean(1)


class _PoemLayer(LowBitLayer):
    """What the layers share; stands before the 1-bit layer's class."""

    def __init__(self,
                 *args,
                 bias: bool = False,
                 rec_weight: float = 1e-4,
                 em_weight: float = 1e-3,
                 **kwargs) -> None:
        super().__init__(*args, bias=bias, **kwargs)
        if rec_weight < 0 or em_weight < 0:
            raise ValueError('rec_weight and em_weight must not be negative, '
                             f'got {rec_weight} and {em_weight}')
        self.rec_weight = rec_weight
        self.em_weight = em_weight
        alpha = nn.Parameter(matching_alpha(self.weight))
        self.register_parameter('alpha', alpha if self.binary_weight else None)

    def init_weights(self) -> None:
        """Match alpha to the weight.

        mmengine calls this after the weight's own initialisation.
        """
        if self.binary_weight:
            self.alpha.data.copy_(matching_alpha(self.weight))

    def initial_state(self, weight: Tensor) -> dict[str, Tensor]:
        """An alpha that matches the weight."""
        return dict(alpha=matching_alpha(weight)) if self.binary_weight else {}

    def before_step(self) -> None:
        """Add :func:`extra_gradients`."""
        grads = extra_gradients(
            self.at_least_float32(self.weight).flatten(1),
            self.at_least_float32(self.alpha), self.rec_weight, self.em_weight)
        add_gradient(self.weight, grads[0].view_as(self.weight))
        add_gradient(self.alpha, grads[1])

    def binarize_input(self, x: Tensor) -> Tensor:
        """``sign(x)``."""
        return clipped_sign(x, self.zero_as, closed=True)

    def binarize_weight(self) -> Tensor:
        """``|alpha| * sign(weight)``."""
        weight = self.at_least_float32(self.weight)
        alpha = self.weight_scale().view(-1, *(1, ) * (weight.dim() - 1))
        return alpha * clipped_sign(weight, self.zero_as, closed=True)

    def weight_scale(self) -> Tensor:
        """``|alpha|``."""
        return self.at_least_float32(self.alpha).abs()


@MODELS.register_module()
class PoemLinear(_PoemLayer, BinaryLinear, nn.Linear):
    """1-bit fully-connected layer of POEM (Xu et al., BMVC 2021,
    arXiv:2111.13386).

    ``y = |alpha| * (sign(x) @ sign(weight).T)``, zeros counting as negative.
    The derivative of both signs is that of :func:`clipped_sign`, closed.

    :func:`extra_gradients`, which pull the weights to the means of a mixture
    of two Gaussians and to ``|alpha| * sign(weight)``, are added once per
    optimizer step, right before it. So they don't depend on AMP's loss scale,
    the number of accumulated batches or recomputed activations, and gradient
    clipping leaves them alone.

    Arguments and attributes are those of :class:`torch.nn.Linear`, without a
    bias by default, since a batch norm follows; the state dict has ``alpha``
    in addition. A checkpoint of a float layer loads: ``alpha`` becomes the
    mean of ``|weight|`` of each output channel, a missing ``bias`` 0.

    Differs from the text of the paper, of which there is no code: EM pulls
    weights towards the means of the mixture, printed is the opposite sign, for
    which nothing becomes bimodal; the gradients of the reconstruction are the
    true ones; the mixture starts from the signs at every step, nothing is said
    about that; and ``|alpha|`` in the forward pass replaces taking the
    absolute value after each update.

    Args:
        *args: As for :class:`torch.nn.Linear`.
        bias (bool): Defaults to False.
        rec_weight (float): The paper's lambda, for the reconstruction of the
            weight by its 1-bit version.
        em_weight (float): The paper's tau, for EM.
        **kwargs: As for :class:`torch.nn.Linear`.

    Raises:
        ValueError: On a negative ``rec_weight`` or ``em_weight``.
    """


@MODELS.register_module()
class PoemConv1d(_PoemLayer, BinaryConv1d, nn.Conv1d):
    """:class:`PoemLinear` that all points of a cloud share.

    From (B, in_channels, N) to (B, out_channels, N). Arguments and attributes
    are those of :class:`torch.nn.Conv1d` with ``kernel_size=1``, without a
    bias by default.

    Args:
        in_channels (int): Of a point.
        out_channels (int): Of a point.
        kernel_size (int): 1.
        **kwargs: As for :class:`PoemLinear`.

    Raises:
        ValueError: As :class:`PoemLinear`; on a kernel of another size.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: int = 1,
                 **kwargs) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **kwargs)
