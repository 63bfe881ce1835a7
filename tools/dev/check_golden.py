"""Compare what this package computes with stored official numbers.

Prints a line per fixture: ok, FAIL or none (no adapter), the largest error
divided by the fixture's tolerance, and its name.
"""
import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]
# adapters of projects import the project's package
sys.path += [str(file.parent) for file in ROOT.glob('projects/*/README.md')]

import golden  # noqa: E402


def check(file: Path) -> tuple[str, str]:
    """Status of a fixture and what to print behind it."""
    try:
        case = golden.load(file)
        actual = golden.run(case)
        if actual is None:
            return 'none', f'{"-":>10}  {file.stem}'
        errors = golden.errors(case, actual)
    except Exception as error:
        return 'FAIL', (f'{"-":>10}  {file.stem}: {type(error).__name__}: '
                        f'{error}')
    worst = max(errors, key=errors.get, default=None)
    largest = errors[worst] if errors else float('nan')
    line = f'{largest:10.3g}  {file.stem}'
    if largest <= 1:
        return 'ok', line
    return 'FAIL', f'{line}: {worst or "nothing to compare"}'


def main() -> int:
    """0 if all passed, 1 after a failure, 2 if there is nothing to do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('dir', type=Path, help='folder of the fixtures')
    parser.add_argument(
        '--method', nargs='+', help='only these; the part before `__`')
    parser.add_argument(
        '--strict',
        action='store_true',
        help='a fixture without adapter is a failure')
    args = parser.parse_args()
    files = [
        file for file in sorted(args.dir.glob('*__*.npz'))
        if args.method is None or file.stem.split('__')[0] in args.method
    ]
    counts = dict(ok=0, FAIL=0, none=0)
    for file in files:
        status, line = check(file)
        counts[status] += 1
        print(f'{status:<4} {line}', flush=True)
    if not files:
        print(f'no fixture in {args.dir}', file=sys.stderr)
    print(f'{counts["ok"]} passed, {counts["FAIL"]} failed, '
          f'{counts["none"]} without adapter')
    if not files:
        return 2
    return int(counts['FAIL'] > 0 or args.strict and counts['none'] > 0)


if __name__ == '__main__':
    sys.exit(main())
