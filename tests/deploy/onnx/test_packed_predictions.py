"""Packed detectors with what they predict, on onnxruntime."""
import pytest
import torch
import torch.nn as nn
from mmengine.registry import DefaultScope
from test_packed_onnx import NETWORKS, as_if_trained, pack

from mmcompress.deploy.onnx import Session, export

pytestmark = [pytest.mark.slow, pytest.mark.gate]


@pytest.mark.parametrize('name', ['retinanet', 'ida_det'])
@torch.no_grad()
def test_boxes_of_a_packed_detector(name):
    library, build, size = NETWORKS[name]
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(library):
        model = as_if_trained(build())
        if name == 'retinanet':
            # scores above the threshold, far from each other
            nn.init.normal_(model.bbox_head.retina_cls.weight)
        model = pack(model)[1]
        exported = export(model, size, postprocess=True)
        expected = exported.network(*exported.network.examples())
    found = Session(exported.proto)(exported.network.example())
    assert len(expected[0]) > 10
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)
