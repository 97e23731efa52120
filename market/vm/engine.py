"""What the virtual machine asks of a language engine.

An engine turns a gated program into a module and runs one entry of it. Values cross the border as
JSON text, both ways: one conversion in C at each side, no types beyond the plain ones, and the
same text on every engine. Everything else a contract sees is the host's (`host.py`).
"""

from typing import Any, Protocol, TypeAlias

from market.errors import ContractError, HostFailure
from market.vm.gate import Program

# An engine's own loaded form of a program; only its engine looks inside.
Module: TypeAlias = Any

HOST_FUNCTIONS = (
    "kv_get",
    "kv_get_many",
    "kv_put",
    "kv_put_many",
    "kv_del",
    "kv_scan",
    "kv_keys",
    "emit",
    "revert",
    "env",
    "caller",
    "call",
    "sha256",
    "verify_signature",
)


class HostFace(Protocol):
    """What an engine needs of the host beside the functions named in `HOST_FUNCTIONS`."""

    failure: ContractError | HostFailure | None
    detail: str

    def tick(self) -> bool:
        """Account for a thousand ticks; True ends the run (and `failure` says why)."""


class Engine(Protocol):
    """A contract language's runtime."""

    identity: str

    def load(self, program: Program) -> Module:
        """Compile a program. Raises `Rejected`."""

    def run(self, module: Module, host: HostFace, entry: str, arguments: str) -> str:
        """Run one entry to its end.

        Raises
        ------
        ContractError
            As the host recorded it in `host.failure`, or a `Fault` of the contract's own.
        HostFailure
            The host failed; the node must stop.
        KeyboardInterrupt
            As everywhere: an interruption is nobody's fault.
        """
