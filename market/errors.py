"""The errors of `market/`.

MarketError
├── ParamsError        genesis parameters that cannot be meant; says which, and what would be right
├── QueryError         a read-only question that was refused, with its stable code
├── StateError         stored state that is not this chain's, or damaged
│   └── RootMismatch       ... or not the state that its block certifies
├── ContractError      how a contract call ends when it does not end well; recorded in its receipt
│   ├── Revert             the contract said no, with a code of its own
│   ├── OutOfGas           it used up its compute or its storage
│   ├── Fault              a bug in the contract: a type error, an index, an overflow
│   └── Rejected           never ran: refused by the deploy gate or before execution
├── HostFailure        this node failed (memory, our own bug): it stops, no transaction is blamed
└── InvariantError     a law of the market is broken: the node stops before it votes
"""

from typing import ClassVar


class MarketError(Exception):
    """Something in the market is not as it must be."""


class ParamsError(MarketError):
    """A parameter of the market's genesis is missing, unknown or out of range."""


class QueryError(MarketError):
    """A query that was refused: unknown contract or entry, bad arguments, or the contract's no."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class StateError(MarketError):
    """State that was loaded is damaged, or belongs to another genesis, engine or cost table."""


class RootMismatch(StateError):
    """State that was loaded does not have the state root that is certified."""


class ContractError(MarketError):
    """A contract call that did not end well.

    `kind` is the receipt's code, `reason` a stable code, `message` a sentence for people. Neither
    is ever taken from an engine's own text: two engine versions may word the same fault otherwise.
    """

    kind: ClassVar[str]

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class Revert(ContractError):
    """The contract refused; its writes are dropped and its reason is kept."""

    kind = "revert"


class OutOfGas(ContractError):
    """The call used up its compute or its storage."""

    kind = "out_of_gas"


class Fault(ContractError):
    """The contract has a bug, or handed the host something that is no plain value."""

    kind = "fault"


class Rejected(ContractError):
    """Refused before it ran."""

    kind = "rejected"


class HostFailure(MarketError):
    """The host itself failed while a contract ran. It must stop the node."""


class WitnessRefused(MarketError):
    """What should show part of a state is malformed, or of another state."""


class WitnessGap(HostFailure):
    """An execution over part of a state asked for what is not shown. Nothing may be concluded."""


class TooHeavy(HostFailure):
    """An execution that has a budget would go beyond it. Nothing may be concluded."""


class InvariantError(MarketError):
    """A conservation law of the market does not hold after a block."""
