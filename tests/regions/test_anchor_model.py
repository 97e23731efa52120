"""Random checkpoints of captured regions, right and wrong, against the rules in plain Python."""

import random

import msgspec
import pytest

from consensus.checkpoint import Record
from tests.market.vm.cpython import CPythonEngine
from tests.regions.forge import NO_HASH, Captured, slot_totals
from tests.regions.grid import Main

REGIONS = 3
FIRST_SLOT = 2_000
HONEST_SHARE = 0.6


class Model:
    """What the specification says of one region (M6, M7, M9 to M12), with nothing forgotten."""

    def __init__(self) -> None:
        self.last: Record | None = None
        self.slots: set[int] = set()

    def takes(self, region: int, record: Record) -> bool:
        last = self.last
        number, height, previous = (0, 0, NO_HASH)
        sums = dict.fromkeys(("outbox_count", "inbox_count", "minted_micro", "redeemed_micro"), 0)
        heads = {"outbox": NO_HASH, "inbox": NO_HASH}
        if last is not None:
            number, height, previous = last.number, last.to_height, last.hash
            sums = {name: getattr(last, name) for name in sums}
            heads = {name: getattr(last, f"{name}_head") for name in heads}
        slots = [row.slot for row in record.slots]
        right = [
            record.region == region,
            (record.number, record.from_height) == (number + 1, height + 1),
            record.previous == previous,
            record.to_height >= record.from_height,
            len({*slots}) == len(slots) and not self.slots & {*slots},
            record.minted_micro >= record.redeemed_micro,
            *(getattr(record, name) >= value for name, value in sums.items()),
            *(
                getattr(record, f"{name}_head") == head
                or getattr(record, f"{name}_count") > sums[f"{name}_count"]
                for name, head in heads.items()
            ),
        ]
        for row in record.slots:
            legs = row.grid_micro + row.penalty_micro + row.fees_micro - row.feed_in_micro
            right.append(row.net_micro == legs)
            right.append(row.import_wh - row.export_wh == row.grid_wh - row.fed_in_wh)
            # There is no exchange: nothing was traded with other regions.
            right.append((row.imported_wh, row.exported_wh) == (0, 0))
            right.append((row.paid_micro, row.got_micro) == (0, 0))
        return all(right)

    def take(self, record: Record) -> None:
        self.last = record
        self.slots |= {row.slot for row in record.slots}


def honest(random_: random.Random, region: Captured, last: Record | None) -> Record:
    """What a region might say next if it keeps the rules; slots may be those of before."""
    rows = [
        slot_totals(FIRST_SLOT + random_.randrange(60)) for _ in range(random_.choice([0, 1, 1, 2]))
    ]
    if last is None:
        return region.first(*rows)
    record = region.after(last, *rows, minted_micro=last.minted_micro + random_.randrange(1_000))
    if random_.random() < 0.3:
        head = f"{random_.randrange(16**8):064x}"
        name = random_.choice(["outbox", "inbox"])
        count = getattr(last, f"{name}_count") + random_.randrange(2)
        record = msgspec.structs.replace(record, **{f"{name}_head": head, f"{name}_count": count})
    return record


def bent(random_: random.Random, record: Record) -> Record:
    """One or two numbers of it a little off."""
    for _ in range(random_.choice([1, 1, 2])):
        by = random_.choice([-1, 1])
        if record.slots and random_.random() < 0.5:
            row = record.slots[0]
            names = [n for n in row.__struct_fields__ if n not in ("slot", "settlement_root")]
            name = random_.choice(names)
            changed = msgspec.structs.replace(row, **{name: max(0, getattr(row, name) + by)})
            record = msgspec.structs.replace(record, slots=(changed, *record.slots[1:]))
        else:
            name = random_.choice(
                ["region", "number", "from_height", "to_height", "outbox_count", "inbox_count",
                 "minted_micro", "redeemed_micro"]
            )  # fmt: skip
            by *= random_.choice([1, 12, 5_000_000]) if name.endswith("_micro") else 1
            value = max(1 if name == "region" else 0, getattr(record, name) + by)
            record = msgspec.structs.replace(record, **{name: value})
    return record


def run(seed: int, posts: int) -> tuple[int, int]:
    random_ = random.Random(seed)
    there = [Captured(number) for number in range(1, REGIONS + 1)]
    main = Main([region.sponsor for region in there], twin=CPythonEngine())
    for region in there:
        main.admit(region)
    models = {region.number: Model() for region in there}
    taken = refused = 0
    for _ in range(posts):
        region = random_.choice(there)
        model = models[region.number]
        record = honest(random_, region, model.last)
        if random_.random() > HONEST_SHARE:
            record = bent(random_, record)
        expected = model.takes(region.number, record)
        sender, call = region.post(region.checkpoint(record))
        if expected:
            receipt = main.send(sender, call)
            assert receipt.code == "ok", (receipt, record)
            model.take(record)
            taken += 1
        else:
            main.refusal(sender, call)
            refused += 1
    for region in there:
        last, model = main.query("anchor", "last", {"region": region.number}), models[region.number]
        assert last["record_hash"] == (NO_HASH if model.last is None else model.last.hash)
    return taken, refused


@pytest.mark.parametrize("seed", [1, 2])
def test_random_checkpoints(seed: int) -> None:
    taken, refused = run(seed, posts=60)
    assert taken > 10
    assert refused > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 13))
def test_many_random_checkpoints(seed: int) -> None:
    run(seed, posts=500)
