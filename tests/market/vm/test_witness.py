"""Part of a state: what it shows is the state's, and what it does not show is never absent."""

import random

import pytest

from market.errors import StateError, WitnessGap, WitnessRefused
from market.vm import merkle, witness
from market.vm.journal import FOLDER_MARK, Journal, State, folder_counts_after, load
from market.vm.merkle import Tree
from market.vm.witness import RecordingState

FOLDERS = ("", "a/", "a/b/", "a/b/c/", "d/")


def tree_of(state: State) -> Tree:
    return merkle.update(None, state.items | state.folder_counts())


def random_state(dice: random.Random, count: int) -> State:
    keys = [f"{dice.choice(FOLDERS)}{dice.randrange(200)}" for _ in range(count)]
    return load((key, bytes([dice.randrange(256)])) for key in keys)


def run(state: State, dice: random.Random) -> tuple[list[object], dict[str, bytes | None]]:
    """Do whatever an execution may do over a state; the same for the same dice."""
    journal = Journal(state)
    seen: list[object] = []
    for _ in range(dice.randrange(1, 8)):
        key = f"{dice.choice(FOLDERS)}{dice.randrange(200)}"
        action = dice.randrange(5)
        if action == 0:
            seen.append(journal.get(key))
        elif action == 1:
            journal.put(key, bytes([dice.randrange(256)]))
        elif action == 2:
            journal.put(key, None)
        elif action == 3:
            folder = dice.choice(FOLDERS[1:])
            found = journal.keys_under(folder)
            seen.append(found)
            for gone in found[: dice.randrange(3)]:
                journal.put(gone, None)
        else:
            folder = dice.choice(FOLDERS[1:])
            for gone in journal.keys_under(folder):
                journal.put(gone, None)
    writes = {key: value for key, value in journal.writes.items() if state.items.get(key) != value}
    return seen, writes


@pytest.mark.parametrize("seed", range(3))
def test_an_execution_over_a_witness_is_the_one_over_the_state(seed: int) -> None:
    """Same answers, same root after it, whatever is read, listed, written and deleted."""
    for step in range(60):
        dice = random.Random(seed * 1_000 + step)
        state = random_state(dice, dice.choice([0, 1, 2, 5, 20, 80]))
        tree = tree_of(state)
        again = dice.randrange(10**9)
        recorder = RecordingState(state)
        seen, writes = run(recorder, random.Random(again))
        folders = folder_counts_after(recorder, writes)
        after = merkle.root_of(merkle.update(tree, writes | folders))
        data = witness.write(state, tree, recorder.touched, {})
        shown, part = witness.read(data, merkle.root_of(tree), {})
        assert run(shown, random.Random(again)) == (seen, writes)
        assert folder_counts_after(shown, writes) == folders
        assert merkle.root_of(merkle.update(part, writes | folders)) == after
        # Which is the root of the state that has been changed so.
        state.apply(writes)
        assert merkle.root_of(tree_of(state)) == after


def test_what_is_not_shown_is_not_absent() -> None:
    state = load((f"a/{number}", bytes([number])) for number in range(50))
    tree = tree_of(state)
    data = witness.write(state, tree, {"a/1", FOLDER_MARK + "a/", "a/nothing"}, {})
    shown, part = witness.read(data, merkle.root_of(tree), {})
    assert shown.items.get("a/1") == b"\x01"
    assert shown.items["a/1"] == b"\x01"
    assert shown.items.get("a/nothing") is None
    assert "a/nothing" not in shown.items
    with pytest.raises(KeyError):
        shown.items["a/nothing"]
    assert shown.count("a/") == 50
    for number in range(2, 50):
        with pytest.raises(WitnessGap, match="not shown"):
            shown.items.get(f"a/{number}")
    with pytest.raises(WitnessGap, match="not all that stands in a/"):
        shown.keys_under("a/")
    with pytest.raises(WitnessGap):
        merkle.update(part, {"a/7": b"new"})
    with pytest.raises(WitnessGap):
        merkle.update(part, {f"a/{number}": None for number in range(2, 50)})
    with pytest.raises(WitnessGap):
        merkle.prove(part, "a/7")


