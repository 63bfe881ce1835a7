"""Models of the libraries' own configs, made smaller, on onnxruntime."""
import copy

import pytest
import torch
from mmengine.registry import DefaultScope
from quantization import small_models
from torch.utils._pytree import tree_flatten

from mmcompress.deploy.onnx import Session, compare, export

pytest.importorskip('onnxruntime')

small_models.MODELS_OF_LIBRARIES['pspnet'] = small_models.Small(
    'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    dict(
        backbone=dict(base_channels=8, stem_channels=8),
        decode_head=dict(in_channels=64, channels=16, num_classes=4),
        auxiliary_head=dict(in_channels=32, channels=16, num_classes=4)),
    (64, 64))
NAMES = ('retinanet', 'faster_rcnn', 'rtmdet', 'detr', 'resnet',
         'mobilenet_v2', 'deit', 'swin', 'pspnet', 'segformer', 'rtmpose',
         'vitpose', 'swin_v2', 'beit', 'upernet_swin', 'conditional_detr')
LSQ = dict(type='LSQ', bits=8)
STEP = dict(
    type='mmcompress.QuantizeLayers',
    weight=LSQ,
    activation=dict(LSQ, offset='zero_point'),
    attention=LSQ)
# what stays float, by the ends of names
FLOATS = dict(
    faster_rcnn=('roi_head', ),
    vitpose=('deconv_layers.0', ),
    pspnet=('auxiliary_head', ),
    upernet_swin=('auxiliary_head', ))

pytestmark = pytest.mark.slow


def build(name, steps):
    """The model with norms that do something, in eval mode, and an image."""
    model = small_models.build(name, steps)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, .1)
            module.running_var.uniform_(.5, 2)
            module.weight.data.uniform_(.5, 1.5)
    model.requires_grad_(False)
    model.eval()
    batch = small_models.batch_of(name, model)
    if steps:
        with torch.enable_grad():
            model(**copy.deepcopy(batch), mode='tensor')
    return model, batch['inputs'][:1].contiguous()


def outputs(model, network, image):
    """Of the model itself."""
    if network.is_two_stage:
        features = model.extract_feat(image)
        return tree_flatten((features, model.rpn_head(features)))[0]
    return tree_flatten(model(image, network.samples, mode='tensor'))[0]


@pytest.mark.parametrize('name', NAMES)
@torch.no_grad()
def test_a_float_model(name):
    with DefaultScope.overwrite_default_scope(small_models.scope_of(name)):
        model, image = build(name, None)
        exported = export(model, image.shape[-2:])
        actual = Session(exported.proto)(image)
        expected = outputs(model, exported.network, image)
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        assert (a - b).norm() <= 3e-6 * b.norm()


@pytest.mark.parametrize('name', NAMES)
@torch.no_grad()
def test_a_quantized_model(name):
    with DefaultScope.overwrite_default_scope(small_models.scope_of(name)):
        model, image = build(name, [STEP])
        exported = export(model, image.shape[-2:])
        expected = outputs(model, exported.network, image)
        for a, b in zip(exported.network(image), expected):
            # the sums of attentions are in another order
            assert (a - b).norm() <= 0.03 * b.norm()
        agreement = compare(exported, [image])
    floats = [
        layer for layer in exported.floats()
        if not any(part in layer for part in FLOATS.get(name, ()))
    ]
    assert floats == []
    # nets without training, in which flips grow from layer to layer
    assert agreement.equal > 0.8 and agreement.nearly > 0.95
    assert agreement.difference < 0.1


@torch.no_grad()
def test_operators_of_mmcv_are_refused_by_name():
    from mmcv.ops import ModulatedDeformConv2dPack
    with DefaultScope.overwrite_default_scope('mmdet'):
        model, image = build('retinanet', None)
        model.backbone.layer2[0].conv2 = ModulatedDeformConv2dPack(
            16, 16, 3, padding=1)
        with pytest.raises(
                ValueError,
                match=r'backbone.layer2.0.conv2 \(ModulatedDeformConv2dPack'):
            export(model, image.shape[-2:])
