"""Run the operators on tensors that end, or begin, at an unreadable page.

A process of its own: what reads or writes beyond a tensor ends it.
"""
import ctypes
import mmap
from itertools import product

import torch
from signs import count, randn, runnable_isas

from mmcompress import ops
from mmcompress.ops.roi_align import roi_align_reference

_KEPT = []
_NO_ACCESS = 0  # PROT_NONE
_LIBC = ctypes.CDLL(None, use_errno=True)


def guarded(x, at_end):
    """A copy of ``x`` whose memory touches a page without access."""
    num_bytes = max(x.numel(), 1) * x.element_size()
    size = -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, size + 2 * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    for page in (start, start + mmap.PAGESIZE + size):
        failed = _LIBC.mprotect(
            ctypes.c_void_p(page), mmap.PAGESIZE, _NO_ACCESS)
        assert not failed
    offset = mmap.PAGESIZE + (size - num_bytes if at_end else 0)
    _KEPT.append(pages)
    flat = torch.frombuffer(
        pages, dtype=x.dtype, count=x.numel(), offset=offset)
    # the order of x in memory is kept
    return flat.as_strided(x.shape, x.stride()).copy_(x)


def check_roi_align():
    rois = torch.tensor([[1., 0, 0, 9, 5], [0., -3, -3, 20, 20],
                         [1., 8, 4, 9, 5]])
    for channels, at_end in product((1, 3, 17, 70, 128, 200), (False, True)):
        x = randn(2, channels, 5, 9)
        image = guarded(
            x.contiguous(memory_format=torch.channels_last), at_end)
        found = ops.roi_align(image, guarded(rois, at_end), (7, 3))
        wanted = roi_align_reference(x, rois, [7, 3], 1.0, 0, True)
        assert torch.equal(found, wanted)
        _KEPT.clear()


def check_fake_quantize():
    shapes = ((1, 1, 1), (3, 5, 7), (2, 3, 40), (1, 2, 4099), (70, 17, 1))
    for shape, at_end in product(shapes, (False, True)):
        x, dy = (guarded(randn(*shape), at_end) for _ in range(2))
        scale, beta, zero = guarded(randn(3, shape[1]), at_end)
        quantizer = scale, beta, zero, 1, -2, 1, 1., 'clip'
        for args in (quantizer, (scale, None, None, *quantizer[3:])):
            y = torch.ops.mmcompress.lsq_fake_quantize(x, *args)
            assert torch.equal(y, ops.reference.lsq_fake_quantize(x, *args))
            torch.ops.mmcompress.lsq_fake_quantize_backward(dy, x, *args)
        _KEPT.clear()


def check_match_merge():
    cases = product((1, 2, 9, 33, 70), (1, 16, 20), (1, 7, 16), (False, True))
    for num, dims, channels, at_end in cases:
        keys, x, mass = (
            guarded(randn(*shape), at_end)
            for shape in ((1, 2, num, dims), (1, num, channels), (1, num, 1)))
        merged = ops.match_merge(keys, x, mass.abs(), num // 4, (0, ))
        wanted = ops.reference.match_merge(keys, x, mass.abs(), num // 4, [0])
        torch.testing.assert_close(merged[:2], wanted[:2])
        _KEPT.clear()


def main():
    torch.set_num_threads(1)
    check_roi_align()
    check_fake_quantize()
    check_match_merge()
    cases = product((1, 3, 32, 64, 70, 128), (1, 33, 64, 80),
                    ((1, 1), (3, 5), (4, 9)), (False, True))
    for channels, num, size, at_end in cases:
        x, weight = randn(1, channels, *size), randn(num, channels, 3, 3)
        vector = guarded(randn(num), at_end)
        limit = guarded(torch.zeros(num, dtype=torch.int32), at_end)
        flip = guarded(torch.zeros(num, dtype=torch.bool), at_end)
        weight_bits = guarded(ops.binary_pack(weight), at_end)
        threshold = guarded(torch.zeros(channels), at_end)
        expected = count(x, weight, padding=1)
        residual = guarded(randn(*expected.shape), at_end)
        for layout in (torch.contiguous_format, torch.channels_last):
            image = guarded(x.contiguous(memory_format=layout), at_end)
            bits = guarded(ops.binary_pack(image, threshold), at_end)
            ops.binary_unpack(bits, channels)
            for isa in runnable_isas():
                shape = list(weight.shape)
                blob = ops.binary_prepack(weight_bits, shape, isa=isa)
                blob = guarded(blob, at_end)
                k = ops.binary_conv2d(bits, blob, shape, padding=1)
                assert torch.equal(k, expected)
                ops.binary_conv2d_bits(
                    bits, blob, limit, flip, shape, padding=1)
                ops.binary_conv2d_fused(
                    image,
                    blob,
                    vector,
                    vector,
                    shape,
                    padding=1,
                    threshold=threshold,
                    residual=residual,
                    slope=vector,
                    next_threshold=vector,
                    next_flip=flip)
        _KEPT.clear()
    print('passed')


if __name__ == '__main__':
    main()
