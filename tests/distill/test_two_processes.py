"""Distillation in two processes, as DDP runs it: no unused parameters."""
import socket
from functools import partial

import pytest
import torch
from distill import models
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmcompress.compat import close_process_group
from mmcompress.model.inputs import made_up_batch

SCOPES = dict(classifier='mmpretrain', detector='mmdet')


def classifier(channels):
    """Config of a small ResNet."""
    return dict(
        type='mmpretrain.ImageClassifier',
        _scope_='mmpretrain',
        backbone=dict(
            type='ResNet_CIFAR',
            depth=18,
            base_channels=channels,
            stem_channels=channels,
            num_stages=2,
            strides=(1, 2),
            dilations=(1, 1),
            out_indices=(1, )),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead', num_classes=5, in_channels=2 * channels))


def loss(kind, tap, **kwargs):
    return dict(type=f'mmcompress.{kind}', student=tap, teacher=tap, **kwargs)


ADAPTED = dict(student_channels=8, teacher_channels=16)
NECK = dict(student_channels=16, teacher_channels=24, num_levels=5)
# means over images, or over what each image has equally many of
CONFIGS = dict(
    classifier=dict(
        student=classifier(4),
        teacher=classifier(8),
        losses=dict(
            loss_kd=loss('KDLoss', 'head', tau=2.0),
            loss_nkd=loss('NKDLoss', 'head'),
            loss_cwd=loss('CWDLoss', 'backbone.layer2', **ADAPTED),
            loss_mgd=loss(
                'MGDLoss',
                'backbone.layer2',
                # the draws of masks differ between processes
                lambda_mgd=0.0,
                alpha_mgd=1e-2,
                **ADAPTED),
            loss_fea=loss('DWPoseFeatureLoss', 'backbone.layer2', **ADAPTED))),
    detector=dict(
        student=models.retinanet(),
        teacher=models.retinanet(channels=24),
        losses=dict(
            loss_fgd=loss('FGDLoss', 'neck', temp=0.5, **NECK),
            loss_mgd=loss('MGDLoss', 'neck', lambda_mgd=0.0, **NECK))))


class Distillation(nn.Module):
    """The distillation losses of a model; the task's get a zero gradient."""

    def __init__(self, name: str) -> None:
        super().__init__()
        cfg = CONFIGS[name]
        self.names = list(cfg['losses'])
        teacher = dict(cfg=cfg['teacher'], checkpoint=None, allow_random=True)
        self.model = models.build(
            models.distill(cfg['student'], teacher, cfg['losses']))
        self.model.init_weights()

    def forward(self, **data) -> Tensor:
        losses = self.model(**data, mode='loss')
        total, _ = self.model.parse_losses(losses)
        ours = {
            key: value
            for key, value in losses.items() if key.split('.')[0] in self.names
        }
        return self.model.parse_losses(ours)[0] + 0 * total


def gradients(name, part=slice(None), wrap=lambda net: net):
    """Of the sum of the losses on a part of the batch."""
    # in train mode, BN's statistics are those of a process
    net = Distillation(name).eval()
    data = made_up_batch(net.model, SCOPES[name], (64, 64))
    data = {key: value[part] for key, value in data.items()}
    parallel = wrap(net)
    for _ in range(2):
        # DDP complains about unused parameters in the second step
        net.zero_grad()
        parallel(**data).backward()
    return {key: p.grad for key, p in net.named_parameters()}


def _train_in_a_process(rank, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    for name in CONFIGS:
        grads = gradients(
            name, slice(rank, rank + 1),
            partial(DistributedDataParallel, find_unused_parameters=False))
        torch.save(grads, f'{folder}/{name}_{rank}.pth')
    close_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path):
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    # not forked: threads that other tests started would be missing there
    torch.multiprocessing.spawn(
        _train_in_a_process, (port, str(tmp_path)), nprocs=2)
    for name in CONFIGS:
        expected = gradients(name)
        assert any(grad.any() for grad in expected.values())
        for rank in (0, 1):
            actual = torch.load(tmp_path / f'{name}_{rank}.pth')
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)
