"""Packets leave when their link would have carried them, in order, or are lost."""

import random
import socket
import struct

import pytest

from testnet.chaos import delayer
from testnet.chaos.delayer import WAITING_MAX, Link, Packet, Shape, attribute, packets
from testnet.chaos.wiring import rules


def link(
    delay_ms: float = 0, jitter_ms: float = 0, loss_percent: float = 0, rate_kbit: float = 0
) -> Link:
    return Link(Shape(delay_ms, jitter_ms, loss_percent, rate_kbit), random.Random(3))


def test_a_delay_is_that_long() -> None:
    assert link(delay_ms=50).due_s(10.0, 1_000) == pytest.approx(10.05)


def test_jitter_spreads_and_keeps_the_order() -> None:
    wire = link(delay_ms=50, jitter_ms=20)
    dues = [wire.due_s(10.0 + place, 100) for place in range(1_000)]
    late = [due - 10.0 - place for place, due in enumerate(dues) if due is not None]
    assert len(late) == 1_000
    assert sum(late) / 1_000 == pytest.approx(0.05, abs=0.003)
    assert 0 <= min(late) < 0.02
    assert max(late) > 0.08
    close = link(delay_ms=50, jitter_ms=20)
    times = [close.due_s(10.0 + place / 1_000, 100) or 0.0 for place in range(1_000)]
    assert times == sorted(times)


def test_so_many_are_lost() -> None:
    wire = link(loss_percent=2)
    lost = sum(wire.due_s(1.0, 100) is None for _ in range(10_000))
    assert 140 <= lost <= 260
    assert sum(link(loss_percent=0).due_s(1.0, 100) is None for _ in range(100)) == 0


def test_a_slow_link_sends_one_after_the_other() -> None:
    wire = link(delay_ms=10, rate_kbit=80)
    # 1,000 bytes at 80 kbit/s: 100 ms.
    assert [wire.due_s(5.0, 1_000) for _ in range(3)] == pytest.approx([5.11, 5.21, 5.31])
    assert wire.due_s(9.0, 1_000) == pytest.approx(9.11)


def test_a_link_holds_only_so_many() -> None:
    wire = link(delay_ms=50)
    wire.waiting = WAITING_MAX
    assert wire.due_s(1.0, 100) is None


def test_the_kernels_messages_are_read() -> None:
    header = struct.pack(">BBHHHBBH", 0x45, 0, 1_400, 0, 0, 64, 6, 0)
    payload = header + socket.inet_aton("10.77.0.1") + socket.inet_aton("10.77.0.9")
    body = struct.pack(">BBH", 2, 0, delayer.QUEUE)
    body += attribute(1, struct.pack(">IHBB", 77, 0x0800, 3, 0)) + attribute(10, payload)
    told = struct.pack("IHHII", 16 + len(body), (3 << 8) | 0, 0, 0, 0) + body
    other = struct.pack("IHHIIi", 20, 2, 0, 0, 0, 0)
    assert list(packets(told + other + told)) == [Packet(77, 1_400, "10.77.0.9")] * 2
    # What is not a packet of ours, or too short to be one.
    assert list(packets(b"\0" * 64)) == []
    assert list(packets(other)) == []


def test_a_namespaces_rules_are_one_table() -> None:
    assert rules(["10.0.0.2", "10.0.0.1"], ["10.0.0.3"]).splitlines() == [
        "*mangle",
        "-A INPUT -s 10.0.0.1 -j DROP",
        "-A INPUT -s 10.0.0.2 -j DROP",
        "-A OUTPUT -d 10.0.0.3 -j NFQUEUE --queue-num 47 --queue-bypass",
        "COMMIT",
    ]
    assert rules([], []) == "*mangle\nCOMMIT\n"
