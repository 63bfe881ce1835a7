"""Records for the tests of what is made of them."""
from dataclasses import replace

from mmcompress.results import Form, Latency, Record


def latency(median: float, **parts: float) -> Latency:
    """Of a call, with an interval around it."""
    return Latency(
        median, 0.9 * median, 1.2 * median, 40, size=[480, 640], parts=parts)


def record(**changed) -> Record:
    """A detector as float, compressed and packed."""
    score = {'coco/bbox_mAP': .4123, 'coco/bbox_mAP_50': .612,
             'coco/bbox_mAP_s': -1.}  # yapf: disable
    forms = [
        Form('float', 'my.py', 'my.pth', 'float', score, 11_181_642,
             44_812_345, latency(123.4, backbone=100., rest=23.4)),
        Form('packed', 'packed.py', 'packed.pth', 'w8a8',
             {**score, 'coco/bbox_mAP': .4087}, 11_182_642, 11_212_345,
             latency(60.4, backbone=40., neck=1.2, rest=19.2))
    ]  # yapf: disable
    return replace(
        Record(
            'compress',
            'detection',
            'RetinaNet', ['LSQ'],
            'my.py',
            'abc',
            forms,
            metric='coco/bbox_mAP',
            data='200 images of cells',
            machine='some CPU',
            settings=dict(bits='8', exclude=['bbox_head'], train=False),
            remarks=['1x1 convolutions: slower; left <float>.']), **changed)
