"""A short run of the perturbations: each kind once. `python -m tests.e2e.perturb` runs many.

How long recovery takes is the command's to judge: a loaded machine is no failure here.
"""

from pathlib import Path

import pytest

from consensus.messages import PREVOTE, Vote
from consensus.wal import VoteRecord
from node.chain.wal import Wal
from node.setup import WAL_NAME
from tests.e2e.chains import Signed, StoredChain, order_problems, root_problems
from tests.e2e.perturb import KINDS, PATIENCE_S, TWO, Trial, sequence

SEED = 5


@pytest.mark.slow
async def test_a_street_under_perturbation_loses_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    trial = Trial(tmp_path, 7, said.append, recovery_max_s=PATIENCE_S)
    await trial.run(sequence(SEED, len(KINDS) + 1, trial.names, trial.faulty_max))
    report = trial.report(SEED)
    assert not trial.violations, "\n".join(said)
    assert {row["kind"] for row in report["rows"]} == {*KINDS, TWO}
    # There was something to compare.
    assert report["roots_compared"] > 10
    assert report["orders_ok"] > 10
    assert report["values_signed"] > 7 * 10


def test_a_seed_makes_one_sequence_of_every_kind() -> None:
    names = [f"home-{number:02d}" for number in range(1, 8)]
    found = sequence(3, 80, names, 2)
    assert found == sequence(3, 80, names, 2)
    assert found != sequence(4, 80, names, 2)
    for start in range(0, 80, 8):
        assert {each.kind for each in found[start : start + 8]} == {*KINDS, TWO}
    for each in found:
        assert len({strike.name for strike in each.strikes}) == len(each.strikes) <= 2
    assert all(each.kind != TWO for each in sequence(3, 80, names[:4], 1))


def chain(heights: range, salt: bytes = b"") -> StoredChain:
    blocks = {height: (b"%d" % height, b"root" + salt) for height in heights}
    return StoredChain(blocks, {"aa": 5})


def test_a_state_that_differs_is_found() -> None:
    one, other = chain(range(9)), chain(range(9), b"!")
    assert not list(root_problems({"a": one, "b": chain(range(12))}))
    assert "height 0" in next(root_problems({"a": one, "b": other}))
    holed = StoredChain({0: one.blocks[0], 2: one.blocks[2]}, {})
    assert list(root_problems({"a": holed})) == ["a has a gap at height 1"]
    assert not list(root_problems({"a": holed._replace(first=2)}))


def test_an_order_that_is_lost_or_elsewhere_is_found() -> None:
    decided = {"aa": (5, b"5".hex())}
    assert not list(order_problems({"a": chain(range(9))}, decided))
    (lost,) = order_problems({"a": chain(range(9))._replace(heights={})}, decided)
    assert "nowhere" in lost
    begun_later = chain(range(6, 9))._replace(heights={}, first=6)
    assert not list(order_problems({"a": begun_later}, decided))
    at_snapshot = chain(range(5, 9))._replace(heights={}, first=5)
    assert not list(order_problems({"a": at_snapshot}, decided))
    at_snapshot.blocks[5] = (b"x", b"root")
    assert len(list(order_problems({"a": at_snapshot}, decided))) == 1
    (moved,) = order_problems({"a": chain(range(9))._replace(heights={"aa": 6})}, decided)
    assert "has it at 6" in moved
    forked = chain(range(9))
    forked.blocks[5] = (b"x", b"root")
    (other,) = order_problems({"a": forked}, decided)
    assert "another block" in other


def test_a_home_that_forgot_what_it_signed_is_found(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory, block_hash in ((first, b"\1" * 32), (second, b"\2" * 32)):
        directory.mkdir()
        write_vote(directory, block_hash)
    signed = Signed()
    assert signed.read("home", first) == []
    assert signed.read("home", first) == []
    assert signed.read("other", second) == []
    assert signed.read("home", tmp_path) == []
    assert signed.read("home", second) == ["home has signed two values at (7, 0, 1)"]
    assert signed.heights("home") == (7, 7)


def write_vote(directory: Path, block_hash: bytes) -> None:
    Wal.create(directory / WAL_NAME)
    wal = Wal.open(directory / WAL_NAME)
    vote = Vote(
        kind=PREVOTE,
        epoch=0,
        height=7,
        round=0,
        block_hash=block_hash,
        voter=0,
        signature=bytes(64),
    )
    wal.append(VoteRecord(vote))
    wal.close()
