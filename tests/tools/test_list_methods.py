import importlib.util
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools' / 'dev' / 'list_methods.py'
    spec = importlib.util.spec_from_file_location('list_methods', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lists_are_what_the_metafiles_say(tool):
    outdated = [
        path.relative_to(ROOT).as_posix()
        for path, text in tool.render(ROOT).items()
        if path.read_text('utf-8') != text
    ]
    assert not outdated, 'run: python tools/dev/list_methods.py'


def test_a_new_metafile_is_in_every_list(tool, tmp_path, monkeypatch):
    for name in ('README.md', 'CHANGELOG.md', 'docs/README.md',
                 'docs/licences.md', 'model-index.yml',
                 'configs/fgd/metafile.yml'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    text = (ROOT / 'configs' / 'fgd' / 'metafile.yml').read_text()
    new = tmp_path / 'configs' / 'new' / 'metafile.yml'
    new.parent.mkdir()
    new.write_text(
        text.replace('Name: FGD', 'Name: New').replace('c03a6cf', '1234abc'))
    monkeypatch.setattr(tool, 'ROOT', tmp_path)
    monkeypatch.setattr('sys.argv', ['list_methods.py'])
    tool.main()
    link = '[New]({}configs/new/README.md)'
    read = {
        name: (tmp_path / name).read_text()
        for name in ('README.md', 'CHANGELOG.md', 'docs/README.md',
                     'docs/licences.md')
    }
    assert link.format('') in read['README.md']
    assert link.format('') in read['CHANGELOG.md']
    assert read['docs/README.md'].count(link.format('../')) == 2
    assert '`1234abc`' in read['docs/licences.md']
    assert (tmp_path / 'model-index.yml').read_text() == (
        'Import:\n  - configs/fgd/metafile.yml\n  - configs/new/metafile.yml\n'
    )


def test_a_page_without_the_marks_is_named(tool, tmp_path):
    for name in ('README.md', 'configs/fgd/metafile.yml'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / 'README.md').write_text('no table')
    with pytest.raises(ValueError, match='README.md has 0 lists'):
        tool.render(tmp_path)
