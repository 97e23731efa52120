"""Orders for the throughput bench: who posts them, signed beforehand, and handed in at a pace.

    python -m bench.load SPEC     (started by bench.throughput, as a process of its own)

It signs, prints `ready`, and waits for a line on standard input; then it hands the orders in
through the nodes' control sockets and prints what became of them as one line of JSON.
"""

import asyncio
import collections
import os
import sys
import time
from pathlib import Path

import msgspec

from market import client
from node.api.control import QUESTION_BYTES_MAX, ask
from wire.keys import SigningKey

ORDERS_PER_SLOT = 4
ENERGY_WH = 10
PRICE_MICRO_PER_KWH = 150_000
VALID_MS = 3_600_000
TURN_S = 0.1
# A question is hexadecimal text in quotes, with a little around it.
QUESTION_SPARE_BYTES = 1_024
NICENESS = 5


class Spec(msgspec.Struct, frozen=True):
    """What to post.

    With a `rate` [orders/s over all nodes] orders come evenly in time; without, as many as keep
    `backlog` orders waiting. Home i posts through node i mod n only, so that its nonces, which
    begin at `first_nonce`, arrive in order.
    """

    data: list[str]
    chain_id: str
    homes: int
    orders: int
    first_nonce: int
    first_slot: int
    seconds: float
    rate: float
    backlog: int


class Posted(msgspec.Struct):
    """What became of the orders."""

    accepted: int = 0
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    ran_out: bool = False
    seconds: float = 0.0
    late_s: float = 0.0


async def ready_poster(spec: Spec, file: Path) -> asyncio.subprocess.Process:
    """Start a process that posts, and wait until it has signed everything.

    A line on its standard input lets it begin; `file` is where it is told what to post.
    """
    await asyncio.to_thread(file.write_bytes, msgspec.json.encode(spec))
    poster = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.load", str(file)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if poster.stdout is None or poster.stdin is None:
        raise RuntimeError("the poster has no pipes")
    await poster.stdout.readline()
    return poster


def begin(poster: asyncio.subprocess.Process) -> None:
    """Let a ready poster begin."""
    if poster.stdin is not None:
        poster.stdin.write(b"go\n")


def key_of(home: int) -> SigningKey:
    """Return the key of a home that posts."""
    return SigningKey(b"bench/home/" + home.to_bytes(21, "big"))


def signed_orders(spec: Spec) -> list[collections.deque[str]]:
    """Return the orders of each node, hexadecimal, in the order in which they are posted."""
    nodes = len(spec.data)
    keys = [key_of(home) for home in range(spec.homes)]
    valid_ms = time.time_ns() // 1_000_000 + VALID_MS
    queues: list[collections.deque[str]] = [collections.deque() for _ in range(nodes)]
    for number in range(spec.orders):
        home, turn = number % spec.homes, number // spec.homes
        nonce = spec.first_nonce + turn
        side = "sell" if home % 2 else "buy"
        slot = spec.first_slot + nonce // ORDERS_PER_SLOT
        call = client.post_order(slot, side, ENERGY_WH, PRICE_MICRO_PER_KWH + home % 1_000)
        checked = client.sign_call(call, keys[home], spec.chain_id, nonce, valid_ms)
        queues[home % nodes].append(checked.raw.hex())
    return queues


class Poster:
    """Posts the orders of one node."""

    def __init__(self, spec: Spec, node: int, queue: collections.deque[str], posted: Posted):
        self._spec = spec
        self._data = Path(spec.data[node])
        self._queue = queue
        self._posted = posted
        self._pending = 0

    async def run(self, begun: float) -> None:
        """Post until the time is over."""
        spec, share = self._spec, len(self._spec.data)
        sent = 0
        while (passed := time.monotonic() - begun) < spec.seconds:
            if spec.rate:
                wanted = int(passed * spec.rate / share) - sent
            else:
                wanted = (spec.backlog - self._pending) // share
            if wanted > 0:
                sent += await self._post(wanted)
            elif not spec.rate:
                self._pending = await self._ask_pending()
            behind = time.monotonic() - begun - passed - TURN_S
            self._posted.late_s = max(self._posted.late_s, behind)
            await asyncio.sleep(max(0.0, -behind))

    async def _ask_pending(self) -> int:
        return int((await ask(self._data, "status", timeout_s=60))["mempool"])

    async def _post(self, wanted: int) -> int:
        sent = 0
        while sent < wanted and self._queue:
            batch: list[str] = []
            size = QUESTION_SPARE_BYTES
            while self._queue and len(batch) < wanted - sent:
                size += len(self._queue[0]) + 3
                if size > QUESTION_BYTES_MAX:
                    break
                batch.append(self._queue.popleft())
            answer = await ask(self._data, "submit_many", timeout_s=60, transactions=batch)
            sent += len(batch)
            self._posted.accepted += answer["accepted"]
            for _, code, _ in answer["refused"]:
                self._posted.refused[code] = self._posted.refused.get(code, 0) + 1
            self._pending = answer["pending"]
        self._posted.ran_out |= not self._queue
        return sent


async def post(spec: Spec, queues: list[collections.deque[str]]) -> Posted:
    """Post everything."""
    posted = Posted()
    begun = time.monotonic()
    await asyncio.gather(
        *(Poster(spec, node, queue, posted).run(begun) for node, queue in enumerate(queues))
    )
    posted.seconds = time.monotonic() - begun
    return posted


def main() -> None:
    spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Spec)
    queues = signed_orders(spec)
    os.nice(NICENESS)
    print("ready", flush=True)
    sys.stdin.readline()
    print(msgspec.json.encode(asyncio.run(post(spec, queues))).decode(), flush=True)


if __name__ == "__main__":
    main()
