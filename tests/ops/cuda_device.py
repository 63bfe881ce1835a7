"""Where the tests of CUDA operators run: a GPU, or the emulator.

Test modules import ``cuda_or_emulator``, which is the fixture ``device``, and
compare with :func:`assert_same`.
"""
import shutil
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import pytest
import torch

from mmcompress.ops import library
from mmcompress.ops.library import SCHEMAS
from mmcompress.ops.linear import BY_PIXELS

ROOT = Path(__file__).parents[2]
HAS_CUDA = torch.cuda.is_available(
) and torch._C._dispatch_has_kernel_for_dispatch_key(  # noqa: E501
    'mmcompress::binary_pack', 'CUDA')
# what is declared lives as long as this
EMULATED = torch.library.Library('mmcompress_emulated', 'FRAGMENT')


@cache
def emulated():
    """The operators on the emulator, mmcompress_emulated.*, None without."""
    if not shutil.which('make') or not shutil.which('g++'):
        return None
    subprocess.run([
        'make', '-s', '-j2', '-C', ROOT / 'ops/csrc/cuda', 'emulated_library',
        f'PYTHON={sys.executable}'
    ], check=True)  # yapf: disable
    for name, schema in SCHEMAS.items():
        EMULATED.define(name + schema)
    torch.ops.load_library(ROOT / 'build/cuda/libemulated.so')
    namespace = torch.ops.mmcompress_emulated
    for name, (_, by_pixels) in BY_PIXELS.items():
        EMULATED.impl(name, partial(by_pixels, namespace),
                      'CompositeExplicitAutograd')
    return namespace


@pytest.fixture(
    name='device',
    params=[
        'emulated',
        pytest.param(
            'cuda',
            marks=pytest.mark.skipif(
                not HAS_CUDA, reason='needs a GPU and the library'))
    ])
def cuda_or_emulator(request, monkeypatch):
    """Where tensors go so that ``ops`` takes the CUDA kernels."""
    if request.param == 'cuda':
        return 'cuda'
    if emulated() is None:
        pytest.skip('needs make and g++')
    monkeypatch.setattr(library, 'operators', emulated())
    return 'cpu'


def assert_same(result, expected):
    """Equal to the last bit (any NaN is a NaN), and laid out alike."""
    assert result.stride() == expected.stride()
    result = result.cpu()
    if result.dtype == torch.float32:
        nan = expected.isnan()
        assert torch.equal(result.isnan(), nan)
        result, expected = (
            t.view(torch.int32).masked_fill(nan, 0)
            for t in (result, expected))
    assert torch.equal(result, expected)
