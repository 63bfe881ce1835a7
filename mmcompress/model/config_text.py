"""Configs as text, as one would write them."""
import keyword
import os.path as osp
from pathlib import Path
from pprint import pformat
from typing import Any

from mmengine.config import Config
from yapf.yapflib.yapf_api import FormatCode

_STYLE = dict(
    based_on_style='pep8',
    column_limit=79,
    blank_line_before_nested_class_or_def=True,
    split_before_expression_after_opening_paren=True)


class Code(str):
    """An expression, which stands in a config as it is."""


def _is_name(key: Any) -> bool:
    return (isinstance(key, str) and key.isidentifier()
            and not keyword.iskeyword(key))


def expression(value: Any) -> str:
    """A value as an expression, dicts as ``dict(key=...)``."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, dict):
        if all(map(_is_name, value)):
            inner = (f'{k}={expression(v)}' for k, v in value.items())
            return f'dict({", ".join(inner)})'
        inner = (f'{k!r}: {expression(v)}' for k, v in value.items())
        return '{' + ', '.join(inner) + '}'
    if isinstance(value, list):
        return '[' + ', '.join(map(expression, value)) + ']'
    if isinstance(value, tuple):
        end = ',)' if len(value) == 1 else ')'
        return '(' + ', '.join(map(expression, value)) + end
    return repr(value)


def config_file(comment: str, keys: dict[str, Any]) -> str:
    """The text of a config.

    Args:
        comment (str): Lines that say what it is, without ``#``.
        keys (dict[str, Any]): Top-level keys in their order, ``_base_`` the
            first one.
    """
    text = '\n'.join(f'{k} = {expression(v)}\n' for k, v in keys.items())
    formatted, _ = FormatCode(text, style_config=dict(_STYLE))
    lines = [f'# {line}'.rstrip() for line in comment.splitlines()]
    return '\n'.join(lines) + '\n' + formatted


def literal(value: Any, indent: int) -> str:
    """A value over several lines, the later ones indented."""
    text = pformat(value, width=79 - indent, sort_dicts=False)
    return text.replace('\n', '\n' + ' ' * indent)


def inner_expression(cfg: Config, model: dict) -> str | None:
    """A model by a name in its base config.

    Args:
        cfg (Config): The base, whole.
        model (dict): Config of a model within it.

    Returns:
        str | None: As ``_base_.model.student``; None without a name.
    """
    found, text = cfg.model.to_dict(), '_base_.model'
    while found is not None:
        if found == model:
            return text
        key = next((k for k in ('student', 'model') if k in found), None)
        found, text = found.get(key), f'{text}.{key}'
    return None


def base_of(cfg: Config, config: str, changed: bool, folder: Path,
            written: str) -> str:
    """What a new config inherits; written where it is in no file.

    Args:
        cfg (Config): As it was read.
        config (str): Its path, or ``'mmdet::folder/name.py'``.
        changed (bool): Whether options override keys of it.
        folder (Path): Of the new config.
        written (str): Name of the file there, if one is needed.
    """
    is_file = '::' not in config
    # options are in no file, and pure Python is no base of a text
    if changed or (is_file and Config._is_lazy_import(config)):
        cfg.dump(str(folder / written))
        return written
    return osp.relpath(config, folder) if is_file else config
