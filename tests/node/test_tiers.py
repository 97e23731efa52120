"""A node of two chains, part by part: what belongs together, whose turn it is, what is kept."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import node.daemon
from consensus.checkpoint import Checkpoint
from consensus.light import SignedHeader
from market.agenda import MainAgenda, MarketAgenda
from market.client import Call, regions
from market.tiers import ExchangeRules, MainRules, Membership
from node.config import Config, MainSection, NetworkSection
from node.daemon import Node
from node.errors import ConfigError, GenesisError
from node.genesis import Genesis, write_genesis
from node.network.base import Network
from node.network.memory import Hub, MemoryNetwork
from node.regions.due import Proven, Shown, due_in_region
from node.regions.poster import Turns, up_to_head
from node.regions.registration import proofs_of, prove_possession, registration
from node.regions.shelf import ANCHORED_KEPT, Shelf, number_of
from node.tiers import check_main
from tests.node.grid import home_config, key_of, make_genesis
from tests.regions.grid import HALT_MS, SLOT_MS, Main, Region
from wire.codec import decode, decode_plain, encode

PUBLICS = tuple(key_of(number).public for number in range(4))


def region_of(main_id: str = "main", publics: tuple[bytes, ...] = PUBLICS) -> Genesis:
    return make_genesis(region=Membership(1, main_id, publics))


def main_of() -> Genesis:
    return make_genesis(homes=0, chain_id="main", main=MainRules())


def test_a_region_belongs_to_its_main_chain_and_to_no_other() -> None:
    here = Path("main.json")
    check_main(region_of(), main_of(), here)
    for region, main, words in (
        (main_of(), main_of(), "this one keeps the main chain"),
        (make_genesis(), main_of(), "this chain is no region"),
        (region_of(), make_genesis(), "is no main chain"),
        (region_of("another"), main_of(), "belongs to main chain another"),
        (region_of(publics=PUBLICS[::-1]), main_of(), "its first authorities"),
    ):
        with pytest.raises(GenesisError, match=words) as caught:
            check_main(region, main, here)
        assert str(caught.value).startswith("main.json: ")


def test_each_chain_has_a_network_key_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[str, bytes | None] = {}

    def network_of(genesis: Genesis, *rest: Any) -> Network:
        said[genesis.chain_id] = rest[4]
        return MemoryNetwork(key_of(0).peer_id, Hub())

    monkeypatch.setattr(node.daemon, "libp2p_of", network_of)
    region = region_of()
    write_genesis(main_of(), tmp_path / "main.json")
    for section, psk in (("network", bytes(32)), ("main", bytes(range(32)))):
        (tmp_path / f"{section}.key").touch(mode=0o600)
        (tmp_path / f"{section}.key").write_text(psk.hex())
    config = Config(
        network=NetworkSection(psk_file="network.key"),
        main=MainSection(psk_file="main.key"),
        directory=tmp_path,
    )
    Node(config, region, key_of(0), tmp_path / "data")
    assert said == {region.chain_id: bytes(32), "main": bytes(range(32))}
    Node(replace(config, main=MainSection()), region, key_of(0), tmp_path / "data")
    assert said == {region.chain_id: bytes(32), "main": None}
    (tmp_path / "main.key").chmod(0o644)
    with pytest.raises(ConfigError, match=r"main\.key: others may read this network key"):
        Node(config, region, key_of(0), tmp_path / "data")


def test_a_main_chain_has_no_homes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[home\] is for .* main is a main chain"):
        Node(Config(home=home_config(0)), main_of(), key_of(0), tmp_path)


def test_who_registers_needs_each_authoritys_proof() -> None:
    region = region_of()
    proofs = {public: bytes(64) for public in region.authorities}
    call = registration(region, "Region 1", proofs, 5)
    assert (call.contract, call.entry, call.args["region"]) == ("regions", "register", 1)
    assert call.args["genesis_hash"] == region.hash.hex()
    assert call.args["keys"] == [key.hex() for key in PUBLICS]
    del proofs[region.authorities[2]]
    with pytest.raises(GenesisError, match="has not proven that it holds its key"):
        registration(region, "Region 1", proofs, 5)
    with pytest.raises(GenesisError, match="is no region"):
        registration(make_genesis(), "Region 1", proofs, 5)


def test_proofs_are_read_as_they_are_printed() -> None:
    key, genesis = key_of(1), region_of()
    text = f"{key.public.hex()}={prove_possession(genesis, key).hex()}"
    assert proofs_of([text]) == {key.public: prove_possession(genesis, key)}
    for bad in ("", "=", text[:-2], text.replace("=", ""), "zz" + text[2:]):
        with pytest.raises(ConfigError, match="is no proof"):
            proofs_of([text, bad])


def test_turns_come_by_place_and_again_while_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("node.regions.poster.time.monotonic", lambda: now_s)
    turns = Turns()
    assert turns.wait_s("a", 2, 4, 3.0) == 6.0
    now_s += 5.0
    assert turns.wait_s("a", 2, 4, 3.0) == 1.0
    now_s += 1.0
    assert turns.wait_s("a", 2, 4, 3.0) <= 0
    # It was said; it is said again after a round of all of them.
    assert turns.wait_s("a", 2, 4, 3.0) == 12.0
    # Something else is due: the first in line says it at once.
    assert turns.wait_s("b", 0, 4, 3.0) <= 0


def test_who_has_said_the_beginning_says_the_rest_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("node.regions.poster.time.monotonic", lambda: now_s)
    calls = [Call("anchor", "checkpoint", {"number": number}) for number in range(3)]
    first, second = Turns(), Turns()
    assert first.take("a", calls[:1], 0, 4, 3.0) == (0.0, calls[:1])
    assert first.take("a", calls[:1], 0, 4, 3.0) == (12.0, [])
    assert first.take("a", calls[:2], 0, 4, 3.0) == (12.0, calls[1:2])
    assert first.take("a", calls[:2], 0, 4, 3.0) == (12.0, [])
    # Who stands behind says none of it before its turn, and then all of it.
    assert second.take("a", calls[:2], 1, 4, 3.0) == (3.0, [])
    now_s += 3.0
    assert second.take("a", calls, 1, 4, 3.0) == (0.0, calls)
    # What is still due after a round of all is said anew.
    now_s += 9.0
    assert first.take("a", calls, 0, 4, 3.0) == (0.0, calls)
    # The first has been taken: others wait for their turn at the next.
    assert first.take("b", calls[1:], 2, 4, 3.0) == (6.0, [])


@pytest.fixture(scope="module")
def checkpoints() -> list[Checkpoint]:
    region = Region(1, homes=1)
    for _ in range(4):
        region.block(at_ms=region.time_ms + 60_000)
    return region.checkpoints


async def test_checkpoints_are_kept_over_a_restart_and_forgotten_later(
    tmp_path: Path, checkpoints: list[Checkpoint]
) -> None:
    shelf = Shelf(tmp_path / "checkpoints")
    shelf.open()
    for checkpoint in checkpoints:
        shelf.put(number_of(checkpoint), checkpoint)
    assert await shelf.get(2) == checkpoints[1]
    await shelf.save(0)
    again = Shelf(tmp_path / "checkpoints")
    again.open()
    assert again.numbers == [1, 2, 3, 4]
    assert [await again.get(number) for number in range(1, 5)] == checkpoints
    assert await again.get(5) is None
    # What is damaged, or in the wrong place, is missing.
    folder = tmp_path / "checkpoints"
    (folder / "2.chk").write_bytes(b"\x93")
    (folder / "3.chk").write_bytes((folder / "4.chk").read_bytes())
    assert await again.get(2) is None
    assert await again.get(3) is None
    assert again.numbers == [1, 4]
    await again.save(ANCHORED_KEPT + 3)
    assert again.numbers == [4]
    assert sorted(file.name for file in folder.iterdir()) == ["2.chk", "3.chk", "4.chk"]


def test_blocks_come_for_what_the_second_tier_has_to_do() -> None:
    region = Region(1, homes=1)
    main = Main([region.sponsor])
    region.block()
    clock, state = region.app.clock, region.app._state
    closed_ms = region.query("export", "closed", {})["time_ms"]
    assert region.app.next_deadline_ms(closed_ms) <= closed_ms + 60_000
    agenda = MarketAgenda(state, clock, 0, checkpoint_ms=7)
    assert agenda.next_ms(closed_ms) == closed_ms + 7
    # Past, it waits for whatever block comes; without a tier there is no such moment.
    assert agenda.next_ms(closed_ms + 7) > closed_ms + 7
    assert MarketAgenda(state, clock, 0).next_ms(closed_ms) > closed_ms + 7
    main.admit(region)
    heard_ms = main.time_ms
    main.anchor(region, region.checkpoints[0])
    main.block(at_ms=heard_ms + 5_000)
    # The one block that halts it is made when it is due, and then there is nothing more to do.
    due_ms = MainAgenda(main.app._state, main.app.clock, halt_ms=100).next_ms(heard_ms)
    assert due_ms is not None
    assert heard_ms < due_ms <= heard_ms + 2_000
    assert main.app.next_deadline_ms(main.time_ms) <= main.time_ms + HALT_MS
    main.block(at_ms=main.time_ms + HALT_MS + 10)
    assert main.query("regions", "show", {"region": 1})["status"] == "halted"
    # Who was drawn has until then to answer; afterwards nothing happens by itself.
    (until_ms,) = (decode_plain(v, 64) for k, v in items_under(main, "audit/answer_by/"))
    quiet = MainAgenda(main.app._state, main.app.clock, halt_ms=1)
    assert quiet.next_ms(main.time_ms) == until_ms + 1
    assert quiet.next_ms(until_ms + 1) is None


def items_under(main: Main, folder: str) -> list[tuple[str, bytes]]:
    return [(key, value) for key, value in main.app.state_items() if key.startswith(folder)]


def test_a_main_chain_has_blocks_to_spare_for_what_it_is_told() -> None:
    """No gate, no end of a slot; one block as trade closes; auditors with the next that comes."""
    region = Region(1, homes=1)
    main = Main([region.sponsor], exchange=ExchangeRules(close_ms=SLOT_MS // 2))
    region.block()
    main.admit(region)
    clock, start_ms = main.app.clock, main.time_ms
    closes_ms = clock.slot_start_real_ms(clock.slot_at(start_ms)) + SLOT_MS // 2
    due_ms = main.app.next_deadline_ms(start_ms)
    assert due_ms == (closes_ms if closes_ms > start_ms else closes_ms + SLOT_MS)
    assert main.anchor(region, region.checkpoints[0]).code == "ok"
    assert main.query("audit", "status", {"region": 1})["duty"] is None
    assert main.app.next_deadline_ms(main.time_ms) == main.time_ms + 1_000
    main.block()
    assert main.query("audit", "status", {"region": 1})["duty"] is not None
    assert main.app.next_deadline_ms(main.time_ms) > main.time_ms + 1_000


def test_what_a_head_proves_is_shown_with_the_way_to_it() -> None:
    """Ends of epochs, then the head; nothing where the region could not follow."""
    main = Main([], epoch_blocks=4)
    for _ in range(9):
        main.block()
    heads = [decode(bytes.fromhex(main.signed_header(b)), SignedHeader, 8_000) for b in main.blocks]
    head = heads[8]
    assert (head.header.height, head.header.epoch) == (9, 2)
    proven = Proven(head, 0, b"", b"")
    ends = {0: heads[3], 1: heads[7]}
    for shown, follows in (
        (Shown(0, 0, 0), [4, 8, 9]),
        (Shown(1, 5, 0), [8, 9]),
        (Shown(2, 8, 0), [9]),
        (Shown(2, 9, 0), []),
    ):
        calls = up_to_head(due_in_region(shown, proven, ends.get), shown, proven)
        assert calls == [regions.follow(encode(heads[height - 1]).hex()) for height in follows]
    # An end is missing, or the region knows more than this node.
    for shown, known in ((Shown(0, 0, 0), {0: heads[3]}), (Shown(2, 10, 0), ends)):
        assert up_to_head(due_in_region(shown, proven, known.get), shown, proven) is None
