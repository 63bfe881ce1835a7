import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch
from quantization.quantizer_cases import CASES, SIGNS

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'visualization' / 'plot_quantizers.py'
spec = importlib.util.spec_from_file_location('plot_quantizers', TOOL)
plot_quantizers = importlib.util.module_from_spec(spec)
# its dataclass looks there
sys.modules['plot_quantizers'] = plot_quantizers
spec.loader.exec_module(plot_quantizers)
SHOWN = plot_quantizers.SHOWN
PAGE = (ROOT / 'docs' / 'quantizers.md').read_text('utf-8')
ROWS = {
    row[0]: row[1:]
    for row in re.findall(
        r'\| \[`(\w+)`\]\(\S+\) \| .* \| (.*) \| (.*) \| (.*) \| (.*) \|',
        PAGE)
}


def test_the_page_lists_every_quantizer():
    assert set(ROWS) == {case.cls.__name__ for case in CASES.values()}


@pytest.mark.parametrize('name', ROWS)
def test_the_page_says_what_a_quantizer_is_defined_for(name):
    cases = [case for case in CASES.values() if case.cls.__name__ == name]
    cls = cases[0].cls
    first, last = cls.allowed_bits[0], cls.allowed_bits[-1]
    names = dict(zip(SIGNS, ('signed', 'unsigned', 'auto')))
    signs = {sign for case in cases for sign in case.signs}
    assert ROWS[name] == (str(first) if first == last else
                          f'{first} to {last}', ', '.join(
                              max((case.places for case in cases),
                                  key=len)), ', '.join(names[sign]
                                                       for sign in SIGNS
                                                       if sign in signs),
                          'no' if cls.stateful else 'yes')


@pytest.mark.parametrize('name', SHOWN)
def test_the_page_shows_each_picture(name):
    assert f'![{SHOWN[name].title}](quantizers/{name}.svg)' in PAGE
    file = ROOT / 'docs' / 'quantizers' / f'{name}.svg'
    assert 0 < file.stat().st_size < 30_000


def test_no_picture_is_left_over():
    files = (ROOT / 'docs' / 'quantizers').iterdir()
    assert {file.stem for file in files} == set(SHOWN)


def test_derivatives_are_those_of_one_element():
    quantizer = plot_quantizers.begin(SHOWN['pact'])
    x = torch.tensor([-1, 0.5, 2], dtype=torch.double)
    y, dx, by_parameter = plot_quantizers.respond(quantizer, x)
    torch.testing.assert_close(y, x.new_tensor([0, 2 * 1.5 / 7, 1.5]))
    assert dx.tolist() == [0, 1, 0]
    assert by_parameter['alpha'].tolist() == [0, 0, 1]


def test_the_factor_of_lsq_is_taken_out():
    quantizer = plot_quantizers.begin(SHOWN['lsq'])
    x = torch.tensor([-5., 0.5, 5.], dtype=torch.double)
    _, _, by_parameter = plot_quantizers.respond(quantizer, x)
    torch.testing.assert_close(by_parameter['scale'],
                               torch.tensor([-4, 1 - 1.25, 3]).double())


def test_writes_a_picture(tmp_path):
    plot_quantizers.draw(SHOWN['lsf'], tmp_path / 'lsf.png')
    assert (tmp_path / 'lsf.png').read_bytes().startswith(b'\x89PNG')
