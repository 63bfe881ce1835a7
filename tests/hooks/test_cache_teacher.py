import torch
from integration.small_runs import fgd, write_config
from mmengine.config import Config
from mmengine.runner import Runner

from mmcompress.cache import cached_teacher


def test_a_kept_teacher_teaches(tmp_path, monkeypatch):
    """Trained and kept by one run, found by `cache://` in another."""
    data = Config.fromfile(
        str(write_config(tmp_path / 'teacher.py',
                         fgd()['student'])))
    monkeypatch.setenv('MMCOMPRESS_CACHE', str(tmp_path / 'cache'))
    data.work_dir = str(tmp_path / 'teacher')
    data.visualizer.pop('name')
    data.custom_hooks = [dict(type='mmcompress.CacheTeacherHook', name='kept')]
    trained = Runner.from_cfg(data)
    trained.train()
    kept = torch.load(cached_teacher('cache://kept'), weights_only=True)
    assert len(kept['meta']['dataset_meta']['classes']) == 10

    cfg = fgd()
    cfg['teacher'] = dict(cfg=cfg['student'], checkpoint='cache://kept')
    student = Config.fromfile(str(write_config(tmp_path / 'student.py', cfg)))
    student.work_dir = str(tmp_path / 'student')
    student.visualizer.pop('name')
    runner = Runner.from_cfg(student)
    runner.train()
    teacher = runner.model.distill.teacher.model
    for key, value in trained.model.state_dict().items():
        assert torch.equal(teacher.state_dict()[key], value), key
