"""The consensus core alone: time per message without signatures, and the simulator's speed.

`uv run python -m bench.core`. The messages are those one authority gets in a healthy simulated
network; they are recorded once and played to a fresh core again and again. The baseline is one
Ed25519 verification, which each vote costs on top.
"""

import argparse
import time
from collections.abc import Iterator

from bench.figures import Said, command, figure
from bench.machine import signature_us
from consensus import events
from consensus.core import Core
from tests.sim import keys
from tests.sim.faults import Faults
from tests.sim.node import SimNode
from tests.sim.world import World

RECORDED_MS = 60_000
SIMULATED_MS = 200_000
REPEATS = 9
NODES = "4,7,16"
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


def us_per_message(n: int) -> tuple[list[float], int]:
    """Time per received message, all other events included [µs], and the messages of the minute."""
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
    return figures, messages


def simulated_over_real(n: int) -> list[float]:
    """Simulated time of a whole network over the time it takes."""
    figures = []
    for _ in range(REPEATS):
        world = healthy_world(n)
        started = time.process_time()
        world._run_until(world.now_ms + SIMULATED_MS, None)
        figures.append(SIMULATED_MS / 1_000 / (time.process_time() - started))
    return figures


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--nodes", default=NODES, help="sizes of the set of authorities")


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure."""
    sizes = [int(word) for word in given.nodes.split(",")]
    base = "a signature's verification", signature_us()
    for n in sizes:
        aim = CORE_TARGET_US if n == 4 else None
        took_us, messages = us_per_message(n)
        yield figure(f"core, n={n}, a message", "us", took_us, over=base, aim=aim)
        # The less is said, the more of a height's own work falls on each message.
        in_all = [us * messages / 1e3 for us in took_us]
        yield figure(f"core, n={n}, all of a minute", "ms", in_all)
        yield figure(f"core, n={n}, messages in a minute", "", messages, better="neither")
    for n in sizes:
        aim = SPEED_TARGET if n == 4 else None
        faster = simulated_over_real(n)
        yield figure(f"simulator, n={n}", "x real time", faster, better="higher", aim=aim)


if __name__ == "__main__":
    command(__doc__, options, figures)
