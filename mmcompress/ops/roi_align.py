"""RoIAlign with average pooling, for inference on channels-last maps.

From Mask R-CNN (He et al., 2017), as mmcv and torchvision compute it. A
bilinear sample is the product of an interpolation along each axis, and so is
the mean over the samples of a bin: pixels are averaged over columns, then
over rows, with weights per axis.
"""
import torch
from torch import Tensor

from . import library
from .arguments import MAX_GEOMETRY, check_image, check_pair, require

# most samples per bin and axis where the region decides
MAX_SAMPLES = 4096
# smallest and largest spatial_scale, such that float32 holds it
SCALES = 1e-30, 1e30


def check_roi_align(x: Tensor, rois: Tensor, output_size: list[int],
                    spatial_scale: float, sampling_ratio: int) -> None:
    """Check the arguments of :func:`roi_align`.

    Raises:
        ValueError: If one is out of bounds, or they don't fit together; names
            the argument.
    """
    check_image('x', x)
    require(x.shape[2] > 0 and x.shape[3] > 0,
            f'x has no pixels: {tuple(x.shape)}')
    require(rois.dtype == torch.float32,
            f'rois must be float32, it is {rois.dtype}')
    require(rois.device == x.device,
            f'rois is on {rois.device}, x on {x.device}')
    require(rois.dim() == 2 and rois.shape[1] == 5,
            f'rois must be (M, 5), it has shape {tuple(rois.shape)}')
    check_pair('output_size', output_size, 1)
    # also where it is not a number
    require(
        SCALES[0] <= spatial_scale <= SCALES[1],
        f'spatial_scale must be a number from {SCALES[0]} to {SCALES[1]}, it '
        f'is {spatial_scale}')
    require(
        sampling_ratio <= MAX_GEOMETRY,
        f'sampling_ratio must be at most {MAX_GEOMETRY}, it is '
        f'{sampling_ratio}')


def _check_image_numbers(numbers: Tensor, batch: int) -> None:
    wrong = ~((numbers >= 0) & (numbers < batch))
    require(
        not wrong.any(),
        f'rois[:, 0] must be the number of an image, 0 to {batch - 1}: '
        f'{numbers[wrong][:1].tolist()}')


def _axis_weights(begin: Tensor, end: Tensor, num_bins: int, size: int,
                  spatial_scale: float, sampling_ratio: int,
                  aligned: bool) -> Tensor:
    """How much each pixel of an axis counts in the mean of each bin.

    Args:
        begin, end (Tensor): Of the regions, shape (M, ).
        num_bins (int): Bins per region.
        size (int): Pixels.
        spatial_scale, sampling_ratio, aligned: See :func:`roi_align`.

    Returns:
        Tensor: Shape (M, num_bins, size).
    """
    # float32 throughout: whether a sample is outside depends on roundings
    offset = 0.5 if aligned else 0.0
    start = begin * spatial_scale - offset
    length = end * spatial_scale - offset - start
    if not aligned:
        length = length.clamp(min=1)
    bin_size = length / num_bins
    if sampling_ratio > 0:
        num_samples = torch.full_like(bin_size, sampling_ratio)
    else:
        num_samples = bin_size.ceil().clamp(max=MAX_SAMPLES)
    bins = torch.arange(num_bins, device=begin.device)
    origin = start[:, None] + bins * bin_size[:, None]
    sums = begin.new_zeros(len(begin), num_bins, size)
    most = int(num_samples.nan_to_num(0).max()) if len(begin) else 0
    for i in range(most):
        step = (i + 0.5) * bin_size / num_samples
        position = origin + step[:, None]
        is_inside = (position >= -1) & (position <= size)
        is_inside &= (i < num_samples)[:, None]
        position = torch.where(is_inside, position.clamp(min=0), 0)
        pixel = position.long().clamp(max=size - 1)
        fraction = torch.where(pixel < size - 1, position - pixel, 0)
        following = (pixel + 1).clamp(max=size - 1)
        for place, weight in ((pixel, 1 - fraction), (following, fraction)):
            weight = torch.where(is_inside, weight, 0)
            sums.scatter_add_(2, place[..., None], weight[..., None])
    return sums / num_samples[:, None, None].nan_to_num(1).clamp(min=1)


