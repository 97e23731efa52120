"""Whom there is room for: places for pinned and dialled peers, and for who comes from elsewhere."""

import pytest

from node.network._room import Guest, Place, place_for, range_of


def came(number: int, host: str = "10.0.0.1") -> Guest:
    return Guest(f"p{number}", host, False)


def dialled(number: int) -> Guest:
    return Guest(f"d{number}", "10.9.9.9", True)


def test_who_comes_from_outside_leaves_places_for_those_that_are_dialled() -> None:
    here: list[Guest] = []
    for number in range(20):
        if place_for(came(number), here, (), 8) is not None:
            here.append(came(number))
    assert len(here) == 6
    for number in range(5):
        if place_for(dialled(number), here, (), 8) is not None:
            here.append(dialled(number))
    assert len(here) == 8
    # The places of those that were dialled are not made smaller by who comes.
    assert place_for(came(30), here, (), 8) is None


def test_pinned_peers_always_have_room_and_take_nobodys_place() -> None:
    here = [came(number) for number in range(6)]
    assert place_for(came(7), here, {"p7"}, 8) == Place()
    assert place_for(came(7), here, {"p1"}, 8) == Place()


def test_another_range_of_addresses_takes_the_place_of_the_largest_ones_youngest() -> None:
    crowd = [came(number, f"10.0.0.{number}") for number in range(4)]
    here = [came(8, "192.0.2.1"), *crowd, came(9, "198.51.100.1")]
    assert place_for(came(7, "203.0.113.5"), here, (), 8) == Place(crowd[-1])
    assert place_for(came(7, "192.0.2.9"), here, (), 8) == Place(crowd[-1])
    # Its own range gains nothing by more names, and even shares change no more.
    assert place_for(came(7, "10.0.0.77"), here, (), 8) is None
    even = [came(number, f"10.0.{number % 2}.1") for number in range(6)]
    assert place_for(came(7, "10.0.0.9"), even, (), 8) is None


def test_pinned_and_dialled_peers_never_give_way() -> None:
    here = [Guest(f"d{n}", "10.0.0.1", True) for n in range(8)]
    assert place_for(came(1, "192.0.2.1"), here, (), 8) is None
    here = [came(number) for number in range(6)]
    names = {guest.name for guest in here}
    assert place_for(came(7, "192.0.2.1"), here, names, 8) == Place()


def test_a_small_node_has_room_for_as_many_as_it_says() -> None:
    for most in (1, 2, 3):
        here = [came(number) for number in range(most - 1)]
        assert place_for(came(9), here, (), most) is not None
        assert place_for(came(9), [*here, came(8)], (), most) is None


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("10.1.2.3", "10.1.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("::ffff:10.1.2.3", "10.1.2.0/24"),
        ("memory", "memory"),
    ],
)
def test_ranges(host: str, found: str) -> None:
    assert range_of(host) == found
