"""What one tier has to be told of the other: a pure rule, the same for everybody who posts.

Whoever posts adds nothing to what it posts, so it does not matter who does; that it is the next
thing, in its order, does. A region's sets are shown as its checkpoints need them, one after the
other; of the main chain a region is shown the last header of each epoch that it does not know yet,
and the newest one when that proves that more is anchored (docs/spec/regions.md).
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from consensus.checkpoint import Checkpoint
from consensus.light import SignedHeader
from consensus.messages import ConflictingCertificates
from market.client import Call, regions
from node.regions.checkpoints import posted
from wire.codec import encode

# So many calls at once, at most; the rest when these have come through.
CALLS_MAX: Final = 8
# As `regions.star`: sets of epochs that are not anchored yet.
EPOCHS_AHEAD_MAX: Final = 64
TAKEN_STATUSES: Final = ("live", "halted")

Ends = Callable[[int], SignedHeader | None]


class Standing(NamedTuple):
    """How the main chain knows a region: `regions.show` and `anchor.last`.

    `oldest_epoch` and `newest_epoch` are those of the sets that it keeps; `answers` tells whether
    money of the region is held there.
    """

    status: str
    anchored: int
    oldest_epoch: int
    newest_epoch: int
    answers: bool = True


class Shown(NamedTuple):
    """What a region's contract `export` knows of the main chain: `main_head` and `anchored`."""

    main_epoch: int
    main_height: int
    anchored: int


class Proven(NamedTuple):
    """The main chain's head, and what its state root proves to be anchored of one region.

    `value` and `proof` are of `regions.anchored_key`, encoded; `anchored` is the record's number.
    """

    head: SignedHeader
    anchored: int
    value: bytes
    proof: bytes


def due_on_main(
    region: int, standing: Standing, checkpoint: Callable[[int], Checkpoint | None], ends: Ends
) -> list[Call]:
    """Return the calls that the main chain waits for from a region, in their order.

    Parameters
    ----------
    region : its number.
    standing : as the main chain's newest known state has it.
    checkpoint : the region's checkpoint of a number; None where it is not closed, or not here.
    ends : the last header of an epoch of the region; None where it is not here.
    """
    calls: list[Call] = []
    if standing.status not in TAKEN_STATUSES:
        return calls
    number, newest, oldest = standing.anchored + 1, standing.newest_epoch, standing.oldest_epoch
    while len(calls) < CALLS_MAX and (found := checkpoint(number)) is not None:
        epoch = found.header.epoch
        while newest < epoch and newest - oldest < EPOCHS_AHEAD_MAX and len(calls) < CALLS_MAX:
            end = ends(newest)
            if end is None:
                return calls
            calls.append(regions.rotate(region, encode(end).hex()))
            newest += 1
        if newest < epoch or len(calls) >= CALLS_MAX:
            return calls
        calls.append(regions.checkpoint(region, epoch, posted(found)))
        number += 1
        oldest = max(oldest, epoch)
    return calls


def conflict_due(
    region: int, standing: Standing, conflict: ConflictingCertificates | None
) -> list[Call]:
    """Return the call that shows the main chain two certified blocks at one height of a region.

    Parameters
    ----------
    region : its number.
    standing : as the main chain's newest known state has it.
    conflict : what is known of such blocks; None: nothing.
    """
    if conflict is None or standing.status not in (*TAKEN_STATUSES, "left"):
        return []
    epoch = conflict.first.epoch
    kept = standing.oldest_epoch <= epoch <= standing.newest_epoch
    if not kept or (standing.status == "left" and not standing.answers):
        return []
    return [regions.report_conflict(region, epoch, encode(conflict).hex())]


def due_in_region(shown: Shown, proven: Proven, ends: Ends) -> list[Call]:
    """Return the calls by which a region learns what of it is anchored, in their order.

    Parameters
    ----------
    shown : as the region's newest known state has it.
    proven : of the main chain.
    ends : the last header of an epoch of the main chain; None where it is not here.
    """
    head = proven.head.header
    calls: list[Call] = []
    if head.height < shown.main_height or head.epoch < shown.main_epoch:
        return calls
    for epoch in range(shown.main_epoch, head.epoch):
        end = ends(epoch)
        if end is None or len(calls) >= CALLS_MAX:
            return calls
        calls.append(regions.follow(encode(end).hex()))
    if proven.anchored <= shown.anchored:
        return calls
    if head.height > shown.main_height:
        calls.append(regions.follow(encode(proven.head).hex()))
    calls.append(regions.confirm(head.height, proven.value.hex(), proven.proof.hex()))
    return calls
