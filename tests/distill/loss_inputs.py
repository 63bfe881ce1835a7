"""Inputs of losses that more than one file of tests needs."""
from types import SimpleNamespace

import torch
from mmengine.structures import InstanceData

IMAGE = (64, 96)


def randn(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, *shape, generator=generator)


def detected(*boxes):
    """Data samples of mmdet with these boxes."""
    metainfo = dict(img_shape=IMAGE, batch_input_shape=IMAGE)
    return [
        SimpleNamespace(
            gt_instances=InstanceData(bboxes=b), metainfo=metainfo)
        for b in boxes
    ]


NONE = torch.zeros(0, 4)
BOXES = detected(
    torch.tensor([[10.0, 8, 50, 40], [40, 20, 90, 60]]),
    torch.tensor([[0.0, 0, 96, 64]]))


def queries(channels, seed, *others):
    """Queries on the objects of BOXES, and others; exact in half precision."""
    boxes = torch.tensor([
        [[.3125, .375, .4375, .5], [.6875, .625, .5, .625], *others],
        [[.5, .5, 1, 1], [.5, .5, .875, 1], *others],
    ])
    return dict(
        features=randn(boxes.shape[1], channels, seed=seed), boxes=boxes)


AWAY = [.125, .125, .125, .125], [.875, .125, .125, .25]
