"""How final a trade or bill is: by its region alone, by the main chain, by auditors of others."""

from typing import Final

from market.client.queries import Query, slot_summary

REGIONAL: Final = "regional"
ANCHORED: Final = "anchored"
AUDITED: Final = "audited"
LEVELS: Final = (REGIONAL, ANCHORED, AUDITED)
# `contracts/export.star`: RECORDS_MAX.
RECORDS_KEPT: Final = 64
# Where a record as the state holds it has its slots: `consensus.checkpoint.Record`, after its tag.
_SLOTS: Final = 6


def finality_of_record(number: int, anchored: int, audited: int) -> str:
    """Return the level of what a region's record of this number holds.

    Parameters
    ----------
    number : int
        0: in no record yet.
    anchored, audited : int
        The last record of the region that is.
    """
    if not 0 < number <= anchored:
        return REGIONAL
    return AUDITED if number <= audited else ANCHORED


def finality_of_slot(own: Query, main: Query | None, region: int, slot: int) -> str:
    """Return how final the trades and bills of a slot are, of a region that has a main chain.

    What stands in a block of the region is regional at least; a slot's trades and bills are
    anchored and audited with the record that settles it.

    Parameters
    ----------
    own : callable
        Asks the region's contracts.
    main : callable or None
        Asks the main chain's; None where it is not kept: then the region says what it has been
        shown of it, and never that anything is audited.
    region : int
        The region's number.

    Raises
    ------
    QueryError
        One of the chains is none of a second tier.
    """
    if main is None:
        number = _record_of(own, slot)
        return finality_of_record(number, own("export", "anchored", {})["number"], 0)
    found = main("anchor", "settled_by", {"region": region, "slot": slot})
    if found is None:
        return REGIONAL
    audited = main("audit", "status", {"region": region})["number"]
    return finality_of_record(found, found, audited)


def _record_of(own: Query, slot: int) -> int:
    """Return the number of the region's record that settles a slot, 0 if none does.

    Slots stay longer than records do: of one that an older record settles it is the last of those
    that are forgotten, which is anchored no earlier.
    """
    last = own("export", "closed", {})["number"]
    forgotten = max(last - RECORDS_KEPT, 0)
    known: list[int] = []
    for number in range(last, forgotten, -1):
        record = own("export", "record", {"number": number})
        slots = [] if record is None else [row[0] for row in record[_SLOTS]]
        if slot in slots:
            return number
        known += slots
    # What is newer than those is settled and in no record yet.
    is_older = forgotten > 0 and slot < min(known, default=0)
    return forgotten if is_older and slot_summary(own, slot).status == "settled" else 0
