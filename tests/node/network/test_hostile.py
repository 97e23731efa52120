"""What strangers and misbehaving peers send: one log line, a count, and business as usual."""

import asyncio
import contextlib
import logging
import struct
from typing import Any

import pytest
import trio
from libp2p.host.exceptions import StreamFailure
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.yamux.yamux import FLAG_SYN, TYPE_DATA, YAMUX_HEADER_FORMAT
from libp2p.utils import encode_varint_prefixed

from node.network import _patches, _pubsub, _streams, _swarm
from node.network._limits import Limits
from node.network.base import GOSSIP_BYTES_MAX, NetworkError
from tests.node.network.homes import (
    PATIENCE_S,
    TOPIC,
    Home,
    Street,
    connect,
    on_side,
    say_until_heard,
    until,
)
from tests.node.network.test_guards import open_raw, peer_of, still_trades


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, having checked that it was by us and without a traceback."""
    for record in caplog.records:
        assert record.name == "commonwatt.network"
        assert record.exc_info is None
        assert "\n" not in record.getMessage()
    return [record.getMessage() for record in caplog.records]


async def closed(reader: asyncio.StreamReader) -> None:
    """Wait until the other end has closed a raw connection."""
    with contextlib.suppress(ConnectionResetError):
        await asyncio.wait_for(reader.read(-1), PATIENCE_S)


async def test_random_bytes_on_the_port(real: Street, caplog: pytest.LogCaptureFixture) -> None:
    victim, friend = await real.pair()
    caplog.clear()
    for data in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 16, b"\x00", b"\xff" * 64):
        reader, writer = await open_raw(victim)
        writer.write(data)
        writer.write_eof()
        await closed(reader)
        writer.close()
    await until(lambda: victim.count("hostile") == 4)
    assert len(lines(caplog)) == 1
    await still_trades(victim, friend)


async def test_connections_that_say_nothing(
    real: Street, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_swarm, "UPGRADE_TIMEOUT_S", 1.0)
    victim, friend = await real.pair()
    silent = [await open_raw(victim) for _ in range(_swarm.PENDING_PER_ADDRESS_MAX + 20)]
    await still_trades(victim, friend)
    # All are let go, those beyond the limit at once, and the slots are free again.
    for reader, _ in silent:
        await closed(reader)
    await connect(await real.start(2), victim)
    assert len(lines(caplog)) == 1
    for _, writer in silent:
        writer.close()


@pytest.mark.parametrize("bound", ["PENDING_PER_ADDRESS_MAX", "CONNECTIONS_MAX"])
async def test_handshakes_beyond_the_bound_are_closed_at_once(
    real: Street, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(_swarm, bound, 2)
    # Nobody is let go for being slow while this test is patient.
    monkeypatch.setattr(_swarm, "UPGRADE_TIMEOUT_S", 2 * PATIENCE_S)
    monkeypatch.setattr(_swarm, "NEGOTIATE_TIMEOUT_S", 2 * PATIENCE_S)
    victim = await real.start(0)
    opened = [await open_raw(victim) for _ in range(5)]
    ends = [asyncio.create_task(reader.read()) for reader, _ in opened]
    await until(lambda: sum(end.done() for end in ends) == 3)
    for _, writer in opened:
        writer.close()
    await asyncio.gather(*ends, return_exceptions=True)


async def test_a_negotiation_line_of_any_length_is_not_believed(real: Street) -> None:
    victim, friend = await real.pair()
    reader, writer = await open_raw(victim)
    writer.write(b"\xff\xff\xff\xff\x7f" + b"x" * 2_000)
    await closed(reader)
    writer.close()
    await until(lambda: victim.count("hostile") == 1)
    await still_trades(victim, friend)


@pytest.mark.parametrize("dialler", [0, 1])
async def test_another_community_cannot_connect(
    real: Street, caplog: pytest.LogCaptureFixture, dialler: int
) -> None:
    victim, friend = await real.pair()
    stranger = await real.start(2, psk=bytes(32))
    caplog.clear()
    homes = (victim, stranger) if dialler == 0 else (stranger, victim)
    homes[0].network.want(homes[1].address)
    await until(lambda: homes[0].count("dials_failed") >= 2)
    assert stranger.network.peers() == []
    assert victim.peer_ids() == {friend.peer_id}
    await until(lambda: homes[1].count("hostile") >= 1)
    assert len(lines(caplog)) == 1
    await still_trades(victim, friend)


async def test_another_node_at_a_wanted_address_is_not_taken_for_it(real: Street) -> None:
    first, second = await real.start(0), await real.start(1)
    absent = real.make(2).peer_id
    first.network.want(second.address.replace(second.peer_id, absent))
    await until(lambda: first.count("dials_failed") >= 2)
    assert first.network.peers() == []
    assert second.network.peers() == []


async def test_a_huge_frame_length_is_refused(real: Street) -> None:
    victim, friend = await real.pair()
    attacker = await real.start(2)
    await connect(attacker, victim)

    async def announce(side: Any) -> None:
        for protocol in (_streams.SEND_PROTOCOL, "/commonwatt/1/double", _streams.PEERS_PROTOCOL):
            stream = await side._host.new_stream(peer_of(side, victim), [protocol])
            await stream.write(b"\xff\xff\xff\xff" + b"x" * 100)
            await trio.sleep(0.05)

    await on_side(attacker, announce)
    await until(lambda: victim.count("hostile") == 3)
    await still_trades(victim, friend)


async def test_a_huge_answer_is_refused(real: Street) -> None:
    victim = await real.start(0)
    attacker = await real.start(1)
    await connect(attacker, victim)

    async def lie(side: Any) -> None:
        async def answer(stream: Any) -> None:
            await stream.write(b"\x00\xff\xff\xff\xff" + b"x" * 1_000)

        side._host.set_stream_handler("/commonwatt/1/double", answer)

    await on_side(attacker, lie)
    with pytest.raises(NetworkError, match="against the rules"):
        await victim.network.request(attacker.peer_id, "double", b"")
    assert victim.count("hostile") == 1


async def test_gossip_that_is_too_large_is_refused(real: Street) -> None:
    victim, friend = await real.pair()
    attacker = await real.start(2)
    await connect(attacker, victim)

    async def say(side: Any) -> None:
        await side._gossip.publish(TOPIC, bytes(GOSSIP_BYTES_MAX + 1))

    async def announce(side: Any) -> None:
        stream = await side._host.new_stream(peer_of(side, victim), [_pubsub.MESHSUB_ID])
        await stream.write(encode_varint_prefixed(bytes(_pubsub.RPC_BYTES_MAX + 1))[:100])
        # The stream ends before what was announced has come.
        with trio.fail_after(PATIENCE_S), contextlib.suppress(*_swarm.ENDED):
            assert not await stream.read(1)

    await on_side(attacker, say)
    await until(lambda: victim.count("gossip_invalid") == 1)
    await on_side(attacker, announce)
    assert victim.heard() == []
    await still_trades(victim, friend)


async def test_more_than_the_window_is_not_buffered(
    real: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_swarm, "BUFFERED_BYTES_MAX", 500_000)
    victim, friend = await real.pair()
    attacker = await real.start(2)
    await connect(attacker, victim)

    async def flood(side: Any) -> None:
        """Send on a stream that nobody reads, far beyond its window."""
        stream = await side._host.new_stream(peer_of(side, victim), [_streams.SEND_PROTOCOL])
        with contextlib.suppress(*_swarm.ENDED):
            for number in range(30):
                flags = 0 if number else FLAG_SYN
                head = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, flags, 999_999, 65_000)
                await stream.muxed_stream.conn._write_frame(head + bytes(65_000))

    await on_side(attacker, flood)
    await until(lambda: (attacker.peer_id, False) in victim.events)
    assert victim.count("hostile") >= 1
    await still_trades(victim, friend)


async def test_more_streams_than_allowed_are_refused(real: Street) -> None:
    victim, friend = await real.pair(limits=Limits(streams_max=8, offences_max=3))
    attacker = await real.start(2)
    await connect(attacker, victim)

    async def open_many(side: Any) -> None:
        peer = peer_of(side, victim)
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(open_one, side, peer)

    async def open_one(side: Any, peer: Any) -> None:
        with contextlib.suppress(StreamFailure, *_swarm.ENDED):
            await side._host.new_stream(peer, [_streams.SEND_PROTOCOL])

    await on_side(attacker, open_many)
    await until(lambda: victim.count("bans") == 1)
    await until(lambda: attacker.peer_id not in victim.peer_ids())
    await still_trades(victim, friend)


async def test_more_requests_at_once_than_allowed_are_refused(real: Street) -> None:
    victim, asker = real.make(0, limits=Limits(requests_max=2)), await real.start(1)
    ready = asyncio.Event()

    async def slow(peer_id: str, data: bytes) -> bytes:
        await ready.wait()
        return data

    victim.network.on_request("slow", slow)
    await victim.network.start()
    await connect(asker, victim)
    ask = asker.network.request
    asked = [asyncio.create_task(ask(victim.peer_id, "slow", b"x", PATIENCE_S)) for _ in range(3)]
    await until(lambda: any(one.done() for one in asked))
    ready.set()
    said = await asyncio.gather(*asked, return_exceptions=True)
    assert said.count(b"x") == 2
    (refused,) = [one for one in said if isinstance(one, NetworkError)]
    assert "as many requests as it will" in str(refused)
    assert victim.count("refused") == 1


async def test_a_flood_of_gossip_ends_in_a_ban(real: Street) -> None:
    victim, attacker = await real.pair(limits=Limits(messages_per_s=0, messages_burst=50))
    for number in range(200):
        await attacker.network.publish(TOPIC, b"%d" % number)
    await until(lambda: victim.count("bans") >= 1)
    await until(lambda: attacker.peer_id not in victim.peer_ids())
    # Banned: it dials again, and is refused.
    await until(lambda: victim.count("refused") >= 1)
    assert attacker.peer_id not in victim.peer_ids()


async def test_one_author_cannot_make_its_neighbours_flood(real: Street) -> None:
    limits = Limits(author_messages_per_s=0, author_burst=20)
    middle = await real.start(0, limits=limits)
    author = await real.start(1, limits=Limits(peers_target=1))
    victim = await real.start(2, limits=Limits(peers_target=1))
    for home in (author, victim):
        await connect(home, middle)
    for number in range(100):
        await author.network.publish(TOPIC, b"%d" % number)
    # The author is cut off by whom it floods; who passed on what was taken has done nothing.
    await until(lambda: middle.peer_ids() == {victim.peer_id})
    assert middle.count("gossip_dropped") >= middle.network.limits.offences_max
    await until(lambda: len(victim.heard()) >= 20)
    await asyncio.sleep(0.2)
    assert len(victim.heard()) == 20
    assert victim.count("offences") == 0


async def test_gossip_of_strangers_is_refused_from_members(real: Street) -> None:
    members = {real.make(1).peer_id}
    victim = await real.start(0, allowed=lambda peer_id: peer_id in members)
    member = real.homes[0]
    await member.network.start()
    stranger = await real.start(2)
    await connect(member, victim)
    await connect(stranger, member)
    # More than the offences that bring a ban: who passes them on may only know more than we do.
    for number in range(15):
        await stranger.network.publish(TOPIC, b"from a stranger %d" % number)
    await until(lambda: victim.count("gossip_invalid") >= 15)
    await member.network.publish(TOPIC, b"from a member")
    await until(victim.heard)
    assert victim.heard() == [b"from a member"]
    assert victim.peer_ids() == {member.peer_id}
    assert victim.count("bans") == 0


async def test_asking_a_thousand_times_for_one_message_is_answered_once(
    real: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, attacker = await real.start(0), await real.start(1)
    await connect(attacker, victim)
    await victim.network.publish(TOPIC, bytes(50_000))
    await until(lambda: attacker.heard())

    async def want(side: Any) -> None:
        ids = [_patches.message_id(message) for message in side._gossip.router.mcache.msgs.values()]
        control = rpc_pb2.ControlMessage(iwant=[rpc_pb2.ControlIWant(messageIDs=ids * 1_000)])
        assert side._gossip.peer_queues[peer_of(side, victim)].push(rpc_pb2.RPC(control=control))

    sent: list[int] = []
    send_rpc = _pubsub.GuardedGossipSub.send_rpc

    def spy(self: Any, peer_id: Any, rpc: Any, priority: bool = False) -> None:
        sent.extend(len(message.data) for message in rpc.publish)
        send_rpc(self, peer_id, rpc, priority)

    monkeypatch.setattr(_pubsub.GuardedGossipSub, "send_rpc", spy)
    await on_side(attacker, want)
    await until(lambda: sent)
    await asyncio.sleep(0.2)
    assert sent == [50_000]
    assert attacker.peer_id in victim.peer_ids()


async def test_control_for_unknown_topics_leaves_no_trace(real: Street) -> None:
    victim, friend = await real.pair()
    attacker = await real.start(2)
    await connect(attacker, victim)
    control = rpc_pb2.ControlMessage(
        prune=[rpc_pb2.ControlPrune(topicID=f"t{n}", backoff=10**6) for n in range(100)],
        graft=[rpc_pb2.ControlGraft(topicID=f"t{n}") for n in range(100)],
        ihave=[rpc_pb2.ControlIHave(topicID=f"t{n}", messageIDs=[b"x"]) for n in range(100)],
    )
    subscriptions = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"t{n}") for n in range(200)]
    rpc = rpc_pb2.RPC(control=control, subscriptions=subscriptions)

    async def send(side: Any) -> None:
        peer = peer_of(side, victim)
        stream = await side._host.new_stream(peer, [_pubsub.MESHSUB_ID])
        await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
        # Once what follows is found to be nonsense, all before it has been read.
        await stream.write(encode_varint_prefixed(b"\xff\xfe\xfd\xfc no protobuf"))

    async def traces(side: Any) -> set[str]:
        router = side._gossip.router
        named: set[str] = set(router.back_off) | set(side._gossip.peer_topics)
        for table in (router.graft_flood_tracking, router.ihave_message_limits):
            for topics in table.values():
                named |= set(topics)
        return {name for name in named if name.startswith("t")}

    await on_side(attacker, send)
    await until(lambda: victim.count("hostile") == 1)
    assert await on_side(victim, traces) == set()
    await still_trades(victim, friend)


async def test_too_many_parts_in_an_rpc_are_refused(real: Street) -> None:
    victim, friend = await real.pair()
    attacker = await real.start(2)
    await connect(attacker, victim)
    parts = [
        rpc_pb2.RPC(publish=[rpc_pb2.Message(topicIDs=["t"])] * 2_000),
        rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid="t")] * 500),
        rpc_pb2.RPC(
            control=rpc_pb2.ControlMessage(prune=[rpc_pb2.ControlPrune(topicID="t")] * 1_000)
        ),
    ]

    async def send(side: Any) -> None:
        for rpc in parts:
            peer = peer_of(side, victim)
            stream = await side._host.new_stream(peer, [_pubsub.MESHSUB_ID])
            await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
            await trio.sleep(0.05)

    await on_side(attacker, send)
    await until(lambda: victim.count("hostile") == 3)
    await still_trades(victim, friend)


async def test_a_run_that_dies_is_started_again(
    real: Street, caplog: pytest.LogCaptureFixture
) -> None:
    victim, friend = await real.pair()
    caplog.clear()

    async def die(side: Any) -> None:
        async def boom() -> None:
            raise RuntimeError("libp2p has a bug")

        side._manager._nursery.start_soon(boom)

    await on_side(victim, die)
    await until(lambda: victim.count("restarts") == 1)
    await until(lambda: (friend.peer_id, False) in victim.events)
    await until(lambda: victim.network.peers() and friend.network.peers())
    # The friend may not have seen yet that its old connection is gone, with what it says on it.
    await say_until_heard(friend, b"after the restart", [victim])
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "libp2p has a bug" in errors[0].getMessage()


async def test_peers_refuse_to_be_more_than_allowed(real: Street) -> None:
    victim = await real.start(0, limits=Limits(peers_max=2))
    homes: list[Home] = []
    for number in (1, 2, 3):
        homes.append(await real.start(number, limits=Limits(peers_target=1)))
        homes[-1].network.want(victim.address)
    await until(lambda: victim.count("refused") >= 1)
    await until(lambda: len(victim.network.peers()) == 2)
    await until(lambda: sum(bool(home.network.peers()) for home in homes) == 2)
