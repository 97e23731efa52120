"""Runs one decoder over many inputs and says what it did to them.

A decoder holds if, for every input, it returns or raises what it is allowed to, within
`CPU_S_MAX` of processor time, without its process growing, and what it accepts is bounded by the
input's size: a canonical format encodes to the same bytes again, any other is weighed.
"""

import contextlib
import ctypes
import gc
import hashlib
import logging
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final

import numpy as np

from tests.fuzz.mutate import INPUT_BYTES_MAX, Kind, Mutator

CPU_S_MAX: Final = 0.005
# A decoder that does not come back is interrupted after so much processor time.
HUNG_S: Final = 0.5
MEASURES: Final = 5
# Only what seems slower than the slowest by this and a half is measured: the clock costs too.
RESOLUTION_S: Final = 0.00005
# What one input may add to the process's largest size, and all together.
INPUT_MEMORY_BYTES_MAX: Final = 16 * 1_048_576
MEMORY_BYTES_MAX: Final = 64 * 1_048_576
# Address space beyond what the process has when it begins; an attempt at more fails in place.
HEADROOM_BYTES: Final = 512 * 1_048_576
WEIGHT_BASE: Final = 65_536
WEIGHT_PER_BYTE: Final = 256
WEIGHT_OF_OBJECT: Final = 64
BLOCK_INPUTS: Final = 1_000
FAILURES_MAX: Final = 8
# How often the same may go wrong before a decoder has shown enough; some kinds cost much time.
WRONG_MAX: Final = 64
COSTLY: Final = {"hung": WRONG_MAX, "memory": WRONG_MAX, "slow": WRONG_MAX // 4}
REGRESSIONS: Final = Path(__file__).parent / "regressions"


class Told(Exception):
    """A decoder that refuses by what it returns: the target turns that into this."""


class Hung(BaseException):
    """A decoder took `HUNG_S`; no handler of its own may catch this."""


@dataclass(frozen=True)
class Target:
    """One decoder.

    Parameters
    ----------
    decode : callable
        Takes bytes; returns what they mean, or raises one of `allowed`.
    examples : valid inputs, made by the real encoders; each must be accepted.
    kind : what the mutations know of the format.
    encode : callable, optional
        For a canonical format: what `decode` returned, as bytes again.
    check : callable, optional
        `check(value, data)`: what is wrong with having accepted this, if anything.
    mend : callable, optional
        `mend(data)`: makes check sums and signatures fit after a mutation; used for half of them.
    words : what stands in such a text.
    cpu_s_max, input_memory_max : what an input may take. More than the default only for a file
        that is this home's own and is read once, with the reason where it is set.
    """

    name: str
    decode: Callable[[bytes], Any]
    allowed: tuple[type[Exception], ...]
    examples: tuple[bytes, ...]
    kind: Kind = "msgpack"
    encode: Callable[[Any], bytes] | None = None
    check: Callable[[Any, bytes], str | None] | None = None
    mend: Callable[[bytes], bytes] | None = None
    words: tuple[bytes, ...] = ()
    cpu_s_max: float = CPU_S_MAX
    input_memory_max: int = INPUT_MEMORY_BYTES_MAX


@dataclass(frozen=True)
class Failure:
    """An input that a decoder did not deal with as it must."""

    kind: str
    what: str
    data: bytes

    @property
    def name(self) -> str:
        """The name of the file that keeps it."""
        return hashlib.sha256(self.data).hexdigest()[:16]


@dataclass
class Report:
    """What one decoder did."""

    target: str
    inputs: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slowest: str = ""
    seconds: float = 0.0
    grown_bytes: int = 0
    failures: list[Failure] = field(default_factory=list)


def weight(value: object, limit: int) -> int:
    """Return about how many bytes a value holds; stops counting beyond `limit`."""
    total = 0
    rest = [value]
    while rest and total <= limit:
        item = rest.pop()
        total += WEIGHT_OF_OBJECT
        if isinstance(item, str | bytes | bytearray):
            total += len(item)
        elif isinstance(item, np.ndarray):
            total += item.nbytes
        elif isinstance(item, dict):
            rest.extend(item)
            rest.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            rest.extend(item)
        elif hasattr(item, "__struct_fields__"):
            rest.extend(getattr(item, name) for name in item.__struct_fields__)
        elif isinstance(item, int):
            total += item.bit_length() // 8
    return total


def inputs_of(target: Target, seed: int, count: int) -> Iterator[bytes]:
    """Yield a target's inputs; each block of them depends on seed, target and its number only."""
    mutator = Mutator(target.examples, target.kind, target.words)
    mend = target.mend
    for block in range(-(-count // BLOCK_INPUTS)):
        rng = Random(f"{seed}/{target.name}/{block}")
        for _ in range(min(BLOCK_INPUTS, count - block * BLOCK_INPUTS)):
            data = mutator.make(rng)
            yield mend(data)[:INPUT_BYTES_MAX] if mend and rng.random() < 0.5 else data


class Judge:
    """Puts inputs to one decoder, one after the other.

    With `bounded` False, time and memory are not judged: for a process that others share.
    """

    def __init__(self, target: Target, bounded: bool = True) -> None:
        self.report = Report(target.name)
        self._target = target
        self._bounded = bounded
        self._seen: set[tuple[str, str]] = set()
        self._wrong = 0
        self._peak = peak_bytes()
        self._begin = self._peak

    @property
    def done(self) -> bool:
        """Whether enough has gone wrong to stop."""
        return self._wrong >= WRONG_MAX or len(self.report.failures) >= FAILURES_MAX

    def examples(self) -> None:
        """Judge the valid examples: each must be accepted."""
        for data in self._target.examples:
            before = self.report.accepted
            self.put(data)
            if self.report.accepted == before and not self.done:
                self._fail("example", "a valid example is refused", data)

    def put(self, data: bytes) -> None:
        """Judge one input."""
        report, target = self.report, self._target
        report.inputs += 1
        if self._bounded:
            # What making the input took is not the decoder's.
            made = peak_bytes()
            self._begin += made - self._peak
            self._peak = made
            signal.setitimer(signal.ITIMER_VIRTUAL, HUNG_S)
        begun = time.perf_counter()
        try:
            value = target.decode(data)
        except target.allowed as error:
            spent = time.perf_counter() - begun
            report.refused[str(error) if type(error) is Told else type(error).__name__] += 1
        except Hung:
            return self._fail("hung", f"more than {HUNG_S:g} s of processor time", data)
        except Exception as error:
            return self._fail("uncaught", _where(error), data)
        else:
            spent = time.perf_counter() - begun
            report.accepted += 1
            try:
                self._examine(value, data)
            except Hung:
                self._fail("hung", "while it was encoded again", data)
            except Exception as error:
                self._fail("uncaught", f"while it was examined: {_where(error)}", data)
            del value
        if self._bounded:
            if spent > 1.5 * report.slowest_s + RESOLUTION_S:
                self._measure(data)
            self._weigh(data)
        return None

    def _examine(self, value: object, data: bytes) -> None:
        target = self._target
        if target.encode is not None:
            if target.encode(value) != data:
                self._fail("canonical", "what it accepts has another encoding", data)
        else:
            limit = WEIGHT_BASE + WEIGHT_PER_BYTE * len(data)
            if weight(value, limit) > limit:
                self._fail("unbounded", f"accepted as more than {limit} bytes", data)
        problem = target.check(value, data) if target.check is not None else None
        if problem:
            self._fail("check", problem, data)

    def _measure(self, data: bytes) -> None:
        """Take the processor time of a suspect: the least of a few, so that only its own counts."""
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        least = min(self._cpu_s(data) for _ in range(2))
        if least > self._target.cpu_s_max:
            # The collector may have had to clear up after others.
            gc.collect()
            least = min(least, *(self._cpu_s(data) for _ in range(MEASURES)))
        if least > self.report.slowest_s:
            self.report.slowest_s = least
            self.report.slowest = data.hex()
        if least > self._target.cpu_s_max:
            self._fail("slow", f"{1e3 * least:.1f} ms for {len(data)} bytes", data)

    def _cpu_s(self, data: bytes) -> float:
        begun = time.process_time()
        with contextlib.suppress(Exception):
            self._target.decode(data)
        return time.process_time() - begun

    def _weigh(self, data: bytes) -> None:
        peak = peak_bytes()
        if peak > self._peak:
            if peak - self._peak > self._target.input_memory_max:
                self._fail("memory", f"{(peak - self._peak) >> 20} MiB for {len(data)} bytes", data)
            self._peak = peak
            self.report.grown_bytes = peak - self._begin
            if self.report.grown_bytes > MEMORY_BYTES_MAX:
                self._fail("memory", f"grew by more than {MEMORY_BYTES_MAX >> 20} MiB", data)

    def _fail(self, kind: str, what: str, data: bytes) -> None:
        self._wrong += COSTLY.get(kind, 1)
        place = (kind, what if kind in ("uncaught", "check") else "")
        if place in self._seen:
            return
        self._seen.add(place)
        self.report.failures.append(Failure(kind, what, data))


def run(
    target: Target,
    seed: int,
    inputs: int,
    kept: Iterable[bytes] = (),
    bounded: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> Report:
    """Judge a target's examples, what once went wrong (`kept`), and `inputs` mutations.

    With `bounded`, the process is given limits that stay: run it in one of its own.
    """
    judge = Judge(target, bounded)
    begun = time.perf_counter()
    if bounded:
        confine()
    try:
        judge.examples()
        for data in kept:
            judge.put(data)
        for number, data in enumerate(inputs_of(target, seed, inputs), start=1):
            judge.put(data)
            if judge.done:
                break
            if number % BLOCK_INPUTS == 0:
                if bounded:
                    _give_back()
                progress(number)
    finally:
        if bounded:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    judge.report.seconds = time.perf_counter() - begun
    return judge.report


def confine() -> None:
    """Limit this process's address space, silence its logs, and have hangs interrupted."""
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGVTALRM, _interrupt)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    gc.collect()
    # What is here already is not looked through again at each collection.
    gc.freeze()


def _give_back() -> None:
    """Let the C library return what is free: its fragments are no growth of the decoder's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def peak_bytes() -> int:
    """Return the largest size this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024


def kept_inputs(name: str, folder: Path = REGRESSIONS) -> list[bytes]:
    """Return the inputs that a target once failed on."""
    return [file.read_bytes() for file in sorted((folder / name).glob("*.bin"))]


def keep(report: Report, folder: Path = REGRESSIONS) -> list[Path]:
    """Write the inputs that failed to files; return those."""
    files = []
    for failure in report.failures:
        file = folder / report.target / f"{failure.name}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(failure.data)
        files.append(file)
    return files


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Hung


def _where(error: BaseException) -> str:
    """Name an exception by type, text and the line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    file = "/".join(Path(last.filename).parts[-3:])
    text = " ".join(str(error).split())[:100]
    return f"{type(error).__name__} at {file}:{last.lineno}: {text}"
