"""Who is told of a transaction, and what becomes of a batch that arrives."""

from types import SimpleNamespace
from typing import Any, cast

from consensus.authorities import AuthoritySet
from node.chain.driver import Chain
from node.network.base import EXCESS, EXCESS_OFFENCES, GOSSIP_BYTES_MAX, Network, Peer
from node.pool.courier import PROTOCOL, Courier
from tests.node.grid import key_of
from wire.keys import peer_id_of

AUTHORITIES = AuthoritySet(0, tuple(key_of(number).public for number in range(7)))
IDS = [peer_id_of(public) for public in AUTHORITIES.publics]


class Spy:
    """A network and a mempool that note what is done with them."""

    def __init__(self, connected: list[int]) -> None:
        self.connected = connected
        self.sent: list[str] = []
        self.penalized: list[str] = []
        self.counted: list[int] = []
        self.taken: list[bytes] = []
        self.arrive: Any = None

    def on_send(self, protocol: str, handler: Any) -> None:
        assert protocol == PROTOCOL
        self.arrive = handler

    def peers(self) -> list[Peer]:
        return [Peer(IDS[number], "", None) for number in self.connected]

    def send(self, peer_id: str, protocol: str, data: bytes) -> bool:
        assert (protocol, data) == (PROTOCOL, b"batch")
        self.sent.append(peer_id)
        return True

    def penalize(self, peer_id: str, reason: str, count: int = 1) -> None:
        self.penalized.append(peer_id)
        self.counted.append(count)


def courier_of(spy: Spy, height: int, index: int | None = None) -> Courier:
    chain = SimpleNamespace(
        height=height, index=index, next_authorities=AUTHORITIES, other_authorities=IDS
    )
    return Courier(
        cast(Chain, chain),
        cast(Network, spy),
        lambda _peer, data: {b"bad": False, b"many": EXCESS, b"late": None}.get(data, True),  # type: ignore[arg-type]
        lambda _peer, data: spy.taken.append(data),
    )


def test_the_next_proposers_are_told_and_nobody_else() -> None:
    spy = Spy([0, 1, 2, 3, 4, 5, 6])
    assert courier_of(spy, height=11).hand_over(b"batch")
    assert spy.sent == [IDS[5], IDS[6], IDS[0], IDS[1]]


def test_who_proposes_itself_tells_the_others() -> None:
    spy = Spy([0, 1, 2, 3, 4, 5])
    assert courier_of(spy, height=11, index=6).hand_over(b"batch")
    assert spy.sent == [IDS[5], IDS[0], IDS[1]]


def test_if_one_of_them_is_not_connected_nothing_is_sent() -> None:
    spy = Spy([0, 2, 3, 4, 5, 6])
    assert not courier_of(spy, height=11).hand_over(b"batch")
    assert not spy.sent
    assert courier_of(spy, height=8).hand_over(b"batch")


def test_a_batch_that_arrives_is_checked_first() -> None:
    spy = Spy([])
    courier_of(spy, height=11)
    spy.arrive("peer", b"batch")
    spy.arrive("liar", b"bad")
    spy.arrive("glutton", bytes(GOSSIP_BYTES_MAX + 1))
    assert spy.taken == [b"batch"]
    assert spy.penalized == ["liar", "glutton"]


def test_a_batch_weighs_what_it_is_sent() -> None:
    spy = Spy([0, 1, 2, 3, 4, 5, 6])
    courier = courier_of(spy, height=11)
    courier.hand_over(b"batch")
    assert courier.weight() == len(spy.sent) / 3


def test_who_brings_too_much_is_blamed_for_it_unless_it_is_an_authority() -> None:
    spy = Spy([])
    courier_of(spy, height=11)
    spy.arrive("peer", b"many")
    spy.arrive(IDS[3], b"many")
    spy.arrive("peer", b"late")
    assert (spy.taken, spy.penalized) == ([], ["peer"])
    assert spy.counted == [EXCESS_OFFENCES]
    spy.arrive(IDS[3], b"bad")
    assert spy.penalized == ["peer", IDS[3]]
