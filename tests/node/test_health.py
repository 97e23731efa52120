"""Whether a node answers is told by an exit code, and loads nothing of the node."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from node import health
from node.api import control
from node.api.control import ControlServer


async def said(directory: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "node.health", str(directory), stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode()


async def test_a_node_that_answers_is_well(tmp_path: Path) -> None:
    async def status(question: Mapping[str, Any]) -> dict[str, Any]:
        return {"height": 3, "peers": ["x" * 100_000]}

    server = ControlServer(tmp_path, {"status": status})
    await server.start()
    try:
        assert await said(tmp_path) == (0, "")
    finally:
        await server.stop()
    code, why = await said(tmp_path)
    assert code == 1
    assert "no node answers in" in why


async def test_a_node_that_refuses_is_not(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, {})
    await server.start()
    try:
        code, why = await said(tmp_path)
    finally:
        await server.stop()
    assert code == 1
    assert "is not well" in why


def test_what_is_no_directory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no node answers in nowhere" in health.answers("nowhere")
    assert health.SOCKET_NAME == control.SOCKET_NAME


def test_nothing_of_the_node_is_loaded() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import sys, node.health; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"asyncio", "msgspec", "typer", "node.errors"}.isdisjoint(told.stdout.split())
