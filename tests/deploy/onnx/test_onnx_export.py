import copy
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from tiny import SIZE, build, images

from mmcompress.deploy.onnx import (Network, Session, compare, export,
                                    metadata_of, read_metadata,
                                    without_quantizers)
from mmcompress.deploy.onnx.packages import PINS, needs

pytest.importorskip('onnxruntime')
onnx = pytest.importorskip('onnx')
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope='module')
def written():
    """A quantized model, and what was written of it."""
    model = build(bits=8)
    cfg = Config(dict(default_scope='mmpretrain'))
    meta = dict(dataset_meta=dict(classes=('a', 'b')))
    return model, export(model, SIZE, metadata_of(cfg, model, SIZE, meta))


def test_all_layers_run_in_integers(written):
    _, exported = written
    assert exported.found.integer == {
        # read by a sum, too
        'backbone.conv1': 'ConvInteger',
        'backbone.conv2': 'QLinearConv',
        'backbone.conv3': 'ConvInteger',
        'head.fc': 'MatMulIntegerToFloat'
    }
    assert exported.found.float == exported.floats() == {}
    assert set(exported.converted.layers.values()) == {'8/8'}


def test_the_file_is_plain_onnx_without_norms(written):
    _, exported = written
    model = onnx.load_from_string(exported.proto)
    onnx.checker.check_model(model, full_check=True)
    assert {
        entry.domain: entry.version
        for entry in model.opset_import
    }[''] == 21
    kinds = {node.op_type for node in model.graph.node}
    assert 'BatchNormalization' not in kinds
    # nothing of where and from what it was written
    assert str(ROOT) not in str(model) and 'PARAMETER' not in str(model)
    assert [value.name for value in model.graph.input] == ['images']


@torch.no_grad()
def test_onnxruntime_computes_what_the_model_does(written):
    model, exported = written
    for image in images(3).split(1):
        expected = model(image, mode='tensor')
        torch.testing.assert_close(exported.network(image)[0], expected)
    agreement = compare(exported, images(8).split(1))
    assert agreement.codes == 8 * (3 * 12 * 16 + 2 * 8 * 6 * 8 + 8)
    assert agreement.equal > 0.999 and agreement.nearly == 1
    assert agreement.difference < 0.01


def test_the_file_says_how_to_use_it(written, tmp_path):
    _, exported = written
    path = tmp_path / 'net.onnx'
    path.write_bytes(exported.proto)
    found = read_metadata(path)
    assert found['classes'] == ['a', 'b']
    assert found['model'] == 'ImageClassifier'
    assert found['input']['size'] == list(SIZE)
    assert found['input']['channels'] == 'RGB'
    assert found['input']['mean'] == [1, 2, 3]
    assert found['input']['std'] == [4, 5, 6]
    assert found['bits'] == dict.fromkeys(
        ['backbone.conv1', 'backbone.conv2', 'backbone.conv3', 'head.fc'],
        '8/8')


@torch.no_grad()
def test_a_model_predicts_by_the_file(written):
    model, exported = written
    by_file = copy.deepcopy(model)
    session = Session(exported.proto)
    Network(by_file, SIZE).run_by(session)
    samples = by_file(images(3), mode='predict')
    expected = model(images(3), mode='predict')
    for sample, other in zip(samples, expected):
        torch.testing.assert_close(
            sample.pred_score, other.pred_score, atol=0.01, rtol=0)
    with pytest.raises(ValueError, match='one of the data, 12 x 12, is of'):
        by_file(images(1)[..., :12], mode='predict')


@pytest.mark.slow
@torch.no_grad()
def test_few_bits_are_clipped_as_integers():
    exported = export(build(bits=4, act_bits=4), SIZE)
    assert len(exported.found.integer) == 4
    agreement = compare(exported, images(4).split(1))
    assert agreement.equal > 0.99 and agreement.difference < 0.05


@pytest.mark.slow
@torch.no_grad()
def test_a_float_model_is_written_as_it_is(written):
    model, _ = written
    plain = without_quantizers(model)
    exported = export(plain, SIZE)
    assert exported.found.integer == exported.floats() == {}
    torch.testing.assert_close(
        Session(exported.proto)(images())[0], plain(images(), mode='tensor'))


def test_a_quantizer_without_scales_is_refused():
    model = build(bits=8)
    model.backbone.conv3.input_quant.initialized.fill_(False)
    model.backbone.conv3.input_quant._ask()
    with pytest.raises(RuntimeError, match='conv3.*has no scales yet'):
        export(model, SIZE)


class _Data(nn.Module):
    """What it computes depends on data."""

    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_can_not_go_is_named():
    model = build()
    model.backbone.add_module('norm1', _Data())
    with pytest.raises(
            ValueError, match=r'backbone.norm1 \(_Data\) of ImageClassifier'):
        export(model, SIZE)


def test_a_missing_package_is_named():
    with pytest.raises(ImportError, match=r'needs no_such_runtime.*onnx==1'):
        needs('no_such_runtime.part')


def test_the_pins_are_the_same_everywhere():
    lines = (ROOT / 'requirements' / 'onnx.txt').read_text().splitlines()
    assert tuple(x for x in lines if not x.startswith('#')) == PINS
    setup = (ROOT / 'setup.py').read_text()
    assert all(repr(pin) in setup for pin in PINS)
