"""What neighbours may bring: each by itself, authorities more, newcomers less, all together."""

from node.network.base import EXCESS
from node.pool.intake import (
    ALL_BURST,
    ALL_PER_S,
    AUTHORITY_BURST,
    BURST,
    CROWDED,
    FIRST,
    PEERS_MAX,
    PER_S,
    Intake,
    own_allowance,
)


class Clock:
    def __init__(self) -> None:
        self.s = 1_000.0

    def __call__(self) -> float:
        return self.s


def affords(intake: Intake, peer: str, most: int = 100_000) -> int:
    """Return how many transactions, in batches of 10, a peer may bring at once."""
    brought = 0
    while brought < most and intake.verdict(peer, 10, 0) is True:
        brought += 10
    return brought


def test_a_newcomer_has_little_and_a_neighbour_more() -> None:
    clock = Clock()
    intake = Intake(lambda _peer: False, clock)
    assert affords(intake, "home") == FIRST // 10 * 10
    clock.s += 1
    assert affords(intake, "home") in (PER_S, PER_S + 10)
    clock.s += 3_600
    assert affords(intake, "home") == BURST


def test_an_authority_may_bring_more() -> None:
    intake = Intake(lambda peer: peer == "authority", Clock())
    assert affords(intake, "authority") == AUTHORITY_BURST
    assert affords(intake, "home") == FIRST // 10 * 10


def test_many_together_bring_no_more_than_all_may_and_the_modest_go_on() -> None:
    clock = Clock()
    intake = Intake(lambda _peer: False, clock)
    assert intake.verdict("modest", 1, 0) is True
    clock.s += 60
    assert intake.verdict("modest", 1, 0) is True
    brought = sum(affords(intake, f"flooder-{n}") for n in range(50))
    assert ALL_BURST - 10 * 50 <= brought <= ALL_BURST
    # More than all may is nobody's fault, more than one may is its own.
    assert intake.verdict("flooder-new", 10, 0) is None
    assert intake.verdict("flooder-new", 1_000, 0) == EXCESS
    assert intake.verdict("modest", 200, 0) is True
    # It, too, is not for ever beyond what all may bring.
    assert affords(intake, "modest") < BURST
    clock.s += 1
    more = sum(affords(intake, f"flooder-{n}") for n in range(50))
    assert more <= ALL_PER_S


def test_where_much_waits_only_who_has_brought_little_brings_more() -> None:
    clock = Clock()
    intake = Intake(lambda peer: peer == "authority", clock)
    assert intake.verdict("modest", 1, 0) is True
    clock.s += 60
    assert intake.verdict("busy", 10, CROWDED) is True
    assert intake.verdict("busy", 10, CROWDED + 1) is None
    assert intake.verdict("modest", 10, CROWDED + 1) is True
    assert intake.verdict("authority", 10, CROWDED + 1) is True


def test_an_authority_goes_on_when_all_others_bring_too_much() -> None:
    intake = Intake(lambda peer: peer == "authority", Clock())
    for number in range(50):
        affords(intake, f"flooder-{number}")
    assert affords(intake, "authority") == AUTHORITY_BURST


def test_what_is_remembered_is_bounded() -> None:
    intake = Intake(lambda _peer: False, Clock())
    for number in range(2 * PEERS_MAX):
        intake.verdict(f"peer-{number}", 1, 0)
    assert len(intake._rates) == PEERS_MAX


def test_a_home_stays_below_what_others_take_from_it() -> None:
    clock = Clock()
    for is_authority in (False, True):
        intake = Intake(lambda _peer, seat=is_authority: seat, clock)  # type: ignore[misc]
        own = own_allowance(is_authority, clock.s)
        for _ in range(2_000):
            clock.s += 0.05
            if own.take(256, clock.s):
                assert intake.verdict("home", 256, 0) is True
