"""Server-sent events of a chain: what each applied block brought, rendered once for all who listen.

block     height, hash, time_ms, proposer, transactions
trades    slot, trades
slot      slot, what became of it (`round_held`, `cleared`, `settled`) and its summary
testnet   nothing: whoever watches the whole grid has told how it does (`node.api.watched`)

An event's id is its block's height. Nothing is repeated: who was away reads what it missed. Who
does not keep up is let go, and may come again.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Any, Final

import msgspec

from consensus.messages import Block, Certificate
from market import client
from market.app import BlockResult
from market.receipts import Event
from node.web.problems import ProblemError

LISTENERS_MAX: Final = 16
QUEUE_MAX: Final = 64
KEEP_ALIVE_S: Final = 15.0
RETRY_MS: Final = 3_000
CONTENT_TYPE: Final = "text/event-stream"

_HELLO: Final = f"retry: {RETRY_MS}\n\n".encode()
_KEEP_ALIVE: Final = b": still here\n\n"


class Stream:
    """Fans a chain's events out."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[bytes | None]] = set()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._listeners)

    def applied(self, block: Block, certificate: Certificate, result: BlockResult) -> None:
        """Tell all who listen what a block brought."""
        if self._listeners:
            self._send(b"".join(_events(block, certificate, result)))

    def watched(self) -> None:
        """Tell all who listen that the grid was looked at."""
        self._send(b"event: testnet\ndata: {}\n\n")

    def _send(self, data: bytes) -> None:
        for queue in list(self._listeners):
            try:
                queue.put_nowait(data)
            except asyncio.QueueFull:
                self._listeners.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)

    def close(self) -> None:
        """End all streams; idempotent."""
        self._is_closed = True
        for queue in self._listeners:
            while queue.full():
                queue.get_nowait()
            queue.put_nowait(None)
        self._listeners.clear()

    def listen(self) -> AsyncIterator[bytes]:
        """Return what is to be sent to one more listener.

        Raises
        ------
        ProblemError
            There are too many.
        """
        if self._is_closed or len(self._listeners) >= LISTENERS_MAX:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "busy",
                f"at most {LISTENERS_MAX} listen to a chain's events at once",
            )
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_MAX)
        self._listeners.add(queue)
        return self._said(queue)

    async def _said(self, queue: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
        try:
            yield _HELLO
            while True:
                try:
                    # Not `wait_for`: it swallows a cancellation that comes with the event.
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        data = await queue.get()
                except TimeoutError:
                    data = _KEEP_ALIVE
                if data is None:
                    return
                yield data
        finally:
            self._listeners.discard(queue)


def _events(block: Block, certificate: Certificate, result: BlockResult) -> Iterator[bytes]:
    header = block.header
    yield _event(
        "block",
        header.height,
        {
            "height": header.height,
            "hash": certificate.block_hash.hex(),
            "time_ms": header.time_ms,
            "proposer": header.proposer,
            "transactions": len(block.txs),
        },
    )
    said = [event for receipt in result.receipts for event in receipt.events]
    for event in [*said, *result.events]:
        found = _market_event(event)
        if found is not None:
            yield _event(found[0], header.height, found[1])


def _market_event(event: Event) -> tuple[str, dict[str, Any]] | None:
    known = client.decode_event(event)
    if isinstance(known, client.Trades):
        return "trades", msgspec.to_builtins(known)
    if isinstance(known, client.SlotCleared):
        return "slot", _slot("cleared", known.slot, known)
    if isinstance(known, client.SlotSettled):
        return "slot", _slot("settled", known.summary.slot, known.summary)
    if isinstance(known, client.RoundHeld):
        return "slot", _slot("round_held", known.summary.slot, known.summary)
    return None


def _slot(became: str, slot: int, summary: msgspec.Struct) -> dict[str, Any]:
    return {"slot": slot, "became": became, "summary": msgspec.to_builtins(summary)}


def _event(name: str, height: int, data: dict[str, Any]) -> bytes:
    # JSON of msgspec has no line breaks, which would end the event.
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (height, name.encode(), msgspec.json.encode(data))
