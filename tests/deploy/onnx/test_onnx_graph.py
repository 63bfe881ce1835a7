"""Changes of graphs: what onnxruntime computes stays."""
import numpy as np
import pytest
import torch

from mmcompress.deploy.onnx.activations import clip_codes, merge_quantizers
from mmcompress.deploy.onnx.integer_convs import write_integer_convs
from mmcompress.deploy.onnx.norms import fold_norms, keep_biases
from mmcompress.deploy.onnx.session import Session

pytest.importorskip('onnxruntime')
ir = pytest.importorskip('onnx_ir')
onnx = pytest.importorskip('onnx')
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
rng = np.random.default_rng(0)


def model_of(nodes, constants):
    """A model from x, shape (1, 4, 6, 6), to y."""
    inits = [
        onnx.numpy_helper.from_array(np.asarray(value), name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **node[3]) for node in nodes], 'g',
        [helper.make_tensor_value_info('x', FLOAT, [1, 4, 6, 6])],
        [helper.make_tensor_value_info('y', FLOAT, None)], inits)
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 21)], ir_version=10)
    return ir.from_proto(proto)


def run(model):
    x = torch.from_numpy(rng.standard_normal((1, 4, 6, 6), np.float32))
    return Session(ir.to_proto(model).SerializeToString())(x)[0]


def before_and_after(model, *changes):
    global rng
    rng = np.random.default_rng(1)
    before = run(model)
    for change in changes:
        change(model.graph)
    rng = np.random.default_rng(1)
    return before, run(model)


def kinds(model):
    return [node.op_type for node in model.graph]


def conv_and_norm(gamma):
    """A quantized convolution, padded, and its norm."""
    r = np.random.default_rng(2)
    nodes = [
        ('QuantizeLinear', ['x', 's', 'z'], ['q'], {}),
        ('DequantizeLinear', ['q', 's', 'z'], ['dx'], {}),
        ('DequantizeLinear', ['w', 'sw'], ['dw'], dict(axis=0)),
        ('Conv', ['dx', 'dw'], ['c'], dict(pads=[1] * 4, name='conv')),
        ('BatchNormalization', ['c', 'g', 'b', 'm',
                                'v'], ['y'], dict(epsilon=1e-5)),
    ]
    return model_of(
        nodes,
        dict(
            s=np.float32(.03),
            z=np.uint8(120),
            w=r.integers(-128, 128, (3, 4, 3, 3)).astype(np.int8),
            sw=np.array([.01, .02, .03], np.float32),
            g=np.array(gamma, np.float32),
            b=np.array([1, -2, 3], np.float32),
            m=np.array([.5, 0, 1], np.float32),
            v=np.array([1, 2, 3], np.float32)))


def test_a_norm_goes_into_scales_and_biases():
    model = conv_and_norm([1, -2, 3])
    before, after = before_and_after(model, fold_norms)
    assert 'BatchNormalization' not in kinds(model)
    torch.testing.assert_close(before, after)
    assert model.graph.initializers['w'].const_value.dtype == ir.DataType.INT8


def test_an_integer_convolution_is_the_same():
    model = conv_and_norm([1, -2, 3])
    before, after = before_and_after(
        model, fold_norms, lambda g: write_integer_convs(g, {'conv'}))
    assert 'ConvInteger' in kinds(model)
    torch.testing.assert_close(before, after)


def test_a_bias_fits_into_an_integer_of_tiny_scales():
    model = conv_and_norm([0, 1e-12, 3])
    _, after = before_and_after(model, fold_norms, keep_biases)
    conv = next(n for n in model.graph if n.op_type == 'Conv')
    scale = conv.inputs[1].producer().inputs[1].const_value.numpy()
    assert (np.abs([1, -2, 3]) <= 2.**31 * 0.03 * scale).all()
    torch.testing.assert_close(after[0, :2, 0, 0], torch.tensor([1., -2.]))


@pytest.mark.parametrize(
    'act', [('Relu', []), ('Clip', ['lo', 'hi'])], ids=['relu', 'clip'])
@pytest.mark.parametrize('zero', [0, 77])
def test_codes_are_clipped_as_values_were(act, zero):
    kind, limits = act
    model = model_of([
        (kind, ['x', *limits], ['a'], {}),
        ('QuantizeLinear', ['a', 's', 'z'], ['q'], {}),
        ('DequantizeLinear', ['q', 's', 'z'], ['y'], {}),
    ], dict(s=np.float32(.011), z=np.uint8(zero), lo=np.float32(-.3),
            hi=np.float32(.5)))  # yapf: disable
    before, after = before_and_after(model, clip_codes)
    assert kinds(model)[0] == 'QuantizeLinear'
    assert torch.equal(before, after)


def test_equal_quantizers_become_one():
    model = model_of([
        ('QuantizeLinear', ['x', 's', 'z'], ['q1'], {}),
        ('QuantizeLinear', ['x', 's2', 'z'], ['q2'], {}),
        ('QuantizeLinear', ['x', 't', 'z'], ['q3'], {}),
        ('DequantizeLinear', ['q1', 's', 'z'], ['d1'], {}),
        ('DequantizeLinear', ['q2', 's2', 'z'], ['d2'], {}),
        ('DequantizeLinear', ['q3', 't', 'z'], ['d3'], {}),
        ('Sum', ['d1', 'd2', 'd3'], ['y'], {}),
    ], dict(s=np.float32(.1), s2=np.float32(.1), t=np.float32(.2),
            z=np.uint8(128)))  # yapf: disable
    before, after = before_and_after(model, merge_quantizers)
    assert kinds(model).count('QuantizeLinear') == 2
    assert torch.equal(before, after)
