"""Whether a file predicts what the model does."""
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from .running import FilePredictor, Image, images_of

#: Pixels, and parts of 1, by which equal predictions differ at most.
TOLERANCE = dict(position=0.01, score=0.001)
#: Those of near ones: codes of a quantized model round to the other side.
NEAR = dict(position=1., score=0.01)
# boxes of the same class that overlap less aren't compared
_OVERLAP = 0.5


@dataclass(frozen=True)
class Predictions:
    """Predictions of a file, beside those of the model in PyTorch.

    Attributes:
        of (str): What is compared: boxes, images, pixels or keypoints.
        images (int): How many.
        expected (int): Predictions of the model.
        found (int): Predictions of the file.
        matched (int): Those that were compared: of boxes, those of one class
            that overlap; else all.
        equal (int): Those of them that agree: same class, a position within
            0.01 pixels of the original image, a score within 0.001.
        near (int): As ``equal``, within 1 pixel and 0.01.
        position (float | None): The largest difference of two coordinates, in
            pixels; None without positions.
        score (float | None): The largest difference of two scores; None
            without scores.
    """
    of: str
    images: int
    expected: int
    found: int
    matched: int
    equal: int
    near: int
    position: float | None
    score: float | None

    @property
    def share(self) -> float:
        """Share of equal predictions, of those of whoever has more."""
        return self.equal / max(self.expected, self.found, 1)


def match_boxes(expected: Tensor, found: Tensor, expected_labels: Tensor,
                found_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of boxes of one class that overlap most, each box in one at most.

    Args:
        expected (Tensor): Shape (N, 4), best first.
        found (Tensor): Shape (M, 4).
        expected_labels (Tensor): Shape (N, ).
        found_labels (Tensor): Shape (M, ).

    Returns:
        tuple[Tensor, Tensor]: Places in both, shape (pairs, ).
    """
    low = torch.maximum(expected[:, None, :2], found[None, :, :2])
    high = torch.minimum(expected[:, None, 2:], found[None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).prod(-1) for x in (expected, found)]
    union = areas[0][:, None] + areas[1] - common
    overlap = common / union.clamp(min=1e-12)
    # boxes without an area are themselves
    same = (expected[:, None] - found).abs().amax(-1) <= TOLERANCE['position']
    overlap = torch.where(same, 1, overlap)
    overlap[expected_labels[:, None] != found_labels] = 0
    pairs = []
    for i in range(len(expected)):
        if len(found) == 0:
            break
        best = int(overlap[i].argmax())
        if overlap[i, best] >= _OVERLAP:
            pairs.append((i, best))
            overlap[:, best] = 0
    places = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return places[:, 0], places[:, 1]


class _Counts:
    """Adds up what becomes :class:`Predictions`."""

    def __init__(self, of: str) -> None:
        self.of = of
        self.images = self.expected = self.found = self.matched = 0
        self.equal = self.near = 0
        self.position = self.score = None

    def add(self, expected: int, found: int, same: Tensor,
            position: Tensor | None, score: Tensor | None) -> None:
        """Of an image: numbers, and of each pair what is equal."""
        self.images += 1
        self.expected += expected
        self.found += found
        self.matched += len(same)
        near = same
        for key, value in (('position', position), ('score', score)):
            if value is None:
                continue
            before = getattr(self, key) or 0.
            largest = float(value.max()) if len(value) else 0.
            setattr(self, key, max(before, largest))
            same = same & (value <= TOLERANCE[key])
            near = near & (value <= NEAR[key])
        self.equal += int(same.sum())
        self.near += int(near.sum())

    def done(self) -> Predictions:
        return Predictions(**vars(self))


def _boxes(expected: Any, found: Any) -> tuple:
    a, b = expected.pred_instances, found.pred_instances
    i, j = match_boxes(a.bboxes, b.bboxes, a.labels, b.labels)
    same = torch.ones(len(i), dtype=torch.bool)
    position = (a.bboxes[i] - b.bboxes[j]).abs().amax(-1)
    return len(a), len(b), same, position, (a.scores[i] - b.scores[j]).abs()


def _classes(expected: Any, found: Any) -> tuple:
    a, b = expected.pred_label, found.pred_label
    same = a.shape == b.shape and bool((a == b).all())
    score = (expected.pred_score - found.pred_score).abs().max()
    return 1, 1, torch.tensor([same]), None, score[None]


def _pixels(expected: Any, found: Any) -> tuple:
    a, b = (x.pred_sem_seg.data.flatten() for x in (expected, found))
    return len(a), len(b), a == b, None, None


def _keypoints(expected: Any, found: Any) -> tuple:
    a, b = expected.pred_instances, found.pred_instances
    position = torch.tensor(a.keypoints - b.keypoints).abs().amax(-1).flatten()
    score = torch.tensor(a.keypoint_scores - b.keypoint_scores).abs().flatten()
    same = torch.ones(len(score), dtype=torch.bool)
    return len(score), len(score), same, position, score


_KINDS = dict(
    mmdet=('boxes', _boxes),
    mmpretrain=('images', _classes),
    mmseg=('pixels', _pixels),
    mmpose=('keypoints', _keypoints))


def _predict(model: nn.Module, image: Image) -> Any:
    """The model's own prediction, padded as the file pads."""
    sample = image.sample_of_padded()
    return model(image.padded, [sample], mode='predict')[0]


@torch.no_grad()
def compare_predictions(predictor: FilePredictor,
                        model: nn.Module,
                        batches: Iterable,
                        limit: int | None = None) -> Predictions:
    """Compare what a file predicts with what the model itself does.

    Args:
        predictor (FilePredictor): Of the file.
        model (nn.Module): In eval mode.
        batches (Iterable): Of a data loader.
        limit (int | None): The most images that are looked at.
    """
    network = predictor.network
    of, differences = _KINDS[network.library]
    counts = _Counts(of)
    images = chain.from_iterable(
        images_of(network, model, batch) for batch in batches)
    for image in islice(images, limit):
        counts.add(
            *differences(_predict(model, image), predictor.predict(image)))
    return counts.done()
