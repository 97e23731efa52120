"""What is told of a testnet: who was away when, what was done, in a question's size."""

from typing import Any

import msgspec
import pytest

from node.api.control import QUESTION_BYTES_MAX
from node.api.watched import FAULTS_MAX, HEADS_MAX, Watched
from node.errors import ControlError
from testnet.telling import Diary, Telling


def status(height: int, chain: str = "street-1", voting: bool = True) -> dict[str, Any]:
    authority = 0 if voting else None
    return {
        "chain_id": chain,
        "height": height,
        "peers": [{}, {}],
        "authority": authority,
        "voting": voting,
    }


def read(watched: Watched) -> Watched:
    """Return it as a node reads it. Raises if it cannot be."""
    return msgspec.convert(msgspec.to_builtins(watched), Watched)


def test_who_is_away_and_comes_back() -> None:
    diary = Diary("f-lost", ["home-01", "home-02"])
    diary.saw(0.0, "home-01", None)
    diary.saw(1.0, "home-01", status(1))
    diary.saw(2.0, "home-01", None)
    diary.saw(2.5, "home-01", None)
    first, second = read(diary.watched(3.0)).nodes
    assert (first.is_up, first.height, first.away) == (False, 1, [(2.0, None)])
    # It was never seen: that is not the same as away.
    assert (second.chain, second.is_up, second.away) == ("", False, [])
    diary.saw(4.0, "home-01", status(5))
    first, _ = read(diary.watched(4.0)).nodes
    assert (first.is_up, first.height, first.away) == (True, 5, [(2.0, 4.0)])


def test_the_height_drawn_is_that_of_the_first_chain() -> None:
    diary = Diary("up", ["home-01", "home-02", "neutral-01"])
    assert diary.watched(0.0).heads == []
    diary.saw(1.0, "home-02", status(7))
    diary.saw(1.0, "neutral-01", status(99, "main-1"))
    diary.saw(1.0, "home-01", status(6))
    assert read(diary.watched(1.0)).heads == [(1.0, 7)]


def test_faults_begin_and_end() -> None:
    diary = Diary("split-brain", ["home-01", "home-02"])
    number = diary.begins(5.0, "kill", "home-02, neutral-01", ["home-02", "neutral-01"])
    assert read(diary.watched(6.0)).faults[0].ended_s is None
    diary.ends(7.04, number)
    (fault,) = read(diary.watched(8.0)).faults
    assert (fault.kind, fault.nodes, fault.began_s, fault.ended_s) == ("kill", [1], 5.0, 7.0)


@pytest.mark.parametrize("count", [4, 300])
def test_however_long_and_large_it_fits_into_a_question(count: int) -> None:
    names = [f"home-{place:03d}" for place in range(count)]
    diary = Diary("x" * 500, names)
    numbers = [diary.begins(1.0, "kill", "y" * 500, names) for _ in range(2 * FAULTS_MAX)]
    for at_s in range(2 * HEADS_MAX):
        for name in names[:: max(1, count // 100)]:
            diary.saw(at_s, name, status(at_s) if at_s % 2 else None)
        if at_s % 100 == 0 or count == 4:
            diary.watched(float(at_s))
    for number in numbers:
        diary.ends(9.0, number)
    watched = read(diary.watched(2.0 * HEADS_MAX))
    assert len(msgspec.json.encode({"ask": "testnet_told", "told": watched})) < QUESTION_BYTES_MAX
    assert watched.faults
    assert watched.heads[-1][1] == 2 * HEADS_MAX - 1


async def test_who_has_no_dashboard_is_not_told_again() -> None:
    asked: list[str] = []

    async def ask(name: str, question: str, **arguments: Any) -> Any:
        asked.append(name)
        assert question == "testnet_told"
        assert msgspec.convert(arguments["told"], Watched).title == "up"
        if name == "home-02":
            raise ControlError("unknown_question: ask is one of: status")
        if name == "home-03":
            raise ControlError("no node is running")

    diary = Diary("up", ["home-01"])
    telling = Telling(ask, ["home-01", "home-02", "home-03"])
    for _ in range(2):
        await telling.tell(diary.watched(1.0))
    assert asked == ["home-01", "home-02", "home-03", "home-01", "home-03"]
