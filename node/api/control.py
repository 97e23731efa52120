"""The control socket: a Unix socket in the data directory, one JSON object per line each way.

Who may open the directory may ask; nothing listens on the network. A question is
`{"ask": NAME, ...}`; the answer is `{"ok": VALUE}` or `{"error": SENTENCE, "code": CODE}`.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from market.errors import QueryError
from node.errors import ControlError
from wire.transaction import CheckedTransaction, Refused

log = logging.getLogger("commonwatt.control")

SOCKET_NAME: Final = "control.sock"
CONNECTIONS_MAX: Final = 32
QUESTION_BYTES_MAX: Final = 65_536
ANSWER_BYTES_MAX: Final = 8 * 1_048_576
# A transaction in a question is hexadecimal text in quotes, with a little around all of them.
QUESTION_SPARE_BYTES: Final = 1_024

_TOO_LARGE: Final = f"a question has at most {QUESTION_BYTES_MAX} bytes"

Answer: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Any]]


class ControlServer:
    """Answers questions on `<directory>/control.sock` from a table of names."""

    def __init__(self, directory: Path, answers: Mapping[str, Answer]) -> None:
        self._directory = directory
        self._answers = answers
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Listen. A socket left by a dead process is replaced; the directory's lock is ours."""
        (self._directory / SOCKET_NAME).unlink(missing_ok=True)
        with _short(self._directory) as path:
            self._server = await asyncio.start_unix_server(
                self._serve, path, limit=QUESTION_BYTES_MAX
            )
        (self._directory / SOCKET_NAME).chmod(0o600)

    async def stop(self) -> None:
        """Close the socket and every connection; idempotent."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        serving = list(self._open.values())
        for task in serving:
            task.cancel()
        # The parts that answer are closed next.
        await asyncio.gather(*serving, return_exceptions=True)
        (self._directory / SOCKET_NAME).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._open) >= CONNECTIONS_MAX:
            writer.write(_line(_error("busy", f"at most {CONNECTIONS_MAX} connections at once")))
            writer.close()
            return
        self._open[writer] = task
        try:
            while True:
                try:
                    line = await reader.readline()
                except ValueError:
                    writer.write(_line(_error("too_large", _TOO_LARGE)))
                    break
                if not line:
                    break
                writer.write(await self._answer(line))
                await writer.drain()
        except ConnectionError:
            pass
        except asyncio.CancelledError:
            # By `stop`; the streams of Python 3.11 log a cancelled server task as an error.
            if self._server is not None:
                raise
        finally:
            del self._open[writer]
            writer.close()

    async def _answer(self, line: bytes) -> bytes:
        try:
            answer = _line(await self._find_answer(line))
        except (msgspec.MsgspecError, TypeError, ValueError):
            log.exception("an answer cannot be written as JSON")
            return _line(_error("internal", "the node could not answer; its log says why"))
        if len(answer) > ANSWER_BYTES_MAX:
            return _line(_error("too_large", "the answer is too long; ask for less"))
        return answer

    async def _find_answer(self, line: bytes) -> dict[str, Any]:
        try:
            question = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            return _error("malformed", f"a question is one JSON object per line: {error}")
        name = question.get("ask")
        answer = self._answers.get(name) if isinstance(name, str) else None
        if answer is None:
            known = ", ".join(sorted(self._answers))
            return _error("unknown_question", f"ask is one of: {known}")
        try:
            return {"ok": await answer(question)}
        except Refused as refused:
            return _error(refused.code, refused.message)
        except QueryError as error:
            return _error(error.code, error.message)
        except ControlError as error:
            return _error("bad_question", str(error))
        except Exception:
            log.exception("the question %s failed", name)
            return _error("internal", "the node could not answer; its log says why")


async def ask(directory: Path, name: str, *, timeout_s: float = 10.0, **arguments: Any) -> Any:
    """Ask the daemon that runs in `directory`.

    Raises
    ------
    ControlError
        Nobody answers there, or the question was refused.
    """
    question = _line({"ask": name, **arguments})
    if len(question) > QUESTION_BYTES_MAX:
        raise ControlError(f"too_large: {_TOO_LARGE}")
    try:
        async with asyncio.timeout(timeout_s):
            with _short(directory) as path:
                reader, writer = await asyncio.open_unix_connection(path, limit=ANSWER_BYTES_MAX)
            try:
                writer.write(question)
                line = await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        raise ControlError(f"the node in {directory} did not answer in {timeout_s:g} s") from None
    except (FileNotFoundError, ConnectionRefusedError):
        said = f"no node is running in {directory}: `commonwatt run` starts it"
        raise ControlError(said) from None
    except OSError as error:
        raise ControlError(f"no node can be asked in {directory}: {error.strerror}") from None
    except ValueError:
        raise ControlError(f"the node in {directory} gave too long an answer") from None
    if not line:
        raise ControlError(f"the node in {directory} closed without an answer")
    return answer_of(line)


def lots_of(signed: Sequence[CheckedTransaction]) -> list[list[CheckedTransaction]]:
    """Return transactions in lots that fit a question `submit_many` each, in their order."""
    lots: list[list[CheckedTransaction]] = []
    room = 0
    for item in signed:
        size = 2 * len(item.raw) + 3
        if size > room:
            lots.append([])
            room = QUESTION_BYTES_MAX - QUESTION_SPARE_BYTES
        lots[-1].append(item)
        room -= size
    return lots


def answer_of(line: bytes) -> Any:
    """Return what an answer's line says.

    Raises
    ------
    ControlError
        It is a refusal, or no answer.
    """
    try:
        answer = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise ControlError(f"the node gave no answer that can be read: {error}") from None
    if "error" in answer:
        raise ControlError(f"{answer.get('code')}: {answer['error']}")
    if "ok" not in answer:
        raise ControlError("the node gave an answer without a value")
    return answer["ok"]


def _line(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _error(code: str, sentence: str) -> dict[str, Any]:
    return {"error": sentence, "code": code}


@contextlib.contextmanager
def _short(directory: Path) -> Iterator[str]:
    """Yield a path of the socket that fits the 108 bytes a socket address has."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET_NAME}"
    finally:
        os.close(fd)


def integer(question: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """Return a whole number that a question needs. Raises `ControlError` for what is none."""
    value = question.get(name)
    if type(value) is not int:
        raise ControlError(f"{name} is a whole number")
    if not low <= value <= high:
        raise ControlError(f"{name} is {value}, allowed are {low} to {high}")
    return value
