"""Who brings far too much, for `bench.flood`: peers of the community that flood its authorities.

    python -m bench.flooder SPEC     (started by bench.flood, as a process of its own)

It connects, prints `ready`, and waits for a line on standard input; then it brings its
transactions, signed beforehand, at a pace that asks for nothing in return, and prints what became
of it as one line of JSON.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import msgspec

from bench.load import ENERGY_WH, ORDERS_PER_SLOT, PRICE_MICRO_PER_KWH, VALID_MS, key_of
from market import client
from node.chain.messages import BATCH_TRANSACTIONS_MAX, TransactionBatch
from node.network.libp2p import Libp2pNetwork
from node.pool.courier import PROTOCOL
from wire.codec import encode
from wire.keys import SigningKey

CONNECT_S = 60.0
TURN_S = 0.05
NICENESS = 5


class Spec(msgspec.Struct, frozen=True):
    """Who floods whom with what.

    `addresses` are the authorities', `psk` is in hexadecimal. `accounts` of the bench's homes from
    `first_account` on sign, `peers` bring; where `renew`, a peer that all have cut comes back
    under another name. `spoilt` transactions have a wrong signature.
    """

    addresses: list[str]
    psk: str
    topic: str
    chain_id: str
    first_account: int
    first_nonce: int
    accounts: int
    first_slot: int
    peers: int
    rate: float
    seconds: float
    gossip: bool = False
    spoilt: bool = False
    renew: bool = False


class Flooded(msgspec.Struct):
    """What became of it. `cut_s`: when each of the authorities first let go of the first peer."""

    brought: int = 0
    seconds: float = 0.0
    cut_s: list[float | None] = msgspec.field(default_factory=list)
    names: int = 0


def batches_of(spec: Spec) -> list[bytes]:
    """Return what is brought, signed and encoded."""
    valid_ms = time.time_ns() // 1_000_000 + VALID_MS
    keys = [key_of(spec.first_account + place) for place in range(spec.accounts)]
    raws = []
    for number in range(int(spec.rate * spec.seconds)):
        turn = number // spec.accounts
        nonce = spec.first_nonce + turn
        slot = spec.first_slot + turn // ORDERS_PER_SLOT
        call = client.post_order(slot, "buy", ENERGY_WH, PRICE_MICRO_PER_KWH)
        key = keys[number % spec.accounts]
        raw = client.sign_call(call, key, spec.chain_id, nonce, valid_ms).raw
        raws.append(raw[:-1] + bytes([raw[-1] ^ 1]) if spec.spoilt else raw)
    return [
        encode(TransactionBatch(begin, raws[begin : begin + BATCH_TRANSACTIONS_MAX]))
        for begin in range(0, len(raws), BATCH_TRANSACTIONS_MAX)
    ]


class Flooder:
    """One peer that brings too much."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self.names = 0
        self.network = self._new()

    def _new(self) -> Libp2pNetwork:
        self.names += 1
        network = Libp2pNetwork(SigningKey.generate(), None, bytes.fromhex(self._spec.psk))
        network.on_gossip(self._spec.topic, lambda _peer, _data: None)
        network.on_send(PROTOCOL, lambda _peer, _data: None)
        for address in self._spec.addresses:
            network.want(address)
        return network

    def has(self) -> set[str]:
        """Return whom it is connected with."""
        return {peer.peer_id for peer in self.network.peers()}

    async def renew(self) -> None:
        """Come back under another name."""
        await self.network.stop()
        self.network = self._new()
        await self.network.start()

    async def bring(self, batch: bytes) -> None:
        """Bring one batch to all authorities."""
        if self._spec.gossip:
            await self.network.publish(self._spec.topic, batch)
            return
        for peer_id in self.has():
            self.network.send(peer_id, PROTOCOL, batch)


async def flood(spec: Spec, batches: list[bytes], flooders: list[Flooder]) -> Flooded:
    """Bring everything."""
    told = Flooded(cut_s=[None] * len(spec.addresses))
    begun, done = time.monotonic(), 0
    wanted = [address.rpartition("/")[2] for address in spec.addresses]
    first = flooders[0].network
    while (passed := time.monotonic() - begun) < spec.seconds:
        due = min(int(passed * spec.rate / BATCH_TRANSACTIONS_MAX) + 1, len(batches))
        for number in range(done, due):
            await flooders[number % len(flooders)].bring(batches[number])
        done = due
        await asyncio.sleep(TURN_S)
        here = {peer.peer_id for peer in first.peers()}
        for place, peer_id in enumerate(wanted):
            if told.cut_s[place] is None and peer_id not in here:
                told.cut_s[place] = round(time.monotonic() - begun, 2)
        if spec.renew:
            for flooder in flooders[1:]:
                if not flooder.has():
                    await flooder.renew()
    told.brought = min(done * BATCH_TRANSACTIONS_MAX, int(spec.rate * spec.seconds))
    told.seconds = time.monotonic() - begun
    told.names = sum(flooder.names for flooder in flooders)
    return told


async def run(spec: Spec) -> Flooded:
    """Connect, wait for the word, flood."""
    batches = batches_of(spec)
    flooders = [Flooder(spec) for _ in range(spec.peers)]
    try:
        for flooder in flooders:
            await flooder.network.start()
        async with asyncio.timeout(CONNECT_S):
            # Peers come and go without an event of ours.
            while any(len(flooder.has()) < len(spec.addresses) for flooder in flooders):  # noqa: ASYNC110
                await asyncio.sleep(TURN_S)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        return await flood(spec, batches, flooders)
    finally:
        await asyncio.gather(*(flooder.network.stop() for flooder in flooders))


def main() -> None:
    spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Spec)
    os.nice(NICENESS)
    print(msgspec.json.encode(asyncio.run(run(spec))).decode(), flush=True)


if __name__ == "__main__":
    main()
