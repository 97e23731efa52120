"""The state root: a compact sparse Merkle tree over the hashes of keys.

A subtree that holds one key is that key's leaf, wherever it starts; an empty one is 32 zero bytes.
The shape, and so the root, depends on the set of key-value pairs only: not on the order of their
coming, nor on what was deleted. Nodes are immutable and shared, so an update costs the changed
paths and a speculative tree costs nothing to drop.

    leaf  = H(0x00 ‖ H(key) ‖ H(value))        node = H(0x01 ‖ left ‖ right)

A proof lists the sibling hashes from the root down, and the leaf met at the end of the key's path:
the key's own (inclusion), another's, or none (absence).
"""

import bisect
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from market.errors import WitnessGap
from wire.codec import Message

EMPTY_ROOT: Final = bytes(32)
PATH_BITS: Final = 256
# Those of a street's last few blocks: each takes 400 bytes, and most keys are a slot's, which pass.
PLACES_KEPT_MAX: Final = 4_096

_sha256 = hashlib.sha256


class Leaf(msgspec.Struct, frozen=True, gc=False):
    """A subtree of one key."""

    hash: bytes
    path: int
    value_hash: bytes


class Node(msgspec.Struct, frozen=True, gc=False):
    """A subtree of two or more keys."""

    hash: bytes
    left: "Tree"
    right: "Tree"


class Stub(msgspec.Struct, frozen=True, gc=False):
    """A subtree of two or more keys of which only the hash is known (`witness.py`)."""

    hash: bytes


Tree: TypeAlias = Leaf | Node | Stub | None
# One change of a batch: the key's path, and its new leaf or None to delete it.
_Change: TypeAlias = tuple[int, Leaf | None]


class Proof(Message, frozen=True, tag="proof"):
    """What is at a key, against a root.

    `siblings` are the hashes beside the key's path, from the root down. `leaf_key_hash` and
    `leaf_value_hash` describe the leaf at the end of the path; both empty if there is none.
    """

    siblings: tuple[bytes, ...]
    leaf_key_hash: bytes
    leaf_value_hash: bytes


def root_of(tree: Tree) -> bytes:
    """Return the 32-byte root of `tree`."""
    return EMPTY_ROOT if tree is None else tree.hash


def update(tree: Tree, writes: Mapping[str, bytes | None]) -> Tree:
    """Return `tree` with `writes` applied; a None deletes its key."""
    changes: list[_Change] = []
    for key, value in writes.items():
        path, digest = _place(key)
        leaf = None if value is None else _leaf(path, digest, _sha256(value).digest())
        changes.append((path, leaf))
    changes.sort(key=_path_of)
    paths = [path for path, _ in changes]
    leaves = [leaf for _, leaf in changes]
    return _update(tree, paths, leaves, 0, len(paths), PATH_BITS - 1)


def path_of(key: str) -> int:
    """Return where a key stands: its hash as a number, the first bit on top."""
    return _place(key)[0]


def leaf_of(key_hash: bytes, value_hash: bytes) -> Leaf:
    """Return the leaf of a key and a value of which only the hashes are known."""
    return _leaf(int.from_bytes(key_hash, "big"), key_hash, value_hash)


def node_of(left: Tree, right: Tree) -> Node:
    """Return the node over two subtrees as they are, whatever stands in them."""
    return Node(_sha256(b"\x01" + root_of(left) + root_of(right)).digest(), left, right)


@functools.lru_cache(maxsize=PLACES_KEPT_MAX)
def _place(key: str) -> tuple[int, bytes]:
    """Return a key's path and hash. Most keys of a block were in one shortly before."""
    digest = _sha256(key.encode()).digest()
    return int.from_bytes(digest, "big"), digest


def prove(tree: Tree, key: str) -> Proof:
    """Return the proof of what `tree` holds at `key`, be it nothing."""
    path = int.from_bytes(_sha256(key.encode()).digest(), "big")
    siblings: list[bytes] = []
    bit = PATH_BITS - 1
    while isinstance(tree, Node):
        right = path >> bit & 1
        siblings.append(root_of(tree.left if right else tree.right))
        tree = tree.right if right else tree.left
        bit -= 1
    if tree is None:
        return Proof(tuple(siblings), b"", b"")
    if isinstance(tree, Stub):
        raise WitnessGap(f"what stands at {key} is not shown")
    return Proof(tuple(siblings), tree.path.to_bytes(32, "big"), tree.value_hash)


