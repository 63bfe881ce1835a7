"""The detectors of the mini configs, and images for them."""
import copy
import functools
from pathlib import Path

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.config import utils as config_utils
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

import mmcompress.compat  # noqa: F401

CONFIGS = Path(__file__).parents[1] / 'configs'
# mmengine reads all metafiles of a library at every `mmdet::` base
config_utils.load = functools.cache(config_utils.load)


@functools.cache
def read(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


def make(name, changes):
    cfg = Config(read(name).to_dict())
    cfg.merge_from_dict({f'model.{k}': v for k, v in changes.items()})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    return model


@functools.cache
def original(name):
    return make(name, {})


def build(name, **changes):
    return make(name, changes) if changes else copy.deepcopy(original(name))


def batch(boxes=((10, 12, 34, 44), (40, 30, 60, 62)), num=2):
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(num):
        boxes_ = torch.tensor(boxes, dtype=torch.float).view(-1, 4)
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(64, 96), ori_shape=(64, 96), scale_factor=(1, 1)))
        sample.gt_instances = InstanceData(
            bboxes=boxes_, labels=torch.arange(len(boxes_)))
        samples.append(sample)
    images = torch.randint(
        256, (num, 3, 64, 96), dtype=torch.uint8, generator=generator)
    return dict(inputs=list(images), data_samples=samples)


def step(model, data, lr=1e-3):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return model.train().train_step(data, OptimWrapper(optimizer))


def losses_of(model, data):
    data = model.data_preprocessor(data, True)
    return model.train()(**data, mode='loss')
