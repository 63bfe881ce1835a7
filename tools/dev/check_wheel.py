"""Check that a wheel holds the package, its configs and nothing else."""
import argparse
import sys
import zipfile

NEEDED = ('mmcompress/.mim/configs/_base_/runtime.py',
          'mmcompress/.mim/tools/train.py', 'mmcompress/.mim/tools/test.py',
          'mmcompress/.mim/model-index.yml', 'mmcompress/registry.py',
          'mmcompress.pth')
# the comparison of methods belongs to a checkout
UNWANTED = '/benchmarks/'


def main(path: str) -> int:
    """Print what is wrong; 0 if nothing is."""
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
    for problem in problems:
        print(f'{path}: {problem}')
    return bool(problems)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('wheel')
    sys.exit(main(parser.parse_args().wheel))
