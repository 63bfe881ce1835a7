import multiprocessing
import os
import re
import time

import pytest

from mmcompress.datasets.manifest import (ensure_folder, find_damage,
                                          write_manifest)

SETTINGS = dict(seed=0)


def write_two_files(folder):
    (folder / 'a.txt').write_text('one')
    (folder / 'sub').mkdir()
    (folder / 'sub/b.txt').write_text('two')


def write_slowly(folder):
    time.sleep(0.3)
    (folder / 'written_by.txt').write_text(str(os.getpid()))


def ensure_slowly(folder, start, answers):
    start.wait()
    ensure_folder(folder, SETTINGS, write_slowly)
    answers.put((folder / 'written_by.txt').read_text())


def fail(folder):
    raise AssertionError('the folder is complete: nothing to write')


@pytest.fixture
def folder(tmp_path):
    return ensure_folder(tmp_path / 'data', SETTINGS, write_two_files)


def test_a_complete_folder_is_not_written_again(folder):
    ensure_folder(folder, SETTINGS, fail)


@pytest.mark.parametrize(
    'damage, message', [
        (lambda f: (f / 'a.txt').write_text('onf'), '1 file.* changed.*a.txt'),
        (lambda f: (f / 'sub/b.txt').unlink(), '1 file.* missing.*sub/b.txt'),
        (lambda f: (f / 'c.txt').touch(), '1 file.* not ours.*c.txt'),
        (lambda f: (f / 'manifest.json').write_text('{'), 'manifest.*read'),
        (lambda f: (f / 'manifest.json').unlink(), 'manifest.*missing'),
        (lambda f: write_manifest(f, dict(seed=1)), "'seed': 1.*'seed': 0"),
    ],
    ids=[
        'changed', 'missing', 'added', 'bad manifest', 'no manifest',
        'other settings'
    ])
def test_damage_is_named_and_repaired(folder, damage, message):
    damage(folder)
    assert re.search(message, find_damage(folder, SETTINGS))
    ensure_folder(folder, SETTINGS, write_two_files)
    assert find_damage(folder, SETTINGS) is None
    assert not (folder / 'c.txt').exists()


def test_a_failed_writer_leaves_nothing_behind(tmp_path):

    def write_half(folder):
        (folder / 'a.txt').write_text('one')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_folder(tmp_path / 'data', SETTINGS, write_half)
    assert {p.name for p in tmp_path.iterdir()} <= {'data.lock'}


def test_the_folder_appears_by_renaming_when_it_is_complete(tmp_path):
    inodes = []

    def write(folder):
        inodes.append(folder.stat().st_ino)
        assert not (tmp_path / 'data').exists()

    folder = ensure_folder(tmp_path / 'data', SETTINGS, write)
    assert inodes == [folder.stat().st_ino]


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    leftover = tmp_path / '.data.abcdef'
    (leftover / 'data').mkdir(parents=True)
    ensure_folder(tmp_path / 'data', SETTINGS, write_two_files)
    assert not leftover.exists()


def test_of_processes_that_start_together_one_writes(tmp_path):
    context = multiprocessing.get_context('fork')
    start, answers = context.Event(), context.Queue()
    processes = [
        context.Process(
            target=ensure_slowly, args=(tmp_path / 'data', start, answers))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    start.set()
    writers = {answers.get(timeout=20) for _ in processes}
    for process in processes:
        process.join()
    assert len(writers) == 1


def test_error_says_what_to_do_where_nothing_can_be_written(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(RuntimeError, match='MMCOMPRESS_CACHE'):
        ensure_folder(tmp_path / 'file/data', SETTINGS, write_two_files)
