"""Situations drawn by hand: who is away and for how long; how soon the rest, or all, go on.

Times are simulated, so they are the same on every machine.
"""

from functools import cache
from itertools import pairwise
from statistics import quantiles

import pytest

from consensus.core import Core
from consensus.messages import Proposal
from tests.sim.faults import Faults
from tests.sim.mutants import NO_ROUND_JUMP
from tests.sim.mutation import Mutation
from tests.sim.world import World

MINUTE_MS = 60_000
# Long enough for every authority to have several turns.
OBSERVED_MS = 2 * MINUTE_MS


def healthy_world(n, seed=1, mutation=None):
    world = World(seed, n, faults=Faults(), mutation=mutation, twins=0)
    world.lazy = set()
    world.network.heal()
    for node in world.nodes:
        node.boot()
    return world


def run_for(world, ms):
    world._run_until(world.now_ms + ms, None)


def height(world):
    return max(node.height for node in world.nodes)


def applied_at(world):
    """When each height was first applied. [ms]"""
    times = {}
    for node in world.nodes:
        apply = node._apply

        def noting(block, certificate, apply=apply):
            times.setdefault(block.header.height, world.now_ms)
            apply(block, certificate)

        node._apply = noting
    return times


def intervals_ms(world, ms):
    """The times between blocks over a while. [ms]"""
    times = applied_at(world)
    run_for(world, ms)
    ordered = [times[number] for number in sorted(times)]
    return [after - before for before, after in pairwise(ordered)]


def test_after_ten_minutes_without_a_quorum_the_next_height_is_there_in_5_seconds():
    for seed in range(1, 6):
        world = healthy_world(7, seed)
        run_for(world, 10_000)
        away = world.nodes[: world.authorities(0).f + 1]
        for node in away:
            node.crash()
        run_for(world, 10 * MINUTE_MS)
        before = height(world)
        for node in away:
            node.boot()
        run_for(world, 5_000)
        assert height(world) > before
        run_for(world, 20_000)
        assert min(node.height for node in world.nodes) > before


def builders_of(node):
    """Who built its blocks, from height 1 on."""
    blocks = node.database.blocks
    return [blocks[number][0].header.proposer for number in range(1, node.height + 1)]


def p95(times):
    return quantiles(times, n=20)[18]


@cache
def healthy_intervals_ms():
    """The times between blocks where all 10 authorities are there. [ms]"""
    return intervals_ms(healthy_world(10), OBSERVED_MS)


def limping_shares(slots, mutation=None):
    """Of 10 authorities these are dead: (blocks made, p95 of the time between them), each as a
    share of what all 10 do."""
    healthy = healthy_intervals_ms()
    world = healthy_world(10, mutation=mutation)
    for slot in slots:
        world.nodes[slot].crash()
    limping = intervals_ms(world, OBSERVED_MS)
    return len(limping) / len(healthy), p95(limping) / p95(healthy)


# Turns far apart, three in a row (the worst), two in a row over the end of the set, and others.
DEAD = [(0, 3, 6), (0, 1, 2), (9, 0, 5), (2, 4, 6), (7, 8, 9), (1, 2, 7)]


@pytest.mark.parametrize("slots", DEAD)
def test_with_f_dead_half_of_the_blocks_are_made_and_none_takes_three_times_as_long(slots):
    made, longest = limping_shares(slots)
    assert made >= 0.5
    assert longest <= 3


class Patient(Core):
    """Waits for everybody, always (without R32)."""

    def _note_missed_turn(self):
        pass


class Thorough(Core):
    """Waits for more precommits where none can matter (without R31)."""

    def _is_void(self, slot):
        return False


@pytest.mark.parametrize("core", [Patient, Thorough])
def test_without_either_rule_three_dead_in_a_row_take_longer(core):
    mutation = Mutation()
    mutation.core = core
    assert limping_shares((0, 1, 2), mutation)[1] > 3


def test_who_was_away_proposes_again_in_its_first_turn():
    world = healthy_world(10)
    node = world.nodes[4]
    node.crash()
    run_for(world, MINUTE_MS)
    node.boot()
    run_for(world, MINUTE_MS / 2)
    builders = builders_of(world.nodes[0])[-20:]
    assert builders.count(world.authorities(1).index_of(node.public)) == 2


def test_a_network_slower_than_the_shortest_wait_still_decides():
    """f authorities are away, and every message takes longer than R32 waits for the absent."""
    world = healthy_world(4)
    run_for(world, 5_000)
    deliver = world.deliver
    slow_ms = 2 * world.params.absent_timeout_ms()
    world.deliver = lambda a, b, message, delay_ms: deliver(a, b, message, slow_ms)  # type: ignore[method-assign]
    world.nodes[1].crash()
    run_for(world, MINUTE_MS)
    before = height(world)
    world.nodes[1].boot()
    run_for(world, MINUTE_MS)
    made = builders_of(world.nodes[0])[before:]
    assert len(made) >= 10
    assert world.authorities(1).index_of(world.nodes[1].public) in made


def rounds_after_absence(mutation=None):
    """A node cut off while the others get to a high round; where is it 3 s after its return?"""
    world = healthy_world(4, mutation=mutation)
    run_for(world, 5_000)
    deliver = world.deliver
    away = world.nodes[3]

    def without_proposals(a, b, message, delay_ms):
        absent = away.slot in (a, b) and not world.back  # type: ignore[attr-defined]
        if type(message) is not Proposal and not absent:
            deliver(a, b, message, delay_ms)

    world.back = False  # type: ignore[attr-defined]
    world.deliver = without_proposals  # type: ignore[method-assign]
    run_for(world, 10 * MINUTE_MS)
    others = world.nodes[0].core.round
    world.back = True  # type: ignore[attr-defined]
    run_for(world, 3_000)
    return others, away.core.round


def test_who_was_away_joins_the_others_round_at_once():
    others, away = rounds_after_absence()
    assert others > 15
    assert away >= others - 1


def test_without_the_round_jump_it_does_not():
    others, away = rounds_after_absence(NO_ROUND_JUMP)
    assert others > 15
    assert away < others - 1


def test_when_all_stop_at_once_they_go_on_from_their_logs():
    for seed in range(1, 6):
        world = healthy_world(4, seed)
        for _ in range(5):
            run_for(world, 1_700 + 130 * seed)
            for node in world.nodes:
                node.crash()
            run_for(world, 1_000)
            for node in world.nodes:
                node.boot()
        before = height(world)
        run_for(world, 10_000)
        assert height(world) > before
        assert len({node.database.tip_hash for node in world.nodes if node.height == before}) <= 1


def test_who_lost_its_disk_syncs_is_silent_for_two_heights_and_votes_again():
    world = healthy_world(4)
    run_for(world, 20_000)
    node = world.nodes[2]
    node.crash()
    node.wipe()
    node.boot()
    assert node.core.abstaining
    run_for(world, 30_000)
    assert node.height >= height(world) - 1
    assert not node.core.abstaining
    certificates = [
        node.database.blocks[number][1] for number in range(node.height - 7, node.height + 1)
    ]
    me = [world.authorities(1).index_of(node.public)] * len(certificates)
    assert any(item.bitmap >> index & 1 for item, index in zip(certificates, me, strict=True))
