"""One node dies at every step of a few heights, in turn: effect, sync, transaction, renaming."""

import pytest

from consensus import wal
from consensus.messages import NIL, PREVOTE, Vote
from tests.sim.disk import Log
from tests.sim.faults import Faults
from tests.sim.world import World

# Between two heights a node takes about 20 steps; two heights and what comes between.
STEPS = 48
BEFORE_MS = 1_500
TICK_MS = 20
AWAY_MS = 500
AFTER_MS = 5_000


def world_of(seed, torn):
    faults = Faults()
    faults.torn = torn
    faults.reorder = True
    world = World(seed, 4, faults=faults, twins=0)
    world.lazy, world.frail_slots = set(), []
    world.bulky_bytes = 2_000
    for node in world.nodes:
        node.is_frail = False
        node.boot()
    return world


@pytest.mark.parametrize("torn", [False, True], ids=["cut at records", "cut anywhere"])
def test_a_crash_at_any_step_does_no_harm(torn):
    died_at = set()
    for step in range(STEPS):
        world = world_of(step + 1, torn)
        world._run_until(world.now_ms + BEFORE_MS, None)
        node = world.nodes[1]
        node.fuse = step
        while node.up:
            world._run_until(world.now_ms + TICK_MS, None)
        world._run_until(world.now_ms + AWAY_MS, None)
        if not node.up:
            node.boot()
        world._run_until(world.now_ms + AFTER_MS, None)
        assert node.restarts == 1
        died_at.add(step)
        heights = [other.height for other in world.nodes]
        assert min(heights) >= max(heights) - 1 >= 4
        assert not node.core.abstaining
        world.checker.on_end(world.nodes)
    assert died_at == set(range(STEPS))


def votes(count):
    return [wal.VoteRecord(Vote(PREVOTE, 0, 1, n, NIL, 0, bytes(64))) for n in range(count)]


@pytest.mark.parametrize("torn", [False, True])
def test_a_log_keeps_what_was_synced_and_perhaps_more(torn):
    kept = set()
    for seed in range(60):
        world = world_of(seed, torn)
        log, records = Log(), votes(5)
        for record in records[:2]:
            log.append(record)
        log.sync()
        for record in records[2:]:
            log.append(record)
        log.crash(world.rng, torn, reordered=False)
        found, damage = log.read()
        assert damage is None
        assert found == records[: len(found)]
        kept.add(len(found))
        log.append(records[4])
        log.sync()
        assert log.read() == ([*found, records[4]], None)
    assert kept == {2, 3, 4, 5}


def test_sectors_that_reach_the_disk_out_of_order_are_a_tail_or_damage_never_a_lie():
    outcomes = set()
    for seed in range(60):
        world = world_of(seed, True)
        log, records = Log(), votes(20)
        log.append(records[0])
        log.sync()
        for record in records[1:]:
            log.append(record)
        log.crash(world.rng, torn=True, reordered=True)
        found, damage = log.read()
        outcomes.add(damage is None)
        if damage is None:
            assert found == records[: len(found)]
        else:
            assert found == [wal.AbstainRecord(2)]
    assert outcomes == {False, True}


def test_a_flipped_bit_or_a_lost_file_is_damage():
    for seed in range(40):
        world = world_of(seed, False)
        log = Log()
        for record in votes(3):
            log.append(record)
        log.sync()
        if seed % 4:
            log.rot(world.rng)
        else:
            log.lose()
        found, damage = log.read()
        assert damage is not None
        assert found == [wal.AbstainRecord(2)]
        assert log.read() == (found, None)
