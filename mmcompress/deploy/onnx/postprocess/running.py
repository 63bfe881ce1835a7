"""Predictions of a written file, as samples of the model's library."""
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmcompress.model.inputs import raw_batch
from .whole import WholeNetwork


def _of_detector(model: nn.Module, sample: Any, boxes: Tensor, scores: Tensor,
                 labels: Tensor) -> Any:
    """Boxes in pixels of the original image."""
    factor = sample.metainfo.get('scale_factor', (1., 1.))
    boxes = boxes / boxes.new_tensor(factor).repeat(2)
    found = InstanceData(bboxes=boxes, scores=scores, labels=labels)
    return model.add_pred_to_datasample([sample], [found])[0]


def _of_classifier(model: nn.Module,
                   sample: Any,
                   scores: Tensor,
                   label: Tensor | None = None) -> Any:
    head = model.head
    if label is not None:
        pass
    elif head.thr is not None:
        label = torch.where(scores[0] >= head.thr)[0]
    else:
        label = scores[0].topk(head.topk)[1]
    return sample.set_pred_score(scores[0]).set_pred_label(label)


def _of_segmentor(model: nn.Module, sample: Any, labels: Tensor) -> Any:
    """Classes of the pixels of the original image, those of the nearest."""
    info = sample.metainfo
    left, right, top, bottom = info.get('img_padding_size',
                                        info.get('padding_size', [0] * 4))
    height, width = labels.shape[-2:]
    labels = labels[:, top:height - bottom, left:width - right]
    size = tuple(info['ori_shape'][:2])
    if labels.shape[-2:] != size:
        labels = F.interpolate(
            labels[None].float(), size, mode='nearest-exact')[0].long()
    sample.set_data(dict(pred_sem_seg=PixelData(data=labels)))
    return sample


def _of_pose_estimator(model: nn.Module, sample: Any, keypoints: Tensor,
                       scores: Tensor) -> Any:
    """Keypoints in pixels of the original image."""
    found = InstanceData(
        keypoints=keypoints[None].numpy(),
        keypoint_scores=scores[None].numpy())
    return model.add_pred_to_datasample([found], None, [sample])[0]


_FILL = dict(
    mmdet=_of_detector,
    mmpretrain=_of_classifier,
    mmseg=_of_segmentor,
    mmpose=_of_pose_estimator)


class Image:
    """An image of a batch.

    Args:
        network (WholeNetwork): That reads it.
        raw (Tensor): As the pipeline gives it, shape (3, h, w).
        prepared (Tensor): As the data preprocessor gives it, shape (1, 3, H,
            W).
        sample (Any): What is known of it.

    Attributes:
        padded (Tensor): As the network takes it, preprocessed.
    """

    def __init__(self, network: WholeNetwork, raw: Tensor, prepared: Tensor,
                 sample: Any) -> None:
        self.network, self.raw, self.sample = network, raw, sample
        self.padded = network.reads(prepared)

    def inputs(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Of a session: the image, and others by name."""
        if self.network.preprocessing is not None:
            image = self.raw.permute(1, 2, 0)[None].contiguous()
            return self.network.reads_raw(image), {}
        if not self.network.takes_sizes:
            return self.padded, {}
        size = torch.tensor(self.sample.metainfo['img_shape'][:2])
        return self.padded, dict(image_size=size.float())

    def sample_of_padded(self) -> Any:
        """What is known, as if the data preprocessor had padded so much."""
        sample = copy.deepcopy(self.sample)
        if self.network.library == 'mmdet':
            size = tuple(self.padded.shape[-2:])
            sample.set_metainfo(dict(batch_input_shape=size, pad_shape=size))
        return sample


def images_of(network: WholeNetwork, model: nn.Module,
              batch: Any) -> Iterator[Image]:
    """The images of a batch of a data loader.

    Args:
        network (WholeNetwork): That reads them.
        model (nn.Module): The model, whose preprocessor is used.
        batch (Any): ``inputs`` and ``data_samples``.
    """
    batch = copy.deepcopy(batch)
    raw = list(batch['inputs'])
    prepared = model.data_preprocessor(batch, False)
    for i, sample in enumerate(prepared['data_samples']):
        yield Image(network, raw[i], prepared['inputs'][i:i + 1], sample)


class FilePredictor:
    """Predicts by a file what a model predicts.

    Args:
        network (WholeNetwork): What was written.
        model (nn.Module): Whose samples are filled.
        run (Callable): Computes the file: its :class:`~..session.Session`, or
            the network itself.
    """

    def __init__(self, network: WholeNetwork, model: nn.Module,
                 run: Callable) -> None:
        self.network, self.model, self.run = network, model, run

    def predict(self, image: Image) -> Any:
        """The sample of an image, with predictions."""
        images, others = image.inputs()
        outs = self.run(images, **others)
        fill = _FILL[self.network.library]
        return fill(self.model, copy.deepcopy(image.sample), *outs)

    def test_step(self, batch: Any) -> list:
        """As that of a model, for its test loop."""
        images = images_of(self.network, self.model, batch)
        return [self.predict(image) for image in images]

    def eval(self) -> 'FilePredictor':
        """A file has one mode."""
        return self


def made_up(network: WholeNetwork,
            model: nn.Module,
            num: int,
            size: Sequence[int] | None = None) -> list[dict]:
    """Batches of one image of noise, for want of data.

    Args:
        network (WholeNetwork): That reads them.
        model (nn.Module): The model.
        num (int): How many.
        size (Sequence[int] | None): Height and width; that of the network.
    """
    size = tuple(size or network.size)
    batches = []
    for _ in range(num):
        batch = raw_batch(model, network.library, size, 1)
        if network.library == 'mmpose':
            sides = np.array(size[::-1], dtype=np.float32)
            info = dict(input_center=sides / 2, input_scale=sides)
            batch['data_samples'][0].set_metainfo(info)
        if network.library == 'mmdet':
            info = dict(ori_shape=size, scale_factor=(1., 1.))
            batch['data_samples'][0].set_metainfo(info)
        batches.append(batch)
    return batches
