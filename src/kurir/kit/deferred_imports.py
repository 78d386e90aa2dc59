"""Defers imports of libraries that other libraries import and this program hardly ever uses.

Within `deferred("requests")` an `import requests` or `from requests import get` is cheap: the module is executed when
one of its names is first called or looked into, at any later time. So it is for modules of which others use functions,
classes and submodules: a constant taken by `from … import` would stay a placeholder. What Kurir's own modules import is
imported within the function that needs it instead.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import Any

_loading = RLock()


@contextmanager
def deferred(*names: str) -> Generator[None]:
    """Defers imports of these modules within the block, but not of submodules that are not named.

    Who imports them after the block gets the real ones.
    """
    finder = _Finder(frozenset(names))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in names:
            if isinstance(sys.modules.get(name), _DeferredModule):
                del sys.modules[name]


class _Finder(MetaPathFinder):
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._names:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _DeferringLoader(spec.loader)
        return spec


class _DeferringLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = _DeferredModule


class _DeferredModule(ModuleType):
    """A module that was not executed; it becomes an ordinary one when it is within the block."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system looks for __path__
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} yet")
        return _Later(self, name)


class _Later:
    """Stands for a function, class or submodule of a deferred module."""

    __slots__ = ("_module", "_name")

    def __init__(self, module: ModuleType, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return _found(self._module, self._name)(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(_found(self._module, self._name), name)


def _found(module: ModuleType, name: str) -> Any:
    with _loading:
        if isinstance(module, _DeferredModule) and sys.modules.get(module.__name__) is module:
            _execute(module)
    return getattr(__import__(module.__name__, fromlist=(name,)), name)  # it may be a submodule


def _execute(module: ModuleType) -> None:
    spec = module.__spec__
    assert spec is not None
    assert isinstance(spec.loader, _DeferringLoader)
    deferring = spec.loader
    module.__class__ = ModuleType
    spec.loader = module.__loader__ = deferring.loader
    try:
        deferring.loader.exec_module(module)
    except BaseException:
        module.__class__, spec.loader = _DeferredModule, deferring
        raise
