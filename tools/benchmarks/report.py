"""Render what mini.py measured: a page, and a plot for each task."""
import argparse
import os
from pathlib import Path

from comparison import Records, Table, summarize
from comparison.page import draw_gains, gains_of, render_page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs' / 'benchmarks'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--results', type=Path, default=DOCS / 'mini.json', help='of mini.py')
    parser.add_argument(
        '--tuning',
        type=Path,
        default=DOCS / 'tuning.json',
        help='records of tuning; they count as effort')
    parser.add_argument(
        '--out', type=Path, default=DOCS / 'mini.md', help='page to write')
    args = parser.parse_args()
    if not args.results.is_file():
        parser.error(f'{args.results} does not exist; run mini.py first')
    return args


def plot_name(task: str) -> str:
    """File name of a task's plot."""
    return f'gains_{task.lower().replace(" ", "_")}.svg'


def main() -> None:
    """Run the tool."""
    args = parse_args()
    records = Records(args.results).read()
    table = Table(ROOT)
    folder = args.out.resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    page = render_page(records,
                       Records(args.tuning).read(), table,
                       lambda config: os.path.relpath(ROOT / config, folder),
                       plot_name)
    args.out.write_text(page)
    for task in dict.fromkeys(r['task'] for r in records):
        summaries = summarize(records, task)
        if any(gains_of(summaries, table, task).values()):
            draw_gains(summaries, table, task, folder / plot_name(task))
    print(f'Wrote {args.out}')


if __name__ == '__main__':
    main()
