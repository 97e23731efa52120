"""A newcomer is shown the genesis, asks to be registered, is taken in, and is a home."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

import cli
import node.proofs.light
from market.errors import QueryError
from node.api.control import ask
from node.api.registrar import admit, admit_all, applications
from node.config import Config, NetworkSection, NodeSection, load_config, settings_text
from node.daemon import Node
from node.errors import ConfigError, ControlError, PeerError
from node.genesis import Genesis
from node.membership import joining
from node.membership.joining import (
    Application,
    ApplicationState,
    Doorkeeper,
    GetGenesis,
    JoiningAddress,
    ShownGenesis,
    application_of,
    capability,
    read_joining_address,
)
from node.network.memory import Hub, MemoryNetwork
from node.proofs.light import fetch_genesis, fetch_patiently
from node.setup import DATA_NAME, create_home
from testnet.report import money_conserved
from tests.node.grid import (
    REGULATOR,
    Grid,
    address_of,
    home_config,
    key_of,
    make_genesis,
    running,
    until,
)
from wire.codec import decode, encode
from wire.keys import SigningKey

NEWCOMER = key_of(80)


def application(key: SigningKey = NEWCOMER, **changes: Any) -> Application:
    """Return an application as its home signs it, then changed."""
    return replace(application_of("grid", "new", home_config(2), key), **changes)


# -- the address


def test_an_address_is_read_back() -> None:
    genesis = make_genesis()
    where = JoiningAddress(address_of(0), genesis.hash)
    assert read_joining_address(f" {where}\n") == where


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/ip4/127.0.0.1/tcp/4600#" + "00" * 32,
        address_of(0),
        address_of(0) + "#",
        address_of(0) + "#" + "00" * 31,
        address_of(0) + "#" + "zz" * 32,
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no joining address"):
        read_joining_address(text)


# -- the genesis


async def fetched(answer: bytes, genesis: Genesis) -> Genesis:
    """Return what is fetched from a neighbour that answers this."""
    hub = Hub()
    server = MemoryNetwork(key_of(0).peer_id, hub)

    async def show(peer: str, data: bytes) -> bytes:
        assert data == encode(GetGenesis())
        return answer

    server.on_request(joining.PROTOCOL, show)
    await server.start()
    try:
        where = JoiningAddress(address_of(0), genesis.hash)
        return await fetch_genesis(where, MemoryNetwork(NEWCOMER.peer_id, hub))
    finally:
        await server.stop()


async def test_the_genesis_is_fetched_by_its_hash() -> None:
    genesis = make_genesis()
    assert await fetched(encode(ShownGenesis(encode(genesis))), genesis) == genesis


async def test_another_genesis_than_the_addresss_is_refused() -> None:
    other = encode(ShownGenesis(encode(make_genesis(chain_id="other"))))
    with pytest.raises(PeerError, match="shows another genesis"):
        await fetched(other, make_genesis())
    with pytest.raises(PeerError, match="shows no genesis of this version"):
        await fetched(b"\x00", make_genesis())


async def test_a_neighbour_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    genesis = make_genesis()
    where = JoiningAddress(address_of(0), genesis.hash)
    left = [PeerError("away")] * 3

    async def fetch(asked: JoiningAddress) -> Genesis:
        assert asked == where
        if left:
            raise left.pop()
        return genesis

    monkeypatch.setattr(node.proofs.light, "fetch_genesis", fetch)
    monkeypatch.setattr(node.proofs.light, "RETRY_S", 0.0)
    assert await fetch_patiently(where, 60.0) == genesis
    left.append(PeerError("away"))
    with pytest.raises(PeerError, match="away"):
        await fetch_patiently(where, 0.0)


# -- applications


def test_an_application_says_what_the_genesis_would() -> None:
    home = home_config(2)
    can = capability(home)
    assert (can.role, can.battery_wh, can.pv_w, can.green) == ("prosumer", 5_000, 5_000, False)
    args = application().registration().args
    assert (args["address"], args["role"]) == (NEWCOMER.address, "prosumer")
    assert args["meter"] == NEWCOMER.derive("meter").address
    consumer = capability(home_config(1))
    assert (consumer.role, consumer.export_cap_w) == ("consumer", 0)


class Keeper:
    """A doorkeeper with a registry and a clock of its own."""

    def __init__(self) -> None:
        self.homes: set[str] = set()
        self.accounts: set[str] = set()
        self.now_s = 0.0
        network = MemoryNetwork(key_of(0).peer_id, Hub())
        self.keeper = Doorkeeper(make_genesis(), self.query, network, lambda: self.now_s)

    def query(self, contract: str, entry: str, args: dict[str, Any]) -> Any:
        if contract == "ledger":
            if args["address"] not in self.accounts:
                raise QueryError("unknown_account", "no account")
            return {**args, "balance_micro": 1, "held_micro": 0, "arrears_micro": 0}
        if args["address"] not in self.homes:
            raise QueryError("not_a_home", "no home")
        entry_of = application().registration().args
        return {**entry_of, "address": args["address"], "number": 1, "since_slot": 1}

    async def ask(self, asked: Application, peer: str = "a") -> str:
        answer = await self.keeper._answer(peer, encode(asked))
        return decode(answer, ApplicationState, 64).state


async def test_an_application_waits_until_it_is_registered() -> None:
    here = Keeper()
    assert await here.ask(application()) == "waiting"
    assert await here.ask(application(name="renamed")) == "refused"
    assert here.keeper.waiting() == [application()]
    here.homes.add(NEWCOMER.address)
    assert await here.ask(application()) == "registered"
    # The regulator may have been interrupted before it gave the first money.
    assert here.keeper.waiting() == [application()]
    here.accounts.add(NEWCOMER.address)
    assert await here.ask(application()) == "registered"
    assert here.keeper.waiting() == []


async def test_who_stops_asking_is_forgotten() -> None:
    here = Keeper()
    await here.ask(application())
    here.now_s += joining.FORGOTTEN_AFTER_S + 1
    assert here.keeper.waiting() == []


async def test_what_waits_is_bounded() -> None:
    here = Keeper()
    asked = [application(key_of(number)) for number in range(80, 81 + joining.WAITING_MAX)]
    for place, one in enumerate(asked[:-1]):
        assert await here.ask(one, str(place // joining.WAITING_PER_PEER_MAX)) == "waiting"
    assert await here.ask(asked[-1], "another") == "full"
    # Who waits may ask again.
    assert await here.ask(asked[0], "0") == "waiting"
    here.now_s += joining.FORGOTTEN_AFTER_S + 1
    several = [await here.ask(one, "one peer") for one in asked[:5]]
    assert several == ["waiting"] * joining.WAITING_PER_PEER_MAX + ["full"]


@pytest.mark.parametrize(
    "forged",
    [
        application(chain_id="other"),
        application(import_cap_w=1_000_000),
        application(account_signature=bytes(64)),
        application(meter=key_of(81).public),
        application(meter=NEWCOMER.public, meter_signature=application().account_signature),
    ],
    ids=["chain", "caps", "no signature", "another's meter", "one key"],
)
async def test_a_forged_application_is_refused(forged: Application) -> None:
    here = Keeper()
    assert await here.ask(forged) == "refused"
    assert here.keeper.waiting() == []


# -- all of it, over real nodes


async def test_a_newcomer_is_taken_in_and_has_its_home(tmp_path: Path) -> None:
    genesis = make_genesis(homes=4)
    grid = Grid(tmp_path / "street", genesis)
    async with running(grid, range(4)) as members:
        where = read_joining_address(f"{address_of(0)}#{genesis.hash.hex()}")
        key = NEWCOMER
        found = await fetch_genesis(where, MemoryNetwork(key_of(90).peer_id, grid.hub))
        config = Config(
            node=NodeSection(name="new"),
            network=NetworkSection(bootstrap=(where.address,)),
            home=home_config(2),
        )
        directory = tmp_path / "new"
        create_home(directory, settings_text(config), key)
        network = MemoryNetwork(key.peer_id, grid.hub)
        node = Node(config, found, key, directory / DATA_NAME, network)
        neighbour = members[0].config
        neighbour = replace(neighbour, directory=members[0].directory)
        async with node:
            stop = asyncio.Event()
            task = asyncio.create_task(node.run(stop))
            asking: list[dict[str, Any]] = []
            while not asking:
                asking = await applications(neighbour)
                await asyncio.sleep(0.05)
            (asked,) = asking
            assert (asked["address"], asked["name"]) == (key.address, "new")
            # A regulator that dies after the first half is shown the home again, and all others
            # are told of it meanwhile.
            half = await admit(neighbour, asked, REGULATOR, 0)
            assert (half.name, half.balance_micro) == ("new", 0)
            data = neighbour.path(neighbour.node.data)
            accounts = [row["account"] for row in await ask(data, "homes")]
            assert [one["balance_micro"] == 0 for one in accounts] == [False] * 4 + [True]
            assert money_conserved(await ask(data, "money"))
            assert await applications(neighbour) == [asked]
            done = await admit(neighbour, asked, REGULATOR, 5_000_000)
            assert (done.name, done.balance_micro) == ("new", 5_000_000)
            # Said twice, it changes nothing.
            again = await admit(neighbour, asked, REGULATOR, 5_000_000)
            assert again.balance_micro == 0
            await until(lambda: joining.registered(node.app.query, key.address), "it is a home")
            assert node.household is not None
            assert node.household.snapshot()["balance_micro"] == 5_000_000
            assert await applications(neighbour) == []
            stop.set()
            await task


async def test_only_the_regulators_key_takes_a_home_in(tmp_path: Path) -> None:
    grid = Grid(tmp_path, make_genesis(homes=4))
    async with running(grid, range(4)) as members:
        neighbour = replace(members[0].config, directory=members[0].directory)
        wanted = application().registration().args
        with pytest.raises(ControlError, match="not_regulator"):
            await admit(neighbour, wanted, key_of(0), 0)


async def test_many_are_taken_in_together_and_none_holds_up_another(tmp_path: Path) -> None:
    grid = Grid(tmp_path, make_genesis(homes=4))
    async with running(grid, range(4)) as members:
        neighbour = replace(members[0].config, directory=members[0].directory)
        keys = [key_of(number) for number in range(30, 54)]
        wanted = [
            application(key, name=f"new-{n}").registration().args for n, key in enumerate(keys)
        ]
        # One that the contract refuses, and one whose meter is another home's.
        wanted[3] = wanted[3] | {"role": "emperor"}
        wanted[5] = wanted[5] | {"meter": key_of(1).derive("meter").address}
        done, turned = await admit_all(neighbour, wanted, REGULATOR, 5_000_000)
        assert [one.name for one in done] == [f"new-{n}" for n in range(24) if n not in (3, 5)]
        assert {one.balance_micro for one in done} == {5_000_000}
        # One by one each has a block of its own.
        assert len({one.height for one in done}) < len(done)
        assert [(one.name, str(one.error).split(":")[0]) for one in turned] == [
            ("new-3", "bad_argument"),
            ("new-5", "duplicate_home"),
        ]
        data = neighbour.path(neighbour.node.data)
        homes = {row["home"]["address"]: row["account"] for row in await ask(data, "homes")}
        assert len(homes) == 4 + 22
        assert {homes[one.address]["balance_micro"] for one in done} == {5_000_000}
        # Whoever is turned away was given nothing.
        assert money_conserved(await ask(data, "money"))
        for one in turned:
            args = {"address": one.address}
            with pytest.raises(ControlError, match="unknown_account"):
                await ask(data, "query", contract="ledger", entry="balance", args=args)


# -- the command line


def test_init_asks_a_neighbour_for_the_genesis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genesis = make_genesis()
    where = JoiningAddress(f"/ip4/127.0.0.1/tcp/4600/p2p/{key_of(0).peer_id}", genesis.hash)

    async def fetch(asked: JoiningAddress, network: Any = None) -> Genesis:
        assert asked == where
        return genesis

    monkeypatch.setattr(node.proofs.light, "fetch_genesis", fetch)
    runner = CliRunner()
    addresses = tmp_path / "join"
    addresses.write_text(f"{where}\n")
    home = tmp_path / "home"
    options = ["--name", "attic", "--source", "synthetic", "--pv-w", "4000", "--battery-wh", "8000"]
    made = runner.invoke(cli.app, ["init", str(home), "--join", f"@{addresses}", *options])
    assert made.exit_code == 0, made.output
    config = load_config(home / "node.toml", {})
    assert (config.node.name, config.network.bootstrap) == ("attic", (where.address,))
    assert config.home is not None
    assert capability(config.home)[3:5] == (8_000, 4_000)
    before = (home / "node.key").read_text()
    again = runner.invoke(cli.app, ["init", str(home), "--join", str(where), "--if-missing"])
    assert again.exit_code == 0
    assert "there is a home already" in again.output
    assert (home / "node.key").read_text() == before
    refused = runner.invoke(cli.app, ["init", str(home), "--join", str(where)])
    assert isinstance(refused.exception, ConfigError)
    none = runner.invoke(cli.app, ["init", str(tmp_path / "x"), "--pv-w", "1"])
    assert "choose its --source" in str(none.exception)
    assert not (tmp_path / "x").exists()


def test_init_asks_on_a_terminal_for_what_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genesis = make_genesis()
    where = JoiningAddress(f"/ip4/127.0.0.1/tcp/4600/p2p/{key_of(0).peer_id}", genesis.hash)

    async def fetch(asked: JoiningAddress, network: Any = None) -> Genesis:
        del asked, network
        return genesis

    monkeypatch.setattr(node.proofs.light, "fetch_genesis", fetch)
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("node.cli.home.sys", terminal)
    home = tmp_path / "home"
    asked = ["init", str(home), "--join", str(where), "--pv-w", "4000"]
    typed = "attic\nsynthetic\nEurope/Berlin\n8000\n"
    made = CliRunner().invoke(cli.app, asked, input=typed)
    assert made.exit_code == 0, made.output
    assert "docs/mqtt.md" in made.output
    config = load_config(home / "node.toml", {})
    assert config.home is not None
    assert (config.node.name, config.home.zone) == ("attic", "Europe/Berlin")
    assert capability(config.home)[3:5] == (8_000, 4_000)
