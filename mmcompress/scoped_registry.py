"""Registries that import what is asked for, and nothing else.

Which module registers a name is read off the sources, without importing any:
a line ``@MODELS.register_module()`` in front of a class or function, or a
call ``MODELS.register_module(module=...)``, with names as they are written.
"""
import difflib
import logging
import re
import sys
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Iterator

from mmengine.logging import print_log
from mmengine.registry import DefaultScope, Registry

from .lazy_imports import LibraryError, import_part

SCOPE = 'mmcompress'
# repairs torchvision, which several libraries import, restricts what files
# may contain; and lets checkpoints be called `cache://name`
_ALWAYS = ('mmcompress.compat', 'mmcompress.hooks.cache_teacher')
# MODELS, its arguments, and the class: in front of it, or of a call
_REGISTRATIONS = (
    re.compile(
        r'^@(\w+)\.register_module\(([^)]*)\)\s*\n'
        r'(?=(?:@.*\n)*(?:class|def) (\w+))', re.M),
    re.compile(r'^(\w+)\.register_module\(([^)]*\bmodule=(\w+)[^)]*)\)', re.M),
)


@lru_cache(maxsize=None)
def registrations() -> dict[str, dict[str, str]]:
    """Which module of ours registers what: registry -> name -> module."""
    found: dict[str, dict[str, str]] = {}
    root = Path(__file__).parent
    for file in sorted(root.rglob('*.py')):
        parts = file.relative_to(root).with_suffix('').parts
        if parts[0] == '.mim':
            # in a wheel, configs and tools
            continue
        module = '.'.join((SCOPE, *parts)).removesuffix('.__init__')
        text = file.read_text(encoding='utf-8')
        for registry, arguments, own in (line for form in _REGISTRATIONS
                                         for line in form.findall(text)):
            # name='x' or name=['x', 'y']
            names = re.findall(r'[\'"](\w+)[\'"]', arguments) or [own]
            found.setdefault(registry, {}).update(dict.fromkeys(names, module))
    return found


def enclosing_scope() -> str | None:
    """The default scope, or what it was before it became ours."""
    for instance in reversed(DefaultScope._instance_dict.values()):
        if instance.scope_name != SCOPE:
            return instance.scope_name
    return None


