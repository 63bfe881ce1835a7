"""Lay out what the site is made of, in the folders of the repository.

Pages keep their paths, so that a relative link means the same on a code host,
on the site, and in static html. Linked files that no browser shows well, such
as configs, become pages of their own, and so do linked folders.
"""
import os
import re
import shutil
from pathlib import Path

from . import markdown, notebooks

PAGES = ('*.md', 'docs/**/*.md', 'configs/*/README.md', 'projects/**/*.md',
         'ops/**/*.md')
# what a browser shows; the rest becomes a page
STATIC = {
    '.svg', '.png', '.jpg', '.gif', '.json', '.txt', '.csv', '.html', '.js',
    '.css', '.ico'
}
# pages that have another place than in the repository
MOVED = {'docs/site/index.md': 'index.md', 'README.md': 'about.md'}
_LANGUAGES = {
    '.py': 'python',
    '.yml': 'yaml',
    '.sh': 'bash',
    '.cpp': 'cpp',
    '.h': 'cpp',
    '.cu': 'cpp',
    '.cfg': 'ini'
}
_UNSEARCHED = '---\nsearch:\n  exclude: true\n---\n\n'
# relative paths of sources
_QUOTED = re.compile(r'(?<=")(?:\.\./|\w)[\w./-]*\.(?:py|md|json|txt)(?=")')


def _html_links(text: str) -> str:
    """Let links in html, which mkdocs leaves alone, lead to built pages."""
    text = re.sub(
        r'(href="(?:(?![a-z]+:)[^"#]*/)?)README\.(?:md|html)(?=["#])',
        r'\1index.html', text)
    return re.sub(r'(href="(?![a-z]+:)[^"#]+)\.md(?=["#])', r'\1.html', text)


class Staging:
    """Copies pages and what they link to.

    Args:
        root (Path): The checkout.
        target (Path): Folder to write to; what it holds is removed.

    Attributes:
        pages (list[str]): Staged pages, as paths in ``target``.
    """

    def __init__(self, root: Path, target: Path) -> None:
        self.root, self.target = root, target
        self.pages: list[str] = []
        self._sources = {
            path.relative_to(root).as_posix()
            for pattern in PAGES
            for path in root.glob(pattern)
        }
        self._linked: set[str] = set()
        self._broken: list[str] = []

    def stage(self, generated: dict[str, str]) -> None:
        """Write everything.

        Args:
            generated (dict[str, str]): Further pages, by their paths.

        Raises:
            ValueError: If links of pages lead to nothing; it names all.
        """
        shutil.rmtree(self.target, ignore_errors=True)
        for source in sorted(self._sources):
            self.write_page(source, (self.root / source).read_text('utf-8'))
        for path in sorted(self.root.glob('docs/**/*.ipynb')):
            source = path.relative_to(self.root).as_posix()
            self.write_page(source, notebooks.to_markdown(path))
        for place, text in generated.items():
            self.write_page(place, text)
        for path in sorted(self.root.glob('docs/**/*')):
            if path.is_file() and path.suffix in STATIC:
                self._copy(path.relative_to(self.root).as_posix())
        for path in sorted(self._linked - self._sources):
            self._write_linked(path)
        if self._broken:
            raise ValueError('\n'.join(self._broken))

    def write_page(self, source: str, text: str) -> None:
        """Write a page, with its links mapped to what they lead to.

        Args:
            source (str): Its path in the repository, or where it would be.
            text (str): Markdown.
        """
        place = self._page(source)
        text = markdown.map_links(text, lambda t: self._link(source, place, t))
        if place == 'index.md':
            # the list of methods has a page of its own here
            text = text.replace('(docs/README.md#methods)', '(methods.md)')
        text = markdown.as_on_a_code_host(markdown.beside(text))
        self._write(place, _html_links(text))
        self.pages.append(place)

    def _page(self, source: str) -> str:
        source = re.sub(r'\.ipynb$', '.md', source)
        return MOVED.get(source, source)

    def _link(self, source: str, place: str, target: str) -> str:
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))
        there = self.root / path
        if path.startswith('..') or not there.exists():
            self._broken.append(
                f'{source}: the link {target} leads to nothing')
            return target
        if there.is_dir():
            path = f'{path}/README.md'
            self._linked.add(path)
        elif there.suffix in STATIC:
            self._copy(path)
        elif path not in self._sources and there.suffix != '.ipynb':
            self._linked.add(path)
            path = f'{path}.md'
        linked = self._page(path)
        return os.path.relpath(linked, os.path.dirname(place) or '.')

    def _write(self, place: str, text: str) -> None:
        file = self.target / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, 'utf-8')

    def _copy(self, path: str) -> None:
        place = re.sub('^docs/site/', '', path)
        file = self.target / place
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == '.html':
            text = (self.root / path).read_text('utf-8')
            file.write_text(
                _html_links(
                    _QUOTED.sub(lambda m: self._quoted(path, m), text)),
                'utf-8')
        else:
            shutil.copyfile(self.root / path, file)

    def _quoted(self, source: str, match: re.Match) -> str:
        """A path in static html, whose scripts may make links of it."""
        path = os.path.normpath(
            os.path.join(os.path.dirname(source), match[0]))
        if path in self._sources or not (self.root / path).is_file():
            return match[0]
        return re.sub(r'\.md$', '.html', self._link(source, source, match[0]))

    def _write_linked(self, path: str) -> None:
        if not (self.root / path).exists():
            folder = os.path.dirname(path)
            return self._write(path, self._listing(folder))
        text = (self.root / path).read_text('utf-8').rstrip('\n')
        language = _LANGUAGES.get(Path(path).suffix, 'text')
        method = ''
        readme = f'{os.path.dirname(path)}/README.md'
        if readme in self._sources:
            method = 'It belongs to [this page](README.md).\n\n'
        name = os.path.basename(path)
        self._write(
            f'{path}.md', f'{_UNSEARCHED}# {name}\n\n`{path}`. {method}\n\n'
            f'~~~~{language}\n{text}\n~~~~\n')

    def _listing(self, folder: str) -> str:
        """A page for a folder without one."""
        lines = [f'# {os.path.basename(folder).replace("_", " ")}', '']
        lines[0] = lines[0][:2] + lines[0][2].upper() + lines[0][3:]
        for path in sorted((self.root / folder).iterdir()):
            title = path.name
            if path.suffix == '.md':
                title = re.search('^# (.*)', path.read_text('utf-8'), re.M)[1]
            elif path.suffix not in STATIC:
                continue
            lines.append(f'- [{title}]({path.name})')
        head = '' if folder == 'docs/decisions' else _UNSEARCHED
        return head + '\n'.join(lines) + '\n'
