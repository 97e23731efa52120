"""The tree: its root depends on the key-value set only, and its proofs prove."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from market.vm import merkle
from market.vm.merkle import EMPTY_ROOT, Proof, list_root, prove, root_of, update, verify

keys = st.text(alphabet="abcdef/0123", min_size=1, max_size=6)
values = st.binary(max_size=8)
maps = st.dictionaries(keys, values, max_size=40)


@given(maps, st.randoms(use_true_random=False), st.lists(keys, max_size=20))
def test_root_depends_on_the_set_only(
    items: dict[str, bytes], random_: random.Random, gone
) -> None:
    whole = root_of(update(None, items))
    tree = None
    order = list(items.items())
    random_.shuffle(order)
    for key, value in order:
        tree = update(tree, {key: b"first " + value})
    tree = update(tree, {f"gone/{key}": b"x" for key in gone})
    for start in range(0, len(order), 3):
        tree = update(tree, dict(order[start : start + 3]))
    tree = update(tree, {f"gone/{key}": None for key in gone})
    assert root_of(tree) == whole
    assert root_of(update(tree, dict.fromkeys(items))) == EMPTY_ROOT


@given(maps, maps)
def test_different_sets_have_different_roots(
    left: dict[str, bytes], right: dict[str, bytes]
) -> None:
    same = root_of(update(None, left)) == root_of(update(None, right))
    assert same == (left == right)


@given(maps, keys, values)
def test_proofs(items: dict[str, bytes], key: str, other: bytes) -> None:
    tree = update(None, items)
    root = root_of(tree)
    proof = prove(tree, key)
    held = items.get(key)
    assert verify(root, key, held, proof)
    if held is None:
        assert not verify(root, key, other, proof)
    else:
        assert not verify(root, key, None, proof)
        assert verify(root, key, other, proof) == (other == held)


@given(maps, keys, st.data())
def test_tampered_proofs_prove_nothing(
    items: dict[str, bytes], key: str, data: st.DataObject
) -> None:
    tree = update(None, items)
    root = root_of(tree)
    proof = prove(tree, key)
    held = items.get(key)
    siblings = list(proof.siblings)
    if siblings:
        place = data.draw(st.integers(0, len(siblings) - 1))
        kind = data.draw(st.sampled_from(["change", "drop", "repeat"]))
        if kind == "change":
            siblings[place] = bytes([siblings[place][0] ^ 1]) + siblings[place][1:]
        elif kind == "drop":
            del siblings[place]
        else:
            siblings.insert(place, siblings[place])
        bad = Proof(tuple(siblings), proof.leaf_key_hash, proof.leaf_value_hash)
        assert not verify(root, key, held, bad)
    assert not verify(bytes(31) + b"\x01", key, held, proof)


def test_malformed_proofs_are_just_false() -> None:
    tree = update(None, {"a": b"1", "b": b"2"})
    root = root_of(tree)
    proof = prove(tree, "a")
    for bad in (
        Proof((b"short",), b"", b""),
        Proof((bytes(32),) * 257, b"", b""),
        Proof(proof.siblings, b"x", b"y"),
        Proof(proof.siblings, b"", b"y" * 32),
        Proof((), proof.leaf_key_hash, proof.leaf_value_hash),
    ):
        assert not verify(root, "c", None, bad)
    # A leaf that claims to be somewhere its path does not lead.
    other = prove(tree, "b")
    assert not verify(root, "a", None, other)


@settings(max_examples=30)
@given(st.lists(values, max_size=20))
def test_list_root_counts_place_and_content(items: list[bytes]) -> None:
    assert list_root(items) == list_root(list(items))
    assert list_root([*items, b"x"]) != list_root(items)
    if len(set(items)) > 1:
        assert list_root(items[::-1]) != list_root(items) or items == items[::-1]


def test_unchanged_subtrees_are_shared() -> None:
    tree = update(None, {str(i): b"v" for i in range(100)})
    assert update(tree, {}) is tree
    assert isinstance(tree, merkle.Node)
    changed = update(tree, {"7": b"w"})
    assert isinstance(changed, merkle.Node)
    assert (changed.left is tree.left) != (changed.right is tree.right)


def test_vector() -> None:
    """Worked by hand from the rules in the module's docstring."""
    import hashlib

    def sha(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    def leaf(key: bytes, value: bytes) -> bytes:
        return sha(b"\x00" + sha(key) + sha(value))

    # SHA-256 of "a" begins with 0xca (1...), of "b" with 0x3e (0...).
    assert sha(b"a")[0] == 0xCA
    assert sha(b"b")[0] == 0x3E
    assert root_of(update(None, {"a": b"1"})) == leaf(b"a", b"1")
    expected = sha(b"\x01" + leaf(b"b", b"2") + leaf(b"a", b"1"))
    assert root_of(update(None, {"a": b"1", "b": b"2"})) == expected
