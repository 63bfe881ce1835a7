"""Render the results store: pages, plots and the dashboard.

  docs/benchmarks/mini.md         the comparison on the mini data, its plots
  docs/benchmarks/dashboard.html  all records, to filter
  docs/benchmarks/full.md         full-size configs beside the papers' numbers

Tables in other pages of docs/benchmarks are between two marks.

  python tools/benchmarks/report.py
  python tools/benchmarks/report.py --check     # 1 if a page is out of date
"""
import argparse
import os
import sys
from functools import partial
from pathlib import Path

from comparison import Records, Table, summarize
from comparison.dashboard import render_dashboard
from comparison.full_page import render_full
from comparison.page import draw_gains, gains_of, render_page
from comparison.rows import make_rows, read_store
from comparison.tables import fill_tables
from comparison.verdicts import Baselines

ROOT = Path(__file__).resolve().parents[2]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--store',
        type=Path,
        default=ROOT / 'docs' / 'results',
        help='folder of records, docs/results by default')
    parser.add_argument(
        '--out',
        type=Path,
        default=ROOT / 'docs' / 'benchmarks',
        help='folder of pages, docs/benchmarks by default')
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing; 1 if a page is not what the store says')
    args = parser.parse_args()
    if not args.store.is_dir():
        parser.error(f'{args.store} does not exist; run mini.py first')
    return args


def plot_name(task: str) -> str:
    """File name of a task's plot."""
    return f'gains_{task.lower().replace(" ", "_")}.svg'


def _link(folder: Path, path: str) -> str:
    return os.path.relpath(ROOT / path, folder)


def render(store: Path, folder: Path) -> dict[Path, str]:
    """What each page should hold.

    Args:
        store (Path): Folder of records.
        folder (Path): Of the pages.
    """
    table = Table(ROOT)
    link = partial(_link, folder.resolve())
    entries = read_store(store)
    rows = make_rows(entries)
    baselines = Baselines(rows, table.compared_with, table.float_of)
    pages = {
        folder / 'dashboard.html':
        render_dashboard(rows, baselines.of, link),
        folder / 'full.md':
        render_full([record for _, record in entries], ROOT, link)
    }
    records = Records(store / 'mini.json').read()
    if records:
        tuning = Records(store / 'tuning.json').read()
        pages[folder / 'mini.md'] = render_page(records, tuning, table, link,
                                                plot_name)
    for path in sorted(folder.glob('*.md')):
        if path not in pages:
            text = path.read_text('utf-8')
            pages[path] = fill_tables(text, rows, link, str(path))
    return pages


def draw(store: Path, folder: Path) -> None:
    """Plot the gains of every task."""
    table = Table(ROOT)
    records = Records(store / 'mini.json').read()
    for task in dict.fromkeys(r['task'] for r in records):
        summaries = summarize(records, task)
        if any(gains_of(summaries, table, task).values()):
            draw_gains(summaries, table, task, folder / plot_name(task))


def main() -> int:
    """Write what changed; with ``--check``, say so instead."""
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    changed = {
        path: text
        for path, text in render(args.store, args.out).items()
        if not path.is_file() or path.read_text('utf-8') != text
    }
    if args.check:
        for path in changed:
            print(f'{path} is not what {args.store} says; run report.py')
        return bool(changed)
    for path, text in changed.items():
        path.write_text(text, 'utf-8')
        print(f'Wrote {path}')
    draw(args.store, args.out)
    return 0


if __name__ == '__main__':
    sys.exit(main())
