"""The consensus core alone: time per message without signatures, and the simulator's speed.

`uv run python -m bench.core`. The messages are those one authority gets in a healthy simulated
network; they are recorded once and played to a fresh core again and again. The baseline is one
Ed25519 verification, which each vote costs on top.
"""

import statistics
import time
from collections.abc import Callable

from bench.machine import describe
from consensus import events
from consensus.core import Core
from tests.sim import keys
from tests.sim.faults import Faults
from tests.sim.node import SimNode
from tests.sim.world import World
from wire.keys import SigningKey, verify

RECORDED_MS = 60_000
SIMULATED_MS = 200_000
REPEATS = 9
CORE_TARGET_US = 10
SPEED_TARGET = 1_000


def healthy_world(n: int) -> World:
    """A network in which nothing goes wrong, just started."""
    world = World(1, n, faults=Faults(), twins=0)
    world.lazy = set()
    world.network.heal()
    for node in world.nodes:
        node.boot()
    return world


def recorded_events(n: int) -> tuple[World, list[events.Event]]:
    """All events of authority 0 over a minute of 1 s blocks."""
    world = World(1, n, faults=Faults(), twins=0)
    world.lazy = set()
    world.network.heal()
    heard: list[events.Event] = []
    make_core = world.make_core

    def recording(node: SimNode) -> Core:
        core = make_core(node)
        if node.slot == 0:
            handle = core.handle

            def handle_and_record(event: events.Event) -> list[events.Effect]:
                heard.append(event)
                return handle(event)

            core.handle = handle_and_record  # type: ignore[method-assign]
        return core

    world.make_core = recording  # type: ignore[method-assign]
    for node in world.nodes:
        node.boot()
    world._run_until(world.now_ms + RECORDED_MS, None)
    return world, heard


def us_per_message(n: int) -> list[float]:
    """Time per received message, all other events included. [µs]"""
    world, heard = recorded_events(n)
    public = world.nodes[0].public
    signer = keys.signer_of(public)
    messages = sum(1 for event in heard if isinstance(event, events.Received))
    figures = []
    for _ in range(REPEATS):
        core = Core(world.chain_id, public, signer, lambda *_: True, world.params)
        started = time.process_time()
        for event in heard:
            core.handle(event)
        figures.append(1e6 * (time.process_time() - started) / messages)
        if core.height < RECORDED_MS // 2_000:
            raise SystemExit(f"the replay stopped at height {core.height}")
    return figures


def simulated_over_real(n: int) -> list[float]:
    """Simulated time of a whole network over the time it takes."""
    figures = []
    for _ in range(REPEATS):
        world = healthy_world(n)
        started = time.process_time()
        world._run_until(world.now_ms + SIMULATED_MS, None)
        figures.append(SIMULATED_MS / 1_000 / (time.process_time() - started))
    return figures


def us_per_verification() -> float:
    """One Ed25519 verification, the best of many. [µs]"""
    key = SigningKey(bytes(32))
    message = bytes(120)
    signature = key.sign(message)
    return 1e6 * _best(lambda: verify(key.public, message, signature), 500)


def _best(call: Callable[[], object], times: int) -> float:
    figures = []
    for _ in range(times):
        started = time.process_time()
        call()
        figures.append(time.process_time() - started)
    return min(figures)


def _show(figures: list[float]) -> str:
    return f"{statistics.median(figures):.1f} ({min(figures):.1f}..{max(figures):.1f})"


def main() -> None:
    """Print the figures."""
    print(describe())
    baseline = us_per_verification()
    print(f"one Ed25519 verification: {baseline:.1f} us")
    for n in (4, 7, 16):
        figures = us_per_message(n)
        ratio = statistics.median(figures) / baseline
        print(
            f"core, n={n}: {_show(figures)} us per message without signatures, "
            f"{ratio:.2f} of a verification (target {CORE_TARGET_US} us)"
        )
    for n in (4, 7, 16):
        print(f"simulator, n={n}: {_show(simulated_over_real(n))} times real time", end="")
        print(f" (target {SPEED_TARGET})" if n == 4 else "")


if __name__ == "__main__":
    main()
