"""Every method's page: what it must tell, and examples that run."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
import test_steps
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / 'configs').glob('*/README.md'))
EXAMPLES = [
    example for page in PAGES
    for example in re.findall(r'```python\n# my_configs/(\w+)\.py\n(.*?)```',
                              page.read_text('utf-8'), re.S)
]
every_page = pytest.mark.parametrize(
    'page', PAGES, ids=lambda page: page.parent.name)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where a reader pastes the examples: beside our configs."""
    folder = tmp_path_factory.mktemp('pages')
    (folder / 'configs').symlink_to(ROOT / 'configs')
    (folder / 'my_configs').mkdir()
    for name, text in EXAMPLES:
        (folder / 'my_configs' / f'{name}.py').write_text(text)
    return folder / 'my_configs'


@pytest.mark.parametrize('name', [name for name, _ in EXAMPLES])
def test_example_takes_a_step_and_predicts(folder, name):
    test_steps.test_takes_a_step_and_predicts(folder / f'{name}.py')


def test_examples_have_names_of_their_own():
    names = [name for name, _ in EXAMPLES]
    assert sorted(names) == sorted(set(names))


@every_page
def test_every_python_block_is_such_an_example(page):
    text = page.read_text('utf-8')
    shown = re.findall(r'```python\n(.*)\n', text)
    assert shown and all(line.startswith('# my_configs/') for line in shown)


@every_page
def test_page_tells_what_is_expected_of_it(page):
    text = page.read_text('utf-8')
    headings = re.findall(r'^## (.*)', text, re.M)
    wanted = [
        'Use it', 'Results', 'What agrees with the paper, and what differs',
        'Official code and licence'
    ]
    if 'arXiv' not in text:
        # a network of ours
        wanted.remove('What agrees with the paper, and what differs')
    # G2SD's paper has no numbers of its pairs
    headings = ['Results' if name == 'Pairs' else name for name in headings]
    assert [name for name in headings if name in wanted] == wanted
    assert 'under Apache-2.0' in text and '(../../docs/licences.md)' in text


@every_page
def test_page_names_official_code_as_its_metafile_does(page):
    metafile = yaml.safe_load((page.parent / 'metafile.yml').read_text())
    metadata = metafile['Collections'][0]['Metadata']
    section = page.read_text('utf-8').split('## Official code and licence')[1]
    section = ' '.join(section.split('\n## ')[0].split())
    told = re.findall(
        r'\[([\w-]+/[\w-]+)\]\(https://github.com/\1\), read at commit '
        r'`(\w{7})`', section)
    code = metadata.get('Official Code', [])
    assert told == [(c['Repository'], c['Commit']) for c in code]
    for licence in {c['Licence'] for c in code}:
        assert {
            'none': 'has no licence',
            'not confirmed': 'not confirmed',
        }.get(licence, licence) in section
    # where the paper is what ours is written from
    assert ('written from the paper'
            in section) == ('Paper' in metafile['Collections'][0])


def test_commits_are_those_of_the_stored_numbers():
    shas = {}
    for file in (ROOT / 'tests' / 'data' / 'golden').glob('*.npz'):
        source = json.loads(str(np.load(file)['meta']))['source']
        for name, sha in re.findall(r'([\w-]+/[\w-]+) @(\w{7})', source):
            shas.setdefault(name, set()).add(sha)
    metafiles = (ROOT / 'configs').glob('*/metafile.yml')
    code = [
        c for file in metafiles for c in yaml.safe_load(file.read_text())
        ['Collections'][0]['Metadata'].get('Official Code', [])
    ]
    assert len(shas.keys() & {c['Repository'] for c in code}) > 10
    for c in code:
        if c['Repository'] in shas:
            assert c['Commit'] in shas[c['Repository']]


@every_page
def test_page_with_mini_losses_says_whom_their_weights_belong_to(page):
    minis = [
        f for f in page.parent.glob('*_mini*.py')
        if 'losses=' in f.read_text()
    ]
    text = ' '.join(page.read_text('utf-8').split())
    told = 'loss weights of the mini configs belong to this data' in text
    assert told == bool(minis)
