"""Check that a wheel holds the package, its configs and nothing else.

``--no-compiler`` also installs it apart, and uses it with nothing on the path:
operators and a packed model, in this environment and in those of other
interpreters, as of another torch.
"""
import argparse
import os
import sys
import zipfile

from wheel_trial import try_wheel

NEEDED = ('mmcompress/.mim/configs/_base_/runtime.py',
          'mmcompress/.mim/tools/train.py', 'mmcompress/.mim/tools/test.py',
          'mmcompress/.mim/model-index.yml', 'mmcompress/registry.py',
          'mmcompress/py.typed', 'mmcompress.pth')
# the comparison of methods belongs to a checkout
UNWANTED = '/benchmarks/'


def problems_of(path: str) -> list[str]:
    """What is wrong with the content of a wheel, in sentences."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
    problems = [f'{name} is missing' for name in NEEDED if name not in names]
    problems += [f'{n} is there' for n in names if UNWANTED in n]
    top = {name.split('/')[0] for name in names}
    ours = {'mmcompress', 'mmcompress.pth'}
    extra = {t for t in top - ours if '.dist-info' not in t}
    problems += [f'{name} is installed at the top level' for name in extra]
    top_level = [n for n in names if n.endswith('dist-info/top_level.txt')]
    has_kernels = any(name.endswith('.so') for name in names)
    if has_kernels == path.endswith('-any.whl'):
        kernels = 'compiled kernels' if has_kernels else 'no compiled kernels'
        problems.append(f'the platform in the name is wrong for {kernels}')
    if not top_level:
        problems.append('top_level.txt is missing, which mim reads')
    if not any('.dist-info/' in n and n.endswith('/LICENSE') for n in names):
        problems.append('the licence is missing')
    return [f'{path}: {problem}' for problem in problems]


def main() -> int:
    """Print what is wrong; 0 if nothing is."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('wheel')
    parser.add_argument(
        '--no-compiler',
        action='store_true',
        help='use it where nothing can be compiled')
    parser.add_argument(
        '--python',
        action='append',
        default=os.environ.get('MMCOMPRESS_OTHER_PYTHON', '').split(),
        help='another environment for --no-compiler, with torch, pytest and '
        'mmpretrain; those in $MMCOMPRESS_OTHER_PYTHON as well')
    args = parser.parse_args()
    problems = problems_of(args.wheel)
    if args.no_compiler:
        for python in (sys.executable, *args.python):
            problems += try_wheel(args.wheel, python)
    print(*problems, sep='\n', end='\n' if problems else '')
    return bool(problems)


if __name__ == '__main__':
    sys.exit(main())
