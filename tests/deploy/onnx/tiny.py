"""A classifier of a few layers, and what quantizes it."""
import torch
import torch.nn as nn
from mmengine.registry import MODELS, DefaultScope

from mmcompress.quantization import LSQ, QuantizeLayers

SIZE = (12, 16)


class Tiny(nn.Module):
    """A convolution that is read twice, a depthwise one, one with a sum."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.norm2 = nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 8, 1)
        self.norm3 = nn.BatchNorm2d(8)

    def forward(self, x):
        x = self.norm1(self.conv1(x)).relu()
        y = nn.functional.relu6(self.norm2(self.conv2(x)))
        return (x + self.norm3(self.conv3(y)), )


def build(bits=None, seed=0, act_bits=8):
    """The classifier, in float or quantized."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=Tiny(),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=5, in_channels=8),
                data_preprocessor=dict(
                    mean=[1., 2., 3.], std=[4., 5., 6.], to_rgb=True)))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    # as behind a norm that training has switched off
    model.backbone.norm2.weight.data[:2] = torch.tensor([0., 1e-12])
    nn.init.normal_(model.head.fc.weight)
    model.requires_grad_(False)
    model.eval()
    if bits is not None:
        QuantizeLayers(
            weight=dict(type='LSQ', bits=bits),
            activation=dict(type='LSQ', bits=act_bits, offset='zero_point'),
            first_last=None)(
                model)
        model.eval()
        begin(model)
    return model


def begin(model):
    """Let quantizers have scales, and zero points that are not 0."""
    with torch.enable_grad():
        model(images(4), mode='tensor')
    for module in model.modules():
        if isinstance(module, LSQ) and module.zero_point is not None:
            if module.is_signed:
                module.zero_point.fill_(-2)


def images(num=1):
    """Noise."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num, 3, *SIZE, generator=generator)
