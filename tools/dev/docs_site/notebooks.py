"""Notebooks as pages: their cells, and the outputs stored in them."""
import json
import re
from pathlib import Path

_COLOURS = re.compile(r'\x1b\[[0-9;]*[A-Za-z]')


def _join(text: str | list[str]) -> str:
    return text if isinstance(text, str) else ''.join(text)


def _fenced(text: str, language: str) -> str:
    fence = '~~~'
    while fence in text:
        fence += '~'
    return f'{fence}{language}\n{text.rstrip()}\n{fence}'


def _output(output: dict) -> str:
    if output['output_type'] == 'stream':
        # a progress bar overwrites its line
        lines = _join(output['text']).split('\n')
        text = '\n'.join(line.rsplit('\r', 1)[-1] for line in lines)
        return _fenced(_COLOURS.sub('', text), 'text')
    if output['output_type'] == 'error':
        raise ValueError('an output is an error: '
                         f'{output["ename"]}: {output["evalue"]}')
    data = output['data']
    for kind in ('image/png', 'image/jpeg'):
        if kind in data:
            image = _join(data[kind]).replace('\n', '')
            return f'<img alt="output" src="data:{kind};base64,{image}">'
    if 'text/markdown' in data:
        return _join(data['text/markdown'])
    return _fenced(_join(data.get('text/plain', '')), 'text')


def to_markdown(path: Path) -> str:
    """A notebook as Markdown.

    Args:
        path (Path): Of the notebook, format 4.

    Raises:
        ValueError: If it has another format, or was stored with an error.
    """
    notebook = json.loads(path.read_text('utf-8'))
    if notebook.get('nbformat') != 4:
        raise ValueError(f'{path.name} has format {notebook.get("nbformat")}; '
                         'only 4 is read')
    parts = []
    for number, cell in enumerate(notebook['cells'], 1):
        source = _join(cell['source'])
        if cell['cell_type'] == 'markdown':
            parts.append(source)
        elif cell['cell_type'] == 'code' and source.strip():
            language = 'bash' if source.startswith(('!', '%%bash')) \
                else 'python'
            parts.append(_fenced(source, language))
            try:
                parts += map(_output, cell['outputs'])
            except ValueError as error:
                raise ValueError(
                    f'{path.name}, cell {number}: {error}') from None
    return '\n\n'.join(parts) + '\n'
