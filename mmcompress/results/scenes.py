"""Images of a data set with what they show, by task."""
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmengine.registry import TRANSFORMS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch.utils.data import DataLoader, Dataset

# of a data set, those among which images are chosen
MOST_IMAGES = 2000
# of drawn images, pixels of the longer side
SIDE = 480


def _innermost(dataset: Dataset) -> Dataset:
    """The data set inside of wrappers; of several the first one."""
    while True:
        if hasattr(dataset, 'dataset'):
            dataset = dataset.dataset
        elif getattr(dataset, 'datasets', None):
            dataset = dataset.datasets[0]
        else:
            return dataset


def _info(dataset: Dataset, index: int) -> dict:
    # of torch's wrappers, those of mm have the same
    if not hasattr(dataset, 'get_data_info'):
        dataset = _innermost(dataset)
    return dataset.get_data_info(index)


def _best(dataset: Dataset, score: Callable[[dict], float],
          num: int) -> list[int]:
    """Indices of the images with the highest score; the first of equals."""
    count = min(len(dataset), MOST_IMAGES)
    scores = [score(_info(dataset, i)) for i in range(count)]
    return sorted(range(count), key=lambda i: -scores[i])[:num]


def _read(info: dict) -> np.ndarray:
    """An image as RGB."""
    if isinstance(info.get('img'), np.ndarray):
        # of arrays, such as CIFAR's
        return np.ascontiguousarray(info['img'])
    image = mmcv.imread(info['img_path'], 'color')
    if image is None:
        raise FileNotFoundError(f'{info["img_path"]} can not be read')
    return np.ascontiguousarray(image[..., ::-1])


class Scenes:
    """Some images of a data set, for one task.

    Args:
        loader (DataLoader): Of the validation data.
        num (int): How many images.

    Attributes:
        images (list[np.ndarray]): RGB, shape (H, W, 3), all about as large.
        scales (list[float]): By which they were enlarged.
        meta (dict): Of the data set: names and colours.
    """
    # pixels in a row of images without detail
    smooth = True

    def __init__(self, loader: DataLoader, num: int) -> None:
        self.loader = loader
        self.dataset = loader.dataset
        self.meta = dict(_innermost(self.dataset).metainfo)
        # of each image, the items of the data set that are about it
        self.indices = self.choose(num)
        self.infos = [_info(self.dataset, i[0]) for i in self.indices]
        self.images, self.scales = [], []
        for info in self.infos:
            image = _read(info)
            scale = SIDE / max(image.shape[:2])
            size = [max(1, round(scale * side)) for side in image.shape[1::-1]]
            how = cv2.INTER_AREA if scale < 1 else (
                cv2.INTER_CUBIC if self.smooth else cv2.INTER_NEAREST)
            self.images.append(cv2.resize(image, size, interpolation=how))
            self.scales.append(scale)

    def choose(self, num: int) -> list[list[int]]:
        """Which items of the data set to show, one list for each image."""
        raise NotImplementedError

    def truths(self) -> list[Any]:
        """What is right, by image."""
        raise NotImplementedError

    @torch.no_grad()
    def predictions(self, tester: Any, loader: DataLoader) -> list[Any]:
        """What a model finds, by image.

        Args:
            tester (Any): Has ``test_step``, as a model in eval mode.
            loader (DataLoader): The same data, as the model reads it.
        """
        found = []
        for indices, scale in zip(self.indices, self.scales):
            items = [loader.dataset[i] for i in indices]
            samples = tester.test_step(loader.collate_fn(items))
            found.append(self.prediction(samples, scale))
        return found

    def prediction(self, samples: list, scale: float) -> Any:
        """What to draw of what a model returned for an image."""
        raise NotImplementedError


def scaled_instances(instances: InstanceData, scale: float,
                     **arrays) -> InstanceData:
    """Boxes and masks in an enlarged image, as arrays.

    Args:
        instances (InstanceData): With ``bboxes``, maybe ``masks``.
        scale (float): By which the image was.
        **arrays: Others to keep, by name.
    """
    result = InstanceData(**arrays)
    boxes = getattr(instances.bboxes, 'tensor', instances.bboxes)
    result.bboxes = scale * boxes.cpu().numpy()
    if 'masks' in instances and len(instances):
        masks = instances.masks
        masks = (
            masks.cpu().numpy()
            if isinstance(masks, torch.Tensor) else masks.to_ndarray())
        result.masks = np.stack([_resized(mask, scale) for mask in masks])
    return result


def _resized(labels: np.ndarray, scale: float) -> np.ndarray:
    """A mask or a map of labels, shape (H, W), enlarged."""
    size = [max(1, round(scale * side)) for side in labels.shape[1::-1]]
    return cv2.resize(
        labels.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)


