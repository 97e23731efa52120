"""Contracts on starlark-rust, by starlark-pyo3 (docs/adr/0002).

The engine calls back every thousand ticks, at the same point on every machine, and holds the
interpreter's lock in between. A host function's exception comes back as a bare `StarlarkError`;
its cause is taken from the host, never from the error's text. One cause the host cannot see: Ctrl-C
while a value crosses the border (`_is_interruption`).
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from importlib import metadata
from typing import Any, Final

import starlark

from market.errors import Fault, HostFailure, Rejected
from market.vm.engine import HOST_FUNCTIONS, HostFace, Module
from market.vm.gas import CALLSTACK_MAX, TICKS_PER_CALLBACK
from market.vm.gate import Program

_LOAD_TICKS_MAX: Final = 100_000
# Of all chains in this process together.
MODULES_MAX: Final = 128


# How the engine begins to say so. It shows a contract's text indented and what a contract fails
# with behind "fail: ", so no contract can say this.
_INTERRUPTED: Final = "error: KeyboardInterrupt:"


def _is_interruption(error: Exception) -> bool:
    """Tell whether it was raised in the conversion of a value: then it is no fault of the contract.

    Python interrupts its main thread only; a node executes blocks in another.
    """
    if not isinstance(error, starlark.StarlarkError):
        return False
    said = (line for line in str(error).split("\n") if line.startswith("error:"))
    return next(said, "").startswith(_INTERRUPTED)


class StarlarkEngine:
    """The engine nodes run."""

    def __init__(self) -> None:
        self.identity = f"starlark-pyo3 {metadata.version('starlark-pyo3')}"
        self._globals = starlark.Globals.extended_by([starlark.LibraryExtension.Json])
        # Queries run beside a block's execution, in another thread, on the same modules.
        self._local = threading.local()
        # Loaded, a chain's contracts take some 15 MiB, and one process may keep several chains that
        # begin with the same. By name and text, the oldest forgotten first.
        self._modules: OrderedDict[tuple[str, str], Module] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, program: Program) -> Module:
        """Compile `program` under a watchdog, once: constants are folded at load."""
        key = program.name, program.text
        with self._lock:
            found = self._modules.get(key)
            if found is None:
                found = self._modules[key] = self._compile(program)
            self._modules.move_to_end(key)
            while len(self._modules) > MODULES_MAX:
                self._modules.popitem(last=False)
        return found

    def _compile(self, program: Program) -> Module:
        module = starlark.Module()
        for name in HOST_FUNCTIONS:
            module.add_callable(f"_{name}", self._bound(name))
        ticks = 0

        def watch() -> bool:
            nonlocal ticks
            ticks += TICKS_PER_CALLBACK
            return ticks > _LOAD_TICKS_MAX

        options = starlark.EvalOptions(check_cancelled=watch, max_callstack_size=CALLSTACK_MAX)
        try:
            parsed = starlark.parse(program.name, program.text, starlark.Dialect.standard())
            starlark.eval_with(options, module, parsed, self._globals)
        except starlark.StarlarkError as error:
            raise Rejected("load", f"{program.name} does not load") from error
        return module.freeze()

    def run(self, module: Module, host: HostFace, entry: str, arguments: str) -> str:
        """Run one entry; see `Engine.run`."""
        local = self._local
        outer = getattr(local, "host", None)
        local.host = host
        options = starlark.EvalOptions(check_cancelled=host.tick, max_callstack_size=CALLSTACK_MAX)
        try:
            return str(module.call_with(options, f"{entry}__entry", arguments).value)
        except Exception as error:
            if host.failure is not None:
                cause = host.failure.__cause__
                if cause is not None and not isinstance(cause, Exception):
                    raise cause from None
                raise host.failure from error
            if _is_interruption(error):
                raise KeyboardInterrupt from error
            if isinstance(error, starlark.StarlarkError):
                host.detail = str(error)
                host.failure = Fault("contract_fault", "the contract has a bug and was stopped")
                raise host.failure from error
            raise HostFailure(f"the engine failed in {entry}") from error
        finally:
            local.host = outer

    def _bound(self, name: str) -> Callable[..., Any]:
        local = self._local

        def function(*args: Any) -> Any:
            return getattr(local.host, name)(*args)

        return function


@cache
def shared_engine() -> StarlarkEngine:
    """Return the engine that all chains of this process share, and so what it has loaded."""
    return StarlarkEngine()
