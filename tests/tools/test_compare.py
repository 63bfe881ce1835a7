import importlib.util
from pathlib import Path

import pytest
from results.examples import record

from mmcompress.results import write_record

TOOL = Path(__file__).parents[2] / 'tools' / 'compare.py'
spec = importlib.util.spec_from_file_location('compare_tool', TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Call the tool on two runs; returns the folder that it wrote."""
    for name in 'ab':
        (tmp_path / name).mkdir()
        write_record(record(), tmp_path / name / 'record.json')

    def call(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr('sys.argv', [str(TOOL), *arguments])
        tool.main()
        return tmp_path

    return call


def test_runs_are_compared_from_their_folders(run, capsys):
    out = run('a', 'b', '--out', 'out') / 'out'
    printed = capsys.readouterr().out
    for text in (printed, (out / 'report.md').read_text(),
                 (out / 'report.html').read_text()):
        assert '2.04 x' in text and '40.9' in text
    assert 'report.html' in printed


def test_only_the_format_that_was_asked_for(run):
    folder = run('a', '--format', 'md') / 'work_dirs' / 'compare'
    assert [p.name for p in folder.glob('report.*')] == ['report.md']


def test_no_record_is_an_error_in_a_line(run, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SystemExit, match='compare.py: empty has no record'):
        run('a', 'empty')
