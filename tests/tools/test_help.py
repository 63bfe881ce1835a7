import subprocess
import sys
from pathlib import Path

import pytest

# a process for each
pytestmark = [pytest.mark.slow, pytest.mark.gate]

ROOT = Path(__file__).parents[2]
MODULES = ('mmcompress.check_env', 'mmcompress.torchvision_repair')


def commands():
    for path in sorted((ROOT / 'tools' / 'dev').glob('*.py')):
        # others are read by these
        if '__main__' not in path.read_text():
            continue
        yield pytest.param([str(path)], id=path.name)
    for module in MODULES:
        yield pytest.param(['-m', module], id=module)


@pytest.mark.parametrize('command', commands())
def test_help_is_shown_and_nothing_else_is_done(command, tmp_path,
                                                monkeypatch):
    # whatever would be installed, compiled or written lands here, or fails
    monkeypatch.setenv('MMCOMPRESS_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('CXX', 'no-such-compiler')
    done = subprocess.run([sys.executable, *command, '--help'],
                          cwd=tmp_path,
                          capture_output=True,
                          text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('usage: ')
    assert len(done.stdout) > 100
    assert not list(tmp_path.iterdir())
