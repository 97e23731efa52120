"""One regression test per defect of libp2p 0.8.1 in docs/adr/0001, by its number there.

Number 13 is in test_contract.py.
"""

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.pubsub.mcache import MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed

from node.network import _dialer, _patches, _pubsub, _swarm
from node.network._dialer import BACKOFF_MIN_S, JITTER
from node.network.base import NetworkError
from tests.node.network.homes import (
    PATIENCE_S,
    TOPIC,
    Home,
    Street,
    connect,
    key_of,
    on_side,
    until,
    until_on_side,
)


async def gossip_raw(attacker: Home, victim: Home, data: bytes) -> None:
    """Write bytes on a gossip stream of the attacker's own."""

    async def work(side: Any) -> None:
        peer = peer_of(side, victim)
        stream = await side._host.new_stream(peer, [_pubsub.MESHSUB_ID])
        await stream.write(data)
        await trio.sleep(0.05)

    await on_side(attacker, work)


def peer_of(side: Any, home: Home) -> Any:
    return next(state.peer_id for state in side._peers.all() if state.name == home.peer_id)


async def still_trades(first: Home, second: Home) -> None:
    """Assert that two homes never lost each other and still talk in every way."""
    assert second.peer_id in first.peer_ids()
    assert (second.peer_id, False) not in first.events
    assert first.count("restarts") == 0
    await second.network.publish(TOPIC, b"still here")
    await until(lambda: b"still here" in first.heard())
    assert await second.network.request(first.peer_id, "double", b"a") == b"aa"


async def test_guard_01_malformed_protobuf_on_the_gossip_stream(
    real: Street, caplog: pytest.LogCaptureFixture
) -> None:
    victim, friend = await real.pair()
    attacker = await real.start(2)
    await connect(attacker, victim)
    caplog.clear()
    await gossip_raw(attacker, victim, encode_varint_prefixed(b"\xff\xfe\xfd\xfc no protobuf"))
    await gossip_raw(attacker, victim, b"\xff" * 32)
    await until(lambda: victim.count("hostile") == 2)
    lines = [record for record in caplog.records if record.name == "commonwatt.network"]
    assert len(lines) == 1
    assert attacker.peer_id in lines[0].getMessage()
    assert lines[0].exc_info is None
    await still_trades(victim, friend)


async def test_guard_02_a_message_with_a_bad_key(real: Street) -> None:
    victim, friend = await real.pair()
    attacker = await real.start(2)
    await connect(attacker, victim)
    # An author id that holds no key, so that the key field is looked at, and is none.
    author = bytes.fromhex("1220") + bytes(32)
    message = rpc_pb2.Message(
        from_id=author, data=b"x", seqno=bytes(8), topicIDs=[TOPIC], signature=b"s" * 64
    )
    for key in (b"\x08\x63\x12\x02no", b"\xff\xff\xff", b"\x08\x00\x12\x01x"):
        message.key = key
        rpc = rpc_pb2.RPC(publish=[message])
        await gossip_raw(attacker, victim, encode_varint_prefixed(rpc.SerializeToString()))
    await until(lambda: victim.count("gossip_invalid") >= 3)
    assert victim.heard() == []
    await still_trades(victim, friend)


async def test_guard_02_gossip_its_author_did_not_sign(real: Street) -> None:
    victim, friend = await real.pair()
    attacker = await real.start(2)
    await connect(attacker, victim)

    async def forge(side: Any) -> None:
        message = rpc_pb2.Message(
            from_id=peer_of(side, victim).to_bytes()[:-1] + b"?",
            data=b"forged",
            seqno=bytes(8),
            topicIDs=[TOPIC],
            signature=bytes(64),
        )
        stream = await side._host.new_stream(peer_of(side, victim), [_pubsub.MESHSUB_ID])
        rpc = rpc_pb2.RPC(publish=[message])
        await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
        await trio.sleep(0.05)

    await on_side(attacker, forge)
    await until(lambda: victim.count("gossip_invalid") == 1)
    assert victim.heard() == []
    await still_trades(victim, friend)