def test_a_witness_is_of_one_root() -> None:
    state = load((f"a/{number}", bytes([number])) for number in range(9))
    tree = tree_of(state)
    root = merkle.root_of(tree)
    touched = {f"a/{number}" for number in range(0, 9, 2)}
    data = witness.write(state, tree, touched, {})
    witness.read(data, root, {})
    for place in range(len(data)):
        for wrong in (data[:place], data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]):
            with pytest.raises(WitnessRefused):
                witness.read(wrong, root, {})
    for wrong in (data + b"\0", b"", b"\x09", b"\4" * 300, b"\1" + merkle.EMPTY_ROOT):
        with pytest.raises(WitnessRefused):
            witness.read(wrong, root, {})
    assert witness.read(b"\0", merkle.EMPTY_ROOT, {})[0].count("") == 0


def test_a_single_pair_is_never_cut_off() -> None:
    """Else its rise, when the pair beside it goes, would give another root than the state's."""
    state = load([("a", b"1"), ("b", b"2"), ("c", b"3")])
    tree = merkle.update(None, state.items)
    for gone in state.items:
        recorder = RecordingState(state)
        recorder.items.get(gone)
        data = witness.write(state, tree, recorder.touched, {})
        _, part = witness.read(data, merkle.root_of(tree), {})
        wanted = merkle.update(tree, {gone: None})
        assert merkle.root_of(merkle.update(part, {gone: None})) == merkle.root_of(wanted)
    # A liar who cuts one off all the same comes to no root at all.
    assert isinstance(tree, merkle.Node)
    sides = [tree.left, tree.right]
    (pair,) = [side for side in sides if isinstance(side, merkle.Leaf)]
    lying = [b"\1" + side.hash if side is pair else _shown(side) for side in sides if side]
    data = b"\4" + b"".join(lying)
    _, part = witness.read(data, merkle.root_of(tree), {})
    others = {key: None for key in state.items if merkle.path_of(key) != pair.path}
    with pytest.raises(WitnessGap, match="beside a deleted pair"):
        merkle.update(part, others)


def _shown(tree: Tree) -> bytes:
    if tree is None:
        return b"\0"
    if isinstance(tree, merkle.Leaf):
        return b"\2" + tree.path.to_bytes(32, "big") + tree.value_hash
    assert isinstance(tree, merkle.Node)
    return b"\4" + _shown(tree.left) + _shown(tree.right)


def test_known_code_is_not_written_out() -> None:
    code_hash = "ab" * 32
    state = load([(f"vm/code/{code_hash}", b"a long text"), ("x", b"1")])
    tree = tree_of(state)
    known = {code_hash: b"a long text"}
    touched = {f"vm/code/{code_hash}"}
    data = witness.write(state, tree, touched, known)
    assert b"long" not in data
    shown, _ = witness.read(data, merkle.root_of(tree), known)
    assert shown.items.get(f"vm/code/{code_hash}") == b"a long text"
    with pytest.raises(WitnessRefused, match="does not show code"):
        witness.read(data, merkle.root_of(tree), {})
    # Of code that is another than the reader's under that hash, the text is written.
    assert b"long" in witness.write(state, tree, touched, {code_hash: b"other"})


def test_folders_are_counted_as_keys_come_and_go() -> None:
    state = load([("a/b/1", b""), ("a/b/2", b""), ("a/3", b""), ("top", b"")])
    assert state.folder_counts() == {"/": b"\x02", "/a/": b"\x02", "/a/b/": b"\x02"}
    gone: dict[str, bytes | None] = {"a/b/1": None, "a/b/2": None}
    assert folder_counts_after(state, gone) == {"/a/b/": None, "/a/": b"\x01"}
    more = gone | {"a/b/c/9": b"", "d/e/1": b"", "a/4": b"x", "a/3": b"changed", "none": None}
    wanted = {"/a/b/": b"\x01", "/a/b/c/": b"\x01", "/a/": b"\x03"}
    wanted |= {"/d/": b"\x01", "/d/e/": b"\x01", "/": b"\x03"}
    assert folder_counts_after(state, more) == wanted
    state.apply(more)
    assert state.folder_counts() == wanted
    every: dict[str, bytes | None] = dict.fromkeys(state.items)
    assert folder_counts_after(state, every) == dict.fromkeys(wanted)


def test_a_count_that_cannot_be_is_refused() -> None:
    class Lying(State):
        def count(self, folder: str) -> int:
            return 0

    state = Lying()
    state.apply({"a/1": b""})
    with pytest.raises(StateError, match="has 0 entries"):
        folder_counts_after(state, {"a/1": None})
