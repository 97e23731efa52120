"""What `commonwatt contracts` asks and tells a running node.

Texts are judged here before anything is sent, by the same gate and type checker as the chain's, so
that who writes one is told the line. The chain judges again, and it is its word that counts.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from market import governance
from market.client import Call
from market.deployment import ARGS_BYTES_MAX, CodeChange, judge
from market.errors import Rejected
from market.vm import gate
from market.vm.gate import Export, Library
from market.vm.scan import SOURCE_CHARS_MAX
from node.api.control import ask
from node.api.governor import decide
from node.config import Config
from node.errors import ConfigError, ControlError
from wire.codec import encode, plain_problem
from wire.keys import SigningKey

# A block checks few texts; others' may come first.
BUSY_ATTEMPTS: Final = 5
BUSY_PAUSE_S: Final = 1.0


async def overview(data: Path) -> dict[str, Any]:
    """Return the contracts and libraries that are deployed, as plain maps.

    Raises
    ------
    ControlError
        The node does not answer.
    """
    found: dict[str, Any] = await ask(data, "query", contract="vm", entry="overview")
    return found


async def text(data: Path, name: str) -> dict[str, Any]:
    """Return a contract or library with its text. Errors as `overview`, or there is none."""
    found: dict[str, Any] = await ask(
        data, "query", contract="vm", entry="contract", args={"name": name}
    )
    return found


async def proposed(data: Path, number: int) -> dict[str, Any]:
    """Return the code that a proposal is about. Errors as `overview`, or there is none."""
    found: dict[str, Any] = await ask(
        data, "query", contract="vm", entry="proposed", args={"number": number}
    )
    return found


def read_source(file: Path) -> str:
    """Return a contract's text.

    Raises
    ------
    ConfigError
        It cannot be read, is no UTF-8, or too long.
    """
    try:
        with file.open("rb") as stream:
            raw = stream.read(4 * SOURCE_CHARS_MAX + 1)
        source = raw.decode()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: no UTF-8 text (byte {error.start})") from None
    if len(source) > SOURCE_CHARS_MAX:
        raise ConfigError(f"{file}: more than the {SOURCE_CHARS_MAX} characters of a contract")
    return source


def read_args(text: str) -> dict[str, Any]:
    """Return what `instantiate` or `migrate` shall get, from JSON.

    Raises
    ------
    ConfigError
        It is no object of plain values, or too large.
    """
    args = read_plain(text)
    if len(encode(args)) > ARGS_BYTES_MAX:
        raise ConfigError(f"--args: more than {ARGS_BYTES_MAX} bytes")
    return args


def read_plain(text: str) -> dict[str, Any]:
    """Return what an entry shall get, from JSON.

    Raises
    ------
    ConfigError
        It is no object of plain values.
    """
    try:
        args = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--args is no JSON: {error}") from None
    if not isinstance(args, dict):
        raise ConfigError(f'--args is a JSON object such as {{"start": 1}}, not {text}')
    problem = plain_problem(args)
    if problem:
        raise ConfigError(f"--args: {problem}")
    return args


async def call_entry(
    config: Config, contract: str, entry: str, args: str, key: SigningKey | None
) -> dict[str, Any]:
    """Sign a call of any entry, hand it in and wait for the block that holds it; as `decide`.

    Parameters
    ----------
    args : str
        JSON object: the entry's arguments by their names.
    key : SigningKey or None
        None: the home's own.

    Raises
    ------
    ConfigError
        The arguments are no object of plain values.
    ControlError
        The node does not answer, or the chain refuses: its code and its sentence.
    """
    return await decide(config, Call(contract, entry, read_plain(args)), key=key)


async def ask_entry(data: Path, contract: str, entry: str, args: str) -> Any:
    """Return what a query of a contract answers. Errors as `call_entry`."""
    asked = read_plain(args)
    return await ask(data, "query", contract=contract, entry=entry, args=asked)


async def deploy(
    config: Config,
    data: Path | None,
    file: Path,
    kind: str,
    name: str,
    args: str,
    blocks: int,
) -> dict[str, Any]:
    """Judge a text, upload it and open a vote on it.

    Parameters
    ----------
    data : Path or None
        The data directory of the node to ask and to hand in at; None: the home's own.
    file : Path
        The text.
    kind : str
        `deploy`, `upgrade` or `library`.
    args : str
        JSON object, for `instantiate` or `migrate`.
    blocks : int
        For how many blocks it may be voted on.

    Returns
    -------
    dict
        `proposal` (its number), `code_hash`, `parts` uploaded, and of the proposing transaction
        `id`, `height`, `events`.

    Raises
    ------
    ConfigError
        The text cannot be read, or gate or type checker refuse it: file, line, reason.
    ControlError
        The node does not answer, or the chain refuses: its code and its sentence.
    """
    change = CodeChange(kind, name, read_source(file), read_args(args), "")
    data = data or config.path(config.node.data)
    await _judge(data, file, change)
    uploads = governance.upload(change.source)
    for call in uploads:
        await decide(config, call, data)
    call = governance.propose_code(change.kind, change.name, change.source, change.args, blocks)
    done = await _propose(config, data, call)
    opened = next(event for _, event_name, event in done["events"] if event_name == "proposed")
    return {
        "proposal": opened["number"],
        "kind": kind,
        "name": name,
        # Other than what was judged here if a library has changed in between.
        "code_hash": opened["code_hash"],
        "parts": len(uploads),
        **done,
    }


async def _propose(config: Config, data: Path, call: Any) -> dict[str, Any]:
    for _ in range(BUSY_ATTEMPTS - 1):
        try:
            return await decide(config, call, data)
        except ControlError as error:
            if not str(error).startswith("busy"):
                raise
        await asyncio.sleep(BUSY_PAUSE_S)
    return await decide(config, call, data)


async def _judge(data: Path, file: Path, change: CodeChange) -> None:
    found = await overview(data)
    shelf = [await _library(data, row["name"]) for row in found["libraries"]]
    exports = {row["name"]: _exports(row["entries"]) for row in found["contracts"]}
    if change.kind == "upgrade" and change.name not in exports:
        known = ", ".join(sorted(exports))
        raise ConfigError(f"there is no contract {change.name} to upgrade; there are: {known}")
    if change.kind == "deploy" and change.name in exports:
        raise ConfigError(f"there is a contract {change.name} already: --upgrade gives it new code")
    try:
        judge(change, tuple(shelf), exports)
    except Rejected as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        raise ConfigError(f"{file}: {error}{notes}") from None


async def _library(data: Path, name: str) -> Library:
    return gate.check_library(name, (await text(data, name))["source"])


def _exports(entries: list[dict[str, Any]]) -> Mapping[str, Export]:
    return {row["name"]: Export(row["kind"], tuple(row["params"])) for row in entries}
