import importlib.util
import json
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / 'ops' / 'benchmarks' / 'bench_binary.py'


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location('bench_binary', PATH)
    module = importlib.util.module_from_spec(spec)
    # where dataclasses look their module up
    monkeypatch.setitem(sys.modules, 'bench_binary', module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'SECONDS', 1e-4)
    return module


def test_counts_products_as_the_float_layer_does(bench):
    layer = bench.Layer('', 64, 128, 56, 57, 3, 2, 2)
    assert layer.products == 28 * 29 * 128 * 32 * 9
    assert layer.name == '3x3, 64 to 128, 56x57, stride 2, 2 groups'


def test_all_parts_compute_the_same_layer(bench):
    for layer in (bench.Layer('', 8, 4, 5, 6), bench.Layer('', 8, 4, 5, 6, 1)):
        parts = bench.make_parts(layer)
        shape = parts['fp32 NCHW']().shape
        assert parts['float']()[0].shape == shape
        assert parts['fp32 channels-last']().shape == shape
        assert parts['packed']().shape[1:3] == shape[2:]
        assert ('fp32 matrix' in parts) == (layer.kernel == 1)


def test_writes_tables_numbers_and_a_picture(bench, monkeypatch, tmp_path):
    layers = [bench.Layer('small', 32, 32, 4, 5)]
    monkeypatch.setattr(bench, 'resnet_layers', lambda: layers)
    monkeypatch.setattr(bench, 'OTHER_LAYERS',
                        [bench.Layer('poor', 4, 4, 3, 3, 3, 1, 4)])
    monkeypatch.setattr(sys, 'argv',
                        ['bench', '--rounds', '3', '--out',
                         str(tmp_path)])
    assert bench.main() == 0
    stored, = tmp_path.glob('binary_*_1t.json')
    stored = json.loads(stored.read_text())
    assert stored['threads'] == 1 and stored['rounds'] == 3
    first, last = stored['layers']
    assert first['name'] == '3x3, 32 to 32, 4x5'
    times = first['median_ms']
    assert first['opponent'] in times
    assert times[first['opponent']] == min(times['fp32 NCHW'],
                                           times['fp32 channels-last'])
    low, high = first['packed_ratio_range']
    assert low <= first['packed_ratio'] <= high
    text, = tmp_path.glob('*.md')
    assert '| 3x3, 4 to 4, 3x3, 4 groups |' in text.read_text()
    assert len(list(tmp_path.glob('*.png'))) == 1


def test_slow_layers_are_measured_twice_before_it_fails(bench):
    layer = dict(name='a', kernel=3, channels=128, groups=1, packed_ratio=3.9)
    calls = []

    def again(name, ratio):
        calls.append(name)
        return dict(packed_ratio=ratio)

    assert not bench.check([layer], lambda name: again(name, 4.1))
    problem, = bench.check([layer], lambda name: again(name, 3.8))
    assert problem == 'a: 3.8 times fp32, less than 4.0'
    assert calls == ['a', 'a']
    assert not bench.check([dict(layer, channels=64)], None)
    assert not bench.check([dict(layer, packed_ratio=4.5)], None)
