"""The machine a figure was measured on, and how fast it is just now."""

import os
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Final

from wire.keys import SigningKey, verify

ROOT: Final = Path(__file__).parent.parent
COMMIT_DIGITS: Final = 10
# As long as a posted order is.
SIGNED_BYTES: Final = 250
BATCHES: Final = 20
BATCH: Final = 50


def describe() -> str:
    """Return the processor, the cores this process may use, and the Python, in one line."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{model}, {cores} cores, {python}, {platform.system()} {platform.release()}"


def commit() -> str:
    """Return the commit that this code is of, `+` if files differ from it; empty if unknown."""
    asked = ["git", "describe", "--always", "--exclude=*", f"--abbrev={COMMIT_DIGITS}", "--dirty=+"]
    try:
        told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return told.stdout.strip()


def rss_mib(pid: int | None) -> float:
    """Return the memory a process has, 0 if there is none of this id. [MiB]"""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1_024
    return 0.0


def signature_us() -> float:
    """Return the processor's time for one Ed25519 verification, the median of batches. [µs]

    It uses no code that changes with ours, so it says how fast the machine is at the moment.
    """
    key, message = SigningKey(bytes(32)), bytes(SIGNED_BYTES)
    public, signature = key.public, key.sign(message)
    took = []
    for _ in range(BATCHES):
        begun = time.process_time()
        for _ in range(BATCH):
            verify(public, message, signature)
        took.append((time.process_time() - begun) / BATCH)
    return 1e6 * statistics.median(took)
