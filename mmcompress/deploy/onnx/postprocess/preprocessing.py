"""What a data preprocessor does with images, as part of a graph."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class Preprocessing(nn.Module):
    """Order of channels, normalisation and padding.

    Args:
        preprocessor (nn.Module): Of a model of an mm library.
        size (tuple[int, int]): Height and width of what it gives.
    """

    def __init__(self, preprocessor: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = tuple(size)
        self.swaps = any(
            getattr(preprocessor, name, False)
            for name in ('_channel_conversion', 'channel_conversion',
                         'to_rgb'))
        self.pad_value = float(
            getattr(preprocessor, 'pad_value',
                    getattr(preprocessor, 'pad_val', 0)))
        for name, neutral in (('mean', 0.), ('std', 1.)):
            value = getattr(preprocessor, name, None)
            if value is None:
                value = torch.full((3, 1, 1), neutral)
            self.register_buffer(name, value.detach().float().clone())

    def example(self) -> Tensor:
        """An image, uint8, shape (1, H, W, 3)."""
        generator = torch.Generator().manual_seed(0)
        return torch.randint(
            256, (1, *self.size, 3), generator=generator, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Prepare an image.

        Args:
            images (Tensor): uint8, shape (1, h, w, 3), not larger than what
                is given.

        Returns:
            tuple[Tensor, Tensor]: Shape (1, 3, H, W), padded below and at the
            right; and ``(h, w)``, float32.
        """
        height, width = images.shape[1:3]
        maps = images.permute(0, 3, 1, 2)
        if self.swaps:
            maps = maps.flip(1)
        maps = (maps.float() - self.mean) / self.std
        below, right = self.size[0] - height, self.size[1] - width
        maps = F.pad(maps, (0, right, 0, below), value=self.pad_value)
        sizes = [torch.full((), side) for side in (height, width)]
        return maps, torch.stack(sizes).float()
