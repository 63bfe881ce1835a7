"""What `mim` and readers find: metafiles, names of configs, links."""
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
METAFILES = sorted(ROOT.glob('configs/*/metafile.yml'))
CONFIGS = sorted(
    path for pattern in ('configs/*/*.py', 'projects/*/configs/**/*.py')
    for path in ROOT.glob(pattern) if '_base_' not in path.parts)
PAGES = sorted(
    path for pattern in ('*.md', 'docs/**/*.md', 'configs/*/*.md',
                         'projects/**/*.md') for path in ROOT.glob(pattern))
each_metafile = pytest.mark.parametrize(
    'metafile', METAFILES, ids=[path.parent.name for path in METAFILES])


def read(path):
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def relative(path):
    return path.relative_to(ROOT).as_posix()


def test_index_lists_every_metafile():
    listed = read(ROOT / 'model-index.yml')['Import']
    assert listed == [relative(path) for path in METAFILES]


def test_every_method_has_a_metafile_and_a_readme():
    folders = {path.parent for path in ROOT.glob('configs/*/*.py')}
    folders.remove(ROOT / 'configs' / '_base_')
    missing = [
        relative(folder / name) for folder in sorted(folders)
        for name in ('metafile.yml', 'README.md')
        if not (folder / name).is_file()
    ]
    assert not missing


def test_mim_reads_the_index():
    from modelindex.load_model_index import load
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert len(index.models) == sum(len(read(m)['Models']) for m in METAFILES)


@each_metafile
def test_every_path_of_a_metafile_exists(metafile):
    content = read(metafile)
    paths = [model['Config'] for model in content['Models']]
    for collection in content['Collections']:
        paths += [collection['README'], collection['Code']['URL']]
    assert [path for path in paths if not (ROOT / path).is_file()] == []


@each_metafile
def test_models_are_named_after_their_configs_in_lower_case(metafile):
    for model in read(metafile)['Models']:
        assert model['Name'] == Path(model['Config']).stem.lower()
        assert Path(model['Config']).parent.name == metafile.parent.name


@each_metafile
def test_models_belong_to_a_collection_of_their_metafile(metafile):
    content = read(metafile)
    collections = {collection['Name'] for collection in content['Collections']}
    assert {m['In Collection'] for m in content['Models']} == collections


@each_metafile
def test_every_config_is_in_its_metafile(metafile):
    names = [model['Name'] for model in read(metafile)['Models']]
    configs = [p.stem for p in CONFIGS if p.parent == metafile.parent]
    assert sorted(names) == sorted(configs)


def test_base_names_of_configs_are_unique():
    stems = [path.stem for path in CONFIGS]
    assert sorted(stems) == sorted(set(stems))
    assert all(stem == stem.lower() for stem in stems)


@pytest.mark.parametrize('page', PAGES, ids=relative)
def test_every_link_of_a_page_leads_to_a_file(page):
    text = re.sub(
        r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.S)
    links = re.findall(r'\]\(([^)#\s]+)[^)]*\)', text)
    assert [
        link for link in links
        if '://' not in link and not (page.parent / link).exists()
    ] == []


@pytest.mark.parametrize('page', PAGES, ids=relative)
def test_every_config_that_a_page_names_exists(page):
    paths = re.findall(r'(?<![\w/:-])((?:configs|projects)/[\w./-]+\.py)\b',
                       page.read_text(encoding='utf-8'))
    folders = (ROOT, page.parent)
    assert [
        path for path in paths
        if not any((folder / path).is_file() for folder in folders)
    ] == []