def verify(root: bytes, key: str, value: bytes | None, proof: Proof) -> bool:
    """Tell whether `proof` shows that `root` holds `value` at `key` (None: holds nothing there).

    Any malformed proof is just False.
    """
    if len(proof.siblings) > PATH_BITS or any(len(sibling) != 32 for sibling in proof.siblings):
        return False
    key_hash = _sha256(key.encode()).digest()
    path = int.from_bytes(key_hash, "big")
    depth = len(proof.siblings)
    if value is not None:
        if proof.leaf_key_hash != key_hash or proof.leaf_value_hash != _sha256(value).digest():
            return False
        found = _leaf(path, key_hash, proof.leaf_value_hash).hash
    elif not proof.leaf_key_hash and not proof.leaf_value_hash:
        found = EMPTY_ROOT
    else:
        if len(proof.leaf_key_hash) != 32 or len(proof.leaf_value_hash) != 32:
            return False
        other = int.from_bytes(proof.leaf_key_hash, "big")
        if other == path or (other ^ path) >> (PATH_BITS - depth):
            return False
        found = _leaf(other, proof.leaf_key_hash, proof.leaf_value_hash).hash
    for level in range(depth - 1, -1, -1):
        sibling = proof.siblings[level]
        right = path >> (PATH_BITS - 1 - level) & 1
        pair = sibling + found if right else found + sibling
        found = _sha256(b"\x01" + pair).digest()
    return found == root


def list_root(items: Sequence[bytes]) -> bytes:
    """Return the root of a list: position and content of each item count.

    The root of the tree of keys `0`, `1`, ... so that one proof format serves states and lists.
    """
    return root_of(_list_tree(items))


def prove_item(items: Sequence[bytes], index: int) -> Proof:
    """Return the proof of what a list holds at `index`, for `verify` with the key `str(index)`."""
    return prove(_list_tree(items), str(index))


def _list_tree(items: Sequence[bytes]) -> Tree:
    return update(None, {str(index): item for index, item in enumerate(items)})


def _path_of(change: _Change) -> int:
    return change[0]


def _leaf(path: int, key_hash: bytes, value_hash: bytes) -> Leaf:
    return Leaf(_sha256(b"\x00" + key_hash + value_hash).digest(), path, value_hash)


def _join(left: Tree, right: Tree) -> Tree:
    if left is None:
        if right is None or type(right) is Leaf:
            return right
        _need_node(right)
        return Node(_sha256(b"\x01" + EMPTY_ROOT + right.hash).digest(), left, right)
    if right is None:
        if type(left) is Leaf:
            return left
        _need_node(left)
        return Node(_sha256(b"\x01" + left.hash + EMPTY_ROOT).digest(), left, right)
    return Node(_sha256(b"\x01" + left.hash + right.hash).digest(), left, right)


def _need_node(tree: Tree) -> None:
    """Raise `WitnessGap` for what is cut off: it might be a single leaf, which would rise."""
    if type(tree) is Stub:
        raise WitnessGap("what stands beside a deleted pair is not shown")


def _update(
    tree: Tree, paths: list[int], leaves: list[Leaf | None], low: int, high: int, bit: int
) -> Tree:
    """Apply changes `low` to `high`, sorted, all of this subtree, which divides at `bit`."""
    if high - low < 2:
        return _update_one(tree, paths[low], leaves[low], bit) if low < high else tree
    if type(tree) is Node:
        cut = _cut(paths, low, high, bit)
        left = _update(tree.left, paths, leaves, low, cut, bit - 1)
        right = _update(tree.right, paths, leaves, cut, high, bit - 1)
        if left is tree.left and right is tree.right:
            return tree
        return _join(left, right)
    if type(tree) is Stub:
        raise WitnessGap("what is to be changed is not shown")
    kept = [leaf for leaf in leaves[low:high] if leaf is not None]
    if type(tree) is Leaf:
        place = bisect.bisect_left(paths, tree.path, low, high)
        if place == high or paths[place] != tree.path:
            bisect.insort(kept, tree, key=_path_of_leaf)
    return _build(kept, [leaf.path for leaf in kept], 0, len(kept), bit)


def _update_one(tree: Tree, path: int, leaf: Leaf | None, bit: int) -> Tree:
    """Apply one change. Most of a block's changes are alone in their subtree for most levels."""
    above: list[Node] = []
    below = tree
    while type(below) is Node:
        above.append(below)
        below = below.right if path >> bit & 1 else below.left
        bit -= 1
    if type(below) is Stub:
        raise WitnessGap("what is to be changed is not shown")
    found: Tree
    if type(below) is not Leaf or below.path == path:
        found = leaf
    elif leaf is None:
        return tree
    else:
        pair = [below, leaf] if below.path < path else [leaf, below]
        found = _build(pair, [one.path for one in pair], 0, 2, bit)
    if found is below:
        return tree
    while above:
        bit += 1
        node = above.pop()
        found = _join(node.left, found) if path >> bit & 1 else _join(found, node.right)
    return found


def _build(leaves: list[Leaf], paths: list[int], low: int, high: int, bit: int) -> Tree:
    if high - low < 2:
        return leaves[low] if low < high else None
    cut = _cut(paths, low, high, bit)
    return _join(
        _build(leaves, paths, low, cut, bit - 1), _build(leaves, paths, cut, high, bit - 1)
    )


def _cut(paths: list[int], low: int, high: int, bit: int) -> int:
    """Return where, among sorted paths that are equal above `bit`, those with that bit begin."""
    return bisect.bisect_left(paths, (paths[low] >> bit | 1) << bit, low, high)


def _path_of_leaf(leaf: Leaf) -> int:
    return leaf.path
