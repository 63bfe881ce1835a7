"""Tokenizers of mmpretrain on the vocabulary of our mini data."""
from typing import Any

from mmpretrain.registry import TOKENIZER as ROOT

from mmcompress.scoped_registry import SCOPE, add_to_roots
from .vocabulary import ensure_vocabulary

add_to_roots('mmpretrain.registry')
TOKENIZER = ROOT.children[SCOPE]


@TOKENIZER.register_module()
def RenderedTokenizer(tokenizer: dict, vocabulary: str = 'clip') -> Any:
    """Build a tokenizer on files that are written when first asked for.

    Args:
        tokenizer (dict): Config of a tokenizer of mmpretrain, without
            ``name_or_path``.
        vocabulary (str): Whose files: ``'clip'`` for ``AutoTokenizer``, or
            ``'bert'`` for ``BertTokenizer`` and ``BlipTokenizer``.

    Returns:
        The tokenizer of transformers.
    """
    folder = ensure_vocabulary(vocabulary)
    return ROOT.build(dict(tokenizer, name_or_path=str(folder)))
