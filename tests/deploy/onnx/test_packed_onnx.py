"""Packed models on onnxruntime, in Python and outside of it."""
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from deploy.networks import as_if_trained, bi_resnet
from mmengine.registry import MODELS, DefaultScope
from quantization import small_models

from mmcompress.deploy import pack
from mmcompress.deploy.onnx import (Network, Session, compare, custom_ops,
                                    custom_ops_library, export)
from mmcompress.model.config import build_untrained, read_config

pytest.importorskip('onnxscript')
runtime = pytest.importorskip('onnxruntime')
if not custom_ops._FILE.exists():
    pytest.skip('the library is not built', allow_module_level=True)

ROOT = Path(__file__).parents[3]
ORT = ROOT / 'ops' / 'csrc' / 'onnxruntime'

pytestmark = [pytest.mark.slow, pytest.mark.gate]


def classifier():
    """A ReActNet with a stage of each kind of block."""
    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(
                bi_resnet('react'),
                base_channels=16,
                num_stages=2,
                out_indices=(1, )),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=32)))


def retinanet():
    """A detector of mmdet, all of whose 3x3 convolutions are 1-bit."""
    step = dict(
        type='mmcompress.ReplaceConvs',
        conv_cfg=dict(type='mmcompress.ReActConv2d'),
        include=['backbone.layer*.conv*', 'neck.fpn_convs*', '*_convs.*'])
    return small_models.build('retinanet', [step])


def ida_det():
    """A detector of two stages."""
    return build_untrained(
        read_config(str(ROOT / 'configs/ida_det/ida_det_r18_mini.py'), None))


# name -> library, how it is built, size of images
NETWORKS = dict(
    react=('mmpretrain', classifier, (64, 64)),
    retinanet=('mmdet', retinanet, (64, 96)),
    ida_det=('mmdet', ida_det, (64, 96)))


@pytest.fixture(scope='module')
def networks():
    return {}


def packed(name, networks):
    """A packed network and what was written of it, made once."""
    if name not in networks:
        library, build, size = NETWORKS[name]
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(library):
            model = pack(as_if_trained(build()))[1]
            networks[name] = model, export(model, size)
    return networks[name]


def image_for(name):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 3, *NETWORKS[name][2], generator=generator)


@pytest.mark.parametrize('name', NETWORKS)
@torch.no_grad()
def test_a_packed_network(name, networks):
    model, exported = packed(name, networks)
    image = image_for(name)
    agreement = compare(exported, [image])
    # a value within rounding of a threshold could flip; here none is
    assert agreement.bits > 1000 and agreement.different_bits == 0
    assert agreement.largest < 1e-5
    assert exported.floats() == {}
    kinds = set(exported.found.integer.values())
    assert kinds <= set(
        ('BinaryConv2dFused', 'BinaryConv2dFusedBits', 'BinaryConv2dBits'))
    assert 'BinaryConv2dFused' in kinds
    # what it was compared with is the model that was handed over
    own = Network(model, NETWORKS[name][2])(image)
    for a, b in zip(exported.network(image), own, strict=True):
        assert a.equal(b)


@torch.no_grad()
def test_the_file_is_as_small_as_the_packed_one(networks):
    model, exported = packed('retinanet', networks)
    state = sum(x.numel() * x.element_size()
                for x in model.state_dict().values())
    assert len(exported.proto) < 2 * state


@torch.no_grad()
def test_packed_layers_read_each_other_without_transposing(networks):
    onnx = pytest.importorskip('onnx')
    _, exported = packed('react', networks)
    graph = onnx.load_from_string(exported.proto).graph
    makers = {out: node for node in graph.node for out in node.output}
    layers = [n for n in graph.node if n.domain == 'mmcompress']
    assert layers
    for layer in layers:
        for name in layer.input:
            maker = makers.get(name)
            assert maker is None or maker.op_type != 'Transpose' or list(
                maker.attribute[0].ints) != [0, 3, 1, 2]


def test_integers_of_several_bits_are_refused():
    from tiny import SIZE, build
    with pytest.raises(ValueError, match=r'backbone.conv1.*Export the quant'):
        export(pack(build(bits=8))[1], SIZE)


@pytest.fixture(scope='module')
def example(tmp_path_factory):
    """The program, linked with the library in onnxruntime's wheel."""
    compiler = shutil.which('c++') or shutil.which('g++')
    if compiler is None:
        pytest.skip('there is no C++ compiler')
    folder = tmp_path_factory.mktemp('example')
    library = next(
        Path(runtime.__file__).parent.glob('capi/libonnxruntime.so.*'))
    # the name that the loader looks for is not in the wheel
    link = folder / 'libonnxruntime.so.1'
    link.symlink_to(library)
    program = folder / 'example'
    subprocess.run([
        compiler, '-std=c++17', '-Wall', '-Werror',
        str(ORT / 'example.cpp'), '-o',
        str(program),
        str(link), f'-Wl,-rpath,{folder}'
    ], check=True)  # yapf: disable
    return program


@pytest.mark.parametrize('name', ['react', 'retinanet'])
@torch.no_grad()
def test_outside_of_python(name, networks, example, tmp_path):
    model, exported = packed(name, networks)
    image = image_for(name)
    (tmp_path / 'net.onnx').write_bytes(exported.proto)
    (tmp_path / 'image.f32').write_bytes(image.numpy().tobytes())
    done = subprocess.run([
        example, tmp_path / 'net.onnx', custom_ops_library(),
        tmp_path / 'image.f32', *map(str, image.shape)
    ], capture_output=True, check=True)  # yapf: disable
    expected = exported.network(image)
    lines = done.stderr.decode().splitlines()
    assert lines == [
        ' '.join([name, 'float32', *map(str, y.shape)])
        for name, y in zip(exported.network.output_names(), expected)
    ]
    found = torch.from_numpy(np.frombuffer(done.stdout, np.float32).copy())
    flat = torch.cat([y.flatten() for y in expected])
    assert (found - flat).abs().max() <= 1e-5 * flat.abs().max()


def test_the_program_says_what_is_wrong(example, tmp_path):
    done = subprocess.run([
        example, tmp_path / 'no.onnx', tmp_path / 'no.so', __file__, '1', '3'
    ], capture_output=True)  # yapf: disable
    assert done.returncode == 1
    assert b'bytes, the shape 12' in done.stderr


@torch.no_grad()
def test_two_threads_of_a_session(networks):
    _, exported = packed('react', networks)
    image = image_for('react')
    one, two = (Session(exported.proto, threads=n)(image) for n in (1, 2))
    for a, b in zip(one, two):
        torch.testing.assert_close(a, b)
