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
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from wire.codec import Message

EMPTY_ROOT: Final = bytes(32)
PATH_BITS: Final = 256

_sha256 = hashlib.sha256


class Leaf(NamedTuple):
    """A subtree of one key."""

    hash: bytes
    path: int
    value_hash: bytes


class Node(NamedTuple):
    """A subtree of two or more keys."""

    hash: bytes
    left: "Tree"
    right: "Tree"


Tree: TypeAlias = Leaf | Node | None
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
        digest = _sha256(key.encode()).digest()
        path = int.from_bytes(digest, "big")
        changes.append((path, None if value is None else _leaf(path, _sha256(value).digest())))
    changes.sort(key=_path_of)
    return _update(tree, changes, PATH_BITS - 1)


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
        found = _leaf(path, proof.leaf_value_hash).hash
    elif not proof.leaf_key_hash and not proof.leaf_value_hash:
        found = EMPTY_ROOT
    else:
        if len(proof.leaf_key_hash) != 32 or len(proof.leaf_value_hash) != 32:
            return False
        other = int.from_bytes(proof.leaf_key_hash, "big")
        if other == path or (other ^ path) >> (PATH_BITS - depth):
            return False
        found = _leaf(other, proof.leaf_value_hash).hash
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


def _leaf(path: int, value_hash: bytes) -> Leaf:
    return Leaf(_sha256(b"\x00" + path.to_bytes(32, "big") + value_hash).digest(), path, value_hash)


def _join(left: Tree, right: Tree) -> Tree:
    if left is None:
        if right is None or type(right) is Leaf:
            return right
        return Node(_sha256(b"\x01" + EMPTY_ROOT + right.hash).digest(), left, right)
    if right is None:
        if type(left) is Leaf:
            return left
        return Node(_sha256(b"\x01" + left.hash + EMPTY_ROOT).digest(), left, right)
    return Node(_sha256(b"\x01" + left.hash + right.hash).digest(), left, right)


def _update(tree: Tree, changes: list[_Change], bit: int) -> Tree:
    """Apply path-sorted `changes`, all of this subtree, which divides at `bit`."""
    if type(tree) is Node:
        cut = bisect.bisect_left(changes, 1, key=lambda change: change[0] >> bit & 1)
        left = _update(tree.left, changes[:cut], bit - 1) if cut else tree.left
        right = _update(tree.right, changes[cut:], bit - 1) if cut < len(changes) else tree.right
        if left is tree.left and right is tree.right:
            return tree
        return _join(left, right)
    leaves = [leaf for _, leaf in changes if leaf is not None]
    if type(tree) is Leaf and all(path != tree.path for path, _ in changes):
        leaves.append(tree)
        leaves.sort(key=lambda leaf: leaf.path)
    return _build(leaves, bit)


def _build(leaves: list[Leaf], bit: int) -> Tree:
    if len(leaves) < 2:
        return leaves[0] if leaves else None
    cut = bisect.bisect_left(leaves, 1, key=lambda leaf: leaf.path >> bit & 1)
    return _join(_build(leaves[:cut], bit - 1), _build(leaves[cut:], bit - 1))
