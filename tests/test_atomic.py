import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmcompress.atomic import remove_leftovers, replacing


def test_the_file_takes_the_place_in_the_end(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_text('old')
    with replacing(path) as beside:
        beside.write_text('new')
        assert path.read_text() == 'old'
        assert beside.suffix == path.suffix and beside.parent == tmp_path
    assert path.read_text() == 'new'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('error', [
    OSError(errno.ENOSPC, 'No space left on device'),
    KeyboardInterrupt(),
])
@pytest.mark.parametrize('when', ['written', 'fsync', 'replace'])
def test_nothing_is_left_of_a_write_that_failed(tmp_path, monkeypatch, when,
                                                error):

    def fail(*_):
        raise error

    path = tmp_path / 'a.pth'
    path.write_text('old')
    if when != 'written':
        monkeypatch.setattr(f'os.{when}', fail)
    with pytest.raises(type(error)), replacing(path) as beside:
        beside.write_text('ne')
        if when == 'written':
            fail()
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_on_the_disk_before_it_takes_the_place(
        tmp_path, monkeypatch):
    path, events = tmp_path / 'a', []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(descriptor):
        name = os.readlink(f'/proc/self/fd/{descriptor}')
        events.append('folder' if name == str(tmp_path) else 'file')
        fsync(descriptor)

    def traced_replace(*args):
        events.append('replace')
        replace(*args)

    monkeypatch.setattr('os.fsync', traced_fsync)
    monkeypatch.setattr('os.replace', traced_replace)
    with replacing(path) as beside:
        beside.write_text('new')
    assert events == ['file', 'replace', 'folder']


def test_a_file_system_that_cannot_sync_is_no_error(tmp_path, monkeypatch):

    def refuse(_):
        raise OSError(errno.EINVAL, 'Invalid argument')

    monkeypatch.setattr('os.fsync', refuse)
    with replacing(tmp_path / 'a') as beside:
        beside.write_text('new')
    assert (tmp_path / 'a').read_text() == 'new'


KILLED = """
import os, sys
from pathlib import Path
from mmcompress.atomic import replacing
with replacing(Path(sys.argv[1])) as beside:
    beside.write_text('half')
    os.kill(os.getpid(), 9)
"""


def test_leftovers_of_killed_processes_go_and_others_stay(tmp_path):
    root = Path(__file__).parent.parent
    for name in ('epoch_1.pth', 'other.pth'):
        subprocess.run([sys.executable, '-c', KILLED, tmp_path / name],
                       env=dict(os.environ, PYTHONPATH=str(root)))
    killed = sorted(tmp_path.iterdir())
    assert len(killed) == 2
    with replacing(tmp_path / 'epoch_2.pth') as beside:
        beside.write_text('being written')
        assert remove_leftovers(tmp_path, 'epoch_*.pth') == killed[:1]
        assert beside.is_file()
    assert remove_leftovers(tmp_path / 'nowhere') == []
