"""Catching up among liars: it always ends at the honest head, and no honest peer is dropped.

S4: who is asked, and when. S5, S6: headers, then bodies, within bounds. S7: in order.
S8: snapshots. S9: lies end a peer, failures do not.
"""

from random import Random

import pytest

from consensus import sync_events as ev
from consensus.sync import BLOCKS_AHEAD_MAX, POLL_MS, REQUESTS_MAX
from tests.consensus.ready import HonestPeer, ready_chain
from tests.consensus.sync_world import LIES, NO_PROOF, Liar, SyncWorld

GOAL = ready_chain().height


def honest(count: int = 3, height: int = GOAL, first_height: int = 0) -> dict[str, HonestPeer]:
    return {
        f"honest-{place}": HonestPeer(ready_chain(), height, first_height) for place in range(count)
    }


def liar(
    lie: str, seed: int = 0, name: str = "a-liar", height: int = GOAL
) -> dict[str, HonestPeer]:
    return {name: Liar(ready_chain(), height, lie, Random(seed))}


def test_blocks_come_from_several_peers_in_order_and_within_bounds() -> None:
    peers = honest()
    asked: dict[str, int] = {}
    for name, peer in peers.items():
        answer = peer.answer

        def counted(question, name=name, answer=answer):  # type: ignore[no-untyped-def]
            asked[name] = asked.get(name, 0) + (type(question).__name__ == "GetBlocks")
            return answer(question)

        peer.answer = counted  # type: ignore[method-assign]
    world = SyncWorld(1, peers).run(GOAL)
    assert world.applied == list(range(1, GOAL + 1))
    assert min(asked.get(name, 0) for name in peers) > 0
    assert world.open_max <= REQUESTS_MAX
    assert world.machine.behind == 0
    assert not world.dropped


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("snapshot_behind", [0, 100])
def test_each_lie_is_outlived(lie: str, snapshot_behind: int) -> None:
    for seed in range(4):
        world = SyncWorld(seed, {**liar(lie, seed), **honest(2)}, snapshot_behind).run(GOAL)
        # While a mute peer's offer is awaited, the blocks are coming already.
        assert bool(world.loaded) == bool(snapshot_behind) or lie == "mute"
        if lie in NO_PROOF:
            assert not world.dropped


@pytest.mark.parametrize(
    "lie", ["unlinked", "uncertified", "reordered", "wrong_body", "garbage", "duplicated"]
)
def test_a_lie_in_blocks_is_found_and_ends_the_peer(lie: str) -> None:
    # The liar is the only one so high: it must be asked.
    world = SyncWorld(3, {**liar(lie), **honest(2, GOAL - 50)}).run(GOAL - 50)
    world.run_ms(3 * POLL_MS)
    assert set(world.dropped) == {"a-liar"}
    assert world.height <= GOAL


@pytest.mark.parametrize(
    "lie", ["wrong_chunk", "wrong_manifest", "snapshot", "foreign_manifest", "short_path"]
)
def test_a_lie_in_a_snapshot_is_found_and_another_peer_serves(lie: str) -> None:
    # First the liar alone, so that its snapshot is begun with.
    peers = liar(lie)
    world = SyncWorld(5, peers, snapshot_behind=100).run_ms(4_000)
    assert set(world.dropped) == {"a-liar"}
    assert not world.loaded
    for name, peer in honest(2).items():
        peers[name] = peer
        world.feed(ev.PeerCame(name))
    world.run(GOAL)
    assert world.loaded == [300]


@pytest.mark.parametrize("seed", range(60))
def test_any_mixture_of_peers(seed: int) -> None:
    rng = Random(seed)
    peers: dict[str, HonestPeer] = honest(rng.randint(1, 3))
    for place in range(rng.randint(0, 5)):
        lie = rng.choice(LIES)
        peers |= liar(lie, seed, f"{rng.choice('az')}-{lie}-{place}", rng.randint(1, GOAL))
    if rng.random() < 0.5:
        peers |= {"low": HonestPeer(ready_chain(), rng.randint(0, GOAL - 1))}
    if rng.random() < 0.5:
        peers |= {"pruned": HonestPeer(ready_chain(), GOAL, 200)}
    world = SyncWorld(
        seed,
        peers,
        snapshot_behind=rng.choice((0, 50, 150)),
        start=rng.choice((0, 0, 39, 40, 41, 120)),
        loss=rng.choice((0.0, 0.1, 0.3)),
        duplicates=rng.choice((0.0, 0.3)),
    )
    world.run(GOAL)
    assert world.machine.behind == 0 or world.machine.peers.best_claim() > GOAL


