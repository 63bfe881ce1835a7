"""Configs of the project, and what is learnt by filtered gradients."""
import copy
from pathlib import Path

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from gradient_filter import FilterGradients, GradientFilterConv2d
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

import mmcompress.compat  # noqa: F401
from mmcompress.model.config import without_downloads

CONFIGS = Path(__file__).parents[1] / 'configs'
FILES = sorted(CONFIGS.glob('*.py'))
QUICK = ('_mini', 'deeplabv3_r18_10l_voc12aug')


# reading the configs of mmseg takes long
@pytest.mark.parametrize('file', [
    pytest.param(
        file,
        id=file.stem,
        marks=() if file.stem.endswith(QUICK) else pytest.mark.slow)
    for file in FILES
])
def test_every_config_builds(file):
    cfg = Config.fromfile(file)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        if 'data_preprocessor' in cfg:
            cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        model = MODELS.build(cfg.model)
    without_downloads(model)
    convs = [m for m in model.modules() if isinstance(m, GradientFilterConv2d)]
    step, = cfg.model.steps
    assert bool(convs) == bool(step['layers'])
    assert all(m.weight.requires_grad for m in convs)
    if '10l' in file.stem:
        assert len(convs) == (5 if 'pspnet' in file.stem else 9)
    # the classifier learns and is exact
    head = getattr(model, 'decode_head', None)
    last = model.head.fc if head is None else head.conv_seg
    assert last.weight.requires_grad
    assert not isinstance(last, GradientFilterConv2d)


def test_the_mini_config_trains(tmp_path, monkeypatch):
    monkeypatch.setenv('MMCOMPRESS_CACHE', str(tmp_path / 'cache'))
    cfg = Config.fromfile(CONFIGS / 'gradient_filter_resnet_mini.py')
    settings = dict(num_train=16, num_val=10)
    for loader in (cfg.train_dataloader, cfg.val_dataloader,
                   cfg.test_dataloader):
        loader.dataset.settings = settings
        loader.batch_size = 8
    cfg.train_dataloader.dataset.dataset.indices = 16
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.default_hooks.checkpoint.interval = 1
    cfg.work_dir = str(tmp_path / 'work')
    cfg.load_from = str(tmp_path / 'pretrained.pth')
    cfg.experiment_name = tmp_path.name
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        plain = MODELS.build(cfg.model.model)
        plain.init_weights()
    # norms behind a residual branch start at zero, and pass no gradient
    for i in (0, 1):
        plain.backbone.layer3[i].bn2.weight.data.fill_(1)
    before = copy.deepcopy(plain.state_dict())
    torch.save(dict(state_dict=before, meta={}), cfg.load_from)
    Runner.from_cfg(cfg).train()
    after = torch.load(
        tmp_path / 'work' / 'epoch_1.pth', weights_only=True)['state_dict']
    assert after.keys() == before.keys()
    changed = {n for n in after if not torch.equal(after[n], before[n])}
    # the statistics of norms among them are not
    assert changed == {
        f'backbone.layer3.{i}.conv{j}.weight'
        for i in (0, 1)
        for j in (1, 2)
    } | {'head.fc.weight', 'head.fc.bias'}
    name = 'backbone.layer3.1.conv1.weight'
    moved = after[name] - before[name]
    torch.testing.assert_close(moved, moved[..., :1, :1].expand_as(moved))


def digits():
    """Digits of 16 x 16 pixels and their labels, to train on and to test."""
    from sklearn.datasets import load_digits
    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 8 - 1
    images = F.interpolate(images, size=16, mode='bilinear')
    labels = torch.from_numpy(data.target)
    return (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


def network():
    layers, last = [], 1
    for channels, stride in ((8, 2), (16, 1), (16, 1), (24, 1), (24, 1)):
        layers += [
            nn.Conv2d(last, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU()
        ]
        last = channels
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *pool, nn.Linear(last, 10))


def train(model, images, labels, epochs, lr, norms_train=False):
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr)
    generator = torch.Generator().manual_seed(0)
    model.train(norms_train)
    for _ in range(epochs):
        for batch in torch.randperm(
                len(images), generator=generator).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def test_it_learns_more_than_the_classifier_and_less_than_exact_gradients():
    torch.manual_seed(0)
    (images, labels), (test_images, test_labels) = digits()
    pretrained = network()
    train(pretrained, images, labels, 5, 0.2, norms_train=True)
    assert accuracy(pretrained, test_images, test_labels) > 0.8
    shifted, shifted_test = (x.rot90(1, (2, 3)) for x in (images, test_images))
    last_two = ['9', '12']
    steps = dict(
        classifier=FilterGradients({}, freeze=['*', '~17']),
        exact=FilterGradients({}, freeze=['*', '~9', '~12', '~17']),
        filtered=FilterGradients(
            dict.fromkeys(last_two, 2), freeze=['*', '~9', '~12', '~17']))
    scores = {}
    for name, step in steps.items():
        model = copy.deepcopy(pretrained)
        step(model)
        # at a larger rate scores depend on how sums are rounded
        train(model, shifted, labels, 4, 0.03)
        scores[name] = accuracy(model, shifted_test, test_labels)
    # 0.12, 0.33, 0.45; with other seeds and threads 0.1 to 0.15, 0.33 to 0.42
    # and 0.45 to 0.51
    assert scores['classifier'] + 0.1 < scores['filtered'] < scores['exact']
