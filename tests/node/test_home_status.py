from typing import Any

import pytest

from node.cli.home import _print_status

HOME: dict[str, Any] = {
    "balance_micro": 1_250_000,
    "bought_wh": 10,
    "sold_wh": 20,
    "saved_micro": 500_000,
    "sensors": [],
}
STATUS: dict[str, Any] = {
    "name": "home-01",
    "version": "0",
    "address": "cw1",
    "authority": None,
    "listens": [],
    "height": 7,
    "behind": 0,
    "peers": [],
    "mempool": 0,
    "finality_ms": {"count": 0},
    "rss_mib": 90,
    "cpu_s": 3,
}


def fault(channel: str, kind: str, outcome: str, readings: int) -> dict[str, Any]:
    return {"channel": channel, "kind": kind, "outcome": outcome, "readings": readings}


def test_bad_readings_are_told_by_channel(capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        fault("load", "missing", "refused", 12),
        fault("load", "spike", "doubted", 1),
        fault("pv", "night", "repaired", 3),
        # Of a home of a newer version.
        fault("pv", "eclipse", "repaired", 1),
    ]
    _print_status({**STATUS, "home": {**HOME, "sensors": found}}, has_home=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith("  sensors")] == [
        "load: 12 × there was no reading; it is forecast",
        "load: 1 × far above what this home ever takes; kept out of the forecast",
        "pv: 3 × production in the dark; taken as none",
        "pv: 1 × repaired",
    ]


def test_good_sensors_are_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    for home in (None, HOME):
        _print_status({**STATUS, "home": home}, has_home=home is not None)
    assert "sensors" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("catching_up", "line"),
    [
        (None, []),
        (
            {"height": 90, "target": 5_000, "blocks_per_s": 61.4, "left_s": 80, "snapshot": False},
            ["  catching up: height 90 of 5000, 61 blocks/s, 80 s left"],
        ),
        (
            {"height": 0, "target": 5_000, "blocks_per_s": None, "left_s": None, "snapshot": True},
            ["  catching up: height 0 of 5000, fetching a snapshot"],
        ),
    ],
)
def test_a_home_that_catches_up_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], catching_up: dict[str, Any] | None, line: list[str]
) -> None:
    _print_status({**STATUS, "home": None, "catching_up": catching_up}, has_home=False)
    lines = capsys.readouterr().out.splitlines()
    assert [one for one in lines if "catching" in one] == line
