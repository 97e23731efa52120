"""Into a closed main network come its authorities and the nodes of regions that it has let in."""

from pathlib import Path
from typing import Any

import pytest

import node.daemon
from consensus.authorities import AuthoritySet
from market.client import regions
from market.tiers import MainRules, Membership
from node.config import Config, MainSection
from node.daemon import Node
from node.genesis import community_key, write_genesis
from node.membership.members import Members
from node.network.base import Network
from node.network.libp2p import Libp2pNetwork
from node.network.memory import Hub, MemoryNetwork
from tests.market.street import SLOT
from tests.node.closed import LOOPBACK, PSK
from tests.node.grid import address_of, key_of, make_genesis, until
from tests.regions.forge import Captured, slot_totals
from tests.regions.grid import MAIN_KEYS, Main, Region, key, registration
from tests.regions.test_override import audited, overridden
from wire.keys import SigningKey

STRANGER = key("stranger")


def members_of(main: Main, *bootstrap: str) -> Members:
    """Return who is let in, at the main chain's own time."""
    members = Members(main.genesis, bootstrap, lambda: main.time_ms)
    members.bind(main.app.value)
    return members


def let_in(members: Members, *keys: SigningKey) -> list[bool]:
    return [members.allowed(one.peer_id) for one in keys]


def test_a_region_comes_in_with_the_quorum_and_not_before() -> None:
    region = Region(1, homes=1)
    main = Main([region.sponsor])
    members = members_of(main)
    assert all(let_in(members, *MAIN_KEYS, region.sponsor))
    assert not any(let_in(members, *region.seated, *region.home_keys, STRANGER))
    main.ok(region.sponsor, region.registration)
    for one in MAIN_KEYS[:2]:
        main.ok(one, regions.approve(1))
        assert not any(let_in(members, *region.seated))
    main.ok(MAIN_KEYS[2], regions.approve(1))
    assert all(let_in(members, *region.seated, region.sponsor))
    # The main chain knows nobody's homes: those read over their region's network.
    assert not any(let_in(members, *region.home_keys, *region.meters, STRANGER))


def test_who_proposes_a_region_of_strangers_lets_nobody_in() -> None:
    region = Region(1, homes=1)
    main = Main([region.sponsor])
    members = members_of(main)
    squatters = [key(f"squatter {seat}") for seat in range(4)]
    main.ok(region.sponsor, registration(7, "elsewhere", squatters))
    main.admit(region)
    assert not any(let_in(members, *squatters))
    assert all(let_in(members, *region.seated))


def test_a_founder_comes_in_by_a_line_of_bootstrap() -> None:
    region = Region(1, homes=1)
    main = Main([])
    listed = f"/ip4/127.0.0.1/tcp/1/p2p/{region.seated[0].peer_id}"
    assert let_in(members_of(main, listed), *region.seated) == [True, False, False, False]


def test_sets_that_are_kept_are_let_in_and_those_forgotten_are_not() -> None:
    """A new set is in with its rotation, the one before until its last block is audited."""
    region, newcomer = Captured(1), key("newcomer")
    main = Main([region.sponsor])
    main.admit(region)
    members = members_of(main)
    region.seated.append(newcomer)
    second = AuthoritySet(1, (*region.set.publics[1:], newcomer.public))
    before = next(one for one in region.seated if one.public == region.set.publics[0])
    first = region.first(slot_totals(SLOT))
    assert main.anchor(region, region.checkpoint(first)).code == "ok"
    assert let_in(members, before, newcomer) == [True, False]
    main.ok(before, regions.rotate(1, region.rotation(15, second, region.set)))
    assert let_in(members, before, newcomer) == [True, True]
    later = region.checkpoint(region.after(first, to_height=20), authorities=second)
    assert main.anchor(region, later).code == "ok"
    assert let_in(members, before, newcomer) == [True, True]
    main.block()
    for one in MAIN_KEYS:
        main.send(one, regions.audit_ok(1, 2))
    audited(main, region, [])
    assert let_in(members, before, newcomer) == [False, True]


def test_a_successors_set_is_let_in_and_the_lost_one_is_not() -> None:
    main, region, other, successor = overridden()
    members = members_of(main)
    assert all(let_in(members, *successor.seated, *other.seated, region.sponsor))
    lost = [one for one in region.seated if one not in successor.seated]
    assert len(lost) == 3
    assert not any(let_in(members, *lost))