class ScopedRegistry(Registry):
    """A registry of the scope ``mmcompress``, filled by look-ups.

    Args:
        variable (str): Its name in ``@MODELS.register_module()``.
        name (str): As of mmengine's registries.
        parent (Registry | None): mmengine's registry.
    """

    def __init__(self,
                 variable: str,
                 name: str,
                 parent: Registry | None = None) -> None:
        super().__init__(name, parent=parent, scope=SCOPE)
        self.variable = variable
        self._of_bases = _RegistryOfBases(self)

    @property
    def homes(self) -> dict[str, str]:
        """The module of each name of ours."""
        return registrations().get(self.variable, {})

    def import_home(self, name: str) -> None:
        """Import the module that registers a name, if there is one.

        Args:
            name (str): Without prefix, or the full name without it, such as
                ``'distill.losses.FGDLoss'``.

        Raises:
            LibraryError: If a library that the module needs fails.
        """
        package, _, name = f'{SCOPE}.{name}'.rpartition('.')
        home = self.homes.get(name, '')
        if f'{home}.'.startswith(f'{package}.') and (name
                                                     not in self._module_dict):
            for module in _ALWAYS:
                import_module(module)
            import_part(f'{SCOPE}.{name}', home)

    def import_from_location(self) -> None:
        """Nothing: a look-up imports what it needs."""

    @property
    def module_dict(self) -> dict[str, type]:
        """Everything that can be imported; what can't is logged."""
        for name in self.homes:
            try:
                self.import_home(name)
            except LibraryError as error:
                print_log(f'Left out: {error}', 'current', logging.WARNING)
        return self._module_dict

    def __len__(self) -> int:
        return len(self.module_dict)

    def __repr__(self) -> str:
        self.module_dict
        return super().__repr__()

    def __contains__(self, key: str) -> bool:
        scope, name = self.split_scope_key(key)
        if scope in (None, SCOPE) and name in self.homes:
            return True
        try:
            return self.get(key) is not None
        except KeyError:
            return False

    def get(self, key: str) -> type | None:
        """What a name stands for: ours first.

        Args:
            key (str): A name of ours, with or without ``mmcompress.``; of
                mmengine's; with its prefix, of another library; or the full
                name of any class.

        Raises:
            KeyError: If no one knows it; names the closest.
            LibraryError: If a library that it needs fails.
        """
        scope, name = self.split_scope_key(key)
        self.import_home(name if scope in (None, SCOPE) else key)
        found = super().get(key)
        if found is None and scope is None:
            found = self._of_library(key)
        if found is None and scope in (None, SCOPE) and '.' not in name:
            raise KeyError(self._unknown(name))
        return found

    def _of_library(self, name: str) -> type | None:
        """What a name stands for in the scope around ours, if that is on."""
        current = DefaultScope.get_current_instance()
        scope = enclosing_scope()
        if self.parent is None or scope is None or (current.scope_name
                                                    != SCOPE):
            return None
        with self.root.switch_scope_and_registry(scope) as library:
            if f'{scope}.registry' in sys.modules:
                add_to_roots(f'{scope}.registry')
            return library.get(name)

    def _unknown(self, name: str) -> str:
        known = {*self.homes, *self._module_dict}
        close = difflib.get_close_matches(name, sorted(known), 3, 0.5)
        return (f'mmcompress has no {self.name} {name!r}; closest: '
                f'{", ".join(close or sorted(known)) or "it has none"}')

    def _register_module(self,
                         module: type,
                         module_name: str | list[str] | None = None,
                         force: bool = False) -> None:
        names = module_name or module.__name__
        for name in [names] if isinstance(names, str) else names:
            # somebody else's class meets ours now, not when ours is imported
            home = self.homes.get(name)
            if home and home != getattr(module, '__module__', None):
                with suppress(LibraryError):
                    self.import_home(name)
        super()._register_module(module, module_name, force)

    def _search_child(self, scope: str) -> Registry | None:
        """What mmengine takes when the default scope is ``scope``."""
        found = super()._search_child(scope)
        return self._of_bases if found is self else found

    @contextmanager
    def switch_scope_and_registry(self,
                                  scope: str | None) -> Iterator[Registry]:
        """As of mmengine; called on ours, our names come first."""
        if self.parent is None:
            # of no library's tree
            with DefaultScope.overwrite_default_scope(scope):
                yield self
            return
        with super().switch_scope_and_registry(scope) as registry:
            yield self if registry is self._of_bases else registry


class _RegistryOfBases(Registry):
    """What names mean in a config that was inherited as ``mmcompress::...``.

    mmengine writes ``_scope_='mmcompress'`` into everything of such a base,
    and so makes ours the default scope wherever it builds that. The config
    means by a name without a prefix what it means without being inherited:
    something of the library whose scope was the default before. Only what the
    library doesn't know is looked for here.
    """

    def __init__(self, ours: 'ScopedRegistry') -> None:
        super().__init__(ours.name, ours.build_func, scope=SCOPE)
        self.parent = ours.parent
        self.ours = ours

    @property
    def scope(self) -> str:
        """For messages: where names are looked up first."""
        return enclosing_scope() or SCOPE

    def get(self, key: str) -> type | None:
        """What a name stands for: the library's first."""
        if self.split_scope_key(key)[0] is None:
            found = self.ours._of_library(key)
            if found is not None or key not in self.ours:
                return found
        return self.ours.get(key)


def add_to_roots(registries: str) -> None:
    """Give each root registry of a module a child of our scope.

    Args:
        registries (str): The module, such as ``'mmpose.registry'``.
    """
    # the children that others import by name come first
    import_module(f'{SCOPE}.registry')
    for variable, registry in vars(import_module(registries)).items():
        if isinstance(registry, Registry) and registry.scope != SCOPE:
            root = registry.root
            if SCOPE not in root.children:
                ScopedRegistry(variable, root.name, root)