async def test_guard_03_a_check_or_handler_that_raises(real: Street) -> None:
    def check(peer_id: str, data: bytes) -> bool:
        if data == b"trigger":
            raise RuntimeError("the application has a bug")
        return True

    victim, friend = await real.pair(check=check)
    attacker = await real.start(2)
    await connect(attacker, victim)
    await attacker.network.publish(TOPIC, b"trigger")
    with pytest.raises(NetworkError):
        await attacker.network.request(victim.peer_id, "bad", b"")

    async def truncated(side: Any) -> None:
        for protocol in ("/commonwatt/1/.peers", "/commonwatt/1/.send"):
            stream = await side._host.new_stream(peer_of(side, victim), [protocol])
            await stream.write(b"\x00\x00\x00\x02\xc1\xc1")
            await trio.sleep(0.05)

    await on_side(attacker, truncated)
    await until(lambda: victim.count("handler_errors") >= 2 and victim.count("hostile") == 2)
    await still_trades(victim, friend)


async def test_guard_04_slots_of_ended_connections_are_released(
    real: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_swarm, "CONNECTIONS_MAX", 3)
    victim = await real.start(0)
    for number in range(1, 6):
        guest = await real.start(number)
        await connect(guest, victim)
        await guest.network.stop()
        await until(lambda: not victim.network.peers())

    async def slots(side: Any) -> int:
        return int(side._host.get_network()._inbound_limiter.borrowed_tokens)

    await until_on_side(victim, slots, 0)


async def test_guard_05_plaintext_is_refused(real: Street) -> None:
    victim = await real.start(0)
    reader, writer = await open_raw(victim)
    for line in ("/multistream/1.0.0", "/plaintext/2.0.0"):
        writer.write(encode_varint_prefixed(line.encode() + b"\n"))
    answer = await asyncio.wait_for(reader.readexactly(20 + 4), PATIENCE_S)
    assert answer.endswith(b"\x03na\n")
    writer.close()


async def test_guard_06_a_restarted_node_is_heard_at_once(real: Street) -> None:
    victim, friend = await real.pair()
    for number in range(50):
        await friend.network.publish(TOPIC, b"before %d" % number)
    await until(lambda: len(victim.gossip) == 50)
    await friend.network.stop()
    await until(lambda: not victim.network.peers())
    again = await real.start(1)
    await connect(again, victim)
    for number in range(50):
        await again.network.publish(TOPIC, b"after %d" % number)
    await until(lambda: len(victim.gossip) == 100)


def test_guard_07_the_message_cache_knows_our_ids() -> None:
    cache = MessageCache(3, 5)
    message = rpc_pb2.Message(from_id=b"author", data=b"data", seqno=b"1", topicIDs=[TOPIC])
    cache.put(message)
    assert cache.window(TOPIC) == [_patches.message_id(message)]
    assert cache.get(_patches.message_id(message)) == message
    message.seqno = b"2"
    assert cache.get(_patches.message_id(message)) is not None


async def test_guard_08_more_than_ten_messages_a_second_arrive(real: Street) -> None:
    victim, friend = await real.pair()
    for number in range(60):
        await friend.network.publish(TOPIC, b"%d" % number)
        await asyncio.sleep(0.005)
    await until(lambda: len(victim.gossip) == 60)
    assert victim.heard() == [b"%d" % number for number in range(60)]


def test_guard_09_queues_hold_bursts_and_are_bounded_in_bytes() -> None:
    queue = _patches.BoundedRpcQueue()
    small = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=b"x")])
    pushed = sum(queue.push(small) for _ in range(_patches.RPC_QUEUE_MAX + 10))
    assert pushed == _patches.RPC_QUEUE_MAX == 1_024
    queue = _patches.BoundedRpcQueue()
    large = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=bytes(1_000_000))])
    assert sum(queue.push(large) for _ in range(10)) == 4
    assert queue.pop_nowait() == large
    assert queue.push(large)


