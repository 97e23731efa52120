"""What the machine, or the container around the process, lets it have."""

from pathlib import Path
from typing import Final

from node.errors import StartError

MIB: Final = 1 << 20
# With less a node is killed while it starts, over and over; it takes about 150 MiB once it trades.
NODE_MIB_MIN: Final = 128
TEXT_CHARS_MAX: Final = 65_536


def memory_mib(root: Path = Path("/")) -> int | None:
    """Return how much memory there is for this process: the machine's, or less by its limits. [MiB]

    None where the kernel does not tell. `root` is where its files are.
    """
    found = [limit for limit in (_machine(root), *_limits(root)) if limit is not None]
    return min(found) // MIB if found else None


def machine_mib(root: Path = Path("/")) -> int | None:
    """Return the machine's memory, whatever this process may have of it. [MiB]"""
    have = _machine(root)
    return None if have is None else have // MIB


def check_memory(root: Path = Path("/")) -> None:
    """Raise `StartError` where no node can run."""
    have = memory_mib(root)
    if have is not None and have < NODE_MIB_MIN:
        raise StartError(
            f"there are {have} MiB of memory for this node, and it needs {NODE_MIB_MIN} at least: "
            "give its container or service a higher limit; 256 MiB are comfortable"
        )


def _machine(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        number, *unit = value.split() or [""]
        if name == "MemTotal" and number.isdecimal() and unit == ["kB"]:
            return int(number) * 1_024
    return None


def _limits(root: Path) -> list[int | None]:
    """Return the limits of the control groups around us, of both versions.

    In a container its own group is where a machine has the root.
    """
    groups = root / "sys/fs/cgroup"
    files = [groups / "memory.max", groups / "memory/memory.limit_in_bytes"]
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            files.append(groups / path.lstrip("/") / "memory.max")
        elif "memory" in controllers.split(","):
            files.append(groups / "memory" / path.lstrip("/") / "memory.limit_in_bytes")
    texts = (_text(file).strip() for file in files)
    # Without a limit version 2 says `max`, version 1 a number beyond all memory.
    return [int(text) for text in texts if text.isdecimal() and len(text) < 20]


def _text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as told:
            return told.read(TEXT_CHARS_MAX)
    except OSError:
        return ""
