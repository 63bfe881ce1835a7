"""Packed networks in torch.compile and torch.export."""
import io

import pytest
import torch
from deploy.networks import as_if_trained, bi_resnet
from mmengine.registry import DefaultScope

from mmcompress.deploy import pack
from mmcompress.registry import MODELS

NETWORKS = dict(
    blocks=(bi_resnet(num_stages=2), (1, 3, 48, 32)),
    integers=(bi_resnet('xnor', num_stages=1), (1, 3, 32, 32)))


def packed_network(name):
    cfg, shape = NETWORKS[name]
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = as_if_trained(MODELS.build(cfg))
    return pack(model)[1], torch.randn(shape)


@pytest.fixture(params=NETWORKS)
def packed(request):
    model, x = packed_network(request.param)
    with torch.no_grad():
        # arranges the weights for the kernels, once
        return model, x, as_tuple(model(x))


def as_tuple(y):
    return y if isinstance(y, tuple) else (y, )


def equal(found, expected):
    return all(
        a.equal(b) for a, b in zip(as_tuple(found), expected, strict=True))


def test_compile_without_a_break(packed):
    model, x, expected = packed
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
        assert equal(compiled(x), expected)


@pytest.mark.slow
def test_compile_with_inductor(packed):
    model, x, expected = packed
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True)
        for a, b in zip(as_tuple(compiled(x)), expected):
            assert torch.allclose(a, b, atol=1e-4)


def test_export_and_back(packed):
    model, x, expected = packed
    with torch.no_grad():
        program = torch.export.export(model, (x, ))
    targets = [str(node.target) for node in program.graph.nodes]
    assert any('binary_conv2d_fused' in target for target in targets)
    # arranged weights are constants of the graph
    assert not any('prepack' in target for target in targets)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    assert equal(torch.export.load(file).module()(x), expected)


def test_export_of_other_sizes():
    packed, _ = packed_network('blocks')
    auto = torch.export.Dim.AUTO
    with torch.no_grad():
        packed(torch.randn(1, 3, 64, 64))
        program = torch.export.export(
            packed, (torch.randn(2, 3, 64, 96), ),
            dynamic_shapes=({0: auto, 2: auto, 3: auto}, ))  # yapf: disable
        x = torch.randn(3, 3, 80, 64)
        assert equal(program.module()(x), packed(x))


def test_a_model_that_never_ran_exports_as_well():
    packed, x = packed_network('integers')
    with torch.no_grad():
        program = torch.export.export(packed, (x, ))
        assert equal(program.module()(x), packed(x))
