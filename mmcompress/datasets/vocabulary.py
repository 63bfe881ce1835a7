"""Small vocabularies of the mini captions, for tokenizers of transformers."""
import json
from pathlib import Path

from mmcompress.cache import cache_folder
from .captions import CAPTIONS
from .manifest import ensure_folder

_VERSION = 1


def words() -> list[str]:
    """Words of all captions, in alphabetical order."""
    return sorted({word for caption in CAPTIONS for word in caption.split()})


def _write_clip(folder: Path) -> None:
    """What ``CLIPTokenizer`` reads: pairs that it joins, and numbers.

    The mark of a text's end has the largest number: CLIP finds it by that.
    """
    merges, tokens = [], {}
    for word in words():
        *pieces, last = word
        pieces.append(f'{last}</w>')
        tokens.update(dict.fromkeys(pieces))
        left = pieces[0]
        for right in pieces[1:]:
            merges.append(f'{left} {right}')
            left += right
            tokens[left] = None
    tokens = [*tokens, '<|startoftext|>', '<|endoftext|>']
    (folder / 'vocab.json').write_text(
        json.dumps({
            token: i
            for i, token in enumerate(tokens)
        }))
    (folder / 'merges.txt'
     ).write_text('\n'.join(['#version: 0.2', *dict.fromkeys(merges)]) + '\n')
    (folder / 'tokenizer_config.json').write_text(
        json.dumps(
            dict(
                tokenizer_class='CLIPTokenizer',
                model_max_length=77,
                bos_token='<|startoftext|>',
                eos_token='<|endoftext|>',
                pad_token='<|endoftext|>',
                unk_token='<|endoftext|>')))


def _write_bert(folder: Path) -> None:
    """What ``BertTokenizer`` and ``BlipTokenizer`` read: a token per line."""
    special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
    (folder / 'vocab.txt').write_text('\n'.join([*special, *words()]) + '\n')
    (folder / 'tokenizer_config.json').write_text(
        json.dumps(
            dict(
                tokenizer_class='BertTokenizer',
                model_max_length=512,
                do_lower_case=True)))


_WRITERS = dict(clip=_write_clip, bert=_write_bert)


def ensure_vocabulary(kind: str) -> Path:
    """Write the files of a tokenizer unless they are there.

    Args:
        kind (str): ``'clip'`` or ``'bert'``.

    Returns:
        Path: The folder, inside the cache folder: ``name_or_path`` of a
        tokenizer.
    """
    if kind not in _WRITERS:
        raise ValueError(f'kind must be one of {sorted(_WRITERS)}, got '
                         f'{kind!r}')
    folder = cache_folder() / 'mini' / f'vocabulary-{kind}-v{_VERSION}'
    settings = dict(vocabulary=kind, version=_VERSION, captions=list(CAPTIONS))
    return ensure_folder(folder, settings, _WRITERS[kind])
