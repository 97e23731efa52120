"""A whole closed community over the real network, from the invitation to the newcomer's home."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
import node.membership.arrival
from node.api.registrar import admit, applications, invite
from node.config import Config, NetworkSection, NodeSection, load_config, settings_text
from node.daemon import Node
from node.errors import ConfigError, PeerError
from node.genesis import Genesis, read_genesis, write_genesis
from node.membership.joining import registered
from node.proofs.light import visit_community
from node.setup import GENESIS_NAME, create_home, data_directory, own_key
from tests.node.closed import PSK
from tests.node.grid import REGULATOR, key_of, make_genesis, until
from wire.keys import SigningKey

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def home_of(directory: Path, genesis: Genesis, addresses: list[str], number: int) -> Config:
    """Make a home of the closed community; return its settings."""
    config = Config(
        node=NodeSection(name=f"home-{number}"),
        network=NetworkSection(
            listen=addresses[number].partition("/p2p/")[0],
            bootstrap=tuple(one for one in addresses if one != addresses[number]),
            closed=True,
            psk_file="network.key",
        ),
    )
    create_home(directory, settings_text(config), key_of(number), psk=PSK)
    write_genesis(genesis, directory / GENESIS_NAME)
    return load_config(directory / "node.toml", {})


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Node]:
    """Run a node as the daemon does, from its files."""
    genesis = read_genesis(config.path(config.node.genesis))
    stop = asyncio.Event()
    async with Node(config, genesis, own_key(config), data_directory(config)) as one:
        task = asyncio.create_task(one.run(stop))
        try:
            yield one
        finally:
            stop.set()
            await task


async def typed(*words: str) -> Any:
    """Type a command, in a thread of its own."""
    return await asyncio.to_thread(CliRunner().invoke, cli.app, list(words))


async def test_from_the_invitation_to_the_newcomers_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genesis = make_genesis(homes=4)
    addresses = [
        f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{key_of(number).peer_id}" for number in range(4)
    ]
    configs = [
        home_of(tmp_path / f"home-{number}", genesis, addresses, number) for number in range(4)
    ]
    async with contextlib.AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(running(config)) for config in configs]
        await until(lambda: nodes[0].chain.height >= 1, "they decide blocks")
        # Who has the network's key but is on no list knocks in vain.
        refused = sum(one.network.counters()["refused"] for one in nodes)
        with pytest.raises(PeerError, match="cannot be reached"):
            async with visit_community(
                genesis.hash, addresses[0], None, 1.0, SigningKey.generate(), PSK
            ):
                pass
        assert sum(one.network.counters()["refused"] for one in nodes) > refused

        file = tmp_path / "anna.invite"
        await invite(configs[0], file, REGULATOR, 7, addresses)
        directory = tmp_path / "anna"
        listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
        words = ("--invite", str(file), "--listen", listen, "--source", "synthetic")
        made = await typed("init", str(directory), *words)
        assert made.exit_code == 0, (made.output, made.exception)
        assert "this home is let in; the invitation is used up" in made.output
        assert PSK.hex() not in made.output
        config_file = directory / "node.toml"
        config = load_config(config_file, {})
        assert (config.network.closed, config.network.bootstrap) == (True, tuple(addresses))

        # Refusals are waited for.
        monkeypatch.setattr(node.membership.arrival, "CONNECT_TIMEOUT_S", 3.0)
        # Begun again after an interruption it finds everything done.
        accepted = await typed("invite", "accept", str(file), "--config", str(config_file))
        assert accepted.output.endswith("is let in\n"), accepted.exception
        again = await typed("init", str(tmp_path / "again"), *words)
        assert isinstance(again.exception, PeerError)
        assert "it has been used or taken back" in str(again.exception)
        assert not (tmp_path / "again").exists()

        anna = await stack.enter_async_context(running(config))
        key = own_key(config)
        asking: list[dict[str, Any]] = []

        async def asked() -> None:
            while not asking:
                for one in configs:
                    asking.extend(await applications(one))
                await asyncio.sleep(0.1)

        await asyncio.wait_for(asked(), 120)
        await admit(configs[0], asking[0], REGULATOR, 1_000_000)
        await until(lambda: registered(anna.app.query, key.address), "anna is a home", 120)


def test_a_daemon_of_a_closed_community_wants_its_key(tmp_path: Path) -> None:
    genesis = make_genesis()
    address = f"/ip4/127.0.0.1/tcp/1/p2p/{key_of(0).peer_id}"
    config = home_of(tmp_path, genesis, [address], 0)
    (tmp_path / "network.key").unlink()
    with pytest.raises(ConfigError, match="the network key cannot be read"):
        Node(config, genesis, key_of(0), tmp_path / "data")
