"""The parts that need no network: limits, addresses, the peer book, framing, the bridge."""

import asyncio
import contextlib
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.network import _bridge, _streams
from node.network._addresses import check_listen, check_peer, told_by
from node.network._book import BOOK_PEERS_MAX, PeerBook
from node.network._bridge import Inbox
from node.network._limits import (
    LOG_INTERVAL_S,
    REMEMBERED_PEERS_MAX,
    Authors,
    Budget,
    Limits,
    Offences,
    QuietLog,
    Rate,
    one_line,
)
from node.network.base import NetworkError
from tests.node.network.homes import key_of

PEER = key_of(0).peer_id
OTHER = key_of(1).peer_id


def address(peer_id: str = PEER, host: str = "ip4/10.0.0.1", port: int = 4001) -> str:
    return f"/{host}/tcp/{port}/p2p/{peer_id}"


# -- limits


def test_a_rate_lets_bursts_pass_and_refills() -> None:
    rate = Rate(per_s=10, burst=5, now_s=0)
    assert [rate.take(1, 0) for _ in range(6)] == [True] * 5 + [False]
    assert [rate.take(1, 0.25) for _ in range(3)] == [True, True, False]
    assert [rate.take(1, 100) for _ in range(6)] == [True] * 5 + [False]


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 3)), max_size=50))
def test_a_rate_is_never_beaten(takes: list[tuple[int, float]]) -> None:
    rate, now_s, taken = Rate(per_s=7, burst=20, now_s=0), 0.0, 0
    for amount, later_s in takes:
        now_s += later_s
        taken += amount if rate.take(amount, now_s) else 0
        assert taken <= 20 + 7 * now_s + 1e-6


def test_a_budget_names_the_limit_that_broke() -> None:
    budget = Budget(Limits(messages_burst=3, bytes_burst=100, bytes_per_s=1), 0)
    assert budget.problem(90, 0) is None
    assert budget.problem(50, 0) == "more bytes per second than allowed"
    assert budget.problem(1, 0) is None
    assert budget.problem(1, 0) == "more messages per second than allowed"


def test_offences_fade_and_bans_grow() -> None:
    limits = Limits(offences_max=3, offence_fades_s=10, ban_s=60, ban_max_s=200)
    offences = Offences(limits)
    assert [offences.add("p", now_s) for now_s in (0, 11, 22, 33)] == [False] * 4
    assert [offences.add("p", 33.0 + n) for n in range(2)] == [False, True]
    assert offences.banned("p", 90)
    assert not offences.banned("p", 100)
    assert offences.ban("p", 100) == 120
    assert offences.ban("p", 300) == 200
    assert offences.ban("p", 600) == 200
    # After behaving for as long as the longest ban it starts again at the shortest.
    assert offences.ban("p", 1_100) == 60
    assert not offences.banned("q", 0)


def test_what_is_remembered_of_strangers_is_bounded() -> None:
    offences, authors, quiet = Offences(Limits()), Authors(Limits()), QuietLog()
    for number in range(REMEMBERED_PEERS_MAX + 100):
        offences.ban(str(number), 0)
        authors.afford(b"%d" % number, 0)
        quiet.warn(str(number), "x", 0)
    assert not offences.banned("0", 1)
    assert offences.banned(str(REMEMBERED_PEERS_MAX + 99), 1)
    for table in (offences._records, authors._rates, quiet._seen):
        assert len(table) == REMEMBERED_PEERS_MAX


def test_one_line_a_minute_per_peer(caplog: pytest.LogCaptureFixture) -> None:
    quiet = QuietLog()
    with caplog.at_level(logging.WARNING):
        for now_s in (0, 1, 2, LOG_INTERVAL_S + 1):
            quiet.warn("p", "evil\n\x1b[31mtext", now_s)
        quiet.warn("q", "x", 3)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "p: evil··[31mtext",
        "p: evil··[31mtext (2 more since the last line)",
        "q: x",
    ]
    assert one_line("x" * 1_000) == "x" * 300 + "…"


# -- addresses


@pytest.mark.parametrize(
    "good", ["/ip4/127.0.0.1/tcp/4001", "/ip4/0.0.0.0/tcp/0", "/ip6/::1/tcp/65535"]
)
def test_addresses_to_listen_on(good: str) -> None:
    check_listen(good)


@pytest.mark.parametrize(
    "bad",
    ["", "127.0.0.1:4001", "/ip4/127.0.0.1/tcp/99999", "/ip4/::1/tcp/1", "/ip4/x/tcp/1",
     "/ip4/127.0.0.1/udp/4001", "/dns4/home/tcp/4001", "/ip4/127.0.0.1/tcp/4001/p2p/x"],
)  # fmt: skip
def test_what_is_no_address_to_listen_on(bad: str) -> None:
    with pytest.raises(NetworkError, match="expected /ip4/127"):
        check_listen(bad)


@pytest.mark.parametrize("host", ["ip4/10.0.0.1", "ip6/fe80::1", "dns4/home-1", "dns/home.lan"])
def test_addresses_of_peers(host: str) -> None:
    assert check_peer(address(host=host)) == PEER


