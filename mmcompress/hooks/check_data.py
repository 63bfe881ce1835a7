"""Stop a training whose labels cannot be what was meant, before it starts."""
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmcompress.annotations import (check_classes, check_coco_names,
                                    check_found, listed, xml_names)
from mmcompress.registry import HOOKS

# of larger datasets than COCO, which takes five seconds, as many images evenly
# spread are looked at
MOST_IMAGES = 200000
# files of a VOC dataset that are read again for their names
MOST_FILES = 1000


class NoLabels(ValueError):
    """A dataset has nothing to learn; beside others it may be meant so."""


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)


def inner_datasets(dataset: Any, key: str) -> Iterator[tuple[str, Any]]:
    """The datasets inside of wrappers, with their config keys."""
    if hasattr(dataset, 'datasets'):
        for i, inner in enumerate(dataset.datasets):
            yield from inner_datasets(inner, f'{key}.datasets.{i}')
    elif hasattr(dataset, 'dataset'):
        yield from inner_datasets(dataset.dataset, f'{key}.dataset')
    # others than the libraries' say nothing of their labels
    elif hasattr(dataset, 'get_data_info'):
        yield key, dataset


def _classes(dataset: Any) -> list[str]:
    return list(dataset.metainfo.get('classes') or [])


def _infos(dataset: Any, most: int) -> Iterator[dict]:
    """Annotations of up to so many images, evenly spread."""
    for i in range(0, len(dataset), -(-len(dataset) // most) or 1):
        yield dataset.get_data_info(i)


class Labels:
    """What the annotations of a dataset hold, without loading an image.

    Args:
        dataset (BaseDataset): Of mmdet, mmpretrain or mmpose.

    Attributes:
        num_images (int): How many images were looked at.
        counts (Counter): Images or boxes that training learns from, by label.
        ignored (int): Boxes that it doesn't: crowds, difficult ones.
        are_known (bool): Whether there are boxes or labels to count; other
            tasks have none.
        keypoints (set[int]): How many keypoints persons have.
        visible (int): Keypoints that are annotated.
    """

    def __init__(self, dataset: Any) -> None:
        self.counts: Counter = Counter()
        self.ignored = self.visible = self.num_images = 0
        self.are_known = False
        self.keypoints: set[int] = set()
        for info in _infos(dataset, MOST_IMAGES):
            self.num_images += 1
            # panoptic annotations name what no box is drawn around
            if 'instances' in info and 'segments_info' not in info:
                self._add_boxes(info['instances'])
            elif info.get('gt_label') is not None:
                self.are_known = True
                labels = np.asarray(info['gt_label']).astype(int)
                self.counts.update(labels.ravel().tolist())
            elif info.get('keypoints') is not None:
                self.keypoints.add(np.shape(info['keypoints'])[-2])
                self.visible += int(
                    np.sum(np.asarray(info['keypoints_visible']) > 0))

    def _add_boxes(self, boxes: list[dict]) -> None:
        # those of phrases have no class
        self.are_known |= all('bbox_label' in box for box in boxes)
        for box in boxes:
            if box.get('ignore_flag'):
                self.ignored += 1
            elif 'bbox_label' in box:
                self.counts[int(box['bbox_label'])] += 1


def _numbers_like_coco(dataset: Any, classes: list[str]) -> bool:
    """Whether mmdet's CocoDataset reads the file, with classes of the user."""
    kind = type(dataset)
    # not imported yet, the data is of another library
    coco = getattr(sys.modules.get('mmdet.datasets'), 'CocoDataset', None)
    if coco is None or not isinstance(dataset, coco):
        return False
    if (kind.load_data_list is not coco.load_data_list
            or not hasattr(dataset, 'cat2label')):
        return False
    # a data set that mmdet knows, with the names that mmdet gives it
    is_known = kind is not coco and list(kind.METAINFO.get('classes',
                                                           [])) == classes
    return not is_known and os.path.isfile(dataset.ann_file)


def _check_names(key: str, dataset: Any, classes: list[str]) -> str:
    """Compare the classes with the names in the annotations.

    Returns:
        str: A warning of classes that they lack, or nothing.
    """
    if _numbers_like_coco(dataset, classes):
        return check_coco_names(key, classes, dataset.ann_file)
    paths = [info.get('xml_path', '') for info in _infos(dataset, MOST_FILES)]
    found = xml_names(path for path in paths if os.path.isfile(path))
    if found:
        return check_found(key, classes, found, os.path.dirname(paths[0]))
    # mmpretrain numbers folders in alphabetical order
    folders = getattr(dataset, 'folder_to_idx', None) or {}
    if set(folders) != set(classes):
        return ''
    for name, label in folders.items():
        if classes[label] != name:
            raise ValueError(
                f'{key}: label {label} is the folder {name!r} and is called '
                f'{classes[label]!r}. Folders are numbered in alphabetical '
                'order: write metainfo.classes in it, or leave them out')
    return ''


def _check_keypoints(key: str, labels: Labels, wanted: int | None) -> None:
    if not labels.keypoints or wanted is None:
        return
    if labels.keypoints != {wanted}:
        raise ValueError(
            f'{key}: persons have {sorted(labels.keypoints)} keypoints, and '
            f'the metainfo names {wanted}. Choose the dataset type, or the '
            'metainfo, of these annotations')
    if not labels.visible:
        raise NoLabels(f'{key}: no keypoint is annotated as visible')


def check_dataset(key: str, dataset: Any) -> None:
    """Check that a dataset has something to learn, under the right names.

    Args:
        key (str): Its config key, for messages.
        dataset (BaseDataset): A built dataset without wrappers.

    Raises:
        ValueError: If it has no label, labels that are no classes, classes
            under each other's names, or another number of keypoints than its
            ``metainfo`` says. Names the classes.
    """
    check_classes(key, dataset.metainfo.get('classes'))
    classes = _classes(dataset)
    warning = _check_names(key, dataset, classes) if classes else ''
    labels = Labels(dataset)
    _check_keypoints(key, labels, dataset.metainfo.get('num_keypoints'))
    named = f' of metainfo.classes ({listed(classes)})' if classes else ''
    if not len(dataset):
        raise NoLabels(
            f'{key}: no image is left. Either {dataset.ann_file!r} has none, '
            f'or filter_cfg drops all, because none has a box{named}')
    if not labels.are_known:
        return
    if not labels.counts:
        reason = (f'{labels.ignored} boxes are marked as difficult or crowds, '
                  'which training ignores' if labels.ignored else
                  'boxes without area or outside of the image are dropped')
        raise NoLabels(f'{key}: none of {len(dataset)} images has a box or '
                       f'label{named}; {reason}')
    wrong = [i for i in labels.counts if not 0 <= i < len(classes)]
    if classes and wrong:
        raise ValueError(
            f'{key}: label {wrong[0]} is none of the {len(classes)} '
            f'metainfo.classes, numbered from 0: {listed(classes)}')
    unseen = [name for i, name in enumerate(classes) if not labels.counts[i]]
    # the rare ones of a large dataset may not be among those looked at
    if unseen and not warning and labels.num_images == len(dataset):
        warning = f'{key}: no box or label of {listed(unseen)}'
    if warning:
        _warn(warning)
    counts = [f'{n} {labels.counts[i]}' for i, n in enumerate(classes[:20])]
    print_log(
        f'{key}: {sum(labels.counts.values())} labels in '
        f'{labels.num_images} of {len(dataset)} images: '
        f'{", ".join(counts)}{", ..." if len(classes) > 20 else ""}',
        logger='current')


def _compare(classes: dict[str, list[str]]) -> None:
    """Warn where one dataset's labels mean another's classes."""
    known = {key: names for key, names in classes.items() if names}
    for first, wanted in list(known.items())[:1]:
        for key, found in known.items():
            pairs = enumerate(zip(wanted, found))
            label = next((i for i, (a, b) in pairs if a != b),
                         min(len(wanted), len(found)))
            if wanted != found:
                _warn(f'the classes of {first} and {key} differ from label '
                      f'{label} on: {listed(wanted[label:])}; '
                      f'{listed(found[label:])}')


def _load(prepare: Any, dataset: Any, index: int) -> Any:
    """Load an image and augment it; where that fails, name the file."""
    try:
        return prepare(index)
    except Exception as error:
        path = dataset.get_data_info(index).get('img_path')
        if not isinstance(path, str):
            raise
        is_empty = os.path.isfile(path) and not os.path.getsize(path)
        reason = 'the file is empty' if is_empty else (
            f'{type(error).__name__}: {error}')
        raise RuntimeError(
            f'{path} could not be loaded or augmented: {reason}') from error


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Look at the labels before training, and name files that break.

    Class names that no annotation has, or in another order than the
    annotations', give a run that learns nothing or under the wrong names, and
    no message. This hook counts the labels of each class, of the training and
    the validation data, and stops where there are none, or where a label is
    called by another class's name. No image is loaded for that. Later, an
    image that cannot be loaded is named.

    Args:
        only_warn (bool): Warn instead of stopping. Defaults to False.
    """

    priority = 'HIGH'

    def __init__(self, only_warn: bool = False) -> None:
        self.only_warn = only_warn

    def before_train(self, runner: Runner) -> None:
        """Check the datasets of both loops.

        Raises:
            ValueError: See :func:`check_dataset`.
        """
        loops = dict(
            train_dataloader=runner.train_loop, val_dataloader=runner.val_loop)
        classes = {}
        for name, loop in loops.items():
            loader = getattr(loop, 'dataloader', None)
            dataset = getattr(loader, 'dataset', None)
            datasets = dict(inner_datasets(dataset, f'{name}.dataset'))
            self._check(datasets)
            for key, inner in datasets.items():
                classes[key] = _classes(inner)
                # of this object, so that worker processes have it, too
                inner.prepare_data = partial(_load, inner.prepare_data, inner)
        _compare(classes)

    def _check(self, datasets: dict[str, Any]) -> None:
        empty = []
        for key, dataset in datasets.items():
            try:
                check_dataset(key, dataset)
            except NoLabels as error:
                # the first images of many, for a trial
                if getattr(dataset, '_indices', None) is not None:
                    _warn(f'{error}. They are chosen by indices')
                else:
                    empty.append(error)
            except ValueError as error:
                self._stop(error)
        for error in empty:
            # images of background beside others are all right
            if len(empty) < len(datasets):
                _warn(str(error))
            else:
                self._stop(error)

    def _stop(self, error: ValueError) -> None:
        if self.only_warn:
            _warn(str(error))
            return
        raise ValueError(
            f'{error}. To train nevertheless: dict('
            "type='mmcompress.CheckDataHook', only_warn=True)") from error
