"""How final a trade or bill is: by its region alone, by the main chain, by auditors of others."""

from typing import Final

from market.client.queries import Query

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
        shown of it, of the slots in its last 64 records, and never that anything is audited.
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
    """Return the number of the region's record that settles a slot, 0 if none that is kept does."""
    last = own("export", "closed", {})["number"]
    for number in range(last, max(last - RECORDS_KEPT, 0), -1):
        record = own("export", "record", {"number": number})
        if record is not None and any(row[0] == slot for row in record[_SLOTS]):
            return number
    return 0
