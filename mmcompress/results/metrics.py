"""Names and units of the libraries' metrics, for people."""
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        name (str): As people call it.
        factor (float): 100 for fractions that are written in percent.
        digits (int): Behind the point.
        higher_is_better (bool): False for errors.
    """
    name: str
    factor: float = 1
    digits: int = 2
    higher_is_better: bool = True

    def text(self, value: float | None) -> str:
        """A value, rounded; ``'-'`` without one.

        mmdet writes -1 where there is nothing to find.
        """
        if value is None or not math.isfinite(value) or value < 0:
            return '-'
        return f'{self.factor * value:.{self.digits}f}'

    def difference(self, value: float | None, base: float | None) -> str:
        """How much a value is above another, of the rounded ones."""
        if '-' in (shown := (self.text(value), self.text(base))):
            return '-'
        return f'{float(shown[0]) - float(shown[1]):+.{self.digits}f}'


# by regular expressions of keys; that which counts before others comes first
_KNOWN = {
    r'coco/bbox_mAP': Metric('box AP', 100, 1),
    r'coco/segm_mAP': Metric('mask AP', 100, 1),
    r'coco/bbox_mAP_(\d+)': Metric(r'box AP\1', 100, 1),
    r'coco/segm_mAP_(\d+)': Metric(r'mask AP\1', 100, 1),
    r'coco/bbox_mAP_([sml])': Metric(r'box AP, \1', 100, 1),
    r'coco/segm_mAP_([sml])': Metric(r'mask AP, \1', 100, 1),
    r'pascal_voc/mAP': Metric('mAP', 100, 1),
    r'pascal_voc/AP(\d+)': Metric(r'AP\1', 100, 1),
    r'accuracy/top1': Metric('top-1 %', 1, 1),
    r'accuracy/top(\d+)': Metric(r'top-\1 %', 1, 1),
    r'mIoU': Metric('mIoU %', 1, 1),
    r'mDice': Metric('mDice %', 1, 1),
    r'aAcc': Metric('pixel accuracy %', 1, 1),
    r'mAcc': Metric('class accuracy %', 1, 1),
    r'coco-wholebody/AP': Metric('keypoint AP', 100, 1),
    r'coco/AP': Metric('keypoint AP', 100, 1),
    r'(?:[\w-]+/)?AP': Metric('keypoint AP', 100, 1),
    r'coco(?:-wholebody)?/A([PR]) ?\(?(\w+)\)?': Metric(r'A\1 \2', 100, 1),
    r'coco(?:-wholebody)?/AR': Metric('keypoint AR', 100, 1),
    r'multi-label/mAP': Metric('mAP %', 1, 1),
    r'(?:\w+/)?PCKh?(?:@[\d.]+)?': Metric('PCK %', 100, 1),
    r'(?:\w+/)?AUC': Metric('AUC %', 100, 1),
    r'(?:\w+/)?NME': Metric('NME', 100, 2, False),
    r'(?:\w+/)?EPE': Metric('EPE, pixels', 1, 2, False),
    r'single-label/(\S+)': Metric(r'\1 %', 1, 1),
    r'multi-label/(\S+)': Metric(r'\1 %', 1, 1),
    r'retrieval/(\S+)': Metric(r'\1 %', 1, 1),
}


def _order(key: str) -> int:
    found = (i for i, known in enumerate(_KNOWN) if re.fullmatch(known, key))
    return next(found, len(_KNOWN))


def describe(key: str) -> Metric:
    """How to show the metric of a key.

    Args:
        key (str): As evaluators call it, ``'coco/bbox_mAP'``.
    """
    for known, metric in _KNOWN.items():
        match = re.fullmatch(known, key)
        if match:
            return Metric(
                match.expand(metric.name), metric.factor, metric.digits,
                metric.higher_is_better)
    return Metric(key, digits=3)


def main_metric(metrics: Mapping[str, float]) -> str:
    """Key of the metric that counts; ``''`` without any.

    Args:
        metrics (Mapping): By key.
    """
    return min(metrics, key=_order, default='')


def common_metrics(forms: Iterable, first: str, most: int = 3) -> list[str]:
    """Keys to show of forms, that which counts first.

    Of others only those that are of a kind of their own, as ``aAcc`` beside
    ``mIoU``, and not of parts, as boxes of one size.

    Args:
        forms (Iterable[Form]): What was measured.
        first (str): What counts.
        most (int): How many.
    """
    keys = dict.fromkeys(k for form in forms for k in form.metrics)
    known = sorted((k for k in keys if _order(k) < len(_KNOWN)), key=_order)
    chosen = [k for k in (first, *known) if k in keys]
    return list(dict.fromkeys(chosen))[:most]
