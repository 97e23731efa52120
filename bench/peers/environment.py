"""Environments of other programs, made from the package index and kept in a cache."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

INSIDE: Final = Path(__file__).parent / "inside"
LIMIT_S: Final = 1_800
SAID_MAX: Final = 1_500


def cache() -> Path:
    """Return where environments are kept: `commonwatt/peers` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "commonwatt" / "peers"


def python_of(requirements: Sequence[str], python: str) -> Path:
    """Return the Python of an environment with these packages; make it if there is none.

    Raises
    ------
    SystemExit
        The environment cannot be made, with what the package manager says.
    """
    name = "-".join([*requirements, f"py{python}"])
    home = cache() / "".join(c if c.isalnum() or c in ".-" else "_" for c in name)
    inside, done = home / "bin" / "python", home / "installed"
    if not done.exists():
        print(f"making an environment for {', '.join(requirements)} in {home}", flush=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        _said(["uv", "venv", "-q", "--clear", "--python", python, str(home)])
        _said(["uv", "pip", "install", "-q", "--python", str(inside), *requirements])
        done.touch()
    return inside


def ask(python: Path, script: str, asked: object) -> Any:
    """Run a script of `inside` with a question; return its answer.

    Both are JSON files, whose names the script is given: what the peer prints is of no matter.
    Raises `SystemExit` with what the peer said last, if it fails.
    """
    with tempfile.TemporaryDirectory() as directory:
        question, answer = Path(directory) / "question.json", Path(directory) / "answer.json"
        question.write_text(json.dumps(asked))
        # -P: this folder's names are not the packages'.
        _said([str(python), "-P", str(INSIDE / f"{script}.py"), str(question), str(answer)])
        return json.loads(answer.read_text())


def _said(command: Sequence[str]) -> None:
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=LIMIT_S,
            env=os.environ | one_thread,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemExit(f"{command[0]}: {error}") from None
    if done.returncode:
        said = (done.stderr + done.stdout).strip()[-SAID_MAX:]
        raise SystemExit(f"{' '.join(command[:3])} ... ended with {done.returncode}:\n{said}")
