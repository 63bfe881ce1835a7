import shutil

import pytest
import torch
from hooks.toy_runner import LossLog, ToyModel, toy_runner

import mmcompress.compat  # noqa: F401
from mmcompress.hooks import ExactResumeHook, PlainCheckpointHook


def resumed(folder, monkeypatch, hook=PlainCheckpointHook, **kwargs):
    """How many steps a resumed run had yet to take, and what it said."""
    log, said = LossLog(), []
    runner = toy_runner(
        folder, hooks=[log, hook(), ExactResumeHook()], resume=True, **kwargs)
    monkeypatch.setattr(runner.logger, 'warning', said.append)
    runner.train()
    said = [text for text in said if 'esum' in text]
    return len(log.losses), ' '.join(said)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    runner = toy_runner(
        folder, hooks=[PlainCheckpointHook(),
                       ExactResumeHook()])
    runner.train()
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A run that stopped after three of four epochs, of four steps each."""
    folder = tmp_path / 'run'
    shutil.copytree(finished, folder)
    (folder / 'epoch_4.pth').unlink()
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_3.pth'))
    return folder


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=True)['state_dict']['linear.weight']
    content[content.index(weight.numpy().tobytes()) + 2] ^= 4
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def test_a_whole_checkpoint_is_resumed_without_a_word(run, monkeypatch):
    assert resumed(run, monkeypatch) == (4, '')


def test_the_pointer_decides(run, monkeypatch):
    (run / 'last_checkpoint').write_text(str(run / 'epoch_1.pth'))
    assert resumed(run, monkeypatch) == (12, '')


@pytest.mark.parametrize('content, said', [
    (None, 'last_checkpoint is missing'),
    ('', 'last_checkpoint is empty'),
    ('\n', 'last_checkpoint is empty'),
    ('{run}/epoch_9.pth', 'epoch_9.pth cannot be resumed: it does not exist'),
    ('/gone/epoch_9.pth', 'names /gone/epoch_9.pth, which is in another'),
    ('/gone/epoch_3.pth', 'names /gone/epoch_3.pth, which is in another'),
])
def test_a_pointer_that_leads_nowhere(content, said, run, monkeypatch):
    pointer = run / 'last_checkpoint'
    pointer.unlink()
    if content is not None:
        pointer.write_text(content.format(run=run))
    steps, warning = resumed(run, monkeypatch)
    assert steps == 4
    assert said in warning
    assert f'Resuming from {run / "epoch_3.pth"}, the newest' in warning


@pytest.mark.parametrize('damage, why', [
    (cut, 'damaged or incomplete'),
    (lambda path: path.write_bytes(b''), 'damaged or incomplete'),
    (lambda path: path.write_bytes(b'0' * 10000), ''),
    (lambda path: path.write_bytes(bytes(path.stat().st_size)), ''),
    (flip_a_bit, 'has another check sum'),
    (lambda path: torch.save(ToyModel().state_dict(), path),
     'no checkpoint of a training'),
    (lambda path: torch.save([1], path), 'no checkpoint of a training'),
])
def test_a_damaged_checkpoint_gives_way_to_the_newest_that_loads(
        damage, why, run, monkeypatch):
    damage(run / 'epoch_3.pth')
    steps, warning = resumed(run, monkeypatch)
    assert steps == 8
    assert 'epoch_3.pth cannot be resumed: ' in warning and why in warning
    assert f'Resuming from {run / "epoch_2.pth"}, the newest' in warning


def test_ten_comes_after_nine(run, monkeypatch):
    for i, name in ((2, 'epoch_10.pth'), (1, 'epoch_9.pth')):
        (run / f'epoch_{i}.pth').rename(run / name)
    cut(run / 'epoch_3.pth')
    assert resumed(run, monkeypatch)[0] == 8


def test_no_checkpoint_that_loads_is_an_error(run, monkeypatch):
    for path in run.glob('epoch_*.pth'):
        cut(path)
    with pytest.raises(RuntimeError, match='no checkpoint in .* can be') as e:
        resumed(run, monkeypatch)
    assert all(f'epoch_{i}.pth' in str(e.value) for i in (1, 2, 3))
    assert '--resume PATH' in str(e.value)


@pytest.mark.parametrize('pointer', [None, '', '/gone/epoch_1.pth'])
def test_a_folder_without_checkpoints_begins(pointer, tmp_path, monkeypatch):
    """So that a command with --resume can be repeated until it is done."""
    if pointer is not None:
        (tmp_path / 'last_checkpoint').write_text(pointer)
    steps, warning = resumed(tmp_path, monkeypatch)
    assert steps == 16
    assert ('nothing to resume' in warning) == (pointer is not None)


def test_a_copy_goes_on_with_its_own_checkpoint(run, tmp_path, monkeypatch):
    copy = tmp_path / 'copy'
    shutil.copytree(run, copy)
    (copy / 'epoch_3.pth').unlink()
    steps, warning = resumed(copy, monkeypatch)
    assert steps == 8
    assert f'Resuming from {copy / "epoch_2.pth"}' in warning


def test_a_copy_goes_on_where_its_pointer_says(run, tmp_path, monkeypatch):
    copy = tmp_path / 'copy'
    shutil.copytree(run, copy)
    (copy / 'last_checkpoint').write_text(str(run / 'epoch_1.pth'))
    steps, warning = resumed(copy, monkeypatch)
    assert steps == 12
    assert f'Resuming from {copy / "epoch_1.pth"}' in warning


def test_the_folder_may_be_named_in_several_ways(run, tmp_path, monkeypatch):
    (tmp_path / 'link').symlink_to(run)
    monkeypatch.chdir(tmp_path)
    (run / 'last_checkpoint').write_text('run/epoch_2.pth')
    assert resumed(tmp_path / 'link', monkeypatch) == (8, '')


def test_a_checkpoint_that_is_named_is_not_second_guessed(run, monkeypatch):
    steps, warning = resumed(
        run, monkeypatch, load_from=str(run / 'epoch_1.pth'))
    assert (steps, warning) == (12, '')
    cut(run / 'epoch_1.pth')
    with pytest.raises(RuntimeError, match='epoch_1.pth is damaged'):
        resumed(run, monkeypatch, load_from=str(run / 'epoch_1.pth'))


def test_best_and_published_checkpoints_are_not_resumed(run, monkeypatch):
    for i in (1, 2, 3):
        shutil.copy(run / f'epoch_{i}.pth', run / f'best_toy_epoch_{i}.pth')
        shutil.copy(run / f'epoch_{i}.pth', run / f'epoch_{i}-1234abcd.pth')
        cut(run / f'epoch_{i}.pth')
    with pytest.raises(RuntimeError, match='can be resumed'):
        resumed(run, monkeypatch)


def test_the_folder_of_the_run_may_be_said_once_more(run, monkeypatch):
    (run / 'last_checkpoint').unlink()
    hook = dict(type='CheckpointHook', interval=1, out_dir=str(run))
    steps, warning = resumed(
        run, monkeypatch, default_hooks=dict(checkpoint=hook))
    assert steps == 4 and f'Resuming from {run / "epoch_3.pth"}' in warning


@pytest.mark.parametrize('hook', [PlainCheckpointHook, ExactResumeHook])
def test_other_folders_and_names(hook, tmp_path, monkeypatch):
    """Those that the hook's options say."""
    checkpoint = dict(
        type='mmcompress.SafeCheckpointHook',
        out_dir=str(tmp_path / 'out'),
        filename_tmpl='state-{}.pth',
        interval=1)
    kwargs = dict(hook=hook, default_hooks=dict(checkpoint=checkpoint))
    assert resumed(tmp_path / 'a', monkeypatch, **kwargs) == (16, '')
    out = tmp_path / 'out' / 'a'
    (out / 'state-4.pth').unlink()
    steps, warning = resumed(tmp_path / 'a', monkeypatch, **kwargs)
    assert steps == 4 and 'state-4.pth cannot be resumed' in warning
    assert (out / 'state-4.pth').is_file()
