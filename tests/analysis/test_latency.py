import pytest
import torch
import torch.nn as nn
from mmcv.ops import RoIAlign

from mmcompress.analysis.latency import (Parts, clock_of, medians_of_parts,
                                         parts_of)
from mmcompress.binary import IDaDetConv2d, PoemConv1d, PoemLinear
from mmcompress.binary.backbones.bi_resnet import BiBlock
from mmcompress.deploy.forms import forms
from mmcompress.lowbit import float_twin


class Detector(nn.Module):
    """Called as mmdet's two-stage detectors; a clock that parts move on."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.data_preprocessor = nn.Identity()
        self.backbone = self.part(4)
        self.roi_head = self.part(2)
        self.roi_head.predict = self.predict
        self.unused = self.part(1)

    def part(self, duration):
        part = nn.Identity()

        def forward(x):
            self.now += duration
            return x

        part.forward = forward
        return part

    def predict(self, x, boxes):
        self.now += 1
        return self.roi_head(x)

    def forward(self, inputs, mode):
        """Spend 4, 4, 1 + 2 and 0.5 seconds."""
        assert mode == 'predict'
        x = self.backbone(self.backbone(inputs))
        self.now += 0.5
        return self.roi_head.predict(x, [torch.zeros(7, 4), torch.zeros(5, 4)])


def test_parts_and_the_rest_are_the_whole():
    model = Detector()
    parts = Parts(model, lambda: model.now)
    for _ in range(2):
        parts.run(dict(inputs=1), 'predict')
    # what a part calls of itself counts once
    assert parts.rounds == [dict(backbone=8.0, roi_head=3.0, rest=0.5)] * 2
    assert parts.num_boxes == 12


def test_float_twin_has_plain_layers_of_the_same_shape():
    model = nn.Sequential(
        IDaDetConv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False),
        PoemConv1d(4, 5, 1), PoemLinear(3, 7), nn.Conv2d(1, 2, 3))
    twin = float_twin(model)
    assert [type(layer)
            for layer in twin] == [nn.Conv2d, nn.Conv1d, nn.Linear, nn.Conv2d]
    x = torch.randn(2, 4, 9, 8)
    assert twin[0](x).shape == model[0](x).shape
    torch.testing.assert_close(
        twin[0](x),
        nn.functional.conv2d(
            x, model[0].weight, stride=2, padding=1, groups=2))
    # the model keeps its layers
    assert isinstance(model[0], IDaDetConv2d)
    for plain, one_bit in zip(twin, model):
        assert plain.weight.shape == one_bit.weight.shape


@pytest.mark.filterwarnings('ignore:1-bit operators run on the slow')
def test_forms_of_a_1bit_network_give_the_same_shape():
    config = dict(type='mmcompress.IDaDetConv2d')
    model = nn.Module()
    model.block = BiBlock(8, 8, 1, config, dict(type='BN'))
    model.eval()
    named = forms(model)
    assert list(named) == [
        'float', 'float, channels last', 'as trained', 'packed'
    ]
    assert named['as trained'] is model
    x = torch.randn(1, 8, 6, 6)
    with torch.no_grad():
        outputs = {name: form.block(x) for name, form in named.items()}
    assert {y.shape for y in outputs.values()} == {x.shape}
    torch.testing.assert_close(outputs['packed'], outputs['as trained'])
    torch.testing.assert_close(outputs['float'],
                               outputs['float, channels last'])
    assert not torch.allclose(outputs['float'], outputs['packed'])


def test_a_float_network_has_two_layouts():
    model = nn.Sequential(nn.Conv2d(3, 8, 3)).eval()
    named = forms(model)
    assert list(named) == ['float', 'float, channels last']
    assert named['float, channels last'][0].weight.is_contiguous(
        memory_format=torch.channels_last)
    assert named['float'][0].weight.is_contiguous()


def test_regions_are_pooled_alike_in_both_layouts():
    model = nn.Module()
    model.conv = nn.Conv2d(3, 8, 3, padding=1)
    model.pool = RoIAlign(4, sampling_ratio=2)
    named = forms(model.eval())
    x, rois = torch.randn(1, 3, 16, 16), torch.tensor([[0., 1., 2., 9., 12.]])
    with torch.no_grad():
        plain, last = (form.pool(form.conv(image), rois)
                       for form, image in ((named['float'], x), (
                           named['float, channels last'],
                           x.contiguous(memory_format=torch.channels_last))))
    torch.testing.assert_close(last, plain)
    # the model itself has no hook
    assert not model.pool._forward_pre_hooks


def test_cpu_time_is_of_one_thread(monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    with pytest.raises(ValueError, match='--threads 1'):
        clock_of('cpu')
    clock_of('wall')


def test_median_of_a_part_takes_rounds_without_it_as_zero():
    rounds = [dict(a=1.0, rest=2.0), dict(a=3.0, rest=2.0), dict(rest=5.0)]
    assert medians_of_parts(rounds) == dict(a=1.0, rest=2.0)
    assert parts_of(rounds, 6.0) == dict(a=2.0, rest=4.0)
