"""The second engine, for differential tests only: the same gated text under CPython.

It has no metering of ticks and would run an endless loop for ever; host calls are metered as on
the first engine.
"""

import sys
from typing import Any

import msgspec

from market.errors import ContractError, Fault, HostFailure
from market.vm.engine import HOST_FUNCTIONS, HostFace
from market.vm.gate import Program

_TYPES = {int: "int", str: "string", list: "list", tuple: "tuple", dict: "dict", bool: "bool"}


class _ContractBug(Exception):
    """What `fail()` raises."""


class _Json:
    decode = staticmethod(msgspec.json.decode)

    @staticmethod
    def encode(value: object) -> str:
        return msgspec.json.encode(value).decode()


def _fail(message: str) -> None:
    raise _ContractBug(message)


class CPythonEngine:
    identity = f"cpython {sys.version_info.major}.{sys.version_info.minor}"

    def __init__(self) -> None:
        self._host: Any = None

    def load(self, program: Program) -> Any:
        names: dict[str, Any] = {
            "type": lambda value: _TYPES.get(type(value), "NoneType"),
            "fail": _fail,
            "json": _Json,
        }
        for name in HOST_FUNCTIONS:
            names[f"_{name}"] = self._bound(name)
        exec(compile(program.text, program.name, "exec"), names)
        return names

    def run(self, module: Any, host: HostFace, entry: str, arguments: str) -> str:
        outer, self._host = self._host, host
        try:
            return str(module[f"{entry}__entry"](arguments))
        except (ContractError, HostFailure):
            raise
        except Exception as error:
            if host.failure is not None:
                raise host.failure from error
            host.detail = repr(error)
            host.failure = Fault("contract_fault", "the contract has a bug and was stopped")
            raise host.failure from error
        finally:
            self._host = outer

    def _bound(self, name: str) -> Any:
        return lambda *args: getattr(self._host, name)(*args)
