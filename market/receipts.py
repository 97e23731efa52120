"""How transactions ended, and what contracts said meanwhile."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from market.errors import ContractError
from market.vm.executor import Outcome
from market.vm.host import Event as HostEvent
from wire.codec import Message


class Event(Message, frozen=True, tag="event"):
    """Something a contract says happened."""

    contract: str
    name: str
    data: dict[str, Any]


class Receipt(Message, frozen=True, tag="receipt"):
    """How a transaction ended.

    `code` is ok, revert, out_of_gas, fault or rejected; `reason` a stable code of the refusal
    (such as `no_margin`), `message` its sentence; both empty if ok.
    """

    tx_id: bytes
    code: str
    reason: str
    message: str
    gas: int
    events: tuple[Event, ...]


# In place of a transaction's id, in the receipt of what no transaction said.
BLOCK_ID: Final = bytes(32)


def rooted(receipts: Sequence[Receipt], events: Sequence[Event]) -> tuple[Receipt, ...]:
    """Return the receipts of a block's transactions, and one of its own if it said something."""
    if not events:
        return tuple(receipts)
    return (*receipts, Receipt(BLOCK_ID, "ok", "", "", 0, tuple(events)))


def events_of(events: Iterable[HostEvent]) -> list[Event]:
    """Return events as a receipt keeps them."""
    return [Event(event.contract, event.name, event.data) for event in events]


def receipt_of(tx_id: bytes, outcome: Outcome) -> Receipt:
    """Return the receipt of a call that ended so."""
    error: ContractError | None = outcome.error
    if error is None:
        return Receipt(tx_id, "ok", "", "", outcome.gas, tuple(events_of(outcome.events)))
    return Receipt(tx_id, error.kind, error.reason, error.message, outcome.gas, ())
