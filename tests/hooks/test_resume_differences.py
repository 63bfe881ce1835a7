"""What a run that resumes says of a config that has changed."""
import copy

import pytest
import torch
from hooks.toy_runner import LossLog, ToyDataset, ToyModel, toy_runner
from mmengine.config import Config
from torch import nn

import mmcompress.compat  # noqa: F401
from mmcompress.hooks import ExactResumeHook, PlainCheckpointHook
from mmcompress.hooks.resume_differences import config_differences, settings_of

BY_ITERS = dict(by_epoch=False, end=10, start_factor=0.1, type='LinearLR')
COSINE = dict(
    type='CosineAnnealingLR', T_max=4, by_epoch=True,
    convert_to_iter_based=True)  # yapf: disable


class Classifier(ToyModel):
    """With some classes, and a loss that has weights of its own."""

    def __init__(self, classes=2, adapter=False, extra=False):
        super().__init__()
        self.linear = nn.Linear(3, classes)
        self.norm = nn.BatchNorm1d(classes)
        if adapter:
            self.adapter = nn.Linear(1, 1)
        if extra:
            self.extra = nn.Linear(1, 1)


def loader(batch_size=2, num_samples=8, by_epoch=True, **kwargs):
    dataset = ToyDataset()
    dataset.__class__ = type('Sized', (ToyDataset, ),
                             dict(__len__=lambda _: num_samples))
    return dict(
        dataset=dataset,
        batch_size=batch_size,
        num_workers=0,
        sampler=dict(
            type='DefaultSampler' if by_epoch else 'InfiniteSampler',
            shuffle=True),
        collate_fn=dict(type='default_collate'),
        **kwargs)


def sgd(lr=0.01, momentum=0.9, **kwargs):
    return dict(optimizer=dict(
        type='SGD', lr=lr, momentum=momentum, **kwargs))  # yapf: disable


def run(folder, loop='epoch', stop_at=None, strict=True, said=None, **kwargs):
    log = LossLog(stop_at)
    kwargs.setdefault('model', dict(type=Classifier))
    runner = toy_runner(
        folder,
        loop, [log, PlainCheckpointHook(),
               ExactResumeHook(strict=strict)],
        val=False,
        **kwargs)
    if said is not None:
        runner.logger.warning = said.append
    return runner, log.train(runner)


def resumed(folder, before, after, loop='epoch', **kwargs):
    """The error of a run that goes on with another config, or its warning."""
    run(folder, loop, stop_at=9, **before)
    said = []
    runner, losses = run(
        folder, loop, resume=True, said=said, **{
            **before,
            **after
        }, **kwargs)
    assert losses
    return ' '.join(text for text in said if 'goes on with other' in text)


MODEL = [
    (dict(model=dict(type=Classifier)),
     dict(model=dict(type=Classifier, classes=3)), [
         r'6 keys of another shape',
         r'linear.weight: \(2, 3\) in the checkpoint, \(3, 3\) in the model',
         r'norm.running_var: \(2,\) in the checkpoint, \(3,\) in the model'
     ]),
    (dict(model=dict(type=Classifier, adapter=True)),
     dict(model=dict(type=Classifier)), [
         r'has 2 keys that the model lacks: adapter.weight, adapter.bias',
         r'parameters in group 0 of the optimizer is 6 .* now 4'
     ]),
    (dict(model=dict(type=Classifier)),
     dict(model=dict(type=Classifier, extra=True)),
     [r'lacks 2 keys of the model: extra.weight, extra.bias']),
    (dict(model=dict(type=Classifier, adapter=True)),
     dict(model=dict(type=Classifier, extra=True)),
     [r'lacks 2 keys .*extra.*has 2 keys .*adapter']),
    (dict(),
     dict(
         optim_wrapper=dict(
             optimizer=dict(type='SGD', lr=0.01, momentum=0.9),
             paramwise_cfg=dict(custom_keys=dict(linear=dict(lr_mult=0.1))))),
     [r'parameters in group 0 of the optimizer is 4 .* now 1']),
]


@pytest.mark.parametrize('momentum', [0.9, 0.0])
@pytest.mark.parametrize('before, after, words', MODEL)
def test_another_model_is_an_error_whatever_else(before, after, words,
                                                 momentum, tmp_path):
    """Also without momentum, where nothing would crash."""
    before = dict(optim_wrapper=sgd(momentum=momentum), **before)
    with pytest.raises(RuntimeError, match='^Cannot resume') as error:
        resumed(tmp_path, before, after, strict=False)
    for word in words:
        assert error.match(word)
    assert 'strict=False' not in str(error.value)


