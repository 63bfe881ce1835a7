"""The part of a model that is exported: from images to what its head gives.

What libraries do with that, decoding, suppression, is not in it.
"""
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

# by library; the first that a model has
_HEADS = dict(
    mmdet=('bbox_head', 'rpn_head'),
    mmpretrain=('head', ),
    mmseg=('decode_head', ),
    mmpose=('head', ))


@contextmanager
def _no_foreign_operators(model: nn.Module) -> Iterator[None]:
    """Refuse modules of mmcv's operators when they are called.

    Raises:
        ValueError: Names the module.
    """

    def refuse(name: str, module: nn.Module) -> NoReturn:
        raise ValueError(
            f'{name} ({type(module).__name__}) of {type(model).__name__} can '
            'not be exported: it computes by an operator of mmcv, which ONNX '
            'has not')

    handles = [
        module.register_forward_pre_hook(
            lambda module, args, name=name: refuse(name, module))
        for name, module in model.named_modules() if any(
            cls.__module__.startswith('mmcv.ops.')
            for cls in type(module).__mro__)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Features(tuple):
    """Features, with what a head made of them."""

    outs: Any


def _library(model: nn.Module) -> str:
    """Which library's base a model derives from.

    Raises:
        ValueError: If it is none of those whose networks are known.
    """
    for cls in type(model).__mro__:
        library = cls.__module__.partition('.')[0]
        if library in _HEADS:
            return library
    raise ValueError(f'{type(model).__name__} is a model of none of '
                     f'{", ".join(_HEADS)}, so it is unknown which part of '
                     'it is the network')


class Network(nn.Module):
    """Backbone, neck and head of a model.

    Args:
        model (nn.Module): A model of an mm library, in eval mode.
        size (tuple[int, int]): Height and width of the images.

    Attributes:
        head_name (str): The head whose outputs are exported.
        left_out (str | None): The part that is not, and why.
        structure (TreeSpec): Of what the head returns.

    Raises:
        ValueError: If it has no such part.
    """

    def __init__(self, model: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        self.size = tuple(size)
        self.library = _library(model)
        self.head_name = next((name for name in _HEADS[self.library]
                               if getattr(model, name, None) is not None), '')
        if not self.head_name or not hasattr(model, 'extract_feat'):
            raise ValueError(
                f'{type(model).__name__} has no '
                f'{" or ".join(_HEADS[self.library])} behind an extract_feat, '
                'so there is no network of images to export')
        self.left_out = None
        if self.is_two_stage:
            self.left_out = (
                'roi_head is not exported: how many RoIs it gets depends on '
                'the image, and RoIAlign is an operator of mmcv. The file has '
                'backbone, neck and rpn_head: first the features that '
                'roi_head pools, then what rpn_head returns')
        self.samples = self._samples() if self.library == 'mmdet' else None
        with torch.no_grad(), _no_foreign_operators(model):
            outs = self._outs(self.example())
        tensors, self.structure = tree_flatten(outs)
        wrong = [type(x).__name__ for x in tensors
                 if not isinstance(x, Tensor)]  # yapf: disable
        if wrong:
            raise ValueError(f'{self.head_name}: {wrong[0]} among what '
                             f'{type(self.head).__name__} returns can not be '
                             'exported, only tensors')

    @property
    def head(self) -> nn.Module:
        """The head whose outputs are exported."""
        return getattr(self.model, self.head_name)

    @property
    def is_two_stage(self) -> bool:
        """Whether a second stage pools features."""
        return self.head_name == 'rpn_head' and hasattr(self.model, 'roi_head')

    @property
    def is_transformer(self) -> bool:
        """Whether queries, between features and head, know image sizes."""
        return hasattr(self.model, 'forward_transformer')

    @property
    def batch_axis(self) -> int:
        """Of outputs; those of a DETR are stacked by layers."""
        return int(self.is_transformer)

    def example(self) -> Tensor:
        """An image, shape (1, 3, H, W)."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(1, 3, *self.size, generator=generator)

    def examples(self) -> tuple[Tensor, ...]:
        """All inputs."""
        return (self.example(), )

    def input_names(self) -> list[str]:
        """One for each input."""
        return ['images']

    def dynamic_shapes(self) -> tuple | None:
        """Which sizes of inputs are free; None: none is."""

    def _samples(self) -> list:
        from mmdet.structures import DetDataSample
        shape = self.size
        return [
            DetDataSample(
                metainfo=dict(
                    batch_input_shape=shape,
                    pad_shape=shape,
                    img_shape=shape,
                    ori_shape=shape,
                    scale_factor=(1., 1.)))
        ]

    def _outs(self, images: Tensor) -> Any:
        if self.is_two_stage:
            features = self.model.extract_feat(images)
            return tuple(features), self.head(features)
        return self.model(images, self.samples, mode='tensor')

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute.

        Args:
            images (Tensor): Preprocessed, shape (1, 3, H, W).

        Returns:
            tuple[Tensor]: What the head returns, flat; of two stages, after
            the features.
        """
        return tuple(tree_flatten(self._outs(images))[0])

    def output_names(self) -> list[str]:
        """One for each output, by its place in what the head returns."""
        return _names(self.structure)

    def comparable(self, outs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Those outputs of which differences of all values say something."""
        return outs

    def reads(self, images: Tensor) -> Tensor:
        """Images as the exported network takes them.

        Args:
            images (Tensor): Preprocessed, shape (N, 3, H, W).

        Returns:
            Tensor: Detectors' padded with zeros, as batches are.

        Raises:
            ValueError: If they are larger; if they are smaller, and padding
                would change what is computed.
        """
        height, width = images.shape[-2:]
        below, right = self.size[0] - height, self.size[1] - width
        if below == right == 0:
            return images
        pads = self.library == 'mmdet' and not self.is_transformer
        if min(below, right) < 0 or not pads:
            reason = 'larger' if min(below, right) < 0 else 'of another size'
            raise ValueError(
                f'the network was exported for images of {self.size[0]} x '
                f'{self.size[1]}, and one of the data, {height} x {width}, is '
                f'{reason}: export it with --size for the largest, or, unless '
                'it is a detector of convolutions, with a test pipeline that '
                'makes all of one size')
        return nn.functional.pad(images, (0, right, 0, below))

    def restore(self, tensors: list[Tensor]) -> Any:
        """What the head returns, from flat outputs."""
        return tree_unflatten(tensors, self.structure)

    def run_by(self, run: Callable[[Tensor], list[Tensor]]) -> None:
        """Let something else compute the network, from now on.

        What the model does before and after it stays.

        Args:
            run (Callable): From images to flat outputs.
        """

        def outs_of(images: Tensor) -> Any:
            # of what stood for the queries of all layers
            images = images.flatten(0, -4)
            parts = [run(image[None]) for image in self.reads(images)]
            return self.restore(
                [torch.cat(p, self.batch_axis) for p in zip(*parts)])

        def features_of(images: Tensor) -> Features:
            features, outs = outs_of(images)
            result = Features(features)
            result.outs = outs
            return result

        if self.is_two_stage:
            self.model.extract_feat = features_of
            self.head.forward = lambda features: features.outs
            return
        self.model.extract_feat = lambda images, *args, **kwargs: images
        self.head.forward = lambda images, *args, **kwargs: outs_of(images)
        if self.is_transformer:
            self.model.forward_transformer = self._instead_of_queries

    def _instead_of_queries(self, images: Tensor, *args) -> dict:
        """For each of what the head wants of the decoder, the images."""
        wanted = set(inspect.signature(self.head.predict).parameters)
        wanted -= {'batch_data_samples', 'rescale', 'self'}
        return {name: images[None] for name in wanted}


def _names(structure: TreeSpec, name: str = 'output') -> list[str]:
    if structure.is_leaf():
        return [name]
    return [
        found for i, child in enumerate(structure.children())
        for found in _names(child, f'{name}_{i}')
    ]
