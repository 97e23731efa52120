"""Replicas for which there is no memory say so, and the others run."""

import socket
import subprocess
import sys
from pathlib import Path

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


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, list[str]]:
    """What the name server says; three regions to join, and memory for 8 nodes."""
    names = {socket.gethostname(): ["10.0.0.2"], "home": ["10.0.0.1", "10.0.0.10", "10.0.0.2"]}
    monkeypatch.setattr(room, "addresses_of", lambda name: names[name])
    monkeypatch.setattr(room, "machine_mib", lambda: 800)
    (tmp_path / "join").write_text("one\ntwo\nthree\n")
    monkeypatch.setattr(sys, "argv", ["room", "home", "0", str(tmp_path / "join")])
    return names


def test_replicas_take_turns_at_the_regions(
    asked: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["home"] = [f"10.0.0.{number}" for number in range(1, 8)]
    for address in asked["home"]:
        asked[socket.gethostname()] = [address]
        room.main()
    assert capsys.readouterr().out.split() == [*("one", "two", "three") * 2, "one"]
    # Where the engine knows no names, there is nobody to take turns with.
    asked.update({socket.gethostname(): [], "home": []})
    room.main()
    assert capsys.readouterr().out == "one\n"


def test_a_replica_too_many_ends_and_says_why(
    asked: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sys.argv[2] = "6"
    room.main()
    asked[socket.gethostname()] = ["10.0.0.10"]
    with pytest.raises(SystemExit) as ended:
        room.main()
    assert ended.value.code == EXIT_NO_ROOM
    assert "scale to 2 at most" in capsys.readouterr().err


def test_without_a_line_to_give_it_ends(
    asked: dict[str, list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for wrong in ("", None):
        if wrong is None:
            (tmp_path / "join").unlink()
        else:
            (tmp_path / "join").write_text(wrong)
        with pytest.raises(SystemExit) as ended:
            room.main()
        assert ended.value.code == EXIT_NO_ROOM
        assert "no joining address" in capsys.readouterr().err


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
