from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from distill.models import build, detection_scope, distill, retinanet
from mmengine.config import Config

import mmcompress.compat  # noqa: F401
from mmcompress.cache import cached_teacher
from mmcompress.hooks import CacheTeacherHook
from mmcompress.model.cached import find_cached, identity
from mmcompress.model.config import read_config


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MMCOMPRESS_CACHE', str(tmp_path))


def config_of(model=None, root='a/', **data):
    dataset = dict(
        type='CocoDataset',
        data_root=root,
        ann_file='train.json',
        pipeline=[dict(type='LoadImageFromFile')])
    return Config(
        dict(
            model=model or retinanet(),
            train_dataloader=dict(dataset={
                **dataset,
                **data
            })))


def keep(cfg, seed=0, name='t'):
    """Train and keep, without the training; returns the model."""
    model = build(cfg.model, seed)
    said = []
    log = SimpleNamespace(info=said.append, warning=said.append)
    loader = SimpleNamespace(dataset=None)
    CacheTeacherHook(name).after_train(
        SimpleNamespace(
            model=model, cfg=cfg, train_dataloader=loader, logger=log))
    return model, said


def kept_in(path):
    return torch.load(path, weights_only=True)['state_dict']


OTHERS = [
    dict(metainfo=dict(classes=('x', 'y', 'z'))),
    dict(root='own/'),
    dict(type='VOCDataset'),
    dict(model=retinanet(num_classes=5)),
    dict(model=retinanet(channels=8)),
]


@pytest.mark.parametrize('change', OTHERS)
def test_another_model_or_other_data_overwrites_nothing(change):
    first, said = keep(config_of())
    assert len(said) == 1
    own = config_of(**change)
    second, said = keep(own, seed=1)
    assert 'is of another model or of other data, and stays' in said[0]
    assert find_cached('t', config_of()) == Path(cached_teacher('t'))
    found = find_cached('cache://t', own)
    assert found != Path(cached_teacher('t'))
    for model, path in ((first, cached_teacher('t')), (second, found)):
        assert torch.equal(
            kept_in(path)['neck.lateral_convs.0.conv.weight'],
            model.neck.lateral_convs[0].conv.weight)


def test_the_order_of_training_does_not_matter():
    """The shared teacher is not taken for one's own that came first."""
    keep(config_of(type='VOCDataset'), seed=1)
    missing = find_cached('t', config_of())
    assert not missing.exists()
    keep(config_of())
    assert find_cached('t', config_of()) == missing and missing.exists()


def test_training_the_same_again_replaces_it():
    keep(config_of())
    again = retinanet()
    # how it is trained doesn't change what it is
    again['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='x')
    again['train_cfg']['pos_weight'] = 1
    again['bbox_head']['loss_cls']['gamma'] = 3
    model, said = keep(config_of(again, pipeline=[]), seed=1)
    assert len(said) == 1
    assert torch.equal(
        kept_in(cached_teacher('t'))['neck.lateral_convs.0.conv.weight'],
        model.neck.lateral_convs[0].conv.weight)


def test_the_same_data_may_lie_elsewhere_when_it_is_used():
    keep(config_of(root='/mnt/coco/'))
    assert find_cached('t', config_of()) == Path(cached_teacher('t'))


def test_a_config_that_is_only_a_model_finds_its_weights():
    keep(config_of())
    model = Config(dict(model=retinanet()))
    assert find_cached('t', model) == Path(cached_teacher('t'))
    other = Config(dict(model=retinanet(channels=8)))
    assert find_cached('t', other) != Path(cached_teacher('t'))


def old_one(model):
    path = Path(cached_teacher('t'))
    path.parent.mkdir(exist_ok=True)
    meta = dict(dataset_meta=dict())
    torch.save(dict(state_dict=build(model).state_dict(), meta=meta), path)
    return path


def test_those_that_say_nothing_of_themselves_stay_usable():
    path = old_one(retinanet())
    assert find_cached('t', config_of()) == path
    # and are replaced by what has the same weights only
    keep(config_of(retinanet(channels=8)))
    assert kept_in(path)['neck.lateral_convs.0.conv.weight'].shape[0] == 16
    keep(config_of())
    assert torch.load(path, weights_only=True)['meta']['trained_with']


def test_one_of_another_model_says_how_to_make_the_right_one():
    path = old_one(retinanet(channels=8))
    teacher = dict(cfg=retinanet(), checkpoint='cache://t')
    with pytest.raises(
            RuntimeError,
            match=rf'does not fit RetinaNet.*remove {path} and train the '
            r'teacher.*tools/train.py'):
        build(distill(teacher=teacher)).init_weights()


def test_a_teacher_of_other_data_is_told_of():
    keep(config_of(type='VOCDataset'))
    teacher = dict(cfg=config_of().to_dict(), checkpoint='cache://t')
    with detection_scope(), pytest.raises(
            FileNotFoundError, match='t.pth is of another model or of other'):
        build(distill(teacher=teacher)).init_weights()


def test_nothing_is_kept_without_a_name():
    _, said = keep(config_of(), name=None)
    assert not said and not list(Path(cached_teacher('t')).parent.glob('*'))


def test_a_distilled_model_is_what_remains_of_it():
    plain = identity(config_of())
    assert identity(config_of(distill())) == plain


def test_mini_configs_are_told_apart_from_own_data():
    config = 'configs/ida_det/ida_det_teacher_mini.py'
    mini = read_config(config)
    longer = read_config(config, {'train_cfg.max_epochs': 99})
    assert identity(mini) == identity(longer)
    own = read_config(config)
    own.train_dataloader.dataset = config_of().train_dataloader.dataset
    assert identity(mini) != identity(own)
