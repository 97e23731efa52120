"""Situations drawn by hand: who is away and for how long; how soon the rest, or all, go on.

Times are simulated, so they are the same on every machine.
"""

from itertools import pairwise
from statistics import quantiles

from consensus.messages import Proposal
from tests.sim.faults import Faults
from tests.sim.mutants import NO_ROUND_JUMP
from tests.sim.world import World

MINUTE_MS = 60_000


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


def test_with_f_dead_more_than_half_of_the_blocks_are_made():
    healthy = intervals_ms(healthy_world(10), 5 * MINUTE_MS)
    world = healthy_world(10)
    for slot in (0, 3, 6):
        world.nodes[slot].crash()
    limping = intervals_ms(world, 5 * MINUTE_MS)
    assert len(limping) >= len(healthy) / 2
    assert quantiles(limping, n=20)[18] <= 4 * quantiles(healthy, n=20)[18]


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
