"""What is told of a testnet is read strictly, and kept until the next time."""

import copy
from typing import Any

import msgspec
import pytest

from node.api.watched import NODES_MAX, WatchedGrid
from node.errors import AbsentError, ControlError
from tests.node.web.dashboard.samples import watched

TOLD: dict[str, Any] = msgspec.to_builtins(watched()["watched"])


async def test_the_last_that_was_told_is_kept() -> None:
    heard: list[int] = []
    testnet = WatchedGrid(lambda: heard.append(testnet.count))
    table = testnet.table()
    with pytest.raises(AbsentError, match="nobody watches"):
        await table["testnet"]({})
    await table["testnet_told"]({"told": TOLD})
    await table["testnet_told"]({"told": TOLD | {"now_s": 96.5}})
    found = await table["testnet"]({})
    assert (found["watched"].now_s, found["watched"].nodes[1].name) == (96.5, "home-02")
    assert found["told_s_ago"] >= 0
    assert heard == [1, 2]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ((), None, "Expected `object`"),
        (("now_s",), -1.0, "now_s"),
        (("now_s",), "soon", "now_s"),
        (("more",), 1, "unknown field"),
        (("nodes",), [], "nodes"),
        (("nodes",), TOLD["nodes"] * NODES_MAX, "nodes"),
        (("nodes", 0, "name"), "x" * 65, "name"),
        (("nodes", 0, "height"), 2**60, "height"),
        (("faults", 1, "nodes"), [5], "kill strikes node 5 of 5"),
        (("faults", 1, "nodes"), [-1], "nodes"),
    ],
)
async def test_what_is_no_such_thing_is_refused(
    path: tuple[Any, ...], value: Any, says: str
) -> None:
    told = copy.deepcopy(TOLD)
    testnet = WatchedGrid()
    if path:
        *way, last = path
        inner: Any = told
        for step in way:
            inner = inner[step]
        inner[last] = value
    with pytest.raises(ControlError, match=says):
        await testnet.told({"told": told if path else value})
    assert testnet.count == 0
