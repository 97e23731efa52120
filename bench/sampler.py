"""Where a daemon's CPU goes: a thread looks at the others' stacks and clocks.

    python -m bench.sampler OUT --config node.toml ...   (started by bench.throughput)

At each look a thread's stack is charged with the CPU time that thread has used since the last. In
Python code a look can only come where the interpreter's lock changes hands, so single functions
are approximate; the sums of threads and of phases are good.
"""

import collections
import json
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from node.__main__ import main as daemon

INTERVAL_S = 0.004
# The innermost of these on a stack says what the time is spent for.
PHASES = {
    ("wire/transaction.py", "check"): "check: decode, verify",
    ("node/pool/verifier.py", "check"): "check: known ones",
    ("node/pool/mempool.py", "gossip_check"): "gossip check",
    ("node/pool/mempool.py", "_take"): "mempool",
    ("node/pool/mempool.py", "receive"): "mempool",
    ("node/pool/mempool.py", "decided"): "mempool: after a block",
    ("node/pool/mempool.py", "reap"): "mempool: reap",
    ("node/pool/mempool.py", "run"): "mempool: gossip out",
    ("market/app.py", "check"): "admission",
    ("market/app.py", "_run_transaction"): "execution",
    ("market/app.py", "_run_hook"): "execution: hooks",
    ("market/app.py", "_result"): "roots, conservation",
    ("market/app.py", "commit"): "state commit",
    ("node/chain/blocks.py", "execute"): "block check",
    ("node/chain/blocks.py", "build"): "block build",
    ("node/chain/replica.py", "_write"): "store: encode",
    ("node/chain/inbox.py", "_hear"): "consensus messages in",
    ("node/chain/driver.py", "_do"): "consensus messages out",
    ("node/chain/driver.py", "_perform"): "write-ahead log",
    ("node/chain/driver.py", "consider_block"): "when to make a block",
    ("consensus/core.py", "handle"): "consensus core",
    ("node/chain/announcer.py", "_receive"): "announcer",
    ("node/chain/announcer.py", "_check"): "announcer",
    ("node/chain/announcer.py", "_publish"): "announcer",
    ("node/chain/wal.py", "append"): "write-ahead log",
    ("node/chain/wal.py", "sync"): "write-ahead log",
    ("node/api/control.py", "_answer"): "control socket",
    ("node/network/_pubsub.py", "push_msg"): "gossip: message",
    ("node/network/_pubsub.py", "_read"): "gossip: read",
    ("node/network/_pubsub.py", "handle_sending_messages"): "gossip: write",
    ("node/network/_talk.py", "send_for_ever"): "streams: write",
    ("node/network/_talk.py", "receive"): "streams: read",
}


class Sampler:
    """Samples all threads of this process but its own."""

    def __init__(self) -> None:
        self._clocks: dict[int, tuple[int, float]] = {}
        self._on = False
        self.begin()

    def begin(self) -> None:
        """Forget what has been seen."""
        self.phases: collections.Counter[tuple[str, str]] = collections.Counter()
        self.functions: collections.Counter[str] = collections.Counter()

    def run(self) -> None:
        """Look, for ever."""
        while True:
            time.sleep(INTERVAL_S)
            self._look()

    def _look(self) -> None:
        me = threading.get_ident()
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident == me or ident not in names:
                continue
            try:
                clock = time.pthread_getcpuclockid(ident)
                used_s = time.clock_gettime(clock)
            except OSError:
                continue
            last_clock, last_s = self._clocks.get(ident, (clock, used_s))
            self._clocks[ident] = clock, used_s
            if last_clock == clock and used_s > last_s:
                self._charge(_kind(names[ident]), frame, used_s - last_s)

    def _charge(self, thread: str, frame: FrameType, used_s: float) -> None:
        code = frame.f_code
        self.functions[f"{_short(code.co_filename)}:{code.co_name}"] += used_s  # type: ignore[assignment]
        look: FrameType | None = frame
        phase = "other"
        while look is not None:
            found = PHASES.get((_short(look.f_code.co_filename), look.f_code.co_name))
            if found:
                phase = found
                break
            look = look.f_back
        self.phases[thread, phase] += used_s  # type: ignore[assignment]

    def report(self) -> dict[str, Any]:
        """Return CPU seconds by thread and phase, and of the functions that used the most."""
        return {
            "phases": [[*key, used] for key, used in self.phases.most_common()],
            "functions": self.functions.most_common(60),
        }


def _kind(name: str) -> str:
    for start in ("MainThread", "execution", "asyncio"):
        if name.startswith(start):
            return {"MainThread": "loop", "asyncio": "to_thread"}.get(start, start)
    return name.rstrip("0123456789-_ ")


_SHORT: dict[str, str] = {}
_TOPS = ("node", "market", "wire", "consensus", "site-packages", "python3.11")


def _short(path: str) -> str:
    found = _SHORT.get(path)
    if found is None:
        parts = path.split("/")
        tops = [place for place, part in enumerate(parts) if part in _TOPS]
        top = tops[-1] if tops else len(parts) - 1
        found = _SHORT[path] = "/".join(parts[top:]).removeprefix("site-packages/")
    return found


def main() -> int:
    """Run the daemon; SIGUSR1 begins a profile, SIGUSR2 writes it."""
    out = Path(sys.argv[1])
    sampler = Sampler()

    def write(*_: object) -> None:
        part = out.with_suffix(".part")
        part.write_text(json.dumps(sampler.report()))
        part.rename(out)

    signal.signal(signal.SIGUSR1, lambda *_: sampler.begin())
    signal.signal(signal.SIGUSR2, write)
    threading.Thread(target=sampler.run, daemon=True, name="sampler").start()
    return daemon(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
