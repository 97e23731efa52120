"""Strangers get nothing of a closed community; an invitation lets one newcomer in, once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

import cli
from market import client
from node.api.registrar import invite
from node.config import Config, NetworkSection, settings_text
from node.errors import ConfigError, ControlError, PeerError
from node.genesis import Genesis, community_key, write_genesis
from node.membership.arrival import Arrival
from node.membership.invitations import (
    DAY_MS,
    FILE_BYTES_MAX,
    Invitation,
    make_invitation,
    read_invitation,
    write_invitation,
)
from node.membership.joining import Acceptance, Doorkeeper, GetGenesis, decode_acceptance
from node.membership.members import Members
from node.network.memory import Hub, MemoryNetwork
from node.proofs.light import visit_community
from node.setup import GENESIS_NAME, create_home, network_key
from tests.node.closed import PSK, Town, now_ms
from tests.node.grid import (
    REGULATOR,
    Grid,
    address_of,
    at_height,
    key_of,
    make_genesis,
    running,
    until,
)
from wire.codec import encode
from wire.keys import SigningKey, peer_id_of, public_key_of_peer

NEWCOMER = key_of(90)
SOMEBODY = key_of(91)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    made = Town()
    yield made
    await made.close()


def invitation(genesis: Genesis, *addresses: str, days: int = 7, **changes: Any) -> Invitation:
    made = make_invitation(
        genesis, addresses or (address_of(0),), PSK, now_ms() + days * DAY_MS, REGULATOR
    )
    return replace(made, **changes)


# -- who is let in


def test_a_peer_id_holds_its_key() -> None:
    for number in range(5):
        key = key_of(number)
        assert public_key_of_peer(key.peer_id) == key.public
    zeros = bytes(32)
    assert public_key_of_peer(peer_id_of(zeros)) == zeros
    good = key_of(0).peer_id
    for text in ("", "1", good[:-1], good + "1", "1" + good, good[1:], "0" + good[1:], "z" * 65,
                 "Qm" + good[2:], "é"):  # fmt: skip
        assert public_key_of_peer(text) is None, text


def test_members_are_whom_the_chain_knows() -> None:
    town = Town()
    allowed = town.members.allowed
    assert all(allowed(key_of(number).peer_id) for number in range(5))
    assert allowed(REGULATOR.peer_id)
    assert not allowed(NEWCOMER.peer_id)
    assert not allowed("nobody")
    door = key_of(92)
    town.do(client.invite(door.address, town.now_ms() + DAY_MS))
    assert allowed(door.peer_id)
    town.do(client.accept_invite(NEWCOMER.address), door)
    assert (allowed(door.peer_id), allowed(NEWCOMER.peer_id)) == (False, True)
    town.ahead_ms = 31 * DAY_MS
    assert not allowed(NEWCOMER.peer_id)


def test_who_was_put_in_anothers_place_is_let_in_and_a_thief_is_not() -> None:
    town = Town()
    allowed = town.members.allowed
    home, new = key_of(4), NEWCOMER
    town.do(client.offer_key(home.address, "account", new.address))
    # From the regulator's word on, so that the new node can fetch the chain and take its place.
    assert (allowed(home.peer_id), allowed(new.peer_id)) == (False, True)
    town.do(client.take_key(), new)
    assert (allowed(home.peer_id), allowed(new.peer_id)) == (False, True)


def test_a_node_whose_account_has_a_new_key_stays() -> None:
    town = Town()
    home, new = key_of(4), NEWCOMER
    town.do(client.offer_key(home.address, "account", new.address), home)
    town.do(client.take_key(), new)
    assert town.members.allowed(home.peer_id)


def test_a_node_without_the_chain_knows_its_first_neighbours() -> None:
    town = Town()
    blank = Members(town.genesis, (address_of(90),), now_ms)
    assert all(blank.allowed(key_of(number).peer_id) for number in (0, 1, 2, 3, 90))
    assert not blank.allowed(key_of(4).peer_id)


async def test_who_is_no_member_any_more_is_disconnected() -> None:
    town, hub = Town(), Hub()
    inside = MemoryNetwork(key_of(0).peer_id, hub, allowed=town.members.allowed)
    home = MemoryNetwork(key_of(4).peer_id, hub)
    for network in (inside, home):
        await network.start()
    try:
        home.want(address_of(0))
        await until(lambda: bool(inside.peers()), "they are connected")
        town.members.dismiss(inside)
        assert inside.peers()
        town.do(client.offer_key(key_of(4).address, "account", NEWCOMER.address))
        town.members.dismiss(inside)
        await until(lambda: not inside.peers(), "the thief is gone")
    finally:
        await home.stop()
        await inside.stop()


# -- strangers, by the real network


@pytest.mark.parametrize(
    ("key", "psk", "counter"),
    [(SOMEBODY, None, "hostile"), (SOMEBODY, bytes(32), "hostile"), (key_of(4), None, "hostile"),
     (SOMEBODY, PSK, "refused")],
    ids=["no network key", "a wrong one", "a member without it", "not on the list"],
)  # fmt: skip
async def test_strangers_get_nothing(
    town: Town, key: SigningKey, psk: bytes | None, counter: str
) -> None:
    where = await town.listen()
    (inside,) = town.networks

    async def visit() -> None:
        async with visit_community(town.genesis.hash, where, None, 60.0, key, psk) as source:
            await source.ask("join", encode(GetGenesis()))

    stranger = asyncio.create_task(visit())
    await until(lambda: inside.counters()[counter] > 0, "it knocked")
    assert inside.peers() == []
    assert not stranger.done()
    stranger.cancel()
    await asyncio.gather(stranger, return_exceptions=True)
    assert inside.counters()["requests_in"] == 0


async def test_an_invited_newcomer_comes_in_and_nobody_after_it(town: Town) -> None:
    where = await town.listen()
    made = invitation(town.genesis, where)
    town.do(client.invite(made.door_key.address, made.until_ms))
    arrival = Arrival(made, now_ms)
    assert await arrival.genesis() == town.genesis
    assert not town.members.allowed(NEWCOMER.peer_id)
    await arrival.accept(NEWCOMER)
    assert town.members.allowed(NEWCOMER.peer_id)
    late = Arrival(made, now_ms, connect_timeout_s=0.1)
    with pytest.raises(PeerError, match="it has been used or taken back"):
        await late.accept(SOMEBODY)
    assert not town.members.allowed(SOMEBODY.peer_id)


# -- what an invitation is refused for, in memory


async def asked(town: Town, made: Invitation, home: SigningKey = NEWCOMER) -> None:
    """Use an invitation with a town whose door opens to everybody: the chain alone says no."""
    hub = Hub()
    await town.open(MemoryNetwork(key_of(0).peer_id, hub))
    await Arrival(made, now_ms, lambda key: MemoryNetwork(key.peer_id, hub)).accept(home)


async def test_a_used_invitation_is_refused_by_the_chain(town: Town) -> None:
    made = invitation(town.genesis)
    town.do(client.invite(made.door_key.address, made.until_ms))
    town.do(client.accept_invite(SOMEBODY.address), made.door_key)
    with pytest.raises(PeerError, match="has been used or taken back; ask the regulator"):
        await asked(town, made)


async def test_one_that_the_regulator_took_back_is_refused(town: Town) -> None:
    made = invitation(town.genesis)
    town.do(client.invite(made.door_key.address, made.until_ms))
    town.do(client.revoke_invite(made.door_key.address))
    with pytest.raises(PeerError, match="has been used or taken back; ask the regulator"):
        await asked(town, made)


async def test_one_that_the_chain_was_never_told_of_is_refused(town: Town) -> None:
    with pytest.raises(PeerError, match="knows no such invitation"):
        await asked(town, invitation(town.genesis))


async def test_one_that_runs_out_on_its_way_is_refused_by_the_chain(town: Town) -> None:
    made = invitation(town.genesis)
    town.do(client.invite(made.door_key.address, town.now_ms() + 1_000))
    town.do(client.invite(key_of(93).address, town.now_ms() + DAY_MS))
    town.ahead_ms = 30_000
    with pytest.raises(PeerError, match="has run out; ask the regulator"):
        await asked(town, made)


async def test_only_the_use_of_an_invitation_is_passed_on(town: Town) -> None:
    hub = Hub()
    network = MemoryNetwork(key_of(0).peer_id, hub)
    submitted: list[bytes] = []
    keeper = Doorkeeper(town.genesis, town.app.query, network, submit=submitted.append)
    tx = client.sign_call(client.leave(), key_of(4), town.genesis.chain_id, 1, now_ms() + 1_000)
    for raw, code in ((tx.raw, "unknown_entry"), (b"\x00" * 40, "malformed")):
        answer = await keeper._answer(SOMEBODY.peer_id, encode(Acceptance(raw)))
        assert decode_acceptance(answer).code == code
    assert submitted == []


async def test_another_regulators_invitation_is_not_believed(town: Town) -> None:
    hub = Hub()
    await town.open(MemoryNetwork(key_of(0).peer_id, hub))
    forged = invitation(town.genesis, regulator=SOMEBODY.public.hex())
    forged = replace(forged, signature=SOMEBODY.sign(forged.signed_bytes).hex())
    arrival = Arrival(forged, now_ms, lambda key: MemoryNetwork(key.peer_id, hub))
    with pytest.raises(PeerError, match="not the regulator of"):
        await arrival.genesis()


def test_one_that_has_run_out_is_told_so_at_once() -> None:
    with pytest.raises(ConfigError, match=r"was good until .* UTC; ask the regulator"):
        Arrival(invitation(make_genesis(), days=-1), now_ms)


# -- the file


def test_an_invitation_is_read_back_and_is_its_owners(tmp_path: Path) -> None:
    made = invitation(make_genesis())
    file = tmp_path / "invite"
    write_invitation(made, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_invitation(file) == made
    assert (made.psk not in repr(made), made.door not in repr(made)) == (True, True)
    with pytest.raises(ConfigError, match="File exists"):
        write_invitation(made, file)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read this invitation"):
        read_invitation(file)


@pytest.mark.parametrize(
    "change",
    [{"until_ms": 2**47}, {"addresses": [address_of(7)]}, {"psk": "00" * 32}, {"door": "00" * 32},
     {"chain_id": "x"}, {"genesis_hash": "00" * 32}, {"regulator": "00" * 32}, {"more": 1},
     {"commonwatt-invitation": 2}, {"psk": "00"}, {"addresses": []}],
    ids=str,
)  # fmt: skip
def test_a_changed_invitation_is_refused_and_not_shown(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    made = invitation(make_genesis())
    file = tmp_path / "invite"
    write_invitation(made, file)
    file.write_bytes(msgspec.json.encode(msgspec.json.decode(file.read_bytes()) | change))
    with pytest.raises(ConfigError, match="not a whole invitation") as caught:
        read_invitation(file)
    assert made.psk not in str(caught.value)
    assert made.door not in str(caught.value)


def test_what_is_no_invitation_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "invite"
    file.touch(mode=0o600)
    whole = msgspec.json.encode(invitation(make_genesis()))
    for data in (b"", b"{}", b"\xff", b"[" * 5_000, b" " * FILE_BYTES_MAX + whole, whole[:-1]):
        file.write_bytes(data)
        with pytest.raises(ConfigError, match="not a whole invitation"):
            read_invitation(file)
    with pytest.raises(ConfigError, match="No such file"):
        read_invitation(tmp_path / "none")


def test_only_the_regulator_makes_one_and_only_with_an_address() -> None:
    genesis = make_genesis()
    with pytest.raises(ConfigError, match="signed by the regulator"):
        make_invitation(genesis, (address_of(0),), None, 1, SOMEBODY)
    with pytest.raises(ConfigError, match="give them by --address"):
        make_invitation(genesis, (), None, 1, REGULATOR)


def test_show_says_what_it_is_for_and_no_secret(tmp_path: Path) -> None:
    made = invitation(make_genesis())
    write_invitation(made, tmp_path / "invite")
    for options in ([], ["--json"]):
        shown = CliRunner().invoke(cli.app, ["invite", "show", str(tmp_path / "invite"), *options])
        assert shown.exit_code == 0
        assert made.until_text in shown.output
        assert REGULATOR.address in shown.output
        assert made.psk not in shown.output
        assert made.door not in shown.output


async def test_the_regulator_makes_one_that_the_chain_knows(tmp_path: Path) -> None:
    genesis = make_genesis(homes=4)
    grid = Grid(tmp_path, genesis)
    async with running(grid, range(4)) as members:
        await at_height(members, 1)
        here = members[0]
        write_genesis(genesis, here.directory / GENESIS_NAME)
        config = replace(here.config, directory=here.directory)
        file = tmp_path / "invite"
        made, _ = await invite(config, file, REGULATOR, 7, ())
        assert read_invitation(file) == made
        assert made.addresses == tuple(here.node.network.listen_addresses())
        open_now = here.node.app.query("registry", "invites", {})
        assert open_now == [[made.door_key.address, made.until_ms]]
        # What the chain refuses leaves no file.
        with pytest.raises(ControlError, match="bad_argument"):
            await invite(config, tmp_path / "late", REGULATOR, 91, ())
        assert not (tmp_path / "late").exists()


# -- the network's key


def test_a_networks_key_is_part_of_who_may_connect() -> None:
    genesis = make_genesis()
    keys = [community_key(genesis.hash, psk) for psk in (None, PSK, bytes(32))]
    assert len(set(keys)) == 3


def test_a_network_key_is_read_and_never_shown(tmp_path: Path) -> None:
    config = Config(network=NetworkSection(psk_file="network.key", closed=True), directory=tmp_path)
    create_home(tmp_path, settings_text(config), psk=PSK)
    assert network_key(config) == PSK
    assert network_key(Config()) is None
    file = tmp_path / "network.key"
    assert file.stat().st_mode & 0o777 == 0o600
    for wrong in (PSK.hex()[:-1], PSK.hex() + "0", "", "g" * 64):
        file.write_text(wrong)
        with pytest.raises(ConfigError, match="not a network key") as caught:
            network_key(config)
        assert PSK.hex()[:16] not in str(caught.value)
    file.write_text(PSK.hex())
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read this network key"):
        network_key(config)
