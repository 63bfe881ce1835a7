"""Reports show what a record says, in files that need no others."""
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image
from results.examples import record

from mmcompress.results import Form, render, write_record
from mmcompress.results.blocks import Cells, Text, as_html, as_markdown
from mmcompress.results.plots import Panel, Point, bars, points
from mmcompress.results.running import command_of


@pytest.fixture
def run(tmp_path):
    """Folder of a finished run."""
    folder = tmp_path / 'run'
    folder.mkdir()
    Image.new('RGB', (40, 20), 'red').save(folder / 'picture.png')
    (folder / 'packed.py').write_text('')
    (folder / 'packed.pth').write_bytes(b'')
    write_record(record(), folder / 'record.json')
    return folder


def test_both_formats_have_the_same_numbers(run):
    markdown, page = (
        path.read_text()
        for path in render([record()], run, plan=['`neck` stays float']))
    for text in ('40.9', '-0.3', '4.0 x', '60.4 [54.4, 72.5]', '2.04 x',
                 '--exclude bbox_head', '200 images of cells', 'some CPU',
                 'DetInferencer', f'{run}/packed.pth'):
        assert text in markdown and text in page, text
    assert '<code>neck</code> stays float' in page
    assert 'left &lt;float&gt;' in page
    assert '![' in markdown and (run / 'plots' / 'latency.svg').is_file()


class _Links(HTMLParser):
    """What a page asks other places for."""
    void = {'meta', 'img', 'br', 'path', 'use', 'rect'}

    def __init__(self):
        super().__init__()
        self.asked, self.open = [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.asked += [
            attrs[k] for k in ('src', 'href', 'xlink:href') if k in attrs
        ]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_other_file(run):
    text = render([record()], run, ['html'])[0].read_text()
    page = _Links()
    page.feed(text)
    assert page.open == []
    assert all(a.startswith(('data:', '#')) for a in page.asked)
    assert any(a.startswith('data:image/jpeg') for a in page.asked)
    assert 'width=device-width' in text
    # of several drawings, no two parts have one name
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))
    assert all(a[1:] in names for a in page.asked if a[0] == '#')


def test_a_record_without_measurements_is_reported(tmp_path):
    bare = record(forms=[Form('float')], metric='', remarks=[], settings={})
    assert 'float' in render([bare], tmp_path, ['md'])[0].read_text()


def test_errors_name_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="'pdf' .* md, html"):
        render([record()], tmp_path, ['pdf'])
    with pytest.raises(ValueError, match='no record'):
        render([], tmp_path)


def test_the_command_has_the_options_that_were_given():
    assert command_of(record()) == (
        'python tools/compress.py my.py my.pth --bits 8 --exclude bbox_head')
    blind = replace(record(), settings=dict(bits='8', metric=False))
    assert command_of(blind).endswith('--bits 8 --no-metric')
    told = replace(record(), settings=dict(command='mim run x'))
    assert command_of(told) == 'mim run x'
    assert command_of(replace(record(), kind='mini')) == ''


def test_bars_say_their_numbers_and_are_always_the_same():
    panel = Panel('latency, ms', [2.0, None], ['2.0', '-'], 'C1',
                  [(1.5, 2.5), None])
    svg = bars(['float', 'packed'], panel)
    for text in ('latency, ms', '>2.0<', 'packed'):
        assert text in svg
    assert svg == bars(['float', 'packed'], panel)


def test_points_are_labelled_by_form_and_run():
    svg = points([
        Point(10., 40., 'float', 'a', 9., 11.),
        Point(3., 39., 'packed', 'b')
    ], 'ms', 'AP')  # yapf: disable
    for text in ('float', 'packed', '>a<', '>b<', '>ms<'):
        assert text in svg


def test_bars_in_cells_do_not_end_them(tmp_path):
    blocks = [Cells(['a', 'b'], [['x|y', '<1']]), Text('see `a|b`')]
    assert 'x\\|y' in as_markdown(blocks, tmp_path)
    assert '<td class=text>x|y</td><td>&lt;1</td>' in as_html(blocks, 't')
