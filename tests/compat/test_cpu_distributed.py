import subprocess
import sys

import pytest
import torch
from compat.interpreter import ROOT
from hooks.toy_runner import LossLog, toy_runner
from mmengine.config import Config

from mmcompress.compat import init_cpu_distributed

needs_cpu = pytest.mark.skipif(
    torch.cuda.is_available(), reason='mmengine itself serves CUDA')


@needs_cpu
@pytest.mark.parametrize('launcher', ['none', 'slurm', None])
def test_other_launchers_change_nothing(launcher):
    cfg = Config(dict(launcher=launcher))
    init_cpu_distributed(cfg)
    assert dict(cfg) == dict(launcher=launcher)
    assert not torch.distributed.is_initialized()


@pytest.fixture
def one_process(monkeypatch):
    for key, value in dict(
            RANK=0,
            WORLD_SIZE=1,
            LOCAL_RANK=0,
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=0).items():
        monkeypatch.setenv(key, str(value))
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@needs_cpu
def test_what_the_user_set_stays(one_process):
    cfg = Config(
        dict(
            launcher='pytorch',
            find_unused_parameters=True,
            model_wrapper_cfg=dict(broadcast_buffers=True)))
    init_cpu_distributed(cfg)
    assert cfg.model_wrapper_cfg == dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=True,
        find_unused_parameters=True)


@needs_cpu
def test_the_runner_trains_distributed(tmp_path, one_process):
    # mmengine alone cannot; should it learn to, our function can go
    with pytest.raises(Exception, match='(?i)cuda|nvidia'):
        toy_runner(tmp_path, launcher='pytorch')
    cfg = Config(dict(launcher='pytorch'))
    init_cpu_distributed(cfg)
    log = LossLog()
    runner = toy_runner(tmp_path, hooks=[log], launcher='pytorch', cfg=cfg)
    runner.train()
    assert type(runner.model).__name__ == 'MMDistributedDataParallel'
    assert len(log.losses) == 16


@pytest.mark.slow
@pytest.mark.gate
@needs_cpu
def test_collectives_in_flight_do_not_abort_the_exit(one_process):
    # Without care about every second such process aborts.
    code = '''
import sys
import torch
from mmengine.config import Config
from mmcompress.compat import init_cpu_distributed
init_cpu_distributed(Config(dict(launcher='pytorch')))
group = torch.distributed.group.WORLD  # as DDP's reducer holds it
sys.setswitchinterval(100)  # gloo's threads get no GIL meanwhile
for _ in range(300):
    torch.distributed.all_reduce(torch.ones(3), async_op=True)
'''
    processes = [
        subprocess.Popen([sys.executable, '-c', code],
                         cwd=ROOT,
                         stderr=subprocess.PIPE,
                         text=True) for _ in range(4)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
