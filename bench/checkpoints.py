"""What a checkpoint costs the main chain: `uv run python -m bench.checkpoints [--regions N]`.

N simulated regions (1,000 unless given) of 7 authorities with real certificates: only what they
sign is there, no homes and no market behind it. Each posts ROUNDS checkpoints of one settled slot.
What is counted is all that one authority of the main chain does with one: signature and form of the
transaction, execution in the block (certificate, proof, contract), commitment. Times are of the
processor, one thread. The baseline is verifying the certificate's signatures and nothing else.

On the region's side: closing the record of one settled slot, by number of homes.
"""

import argparse
import statistics
import time
from collections.abc import Iterator

from bench.figures import Said, command, figure
from consensus.authorities import verify_certificate
from consensus.checkpoint import Checkpoint, Record
from market.app import BlockEnv
from market.client import regions
from market.vm.gas import HOOK_CAPS
from market.vm.journal import Journal
from tests.regions.forge import Captured, slot_totals
from tests.regions.grid import MAIN_KEYS, SLOT, SLOT_MS, Main, Region
from wire.codec import encode
from wire.transaction import CheckedTransaction, check

REGIONS = 1_000
SEATS = 7
ROUNDS = 3
CHECKPOINTS_PER_BLOCK = 250
FIRST_SLOT = 2_000
HOMES = (50, 500)


def admitted(count: int, **rules: object) -> tuple[Main, list[Captured]]:
    """Return a main chain of these rules with so many regions."""
    there = [Captured(number, SEATS) for number in range(1, count + 1)]
    main = Main([region.sponsor for region in there], **rules)
    for first in range(0, count, CHECKPOINTS_PER_BLOCK):
        some = there[first : first + CHECKPOINTS_PER_BLOCK]
        results = [main.block([(region.sponsor, region.registration) for region in some])]
        for one in MAIN_KEYS[:3]:
            results.append(main.block([(one, regions.approve(r.number)) for r in some]))
        codes = {receipt.code for block in results for receipt in block.result.receipts}
        if codes != {"ok"}:
            raise SystemExit(f"regions were refused: {codes}")
    return main, there


def anchor(main: Main, raws: list[bytes], at_ms: int | None = None) -> float:
    """Return how long it takes to check, execute and commit a block. [s of the processor]"""
    main.time_ms = main.time_ms + 5_000 if at_ms is None else at_ms
    began = time.process_time()
    checked = check(raws, main.chain_id, main.time_ms)
    txs = [tx for tx in checked if isinstance(tx, CheckedTransaction)]
    result = main.app.execute(BlockEnv(main.height + 1, main.time_ms), txs)
    main.app.commit(result)
    took = time.process_time() - began
    wrong = [receipt for receipt in result.receipts if receipt.code != "ok"]
    if len(txs) != len(raws) or wrong:
        raise SystemExit(f"transactions were refused: {wrong[:1]}")
    return took


def baseline(checkpoints: list[Checkpoint], region: Captured) -> float:
    """Return what the signatures of one certificate cost alone. [s]"""
    began = time.process_time()
    for found in checkpoints:
        verify_certificate(found.certificate, region.set, region.chain_id)
    return (time.process_time() - began) / len(checkpoints)


def closing(homes: int) -> tuple[list[float], int]:
    """Return how long a region takes to close a record of a slot, and its checkpoint's size.

    In seconds of the processor, and bytes.
    """
    region = Region(1, homes)
    region.trade(SLOT, [(1, "buy", 100, 100_000)])
    region.block(at_ms=(SLOT + 3) * SLOT_MS)
    found = region.checkpoints[-1]
    env = region.app._env(region.env())
    took = []
    for _ in range(7):
        journal = Journal(region.app._state)
        journal.put("export/taken", encode([]))
        began = time.process_time()
        outcome = region.app._executor.run(journal, "export", "on_block", {}, env, HOOK_CAPS)
        took.append(time.process_time() - began)
        if outcome.error is not None or [e.data["slots"] for e in outcome.events] != [[SLOT]]:
            raise SystemExit(f"no record of the slot was closed: {outcome}")
    return took, len(encode(found))


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--regions", type=int, default=REGIONS)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure."""
    count = given.regions
    chain, there = admitted(count)
    records: list[Record] = [region.first(slot_totals(FIRST_SLOT)) for region in there]
    costs, sizes, posted = [], [], []
    for step in range(ROUNDS):
        raws = []
        for region, record in zip(there, records, strict=True):
            found = region.checkpoint(record)
            sizes.append(len(encode(found)))
            raws.append(chain.call(*region.post(found)).raw)
        posted += [len(raw) for raw in raws]
        for first in range(0, count, CHECKPOINTS_PER_BLOCK):
            some = raws[first : first + CHECKPOINTS_PER_BLOCK]
            costs.append(anchor(chain, some) / len(some))
        records = [
            region.after(record, slot_totals(FIRST_SLOT + 1 + step))
            for region, record in zip(there, records, strict=True)
        ]
    region = there[0]
    alone = [baseline([region.checkpoint(records[0])] * 20, region) for _ in range(7)]
    yield f"{count} regions of {SEATS} authorities, {ROUNDS} checkpoints of one slot each"
    yield figure("a checkpoint encoded", "bytes", statistics.median(sizes))
    yield figure("a checkpoint posted", "bytes", statistics.median(posted))
    signatures = f"its {region.set.quorum} signatures alone", [1e3 * one for one in alone]
    yield figure("a checkpoint", "ms", [1e3 * one for one in costs], over=signatures, aim=60)
    rates = [60 / one for one in costs]
    yield figure("checkpoints a minute on one core", "", rates, better="higher", aim=1_000)
    for homes in HOMES:
        took, size = closing(homes)
        yield figure(f"{homes} homes, a slot's record closed", "ms", [1e3 * one for one in took])
        yield figure(f"{homes} homes, checkpoint", "bytes", size)


if __name__ == "__main__":
    command(__doc__, options, figures)
