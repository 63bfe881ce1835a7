"""Execute the tutorials of docs/tutorials, and store what they print.

Each runs in a fresh kernel, on one thread, in an empty folder that has the
tools and the configs of the checkout.
"""
import argparse
import base64
import io
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / 'docs' / 'tutorials'
# what notebooks reach for from the root of the checkout
LINKED = ('configs', 'mmcompress', 'tools')
# seconds of a cell, on a machine that has other work as well
TIMEOUT = 1800
# a tutorial ends with numbers; a cell with this tag holds them
NUMBERS = 'numbers'
# of pictures, as they are stored: pixels of their width
WIDTH = 640
PICTURES = {'image/png', 'image/jpeg'}
_COLOURS = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]')


def environment() -> dict[str, str]:
    """Of the kernel: the interpreter that runs this, and one thread."""
    path = os.pathsep.join(
        [str(Path(sys.executable).parent),
         os.environ.get('PATH', '')])
    packages = os.pathsep.join([str(ROOT),
                                os.environ.get('PYTHONPATH',
                                               '')]).rstrip(os.pathsep)
    return dict(
        os.environ,
        PATH=path,
        PYTHONPATH=packages,
        OMP_NUM_THREADS='1',
        OMP_WAIT_POLICY='passive',
        PYTHONWARNINGS='ignore')


def _shown(text: str, folder: Path) -> str:
    """What a terminal would show, with paths from where it ran."""
    lines = text.split('\n')
    text = '\n'.join(line.rsplit('\r', 1)[-1] for line in lines)
    text = _COLOURS.sub('', text)
    for path in (folder, ROOT, Path.home()):
        text = text.replace(f'{path}/', '').replace(str(path), '.')
    return text


def small_jpeg(content: str) -> str:
    """A picture of few bytes.

    Args:
        content (str): PNG in base64.

    Returns:
        str: JPEG in base64, not wider than a page.
    """
    image = Image.open(io.BytesIO(base64.b64decode(content))).convert('RGB')
    if image.width > WIDTH:
        image = image.resize((WIDTH, image.height * WIDTH // image.width),
                             Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, 'JPEG', quality=75, optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def _is_shown(output: nbformat.NotebookNode) -> bool:
    """Whether an output is for readers: no progress, no warning, not empty."""
    if output.output_type == 'stream':
        return output.name == 'stdout'
    data = output.get('data', {})
    return bool(data.keys() & PICTURES or data.get('text/plain', '').strip())


def clean(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Take out of a notebook what only holds for one run.

    Args:
        notebook (NotebookNode): Changed in place.
        folder (Path): Where it ran.
    """
    for cell in notebook.cells:
        cell.metadata.pop('execution', None)
        if cell.cell_type != 'code':
            continue
        kept = []
        for output in filter(_is_shown, cell.outputs):
            if output.output_type == 'stream':
                output.text = _shown(output.text, folder)
                if kept and kept[-1].output_type == 'stream':
                    kept[-1].text += output.text
                    continue
            for kind, content in output.get('data', {}).items():
                if kind.startswith('text/'):
                    output.data[kind] = _shown(content, folder)
            picture = output.get('data', {}).pop('image/png', None)
            if picture:
                output.data['image/jpeg'] = small_jpeg(picture)
            kept.append(output)
        cell.outputs = kept
    notebook.metadata.pop('widgets', None)


def without_numbers(notebook: nbformat.NotebookNode) -> str | None:
    """Why what a tutorial shows at its end can't be true.

    Args:
        notebook (NotebookNode): Executed.

    Returns:
        str | None: None if the cells of key numbers show some.
    """
    cells = [
        cell for cell in notebook.cells
        if NUMBERS in cell.metadata.get('tags', ())
    ]
    if not cells:
        return f'no cell has the tag `{NUMBERS}`'
    for cell in cells:
        text = ''.join(output.get('text', '') for output in cell.outputs)
        text += ''.join(
            output.get('data', {}).get('text/plain', '')
            for output in cell.outputs)
        if not re.search(r'\d\.\d', text):
            return f'this cell shows no numbers:\n{cell.source}'
    return None


def execute(name: str, store: bool) -> str | None:
    """Run a tutorial.

    Args:
        name (str): Of its file, without suffix.
        store (bool): Whether to keep its outputs.

    Returns:
        str | None: What went wrong; None if nothing did.
    """
    path = TUTORIALS / f'{name}.ipynb'
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        here = root / 'docs' / 'tutorials'
        here.mkdir(parents=True)
        for linked in LINKED:
            (root / linked).symlink_to(ROOT / linked)
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            resources=dict(metadata=dict(path=str(here))))
        try:
            client.execute(env=environment())
        except CellExecutionError as error:
            return _COLOURS.sub('', str(error))
        clean(notebook, root)
    if store:
        nbformat.write(notebook, path)
    return without_numbers(notebook)


def parse_args() -> argparse.Namespace:
    """Which ones, and what to do with them."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    there = sorted(path.stem for path in TUTORIALS.glob('*.ipynb'))
    parser.add_argument(
        'names', nargs='*', metavar='NAME', help=f'of {", ".join(there)}')
    parser.add_argument(
        '--check',
        action='store_true',
        help='store nothing; only see that all cells run and that key '
        'numbers are there')
    parser.add_argument(
        '--jobs', type=int, default=2, help='how many run at once')
    args = parser.parse_args()
    unknown = set(args.names) - set(there)
    if unknown:
        parser.error(f'no tutorial {", ".join(sorted(unknown))}; there are '
                     f'{", ".join(there)}')
    args.names = args.names or there
    return args


def main() -> int:
    """Run the tutorials."""
    args = parse_args()
    start = time.time()

    def run(name: str) -> bool:
        fault = execute(name, store=not args.check)
        print(
            f'{name}: {fault or "runs"} ({time.time() - start:.0f} s)',
            flush=True)
        return fault is None

    with ThreadPoolExecutor(args.jobs) as pool:
        return 0 if all(list(pool.map(run, args.names))) else 1


if __name__ == '__main__':
    sys.exit(main())