class Detections(Scenes):
    """Boxes and masks: images with the most objects."""
    # whether the model finds any
    masks = False

    def choose(self, num: int) -> list[list[int]]:
        best = _best(self.dataset, lambda info: len(info['instances']), num)
        return [[i] for i in best]

    def truths(self) -> list[InstanceData]:
        result = []
        for info, scale in zip(self.infos, self.scales):
            masks = self.masks and all('mask' in one
                                       for one in info['instances'])
            with DefaultScope.overwrite_default_scope('mmdet'):
                load = TRANSFORMS.build(
                    dict(
                        type='LoadAnnotations',
                        with_bbox=True,
                        with_mask=masks))
            height, width = _read(info).shape[:2]
            found = load(
                dict(
                    info, img_shape=(height, width),
                    ori_shape=(height, width)))
            instances = InstanceData(bboxes=found['gt_bboxes'])
            if masks:
                instances.masks = found['gt_masks']
            result.append(
                scaled_instances(
                    instances, scale, labels=found['gt_bboxes_labels']))
        return result

    def prediction(self, samples: list, scale: float) -> InstanceData:
        found = samples[0].pred_instances
        self.masks |= 'masks' in found
        return scaled_instances(
            found,
            scale,
            labels=found.labels.cpu().numpy(),
            scores=found.scores.cpu().numpy())


class Maps(Scenes):
    """Semantic segmentation: images with the most classes."""

    def choose(self, num: int) -> list[list[int]]:
        classes = len(self.meta.get('classes') or ()) or 255

        def count(info: dict) -> int:
            if info.get('seg_map_path') is None:
                return 0
            labels = np.unique(mmcv.imread(info['seg_map_path'], 'unchanged'))
            return int((labels < classes).sum())

        return [[i] for i in _best(self.dataset, count, num)]

    def truths(self) -> list[PixelData]:
        return [
            PixelData(
                data=torch.from_numpy(
                    _resized(
                        self.dataset[i]['data_samples'].gt_sem_seg.data[0].
                        numpy(), scale))[None])
            for (i, ), scale in zip(self.indices, self.scales)
        ]

    def prediction(self, samples: list, scale: float) -> PixelData:
        labels = samples[0].pred_sem_seg.data[0].cpu().numpy()
        return PixelData(data=torch.from_numpy(_resized(labels, scale))[None])


class Poses(Scenes):
    """Keypoints: images with the most people, each of whom is an item."""

    def choose(self, num: int) -> list[list[int]]:
        people: dict[str, list[int]] = {}
        for i in range(min(len(self.dataset), MOST_IMAGES)):
            people.setdefault(_info(self.dataset, i)['img_path'], []).append(i)
        return sorted(people.values(), key=lambda items: -len(items))[:num]

    def truths(self) -> list[InstanceData]:
        result = []
        for indices, scale in zip(self.indices, self.scales):
            infos = [_info(self.dataset, i) for i in indices]
            visible = np.concatenate([i['keypoints_visible'] for i in infos])
            # of some codecs, weights beside it
            visible = visible[..., 0] if visible.ndim == 3 else visible
            result.append(
                InstanceData(
                    keypoints=scale *
                    np.concatenate([i['keypoints'] for i in infos]),
                    keypoints_visible=visible))
        return result

    def prediction(self, samples: list, scale: float) -> InstanceData:
        found = [sample.pred_instances for sample in samples]

        def joined(name: str) -> np.ndarray:
            return np.concatenate([np.asarray(getattr(f, name))
                                   for f in found])  # yapf: disable

        return InstanceData(
            keypoints=scale * joined('keypoints'),
            keypoints_visible=joined('keypoint_scores'))


class Labels(Scenes):
    """Classes: an image of each of some classes, far from each other."""
    smooth = False

    def choose(self, num: int) -> list[list[int]]:
        first: dict[int, int] = {}
        for i in range(len(self.dataset)):
            for label in _labels(_info(self.dataset, i)['gt_label']):
                first.setdefault(label, i)
        if len(first) < num:
            return [[i] for i in range(min(num, len(self.dataset)))]
        known = sorted(first)
        places = np.linspace(0, len(known) - 1, num).round().astype(int)
        return [[first[known[place]]] for place in places]

    def truths(self) -> list[list[int]]:
        return [_labels(info['gt_label']) for info in self.infos]

    def prediction(self, samples: list, scale: float) -> np.ndarray:
        return samples[0].pred_score.cpu().numpy()


def _labels(label: int | Sequence[int] | np.ndarray) -> list[int]:
    """The classes of an image; one, or several."""
    return [int(x) for x in np.atleast_1d(label)]


SCENES: dict[str, type[Scenes]] = dict(
    mmdet=Detections, mmseg=Maps, mmpose=Poses, mmpretrain=Labels)
