"""What sealed orders cost: `uv run python -m bench.sealed [--homes 12] [--slots 8]`.

Runs `commonwatt testnet up` once with open orders and once with sealed ones, the same homes and the
same hours, and reads what the first home has stored: bytes of blocks and their certificates per
slot, bytes of what homes say before a slot is cleared, and how many blocks after the one that
closes a gate its slot is cleared. The baseline is the street with open orders. There homes change
their orders until the gate, which they need not where nobody sees any; so what a home says in a
slot of which it thinks once, an order and a reading, is sized as well: the most sealing can add.
"""

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bench.figures import Said, command, figure
from consensus.messages import BLOCK_BYTES_MAX, Block
from market import client
from market.client import sealed
from market.receipts import Receipt
from node.genesis import read_genesis
from node.setup import DATA_NAME, DATABASE_NAME, GENESIS_NAME
from wire.codec import decode, encode
from wire.keys import SigningKey
from wire.transaction import TRANSACTION_BYTES_MAX, SignedTransaction

RECEIPTS_BYTES_MAX: Final = 64 << 20
BYTES_AIM: Final = 1.6
BLOCKS_AIM: Final = 1
SPOKEN: Final = (
    *("post_order", "withdraw_order"),
    *("commit_order", "withdraw_commitment", "reveal_order"),
)
# The first slot is traded while homes still start.
SKIPPED: Final = 1


class Slot(NamedTuple):
    """What one slot took, from the gate before its own to its own clearing."""

    slot: int
    blocks: int
    stored_bytes: int
    orders: int
    order_bytes: int
    waited_blocks: int
    forfeited: int


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--homes", type=int, default=12)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--time-lapse", type=int, default=60)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Run both streets, and compare them slot by slot."""
    open_, hidden = (
        street(given.homes, given.slots, given.time_lapse, is_sealed) for is_sealed in (False, True)
    )
    for name, aim, values in (
        ("stored per slot", None, lambda s: s.stored_bytes),
        ("said of orders per slot", None, lambda s: s.order_bytes),
        ("blocks per slot", None, lambda s: s.blocks),
        ("blocks from the gate to the clearing", BLOCKS_AIM, lambda s: s.waited_blocks),
    ):
        unit = "blocks" if "blocks" in name else "bytes"
        base = [values(slot) for slot in open_]
        yield figure(f"open, {name}", unit, base)
        yield figure(
            f"sealed, {name}", unit, [values(s) for s in hidden], over=("open", base), aim=aim
        )
    base_bytes = sum(slot.stored_bytes for slot in open_) / len(open_)
    mean_bytes = sum(slot.stored_bytes for slot in hidden) / len(hidden)
    open_bytes, sealed_bytes = said_once()
    yield figure("open, one order and its reading", "bytes", open_bytes)
    yield figure(
        "sealed, one order and its reading", "bytes", sealed_bytes, over=("open", open_bytes)
    )
    yield figure("sealed over open, said once", "times", sealed_bytes / open_bytes, aim=BYTES_AIM)
    yield figure("sealed over open, stored", "times", mean_bytes / base_bytes, aim=BYTES_AIM)
    yield figure("margins lost", "commitments", sum(slot.forfeited for slot in hidden))


def said_once() -> tuple[int, int]:
    """Return the bytes of a home's transactions for a slot of one order: open, and sealed."""
    slot, now_ms = 1_957_917, 1_762_125_300_000
    home, meter = SigningKey(bytes(32)), SigningKey(bytes([1]) * 32)
    order = sealed.SealedOrder("buy", 500, 150_000)
    salt = bytes(range(sealed.SALT_BYTES))
    digest = sealed.digest_of(slot, home.address, [order], salt)

    def size(call: client.Call, key: SigningKey) -> int:
        signed = client.sign_call(call, key, "street", now_ms, now_ms + 60_000)
        return len(signed.raw)

    reading = size(client.post_reading(slot, 500, 0, slot), meter)
    plain = client.post_order(slot, order.side, order.energy_wh, order.price_micro_per_kwh)
    committed = sealed.commit_order(slot, digest, 50_000)
    revealed = sealed.reveal_order(slot, [order], salt)
    return size(plain, home) + reading, size(committed, home) + size(revealed, home) + reading


def street(homes: int, slots: int, time_lapse: int, is_sealed: bool) -> list[Slot]:
    """Run a street to its end; return its slots."""
    with tempfile.TemporaryDirectory(prefix="commonwatt-bench-") as name:
        words = {"--homes": homes, "--slots": slots + SKIPPED, "--time-lapse": time_lapse}
        done = subprocess.run(
            [
                *(sys.executable, "-P", "-m", "cli", "testnet", "up", "--json", "--dir", name),
                *(word for option, value in words.items() for word in (option, str(value))),
                *["--sealed"] * is_sealed,
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        report = json.loads(done.stdout)
        settled = [slot["slot"] for slot in report["per_slot"]][SKIPPED:]
        found = slots_of(min(Path(name).glob("home-*")), settled)
    if not found:
        raise SystemExit("no slot was cleared")
    return found


def slots_of(home: Path, wanted: list[int]) -> list[Slot]:
    """Return what each slot took by a home's database."""
    clock = read_genesis(home / GENESIS_NAME).market.clock()
    with sqlite3.connect(f"file:{home / DATA_NAME / DATABASE_NAME}?mode=ro", uri=True) as db:
        rows = db.execute(
            "SELECT block, certificate, receipts FROM blocks WHERE height > 0 ORDER BY height"
        ).fetchall()
    chain = [_seen(*row) for row in rows]
    found = []
    for slot in wanted:
        gate_ms, before_ms = clock.gate_close_real_ms(slot), clock.gate_close_real_ms(slot - 1)
        closing = next(place for place, seen in enumerate(chain) if seen.time_ms >= gate_ms)
        clearing = next((p for p, seen in enumerate(chain) if slot in seen.cleared), closing)
        own = [seen for seen in chain if before_ms < seen.time_ms <= gate_ms]
        said = [size for seen in chain for at, size in seen.said if at == slot]
        lost = sum(seen.forfeited.count(slot) for seen in chain)
        found.append(
            Slot(
                slot,
                len(own),
                sum(seen.size for seen in own),
                len(said),
                sum(said),
                clearing - closing,
                lost,
            )
        )
    return found


class Seen(NamedTuple):
    """A block: its time, its size with its certificate, what it says of slots."""

    time_ms: int
    size: int
    said: list[tuple[int, int]]
    cleared: list[int]
    forfeited: list[int]


def _seen(raw: bytes, certificate: bytes, told: bytes) -> Seen:
    block = decode(raw, Block, BLOCK_BYTES_MAX)
    said = []
    for data in block.txs:
        tx = decode(data, SignedTransaction, TRANSACTION_BYTES_MAX).tx
        if tx.entry in SPOKEN:
            said.append((tx.args["slot"], len(encode(data))))
    events = [
        event
        for receipt in decode(told, tuple[Receipt, ...], RECEIPTS_BYTES_MAX)
        for event in receipt.events
    ]
    slots = {
        name: [event.data["slot"] for event in events if event.name == name]
        for name in ("slot_cleared", "commitment_forfeited")
    }
    return Seen(
        block.header.time_ms,
        len(raw) + len(certificate),
        said,
        slots["slot_cleared"],
        slots["commitment_forfeited"],
    )


if __name__ == "__main__":
    command(__doc__, options, figures)