@pytest.mark.parametrize(
    "bad",
    ["/ip4/10.0.0.1/tcp/4001", f"/ip4/10.0.0.1/tcp/0/p2p/{PEER}", "/ip4/10.0.0.1/tcp/1/p2p/x",
     f"/ip4/10.0.0.999/tcp/1/p2p/{PEER}", f"/ip4/10.0.0.1/udp/1/p2p/{PEER}",
     f"/ip4/10.0.0.1/tcp/1/p2p/{PEER}/p2p-circuit", f"/dns4/{'x' * 300}/tcp/1/p2p/{PEER}",
     f"/ip4/10.0.0.1/tcp/x/p2p/{PEER}", f"/p2p/{PEER}", "\x00", f"ip4/10.0.0.1/tcp/1/p2p/{PEER}"],
)  # fmt: skip
def test_what_is_no_address_of_a_peer(bad: str) -> None:
    with pytest.raises(NetworkError, match="no address of a peer"):
        check_peer(bad)


@given(st.text(max_size=300))
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    with contextlib.suppress(NetworkError):
        assert check_peer(text)


def test_what_a_peer_says_of_itself_is_seen_from_here() -> None:
    said = [
        address(host="ip4/0.0.0.0"),
        address(host="ip4/127.0.0.1"),
        address(host="ip4/10.0.0.1"),
        address(OTHER),
        "nonsense",
    ]
    assert told_by(PEER, said, "192.168.1.7") == [
        address(host="ip4/192.168.1.7"),
        address(host="ip4/10.0.0.1"),
    ]
    assert told_by(PEER, said, "127.0.0.1")[1] == address(host="ip4/127.0.0.1")
    assert told_by(PEER, said[:1], "") == []
    assert len(told_by(PEER, [address(port=n) for n in range(1, 99)], "10.0.0.1")) == 4


# -- the peer book


def test_a_book_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    book = PeerBook(path)
    book.load()
    for known in (address(port=1), address(OTHER), address(port=2)):
        book.add(known)
    assert book.changed
    book.save()
    again = PeerBook(path)
    again.load()
    assert not again.changed
    assert again.peer_ids() == [OTHER, PEER]
    assert again.addresses(PEER) == [address(port=2), address(port=1)]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff\xfe", b'{"version":2,"peers":[]}', b'{"version":1,"peers":[["x"]]}',
     b'{"version":1,"peers":[[1]]}', b" " * 2_000_000],
)  # fmt: skip
def test_a_bad_book_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "peers.json"
    path.write_bytes(content)
    book = PeerBook(path)
    book.load()
    assert book.peer_ids() == []
    assert path.read_bytes() == content
    assert len(caplog.records) == 1
    assert "starting with an empty one" in caplog.text


def test_a_book_that_cannot_be_written_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    book = PeerBook(tmp_path / "gone" / "peers.json")
    book.add(address())
    book.save()
    assert len(caplog.records) == 1


def test_a_book_is_bounded() -> None:
    book = PeerBook(None)
    for number in range(BOOK_PEERS_MAX + 5):
        book.add(address(peer_id=_peer_id(number)))
    assert len(book.peer_ids()) == BOOK_PEERS_MAX
    assert book.addresses(_peer_id(0)) == []
    for port in range(1, 20):
        book.add(address(port=port))
    assert book.addresses(PEER) == [address(port=port) for port in (19, 18, 17, 16)]


def _peer_id(number: int) -> str:
    from wire.keys import peer_id_of

    return peer_id_of(number.to_bytes(32, "big"))


# -- framing


@given(st.text("abc-./", min_size=1, max_size=128), st.binary(max_size=1_000))
def test_frames_come_back(name: str, data: bytes) -> None:
    framed = _streams.frame(name, data)
    assert int.from_bytes(framed[:4], "big") == len(framed) - 4
    assert _streams.unframe(framed[4:]) == (name, data)


@pytest.mark.parametrize("bad", [b"", b"\x05vote", b"\x02\xc3\xa4data"])
def test_what_is_no_frame(bad: bytes) -> None:
    with pytest.raises(_streams.FrameError):
        _streams.unframe(bad)


# -- the bridge


async def test_an_inbox_is_bounded_and_lets_the_loop_breathe() -> None:
    inbox = Inbox(asyncio.get_running_loop())
    order: list[str] = []
    taken = sum(inbox.put(lambda: order.append("call")) for _ in range(_bridge.INBOX_MAX + 5))
    assert taken == _bridge.INBOX_MAX
    assert inbox.put(lambda: order.append("must"), must=True)
    while len(order) < _bridge.INBOX_MAX + 1:
        before = len(order)
        await asyncio.sleep(0)
        assert len(order) - before <= _bridge.INBOX_BATCH_MAX
    assert order[-1] == "must"
    assert inbox.put(lambda: None, size=_bridge.INBOX_BYTES_MAX)
    assert not inbox.put(lambda: None, size=1)
    inbox.close()
    assert not inbox.put(lambda: None, must=True)
