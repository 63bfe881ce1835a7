import importlib.util
import json
from pathlib import Path

import pytest

import mmcompress.compat  # noqa: F401

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'analysis_tools' / 'get_complexity.py'
CONFIG = ROOT / 'configs' / 'ida_det' / 'ida_det_pretrain_r18_step2.py'


@pytest.fixture
def run(monkeypatch, capsys):
    """Call the tool; returns what it printed."""
    spec = importlib.util.spec_from_file_location('get_complexity', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def call(*arguments):
        monkeypatch.setattr('sys.argv', [str(TOOL), *map(str, arguments)])
        tool.main()
        return capsys.readouterr().out

    return call


def test_table_has_a_row_per_layer_and_the_totals(run):
    text = run(CONFIG)
    row = next(line for line in text.splitlines()
               if line.startswith('| backbone.layer1.0.conv '))
    cells = [cell.strip() for cell in row.split('|')[1:-1]]
    assert cells[1:3] == ['IDaDetConv2d', '1/1']
    assert cells[3:] == [
        '36,992', '147,968', '5,120', '-', '115,605,504', '1,806,336'
    ]
    assert 'OPs 1.640e+08' in text
    assert 'stored 46.89 MB | packed 4.32 MB' in text
    assert 'once low-bit weights take their bits' in text


def test_json_says_the_same(run):
    result = json.loads(run(CONFIG, '--json', '--shape', 224, 224))
    assert result['subject'] == 'ImageClassifier, input 3 x 224 x 224'
    assert result['total']['ops'] == pytest.approx(1.64e8, rel=1e-3)
    assert sum(layer['flops'] for layer in
               result['layers']) == result['total']['flops'] == 137_793_536
    assert 'counted once' in result['convention']


def test_shape_and_options_are_followed(run):
    result = json.loads(
        run(CONFIG, '--json', '--shape', 32, 64, '--cfg-options',
            'model.student.head.num_classes=7'))
    assert result['subject'].endswith('3 x 32 x 64')
    assert result['layers'][-1]['flops'] == 7 * 512


def test_a_float_model_is_said_to_be_one(run):
    text = run('mmpretrain::resnet/resnet18_8xb32_in1k.py', '--shape', 64, 64)
    assert 'No layer has low-bit weights' in text
