"""Small real models on a few images, on disk, for the tests of results."""
from pathlib import Path

import torch
from distill.models import retinanet
from integration.small_runs import write_config

from mmcompress.analysis.subject import build_subject
from mmcompress.model.config import read_config

ROOT = Path(__file__).parents[2]

CLASSIFIER = '''
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[99.] * 3, std=[50.] * 3, to_rgb=True),
    backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4,
                  stem_channels=4, num_stages=2, strides=(2, 2),
                  dilations=(1, 1), out_indices=(1, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=8))
val_dataloader = dict(
    batch_size=4, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmcompress.Rendered', task='classification',
        settings=dict(num_train=10, num_val=10),
        dataset=dict(type='CustomDataset', data_prefix='val'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
val_evaluator = dict(type='Accuracy', topk=(1, ))
'''
BASED = '''
_base_ = {base!r}
val_dataloader = dict(batch_size=2, dataset=dict(
    settings=dict(num_train=1, num_val=2)))
test_dataloader = val_dataloader
'''


def save(folder: Path, name: str) -> tuple[str, str]:
    """Random weights of the model of ``NAME.py``, and that config."""
    config = str(folder / f'{name}.py')
    torch.manual_seed(0)
    model = build_subject(read_config(config))
    path = folder / f'{name}.pth'
    torch.save(dict(state_dict=model.state_dict(), optimizer=[0] * 99), path)
    return config, str(path)


def classifier(folder: Path) -> tuple[str, str]:
    """Config and checkpoint of a classifier of 32 x 32 pixels."""
    (folder / 'classifier.py').write_text(CLASSIFIER)
    return save(folder, 'classifier')


def detector(folder: Path) -> tuple[str, str]:
    """Config and checkpoint of a RetinaNet that is sure of nothing."""
    model = retinanet(num_classes=10)
    model['test_cfg'].update(score_thr=0.0, max_per_img=20)
    write_config(folder / 'detector.py', model)
    return save(folder, 'detector')


def mini(folder: Path, name: str, base: str) -> tuple[str, str]:
    """Config and checkpoint of a mini config, on two images."""
    (folder / f'{name}.py').write_text(
        BASED.format(base=str(ROOT / 'configs' / base)))
    return save(folder, name)
