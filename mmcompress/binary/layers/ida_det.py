"""The 1-bit convolution of IDa-Det: signs times a learnt scale."""
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import add_gradient
from mmcompress.registry import MODELS
from .base import BinaryConv2d, check_choice
from .scaled_sign import reconstruction_gradients, scaled_sign


@MODELS.register_module()
class IDaDetConv2d(BinaryConv2d, nn.Conv2d):
    """1-bit convolution of IDa-Det (Xu et al., ECCV 2022, arXiv:2210.03477).

    ``y = conv2d(sign(x), w_hat) + bias``, ``w_hat = bin * sign(weight) *
    |scale|``. The gradient of ``sign(x)`` is :func:`bireal_sign`'s. With ``G``
    the gradient of ``w_hat`` and ``e = weight - w_hat``, those of the
    parameters are, summed over each output channel,

    - weight: ``G * |scale| + recon_weight * e``,
    - scale: ``sign(scale) * sum(G * weight - recon_weight * e * bin *
      sign(weight))``.

    The terms with ``recon_weight`` are the gradient of ``recon_weight / 2 *
    |e|**2``, the paper's reconstruction loss; they are added to the
    parameters' gradients once per optimizer step, right before it. So they
    don't depend on AMP's loss scale, the number of accumulated batches or the
    number of calls of the layer in a forward, and gradient clipping leaves
    them alone. Zero padding stays zero, it is not binarised.

    Arguments and attributes are those of :class:`torch.nn.Conv2d`, the
    state dict has ``scale`` in addition. A checkpoint of a float convolution
    loads: ``scale`` becomes ``mean(|weight|) / bin`` of each output channel,
    a missing ``bias`` 0. The same ``scale`` is the initial one.

    Differs from the official code: zeros become -1 (``zero_as``); the gradient
    of ``scale`` has the sign that its absolute value asks for (``variant``);
    ``scale`` does not start from a normal distribution, half of which is
    negative; the reconstruction is not in every backward pass.

    Args:
        *args: As for :class:`torch.nn.Conv2d`.
        bin (float): The fixed part of the scale.
        recon_weight (float): Weight of the reconstruction of the weight by
            its 1-bit version, the paper's mu.
        zero_as (str): ``'neg'``: bit = ``x > 0``. ``'zero'``: zeros stay 0,
            which no bit can hold, as in the official training.
        variant (str): ``'fixed'``, or ``'official'`` for the gradient of
            ``scale`` as released, which lacks ``sign(scale)``.
        binary_weight (bool): False: only the input is binarised, the weight
            stays real and there is no ``scale``; the first step of the
            two-step pretraining. Its checkpoint loads into a 1-bit layer like
            a float one.
        **kwargs: As for :class:`torch.nn.Conv2d`.

    Raises:
        ValueError: On an unknown ``zero_as`` or ``variant``, ``bin <= 0``,
            a padding mode other than ``'zeros'``, or padding given as text.
    """

    def __init__(self,
                 *args,
                 bin: float = 0.02,
                 recon_weight: float = 1e-4,
                 variant: str = 'fixed',
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_choice('variant', variant, ('fixed', 'official'))
        if bin <= 0:
            raise ValueError(f'bin must be positive, got {bin}')
        self.bin = bin
        self.recon_weight = recon_weight
        self.variant = variant
        scale = nn.Parameter(self._matching_scale(self.weight))
        self.register_parameter('scale', scale if self.binary_weight else None)

    def _matching_scale(self, weight: Tensor) -> Tensor:
        mean = weight.detach().abs().mean(dim=(1, 2, 3), keepdim=True)
        return mean / self.bin

    def init_weights(self) -> None:
        """Match the scale to the weight.

        mmengine calls this after the weight's own initialisation.
        """
        if self.binary_weight:
            self.scale.data.copy_(self._matching_scale(self.weight))

    def initial_state(self, weight: Tensor) -> dict[str, Tensor]:
        """A scale that matches the weight."""
        if not self.binary_weight:
            return {}
        return dict(scale=self._matching_scale(weight))

    def before_step(self) -> None:
        """Add the gradient of the reconstruction."""
        grads = reconstruction_gradients(
            self.at_least_float32(self.weight),
            self.at_least_float32(self.scale), self.recon_weight, self.bin,
            self.zero_as, self.variant == 'fixed')
        add_gradient(self.weight, grads[0])
        add_gradient(self.scale, grads[1])

    def binarize_weight(self) -> Tensor:
        """``bin * sign(weight) * |scale|``."""
        return scaled_sign(
            self.at_least_float32(self.weight),
            self.at_least_float32(self.scale), self.bin, self.zero_as,
            self.variant == 'fixed')

    def weight_scale(self) -> Tensor:
        """``bin * |scale|``."""
        return self.bin * self.at_least_float32(self.scale).abs().flatten()
