"""A config that is stored in a checkpoint is data, and stays data.

mmengine runs its text as Python: when a run is resumed (``meta.config``) and
when an inferencer gets a checkpoint without a config
(``message_hub.runtime_info.cfg``, ``meta.cfg``). What mmengine itself writes
there assigns plain values and is left as it is; anything else is taken out.
"""
import ast
import importlib.util
import re
import sys
from typing import Any, Iterator

from mmengine import registry
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry
from mmengine.utils import get_object_from_string
from torch.nn import Module
from torch.optim import Optimizer

# where mmengine keeps it
PLACES = (('meta', 'config'), ('meta', 'cfg'), ('message_hub', 'runtime_info',
                                                'cfg'))


class _DictCalls(ast.NodeTransformer):
    """Write ``dict(a=1)`` and ``dict({'a-b': 1})`` without the call."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        args = [self.visit(arg) for arg in node.args]
        names = [keyword.arg for keyword in node.keywords]
        values = [self.visit(keyword.value) for keyword in node.keywords]
        is_dict = isinstance(node.func, ast.Name) and node.func.id == 'dict'
        if not is_dict or None in names:
            return node
        if not args:
            return ast.Dict([ast.Constant(name) for name in names], values)
        is_mapping = isinstance(args[0], ast.Dict) and len(args) == 1
        return args[0] if is_mapping and not names else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        # so does mmengine write these floats
        if node.id in ('inf', 'nan'):
            return ast.Constant(float(node.id))
        return node


def _parse(text: str) -> dict[str, Any]:
    """Read a config without running it.

    Raises:
        ValueError: If it does more than assign plain values.
    """
    if '{{' in text:
        # mmengine replaces such places in the text before it runs it
        raise ValueError('it contains "{{"')
    try:
        # with the line breaks that a file would have
        statements = ast.parse(re.sub('\r\n?', '\n', text)).body
    except SyntaxError:
        # as of a Runner that was given objects; nobody can run it
        return {}
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f'it cannot be parsed: {error}') from None
    values = {}
    for statement in statements:
        where = f'line {statement.lineno} of it'
        if not (isinstance(statement, ast.Assign) and len(statement.targets)
                == 1 and isinstance(statement.targets[0], ast.Name)):
            raise ValueError(f'{where} is not an assignment')
        name = statement.targets[0].id
        if name == '_base_':
            raise ValueError(f'{where} names another file')
        try:
            tree = _DictCalls().visit(statement.value)
            values[name] = ast.literal_eval(tree)
        except (ValueError, TypeError, SyntaxError, RecursionError,
                MemoryError):
            raise ValueError(
                f'{where}: the value of {name} is not plain') from None
    return values


def _dicts(value: Any) -> Iterator[dict]:
    """All dicts inside of a value, itself included."""
    if isinstance(value, dict):
        yield value
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for item in value:
        yield from _dicts(item)


def _registries() -> list[Registry]:
    found = [r for r in vars(registry).values() if isinstance(r, Registry)]
    for one in found:
        found.extend(one.children.values())
    return found


def _check_scope(scope: str) -> None:
    # mmengine imports the package that a scope names
    known = {one.scope for one in _registries()}
    if scope not in known.union(MODULE2PACKAGE, ('mmengine', 'mmcv')):
        raise ValueError(f'it names {scope}, which has no registry here; if '
                         'it is yours, import it before')


def _check_type(name: str) -> None:
    """Refuse a ``type`` that isn't one of something registered.

    What a registry doesn't have, mmengine imports by its path and calls with
    the arguments beside it: ``type='os.system'``.
    """
    root, *rest = name.split('.')
    if not rest:
        if name and importlib.util.find_spec(name) is not None:
            raise ValueError(f'its type {name!r} is a module')
        return
    if not name.startswith(('torch.nn.', 'torch.optim.')):
        _check_scope(root)
    # `mmdet.FasterRCNN` is registered there or nowhere
    if len(rest) == 1 and re.match('[A-Z]', rest[0]):
        return
    try:
        # as configs in pure Python are stored
        found = get_object_from_string(name)
    except Exception:
        found = None
    if isinstance(found, type) and issubclass(found, (Module, Optimizer)):
        return
    registered = [one.module_dict.get(rest[-1]) for one in _registries()]
    if found is None or not any(one is found for one in registered):
        raise ValueError(f'its type {name!r} is not registered')


def check_stored_config(text: Any) -> None:
    """Refuse a config that is more than plain data.

    Args:
        text (str): The config, as mmengine writes it.

    Raises:
        ValueError: If it isn't text, does more than assign plain values, or
            names something to import or to call that no registry has.
    """
    if not isinstance(text, str):
        raise ValueError(f'it is a {type(text).__name__}, not text')
    values = _parse(text)
    for cfg in _dicts(values):
        for key in ('_scope_', 'default_scope'):
            if isinstance(cfg.get(key), str):
                _check_scope(cfg[key])
        for key in ('type', 'runner_type'):
            if isinstance(cfg.get(key), str):
                _check_type(cfg[key])
    imports = values.get('custom_imports')
    names = imports.get('imports') if isinstance(imports, dict) else None
    for name in [names] if isinstance(names, str) else names or ():
        if name not in sys.modules:
            _check_scope(str(name).split('.')[0])


def drop_unsafe_configs(checkpoint: Any) -> dict[str, str]:
    """Take configs that aren't plain data out of a loaded checkpoint.

    Args:
        checkpoint (Any): Is changed in place.

    Returns:
        dict[str, str]: Where one was -> why it isn't any more.
    """
    dropped = {}
    for *path, key in PLACES:
        place = checkpoint
        for name in path:
            place = place.get(name) if isinstance(place, dict) else None
        if not isinstance(place, dict) or key not in place:
            continue
        try:
            check_stored_config(place[key])
        except ValueError as error:
            del place[key]
            dropped['.'.join((*path, key))] = str(error)
    return dropped
