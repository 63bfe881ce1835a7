"""The reference against a convolution that shares no code with it."""
import pytest
import torch
import torch.nn.functional as F
from signs import randn, sign

from mmcompress.ops import reference


def unfolded(x, weight, stride, padding, dilation, groups):
    """Dot products of signs as a product of matrices in float64."""
    x, weight = sign(x).double(), sign(weight).double()
    num, _, kernel_h, kernel_w = weight.shape
    columns = F.unfold(x, (kernel_h, kernel_w), dilation, padding, stride)
    columns = columns.unflatten(1, (groups, -1))
    rows = weight.reshape(groups, num // groups, -1)
    k = torch.einsum('gkc,ngcl->ngkl', rows, columns).flatten(1, 2)
    reach = dilation * (kernel_h - 1) + 1
    height = (x.shape[2] + 2 * padding - reach) // stride + 1
    return k.unflatten(2, (height, -1)).to(torch.int32)


@pytest.mark.parametrize('kernel', [(1, 1), (2, 2), (3, 3), (5, 5), (7, 7),
                                    (5, 3)])
@pytest.mark.parametrize('channels, groups', [(1, 1), (2, 1), (2, 2), (3, 1),
                                              (16, 16), (64, 1)])
def test_counts_are_those_of_an_unfolded_product(channels, groups, kernel):
    x = randn(2, channels, 16, 17)
    for num in (1, 16):
        num *= groups
        weight = randn(num, channels // groups, *kernel, seed=1)
        shape = list(weight.shape)
        bits = reference.binary_pack(x)
        blob = reference.binary_prepack(
            reference.binary_pack(weight), shape, groups)
        for stride in (1, 2, 3, 4):
            for padding, dilation in ((0, 1), (2, 1), (1, 2)):
                k = reference.binary_conv2d(bits, blob, shape, [stride] * 2,
                                            [padding] * 2, [dilation] * 2,
                                            groups)
                assert torch.equal(
                    k, unfolded(x, weight, stride, padding, dilation, groups))


@pytest.mark.parametrize('channels', [1, 2])
@pytest.mark.parametrize('pad_value', [0, -1])
def test_the_convolution_reads_canonical_memory(monkeypatch, channels,
                                                pad_value):
    """Channels-last strides of one channel are the ones that go wrong."""
    strides = []

    def conv2d(x, weight, *args):
        strides.append((x.stride(), weight.stride()))
        return convolve(x, weight, *args)

    convolve = F.conv2d
    monkeypatch.setattr(F, 'conv2d', conv2d)
    shape = [4, channels, 5, 5]
    blob = reference.binary_prepack(
        reference.binary_pack(randn(*shape, seed=1)), shape)
    reference.binary_conv2d(
        reference.binary_pack(randn(2, channels, 9, 7)), blob, shape, [3, 3],
        [0, 0], [1, 1], 1, pad_value)
    assert strides == [((63 * channels, 63, 7, 1), (25 * channels, 25, 5, 1))]
