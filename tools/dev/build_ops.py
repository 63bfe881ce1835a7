"""Compile the 1-bit kernels: ``mmcompress/ops/_C*.so``.

Of the same kernels it makes operators for ONNX Runtime,
``mmcompress/ops/libmmcompress_ort.so``, which needs nothing of that to build.
``make`` runs it in a checkout, ``setup.py`` for installations. Only the
standard library is used, and torch is not imported: its headers and libraries
are enough. Which files there are, and their flags, stands in
``ops/csrc/sources.json``.

- ``MMCOMPRESS_BUILD_OPS``: ``0`` builds nothing, ``1`` makes a failure fatal;
  otherwise a failure is explained in a sentence.
- ``CXX``: the compiler, GCC or Clang.
- ``MMCOMPRESS_CUDA=0``: no kernels for GPUs, although nvcc and a CUDA build
  of torch are there. ``TORCH_CUDA_ARCH_LIST``: for which GPUs, as for torch.
"""
import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# beside this file, wherever that was imported from
sys.path.append(str(Path(__file__).resolve().parent))
import manylinux as portable  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / 'ops' / 'csrc'
TARGET = ROOT / 'mmcompress' / 'ops'
# the first whose stable interface has what binding.cpp uses
OLDEST_TORCH = (2, 10)
# the same kernels as operators for ONNX Runtime
ORT_LIBRARY = 'libmmcompress_ort.so'
START = time.time()


class BuildError(Exception):
    """Why there are no kernels, in a sentence."""


