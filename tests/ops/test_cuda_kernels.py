"""The self-test of the CUDA kernels: emulated, compiled, and on a GPU."""
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / 'ops/csrc/cuda'
NVCC = shutil.which('nvcc') or shutil.which('/usr/local/cuda/bin/nvcc')
needs_compiler = pytest.mark.skipif(
    not shutil.which('make') or not shutil.which('g++'),
    reason='needs make and g++')
needs_nvcc = pytest.mark.skipif(
    not NVCC or not shutil.which('make'), reason='needs make and nvcc')


def make(*arguments):
    done = subprocess.run(['make', '-s', '-C', FOLDER, *arguments],
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT,
                          text=True)
    assert done.returncode == 0, done.stdout[-3000:]


@needs_compiler
@pytest.mark.slow
def test_kernels_on_the_emulator():
    make('emulate', 'CASES=40', 'SEED=1')


@needs_compiler
@pytest.mark.slow
def test_kernels_under_the_sanitizers():
    make('sanitize', 'CASES=10', 'SEED=2')


@needs_nvcc
@pytest.mark.slow
def test_compiles_for_every_architecture():
    make('objects', f'NVCC={NVCC}')


@needs_nvcc
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_kernels_on_the_gpu():
    make('test', 'CASES=500', f'NVCC={NVCC}')
