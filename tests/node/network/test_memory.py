"""The controls of the twin's hub."""

import asyncio

import pytest
import uvloop

from node.network.base import NetworkError
from tests.node.network.homes import TOPIC, Street, connect, until


async def test_a_partition_parts_and_heals(twins: Street) -> None:
    homes = [await twins.start(number) for number in range(4)]
    for home in homes:
        for other in homes:
            home.network.want(other.address)
    await until(lambda: all(len(home.network.peers()) == 3 for home in homes))
    names = [home.peer_id for home in homes]
    twins.hub.partition(names[:2], names[2:])
    await until(lambda: all(len(home.network.peers()) == 1 for home in homes))
    await homes[0].network.publish(TOPIC, b"apart")
    await asyncio.sleep(0.1)
    assert [home.heard() for home in homes] == [[], [b"apart"], [], []]
    twins.hub.heal()
    await until(lambda: all(len(home.network.peers()) == 3 for home in homes))
    await homes[0].network.publish(TOPIC, b"together")
    await until(lambda: all(b"together" in home.heard() for home in homes[1:]))


async def test_losses_are_by_link_and_repeatable(twins: Street) -> None:
    first, second = await twins.pair()
    twins.hub.drop(0.5, source=second.peer_id)
    for number in range(400):
        assert second.network.send(first.peer_id, "vote", b"%d" % number)
        assert first.network.send(second.peer_id, "vote", b"%d" % number)
    await until(lambda: len(second.sends) == 400)
    assert 150 < len(first.sends) < 250
    twins.hub.drop(1.0)
    with pytest.raises(NetworkError, match="did not answer"):
        await second.network.request(first.peer_id, "double", b"", timeout_s=0.1)


async def test_delays_keep_the_order(twins: Street) -> None:
    first, second = await twins.pair()
    twins.hub.delay(0.01, 0.08)
    began_s = asyncio.get_running_loop().time()
    for number in range(50):
        second.network.send(first.peer_id, "vote", b"%d" % number)
    assert first.sends == []
    await until(lambda: len(first.sends) == 50)
    assert asyncio.get_running_loop().time() - began_s >= 0.01
    assert [data for _, data in first.sends] == [b"%d" % number for number in range(50)]


async def test_what_is_under_way_is_lost_with_its_link(twins: Street) -> None:
    first, second = await twins.pair()
    twins.hub.delay(0.05)
    second.network.send(first.peer_id, "vote", b"lost")
    twins.hub.disconnect(first.peer_id, second.peer_id)
    await until(lambda: first.network.peers())
    second.network.send(first.peer_id, "vote", b"kept")
    await until(lambda: first.sends)
    assert [data for _, data in first.sends] == [b"kept"]


async def test_who_is_cancelled_as_the_answer_comes_ends(twins: Street) -> None:
    first, second = await twins.pair()
    twins.hub.drop(1.0)
    task = asyncio.create_task(second.network.request(first.peer_id, "double", b""))
    await asyncio.sleep(0)
    (answer,) = second.network._asked
    answer.set_result(b"late")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_two_networks_cannot_share_a_name(twins: Street) -> None:
    await twins.start(0)
    with pytest.raises(NetworkError, match="in use"):
        await twins.start(0)


def test_the_twin_runs_on_uvloop() -> None:
    async def run() -> None:
        twins = Street("memory")
        first, second = await twins.pair()
        await second.network.publish(TOPIC, b"x")
        assert await second.network.request(first.peer_id, "double", b"a") == b"aa"
        await until(first.heard)
        await twins.stop()

    uvloop.run(run())


def test_the_real_one_runs_on_uvloop() -> None:
    async def run() -> None:
        real = Street("libp2p")
        first = await real.start(0)
        second = await real.start(1)
        await connect(second, first)
        await second.network.publish(TOPIC, b"x")
        assert await second.network.request(first.peer_id, "double", b"a") == b"aa"
        await until(first.heard)
        await real.stop()

    uvloop.run(run())
