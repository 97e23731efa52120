"""`python -m node.health DATA`: whether the node whose data are in a directory answers.

An engine asks this of every container, over and over: it loads nothing but what a socket needs,
where the command `status` takes a second of a core.
"""

import json
import os
import socket
import sys
from typing import Final

# As `node.api.control`, which is too much to load.
SOCKET_NAME: Final = "control.sock"
ANSWER_BYTES_MAX: Final = 8 * 1_048_576
TIMEOUT_S: Final = 10.0
PIECE_BYTES: Final = 65_536


def answers(directory: str) -> str:
    """Return what is wrong with the node in a directory, in a sentence; empty if it answers."""
    try:
        # A socket's address has 108 bytes; a name of its own directory always fits.
        os.chdir(directory)
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(TIMEOUT_S)
            asked.connect(SOCKET_NAME)
            asked.sendall(b'{"ask":"status"}\n')
            line = b""
            while not line.endswith(b"\n") and len(line) < ANSWER_BYTES_MAX:
                piece = asked.recv(PIECE_BYTES)
                if not piece:
                    break
                line += piece
    except OSError as error:
        return f"no node answers in {directory} ({error})"
    problem = problem_of(line)
    return f"the node in {directory} {problem}" if problem else ""


def problem_of(line: bytes) -> str:
    """Return what is wrong with an answer, as the end of a sentence; empty if nothing is."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return "gave no answer that can be read"
    if not isinstance(told, dict) or "ok" not in told:
        return f"answers, and is not well: {line[:200]!r}"
    return ""


def main() -> None:
    """Say by the exit code whether it answers, and on stderr why not."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m node.health DATA, a node's data directory")
    if problem := answers(sys.argv[1]):
        sys.exit(problem)


if __name__ == "__main__":
    main()
