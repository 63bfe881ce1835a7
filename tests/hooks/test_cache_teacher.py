import errno

import pytest
import torch
from hooks.toy_runner import ToyModel, toy_runner
from integration.small_runs import fgd, write_config
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, Runner

from mmcompress.cache import cached_teacher, check_seal, seal
from mmcompress.distill.teacher_source import load_strictly
from mmcompress.hooks import CacheTeacherHook
from mmcompress.pruning.structure import carry_structure


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


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Path of a toy model that was kept."""
    monkeypatch.setenv('MMCOMPRESS_CACHE', str(tmp_path))
    runner = toy_runner(tmp_path / 'run', val=False)
    runner.train()
    CacheTeacherHook('toy').after_train(runner)
    return cached_teacher('toy')


def load_by_name(path):
    CheckpointLoader.load_checkpoint('cache://toy')


def load_as_teacher(path):
    load_strictly(ToyModel(), path, [])


both_ways = pytest.mark.parametrize('load', [load_by_name, load_as_teacher])


@both_ways
def test_whole_and_foreign_checkpoints_pass(load, kept):
    load(kept)
    torch.save(dict(state_dict=ToyModel().state_dict(), meta={}), kept)
    load(kept)


@both_ways
def test_a_flipped_bit_is_found(load, kept):
    weight = torch.load(kept, weights_only=True)['state_dict']['linear.weight']
    with open(kept, 'rb+') as file:
        content = bytearray(file.read())
        content[content.index(weight.numpy().tobytes()) + 5] ^= 1
        file.seek(0)
        file.write(content)
    with pytest.raises(RuntimeError, match='toy.pth is damaged.*Delete') as e:
        load(kept)
    assert "CacheTeacherHook writes 'toy'" in str(e.value)


@pytest.mark.parametrize('change', [
    lambda c: c['state_dict'].pop('norm.bias'),
    lambda c: c['state_dict']['norm.num_batches_tracked'].add_(1),
    lambda c: c['meta']['dataset_meta'].update(classes=('b', 'a')),
])
def test_all_content_counts(change):
    checkpoint = seal(
        dict(
            state_dict=ToyModel().bfloat16().state_dict(),
            meta=dict(dataset_meta=dict(classes=('a', 'b')))))
    check_seal(checkpoint, 'x.pth')
    change(checkpoint)
    with pytest.raises(RuntimeError, match='x.pth is damaged'):
        check_seal(checkpoint, 'x.pth')


@pytest.mark.parametrize('size', [0, 100, -100])
def test_a_truncated_teacher_says_how_to_remake_it(size, kept):
    with open(kept, 'rb+') as file:
        file.truncate(size if size >= 0 else file.seek(0, 2) + size)
    with pytest.raises(RuntimeError, match='it cannot be read.*Delete'):
        load_by_name(kept)


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv('MMCOMPRESS_CACHE', str(tmp_path))
    runner = toy_runner(tmp_path / 'run', val=False)
    runner.train()

    def save(checkpoint, path):
        path.write_bytes(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('torch.save', save)
    with pytest.raises(OSError, match='No space'):
        CacheTeacherHook('toy').after_train(runner)
    assert list((tmp_path / 'teachers').iterdir()) == []


@pytest.mark.parametrize('part', [None, 'linear'])
def test_a_pruned_model_is_kept_as_one(part, tmp_path, monkeypatch):
    monkeypatch.setenv('MMCOMPRESS_CACHE', str(tmp_path))
    runner = toy_runner(tmp_path / 'run', val=False)
    carry_structure(runner.model, ['linear.weight'])
    runner.train()
    CacheTeacherHook('toy', part).after_train(runner)
    file = CheckpointLoader.load_checkpoint('cache://toy')
    check_seal(file, 'toy.pth')
    dense = ToyModel()
    with pytest.raises(RuntimeError, match='is of a pruned model'):
        dense.get_submodule(part or '').load_state_dict(file['state_dict'])
