"""libp2p, loaded without what no home ever calls.

Its package imports all that it can do: to find peers by mDNS (zeroconf), to ask an authority of the
web for certificates and to ask for its own issues (requests, httpx). Nothing of that is switched on
here, and together it is some 15 MiB of each home's memory. While libp2p is loaded these libraries
are therefore absent: their names are there, and whoever calls one is told so. Afterwards they can
be imported as ever. What was imported before stays what it is.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

SPARED: Final = ("zeroconf", "requests", "httpx")


class _Absent(ModuleType):
    """A module whose names are classes that cannot be called."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        said = f"{self.__name__}.{name} is not loaded in a home (node/network/_spared.py)"

        def refuse(*_: object, **__: object) -> None:
            raise ImportError(said)

        absent = type(name, (), {"__new__": refuse})
        setattr(self, name, absent)
        return absent


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = name.partition(".")[0] in SPARED
        return ModuleSpec(name, self, is_package=True) if found else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Absent(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to execute."""


@contextmanager
def spared() -> Iterator[None]:
    """Let imports of `SPARED` find absent modules, which are forgotten at the end."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name, module in list(sys.modules.items()):
            if isinstance(module, _Absent):
                del sys.modules[name]


with spared():
    import libp2p  # noqa: F401 - loaded here, by whatever name it is asked for later
