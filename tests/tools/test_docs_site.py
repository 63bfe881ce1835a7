import base64
import json
import re
from pathlib import Path

import pytest

from docs_site import dialect, errors, gallery, links, markdown, notebooks
from docs_site.staging import Staging

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def cards():
    return gallery.read_cards(ROOT)


@pytest.fixture(scope='module')
def staged(tmp_path_factory, cards):
    """All pages, with those that are generated."""
    target = tmp_path_factory.mktemp('staged')
    Staging(ROOT, target).stage({
        gallery.PAGE: gallery.gallery_page(cards),
        errors.PAGE: errors.errors_page(ROOT)
    })
    return target


def repository(folder, pages):
    for name, text in pages.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_every_method_is_in_the_gallery(staged):
    text = (staged / 'methods.md').read_text()
    shown = re.findall(r'<h2 id="\w+"><a href="([^"]+)">', text)
    assert shown == [
        f'configs/{file.parent.name}/index.html'
        for file in sorted(ROOT.glob('configs/*/metafile.yml'))
    ]


def test_filters_offer_what_cards_have(staged):
    text = (staged / 'methods.md').read_text()
    for name in ('task', 'kind', 'status', 'gain', 'licence'):
        select = re.search(f'<select name="{name}">(.*?)</select>', text)[1]
        offered = set(re.findall('<option>(.*?)</option>', select))
        given = re.findall(f'data-{name}="(.*?)"', text)
        has = {value for values in given for value in values.split('|')}
        assert has <= offered | {''}, name


def test_status_follows_from_stored_numbers_and_seeds(cards):
    status = {c.method.metafile.parent.name: c.status for c in cards}
    # official code, 3 seeds; official code, 1 seed; no code of others
    assert (status['fgd'], status['sparsifiner'],
            status['poem']) == ('stable', 'verified', 'experimental')
    assert gallery.num_seeds('official numbers; mini data, 3 seeds: x') == 3
    assert gallery.num_seeds('mini data, one seed') == 1
    assert gallery.num_seeds('official numbers; mini data') == 0
    assert gallery.status(False, 9) == 'experimental'


def test_gains_are_those_of_the_comparison(cards):
    fgd, = (c for c in cards if c.method.name == 'FGD')
    page = (ROOT / 'docs' / 'benchmarks' / 'mini.md').read_text()
    row, = re.findall(r'\| fgd \|.*?\| inherit \| (.*?) \| (.*?) \|', page)
    assert fgd.gains == [
        gallery.Measured(f'fgd: {row[0]} over inherit, detection; {row[1]}',
                         row[1])
    ]


def test_every_explained_error_is_on_the_page(staged):
    text = (staged / 'errors.md').read_text()
    rows = sum(
        line.startswith('| `') or line.startswith('| ``')
        for file in ROOT.glob('docs/user_guide/*.md') for line in
        file.read_text().partition('What the errors mean\n\n')[2].splitlines())
    assert text.count('<div class="error"') == rows > 100
    assert 'has no module &#x27;nek&#x27;' in text
    # an anchor of the guide is one of the guide's page
    assert '](docs/user_guide/distill.md#9-base-configs-with-hooks)' in text


def test_errors_without_a_table_are_refused(tmp_path):
    repository(tmp_path,
               {'docs/a.md': '# A\n\n## What the errors mean\n\nx\n'})
    with pytest.raises(ValueError, match='no table of messages'):
        errors.read_errors(tmp_path)


def test_front_page_has_the_sentence_the_command_and_pictures(staged):
    text = (staged / 'index.md').read_text()
    assert 'python tools/compress.py CONFIG CHECKPOINT --bits 8' in text
    assert '(methods.md)' in text
    linked = re.findall(r'\]\(([^)#:]+)\)', text)
    assert sum(link.endswith(('.svg', '.png')) for link in linked) == 3
    assert all((staged / link).is_file() for link in linked)


