from types import SimpleNamespace

import pytest
import torch
from hooks.toy_runner import LossLog, ToyModel, toy_runner
from mmengine.structures import BaseDataElement

import mmcompress.compat  # noqa: F401
from mmcompress.hooks import NonFiniteLossHook
from mmcompress.hooks.non_finite_loss import image_paths

NAN, INF = float('nan'), float('inf')


def sample(path):
    return BaseDataElement(metainfo=dict(img_path=path))


def check(outputs, data_batch=None):
    outputs = {key: torch.tensor(value) for key, value in outputs.items()}
    NonFiniteLossHook().after_train_iter(
        SimpleNamespace(iter=11), 11, data_batch, outputs)


def test_finite_losses_pass():
    check(dict(loss=1e30, loss_cls=0.0, acc=NAN))
    NonFiniteLossHook().after_train_iter(SimpleNamespace(iter=0), 0)


@pytest.mark.parametrize('value', [NAN, INF, -INF])
def test_names_the_losses_the_images_and_the_causes(value):
    batch = dict(
        inputs=[torch.zeros(1)] * 2,
        data_samples=[sample('a/1.jpg'), sample('a/2.jpg')])
    with pytest.raises(RuntimeError) as error:
        check(dict(loss=value, loss_cls=0.25, loss_bbox=value), batch)
    message = str(error.value)
    assert f'iteration 12: loss = {value}, loss_bbox = {value}' in message
    assert '(finite: loss_cls = 0.25)' in message
    assert 'a/1.jpg\na/2.jpg\n' in message
    for cause in ('min_gt_bbox_wh=(1, 1)', 'learning rate', 'clip', '--amp'):
        assert cause in message


def test_says_when_the_images_are_unknown():
    with pytest.raises(RuntimeError, match='meta_keys'):
        check(dict(loss=NAN), dict(data_samples=[BaseDataElement()]))


@pytest.mark.parametrize('data_batch, expected', [
    (dict(data_samples=[sample('a'), sample('b')]), ['a', 'b']),
    (dict(data_samples=dict(sup=[sample('a')], unsup=[sample('b')])),
     ['a', 'b']),
    (dict(inputs=torch.zeros(1), data_samples=sample(['a', 'b'])), ['a', 'b']),
    ([dict(data_samples=[sample('a')]), [sample('b')]], ['a', 'b']),
    (dict(data_samples=[BaseDataElement()]), []),
    (dict(inputs=torch.zeros(1)), []),
    (torch.zeros(1), []),
    (None, []),
])
def test_finds_the_paths_in_any_nesting(data_batch, expected):
    assert image_paths(data_batch) == expected


@pytest.mark.parametrize('library, packer, sample_class', [
    ('mmdet', 'PackDetInputs', 'DetDataSample'),
    ('mmpose', 'PackPoseInputs', 'PoseDataSample'),
    ('mmseg', 'PackSegInputs', 'SegDataSample'),
    ('mmpretrain', 'PackInputs', 'DataSample'),
])
def test_finds_the_paths_of_every_library(library, packer, sample_class):
    transforms = pytest.importorskip(f'{library}.datasets.transforms')
    import numpy as np
    packed = getattr(transforms, packer)()(
        dict(
            img=np.zeros((4, 4, 3), dtype=np.uint8),
            img_path='a.jpg',
            img_shape=(4, 4)))
    assert type(packed['data_samples']).__name__ == sample_class
    batch = {key: [value] for key, value in packed.items()}
    assert image_paths(batch) == ['a.jpg']


class BrokenModel(ToyModel):

    def forward(self, inputs, mode='tensor'):
        result = super().forward(inputs, mode)
        if mode == 'loss':
            result['loss_other'] = self.linear.bias.sum() * NAN
        return result


def test_stops_before_a_checkpoint_is_written(tmp_path):
    log = LossLog()
    runner = toy_runner(
        tmp_path,
        'iter',
        hooks=[log, dict(type='mmcompress.NonFiniteLossHook')],
        model=dict(type=BrokenModel),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=1,
                            by_epoch=False)))
    with pytest.raises(RuntimeError, match='loss_other = nan'):
        runner.train()
    assert log.losses == []
    assert not list(tmp_path.glob('*.pth'))
