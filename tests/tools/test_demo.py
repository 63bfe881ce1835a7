import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRINT = """
import os, sys
sys.modules['torch'] = type(sys)('torch')  # whose import would read it
sys.modules['torch'].nn = type('nn', (), {'Module': None})
import demo
print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))
"""


@pytest.mark.parametrize('given, policy', [
    ({}, 'passive None'),
    ({'OMP_WAIT_POLICY': 'active'}, 'active None'),
    ({'GOMP_SPINCOUNT': '5'}, 'None 5'),
])  # yapf: disable
def test_threads_wait_without_spinning_unless_told_otherwise(given, policy):
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key not in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')
    }
    done = subprocess.run([sys.executable, '-S', '-c', PRINT],
                          env={
                              **inherited,
                              **given, 'PYTHONPATH': str(ROOT / 'tools')
                          },
                          capture_output=True,
                          text=True)
    assert done.stdout.strip() == policy, done.stderr


@pytest.fixture(scope='module')
def demo():
    # importing it sets the policy of threads
    before = dict(os.environ)
    spec = importlib.util.spec_from_file_location('demo',
                                                  ROOT / 'tools' / 'demo.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['demo'] = module
    spec.loader.exec_module(module)
    os.environ.clear()
    os.environ.update(before)
    yield module
    del sys.modules['demo']


def test_table_compares_with_the_first_form(demo):
    rounds = [0.010 + i / 1e5 for i in range(9)]
    forms = [
        demo.Form('float', None, None, 75.04, None, rounds),
        demo.Form('packed', None, None, 64.96, None, [s / 4 for s in rounds]),
    ]
    assert forms[0].latency() == '10.0 [10.0, 10.1]'
    lines = demo.as_table(forms, [12_000_000, 2_400_000], 'title').splitlines()
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines
            if line.startswith('| ')]
    assert rows[-2][:4] == ['float', '75.0', '12.00', '1.0 x']
    assert rows[-1] == [
        'packed', '65.0', '2.40', '5.0 x', '2.5 [2.5, 2.5]',
        '4.00 [4.00, 4.00]'
    ]


def test_picture_writes_numbers_as_the_table_does(demo, tmp_path):
    from mmcompress.results.metrics import Metric
    plots = demo.plot_packed()
    picture = tmp_path / 'bars.svg'
    plots.draw([plots.Form('packed', 2_400_000, 0.00251, 4.0, 64.96)],
               Metric('box AP', digits=1), 'a machine', picture)
    text = picture.read_text()
    for number in ('2.40', '2.5 (4.00 x)', '65.0'):
        assert f'>{number}<' in text


def test_every_form_sees_the_same_images(demo, monkeypatch):
    import torch
    seen = {'a': [], 'b': []}

    class Model(torch.nn.Module):

        def __init__(self, name):
            super().__init__()
            self.name = name

        def data_preprocessor(self, batch, training):
            assert training is False
            return dict(inputs=batch['inputs'])

        def forward(self, inputs, mode):
            assert mode == 'predict' and torch.get_num_threads() == 1
            seen[self.name].append(int(inputs[0]))

    forms = [demo.Form(name, None, None, model=Model(name)) for name in 'ab']
    threads = torch.get_num_threads()
    demo.measure(forms, [dict(inputs=torch.tensor(i)) for i in range(20)], 6)
    assert seen['a'] == seen['b'] == list(range(9))
    assert [len(form.seconds) for form in forms] == [6, 6]
    assert torch.get_num_threads() == threads
