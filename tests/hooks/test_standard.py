from pathlib import Path

import pytest
import torch.nn as nn
from hooks.toy_runner import LossLog, toy_runner
from mmengine.config import Config
from mmengine.logging import MessageHub

from mmcompress.hooks import (CheckDataHook, ExactResumeHook,
                              InformTeacherHook, NonFiniteLossHook,
                              PlainCheckpointHook, SafeCheckpointHook,
                              StandardHooks)
from mmcompress.hooks.standard import (LINE, STANDARD, remind_of_hooks,
                                       without_standard_hooks)

ROOT = Path(__file__).parents[2]
NAMED = ' '.join(f"dict(type='mmcompress.{name}')" for name in STANDARD)
OURS = [
    NonFiniteLossHook, CheckDataHook, InformTeacherHook, ExactResumeHook,
    PlainCheckpointHook
]


def ours(runner):
    return [type(hook) for hook in runner.hooks if type(hook) in OURS]


def test_are_those_of_our_configs():
    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / 'runtime.py')
    assert [hook.type for hook in cfg.custom_hooks
            ] == [f'mmcompress.{name}' for name in STANDARD]


def test_each_comes_once_with_its_own_priority(tmp_path):
    runner = toy_runner(tmp_path, hooks=[StandardHooks()])
    runner.call_hook('before_run')
    # VERY_HIGH, NORMAL, 85, LOWEST
    assert ours(runner) == OURS
    runner.call_hook('before_run')
    assert ours(runner) == OURS


def test_what_the_config_has_itself_stays(tmp_path):
    own = ExactResumeHook()
    runner = toy_runner(tmp_path, hooks=[StandardHooks(), own])
    runner.call_hook('before_run')
    assert sorted(map(str, ours(runner))) == sorted(map(str, OURS))
    assert own in runner.hooks


def test_what_is_registered_is_called_in_the_same_stage(tmp_path):
    seen = []

    class Later(InformTeacherHook):

        def before_run(self, runner):
            seen.append(ours(runner))

    toy_runner(tmp_path, hooks=[Later(), StandardHooks()])
    runner = toy_runner(tmp_path, hooks=[Later(), StandardHooks()])
    runner.call_hook('before_run')
    # a subclass is one as well
    assert seen == [[kind for kind in OURS if kind is not InformTeacherHook]]


def test_checkpoints_are_written_safely(tmp_path):
    runner = toy_runner(
        tmp_path,
        hooks=[StandardHooks()],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook')))
    runner.call_hook('before_run')
    assert sum(isinstance(h, SafeCheckpointHook) for h in runner.hooks) == 1


def test_a_resumed_run_continues_exactly(tmp_path):
    hooks = dict(
        default_hooks=dict(
            mmcompress=dict(type='mmcompress.StandardHooks'),
            checkpoint=dict(type='CheckpointHook', interval=1)))
    whole = LossLog()
    toy_runner(tmp_path / 'a', hooks=[whole], **hooks).train()
    with pytest.raises(KeyboardInterrupt):
        toy_runner(tmp_path / 'b', hooks=[LossLog(stop_at=9)], **hooks).train()
    rest = LossLog()
    toy_runner(tmp_path / 'b', hooks=[rest], resume=True, **hooks).train()
    assert rest.losses == whole.losses[8:]


@pytest.mark.parametrize('text, lacks', [
    ("custom_hooks=[dict(type='EMAHook')]", True),
    ("custom_hooks=[dict(type='mmcompress.InformTeacherHook')]", True),
    (LINE, False),
    (NAMED, False),
    (NAMED.replace('InformTeacherHook', 'DistillHook'), False),
])
def test_a_training_without_them_says_so_once(text, lacks, monkeypatch):
    assert without_standard_hooks(text) is lacks
    said = []
    monkeypatch.setattr('mmcompress.hooks.standard.print_log',
                        lambda message, *args: said.append(message))

    def model():
        identity = nn.Identity()
        identity.register_forward_pre_hook(remind_of_hooks)
        return identity

    # nobody trains
    model()(0)
    assert not said
    MessageHub.get_instance('run').update_info('cfg', text)
    for net in (model(), model()):
        net.eval()(0)
        net.train()(0)
        assert not net._forward_pre_hooks
        net(0)
    assert len(said) == 2 * lacks and all(LINE in line for line in said)


def test_a_run_without_training_needs_no_training_data(tmp_path):
    runner = toy_runner(
        tmp_path,
        hooks=[StandardHooks()],
        train_dataloader=dict(dataset=dict(type='NoSuchData'), batch_size=1))
    runner.val()
    assert isinstance(runner._train_loop, dict)
