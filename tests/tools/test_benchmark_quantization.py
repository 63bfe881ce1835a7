import importlib.util
from pathlib import Path

import torch

TOOL = Path(__file__).parents[2].joinpath('tools', 'analysis_tools',
                                          'benchmark_quantization.py')
spec = importlib.util.spec_from_file_location('benchmark_quantization', TOOL)
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


def test_times_both_models(monkeypatch, capsys):
    monkeypatch.setattr('sys.argv',
                        ['tool', '--eager', '--rounds', '6', '--batch', '2'])
    benchmark.main()
    out = capsys.readouterr().out
    row, = (line for line in out.splitlines() if line.startswith('| eager'))
    plain, quantized, ratio = (
        float(cell.split()[0]) for cell in row.strip('| ').split('|')[1:])
    assert plain > 0 and quantized > 0 and ratio > 0


def test_a_step_goes_backward_and_leaves_no_gradient():
    model = torch.nn.Linear(2, 3)
    seen = []
    model.weight.register_hook(lambda grad: seen.append(grad.clone()))
    benchmark.training_step(model, lambda x, mode: [model(x)],
                            torch.ones(4, 2))()
    assert seen[0].eq(4).all()
    assert model.weight.grad is None
