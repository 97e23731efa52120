"""What a region believes of the main chain: certified headers, and what they prove."""

from market.client import regions
from node.regions.checkpoints import make_checkpoint
from tests.market.vm.cpython import CPythonEngine
from tests.regions.forge import Captured
from tests.regions.grid import Main, Region
from wire.codec import encode


def grid(epoch_blocks: int = 1_000) -> tuple[Main, Region]:
    region = Region(1, homes=2, twin=CPythonEngine())
    main = Main([region.sponsor], epoch_blocks=epoch_blocks)
    main.admit(region)
    region.block()
    return main, region


def test_a_region_learns_that_its_record_is_anchored() -> None:
    main, region = grid()
    member = region.home_keys[0]
    assert region.query("export", "anchored", {})["number"] == 0
    assert main.anchor(region, region.checkpoints[0]).code == "ok"
    assert main.head is not None
    region.ok(member, regions.follow(main.signed_header(main.head)))
    receipt = region.ok(member, main.anchored(1))
    assert [event.name for event in receipt.events] == ["checkpoint_anchored"]
    assert region.query("export", "anchored", {}) == {
        "number": 1,
        "to_height": 1,
        "main_height": main.height,
        "time_ms": region.checkpoints[0].header.time_ms,
    }
    assert region.query("export", "main_head", {}) == {
        "epoch": 0,
        "height": main.height,
        "time_ms": main.time_ms,
    }
    assert region.refusal(member, main.anchored(1)).reason == "already_anchored"


def test_what_a_region_does_not_believe() -> None:
    main, region = grid()
    member = region.home_keys[0]

    def refused(call: regions.Call) -> str:
        return region.refusal(member, call).reason

    assert main.anchor(region, region.checkpoints[0]).code == "ok"
    earlier = main.blocks[-2]
    assert main.head is not None
    shown = main.signed_header(main.head)
    # Another chain's header, cut, and without a quorum.
    stranger = Captured(1)
    assert refused(regions.follow(shown[:-2])) == "malformed"
    assert refused(regions.follow("")) == "bad_argument"
    data = stranger.rotation(5, stranger.set, stranger.set)
    assert refused(regions.follow(data)) in ("bad_certificate", "malformed")
    assert refused(main.anchored(1)) == "unknown_header"
    region.ok(member, regions.follow(shown))
    assert refused(regions.follow(shown)) == "old_header"
    assert refused(regions.follow(main.signed_header(earlier))) == "old_header"
    # Another value, another region's, another header's.
    good = main.anchored(1)
    for changed in ({"value": encode({"number": 9}).hex()}, {"proof": "00"}, {"value": "zz"}):
        assert refused(good._replace(args=good.args | changed)) in ("not_proven", "malformed")
    main.block()
    assert main.head is not None
    region.ok(member, regions.follow(main.signed_header(main.head)))
    assert refused(good._replace(args=good.args | {"height": main.height})) == "not_proven"
    region.ok(member, good)


def test_the_main_chains_sets_are_followed_too() -> None:
    main, region = grid(epoch_blocks=4)
    member = region.home_keys[0]
    assert main.anchor(region, region.checkpoints[0]).code == "ok"
    while main.height < 13:
        main.block()
    skipped = main.blocks[-1]
    # A header of an epoch whose set is not known here proves nothing.
    call = regions.follow(main.signed_header(skipped))
    assert region.refusal(member, call).reason == "bad_certificate"
    for block in main.blocks:
        if block.header.height % 4 == 0 or block is skipped:
            region.ok(member, regions.follow(main.signed_header(block)))
    assert region.query("export", "main_head", {})["epoch"] == 3
    region.ok(member, main.anchored(1))


def test_another_record_of_the_same_number_is_seen() -> None:
    main, region = grid()
    member = region.home_keys[0]
    # The same authorities, on a state of their own: what the main chain was told is not ours.
    other = Region(1, homes=3)
    other.block()
    assert main.anchor(region, other.checkpoints[0]).code == "ok"
    assert main.head is not None
    region.ok(member, regions.follow(main.signed_header(main.head)))
    assert region.refusal(member, main.anchored(1)).reason == "fork"
    assert region.head is not None
    assert make_checkpoint(other.app, region.head.header, region.head.certificate) is None
