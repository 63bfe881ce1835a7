import importlib.util
from pathlib import Path
from unittest import mock

import pytest

from mmcompress.tokens import layers

FOLDER = Path(__file__).parents[2] / 'ops' / 'benchmarks'


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location('bench_tokens',
                                                  FOLDER / 'bench_tokens.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_eager_and_fused_are_what_they_say(bench):
    arch = dict(
        embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    with mock.patch.object(
            layers, 'match_merge', wraps=layers.match_merge) as op:
        case = bench.measure(arch, 3, 1, 64, .5, rounds=6)
    # two layers, in six rounds and two before
    assert op.call_count == 2 * 8
    assert case['eager'] > 0 and case['fused_ms'] > 0
    text = bench.as_markdown([dict(case, model='small')],
                             dict(
                                 machine='a machine', kernels='none',
                                 rounds=6))
    assert '| small | 64 | 3 | 50% | 1 | ' in text