CHANGED = [
    ('epoch', dict(param_scheduler=[COSINE]),
     dict(train_dataloader=loader(batch_size=4)), [
         r'the number of iterations per epoch is 4 in the checkpoint, and '
         r'now 2', r'the batch size, over all processes, is 2 .* now 4',
         r'T_max of CosineAnnealingLR is 16 .* now 8'
     ]),
    ('epoch', {}, dict(train_dataloader=loader(num_samples=12)),
     [r'iterations per epoch is 4 .* now 6', 'samples is 8 .* now 12']),
    ('iter', {},
     dict(train_dataloader=loader(batch_size=4, by_epoch=False)),
     [r'the batch size, over all processes, is 2 .* now 4']),
    ('epoch', {}, dict(optim_wrapper=sgd(lr=0.02)),
     [r'lr of the optimizer is 0.01 .* now 0.02']),
    ('epoch', dict(param_scheduler=None),
     dict(optim_wrapper=sgd(lr=0.02)),
     [r'lr of the optimizer is 0.01 .* now 0.02']),
    ('epoch', {}, dict(optim_wrapper=sgd(momentum=0.5)),
     [r'momentum of the optimizer is 0.9 .* now 0.5']),
    ('epoch', {}, dict(optim_wrapper=sgd(weight_decay=1e-4)),
     [r'weight_decay of the optimizer is 0 .* now 0.0001']),
    ('epoch', {}, dict(param_scheduler=dict(BY_ITERS, end=12)),
     [r'end of LinearLR is 10 .* now 12']),
    ('epoch', {}, dict(param_scheduler=dict(BY_ITERS, start_factor=0.5)),
     [r'start_factor of LinearLR is 0.1 .* now 0.5']),
    ('epoch', {}, dict(param_scheduler=[BY_ITERS, COSINE]),
     [r'the number of schedulers is 1 .* now 2']),
    ('epoch', dict(param_scheduler=dict(type='MultiStepLR', milestones=[1])),
     dict(param_scheduler=dict(type='MultiStepLR', milestones=[1, 3])),
     [r'milestones of MultiStepLR is \{1: 1\}']),
    ('epoch', dict(param_scheduler=dict(type='StepLR', step_size=3)),
     dict(param_scheduler=dict(type='ExponentialLR', gamma=0.1)),
     [r'step_size of ExponentialLR is 3 .* now \(nothing\)']),
]  # yapf: disable


@pytest.mark.parametrize('loop, before, after, words', CHANGED)
def test_other_rates_and_schedules_are_an_error(loop, before, after, words,
                                                tmp_path):
    with pytest.raises(RuntimeError, match='^Cannot resume') as error:
        resumed(tmp_path, before, after, loop)
    for word in words:
        assert error.match(word)
    error.match(r'ExactResumeHook\(strict=False\)')


@pytest.mark.parametrize('loop, before, after, words', CHANGED[3:6])
def test_and_a_warning_where_that_is_wanted(loop, before, after, words,
                                            tmp_path):
    said = resumed(tmp_path, before, after, loop, strict=False)
    assert 'rates and schedules are those of the checkpoint' in said


def test_another_loop_is_an_error(tmp_path):
    run(tmp_path, stop_at=9)
    with pytest.raises(RuntimeError, match='now it goes by iterations'):
        run(tmp_path, 'iter', resume=True)
    run(tmp_path / 'b', 'iter', stop_at=9)
    with pytest.raises(RuntimeError, match='iterations per epoch is 16'):
        run(tmp_path / 'b', resume=True)


EPOCHS = dict(train_cfg=dict(by_epoch=True, max_epochs=6))


@pytest.mark.parametrize('loop, after, words', [
    ('epoch', EPOCHS, 'max_epochs is 4 in the checkpoint, and now 6'),
    ('iter', dict(train_cfg=dict(by_epoch=False, max_iters=20)),
     'max_iters is 16 in the checkpoint, and now 20'),
    ('epoch', dict(train_dataloader=loader(num_samples=9, drop_last=True)),
     'the number of training samples is 8 in the checkpoint, and now 9'),
])  # yapf: disable
def test_what_may_change_is_a_warning(loop, after, words, tmp_path):
    said = resumed(tmp_path, {}, after, loop)
    assert words in said and 'Learning rates' not in said


@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_nothing_is_said_where_nothing_changed(loop, tmp_path):
    before = dict(param_scheduler=[
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
        dict(type='PolyLR', begin=3, end=16, by_epoch=False),
        dict(type='ConstantMomentum', factor=0.5, by_epoch=False, end=9),
        dict(type='MultiStepLR', milestones=[9, 12], by_epoch=False)
    ])
    assert resumed(tmp_path, before, {}, loop) == ''


def test_a_checkpoint_of_before_resumes(tmp_path):
    """Which doesn't say how it was trained."""
    run(tmp_path, stop_at=9)
    path = tmp_path / 'epoch_2.pth'
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint['training'] == dict(
        batch_size=2, num_samples=8, config={})
    del checkpoint['training']
    torch.save(checkpoint, path)
    said = []
    assert len(run(tmp_path, resume=True, said=said)[1]) == 8
    assert not [text for text in said if 'other settings' in text]
    torch.save(checkpoint, path)
    (tmp_path / 'last_checkpoint').write_text(str(path))
    with pytest.raises(RuntimeError, match='iterations per epoch is 4'):
        run(tmp_path, resume=True, train_dataloader=loader(batch_size=4))


