import importlib.util
from pathlib import Path

import pytest
import torch
from distill.models import build, retinanet
from integration.small_runs import write_config

from mmcompress.deploy.onnx import read_metadata

pytest.importorskip('onnxruntime')
pytestmark = pytest.mark.slow
TOOL = Path(__file__).parents[2] / 'tools' / 'deploy' / 'export_onnx.py'

spec = importlib.util.spec_from_file_location('export_onnx', TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def run(folder, monkeypatch, *arguments):
    model = retinanet(num_classes=10)
    write_config(folder / 'small.py', model)
    torch.save(
        dict(
            meta=dict(dataset_meta=dict(classes=('a', 'b'))),
            state_dict=build(model).state_dict()), folder / 'small.pth')
    monkeypatch.chdir(folder)
    monkeypatch.setattr('sys.argv',
                        [str(TOOL), 'small.py', 'small.pth', *arguments])
    tool.main()


def test_the_tool_writes_and_compares(tmp_path, monkeypatch, capsys):
    run(tmp_path, monkeypatch, 'net.onnx', '--images', '2')
    said = capsys.readouterr().out
    assert 'the file is float' in said and 'On 2 test images' in said
    assert read_metadata(tmp_path / 'net.onnx')['classes'] == ['a', 'b']


def test_the_tool_writes_predictions(tmp_path, monkeypatch, capsys):
    run(tmp_path, monkeypatch, 'net.onnx', '--postprocess',
        '--with-preprocessing', '--images', '2')
    said = capsys.readouterr().out
    assert 'On 2 test images, 100.00 % of boxes are equal' in said
    assert read_metadata(tmp_path / 'net.onnx')['input']['type'] == 'uint8'


def test_another_ending_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='must end with .onnx: net.pth'):
        run(tmp_path, monkeypatch, 'net.pth')
    assert not (tmp_path / 'net.pth').exists()
