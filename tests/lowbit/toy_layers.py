"""Low-bit layers as somebody else would write them, in a file of their own."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from mmcompress.lowbit import Grid, InferenceRule, LowBitLayer, OperandBits
from mmcompress.registry import MODELS


@MODELS.register_module()
class ToyBinaryConv2d(LowBitLayer, nn.Conv2d):
    """Signs above a learnt threshold with signs of the weight."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.above = nn.Parameter(torch.full((self.in_channels, ), 0.1))

    def _load_from_state_dict(self, state_dict, prefix, *args):
        state_dict.setdefault(f'{prefix}above', self.above.detach())
        super()._load_from_state_dict(state_dict, prefix, *args)

    def operand_bits(self):
        return OperandBits(1, (1, ))

    def inference_rule(self):
        return InferenceRule(
            codes=self.weight.detach().sign(),
            scale=torch.ones(self.out_channels),
            bias=None if self.bias is None else self.bias.detach(),
            threshold=self.above.detach(),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups)

    def forward(self, x):
        """The sign's gradient is the identity's, the threshold has none."""
        x = x + ((x > self.above.view(-1, 1, 1)) * 2.0 - 1 - x).detach()
        weight = self.weight + (self.weight.sign() - self.weight).detach()
        y = self._conv_forward(x, weight, self.bias)
        return y + 0 * self.above.sum()


class _W4A8(LowBitLayer):
    """Weights of 4 bits per channel, unsigned input of 8 bits."""

    step, zero_point = 0.05, 100

    def operand_bits(self):
        return OperandBits(4, (8, ))

    def _codes(self):
        scale = self.weight.detach().flatten(1).abs().amax(1) / 7
        per_channel = scale.view(-1, *(1, ) * (self.weight.dim() - 1))
        return (self.weight.detach() / per_channel).round(), scale

    def _quantized(self, x):
        codes, scale = self._codes()
        q = ((x / self.step).round() + self.zero_point).clamp(0, 255)
        per_channel = scale.view(-1, *(1, ) * (codes.dim() - 1))
        return (q - self.zero_point) * self.step, codes * per_channel

    def inference_rule(self):
        codes, scale = self._codes()
        geometry = {}
        if isinstance(self, nn.Conv2d):
            geometry = dict(
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                groups=self.groups)
        return InferenceRule(
            codes=codes.reshape(*codes.shape,
                                *(1, ) * (4 - codes.dim())),
            scale=scale,
            bias=None if self.bias is None else self.bias.detach(),
            grid=Grid(torch.tensor(self.step), self.zero_point, 0, 255),
            bits=self.operand_bits(),
            **geometry)


@MODELS.register_module()
class W4A8Linear(_W4A8, nn.Linear):

    def forward(self, x):
        x, weight = self._quantized(x)
        return F.linear(x, weight, self.bias)


@MODELS.register_module()
class W4A8Conv2d(_W4A8, nn.Conv2d):

    def forward(self, x):
        x, weight = self._quantized(x)
        return self._conv_forward(x, weight, self.bias)
