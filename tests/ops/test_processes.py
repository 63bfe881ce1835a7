"""What takes a process of its own: other builds, guard pages, sanitizers."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmcompress import ops

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
OTHERS = [
    isa for isa in ('reference', *ops.build_info()['runnable'])
    if isa != ops.build_info()['isa']
]


def run(*command, isa=None):
    env = dict(os.environ, PYTHONPATH=f'{ROOT}:{FOLDER}')
    env.pop('MMCOMPRESS_ISA', None)
    if isa is not None:
        env['MMCOMPRESS_ISA'] = isa
    return subprocess.run(
        command, capture_output=True, text=True, env=env, cwd=ROOT)


def run_tests(isa, *arguments):
    done = run(
        sys.executable,
        '-m',
        'pytest',
        '-q',
        '-p',
        'no:cacheprovider',
        *arguments,
        isa=isa)
    assert done.returncode == 0, done.stdout[-3000:]


# the gate runs the others, too
@pytest.mark.parametrize('isa', [
    isa if isa == 'avx2' else pytest.param(isa, marks=pytest.mark.slow)
    for isa in OTHERS
])
def test_quick_tests_pass_on_the_other_paths(isa):
    """Also without the extension, which is what 'reference' means."""
    names = [
        'test_pack.py', 'test_linear.py', 'test_roi_align.py',
        'test_fake_quantize.py', 'test_match_merge.py'
    ]
    if isa == 'reference':
        names += ['test_epilogues.py']
    run_tests(isa, '-k', 'not compiled',
              *(str(FOLDER / name) for name in names))


@pytest.mark.slow
@pytest.mark.parametrize('isa', OTHERS)
def test_all_tests_pass_on_the_other_paths(isa):
    run_tests(isa, '-m', 'not slow', f'--ignore={__file__}', str(FOLDER))


@pytest.mark.skipif(sys.platform != 'linux', reason='needs mprotect')
def test_stays_inside_of_its_tensors():
    done = run(sys.executable, str(FOLDER / 'guarded.py'))
    assert done.stdout == 'passed\n', done.stderr


def isa_in_use(isa):
    return run(
        sys.executable,
        '-c',
        'from mmcompress.ops import build_info; print(build_info()["isa"])',
        isa=isa)


def test_the_environment_names_the_instruction_set():
    for isa in OTHERS[1:2]:
        assert isa_in_use(isa).stdout == f'{isa}\n'
    done = isa_in_use('nosuch')
    assert done.returncode and 'MMCOMPRESS_ISA' in done.stderr


def test_slow_paths_are_announced_once(tmp_path):
    shutil.copytree(
        ROOT / 'mmcompress',
        tmp_path / 'mmcompress',
        ignore=shutil.ignore_patterns('_C*.so', '.mim', '__pycache__'))
    code = """if True:
        import torch
        from mmcompress import ops
        shape = [8, 64, 1, 1]
        bits = ops.binary_pack(torch.ones(1, 64, 2, 2))
        blob = ops.binary_prepack(ops.binary_pack(torch.ones(shape)), shape)
        for _ in range(3):
            k = ops.binary_conv2d(bits, blob, shape)
        assert (k == 64).all()
        print(ops.build_info()['isa'])
    """
    env = dict(os.environ, PYTHONPATH=str(tmp_path))
    env.pop('MMCOMPRESS_ISA', None)
    done = subprocess.run([sys.executable, '-c', code],
                          capture_output=True,
                          text=True,
                          env=env,
                          cwd=tmp_path)
    assert done.stdout == 'reference\n', done.stderr
    assert done.stderr.count('slow PyTorch reference') == 1


needs_compiler = pytest.mark.skipif(
    not (shutil.which('g++') and shutil.which('make')),
    reason='needs g++ and make')


@pytest.mark.slow
@needs_compiler
def test_kernels_run_clean_under_sanitizers():
    done = run('make', '-C', str(ROOT / 'ops' / 'csrc'), 'sanitize')
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert 'portable: passed' in done.stdout
