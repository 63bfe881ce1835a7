"""Keypoints of what heads of mmpose say of places."""
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .refusal import is_inherited, refuse

#: Outputs of all pose estimators.
NAMES = ('keypoints', 'scores')
_EPSILON = torch.finfo(torch.float32).eps


def _found(keypoints: Tensor, scores: Tensor) -> Tensor:
    """Keypoints, those without a positive score at -1."""
    return torch.where((scores > 0)[:, None], keypoints, -1)


class SimCC(nn.Module):
    """Keypoints of two vectors, one for each axis.

    Args:
        name (str): Of the codec.
        codec (Any): ``SimCCLabel`` of mmpose.

    Raises:
        NoPostprocess: If it refines places.
    """

    def __init__(self, name: str, codec: Any) -> None:
        super().__init__()
        if codec.use_dark or codec.decode_visibility:
            raise refuse(name, codec, '`use_dark` and `decode_visibility` '
                         'are not known')
        self.ratio = codec.simcc_split_ratio

    def flip(self, outs: tuple[Tensor, Tensor], order: Tensor,
             cfg: dict) -> tuple[Tensor, Tensor]:
        """What the flipped image says of the image."""
        return outs[0][:, order].flip(-1), outs[1][:, order]

    def forward(self, outs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Decode.

        Args:
            outs (tuple[Tensor, Tensor]): Shapes (1, K, Wx), (1, K, Wy).

        Returns:
            tuple[Tensor, Tensor]: Keypoints (x, y) in pixels of the
            preprocessed image, shape (K, 2); scores, shape (K, ).
        """
        places = torch.stack([x[0].argmax(-1) for x in outs], -1)
        scores = torch.minimum(*(x[0].amax(-1) for x in outs))
        return _found(places.float(), scores) / self.ratio, scores


class Heatmap(nn.Module):
    """Keypoints of heatmaps, a quarter of a cell towards the neighbour.

    Args:
        name (str): Of the codec.
        codec (Any): ``MSRAHeatmap`` of mmpose.

    Raises:
        NoPostprocess: If it refines by derivatives.
    """

    def __init__(self, name: str, codec: Any) -> None:
        super().__init__()
        if codec.unbiased:
            raise refuse(name, codec, '`unbiased=True` is not known')
        self.register_buffer('scale', torch.tensor(codec.scale_factor))

    def flip(self, heatmaps: Tensor, order: Tensor, cfg: dict) -> Tensor:
        """What the flipped image says of the image."""
        flipped = heatmaps.flip(-1)[:, order]
        if cfg.get('shift_heatmap', False):
            flipped = torch.cat([flipped[..., :1], flipped[..., :-1]], -1)
        return flipped

    def maximum(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Cells (x, y) and values of maxima, shapes (K, 2), (K, )."""
        scores, index = heatmaps.flatten(1).max(1)
        width = heatmaps.shape[-1]
        cells = torch.stack(
            [index % width,
             index.div(width, rounding_mode='floor')], -1)
        return _found(cells, scores), scores

    def forward(self, outs: Tensor) -> tuple[Tensor, Tensor]:
        """Decode.

        Args:
            outs (Tensor): Shape (1, K, H, W).

        Returns:
            tuple[Tensor, Tensor]: Keypoints (x, y) in pixels of the
            preprocessed image, shape (K, 2); scores, shape (K, ).
        """
        heatmaps = outs[0]
        cells, scores = self.maximum(heatmaps)
        cells = self.refine(cells, heatmaps)
        return cells * self.scale, scores

    def refine(self, cells: Tensor, heatmaps: Tensor) -> Tensor:
        """Cells with fractions, shape (K, 2)."""
        height, width = heatmaps.shape[-2:]
        x, y = cells.unbind(-1)
        flat = heatmaps.flatten(1)

        def value(dx: int, dy: int) -> Tensor:
            column = (x + dx).clamp(0, width - 1)
            row = (y + dy).clamp(0, height - 1)
            return flat.gather(1, (row * width + column)[:, None])[:, 0]

        # as in mmpose, which leaves out other cells at the borders of x
        # than at those of y
        along_x = (1 < x) & (x < width - 1) & (0 < y) & (y < height)
        along_y = (1 < y) & (y < height - 1) & (0 < x) & (x < width)
        dx, dy = value(1, 0) - value(-1, 0), value(0, 1) - value(0, -1)
        step = torch.stack(
            [torch.where(along_x, dx, 0.),
             torch.where(along_y, dy, 0.)], -1)
        return cells + 0.25 * step.sign()


class UDPHeatmap(Heatmap):
    """Keypoints of heatmaps, refined by their derivatives.

    Args:
        name (str): Of the codec.
        codec (Any): ``UDPHeatmap`` of mmpose.

    Raises:
        NoPostprocess: If it has offsets.
    """

    def __init__(self, name: str, codec: Any) -> None:
        nn.Module.__init__(self)
        if codec.heatmap_type != 'gaussian':
            raise refuse(name, codec, "heatmap_type='gaussian' is known")
        import cv2
        size = codec.blur_kernel_size
        # as cv2.GaussianBlur makes it of a size
        kernel = torch.tensor(cv2.getGaussianKernel(size, 0, cv2.CV_32F))
        self.register_buffer('kernel', kernel.flatten())
        cells = torch.tensor(codec.heatmap_size, dtype=torch.float64) - 1
        self.register_buffer('cells', cells)
        self.register_buffer(
            'input_size', torch.tensor(codec.input_size, dtype=torch.float64))

    def _blurred(self, heatmaps: Tensor) -> Tensor:
        """Blurred, with the same maxima; shape (K, H, W)."""
        half = len(self.kernel) // 2
        maps = heatmaps[:, None]
        maps = F.conv2d(maps, self.kernel.view(1, 1, 1, -1), padding=(0, half))
        maps = F.conv2d(maps, self.kernel.view(1, 1, -1, 1), padding=(half, 0))
        maps = maps[:, 0]
        factor = heatmaps.amax((1, 2)) / maps.amax((1, 2))
        return maps * factor[:, None, None]

    def refine(self, cells: Tensor, heatmaps: Tensor) -> Tensor:
        """A step of Newton's method on logarithms, shape (K, 2)."""
        maps = self._blurred(heatmaps).clamp(1e-3, 50.).log()
        maps = F.pad(maps[None], (1, 1, 1, 1), mode='replicate')[0]
        num, height, width = maps.shape
        flat = maps.flatten()
        places = (cells[:, 1] + 1) * width + cells[:, 0] + 1
        places = places + height * width * torch.arange(num)

        def value(dx: int, dy: int) -> Tensor:
            # a keypoint that was not found is in the corner, beyond which
            # mmpose also looks at what is stored there
            return flat[(places + dy * width + dx) % len(flat)]

        here, right, left = value(0, 0), value(1, 0), value(-1, 0)
        below, above = value(0, 1), value(0, -1)
        dx, dy = 0.5 * (right - left), 0.5 * (below - above)
        dxx = (right - 2 * here + left).double() + _EPSILON
        dyy = (below - 2 * here + above).double() + _EPSILON
        dxy = 0.5 * (
            value(1, 1) - right - below + here + here - left - above +
            value(-1, -1))
        dx, dy, dxy = dx.double(), dy.double(), dxy.double()
        area = dxx * dyy - dxy * dxy
        step = torch.stack([dyy * dx - dxy * dy, dxx * dy - dxy * dx], -1)
        return (cells - step / area[:, None]).float()

    def forward(self, outs: Tensor) -> tuple[Tensor, Tensor]:
        """Decode; see :meth:`Heatmap.forward`."""
        cells, scores = self.maximum(outs[0])
        cells = self.refine(cells, outs[0]).double()
        return (cells / self.cells * self.input_size).float(), scores


_CODECS = dict(SimCCLabel=SimCC, MSRAHeatmap=Heatmap, UDPHeatmap=UDPHeatmap)
_HEADS = ('RTMCCHead', 'SimCCHead', 'HeatmapHead')


class PosePostprocess(nn.Module):
    """Keypoints of a top-down pose estimator.

    Args:
        model (nn.Module): A pose estimator of mmpose.
        outs (Any): What its head returns.
        flip_indices (Sequence[int] | None): Keypoints of the flipped image.

    Raises:
        NoPostprocess: If it predicts in a way of its own.
    """
    names = NAMES

    def __init__(self, model: nn.Module, outs: Any,
                 flip_indices: Sequence[int] | None) -> None:
        super().__init__()
        head = model.head
        if not is_inherited(model, 'predict', 'TopdownPoseEstimator'):
            raise refuse('model', model, 'it has a `predict` of its own')
        if not is_inherited(head, 'predict', *_HEADS):
            raise refuse('head', head,
                         f'predictions of {", ".join(_HEADS)} are known')
        codec = head.decoder
        if type(codec).__name__ not in _CODECS:
            raise refuse('head.decoder', codec,
                         f'codecs {", ".join(_CODECS)} are known')
        self.codec = _CODECS[type(codec).__name__]('head.decoder', codec)
        self.cfg = model.test_cfg or {}
        self.flips = bool(self.cfg.get('flip_test', False))
        self.register_buffer('order', None)
        if not self.flips:
            return
        mode = self.cfg.get('flip_mode', 'heatmap')
        if flip_indices is None or mode != 'heatmap':
            reason = (f'flip_mode={mode!r} is not known'
                      if mode != 'heatmap' else 'its test_cfg has '
                      '`flip_test`, and neither checkpoint nor data say '
                      'which keypoints are mirrored')
            raise refuse(
                'model', model,
                f'{reason}. Without flipping, twice as fast: --cfg-options '
                'model.test_cfg.flip_test=False')
        self.order = torch.tensor(list(flip_indices))

    def forward(self, outs: Any, size: Tensor) -> tuple[Tensor, Tensor]:
        """Predict.

        Args:
            outs (Any): What the head returns for the image; for the image
                and the flipped one, if both are wanted.
            size (Tensor): Not looked at.

        Returns:
            tuple[Tensor, Tensor]: Keypoints (x, y) in pixels of the
            preprocessed image, shape (K, 2); scores, shape (K, ).
        """
        if not self.flips:
            return self.codec(outs)
        outs, flipped = outs
        flipped = self.codec.flip(flipped, self.order, self.cfg)
        if isinstance(outs, Tensor):
            return self.codec((outs + flipped) * 0.5)
        return self.codec(tuple((a + b) * 0.5 for a, b in zip(outs, flipped)))
