"""Replicas for which there is no memory say so, and the others run."""

import socket
import subprocess
import sys

import pytest

from testnet import room
from testnet.room import EXIT_NO_ROOM, addresses_of, no_room

REPLICAS = [f"172.18.0.{number}" for number in (9, 10, 11, 100)]


def test_as_many_replicas_run_as_there_is_memory_for() -> None:
    # 17 nodes' worth: 13 others, and the first four.
    assert [no_room(one, REPLICAS, 13, 1_700) for one in REPLICAS] == [""] * 4
    refused = [bool(no_room(one, REPLICAS, 13, 1_599)) for one in REPLICAS]
    assert refused == [False, False, True, True]
    assert all(no_room(one, REPLICAS, 13, 1_000) for one in REPLICAS)
    assert not any(no_room(one, REPLICAS, 13, None) for one in REPLICAS)


def test_a_replica_that_the_name_server_does_not_know_yet_counts() -> None:
    assert no_room("172.18.0.12", REPLICAS[:2], 0, 200)
    assert not no_room("172.18.0.12", REPLICAS[:2], 0, 300)


def test_the_refusal_says_what_would_be_right() -> None:
    said = no_room(REPLICAS[-1], REPLICAS, 13, 1_500)
    assert "1500 MiB" in said
    assert "beside 13 others" in said
    assert "scale to 2 at most" in said


def test_it_asks_for_its_own_name_and_the_service_s(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {socket.gethostname(): ["10.0.0.2"], "home": ["10.0.0.1", "10.0.0.2"]}
    monkeypatch.setattr(room, "addresses_of", lambda name: names[name])
    monkeypatch.setattr(room, "memory_mib", lambda: 200)
    monkeypatch.setattr(sys, "argv", ["room", "home", "0"])
    room.main()
    monkeypatch.setattr(sys, "argv", ["room", "home", "1"])
    with pytest.raises(SystemExit) as ended:
        room.main()
    assert ended.value.code == EXIT_NO_ROOM
    assert "scale to 1 at most" in capsys.readouterr().err
    names[socket.gethostname()] = []
    room.main()


def test_a_name_that_is_none_has_no_addresses() -> None:
    assert addresses_of("no-such-service.invalid") == []
    assert addresses_of("localhost") == ["127.0.0.1"]


def test_it_loads_little() -> None:
    # Every replica runs it before its daemon, all at once.
    told = subprocess.run(
        [sys.executable, "-c", "import sys, testnet.room; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"msgspec", "asyncio", "typer"} & set(told.stdout.split())
