"""What is due between the tiers: nothing is left out, nothing is said twice."""

from consensus.light import SignedHeader, ends_epoch
from consensus.messages import ConflictingCertificates
from market import governance
from market.client import regions
from node.chain.epochs import set_of
from node.regions.checkpoints import posted
from node.regions.due import (
    CALLS_MAX,
    Proven,
    Shown,
    Standing,
    conflict_due,
    due_in_region,
    due_on_main,
)
from tests.regions.forge import Captured
from tests.regions.grid import MAIN_KEYS, Main, Region
from wire.codec import decode, decode_plain, encode


def ends_of(chain):
    return {
        block.header.epoch: SignedHeader(block.header, block.certificate, set_of(block.result.next))
        for block in chain.blocks
        if ends_epoch(block.header)
    }


def standing_of(main, region):
    shown = main.query("regions", "show", {"region": region})
    anchored = main.query("anchor", "last", {"region": region})
    return Standing(shown["status"], anchored["number"], anchored["epoch"], shown["epoch"])


def shown_of(region):
    head, anchored = region.query("export", "main_head", {}), region.query("export", "anchored", {})
    return Shown(head["epoch"], head["height"], anchored["number"])


def proven_of(main, region):
    name = regions.anchored_key(region)
    head = main.blocks[-1]
    following = set_of(head.result.next) if ends_epoch(head.header) else None
    signed = SignedHeader(head.header, head.certificate, following)
    number = main.query("anchor", "last", {"region": region})["number"]
    return Proven(signed, number, main.app.value(name) or b"", encode(main.app.prove(name)))


def test_sets_and_records_are_posted_in_their_order_until_nothing_is_due():
    region = Region(1, homes=1, epoch_blocks=4)
    main = Main([region.sponsor])
    main.admit(region)
    for _ in range(14):
        region.block(at_ms=region.time_ms + 60_000)
    closed = dict(enumerate(region.checkpoints, 1))
    rounds = 0
    while calls := due_on_main(1, standing_of(main, 1), closed.get, ends_of(region).get):
        assert len(calls) <= CALLS_MAX
        block = main.block([(region.seated[rounds % 4], call) for call in calls])
        assert [receipt.code for receipt in block.result.receipts] == ["ok"] * len(calls)
        rounds += 1
    assert rounds > 1
    assert standing_of(main, 1).anchored == len(closed) == 14
    # What is not here is not posted, and what follows it is not either.
    hole = {number: found for number, found in closed.items() if number != 2}
    early = Standing("live", 0, 0, 0)
    assert due_on_main(1, early, hole.get, ends_of(region).get) == [
        regions.checkpoint(1, 0, posted(closed[1]))
    ]
    ended = [call.entry for call in due_on_main(1, early, closed.get, {}.get)]
    assert ended == ["checkpoint"] * 4


def elected(chain, one, votes, number):
    """Have `one` stand for a seat of a chain, and be voted in; goes on to the next epoch."""
    chain.keys[one.public] = one
    chain.ok(one, governance.stand())
    chain.ok(votes[0], governance.propose_add(one.address, 100))
    for voter in votes[1:]:
        chain.ok(voter, governance.vote(number, True))
    epoch = set_of(chain.app.terms()).epoch
    while set_of(chain.app.terms()).epoch == epoch:
        chain.block()
    assert one.public in set_of(chain.app.terms()).publics


def test_who_is_voted_in_and_out_of_one_tier_is_known_to_the_other():
    region = Region(1, homes=1, epoch_blocks=8)
    main = Main([region.sponsor], epoch_blocks=8)
    main.admit(region)
    newcomer, delegate = region.home_keys[0], region.sponsor
    elected(region, newcomer, region.seated[:3], 1)
    # One of the first four goes; the newcomer's yes is among the four of five that it takes.
    region.ok(newcomer, governance.propose_remove(region.seated[0].address, 100))
    for voter in region.seated[1:4]:
        region.ok(voter, governance.vote(2, True))
    while region.height % 8:
        region.block()
    region.block(at_ms=region.time_ms + 60_000)
    publics = set_of(region.app.terms()).publics
    assert len(publics) == 4
    assert newcomer.public in publics
    assert region.seated[0].public not in publics
    elected(main, delegate, MAIN_KEYS[:3], 1)
    closed = dict(enumerate(region.checkpoints, 1))
    while calls := due_on_main(1, standing_of(main, 1), closed.get, ends_of(region).get):
        # Whoever is voted in may post, once it is known that it is.
        known = main.query("regions", "show", {"region": 1})["epoch"] > 0
        poster = newcomer if known else region.seated[1]
        assert {main.send(poster, call).code for call in calls} == {"ok"}
    assert standing_of(main, 1).anchored == len(closed)
    seats = main.query("regions", "authorities", {"region": 1, "epoch": 2})
    assert seats == [public.hex() for public in publics]
    while calls := due_in_region(shown_of(region), proven_of(main, 1), ends_of(main).get):
        for call in calls:
            region.ok(newcomer, call)
    assert shown_of(region).anchored == len(closed)
    follows = decode_plain(region.app.value("export/main"), 65_536)
    assert follows["keys"] == [public.hex() for public in set_of(main.app.terms()).publics]
    assert delegate.public.hex() in follows["keys"]


def test_of_a_region_that_is_out_nothing_is_due():
    region = Region(1, homes=1)
    region.block()
    closed = dict(enumerate(region.checkpoints, 1))
    for status, count in (("live", 1), ("halted", 1), ("proposed", 0), ("frozen", 0), ("left", 0)):
        assert len(due_on_main(1, Standing(status, 0, 0, 0), closed.get, {}.get)) == count


def test_two_blocks_at_one_height_are_shown_until_the_region_is_frozen():
    captured = Captured(1)
    main = Main([captured.sponsor])
    main.admit(captured)
    conflict = decode(bytes.fromhex(captured.conflict(5)), ConflictingCertificates, 4_096)
    assert conflict_due(1, standing_of(main, 1), None) == []
    for standing in (
        Standing("proposed", 0, 0, 0),
        Standing("live", 9, 1, 2),
        Standing("left", 0, 0, 0, answers=False),
    ):
        assert conflict_due(1, standing, conflict) == []
    assert len(conflict_due(1, Standing("left", 0, 0, 0, answers=True), conflict)) == 1
    (call,) = conflict_due(1, standing_of(main, 1), conflict)
    main.ok(captured.seated[3], call)
    assert main.query("regions", "show", {"region": 1})["status"] == "frozen"
    assert conflict_due(1, standing_of(main, 1), conflict) == []


def test_a_region_learns_what_is_anchored_over_epochs_of_the_main_chain():
    region = Region(1, homes=1)
    main = Main([region.sponsor], epoch_blocks=6)
    main.admit(region)
    for step in range(3):
        region.block(at_ms=region.time_ms + 60_000)
        assert main.anchor(region, region.checkpoints[-1]).code == "ok"
        for _ in range(7 * step):
            main.block()
        calls = due_in_region(shown_of(region), proven_of(main, 1), ends_of(main).get)
        assert [call.entry for call in calls[-2:]] == ["follow", "confirm"]
        for call in calls:
            region.ok(region.seated[step], call)
        assert region.query("export", "anchored", {})["number"] == step + 1
        assert due_in_region(shown_of(region), proven_of(main, 1), ends_of(main).get) == []
    # An answer that is older than what is known, and one of which an epoch's end is missing.
    late = shown_of(region)
    old = proven_of(main, 1)
    assert due_in_region(late._replace(main_height=10**6), old, {}.get) == []
    assert due_in_region(Shown(0, 0, 0), old, {}.get) == []
