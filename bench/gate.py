"""Everybody at once: homes that post within the last seconds before a gate closes.

    uv run python -m bench.gate [--homes 1000] [--within 5] [--spare 1.5] [--rounds 3]

Four authorities as daemon processes, blocks of 1 s, slots of a quarter of an hour in 45 s. Before a
gate each home hands in one order, evenly over `--within` seconds which end `--spare` seconds before
the gate: who posts later than the last block before it is decided comes too late, whatever the
load. Lost is an order that does not stand in the slot when it is cleared. Cleared is
the slot in the first block whose time is the gate's or later; how long after the gate every node
had applied that block is the wall's clock.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from bench.figures import Said, command, figure
from bench.load import ORDERS_PER_SLOT, Posted, Spec, begin, ready_poster
from bench.throughput import HOMES as HOMES_MAX
from bench.throughput import MARKET_START_MS, Bench
from node.api.control import ask
from testnet.processes import start_all, stop_all

AUTHORITIES: Final = 4
TIME_LAPSE: Final = 20
# To sign, to start the poster, and to wait for the moment.
AHEAD_S: Final = 12.0
POLL_S: Final = 0.1
POSTER_SPARE_S: Final = 0.5
PATIENCE_S: Final = 120.0
BLOCKS_ASKED: Final = 20


class Gate(NamedTuple):
    """What became of a burst. Times are after the gate. [s]"""

    posted: int
    taken: int
    refused: dict[str, int]
    standing: int
    orders_in_block_max: int
    applied_s: list[float]
    in_next_block: bool


async def burst(bench: Bench, homes: int, within_s: float, spare_s: float) -> Gate:
    """Post before the next gate that leaves time for it; return what became of it."""
    clock = bench.genesis.market.clock()
    earliest_ms = 1_000 * (time.time() + AHEAD_S + within_s + spare_s)
    slot = MARKET_START_MS // bench.genesis.market.slot_ms
    while clock.gate_close_real_ms(slot) < earliest_ms:
        slot += 1
    gate_ms = clock.gate_close_real_ms(slot)
    spec = Spec(
        data=[str(bench.data(place)) for place in range(len(bench.nodes))],
        chain_id=bench.genesis.chain_id,
        homes=homes,
        orders=homes,
        first_nonce=bench.nonce,
        # As orders go to the slot that their nonce says.
        first_slot=slot - bench.nonce // ORDERS_PER_SLOT,
        # Beyond the last turn, in which the last few are handed in.
        seconds=within_s + POSTER_SPARE_S,
        rate=homes / within_s,
        backlog=0,
    )
    bench.nonce += 1
    poster = await ready_poster(spec, bench.directory / "burst.json")
    begin_s = gate_ms / 1_000 - spare_s - within_s - time.time()
    if begin_s < 0:
        raise SystemExit(f"the poster was ready {-begin_s:.1f} s too late; the machine is too busy")
    await asyncio.sleep(begin_s)
    begin(poster)
    done = asyncio.create_task(poster.communicate())
    seen = await asyncio.gather(
        *(cleared(bench.data(place), slot, gate_ms) for place in range(len(bench.nodes)))
    )
    posted = msgspec.json.decode((await done)[0], type=Posted)
    _, first, round_, blocks = seen[0]
    sizes = [block["transactions"] for block in blocks if block["height"] <= first]
    return Gate(
        homes,
        posted.accepted,
        posted.refused,
        round_["posted"],
        max(sizes, default=0),
        [applied_s for applied_s, *_ in seen],
        all(round_["status"] == "cleared" for _, _, round_, _ in seen),
    )


async def cleared(
    data: Path, slot: int, gate_ms: int
) -> tuple[float, int, dict[str, Any], list[dict[str, Any]]]:
    """Wait for a node's first block at or after the gate.

    Returns how long after the gate it was applied [s], its height, the slot's round as it is then,
    and the last blocks.
    """
    async with asyncio.timeout(PATIENCE_S + max(0.0, gate_ms / 1_000 - time.time())):
        while True:
            await asyncio.sleep(POLL_S)
            if 1_000 * time.time() < gate_ms:
                continue
            answer = await ask(data, "blocks", timeout_s=60, count=BLOCKS_ASKED)
            blocks = answer["blocks"]
            after = [block["height"] for block in blocks if block["time_ms"] >= gate_ms]
            if not after:
                continue
            applied_s = time.time() - gate_ms / 1_000
            args = {"slot": slot}
            found = await ask(data, "query", contract="market", entry="round", args=args)
            return applied_s, min(after), found, blocks


async def run(given: argparse.Namespace) -> list[Gate]:
    """Start the authorities and let the homes post before some gates."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), AUTHORITIES, 0, False, time_lapse=TIME_LAPSE)
        try:
            await start_all(bench.nodes)
            await bench.until_up()
            return [
                await burst(bench, given.homes, given.within, given.spare)
                for _ in range(given.rounds)
            ]
        finally:
            await stop_all(bench.nodes)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--homes", type=int, default=1_000)
    parser.add_argument("--within", type=float, default=5.0, help="[s]")
    parser.add_argument("--spare", type=float, default=1.5, help="[s]")
    parser.add_argument("--rounds", type=int, default=3)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure."""
    if not 1 <= given.homes <= HOMES_MAX:
        raise SystemExit(f"--homes {given.homes}: 1 to {HOMES_MAX} are in this genesis")
    gates = asyncio.run(run(given))
    for gate in gates:
        yield f"  taken {gate.taken} of {gate.posted}, refused {gate.refused or 'none'}"
    name = f"{given.homes} homes within {given.within:g} s"
    lost = [gate.posted - gate.standing for gate in gates]
    yield figure(f"{name}, orders not in the slot that was cleared", "", lost, aim=0)
    late = [100.0 * (not gate.in_next_block) for gate in gates]
    yield figure(f"{name}, not cleared in the next block", "%", late, aim=0)
    applied = [seconds for gate in gates for seconds in gate.applied_s]
    yield figure(f"{name}, cleared after the gate", "s", applied, wall=True)
    most = [gate.orders_in_block_max for gate in gates]
    yield figure(f"{name}, most orders in a block", "", most, better="neither")


if __name__ == "__main__":
    command(__doc__, options, figures)
