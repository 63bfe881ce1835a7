"""The tutorials run, and what is stored of them is fit to be read."""
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs_site import notebooks

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / 'docs' / 'tutorials').glob('*.ipynb'))
SCRIPT = ROOT / 'tools' / 'dev' / 'run_tutorials.py'
# of the machine that executed them
LOCAL = re.compile(r'/(?:tmp|home|root|work|Users|opt|mnt)/|site-packages')
every_tutorial = pytest.mark.parametrize(
    'path', TUTORIALS, ids=lambda path: path.stem)


def test_the_index_has_all_of_them():
    index = (ROOT / 'docs' / 'tutorials' / 'README.md').read_text()
    linked = re.findall(r'\]\((\w+\.ipynb)\)', index)
    assert sorted(linked) == [path.name for path in TUTORIALS]


@every_tutorial
def test_outputs_are_stored_without_errors_and_paths(path):
    notebook = json.loads(path.read_text())
    code = [c for c in notebook['cells'] if c['cell_type'] == 'code']
    assert [c['execution_count'] for c in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell['outputs']]
    assert any('image/jpeg' in o.get('data', {}) for o in outputs)
    for output in outputs:
        output.get('data', {}).pop('image/jpeg', None)
    found = LOCAL.search(json.dumps(outputs))
    assert not found, found
    # refuses outputs that are errors
    page = notebooks.to_markdown(path)
    assert 'times as fast' in ' '.join(page.split()) or 'latency' in page
    assert path.stat().st_size < 150_000


@every_tutorial
def test_key_numbers_are_stored(path):
    pytest.importorskip('nbclient')
    import nbformat
    from run_tutorials import without_numbers
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert without_numbers(notebook) is None
    for cell in notebook.cells:
        cell.outputs = []
    assert 'shows no numbers' in without_numbers(notebook)


def test_what_only_one_run_has_is_not_stored(tmp_path):
    pytest.importorskip('nbclient')
    from nbformat.v4 import new_code_cell, new_notebook, new_output
    from run_tutorials import clean
    cell = new_code_cell(outputs=[
        new_output(
            'stream',
            text=f'10 %\r\x1b[1m100 %\x1b[0m\n{tmp_path}/work_dirs/a.py\n'),
        new_output('stream', name='stderr', text='progress'),
        new_output('display_data', data={'text/plain': ''}),
        new_output('stream', text='end\n')
    ])
    cell.metadata['execution'] = dict(started='now')
    notebook = new_notebook(cells=[cell])
    clean(notebook, tmp_path)
    assert [o.text for o in cell.outputs] == ['100 %\nwork_dirs/a.py\nend\n']
    assert not cell.metadata


@pytest.mark.slow
@pytest.mark.gate
@every_tutorial
def test_a_tutorial_runs(path):
    pytest.importorskip('nbclient')
    done = subprocess.run(
        [sys.executable, str(SCRIPT), path.stem, '--check'],
        capture_output=True,
        text=True)
    assert not done.returncode, done.stdout + done.stderr


def test_tables_are_text_in_a_notebook_too(monkeypatch, capsys):
    monkeypatch.setattr('rich.console._is_jupyter', lambda: True)
    from mmcompress.results.tables import drawn
    from mmcompress.tables import format_table
    assert 'packed' in drawn('', ['form'], [['packed']])
    assert 'packed' in format_table('title', ['form'], [['packed']])
    assert not capsys.readouterr().out
