"""Build a wheel with kernels for any Linux of a kind of processor.

    python tools/dev/build_wheel.py                        # x86_64
    python tools/dev/build_wheel.py --platform aarch64     # cross-compiled

The result, ``dist/mmcompress-*-py3-none-manylinux_2_28_*.whl``, needs no
compiler where it is installed, and serves torch from 2.10 and Python from
3.10 on. It is built without a container, see ``tools/dev/manylinux.py``, in
an environment with torch's headers, and auditwheel checks what was built.
"""
import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from manylinux import MACHINES

ROOT = Path(__file__).resolve().parents[2]
# loaded before the kernels are, by `import torch`
EXCLUDED = {'libtorch_cpu.so'}


def build(machine: str, out: Path) -> Path:
    """Build the wheel.

    Args:
        machine (str): ``'x86_64'`` or ``'aarch64'``.
        out (Path): Folder for it.

    Returns:
        Path: The wheel.

    Raises:
        SystemExit: If that fails.
    """
    tag = f'manylinux_2_28_{machine}'
    with tempfile.TemporaryDirectory() as temp:
        # outside of ./build, where files of other platforms may lie; given as
        # an option, the folder would be filled twice
        settings = Path(temp, 'settings.cfg')
        settings.write_text(f'[build]\nbuild_base = {temp}/build\n'
                            f'[egg_info]\negg_base = {temp}\n')
        code = subprocess.run([
            sys.executable, 'setup.py', '-q', 'bdist_wheel', '--bdist-dir',
            f'{temp}/wheel', '--plat-name', tag, '--dist-dir', f'{temp}/dist'
        ], cwd=ROOT, env=dict(os.environ, DIST_EXTRA_CONFIG=str(settings))
        ).returncode  # yapf: disable
        if code:
            sys.exit(f'building for {tag} failed')
        wheel, = Path(temp, 'dist').glob(f'*-py3-none-{tag}.whl')
        problems = audit(wheel)
        if problems:
            sys.exit('\n'.join(problems))
        out.mkdir(parents=True, exist_ok=True)
        target = out / wheel.name
        target.write_bytes(wheel.read_bytes())
    return target


def audit(wheel: Path) -> list[str]:
    """Ask auditwheel what the kernels want of the system.

    Args:
        wheel (Path): Named after its platform.

    Returns:
        list[str]: Problems, in sentences.
    """
    done = subprocess.run(
        [sys.executable, '-m', 'auditwheel', 'show', '--json',
         str(wheel)],
        capture_output=True,
        text=True)
    if done.returncode:
        return [
            f'auditwheel does not run ({done.stderr.strip()[-300:]}); '
            'pip install -r requirements/tests.txt'
        ]
    found = json.loads(done.stdout)
    problems = []
    version = re.search(r'_2_(\d+)_', found['sym_tag'])
    if version is None or int(version[1]) > 28:
        needs = {k: max(v) for k, v in found['versioned_symbols'].items()}
        problems.append(
            f'the kernels need {found["sym_tag"]}, newer than manylinux_2_28: '
            f'{needs}. Build with GCC 12 on Debian 12, or replace what is '
            'new in ops/csrc/manylinux')
    others = set(found['external_libs']) - EXCLUDED
    if others:
        problems.append(f'the kernels link to {", ".join(sorted(others))}')
    if found['unsupported_isa']:
        problems.append('the kernels need a newer processor')
    if not problems:
        print(f'auditwheel: symbols of {found["sym_tag"]}; libraries: '
              f'{", ".join([*found["versioned_symbols"], *EXCLUDED])}')
    return problems


def main() -> None:
    """Build, and print the name of the wheel last."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    machine = platform.machine()
    parser.add_argument(
        '--platform',
        choices=MACHINES,
        default=machine if machine in MACHINES else MACHINES[0])
    parser.add_argument('--out', type=Path, default=ROOT / 'dist')
    args = parser.parse_args()
    wheel = build(args.platform, args.out)
    print(f'{wheel.stat().st_size / 1e6:.2f} MB')
    print(wheel)


if __name__ == '__main__':
    main()
