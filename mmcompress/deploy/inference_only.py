"""What all packed layers share: they infer, in float32."""
import torch
from torch import Tensor

from mmcompress.lowbit import LowBitModule


class InferenceOnly(LowBitModule):
    """Base of the packed layers.

    Constants are float32 and stay so: a model in half precision computes
    these layers in float32. The layers are for inference: in train mode, or
    where the input needs a gradient, they raise an error.
    """

    def check_input(self, x: Tensor) -> None:
        """Raise a RuntimeError in train mode, or if a gradient is wanted."""
        if self.training:
            raise RuntimeError(
                f'{type(self).__name__} is for inference only; call eval(). '
                'Train the model before it is packed')
        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                f'{type(self).__name__} has no gradient; run it under '
                'torch.no_grad(), or train the model before it is packed')

    def impossible(self, stored: dict[str, Tensor]) -> str | None:
        """What of its values in a file no packing wrote; None: nothing.

        Args:
            stored (dict[str, Tensor]): Its own, none of them NaN.
        """
        return None

    def _apply(self, fn, recurse: bool = True) -> 'InferenceOnly':

        def keep_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(
                moved.device)

        return super()._apply(keep_dtype, recurse)
