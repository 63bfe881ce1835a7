"""A network, and what its model predicts of what it returns."""
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from ..network import Network
from .finding import find_postprocess
from .preprocessing import Preprocessing


class WholeNetwork(Network):
    """From images to predictions.

    Args:
        model (nn.Module): A model of an mm library, in eval mode.
        size (tuple[int, int]): Height and width of preprocessed images.
        flip_indices (Sequence[int] | None): Of keypoints, for pose estimators
            that also look at the flipped image.
        preprocessing (bool): Whether images are those of the pipeline, uint8,
            before the data preprocessor.

    Raises:
        NoPostprocess: If predictions of the model are not known.
    """

    def __init__(self,
                 model: nn.Module,
                 size: tuple[int, int],
                 flip_indices: Sequence[int] | None = None,
                 preprocessing: bool = False) -> None:
        super().__init__(model, size)
        self.left_out = None
        self.preprocessing = None
        with torch.no_grad():
            outs = self._outs(self.preprocessed_example())
            self.postprocess = find_postprocess(self, outs, flip_indices)
        if preprocessing:
            self.preprocessing = Preprocessing(model.data_preprocessor, size)

    def preprocessed_example(self) -> Tensor:
        """An image, shape (1, 3, H, W)."""
        return Network.example(self)

    @property
    def takes_sizes(self) -> bool:
        """Whether an input says how much of an image is not padding."""
        return self.library == 'mmdet' and self.preprocessing is None

    @property
    def pads(self) -> bool:
        """Whether smaller images are padded."""
        return self.library == 'mmdet' and not self.is_transformer

    def examples(self) -> tuple[Tensor, ...]:
        """An image, and what else is asked for."""
        if self.preprocessing is not None:
            return (self.preprocessing.example(), )
        image = self.preprocessed_example()
        return (image, self.full_size()) if self.takes_sizes else (image, )

    def full_size(self) -> Tensor:
        """Height and width, float32, shape (2, )."""
        return torch.tensor(self.size, dtype=torch.float32)

    def input_names(self) -> list[str]:
        """One for each example."""
        return ['images', 'image_size'][:len(self.examples())]

    def dynamic_shapes(self) -> tuple | None:
        """Which sizes of inputs are free."""
        if self.preprocessing is None or not self.pads:
            return None
        height, width = (torch.export.Dim(name, min=16, max=side)
                         for name, side in zip(('height', 'width'), self.size))
        return ({1: height, 2: width}, )

    def reads(self, images: Tensor) -> Tensor:
        """Images as the network takes them; see :meth:`Network.reads`."""
        if images.dtype == torch.uint8:
            return self.reads_raw(images)
        return super().reads(images)

    def reads_raw(self, images: Tensor) -> Tensor:
        """Images before preprocessing, shape (1, h, w, 3).

        Raises:
            ValueError: If they have another size than was exported.
        """
        size = images.shape[1:3]
        fits = size[0] <= self.size[0] and size[1] <= self.size[1]
        if not (fits if self.pads else tuple(size) == self.size):
            raise ValueError(
                f'the file was exported for images of {self.size[0]} x '
                f'{self.size[1]}, and one is {size[0]} x {size[1]}')
        return images

    def comparable(self, outs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Predictions are compared one by one, elsewhere."""
        return ()

    def output_names(self) -> list[str]:
        """Names of predictions."""
        return list(self.postprocess.names)

    def forward(self,
                images: Tensor,
                image_size: Tensor | None = None) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            images (Tensor): Preprocessed, shape (1, 3, H, W), or, with
                preprocessing, uint8, shape (1, h, w, 3).
            image_size (Tensor | None): Height and width of what is not
                padding, float32, shape (2, ). None: all.

        Returns:
            tuple[Tensor]: As :meth:`output_names` says.
        """
        if self.preprocessing is not None:
            images, image_size = self.preprocessing(images)
        elif image_size is None:
            image_size = self.full_size()
        return tuple(self.postprocess(self._all_outs(images), image_size))

    def _all_outs(self, images: Tensor) -> Any:
        outs = self._outs(images)
        if getattr(self.postprocess, 'flips', False):
            return outs, self._outs(images.flip(-1))
        return outs
