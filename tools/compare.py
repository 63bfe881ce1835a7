"""Compare finished runs, from what they wrote, in one table and in plots."""
import argparse
import sys
from pathlib import Path

from mmcompress.results import render
from mmcompress.results.comparison import comparison_table, read_runs
from mmcompress.results.reports import FORMATS

DESCRIPTION = '''Prints one table of all forms of all runs: metric, weights,
size of the file, latency. Writes it with plots as OUT/report.html, which
needs no other file, and OUT/report.md. It measures nothing: all numbers are
those in the records of the runs.'''


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument(
        'runs',
        nargs='+',
        metavar='RUN',
        help='folder of a run of tools/compress.py; or a record, such as its '
        'record.json')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/compare'),
        help='folder to write into; by default %(default)s')
    parser.add_argument(
        '--format', nargs='+', choices=FORMATS, default=list(FORMATS))
    return parser.parse_args()


def main() -> None:
    """Read, print and write."""
    args = parse_args()
    try:
        runs = read_runs(args.runs)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'compare.py: {error}')
    print(comparison_table(runs))
    for path in render(runs, args.out, args.format):
        print(f'written: {path}')


if __name__ == '__main__':
    main()