def test_numbers_of_the_front_page_stand_on_their_pages():
    text = (ROOT / 'docs' / 'site' / 'index.md').read_text()
    readme = (ROOT / 'README.md').read_text()
    table = text.partition('## What a teacher gives')[2].partition('\nMean')[0]
    rows = re.findall(r'\|( [\d.]+ \| [\d.]+ ± [\d.]+ \| [\d.]+ ± [\d.]+ )\|',
                      table)
    assert len(rows) == 6
    assert [row for row in rows if row not in readme] == []


def test_linked_sources_and_folders_become_pages(tmp_path):
    root = repository(
        tmp_path / 'root', {
            'docs/a.md':
            '# A\n\n[c](../configs/m/c.py) [d](results) '
            '[r](../configs/m) `[no](link.md)`\n',
            'docs/results/x.json':
            '{}',
            'docs/board/index.html':
            '<a href="../a.md#s">A</a><script>x = ["../../configs/m/c.py", '
            '"../no.py"]',
            'docs/board/board.js':
            '1',
            'configs/m/README.md':
            '# M\n',
            'configs/m/c.py':
            'x = 1  # ```\n'
        })
    target = tmp_path / 'staged'
    Staging(root, target).stage({})
    assert (target / 'docs/a.md').read_text() == (
        '# A\n\n[c](../configs/m/c.py.md) [d](results/README.md) '
        '[r](../configs/m/README.md) `[no](link.md)`\n')
    assert 'x = 1  # ```\n~~~~' in (target / 'configs/m/c.py.md').read_text()
    assert '- [x.json](x.json)' in (target /
                                    'docs/results/README.md').read_text()
    assert (target / 'docs/board/index.html').read_text() == (
        '<a href="../a.html#s">A</a><script>x = '
        '["../../configs/m/c.py.html", "../no.py"]')
    assert (target / 'docs/board/board.js').is_file()


def test_a_link_to_nothing_names_its_page(tmp_path):
    repository(tmp_path, {'docs/a.md': '# A\n\n[b](b.md) ![c](c.svg)\n'})
    with pytest.raises(ValueError) as error:
        Staging(tmp_path, tmp_path / 'out').stage({})
    assert error.value.args[0].splitlines() == [
        'docs/a.md: the link b.md leads to nothing',
        'docs/a.md: the link c.svg leads to nothing'
    ]


GOOD = {
    'index.html': '<a href="a/b.html#part">b</a><img src="a/p.png">'
    '<a href="https://arxiv.org/abs/1">paper</a><a href="#top" id="top">',
    'a/b.html': '<h2 id="part">B</h2><a href="../index.html">up</a>',
    'a/p.png': ''
}


def test_a_whole_site_has_no_broken_link(tmp_path):
    assert links.broken_links(repository(tmp_path, GOOD)) == []


@pytest.mark.parametrize('old, new, wrong', [
    ('a/b.html#part', 'a/c.html', 'leads to no file'),
    ('a/b.html#part', 'a/b.html#parts', 'leads to no anchor'),
    ('a/b.html#part', 'a', 'leads to no file'),
    ('a/b.html#part', '../x.html', 'leads to no file'),
    ('a/b.html#part', '/a/b.html', 'begins at the root'),
    ('"#top"', '"#bottom"', 'leads to no anchor'),
    ('a/p.png', 'p.png', 'leads to no file'),
    ('a/p.png', 'https://host.org/p.png', 'is loaded from another host'),
    ('a/p.png', '//host.org/p.png', 'is loaded from another host'),
    ('https://arxiv.org/', 'https://arxiv/', 'is no URL'),
    ('https://arxiv.org/', 'htps://arxiv.org/', 'has the scheme'),
])
def test_each_broken_link_is_found(tmp_path, old, new, wrong):
    assert old in GOOD['index.html']
    pages = dict(GOOD)
    pages['index.html'] = pages['index.html'].replace(old, new)
    line, = links.broken_links(repository(tmp_path, pages))
    assert line.startswith('index.html: ') and wrong in line


def test_what_a_style_sheet_loads_is_seen(tmp_path):
    sheet = dict(GOOD, **{'s.css': '@import "https://fonts.org/a.css";'})
    line, = links.broken_links(repository(tmp_path, sheet))
    assert line.startswith('s.css: https://fonts.org')


