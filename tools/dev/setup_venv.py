"""Install everything into a virtual environment of the checkout's own.

Called by ``make`` with the system's Python; uses the standard library only.
Every step tells what it does, and the environment is marked as ready at the
end, so that an interrupted set-up is taken up again.
"""
import argparse
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / 'requirements'
TORCH = '2.13.0'
START = time.time()


def say(text: str) -> None:
    """Print a step with the time since the start."""
    minutes, seconds = divmod(int(time.time() - START), 60)
    print(f'[{minutes:2d}:{seconds:02d}] {text}', flush=True)


def pip(python: Path, *arguments: str) -> None:
    """Install with the environment's pip; stop with its words on failure."""
    # -q alone would hide pip's progress bars, and with them what it waits for
    command = [
        str(python), '-m', 'pip', 'install', '--disable-pip-version-check',
        '--no-warn-conflicts', '-q', *arguments
    ]
    if subprocess.run(command).returncode:
        sys.exit(f'failed: {" ".join(command)}')


def link_checkout(python: Path, light: bool) -> None:
    """Put the checkout on the path, as ``mim`` and ``mmcompress::`` see it.

    A PEP 660 editable install would hide ``mmcompress/.mim`` from both.

    Args:
        python (Path): The environment's interpreter.
        light (bool): Whether mmcv gets our operators, if it has none.
    """
    site = Path(
        subprocess.check_output([
            str(python), '-c',
            'import sysconfig; print(sysconfig.get_path("purelib"))'
        ], text=True).strip())  # yapf: disable
    (site / 'mmcompress-checkout.pth').write_text(
        f'{ROOT}\n'
        # torchvision beside a CPU torch, also in runs of plain mm configs
        'import mmcompress.torchvision_repair as _r; _r.install_import_hook()'
        '\n'
        # `mmcompress::` as a base, also in the libraries' own tools
        'import mmcompress.config_prefix as _p; _p.install()\n'
        # operators for an mmcv without, where they are chosen
        f'import mmcompress.light_ops.hook as _l; _l.install(chosen={light})'
        '\n')
    subprocess.run([str(python), 'setup.py', '-q', 'egg_info'],
                   cwd=ROOT,
                   check=True)


def parse_args() -> argparse.Namespace:
    """The folder, and what to put into it."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('folder', help='the virtual environment')
    parser.add_argument(
        'wheel',
        nargs='?',
        help='of mmcompress, to install; by default the checkout is linked')
    parser.add_argument(
        '--onedl',
        action='store_true',
        help='install the onedl-* continuation of OpenMMLab')
    parser.add_argument(
        '--light',
        action='store_true',
        help='mmcv without compiling its operators; no tools for tests')
    return parser.parse_args()


def install_libraries(python: Path, onedl: bool, light: bool) -> None:
    """Install the OpenMMLab packages and mmcv with its operators.

    Args:
        python (Path): The environment's interpreter.
        onedl (bool): Whether to take their continuation under ``onedl-*``.
        light (bool): Whether mmcv comes without its operators.
    """
    say('installing the OpenMMLab packages')
    if onedl:
        pip(python, '-r', str(REQUIREMENTS / 'onedl_needs.txt'))
        # their setup scripts import what is installed here
        pip(python, '--no-deps', '--no-build-isolation', '-r',
            str(REQUIREMENTS / 'onedl.txt'))
    else:
        pip(python, '--no-deps', '-r', str(REQUIREMENTS / 'openmmlab.txt'))
    if light:
        say('installing mmcv without its operators')
        pip(python, '--no-deps', '-r', str(REQUIREMENTS / 'light.txt'))
        return
    say('installing mmcv with its operators')
    build = subprocess.Popen([str(python), ROOT / 'tools/dev/build_mmcv.py'],
                             stdout=subprocess.PIPE,
                             text=True)
    for line in build.stdout:
        wheel = line.strip()
        print(line, end='', flush=True)
    if build.wait():
        sys.exit(1)
    pip(python, '--no-deps', wheel)


def requirement_names(args: argparse.Namespace) -> list[str]:
    """Which files of requirements/ pip reads; the libraries come later."""
    if args.light:
        return ['runtime']
    names = ['runtime', 'tests', 'onnx']
    if args.wheel is None and not args.onedl:
        # 120 MB; the other environments show that the rest does without
        names += ['multimodal', 'hub', 'tutorials']
    return names


def main() -> None:
    """Set up the environment."""
    if sys.version_info < (3, 10):
        sys.exit('Python 3.10 or later is needed (3.11 is tested), this is '
                 f'{sys.version.split()[0]}; `make PYTHON=python3.11 ...`')
    # here: older Pythons get the sentence above
    args = parse_args()
    environment = Path(args.folder).absolute()
    python = environment / 'bin' / 'python'
    has_pip = python.exists() and not subprocess.run(
        [str(python), '-m', 'pip', '--version'],
        capture_output=True).returncode
    if not has_pip:
        say(f'creating {environment}')
        try:
            # clear: an earlier attempt may have stopped half-way
            venv.create(environment, clear=True, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit('this Python cannot make virtual environments; on Debian '
                     'and Ubuntu: apt install python3-venv')
    say(f'installing torch {TORCH} (CPU) and what compiling needs')
    # where the package index has only the CUDA build, name PyTorch's CPU index
    index = os.environ.get('MMCOMPRESS_TORCH_INDEX')
    pip(python, '-r', str(REQUIREMENTS / 'build.txt'), f'torch=={TORCH}',
        *(['--extra-index-url', index] if index else []))
    kernels = None
    if args.wheel is None:
        say('compiling the 1-bit kernels, beside what follows')
        kernels = subprocess.Popen(
            [str(python), ROOT / 'tools/dev/build_ops.py'])
    say('installing what the OpenMMLab packages import')
    pip(
        python,
        *(argument for name in requirement_names(args)
          for argument in ('-r', str(REQUIREMENTS / f'{name}.txt'))))
    install_libraries(python, args.onedl, args.light)
    if args.wheel is None:
        say('linking the checkout')
        link_checkout(python, args.light)
        if kernels.wait():
            sys.exit('the 1-bit kernels do not compile, see above')
    else:
        say(f'installing {args.wheel}')
        pip(python, '--no-deps', '--force-reinstall', args.wheel)
    code = subprocess.run([str(python), '-m', 'mmcompress.check_env'],
                          cwd=environment)
    if code.returncode:
        sys.exit('the environment is not complete, see the table')
    (environment / 'ready').touch()
    say('ready')


if __name__ == '__main__':
    main()
