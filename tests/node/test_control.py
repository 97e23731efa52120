"""The control socket: one question per line, whatever else comes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from market.errors import QueryError
from node.api import control
from node.api.control import SOCKET_NAME, ControlServer, ask
from node.errors import ControlError
from tests.node.grid import PATIENCE_S, until
from wire.transaction import Refused

# The questions that have reached `hang`.
hanging: list[Mapping[str, Any]] = []


async def echo(question: Mapping[str, Any]) -> Any:
    return dict(question)


async def refuse(question: Mapping[str, Any]) -> Any:
    raise Refused("expired", "too late")


async def doubt(question: Mapping[str, Any]) -> Any:
    raise QueryError("not_a_home", "nobody")


async def scold(question: Mapping[str, Any]) -> Any:
    raise ControlError("count is a whole number")


async def fail(question: Mapping[str, Any]) -> Any:
    raise RuntimeError("secret detail")


async def odd(question: Mapping[str, Any]) -> Any:
    return object()


async def huge(question: Mapping[str, Any]) -> Any:
    return "x" * control.ANSWER_BYTES_MAX


async def hang(question: Mapping[str, Any]) -> Any:
    hanging.append(question)
    await asyncio.Event().wait()


ANSWERS = {
    "echo": echo,
    "refuse": refuse,
    "doubt": doubt,
    "scold": scold,
    "fail": fail,
    "odd": odd,
    "huge": huge,
    "hang": hang,
}


@contextlib.asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[ControlServer]:
    server = ControlServer(directory, ANSWERS)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def converse(directory: Path, *lines: bytes) -> list[Any]:
    """Send lines as they are on one connection; return the answers."""
    reader, writer = await asyncio.open_unix_connection(str(directory / SOCKET_NAME))
    answers = []
    try:
        for line in lines:
            writer.write(line + b"\n")
            answers.append(json.loads(await reader.readline()))
    finally:
        writer.close()
    return answers


async def test_a_question_is_answered_with_its_arguments(tmp_path: Path) -> None:
    async with serving(tmp_path):
        answer = await ask(tmp_path, "echo", count=3, text="ä\n")
        assert answer == {"ask": "echo", "count": 3, "text": "ä\n"}


async def test_only_the_owner_may_ask(tmp_path: Path) -> None:
    async with serving(tmp_path):
        assert (tmp_path / SOCKET_NAME).stat().st_mode & 0o777 == 0o600


async def test_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    async with serving(deep):
        assert await ask(deep, "echo") == {"ask": "echo"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("refuse", "expired: too late"),
        ("doubt", "not_a_home: nobody"),
        ("scold", "bad_question: count is a whole number"),
        ("fail", "internal: the node could not answer; its log says why"),
        ("odd", "internal: the node could not answer; its log says why"),
        ("huge", "too_large: the answer is too long"),
        ("nothing", "unknown_question: ask is one of: doubt, echo, fail, hang, huge"),
    ],
)
async def test_a_refusal_has_its_code_and_its_sentence(
    tmp_path: Path, name: str, words: str
) -> None:
    async with serving(tmp_path):
        with pytest.raises(ControlError) as caught:
            await ask(tmp_path, name)
        assert str(caught.value).startswith(words)
        assert await ask(tmp_path, "echo") == {"ask": "echo"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "no answer that can be read"),
        (b"[1]\n", "no answer that can be read"),
        (b"\xff\n", "no answer that can be read"),
        (b'{"ok": ' + b"[" * 60_000, "no answer that can be read"),
        (b"{}\n", "without a value"),
        (b'{"error": 7}\n', "None: 7"),
    ],
)
def test_an_answer_that_is_none_is_one_line(line: bytes, words: str) -> None:
    with pytest.raises(ControlError, match=words):
        control.answer_of(line)
    assert control.answer_of(b'{"ok": null}\n') is None


async def test_junk_is_answered_and_the_connection_goes_on(tmp_path: Path) -> None:
    junk = [b"junk", b"\xff\x00\xfe", b"[]", b"3", b"{" * 1_000, b"[" * 60_000, b""]
    async with serving(tmp_path):
        answers = await converse(tmp_path, *junk, b'{"ask": [1]}', b"{}", b'{"ask": "echo"}')
    assert [answer.get("code") for answer in answers] == [
        *["malformed"] * 7,
        *["unknown_question"] * 2,
        None,
    ]


async def test_an_oversized_question_ends_its_connection_only(tmp_path: Path) -> None:
    async with serving(tmp_path):
        with pytest.raises(ControlError, match="too_large: a question has at most 65536 bytes"):
            await ask(tmp_path, "echo", text="x" * 70_000)
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET_NAME))
        writer.write(b"x" * 10_000_000)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            await reader.read()
        writer.close()
        assert await ask(tmp_path, "echo") == {"ask": "echo"}


async def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CONNECTIONS_MAX", 2)
    path = str(tmp_path / SOCKET_NAME)
    async with serving(tmp_path) as server:
        open_ = [await asyncio.open_unix_connection(path) for _ in range(2)]
        open_[0][1].write(b'{"ask": "echo"}\n')
        assert json.loads(await open_[0][0].readline()) == {"ok": {"ask": "echo"}}
        with pytest.raises(ControlError, match="busy: at most 2 connections"):
            await ask(tmp_path, "echo")
        for _, writer in open_:
            writer.close()
            await writer.wait_closed()
        await until(lambda: not server._open, "the server has seen that they are closed")
        assert await ask(tmp_path, "echo") == {"ask": "echo"}


async def test_nobody_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=f"no node is running in {tmp_path}"):
        await ask(tmp_path, "echo")
    with pytest.raises(ControlError, match=r"no node is running in .*absent"):
        await ask(tmp_path / "absent", "echo")


async def test_a_slow_answer_is_waited_for_so_long(tmp_path: Path) -> None:
    async with serving(tmp_path):
        with pytest.raises(ControlError, match=r"did not answer in 0\.05 s"):
            await ask(tmp_path, "hang", timeout_s=0.05)


async def test_closing_ends_what_is_still_being_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        hanging.clear()
        waiting = asyncio.create_task(ask(tmp_path, "hang", timeout_s=PATIENCE_S))
        idle = await asyncio.open_unix_connection(str(tmp_path / SOCKET_NAME))
        idle[1].write(b'{"ask": "echo"}\n')
        assert await idle[0].readline() == b'{"ok":{"ask":"echo"}}\n'
        await until(lambda: len(hanging) == 1, "the question is being answered")
        await server.stop()
        with pytest.raises(ControlError, match="closed without an answer"):
            await waiting
        assert await idle[0].read() == b""
        idle[1].close()
        assert not (tmp_path / SOCKET_NAME).exists()
        await server.stop()


async def test_a_dead_nodes_socket_is_replaced(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, ANSWERS)
    await server.start()
    left = (tmp_path / SOCKET_NAME).stat().st_ino
    async with serving(tmp_path):
        assert (tmp_path / SOCKET_NAME).stat().st_ino != left
        assert await ask(tmp_path, "echo") == {"ask": "echo"}
    await server.stop()


async def test_stopping_with_somebody_connected_is_no_error(tmp_path: Path) -> None:
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    server = ControlServer(tmp_path, ANSWERS)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET_NAME))
    await until(lambda: len(server._open) == 1, "a connection")
    await server.stop()
    assert await reader.read() == b""
    writer.close()
    await asyncio.sleep(0)
    assert complaints == []