@pytest.mark.parametrize('source, built, wrong', [
    ('# A\n\ntext\n', '<h1>A</h1><p>text</p>', ''),
    ('text\n- a\n- b\n', '<p>text\n- a\n- b</p>', '0 <li> instead of 2'),
    ('a `b|c`\n', '<p>a <code>b\\|c</code></p>', 'instead of'),
    ('a\n\n| b | c |\n', '<p>a</p><p>| b | c |</p>', 'stands alone'),
    ('a $b_c$ d\n', '<p>a $b_c$ d</p>', "'$b_c$' is a formula"),
    ('`$b_c$` $d\n', '<p><code>$b_c$</code> $d</p>', ''),
])
def test_pages_that_differ_from_a_code_hosts_are_found(source, built, wrong):
    pytest.importorskip('markdown_it')
    found = dialect.difference(source, f'<article>{built}</article><p>menu')
    assert (wrong in found) if wrong else not found


def test_links_are_mapped_outside_of_code():
    text = ('[a](b.md#c) [`d`](e.md) `[f](g.md)` [h](https://i.org/j.md) '
            '<a href="k.md">\n\n```\n[l](m.md)\n```\n\n[n]: o.md\n')
    assert markdown.map_links(text, str.upper) == (
        '[a](B.MD#c) [`d`](E.MD) `[f](g.md)` [h](https://i.org/j.md) '
        '<a href="K.MD">\n\n```\n[l](m.md)\n```\n\n[n]: O.MD\n')


def test_lists_are_written_out_for_the_other_dialect():
    text = 'a\n- b\n  c\n  - d\n\n    ~~~\n    e\n    ~~~\n    f\n  - g\n- h\n'
    assert markdown.as_on_a_code_host(text) == (
        'a\n\n- b\n    c\n    - d\n\n        ~~~\n        e\n        ~~~\n'
        '        f\n\n    - g\n- h\n')


def test_cells_with_blocks_become_columns():
    text = ('<table><tr><th>A</th><th>B</th></tr><tr><td>\n\nx\n\n</td><td>'
            '\n\ny\n\n</td></tr></table>\n')
    shown = markdown.beside(text)
    assert shown.count('<div markdown>') == 2 and '<td>' not in shown
    assert shown.index('**A**') < shown.index('x') < shown.index('**B**')


def notebook(folder, cells, **changes):
    file = folder / 'n.ipynb'
    file.write_text(json.dumps(dict(nbformat=4, cells=cells) | changes))
    return file


def test_a_notebook_is_a_page_with_its_outputs(tmp_path):
    png = base64.b64encode(b'png').decode()
    page = notebooks.to_markdown(
        notebook(tmp_path, [
            dict(cell_type='markdown', source=['# Title\n', 'text']),
            dict(
                cell_type='code',
                source='print(1)',
                outputs=[
                    dict(
                        output_type='stream',
                        text='10 %\r90 %\r\x1b[1mdone\x1b[0m\n'),
                    dict(output_type='display_data', data={'image/png': png}),
                    dict(output_type='display_data', data={'image/jpeg': png})
                ])
        ]))
    assert page == ('# Title\ntext\n\n~~~python\nprint(1)\n~~~\n\n~~~text\n'
                    'done\n~~~\n\n<img alt="output" '
                    f'src="data:image/png;base64,{png}">\n\n'
                    f'<img alt="output" src="data:image/jpeg;base64,{png}">\n')


def test_a_notebook_that_failed_is_refused(tmp_path):
    failed = dict(output_type='error', ename='KeyError', evalue='x')
    cells = [dict(cell_type='code', source='x', outputs=[failed])]
    with pytest.raises(ValueError, match='n.ipynb, cell 1: .* KeyError: x'):
        notebooks.to_markdown(notebook(tmp_path, cells))
    with pytest.raises(ValueError, match='has format 3'):
        notebooks.to_markdown(notebook(tmp_path, [], nbformat=3))
