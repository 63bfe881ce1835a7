"""Build the site, and check it: `make docs`.

It lays out pages, what they link to, and what is generated from metafiles in a
folder, runs mkdocs on that with warnings as errors, and checks every link and
anchor of the result. Needs what requirements/docs.txt lists, and no network.

  python tools/dev/build_docs.py
  python -m http.server --directory build/site
"""
import argparse
import logging
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools' / 'benchmarks')]

from docs_site import dialect, errors, gallery, links  # noqa: E402
from docs_site.navigation import navigation  # noqa: E402
from docs_site.staging import Staging  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--out', type=Path, default=ROOT / 'build' / 'site', help='the site')
    parser.add_argument(
        '--staged',
        type=Path,
        default=ROOT / 'build' / 'site_pages',
        help='where pages are laid out before')
    return parser.parse_args()


def build(root: Path, staged: Path, out: Path) -> list[str]:
    """Build the site.

    Args:
        root (Path): The checkout.
        staged (Path): Folder for what mkdocs reads; it is emptied.
        out (Path): Folder for the site; it is emptied.

    Returns:
        list[str]: What is wrong with the result: broken links, and pages that
        a code host shows differently.

    Raises:
        ValueError: If a link of a page leads to nothing in the repository.
        mkdocs.exceptions.Abort: If mkdocs has a warning.
    """
    from mkdocs.commands.build import build as run_mkdocs
    from mkdocs.config import load_config
    staging = Staging(root, staged)
    staging.stage({
        gallery.PAGE: gallery.gallery_page(gallery.read_cards(root)),
        errors.PAGE: errors.errors_page(root)
    })
    same = [
        p for p in staging.pages if p.endswith('.md') and (root / p).is_file()
    ]
    config = load_config(
        str(root / 'docs' / 'site' / 'mkdocs.yml'),
        docs_dir=str(staged),
        site_dir=str(out),
        nav=navigation(root, staged),
        strict=True)
    run_mkdocs(config)
    return links.broken_links(out) + dialect.differences(root, out, same)


def main() -> int:
    """Run the tool."""
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format='%(message)s')
    start = time.time()
    try:
        wrong = build(ROOT, args.staged.resolve(), args.out.resolve())
    except ValueError as error:
        wrong = str(error).splitlines()
    for line in wrong:
        print(line)
    if wrong:
        print(f'{len(wrong)} faults')
        return 1
    print(f'{args.out}: {len(list(args.out.rglob("*.html")))} pages in '
          f'{time.time() - start:.0f} seconds')
    return 0


if __name__ == '__main__':
    sys.exit(main())
