"""Build mmcv's wheel with its operators, once per machine.

There is no mmcv wheel with operators for current torch, so it is compiled
from its source package. Two thirds of the compilers' time goes into reading
headers; the sources are therefore compiled in a few groups. If a group does
not compile, the plain build runs instead. The wheel is kept in
``$MMCOMPRESS_CACHE/wheels`` and its path is the last line printed.

Run it with the interpreter that has torch, setuptools < 82, wheel, ninja and
psutil installed. Only the standard library is used here.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

MMCV = '2.1.0'
# folder inside csrc/pytorch -> number of groups; a round-robin deal in sorted
# order keeps the files apart whose helper templates have equal names
GROUPS = {'.': 4, 'cpu': 5}


def wheel_folder() -> Path:
    """Folder of the wheels for this interpreter and this torch."""
    cache = Path(os.environ.get('MMCOMPRESS_CACHE')
                 or '~/.cache/mmcompress').expanduser().absolute()
    tag = f'py{sysconfig.get_python_version()}-torch{version("torch")}'
    return cache / 'wheels' / f'{tag}-{sysconfig.get_platform()}'


def group_sources(csrc: Path) -> int:
    """Replace the C++ files by groups that include several of them.

    Args:
        csrc (Path): mmcv's ``mmcv/ops/csrc/pytorch``.

    Returns:
        int: Number of files that remain to be compiled.
    """
    total = 0
    for name, num_groups in GROUPS.items():
        folder = csrc / name
        sources = sorted(folder.glob('*.cpp'))
        for i in range(num_groups):
            lines = ['#include <torch/extension.h>']
            for source in sources[i::num_groups]:
                part = source.with_suffix('.inc')
                source.rename(part)
                # one of the files defines these two as macros
                lines += ['#undef min', '#undef max']
                lines += [f'#include "{part.name}"']
            (folder / f'group{i}.cpp').write_text('\n'.join(lines) + '\n')
        total += num_groups
    return total


def run_with_progress(command: list[str], cwd: Path, env: dict,
                      log: Path) -> bool:
    """Run a build, its output in a file and its progress on the screen.

    Args:
        command (list[str]): What to run.
        cwd (Path): Where to run it.
        env (dict): Its environment.
        log (Path): File that receives all of its output.

    Returns:
        bool: Whether it succeeded.
    """
    start = time.time()
    state = {'step': 'preparing'}
    stop = threading.Event()

    def report() -> None:
        while not stop.wait(20):
            minutes, seconds = divmod(int(time.time() - start), 60)
            print(
                f'  mmcv operators: {state["step"]}, '
                f'{minutes} min {seconds:02d} s',
                flush=True)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    with open(log, 'a') as out:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        for line in process.stdout:
            out.write(line)
            if match := re.match(r'\s*\[(\d+)/(\d+)\]', line):
                state['step'] = f'file {match[1]} of {match[2]} compiled'
        code = process.wait()
    stop.set()
    thread.join()
    return code == 0


def build(wheels: Path, grouped: bool) -> bool:
    """Compile mmcv into ``wheels``.

    Args:
        wheels (Path): Receives the wheel and ``build.log``.
        grouped (bool): Whether to compile the sources in groups.

    Returns:
        bool: Whether a wheel came out.
    """
    pip = [sys.executable, '-m', 'pip']
    flags = ['--no-deps', '--no-build-isolation']
    env = dict(
        os.environ,
        MMCV_WITH_OPS='1',
        FORCE_CUDA='0',
        # mmcv asks torch, and a GPU without nvcc would fail
        CUDA_VISIBLE_DEVICES='',
        CFLAGS='-O2 -g0',
        MAX_JOBS=os.environ.get('MAX_JOBS', str(os.cpu_count())))
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        subprocess.run([
            *pip, 'download', '-q', *flags, '--no-binary', 'mmcv', '-d',
            str(tmp), f'mmcv=={MMCV}'
        ], check=True)  # yapf: disable
        with tarfile.open(tmp / f'mmcv-{MMCV}.tar.gz') as archive:
            archive.extractall(tmp, filter='data')
        source = tmp / f'mmcv-{MMCV}'
        if grouped:
            group_sources(source / 'mmcv' / 'ops' / 'csrc' / 'pytorch')
        built = tmp / 'built'
        done = run_with_progress(
            [*pip, 'wheel', '-v', *flags, '-w', str(built), str(source)],
            source, env, wheels / 'build.log')  # yapf: disable
        if not done:
            return False
        wheel = next(built.glob('mmcv-*.whl'))
        # under another name first: a second build may run at the same time
        part = wheels / f'{wheel.name}.{os.getpid()}'
        shutil.copyfile(wheel, part)
        part.replace(wheels / wheel.name)
    return True


def main() -> int:
    """Build the wheel unless it is there; print its path."""
    argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    wheels = wheel_folder()
    wheels.mkdir(parents=True, exist_ok=True)
    if not any(wheels.glob(f'mmcv-{MMCV}-*.whl')):
        print(
            f'Compiling the operators of mmcv {MMCV}: 2 to 10 minutes, once '
            f'per machine; the log is {wheels / "build.log"}',
            flush=True)
        if not build(wheels, grouped=True):
            print(
                '  the grouped build failed; building file by file',
                flush=True)
            if not build(wheels, grouped=False):
                print(
                    f'mmcv does not compile here; see {wheels / "build.log"}'
                    ' (gcc and the Python headers are needed)',
                    file=sys.stderr)
                return 1
    print(next(wheels.glob(f'mmcv-{MMCV}-*.whl')))
    return 0


if __name__ == '__main__':
    sys.exit(main())