def test_a_region_that_left_is_let_in_until_it_has_its_money_back() -> None:
    region = Region(1, homes=1)
    main = Main([region.sponsor])
    main.admit(region)
    members = members_of(main)
    main.ok(region.sponsor, regions.leave(1))
    assert all(let_in(members, *region.seated, region.sponsor))
    main.block(at_ms=main.time_ms + 60_000)
    assert all(let_in(members, *region.seated))
    main.ok(region.sponsor, regions.reclaim(1))
    assert not any(let_in(members, *region.seated))


def test_a_frozen_region_hears_of_it_and_is_shut_out_then() -> None:
    region = Captured(1)
    main = Main([region.sponsor])
    main.admit(region)
    members = members_of(main)
    main.ok(MAIN_KEYS[0], regions.report_conflict(1, 0, region.conflict(11)))
    assert all(let_in(members, *region.seated))
    main.block(at_ms=main.time_ms + 60_000)
    assert not any(let_in(members, *region.seated))


async def test_who_is_of_no_region_any_more_is_disconnected() -> None:
    region, hub = Region(1, homes=1), Hub()
    main = Main([region.sponsor])
    main.admit(region)
    members = members_of(main)
    inside = MemoryNetwork(key_of(0).peer_id, hub, allowed=members.allowed)
    post = MemoryNetwork(region.seated[0].peer_id, hub)
    home = MemoryNetwork(region.home_keys[0].peer_id, hub)
    for network in (inside, post, home):
        await network.start()
    try:
        post.want(address_of(0))
        home.want(address_of(0))
        await until(lambda: bool(inside.peers()), "the region's authority is in")
        await until(lambda: inside.counters()["refused"] > 0, "its home has knocked")
        members.dismiss(inside)
        assert [peer.peer_id for peer in inside.peers()] == [post.peer_id]
        main.ok(region.sponsor, regions.leave(1))
        main.block(at_ms=main.time_ms + 60_000)
        main.ok(region.sponsor, regions.reclaim(1))
        members.dismiss(inside)
        await until(lambda: not inside.peers(), "it has left")
    finally:
        for network in (home, post, inside):
            await network.stop()


async def test_by_the_real_network_too() -> None:
    """All have the network key; the list says who comes in."""
    region = Region(1, homes=1)
    main = Main([region.sponsor])
    main.ok(region.sponsor, region.registration)
    psk = community_key(main.genesis.hash, PSK)
    inside = Libp2pNetwork(MAIN_KEYS[0], LOOPBACK, psk, allowed=members_of(main).allowed)
    post = Libp2pNetwork(region.seated[0], LOOPBACK, psk)
    stranger = Libp2pNetwork(STRANGER, LOOPBACK, psk)
    networks = (inside, post, stranger)
    try:
        for network in networks:
            await network.start()
        (where,) = inside.listen_addresses()
        stranger.want(where)
        post.want(where)
        await until(lambda: inside.counters()["refused"] > 1, "both have knocked", 60.0)
        assert inside.peers() == []
        for one in MAIN_KEYS[:3]:
            main.ok(one, regions.approve(1))
        await until(lambda: bool(inside.peers()), "it comes again, and is let in", 60.0)
        refused = inside.counters()["refused"]
        await until(lambda: inside.counters()["refused"] > refused, "so does who is not", 60.0)
        assert [peer.peer_id for peer in inside.peers()] == [region.seated[0].peer_id]
    finally:
        for network in networks:
            await network.stop()


@pytest.mark.parametrize("closed", [False, True])
def test_the_settings_close_the_main_network_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    lists: dict[str, Any] = {}

    def network_of(genesis: Any, *rest: Any) -> Network:
        lists[genesis.chain_id] = rest[5]
        return MemoryNetwork(key_of(0).peer_id, Hub())

    monkeypatch.setattr(node.daemon, "libp2p_of", network_of)
    publics = tuple(key_of(number).public for number in range(4))
    main = make_genesis(homes=0, chain_id="main", main=MainRules())
    write_genesis(main, tmp_path / "main.json")
    config = Config(main=MainSection(closed=closed), directory=tmp_path)
    region = make_genesis(region=Membership(1, "main", publics))
    Node(config, region, key_of(0), tmp_path / "data")
    assert lists[region.chain_id] is None
    assert (lists["main"] is not None) == closed
    if closed:
        assert lists["main"](key_of(0).peer_id)
        assert not lists["main"](STRANGER.peer_id)
