"""Metrics of the evaluators of mm libraries, for people."""
# key as logged: how it is called, and the factor to percent
_METRICS = {
    'accuracy/top1': ('top-1', 1),
    'coco/bbox_mAP': ('box AP', 100),
    'coco/segm_mAP': ('mask AP', 100),
    'coco-wholebody/AP': ('whole-body AP', 100),
    'coco/AP': ('keypoint AP', 100),
    'pascal_voc/mAP': ('mAP at IoU 0.5', 100),
    'pascal_voc/AP50': ('AP50', 100),
    'mIoU': ('mean IoU', 1),
    'PCK': ('PCK', 100),
    'i2t': ('image-to-text recall@1', 1),
}


def main_metric(metrics: dict[str, float]) -> str:
    """The key of the metric that counts: the first known one."""
    known = [key for key in _METRICS if key in metrics]
    return known[0] if known else next(iter(metrics), '')


def metric_name(key: str) -> str:
    """As tables call it; the key itself if it is unknown."""
    return _METRICS.get(key, (key, 1))[0]


def to_percent(key: str) -> float:
    """What a value is multiplied with; 1 if the metric is unknown."""
    return _METRICS.get(key, (key, 1))[1]