class Torch:
    """The torch to build for, without importing it.

    Attributes:
        include (list[str]): Compiler flags for its headers.
        library_folder (Path): Where its libraries are.
        cuda (str | None): Its CUDA version.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec('torch')
        if spec is None:
            raise BuildError(
                'torch is not there while building; install it first and use '
                'pip install --no-build-isolation')
        folder = Path(spec.origin).parent
        scope: dict = {}
        exec((folder / 'version.py').read_text(), scope)
        version = tuple(
            int(n) for n in re.findall(r'\d+', scope['__version__'])[:2])
        if version < OLDEST_TORCH:
            raise BuildError(
                f'torch {scope["__version__"]} is older than '
                f'{".".join(map(str, OLDEST_TORCH))}, whose interface they '
                'need')
        self.include = [f'-isystem{folder / "include"}']
        self.library_folder = folder / 'lib'
        self.cuda = scope.get('cuda')


def find_compiler(machine: str | None = None) -> str:
    """The C++ compiler: ``$CXX``, else the system's.

    Args:
        machine (str | None): The processor to compile for; None for this one.
    """
    if machine not in (None, platform.machine()):
        name = f'{machine}-linux-gnu-g++'
        if shutil.which(name):
            return name
        raise BuildError(f'there is no {name}; apt-get install '
                         f'g++-{machine.replace("_", "-")}-linux-gnu')
    for name in (os.environ.get('CXX'), 'c++', 'g++', 'clang++'):
        if name and shutil.which(name):
            return name
    raise BuildError('there is no C++ compiler (c++, g++, clang++ or $CXX)')


def say(text: str) -> None:
    """Print a step with the time since the start."""
    # one write: two threads print
    sys.stdout.write(f'[{time.time() - START:4.0f} s] {text}\n')
    sys.stdout.flush()


def run(command: list[str], title: str) -> None:
    """Run a compiler.

    Raises:
        BuildError: With what it complains about.
    """
    say(title)
    done = subprocess.run(command, capture_output=True, text=True, cwd=SOURCES)
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines()
        errors = [line for line in lines if 'error' in line] or lines
        reason = errors[0] if errors else f'exit status {done.returncode}'
        raise BuildError(f'{title} failed: {reason}')
    if done.stderr.strip():
        print(done.stderr, file=sys.stderr)


def build_cpu(target: Path, manylinux: str | None = None) -> Path:
    """Compile the kernels for CPUs and their binding.

    Args:
        target (Path): Folder of the library.
        manylinux (str | None): ``'x86_64'`` or ``'aarch64'`` for a library
            that fits any Linux of manylinux_2_28; None for this machine.

    Returns:
        Path: The library.

    Raises:
        BuildError: If that doesn't work.
    """
    plan = json.loads((SOURCES / 'sources.json').read_text())
    torch, compiler = Torch(), find_compiler(manylinux)
    machine = manylinux or platform.machine()
    sources = [
        s for s in plan['sources'] if machine in s.get('machine', [machine])
    ]
    flags, libraries = list(plan['flags']), plan['libraries']
    if manylinux:
        sources.append(portable.SOURCE)
        flags.append(portable.INCLUDE)
        # no other symbols than those of the stable interface
        libraries = ['torch_cpu']
    # macOS always resolves all symbols
    complete = ['-Wl,--no-undefined'] if sys.platform == 'linux' else []
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temp:
        objects = [f'{temp}/{i}.o' for i in range(len(sources))]

        def compile_one(source: dict, output: str) -> None:
            run([
                compiler, *flags, *source.get('flags', []),
                *(torch.include if source.get('needs_torch') else []), '-I.',
                '-c', source['file'], '-o', output
            ], f'compiling {source["file"]}')

        # the longest first
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, reversed(sources), reversed(objects)))
        folder = torch.library_folder
        if manylinux:
            missing = portable.stand_ins(compiler, objects, folder, Path(temp))
            if missing:
                raise BuildError('the stable interface of torch lacks '
                                 f'{", ".join(sorted(missing))}')
            folder, complete = temp, [*complete, '-Wl,--strip-debug']
        # no rpath: torch is loaded before the kernels are
        library = target / '_C.so'
        run([
            compiler, '-shared', *complete, *objects, '-o', f'{temp}/_C.so',
            f'-L{folder}', *(f'-l{name}' for name in libraries)
        ], 'linking')
        replace(Path(temp) / '_C.so', library)
        kernels = [
            output for output, source in zip(objects, sources)
            if not source.get('needs_torch')
        ]
        link_for_onnxruntime(target, [compiler, *flags], plan['onnxruntime'],
                             kernels, complete)
    return library


def link_for_onnxruntime(target: Path, compiler: list[str], source: str,
                         kernels: list[str], options: list[str]) -> None:
    """Make operators for ONNX Runtime of the kernels that are compiled.

    Args:
        target (Path): Folder of the library.
        compiler (list[str]): That they were compiled with, and its flags.
        source (str): Of the operators.
        kernels (list[str]): Their object files.
        options (list[str]): For linking.

    Raises:
        BuildError: If that doesn't work.
    """
    folder = Path(kernels[0]).parent
    binding = f'{folder}/onnxruntime.o'
    run([*compiler, '-I.', '-c', source, '-o', binding], f'compiling {source}')
    run([
        compiler[0], '-shared', *options, *kernels, binding, '-o',
        f'{folder}/{ORT_LIBRARY}', '-pthread'
    ], 'linking for ONNX Runtime')
    replace(folder / ORT_LIBRARY, target / ORT_LIBRARY)


def replace(source: Path, target: Path) -> None:
    """Put a file in place at once; processes may have the old one loaded."""
    beside = target.with_name(f'.{target.name}.{os.getpid()}')
    shutil.copy(source, beside)
    os.replace(beside, target)


def cuda_architectures() -> list[str]:
    """``TORCH_CUDA_ARCH_LIST`` as nvcc's numbers, oldest first.

    Returns:
        list[str]: Such as ``['80', '90']``; empty if it isn't set.
    """
    names = os.environ.get('TORCH_CUDA_ARCH_LIST', '')
    found = re.findall(r'(\d+)\.(\d)', names)
    return sorted({major + minor for major, minor in found}, key=int)


def build_cuda(target: Path) -> Path | None:
    """Compile the kernels for GPUs.

    Args:
        target (Path): Folder of the library.

    Returns:
        Path | None: The library; None where torch is built without CUDA, or
        ``MMCOMPRESS_CUDA`` is 0.

    Raises:
        BuildError: If that doesn't work.
    """
    torch = Torch()
    if torch.cuda is None or os.environ.get('MMCOMPRESS_CUDA') == '0':
        return None
    home = os.environ.get('CUDA_HOME', '/usr/local/cuda')
    nvcc = shutil.which('nvcc') or shutil.which(f'{home}/bin/nvcc')
    if nvcc is None:
        raise BuildError(f'torch has CUDA {torch.cuda}, but there is no nvcc')
    release = subprocess.run([nvcc, '--version'],
                             capture_output=True,
                             text=True).stdout
    release = re.search(r'release (\d+)', release)[1]
    if release != torch.cuda.split('.')[0]:
        raise BuildError(f'nvcc is of CUDA {release}, torch of {torch.cuda}')
    architectures = cuda_architectures()
    library = target / '_C_cuda.so'
    with tempfile.TemporaryDirectory() as temp:
        run([
            'make', '-j2', '-C', 'cuda', 'objects', 'binding', f'BUILD={temp}',
            f'NVCC={nvcc}', f'PYTHON={sys.executable}',
            *([f'ARCHS={" ".join(architectures)}'] if architectures else [])
        ], 'compiling cuda/ (minutes)')
        run([
            nvcc, '-shared', '-cudart', 'shared',
            *map(str, sorted(Path(temp).glob('*.o'))), '-o',
            f'{temp}/_C_cuda.so', f'-L{torch.library_folder}', '-ltorch',
            '-ltorch_cpu', '-ltorch_cuda', '-lc10'
        ], 'linking cuda/')
        replace(Path(temp) / '_C_cuda.so', library)
    return library


def try_build(target: Path = TARGET,
              manylinux: str | None = None) -> list[Path]:
    """Build what can be built here and explain what can't.

    Args:
        target (Path): Folder of the libraries.
        manylinux (str | None): As for :func:`build_cpu`; those for GPUs are
            left out then.

    Returns:
        list[Path]: The libraries.

    Raises:
        SystemExit: On a failure with ``MMCOMPRESS_BUILD_OPS=1``.
    """
    wanted = os.environ.get('MMCOMPRESS_BUILD_OPS', '')
    if wanted == '0':
        return []
    if manylinux:
        try:
            return [build_cpu(target, manylinux)]
        except BuildError as error:
            sys.exit(f'mmcompress: no kernels for the wheel: {error}')
    libraries = []
    for build, kind in ((build_cpu, ''), (build_cuda, ' for GPUs')):
        try:
            libraries.append(build(target))
        except BuildError as error:
            message = (f'mmcompress: the 1-bit kernels{kind} are not built: '
                       f'{error}. Everything works without, 1-bit layers '
                       'slowly.')
            if wanted == '1':
                sys.exit(message)
            print(message, file=sys.stderr, flush=True)
            # those for GPUs register with those for CPUs
            break
    return [library for library in libraries if library]


def is_current() -> bool:
    """Whether the checkout's library is newer than its sources."""
    libraries = [TARGET / '_C.so', TARGET / ORT_LIBRARY]
    kinds = ('.json', '.cpp', '.h', '.cu', '.cuh')
    files = [f for f in SOURCES.rglob('*') if f.suffix in kinds]
    files.append(Path(__file__))
    newest = max(f.stat().st_mtime for f in files)
    return all(library.exists() and library.stat().st_mtime >= newest
               for library in libraries)


if __name__ == '__main__':
    argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if not is_current():
        try_build()