async def test_guard_10_the_heartbeat_keeps_its_interval(
    real: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted: list[Any] = []
    monkeypatch.setattr(
        _pubsub.GuardedGossipSub, "_adapt_gossip_parameters", lambda router: adapted.append(router)
    )
    victim, friend = await real.pair()
    await friend.network.publish(TOPIC, b"x")
    await until(victim.heard)

    async def interval_s(side: Any) -> float:
        await trio.sleep(1.2)
        return float(side._gossip.router.heartbeat_interval)

    assert await on_side(victim, interval_s) == 1
    assert adapted == []


async def test_guard_11_a_checked_message_is_delivered_once(real: Street) -> None:
    checked: list[bytes] = []

    def check(peer_id: str, data: bytes) -> bool:
        checked.append(data)
        return True

    homes = [await real.start(number, check=check) for number in range(4)]
    for home in homes[1:]:
        await connect(home, homes[0])
    await until(lambda: all(len(home.network.peers()) == 3 for home in homes))
    await homes[3].network.publish(TOPIC, b"once")
    await until(lambda: all(home.heard() for home in homes[:3]))
    await asyncio.sleep(0.3)
    assert [home.heard() for home in homes] == [[b"once"]] * 3 + [[]]
    assert len(checked) == 3


async def test_guard_12_what_the_router_notes_is_forgotten(
    real: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pubsub, "JANITOR_S", 0.1)
    victim, friend = await real.pair()
    await friend.network.publish(TOPIC, b"x")
    await until(victim.heard)

    async def back_off(side: Any) -> None:
        side._gossip.router.back_off["gone"] = {"peer": 1}

    async def noted(side: Any) -> int:
        router = side._gossip.router
        return len(router.recent_message_deliveries) + len(router.back_off.get("gone", ()))

    await on_side(victim, back_off)
    await until_on_side(victim, noted, 0)


async def test_guard_14_a_port_in_use_is_refused(real: Street) -> None:
    first = await real.start(0)
    listen = first.address.rpartition("/p2p/")[0]
    second = real.make(1, listen=listen)
    with pytest.raises(NetworkError, match="is in use by another process"):
        await second.network.start()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        third = real.make(2, listen=f"/ip4/127.0.0.1/tcp/{other.getsockname()[1]}")
        with pytest.raises(NetworkError, match="is in use by another process"):
            await third.network.start()
    await connect(await real.start(3), first)


async def test_guard_15_a_silent_peer_is_noticed(
    real: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_swarm, "PING_INTERVAL_S", 0.3)
    victim, friend = await real.start(0), await real.start(1)
    async with Stall(victim) as stall:
        friend.network.want(stall.address)
        await until(lambda: victim.network.peers() and friend.network.peers())
        await until(lambda: any(peer.rtt_ms is not None for peer in victim.network.peers()))
        stall.stalled = True
        await until(lambda: not victim.network.peers() and not friend.network.peers())


async def test_guard_16_a_restarted_peer_is_back_soon(real: Street) -> None:
    first, second = await real.pair()
    listen = first.address.rpartition("/p2p/")[0]
    await first.network.stop()
    await until(lambda: not second.network.peers())
    again = await real.start(0, listen=listen)
    await until(lambda: again.network.peers() and len(second.events) == 3)
    assert second.events == [(first.peer_id, here) for here in (True, False, True)]
    assert await again.network.request(second.peer_id, "double", b"a") == b"aa"


async def test_guard_16_the_peer_book_outlives_a_restart(real: Street, tmp_path: Path) -> None:
    book = tmp_path / "peers.json"
    first = await real.start(0)
    second = await real.start(1, book=book)
    await connect(second, first)
    await second.network.stop()
    again = await real.start(1, book=book)
    await until(lambda: again.peer_ids() == {first.peer_id})


async def test_guard_16_dialling_backs_off(real: Street) -> None:
    home = await real.start(0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        began_s = time.monotonic()
        home.network.want(f"/ip4/127.0.0.1/tcp/{port}/p2p/{key_of(1).peer_id}")
        await until(lambda: home.count("dials_failed") >= 3)
        dials = home.count("dials")
    # At once, then the shortest back-off and its doubles after one another, less the jitter.
    shortest_s = BACKOFF_MIN_S * (1 - JITTER)
    assert time.monotonic() - began_s >= shortest_s * (2 ** (dials - 1) - 1)


async def test_guard_16_a_dial_without_an_end_is_a_failed_one(
    real: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dialer, "DIAL_TIMEOUT_S", 0.2)
    home = await real.start(0)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = mute.getsockname()[1]
        home.network.want(f"/ip4/127.0.0.1/tcp/{port}/p2p/{key_of(1).peer_id}")
        await until(lambda: home.count("dials_failed") >= 2)
    assert home.count("restarts") == 0


class Stall:
    """A relay in front of a home that can stop passing anything on, without closing."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.stalled = False
        self.address = ""

    async def __aenter__(self) -> "Stall":
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{self._home.peer_id}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.close()
        closed = [writer.wait_closed() for writer in self._writers]
        await asyncio.gather(*self._tasks, *closed, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await open_raw(self._home)
        self._writers += [writer, there_writer]
        for source, target in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, target))
            self._tasks.add(task)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            if not self.stalled:
                target.write(data)


async def open_raw(home: Home) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = home.address.split("/")
    return await asyncio.open_connection(parts[2], int(parts[4]))
