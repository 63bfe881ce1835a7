import importlib.util
from pathlib import Path
from unittest import mock

import pytest
import torch

from mmcompress.deploy.integer_layers import PackedIntegerLayer
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


def test_all_at_once_is_packed(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    combined = importlib.import_module('bench_combined')
    arch = dict(
        embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    models = {
        name: combined.build(*combined.VARIANTS[name], arch, 64)
        for name in ('dense', 'pruned, merged, W8A8')
    }
    packed = models['pruned, merged, W8A8']
    assert packed.layers[0].attn.head_dims == 4
    assert isinstance(packed.layers[0].attn.qkv, PackedIntegerLayer)
    cases = combined.measure(models, torch.randn(1, 3, 64, 64), 6)
    text = combined.as_markdown(
        cases, dict(machine='a machine', kernels='none', rounds=6))
    assert '| dense | 1 | ' in text and ' 1.00 [1.00, 1.00] |' in text
