"""Merging of tokens, written as operators of ONNX."""
import pytest
import torch
import torch.nn as nn

from mmcompress.deploy.onnx.operators import translations
from mmcompress.deploy.onnx.session import Session
from mmcompress.deploy.onnx.writing import _without_match_merge
from mmcompress.ops import match_merge


class Merges(nn.Module):
    """Merges tokens by themselves."""

    def forward(self, x):
        return match_merge(x.unsqueeze(1), x, None, 7, (0, ))[0]


@pytest.mark.slow
def test_ties_leave_in_the_same_order():
    pytest.importorskip('onnxruntime')
    # five kinds of tokens, whose similarities tie
    x = torch.linspace(-1, 1, 40).sin().view(1, 5, 8)
    x = x[:, torch.arange(33)**2 % 5]
    with torch.no_grad():
        program = torch.export.export(Merges(), (x, ))
    written = torch.onnx.export(
        _without_match_merge(program),
        dynamo=True,
        opset_version=21,
        verbose=False,
        custom_translation_table=translations())
    outputs = Session(written.model_proto.SerializeToString())(x)
    torch.testing.assert_close(outputs[0], Merges()(x))
