"""`commonwatt load`: many made-up homes trade on a street that runs, and it is told how they fared.

The street's regulator registers the homes and gives them money, once: their keys follow from its
own, so that a later run finds them again. Then they post orders at an even pace, or all at the last
moment before each gate closes; each home's meter says after every slot that nothing flowed. Their
bids are below what the grid pays, so that they find no seller and nobody is in their debt.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from market import client
from market.client import Call
from market.genesis import MarketParams
from node.api.control import ask, lots_of
from node.errors import ControlError, StartError
from node.genesis import read_genesis
from node.setup import DATA_NAME, GENESIS_NAME, read_key
from node.status import summary_ms
from testnet.street import REGULATOR_NAME, Street, open_street
from wire.keys import SigningKey
from wire.transaction import CheckedTransaction

HOMES_MAX: Final = 4_000
SECONDS_MAX: Final = 86_400.0
RATE_MAX: Final = 5_000.0
ORDERS_MAX: Final = 200_000
TURN_S: Final = 0.25
POLL_S: Final = 0.5
ASK_TIMEOUT_S: Final = 30.0
VALID_MS: Final = 60_000
# A burst begins so long before the gate closes. [real ms]
BURST_MS: Final = 2_500
# The regulator may have 64 transactions waiting: so many homes at a time.
REGISTERED_AT_ONCE: Final = 24
REGISTER_PATIENCE_S: Final = 120.0
SETTLE_PATIENCE_S: Final = 60.0
BALANCE_MICRO: Final = 1_000_000
ENERGY_WH: Final = 10
PRICE_MICRO_PER_KWH: Final = 20_000
CAP_W: Final = 1_000
ORDERS_PER_SLOT: Final = 6


class LoadError(StartError):
    """The load cannot be put on the street."""


class LoadPlan(NamedTuple):
    """What was asked for. `rate` [orders/s], or a burst of one order per home at each gate."""

    homes: int
    rate: float
    seconds: float
    bursts: bool

    def check(self) -> None:
        """Raise `LoadError` for what cannot be."""
        if not 1 <= self.homes <= HOMES_MAX:
            raise LoadError(f"--homes {self.homes}: 1 to {HOMES_MAX}")
        if not 0 < self.seconds <= SECONDS_MAX:
            raise LoadError(f"--seconds {self.seconds:g}: up to {SECONDS_MAX:g}")
        if not self.bursts and not 0 < self.rate <= RATE_MAX:
            raise LoadError(f"--rate {self.rate:g}: up to {RATE_MAX:g} orders per second")
        if not self.bursts and self.rate * self.seconds > ORDERS_MAX:
            raise LoadError(f"more than {ORDERS_MAX} orders: a lower --rate or fewer --seconds")


class Load:
    """The made-up homes of a street, and what became of what they said."""

    def __init__(self, street: Street, plan: LoadPlan) -> None:
        plan.check()
        self._plan = plan
        self._data = [street.home(name) / DATA_NAME for name in street.names]
        self._regulator = read_key(street.directory / REGULATOR_NAME)
        self._params: MarketParams = read_genesis(
            street.home(street.names[0]) / GENESIS_NAME
        ).market
        self._keys = [self._regulator.derive(f"load/{place}") for place in range(plan.homes)]
        self._clock = self._params.clock()
        self._nonces: Counter[str] = Counter()
        self._posted: Counter[tuple[int, int]] = Counter()
        self._sent: dict[str, Path] = {}
        self.registered = 0
        self.accepted = 0
        self.readings = 0
        self.refused: Counter[str] = Counter()

    # -- before

    async def register(self) -> None:
        """Register the homes that are not yet, and wait until all are.

        Raises
        ------
        LoadError
            It takes too long: no blocks come, or the registry is full.
        """
        known = {item["home"]["address"] for item in await self._ask(self._data[0], "homes")}
        missing = [place for place, key in enumerate(self._keys) if key.address not in known]
        for begin in range(0, len(missing), REGISTERED_AT_ONCE):
            some = missing[begin : begin + REGISTERED_AT_ONCE]
            calls = [call for place in some for call in self._arrival(place)]
            ids = await self._hand_in(0, [self._sign(call, self._regulator) for call in calls])
            await self._until_decided(ids)
        self.registered = len(missing)

    def _arrival(self, place: int) -> list[Call]:
        key = self._keys[place]
        return [
            client.register_home(
                key.address,
                key.derive("meter").address,
                f"load-{place:04d}",
                "consumer",
                CAP_W,
                0,
            ),
            client.mint(key.address, BALANCE_MICRO),
        ]

    async def _until_decided(self, ids: Sequence[str]) -> None:
        end_s = time.monotonic() + REGISTER_PATIENCE_S
        for tx_id in ids:
            while (found := await self._find(self._data[0], tx_id))["height"] is None:
                if time.monotonic() > end_s:
                    raise LoadError(
                        f"a registration was not decided in {REGISTER_PATIENCE_S:.0f} s: do blocks "
                        "come? see `commonwatt status`"
                    )
                await asyncio.sleep(POLL_S)
            if found["code"] != "ok":
                raise LoadError(f"a home was not registered: {found['message']}")

    # -- the load

    async def run(self) -> dict[str, Any]:
        """Post for as long as was asked, and return what became of it."""
        begun = time.monotonic()
        metering = asyncio.create_task(self._meter())
        try:
            if self._plan.bursts:
                await self._burst(begun + self._plan.seconds)
            else:
                await self._flow()
        finally:
            metering.cancel()
            await asyncio.gather(metering, return_exceptions=True)
        posted_s = time.monotonic() - begun
        return await self._outcome(posted_s)

    async def _flow(self) -> None:
        """Post evenly; what is late is caught up with, so that all is posted."""
        begun, done, node = time.monotonic(), 0, 0
        total = max(int(self._plan.rate * self._plan.seconds), 1)
        while done < total:
            due = min(int((time.monotonic() - begun) * self._plan.rate), total)
            places = [number % len(self._keys) for number in range(done, due)]
            done = due
            if places:
                node = (node + 1) % len(self._data)
                await self._post(node, places)
            await asyncio.sleep(TURN_S)

    async def _burst(self, end_s: float) -> None:
        """Let every home post one order in the last moments before each gate."""
        done = -1
        while time.monotonic() < end_s:
            now_ms = time.time_ns() // 1_000_000
            slot = self._clock.next_gate_slot(now_ms)
            if slot != done and self._clock.gate_close_real_ms(slot) - now_ms <= BURST_MS:
                done = slot
                nodes = len(self._data)
                places = range(len(self._keys))
                await asyncio.gather(
                    *(self._post(node, list(places[node::nodes])) for node in range(nodes))
                )
            await asyncio.sleep(TURN_S)

    async def _post(self, node: int, places: Sequence[int]) -> None:
        signed = []
        for place in places:
            slot = self._clock.next_gate_slot(time.time_ns() // 1_000_000)
            while self._posted[place, slot] >= ORDERS_PER_SLOT:
                slot += 1
            self._posted[place, slot] += 1
            call = client.post_order(slot, "buy", ENERGY_WH, PRICE_MICRO_PER_KWH)
            signed.append(self._sign(call, self._keys[place]))
        for tx_id in await self._hand_in(node, signed):
            self._sent[tx_id] = self._data[node]
            self.accepted += 1

    async def _meter(self) -> None:
        """Tell after each slot that nothing flowed."""
        told = self._clock.slot_at(time.time_ns() // 1_000_000)
        while True:
            await asyncio.sleep(POLL_S)
            now_ms = time.time_ns() // 1_000_000
            while self._clock.slot_end_real_ms(told) < now_ms:
                call = client.post_reading(told, 0, 0, 1)
                nodes = len(self._data)
                signed = [self._sign(call, key.derive("meter")) for key in self._keys]
                for node in range(nodes):
                    self.readings += len(await self._hand_in(node, signed[node::nodes]))
                told += 1

    # -- saying and asking

    def _sign(self, call: Call, key: SigningKey) -> CheckedTransaction:
        now_ms = time.time_ns() // 1_000_000
        # By the clock they rise above those of earlier runs, and the regulator's stay below what
        # its commands sign with later.
        nonce = self._nonces[key.address] = max(self._nonces[key.address] + 1, now_ms)
        return client.sign_call(call, key, self._params.chain_id, nonce, now_ms + VALID_MS)

    async def _hand_in(self, node: int, signed: Sequence[CheckedTransaction]) -> list[str]:
        """Hand transactions in at a node; return the ids of those it took."""
        taken = []
        for some in lots_of(signed):
            texts = [item.raw.hex() for item in some]
            try:
                answer = await self._ask(self._data[node], "submit_many", transactions=texts)
            except ControlError:
                self.refused["no answer"] += len(some)
                continue
            refused = {place: code for place, code, _ in answer["refused"]}
            self.refused.update(refused.values())
            taken += [item.tx_id.hex() for n, item in enumerate(some) if n not in refused]
        return taken

    async def _ask(self, data: Path, question: str, **arguments: Any) -> Any:
        return await ask(data, question, timeout_s=ASK_TIMEOUT_S, **arguments)

    async def _find(self, data: Path, tx_id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._ask(data, "transaction", id=tx_id)
        return found

    # -- after

    async def _outcome(self, posted_s: float) -> dict[str, Any]:
        """Ask for every order what became of it; those that wait are given a while."""
        ends: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        end_s = time.monotonic() + SETTLE_PATIENCE_S

        async def ask_of(data: Path) -> None:
            for tx_id in [one for one, where in self._sent.items() if where == data]:
                while True:
                    found = await self._find(data, tx_id)
                    if found["status"] != "pending" or time.monotonic() > end_s:
                        break
                    await asyncio.sleep(POLL_S)
                ends[found["status"]] += 1
                if found.get("reason"):
                    reasons[found["reason"]] += 1

        # All at once: a node takes milliseconds for each, and there may be thousands.
        await asyncio.gather(*(ask_of(data) for data in self._data))
        latencies = [ms for data in self._data for ms in await self._ask(data, "latencies")]
        return {
            "homes": len(self._keys),
            "registered": self.registered,
            "seconds": round(posted_s, 1),
            "accepted": self.accepted,
            "accepted_per_s": round(self.accepted / posted_s, 1),
            "committed": ends["decided"],
            "rejected": dict(reasons),
            "lost": ends["unknown"] + ends["refused"],
            "waiting": ends["pending"],
            "refused": dict(self.refused),
            "readings": self.readings,
            "finality_ms": summary_ms(latencies),
        }


async def load(directory: Path, plan: LoadPlan) -> dict[str, Any]:
    """Put a load on the street in a directory; return what became of it.

    Raises
    ------
    LoadError
        There is no street, or it does not take the homes in.
    ControlError
        It does not run.
    """
    street = open_street(directory)
    if street is None:
        raise LoadError(
            f"{directory}: no street here; start one with `commonwatt testnet up --dir {directory}`"
        )
    made = Load(street, plan)
    await made.register()
    return await made.run()


def as_text(told: dict[str, Any]) -> str:
    """Return the outcome for a person."""
    final = told["finality_ms"]
    refused = ", ".join(f"{count} {why}" for why, count in sorted(told["refused"].items()))
    rejected = ", ".join(f"{count} {why}" for why, count in sorted(told["rejected"].items()))
    return "\n".join(
        (
            f"{told['homes']} homes ({told['registered']} registered now), {told['seconds']} s",
            f"orders accepted   {told['accepted']} ({told['accepted_per_s']}/s)",
            f"orders committed  {told['committed']}"
            + (f", of them {rejected}" if rejected else ""),
            f"orders refused    {refused or 'none'}",
            f"still waiting     {told['waiting']}, lost {told['lost']}",
            f"readings taken    {told['readings']}",
            f"final after       {final['p50']} ms (median), {final['p95']} ms (p95), of "
            f"{final['count']} last ones at all nodes",
        )
    )
