"""Which tokens of an image were merged, as maps of its patches."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.tokens.layers import MergingLayer
from mmcompress.tokens.step import positions
from mmcompress.tokens.tokens import Tokens


class Groups(NamedTuple):
    """What a layer has merged.

    Attributes:
        group (np.ndarray): Number of each patch's group, from 0 on, int64 of
            shape (h, w).
        left (int): How many tokens are left, with those of no patch.
        total (int): How many there were.
    """
    group: np.ndarray
    left: int
    total: int


def merging_backbone(model: nn.Module, name: str | None = None) -> str:
    """Name of the part of a model whose layers merge.

    Args:
        model (nn.Module): Any model.
        name (str | None): The one to take; None for the first.

    Raises:
        ValueError: If nothing merges, or not there.
    """
    found = []
    for path, module in model.named_modules():
        layers = getattr(module, 'layers', None)
        if isinstance(layers, nn.ModuleList) and any(
                isinstance(layer, MergingLayer) for layer in layers):
            found.append(path)
    if not found:
        raise ValueError(
            f'no layer of {type(model).__name__} merges tokens: give a config '
            "with the step 'mmcompress.MergeTokens', or how many tokens are "
            'to leave each layer (--r 8)')
    if name is not None and name not in found:
        raise ValueError(f'the layers of {name!r} merge no tokens; those of '
                         f'{", ".join(found)} do')
    return found[0] if name is None else name


@contextmanager
def record(modules: dict[str, nn.Module]) -> Iterator[dict]:
    """Keep what modules return meanwhile, by name."""
    seen = {}

    def keep(name):

        def hook(module, args, output):
            seen[name] = output

        return hook

    handles = [m.register_forward_hook(keep(n)) for n, m in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def num_left(output: Tensor | Tokens) -> Tensor:
    """How many tokens of each image a layer has left, shape (B, )."""
    tokens = Tokens.of(output)
    if tokens.mass is None:
        return torch.full((len(tokens.x), ), tokens.x.size(1))
    # 0 is padding
    return (tokens.mass > 0).sum(dim=(1, 2))


@torch.no_grad()
def groups_of(model: nn.Module, batch: dict, name: str,
              layers: list[int]) -> dict[int, Groups]:
    """What layers have merged of an image.

    Args:
        model (nn.Module): A model of an mm library, in eval mode.
        batch (dict): One image, preprocessed.
        name (str): Of the backbone, see :func:`merging_backbone`.
        layers (list[int]): Behind which ones to look; negative ones count
            from the last.

    Returns:
        dict[int, Groups]: By layer, counted from 0.

    Raises:
        ValueError: If there is no such layer, or the batch has more images.
    """
    if len(batch['inputs']) != 1:
        raise ValueError(f'{len(batch["inputs"])} images are drawn one by one')
    backbone = model.get_submodule(name)
    num = len(backbone.layers)
    wrong = [i for i in layers if not -num <= i < num]
    if wrong:
        raise ValueError(f'{name} has no layer {wrong[0]}: it has {num}, from '
                         f'0 to {num - 1}')
    layers = [i % num for i in layers]
    modules = {str(i): backbone.layers[i] for i in layers}
    with record(dict(modules, patches=backbone.patch_embed)) as seen:
        model(**batch, mode='tensor')
    size = tuple(seen['patches'][1])
    return {i: _groups(seen[str(i)], backbone, name, size) for i in layers}


def _groups(output: Tensor | Tokens, backbone: nn.Module, name: str,
            size: tuple[int, int]) -> Groups:
    """Groups of patches, numbered in the order of their first patch."""
    tokens = Tokens.of(output)
    total = tokens.shape[1]
    group = torch.arange(total)
    if tokens.group is not None:
        group = tokens.group[0].cpu()
    extra = {p % total for p in positions(backbone, name)}
    patches = [i for i in range(total) if i not in extra]
    _, first, number = np.unique(
        group[patches].numpy(), return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return Groups(rank[number.reshape(-1)].reshape(size),
                  int(num_left(output)[0]), total)


def paint(image: np.ndarray, group: np.ndarray, pixels: int) -> np.ndarray:
    """Give every group its mean colour, and a bright border if it was merged.

    Args:
        image (np.ndarray): RGB in [0, 1], shape (H, W, 3).
        group (np.ndarray): Group of each patch, shape (h, w).
        pixels (int): Height and width of a patch in the picture, at least 4.

    Returns:
        np.ndarray: RGB in [0, 1], shape (h * pixels, w * pixels, 3).
    """
    owner = _nearest(group, image.shape[0], image.shape[1])
    count = np.bincount(owner.ravel())
    means = np.stack([
        np.bincount(owner.ravel(), image[..., c].ravel()) / count.clip(1)
        for c in range(3)
    ], -1)
    large = group.repeat(pixels, 0).repeat(pixels, 1)
    width = max(1, pixels // 10)
    padded = np.pad(large, width, mode='edge')
    height, length = large.shape
    # within `width` of another group
    border = np.zeros(large.shape, dtype=bool)
    for dy in (0, width, 2 * width):
        for dx in (0, width, 2 * width):
            other = padded[dy:dy + height, dx:dx + length]
            border |= other != large
    colours = _colours(len(count))
    # what was not merged is not to catch the eye
    alone = np.bincount(group.ravel()) == 1
    colours[alone] = 0.7 * means[alone] + 0.15
    return np.where(border[..., None], colours[large], means[large])


def _nearest(group: np.ndarray, height: int, width: int) -> np.ndarray:
    """The group of each pixel of an image that patches cover evenly."""
    h, w = group.shape
    rows = np.arange(height) * h // height
    columns = np.arange(width) * w // width
    return group[rows[:, None], columns]


def _colours(num: int) -> np.ndarray:
    """Bright colours, neighbours far apart, RGB of shape (num, 3)."""
    # steps of the golden ratio around the circle of hues
    hue = np.arange(num) * 0.618034 % 1 * 6
    distance = np.abs((hue[:, None] - np.array([0, 2, 4]) + 3) % 6 - 3)
    return (2 - distance).clip(0, 1)