def test_several_optimizers_are_compared_each(tmp_path):

    class Two(ToyModel):

        def train_step(self, data, optim_wrapper):
            losses = self(**data, mode='loss')
            loss = self.parse_losses(losses)[0]
            for wrapper in optim_wrapper.values():
                wrapper.zero_grad()
            loss.backward()
            for wrapper in optim_wrapper.values():
                wrapper.step()
            return dict(loss=loss)

    def build(folder, lr, **kwargs):
        from mmengine.optim import OptimWrapper, OptimWrapperDict
        model = Two()
        wrappers = {
            name:
            OptimWrapper(
                torch.optim.SGD(getattr(model, name).parameters(), lr=rate))
            for name, rate in dict(linear=0.01, norm=lr).items()
        }
        return run(
            folder,
            model=model,
            optim_wrapper=OptimWrapperDict(**wrappers),
            param_scheduler=dict(linear=[BY_ITERS], norm=[BY_ITERS]),
            **kwargs)

    build(tmp_path, 0.1, stop_at=9)
    with pytest.raises(RuntimeError) as error:
        build(tmp_path, 0.2, resume=True)
    error.match(r"lr of the optimizer 'norm' is 0.1 .* now 0.2")
    assert "optimizer 'linear'" not in str(error.value)
    assert len(build(tmp_path, 0.1, resume=True)[1]) == 8


CONFIG = dict(
    model=dict(
        type='mmcompress.Distill',
        student=dict(type='A', depth=18, init_cfg=dict(type='Pretrained')),
        losses=dict(loss_kd=dict(type='mmcompress.KDLoss', tau=4.0))),
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
    train_dataloader=dict(dataset=dict(pipeline=[dict(type='Flip', prob=1)])))


def changed(**paths):
    config = copy.deepcopy(CONFIG)
    for path, value in paths.items():
        *parents, key = path.split('__')
        part = config
        for name in parents:
            part = part[name]
        if value is None:
            del part[key]
        else:
            part[key] = value
    return config_differences(
        dict(training=dict(config=CONFIG)), dict(config=config))


@pytest.mark.parametrize('path, value, what', [
    ('model__losses__loss_kd__type', 'mmcompress.NKDLoss',
     'model.losses.loss_kd.type is mmcompress.KDLoss in the checkpoint, and '
     'now mmcompress.NKDLoss'),
    ('model__losses__loss_cwd', dict(type='mmcompress.CWDLoss'),
     'model.losses.loss_cwd.type is (nothing) in the checkpoint, and now '
     'mmcompress.CWDLoss'),
    ('optim_wrapper__optimizer__type', 'AdamW', 'SGD'),
])
def test_other_types_of_losses_and_optimizers_are_told(path, value, what):
    wrong, other = changed(**{path: value})
    assert len(wrong) == 1 and what in wrong[0] and not other


@pytest.mark.parametrize('path, value, what', [
    ('model__losses__loss_kd__tau', 2.0,
     'model.losses.loss_kd.tau is 4.0 in the checkpoint, and now 2.0'),
    ('model__student__init_cfg', None, 'model.student.init_cfg.type'),
    ('train_dataloader__dataset__pipeline', [],
     'train_dataloader.dataset.pipeline[0].prob'),
])
def test_other_settings_are_told(path, value, what):
    wrong, other = changed(**{path: value})
    assert not wrong and any(what in line for line in other)


def test_equal_configs_have_no_differences():
    assert changed() == ([], [])
    assert config_differences({}, dict(config=CONFIG)) == ([], [])


def test_settings_that_differ_by_rounding_are_equal():
    assert 0.1 * 3 / 3 != 0.1
    assert changed(optim_wrapper__optimizer__lr=0.1 * 3 / 3) == ([], [])
    assert changed(optim_wrapper__optimizer__lr=0.1001)[1]


def test_the_batch_size_is_that_of_all_processes(tmp_path, monkeypatch):
    monkeypatch.setattr('mmcompress.hooks.resume_differences.get_world_size',
                        lambda: 4)
    settings = settings_of(toy_runner(tmp_path, val=False))
    assert (settings['batch_size'], settings['num_samples']) == (8, 8)


def test_the_config_is_kept_as_plain_data(tmp_path):
    cfg = Config(
        dict(
            model=dict(type='Toy', sizes=(1, 2)),
            train_cfg=dict(max_epochs=4),
            work_dir='x'))
    run(tmp_path, stop_at=5, cfg=cfg)
    kept = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)['training']
    assert kept['config'] == dict(
        model=dict(type='Toy', sizes=[1, 2]), train_cfg=dict(max_epochs=4))