def test_one_seed_is_one_run() -> None:
    runs = [SyncWorld(8, {**liar("garbage"), **honest()}, loss=0.2).run(GOAL) for _ in range(2)]
    assert (runs[0].now_ms, runs[0].asked) == (runs[1].now_ms, runs[1].asked)


def test_a_snapshot_is_fetched_only_by_who_is_far_behind() -> None:
    assert SyncWorld(1, honest(), snapshot_behind=150, start=200).run(GOAL).loaded == []
    world = SyncWorld(1, honest(), snapshot_behind=150).run(GOAL)
    assert world.loaded == [300]
    assert SyncWorld(1, honest(), snapshot_behind=0).run(GOAL).loaded == []


def test_where_nobody_has_the_blocks_a_snapshot_is_fetched_however_near() -> None:
    world = SyncWorld(2, honest(2, GOAL, first_height=280), snapshot_behind=0, start=270)
    assert world.run(GOAL).loaded == [300]


def test_chunks_from_before_a_restart_are_not_fetched_again() -> None:
    world = SyncWorld(2, honest(), snapshot_behind=100)
    world.spooled_before = frozenset({0})
    world.run(GOAL)
    assert world.loaded == [300]
    assert 0 not in world.spool
    assert world.spool


def test_a_peer_that_leaves_gives_its_work_to_others() -> None:
    peers = honest(2)
    world = SyncWorld(4, peers)
    while world.height < 20:
        world.step()
    del peers["honest-0"]
    world.feed(ev.PeerGone("honest-0"))
    begun_ms = world.now_ms
    world.run(GOAL)
    assert world.now_ms - begun_ms < 20_000


def test_a_chain_that_runs_asks_next_to_nothing() -> None:
    peers = honest(3, 100)
    world = SyncWorld(1, peers, start=100).run_ms(1_000)
    asked = world.asked
    for height in range(101, 161):
        for peer in peers.values():
            peer.height = height
        world.feed(ev.Heard("honest-0", height))
        world.move_to(height)
        world.run_ms(1_000)
    assert world.asked - asked == 0
    # It stands still: every poll asks a few.
    world.run_ms(10 * POLL_MS)
    assert 9 * 3 <= world.asked - asked <= 11 * 3


def test_a_notice_is_given_time_to_bring_its_block() -> None:
    peers = honest(1, 100)
    world = SyncWorld(1, peers, start=100).run_ms(2_000)
    asked = world.asked
    peers["honest-0"].height = 101
    world.feed(ev.Heard("honest-0", 101))
    world.run_ms(150)
    assert world.asked == asked
    assert world.machine.behind == 1
    world.run(101)


def test_blocks_applied_by_others_meanwhile_do_no_harm() -> None:
    world = SyncWorld(9, honest(2))
    rng = Random(9)
    while world.height < GOAL:
        world.step()
        if rng.random() < 0.05 and world.height < GOAL:
            world.move_to(min(world.height + rng.randint(1, 3), GOAL))
    assert not world.dropped


def test_what_is_buffered_is_bounded() -> None:
    world = SyncWorld(1, honest())
    while world.height < GOAL:
        world.step()
        machine = world.machine
        assert len(machine._bodies) <= BLOCKS_AHEAD_MAX
        assert machine._body_bytes == sum(body.size for body in machine._bodies.values())


def test_a_block_the_chain_refuses_ends_who_brought_it() -> None:
    world = SyncWorld(1, {**liar("stall", name="a")})
    world.peers["a"].answer = HonestPeer(ready_chain(), GOAL).answer  # type: ignore[method-assign]
    refused: list[int] = []

    def refuse(block) -> None:  # type: ignore[no-untyped-def]
        refused.append(block.header.height)
        world._do(ev.BlockRefused(block.header.height, "size"))

    world._apply = refuse  # type: ignore[method-assign]
    world.run_ms(20_000)
    assert refused == [1]
    assert set(world.dropped) == {"a"}