def _weighted_sums(weights: Tensor, values: Tensor) -> Tensor:
    """Sums over the first dimension, in its order, each step rounded.

    Args:
        weights (Tensor): Shape (num_bins, size).
        values (Tensor): Shape (size, ...).

    Returns:
        Tensor: Shape (num_bins, ...).
    """
    # pixels that count in a bin first, in their order
    is_zero = weights == 0
    order = is_zero.byte().argsort(dim=1, stable=True)
    most = int((~is_zero).sum(1).max())
    sums = values.new_zeros(len(weights), *values.shape[1:])
    for pixels in order[:, :most].T:
        weight = weights.gather(1, pixels[:, None])
        weight = weight.view(-1, *[1] * (values.dim() - 1))
        # nothing comes of infinite values that don't count
        sums += torch.where(weight != 0, weight * values[pixels], 0)
    return sums


def roi_align_reference(x: Tensor, rois: Tensor, output_size: list[int],
                        spatial_scale: float, sampling_ratio: int,
                        aligned: bool) -> Tensor:
    """Definition of :func:`roi_align` in plain PyTorch."""
    check_roi_align(x, rois, output_size, spatial_scale, sampling_ratio)
    _check_image_numbers(rois[:, 0], len(x))
    options = spatial_scale, sampling_ratio, aligned
    rows = _axis_weights(rois[:, 2], rois[:, 4], output_size[0], x.shape[2],
                         *options)
    columns = _axis_weights(rois[:, 1], rois[:, 3], output_size[1], x.shape[3],
                            *options)
    out = x.new_empty(len(rois), x.shape[1], *output_size)
    for i, number in enumerate(rois[:, 0].long().tolist()):
        used = rows[i].any(0)
        image = x[number].permute(2, 1, 0)[:, used]
        means = _weighted_sums(columns[i], image)
        sums = _weighted_sums(rows[i][:, used], means.transpose(0, 1))
        out[i] = sums.permute(2, 0, 1)
    return out


def fake_roi_align(x: Tensor, rois: Tensor, output_size: list[int],
                   spatial_scale: float, sampling_ratio: int,
                   aligned: bool) -> Tensor:
    """Shape of :func:`roi_align`."""
    check_roi_align(x, rois, output_size, spatial_scale, sampling_ratio)
    return x.new_empty(rois.shape[0], x.shape[1], *output_size)


def roi_align(x: Tensor,
              rois: Tensor,
              output_size: int | tuple[int, int],
              spatial_scale: float = 1.0,
              sampling_ratio: int = 0,
              aligned: bool = True) -> Tensor:
    """Pool regions of feature maps into bins of equal number.

    The values of mmcv's and torchvision's ``roi_align`` with average pooling,
    but for roundings, several times faster on a CPU. It has no gradient.

    Args:
        x (Tensor): float32, shape (N, C, H, W). Channels-last memory is read
            as it is, other is copied.
        rois (Tensor): float32, shape (M, 5): number of an image, x1, y1, x2,
            y2 in units of the image. What lies outside of the map is 0, so is
            a region of infinite or undefined size.
        output_size (int | tuple[int, int]): Bins, vertically and
            horizontally, from 1 to 4096.
        spatial_scale (float): Feature pixels per unit of ``rois``, from 1e-30
            to 1e30.
        sampling_ratio (int): Samples per bin along each axis, at most 4096; 0
            or less: the bin size in pixels, rounded up, at most 4096.
        aligned (bool): Pixel centres lie at half coordinates. Otherwise they
            lie at integers, and regions have at least one pixel.

    Returns:
        Tensor: float32, shape (M, C, *output_size), contiguous.

    Raises:
        ValueError or RuntimeError: If arguments don't fit together.
    """
    size = [output_size] * 2 if isinstance(output_size, int) else output_size
    return library.operators.roi_align(x, rois, list(size), spatial_scale,
                                       sampling_ratio, aligned)


library.register(
    'roi_align', '(Tensor x, Tensor rois, int[2] output_size, '
    'float spatial_scale, int sampling_ratio, bool aligned) -> Tensor',
    roi_align_reference, fake_roi_align)
