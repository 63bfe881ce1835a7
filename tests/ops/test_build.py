"""Building the kernels: what is said where it cannot be done."""
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from subprocess import run

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def build_ops(monkeypatch):
    """``tools/dev/build_ops.py``, in the tested environment by default."""
    for name in ('MMCOMPRESS_BUILD_OPS', 'MMCOMPRESS_CUDA', 'CXX',
                 'TORCH_CUDA_ARCH_LIST'):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location(
        'build_ops', ROOT / 'tools' / 'dev' / 'build_ops.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fake_torch(monkeypatch, folder, version, cuda=None):
    """Let another torch be found."""
    (folder /
     'version.py').write_text(f'__version__ = {version!r}\ncuda = {cuda!r}\n')
    spec = importlib.util.spec_from_file_location('torch',
                                                  folder / '__init__.py')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: spec)


def executable(path, script):
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)
    return str(path)


def test_no_torch(build_ops, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert build_ops.try_build(tmp_path) == []
    error = capsys.readouterr().err
    assert '--no-build-isolation' in error and error.count('\n') == 1


def test_old_torch(build_ops, monkeypatch, tmp_path, capsys):
    fake_torch(monkeypatch, tmp_path, '2.9.1+cu128')
    assert build_ops.try_build(tmp_path) == []
    assert 'torch 2.9.1+cu128 is older than 2.10' in capsys.readouterr().err


def test_no_compiler(build_ops, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert build_ops.try_build(tmp_path) == []
    assert 'no C++ compiler' in capsys.readouterr().err


def test_a_compiler_that_fails(build_ops, monkeypatch, tmp_path, capsys):
    compiler = executable(tmp_path / 'c++', 'echo "x.h: error: boom"; exit 1')
    monkeypatch.setenv('CXX', compiler)
    assert build_ops.try_build(tmp_path / 'out') == []
    assert 'failed: x.h: error: boom. Everything' in capsys.readouterr().err
    assert not list((tmp_path / 'out').glob('*.so'))


def test_failure_can_be_fatal(build_ops, monkeypatch, tmp_path):
    monkeypatch.setenv('MMCOMPRESS_BUILD_OPS', '1')
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(SystemExit, match='no C\\+\\+ compiler'):
        build_ops.try_build(tmp_path)


def test_can_be_left_out(build_ops, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv('MMCOMPRESS_BUILD_OPS', '0')
    assert build_ops.try_build(tmp_path) == []
    assert capsys.readouterr() == ('', '')


def test_each_file_gets_its_own_flags(build_ops, monkeypatch, tmp_path):
    log = tmp_path / 'log'
    script = f'''echo "$@" >> {log}
while [ $# -gt 0 ]; do [ "$1" = -o ] && touch "$2"; shift; done'''
    monkeypatch.setenv('CXX', executable(tmp_path / 'c++', script))
    monkeypatch.setattr(build_ops.platform, 'machine', lambda: 'x86_64')
    library = build_ops.build_cpu(tmp_path / 'out')
    assert library.name == '_C.so' and library.exists()
    lines = {
        line.split(' -c ')[1].split()[0]: line.split()
        for line in log.read_text().splitlines() if ' -c ' in line
    }
    plan = json.loads((build_ops.SOURCES / 'sources.json').read_text())
    assert 'cpu/kernels_neon.cpp' not in lines
    for source in plan['sources']:
        if 'x86_64' not in source.get('machine', ['x86_64']):
            continue
        words = lines[source['file']]
        assert set(plan['flags'] + source.get('flags', [])) <= set(words)
        has_torch = any(word.startswith('-isystem') for word in words)
        assert has_torch == source.get('needs_torch', False)
        # nothing but the kernels may need a new processor
        if 'kernels_' not in source['file']:
            assert not any(word.startswith('-m') for word in words)


def test_operators_for_onnxruntime_are_the_same_objects(
        build_ops, monkeypatch, tmp_path):
    log = tmp_path / 'log'
    script = f'''echo "$@" >> {log}
while [ $# -gt 0 ]; do [ "$1" = -o ] && touch "$2"; shift; done'''
    monkeypatch.setenv('CXX', executable(tmp_path / 'c++', script))
    build_ops.build_cpu(tmp_path / 'out')
    assert (tmp_path / 'out' / build_ops.ORT_LIBRARY).exists()
    objects = [{word
                for word in line.split() if word.endswith('.o')}
               for line in log.read_text().splitlines() if '-shared' in line]
    for_torch, for_onnxruntime = objects
    plan = json.loads((build_ops.SOURCES / 'sources.json').read_text())
    bindings = [s for s in plan['sources'] if s.get('needs_torch')]
    assert len(for_torch - for_onnxruntime) == len(bindings)
    assert len(for_onnxruntime - for_torch) == 1
    # nothing of torch is linked
    assert '-ltorch' not in log.read_text().splitlines()[-1]


def test_architectures_are_those_that_torch_would_take(build_ops, monkeypatch):
    assert build_ops.cuda_architectures() == []
    monkeypatch.setenv('TORCH_CUDA_ARCH_LIST', '9.0a;8.0 8.6+PTX 12.0')
    assert build_ops.cuda_architectures() == ['80', '86', '90', '120']


def test_kernels_for_gpus_need_a_torch_for_gpus(build_ops, monkeypatch,
                                                tmp_path):
    fake_torch(monkeypatch, tmp_path, '2.13.0+cpu')
    assert build_ops.build_cuda(tmp_path) is None
    fake_torch(monkeypatch, tmp_path, '2.13.0+cu130', cuda='13.0')
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setenv('CUDA_HOME', str(tmp_path))
    with pytest.raises(build_ops.BuildError, match='13.0, but there is no'):
        build_ops.build_cuda(tmp_path)
    executable(tmp_path / 'nvcc', 'echo "tools, release 12.8, V12.8.93"')
    with pytest.raises(build_ops.BuildError, match='CUDA 12, torch of 13.0'):
        build_ops.build_cuda(tmp_path)
    monkeypatch.setenv('MMCOMPRESS_CUDA', '0')
    assert build_ops.build_cuda(tmp_path) is None


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('g++'), reason='needs g++')
def test_builds(build_ops, tmp_path, monkeypatch):
    monkeypatch.setenv('MMCOMPRESS_CUDA', '0')
    library, = build_ops.try_build(tmp_path)
    assert library == tmp_path / '_C.so' and library.stat().st_size > 1e5
    assert sorted(tmp_path.iterdir()) == [library]


@pytest.mark.slow
def test_a_wheel_without_kernels_is_for_any_platform(tmp_path, monkeypatch):
    monkeypatch.setenv('MMCOMPRESS_BUILD_OPS', '0')
    source = tmp_path / 'source'
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns('.*', '_C*.so', 'build', 'data',
                                      'work_dirs', '*.egg-info'))
    run([
        sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps',
        '--no-build-isolation', '-w',
        str(tmp_path),
        str(source)
    ],
        check=True)
    wheel, = tmp_path.glob('*.whl')
    assert wheel.name.endswith('-py3-none-any.whl')
    run([
        sys.executable,
        str(ROOT / 'tools' / 'dev' / 'check_wheel.py'),
        str(wheel)
    ],
        check=True)
