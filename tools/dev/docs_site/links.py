"""Check the links of a built site, without a network."""
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# what a browser fetches by itself
_LOADS = {
    'script': 'src',
    'img': 'src',
    'iframe': 'src',
    'source': 'src',
    'video': 'src',
    'audio': 'src',
    'embed': 'src',
    'object': 'data',
    'link': 'href'
}
_IN_CSS = re.compile(r'''(?:url\(\s*["']?|@import\s+["'])([^"')\s]+)''')
# a link element that is fetched, not only named
_FETCHED = {
    'stylesheet', 'icon', 'preload', 'modulepreload', 'preconnect',
    'dns-prefetch', 'manifest', 'prefetch'
}
_HOST = re.compile(
    r'(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+'
    r'[a-z]{2,}', re.I)


@dataclass
class Document(HTMLParser):
    """Anchors and links of a page.

    Attributes:
        ids (set[str]): Anchors.
        links (list[str]): What a reader may follow.
        loads (list[str]): What the browser fetches with the page.
    """
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str,
                        attrs: list[tuple[str, str | None]]) -> None:
        """Look at an element."""
        values = {key: value or '' for key, value in attrs}
        self.ids |= {values[k] for k in ('id', 'name') if k in values}
        if tag == 'a' and 'href' in values:
            self.links.append(values['href'])
        key = _LOADS.get(tag)
        if key in values and (tag != 'link'
                              or _FETCHED & set(values['rel'].split())):
            self.loads.append(values[key])
        self.loads += _IN_CSS.findall(values.get('style', ''))

    @classmethod
    def read(cls, file: Path) -> 'Document':
        """Parse a file."""
        document = cls()
        document.feed(file.read_text('utf-8'))
        return document


def _external(url: str, fetched: bool) -> str:
    """What is wrong with a URL of another host."""
    parts = urlsplit(url)
    if parts.scheme in ('mailto', 'data', 'javascript'):
        return ''
    if fetched:
        return 'is loaded from another host'
    if parts.scheme not in ('http', 'https'):
        return f'has the scheme {parts.scheme!r}'
    if not _HOST.fullmatch(parts.hostname or '') or ' ' in url:
        return 'is no URL'
    return ''


def _internal(site: Path, page: Path, url: str,
              documents: dict[Path, Document]) -> str:
    """What is wrong with a link within the site."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if path.startswith('/'):
        return 'begins at the root, where the site need not be'
    there = (page.parent / path).resolve() if path else page
    if path and (not there.is_relative_to(site) or not there.is_file()):
        return 'leads to no file of the site'
    if parts.fragment and there.suffix == '.html':
        if there not in documents:
            documents[there] = Document.read(there)
        if unquote(parts.fragment) not in documents[there].ids:
            return 'leads to no anchor of that page'
    return ''


def broken_links(site: Path) -> list[str]:
    """Every link that leads nowhere, with its page and what is wrong.

    Links within the site need their file and their anchor, those to other
    hosts only the form of a URL; nothing may be loaded from another host.

    Args:
        site (Path): Folder of the built site.
    """
    site = site.resolve()
    documents = {
        page: Document.read(page)
        for page in sorted(site.rglob('*.html'))
    }
    found = []
    for page, document in list(documents.items()):
        # the page for what isn't found is served from anywhere
        if page == site / '404.html':
            continue
        for fetched, urls in ((False, document.links), (True, document.loads)):
            for url in urls:
                if re.match(r'[a-z][a-z0-9+.-]*:|//', url, re.I):
                    wrong = _external(url, fetched)
                else:
                    wrong = _internal(site, page, url, documents)
                if wrong:
                    found.append(f'{page.relative_to(site)}: {url} {wrong}')
    for sheet in sorted(site.rglob('*.css')):
        for url in _IN_CSS.findall(sheet.read_text('utf-8')):
            if re.match(r'https?:|//', url):
                found.append(f'{sheet.relative_to(site)}: {url} is loaded '
                             'from another host')
    return found
