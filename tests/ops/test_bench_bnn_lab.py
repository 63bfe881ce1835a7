import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

FOLDER = Path(__file__).parents[2] / 'ops' / 'benchmarks'


@pytest.fixture
def bench(monkeypatch):
    # it imports the other benchmark
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location('bench_bnn_lab',
                                                  FOLDER / 'bench_bnn_lab.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.bench_binary, 'SECONDS', 1e-4)
    yield module
    sys.modules.pop('bench_binary', None)


def rival(wrong=0):
    """Stands in for bnn-lab: its functions, on floats."""

    def product(x, weight, inputs):
        return (x.sign() @ weight.sign().T + wrong).numpy()

    packed = SimpleNamespace(
        pack_binary_pm1=lambda x, axis: (torch.from_numpy(x), x.shape[axis]),
        binary_gemm_native_prepacked=product)

    def layer(weight, alpha):
        return lambda x: alpha * (x.sign() @ weight.sign().T)

    return packed, layer


def test_measures_both_on_the_same_numbers(bench):
    result = bench.measure((2, 5, 70), rival(), 3)
    assert result['name'] == '2x5x70'
    assert len(result['layer_ratios']) == len(result['packed_ratios']) == 3
    about = dict(machine='', kernels='', rounds=3, clock='', rival='')
    assert '| 2x5x70 |' in bench.format_markdown(about, [result])


def test_other_numbers_are_an_error(bench):
    with pytest.raises(RuntimeError, match='packed of .* differ'):
        bench.make_parts((2, 5, 70), *rival(wrong=2))


def test_says_how_to_install_what_is_missing(bench, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'bnn', None)
    with pytest.raises(SystemExit, match='pip install --no-deps --target'):
        bench.import_rival(tmp_path)
