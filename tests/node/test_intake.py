"""What neighbours may bring: each by itself, authorities more, newcomers less, all together."""

from node.intake import (
    ALL_BURST,
    ALL_PER_S,
    AUTHORITY_BURST,
    BURST,
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
    while brought < most and intake.afford(peer, 10):
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
    assert intake.afford("modest", 1)
    clock.s += 60
    assert intake.afford("modest", 1)
    brought = sum(affords(intake, f"flooder-{n}") for n in range(50))
    assert ALL_BURST - 10 * 50 <= brought <= ALL_BURST
    assert not intake.afford("flooder-new", 10)
    assert intake.afford("modest", 200)
    # It, too, is not for ever beyond what all may bring.
    assert affords(intake, "modest") < BURST
    clock.s += 1
    more = sum(affords(intake, f"flooder-{n}") for n in range(50))
    assert more <= ALL_PER_S


def test_an_authority_goes_on_when_all_others_bring_too_much() -> None:
    intake = Intake(lambda peer: peer == "authority", Clock())
    for number in range(50):
        affords(intake, f"flooder-{number}")
    assert affords(intake, "authority") == AUTHORITY_BURST


def test_what_is_remembered_is_bounded() -> None:
    intake = Intake(lambda _peer: False, Clock())
    for number in range(2 * PEERS_MAX):
        intake.afford(f"peer-{number}", 1)
    assert len(intake._rates) == PEERS_MAX


def test_a_home_stays_below_what_others_take_from_it() -> None:
    clock = Clock()
    for is_authority in (False, True):
        intake = Intake(lambda _peer, seat=is_authority: seat, clock)  # type: ignore[misc]
        own = own_allowance(is_authority, clock.s)
        for _ in range(2_000):
            clock.s += 0.05
            if own.take(256, clock.s):
                assert intake.afford("home", 256)
