import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / 'ops' / 'benchmarks'


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location('bench_ort_ops',
                                                  FOLDER / 'bench_ort_ops.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ratios_are_to_the_float_network_on_onnxruntime(bench, monkeypatch):
    seconds = {bench.BASE: [4.] * 6, 'onnxruntime, packed': [1.] * 5 + [2.]}
    monkeypatch.setattr(bench.timing, 'interleaved',
                        lambda calls, rounds, clock: seconds)
    base, packed = bench.measure(dict.fromkeys(seconds), 'a net', 6)
    assert base['ratio'] == 1 and base['ms'] == 4000
    assert packed['ratio'] == 4 and packed['interval'] == (2, 4)
    about = dict(machine='m', onnxruntime='1', kernels='avx2', rounds=6)
    row = bench.as_markdown([packed], about).splitlines()[-1]
    assert row.startswith('| a net | onnxruntime, packed | 1000.0 | 4.00 [2')


def test_its_configs_are_there(bench):
    assert all(
        (bench.ROOT / 'configs' / name).exists() for name in bench.CONFIGS)
