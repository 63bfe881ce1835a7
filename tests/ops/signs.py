"""Random signs and what their convolution must be, for the operator tests."""
import torch
import torch.nn.functional as F

from mmcompress import ops

LAYOUTS = ('nchw', 'channels_last', 'strided', 'misaligned')


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sign(x):
    return torch.where(x > 0, 1.0, -1.0)


def in_layout(x, layout):
    """The same values in other memory."""
    # what must not be read
    filler = float('nan') if x.is_floating_point() else 99
    if layout == 'nchw':
        return x.contiguous()
    if layout == 'channels_last':
        return x.contiguous(memory_format=torch.channels_last)
    if layout == 'strided':
        wide = x.new_full((*x.shape[:2], 2 * x.shape[2], 3 * x.shape[3] + 1),
                          filler)
        view = wide[:, :, ::2, 1::3]
        return view.copy_(x)
    # not even aligned to 8 bytes
    buffer = x.new_full((x.numel() + 1, ), filler)
    return buffer[1:].view(x.shape).copy_(x)


def count(x, weight, pad_value=0, stride=1, padding=0, dilation=1, groups=1):
    """Dot products of the signs of ``x`` and ``weight``, by definition."""
    x, weight = sign(x), sign(weight)
    pairs = [[v, v] if isinstance(v, int) else v for v in (padding, stride)]
    padding, stride = pairs
    if pad_value:
        x = F.pad(
            x, (padding[1], padding[1], padding[0], padding[0]), value=-1.0)
        padding = [0, 0]
    # float64: exact whatever the backend does
    k = F.conv2d(x.double(), weight.double(), None, stride, padding, dilation,
                 groups)
    return k.round().to(torch.int32)


def prepack(weight, groups=1, isa=''):
    return ops.binary_prepack(
        ops.binary_pack(weight), list(weight.shape), groups, isa)


def runnable_isas():
    """What every blob of the CPU can be made for on this machine."""
    return ops.build_info()['runnable']
