import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / 'ops' / 'benchmarks'


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location('bench_integer',
                                                  FOLDER / 'bench_integer.py')
    module = importlib.util.module_from_spec(spec)
    # where dataclasses look their module up
    monkeypatch.setitem(sys.modules, 'bench_integer', module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.bench_binary, 'SECONDS', 1e-4)
    # starts a compiler
    monkeypatch.setattr(module.bench_binary, 'make_clock', lambda: None)
    return module


def test_all_parts_compute_the_same_layer(bench):
    for layer in (bench.Layer('', 8, 6, 5, 4, 3,
                              2), bench.Product('', 5, 8, 6)):
        for name, part in bench.make_parts(layer).items():
            y = part()
            y = y if isinstance(y, torch.Tensor) else y[0]
            wanted = (
                1, 6, 3,
                2) if layer.group == '' and hasattr(layer, 'kernel') else (5,
                                                                           6)
            assert y.shape == wanted, name


def test_layers_of_resnet_50(bench):
    layers = bench.resnet_layers(224, 224)
    assert len(layers) == len(set(layers)) == 19
    assert layers[-1].name == '1x1, 1024 to 2048, 14x14, stride 2'


def test_writes_tables_and_numbers(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, 'products',
                        lambda: [bench.Product('rows', 3, 16, 8)])
    monkeypatch.setattr(bench, 'resnet_layers',
                        lambda height, width: [bench.Layer('map', 4, 4, 3, 3)])
    monkeypatch.setattr(sys, 'argv',
                        ['bench', '--rounds', '3', '--out',
                         str(tmp_path)])
    bench.main()
    stored, = tmp_path.glob('integer_*_1t.json')
    first, *_ = json.loads(stored.read_text())['layers']
    assert first['products'] == 3 * 16 * 8
    low, high = first['W4A8']['ratio_range']
    assert low <= first['W4A8']['ratio'] <= high
    text, = tmp_path.glob('*.md')
    assert '| 3x3, 4 to 4, 3x3 |' in text.read_text()
