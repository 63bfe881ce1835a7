"""The checklist finds what it is there for."""
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(
        name, ROOT / 'tools' / 'dev' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def release():
    sys.path.insert(0, str(ROOT / 'tools' / 'dev'))
    yield load('release')
    sys.path.remove(str(ROOT / 'tools' / 'dev'))


@pytest.fixture
def root(tmp_path):
    """A checkout of version 1.2.3, ready."""
    (tmp_path / 'mmcompress').mkdir()
    (tmp_path / 'mmcompress' /
     'version.py').write_text("__version__ = '1.2.3'\n")
    (tmp_path / 'CHANGELOG.md').write_text(
        '## [Unreleased]\n\n## [1.2.3] - 2026-01-02\n[x](CITATION.cff#a)\n')
    (tmp_path /
     'CITATION.cff').write_text('version: 1.2.3\ndate-released: 2026-01-02\n')
    subprocess.run(
        'git init -q && git add . && git -c user.name=a '
        '-c user.email=a@b commit -q -m x',
        shell=True,
        cwd=tmp_path,
        check=True)
    return tmp_path


CHECKS = ('check_versions', 'check_dates', 'check_tree', 'check_private',
          'check_links')


def edit(file, old, new):

    def change(root):
        path = root / file
        path.write_text(path.read_text().replace(old, new))

    return change


@pytest.mark.parametrize('change, failing, named', [
    (edit('CITATION.cff', '1.2.3', '1.2.4'), 'check_versions',
     'CITATION.cff says 1.2.4'),
    (edit('CHANGELOG.md', '[1.2.3]', '[1.3.0]'), 'check_versions',
     'CHANGELOG.md says 1.3.0'),
    (edit('mmcompress/version.py', '1.2.3', '1.2'), 'check_versions',
     'no semantic version'),
    (edit('CHANGELOG.md', '2026-01-02', 'unreleased'), 'check_dates',
     'write "## [1.2.3] - YYYY-MM-DD"'),
    (edit('CITATION.cff', '2026-01-02', '2026-01-03'), 'check_dates',
     'date-released'),
    (lambda root: (root / 'new').write_text('x'), 'check_tree', 'new'),
    (lambda root: subprocess.run(['git', 'tag', 'v1.2.3'], cwd=root),
     'check_tree', 'raise the version'),
    (edit('CHANGELOG.md', '[x]', '/home' '/somebody/x [x]'), 'check_private',
     'CHANGELOG.md:4'),
    (edit('CHANGELOG.md', '[x]', 'http:' '//10.1.2.3/x'), 'check_private',
     '10.1'),
    (edit('CHANGELOG.md', 'CITATION.cff#a', 'nosuch.md'), 'check_links',
     'no nosuch.md'),
])  # yapf: disable
def test_each_item_fails_for_its_reason(release, root, change, failing, named):
    for name in CHECKS:
        assert getattr(release, name)(root) == []
    change(root)
    assert named in ' '.join(getattr(release, failing)(root))


def test_the_report_says_what_to_do(release, root, capsys):
    checks = [release.check_versions, release.check_dates]
    assert release.report(root, checks)
    edit('CITATION.cff', '1.2.3', '1.2.4')(root)
    assert not release.report(root, checks)
    out = capsys.readouterr().out
    assert out.count('ok  ') == 3 and out.count('failed') == 1


def test_this_checkout_agrees_with_itself(release):
    for name in ('check_versions', 'check_private'):
        assert getattr(release, name)(ROOT) == []


def test_the_lock_fits_what_the_requirements_ask_for():
    lock = load('lock')
    versions = lock.locked()
    assert lock.disagreements(versions) == []
    versions['numpy'] = '2.0.0'
    del versions['pytest']
    found = ' '.join(lock.disagreements(versions))
    assert 'numpy is 2.0.0, runtime.txt asks for ==1.26.4' in found
    assert 'pytest of tests.txt is not there' in found


def test_the_lock_has_no_paths(tmp_path):
    lock = load('lock')
    path = tmp_path / 'lock.txt'
    path.write_text('# a\nmmcv @ ../x\n')
    with pytest.raises(ValueError, match='not name==version'):
        lock.locked(path)


def test_torch_of_the_lock_is_that_of_the_set_up():
    text = (ROOT / 'tools' / 'dev' / 'setup_venv.py').read_text()
    assert f"TORCH = '{load('lock').locked()['torch']}'" in text
