"""Part of a state, with what proves it: enough to execute one block without having the rest.

A witness is the state's tree with most subtrees cut off, as their hashes. It holds every pair that
an execution reads or writes, and where something is not there, the way to the place where it would
be. Folders can be listed from it as well: the tree has a leaf for each folder with how much is in
it (`State.folder_counts`), so whoever shows that many has shown all.

Whatever the witness does not show raises `WitnessGap`: what cannot be seen is never taken for
absent.

    witness = subtree
    subtree = 0                                        nothing
            | 1 hash 32                                cut off: two pairs or more
            | 2 key hash 32 | value hash 32            a pair that is only passed by
            | 3 key length u16 | key | value length u32 | value
            | 4 subtree left | subtree right
            | 5 code hash 32                           code that every program has, at its key

A cut-off subtree must not turn out to be a single pair, which would rise when its neighbour goes:
so single pairs are always shown as such, and so is the node beside what may be deleted.
"""

import struct
from collections.abc import Mapping
from typing import Final

from market.errors import WitnessGap, WitnessRefused
from market.vm import merkle
from market.vm.executor import CODE_PREFIX
from market.vm.journal import FOLDER_MARK, State
from market.vm.merkle import Leaf, Node, Stub, Tree
from wire.codec import decode_plain

_EMPTY, _STUB, _LEAF, _PAIR, _NODE, _CODE = range(6)
_COUNT_BYTES_MAX: Final = 9
_KEY_LENGTH: Final = struct.Struct(">H")
_VALUE_LENGTH: Final = struct.Struct(">I")


# -- recording what an execution touches


class _Recorded(dict[str, bytes]):
    """A state's pairs, to be read by key; every key that was asked for is kept."""

    def __init__(self, items: Mapping[str, bytes], touched: set[str]) -> None:
        super().__init__()
        self._items = items
        self._touched = touched

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
        self._touched.add(key)
        return self._items.get(key, default)

    def __getitem__(self, key: str) -> bytes:
        self._touched.add(key)
        return self._items[key]

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str):
            self._touched.add(key)
        return key in self._items


class RecordingState(State):
    """A state that keeps which of its keys, and of its folders' counts, were asked for."""

    __slots__ = ("_base", "touched")

    def __init__(self, base: State) -> None:
        super().__init__()
        self._base = base
        self.touched: set[str] = set()
        self.items = _Recorded(base.items, self.touched)

    def count(self, folder: str) -> int:
        """See `State.count`."""
        self.touched.add(FOLDER_MARK + folder)
        return self._base.count(folder)

    def keys_under(self, prefix: str) -> list[str]:
        """See `State.keys_under`."""
        found = self._base.keys_under(prefix)
        self.touched.add(FOLDER_MARK + prefix)
        for key in found:
            self.touched.add(key)
            folder = key[: key.rfind("/") + 1]
            while len(folder) > len(prefix):
                self.touched.add(FOLDER_MARK + folder)
                folder = folder[: folder.rfind("/", 0, -1) + 1]
        return found


# -- making a witness


def write(state: State, tree: Tree, touched: set[str], known: Mapping[str, bytes]) -> bytes:
    """Return the witness of the touched keys.

    Parameters
    ----------
    state, tree
        The whole state, and the tree that its root is of.
    touched : set of str
        As a `RecordingState` has kept them.
    known : mapping of str to bytes
        Code that the reader has, by its hash.
    """
    pairs = {}
    for key in touched:
        value = state.folder_value(key) if key.startswith(FOLDER_MARK) else state.items.get(key)
        pairs[merkle.path_of(key)] = (key, value)
    parts: list[bytes] = []
    _write(tree, sorted(pairs), merkle.PATH_BITS - 1, pairs, known, parts)
    return b"".join(parts)


_Pairs = Mapping[int, tuple[str, bytes | None]]


def _write(
    tree: Tree,
    paths: list[int],
    bit: int,
    pairs: _Pairs,
    known: Mapping[str, bytes],
    parts: list[bytes],
    shallow: bool = False,
) -> None:
    """Write a subtree of which `paths` are touched; `shallow`: at least as far as one node."""
    if tree is None:
        parts.append(bytes([_EMPTY]))
    elif isinstance(tree, Leaf):
        parts.append(_written_leaf(tree, pairs if paths else {}, known))
    elif isinstance(tree, Stub) or (not paths and not shallow):
        parts.append(bytes([_STUB]) + tree.hash)
    else:
        left = [path for path in paths if not path >> bit & 1]
        right = [path for path in paths if path >> bit & 1]
        parts.append(bytes([_NODE]))
        deeper = (bit - 1, pairs, known, parts)
        _write(tree.left, left, *deeper, shallow=_may_vanish(tree.right, right, bit - 1))
        _write(tree.right, right, *deeper, shallow=_may_vanish(tree.left, left, bit - 1))


def _may_vanish(tree: Tree, paths: list[int], bit: int) -> bool:
    """Tell whether nothing would be left of a subtree if all touched pairs were deleted."""
    if tree is None:
        return True
    if isinstance(tree, Leaf):
        return tree.path in paths
    if not paths or isinstance(tree, Stub):
        return False
    left = [path for path in paths if not path >> bit & 1]
    right = [path for path in paths if path >> bit & 1]
    return _may_vanish(tree.left, left, bit - 1) and _may_vanish(tree.right, right, bit - 1)


def _written_leaf(leaf: Leaf, pairs: _Pairs, known: Mapping[str, bytes]) -> bytes:
    key, value = pairs.get(leaf.path, ("", None))
    if value is None:
        return bytes([_LEAF]) + leaf.path.to_bytes(32, "big") + leaf.value_hash
    code_hash = key.removeprefix(CODE_PREFIX)
    if key.startswith(CODE_PREFIX) and known.get(code_hash) == value:
        return bytes([_CODE]) + bytes.fromhex(code_hash)
    raw = key.encode()
    return b"".join(
        (bytes([_PAIR]), _KEY_LENGTH.pack(len(raw)), raw, _VALUE_LENGTH.pack(len(value)), value)
    )


# -- reading a witness


class _Proven(dict[str, bytes]):
    """The pairs that a witness shows; a key is absent only where the tree proves it."""

    def __init__(self, pairs: Mapping[str, bytes], tree: Tree) -> None:
        super().__init__(pairs)
        self._tree = tree

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
        value = super().get(key)
        if value is not None:
            return value
        _check_absent(self._tree, key)
        return default

    def __getitem__(self, key: str) -> bytes:
        value = super().get(key)
        if value is None:
            _check_absent(self._tree, key)
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None


class WitnessState(State):
    """A state of which a part is known; what is not raises `WitnessGap`."""

    __slots__ = ()

    def __init__(self, pairs: Mapping[str, bytes], tree: Tree) -> None:
        super().__init__()
        self.apply({key: v for key, v in pairs.items() if not key.startswith(FOLDER_MARK)})
        self.items = _Proven(pairs, tree)

    def count(self, folder: str) -> int:
        """See `State.count`."""
        data = self.items.get(FOLDER_MARK + folder)
        return 0 if data is None else int(decode_plain(data, _COUNT_BYTES_MAX))

    def keys_under(self, prefix: str) -> list[str]:
        """See `State.keys_under`. All that stands there must be shown."""
        found: list[str] = []
        pending = [prefix]
        while pending:
            folder = pending.pop()
            keys, folders = self.shown_in(folder)
            if len(keys) + len(folders) != self.count(folder):
                raise WitnessGap(f"not all that stands in {folder or 'the state'} is shown")
            found.extend(keys)
            pending.extend(folders)
        return found


def read(data: bytes, root: bytes, known: Mapping[str, bytes]) -> tuple[WitnessState, Tree]:
    """Return the state and tree that a witness shows.

    Raises
    ------
    WitnessRefused
        It is none, or not one of this root.
    """
    reader = _Reader(data, known)
    tree = reader.subtree(0)
    if reader.at != len(data):
        raise WitnessRefused("the witness goes on after its end")
    if merkle.root_of(tree) != root:
        raise WitnessRefused("the witness is not of the state root of the block before")
    return WitnessState(reader.pairs, tree), tree


class _Reader:
    def __init__(self, data: bytes, known: Mapping[str, bytes]) -> None:
        self._data = data
        self._known = known
        self.at = 0
        self.pairs: dict[str, bytes] = {}

    def subtree(self, depth: int) -> Tree:
        kind = self._take(1)[0]
        if kind == _EMPTY:
            return None
        if kind == _STUB:
            digest = self._take(32)
            if digest == merkle.EMPTY_ROOT:
                raise WitnessRefused("the witness cuts off what is empty")
            return Stub(digest)
        if kind == _LEAF:
            return merkle.leaf_of(self._take(32), self._take(32))
        if kind == _PAIR:
            return self._pair()
        if kind == _CODE:
            code_hash = self._take(32).hex()
            code = self._known.get(code_hash)
            if code is None:
                raise WitnessRefused(f"the witness does not show code {code_hash}")
            return self._shown(CODE_PREFIX + code_hash, code)
        if kind != _NODE or depth >= merkle.PATH_BITS:
            raise WitnessRefused("the witness is malformed")
        left = self.subtree(depth + 1)
        return merkle.node_of(left, self.subtree(depth + 1))

    def _pair(self) -> Tree:
        try:
            key = self._take(_KEY_LENGTH.unpack(self._take(2))[0]).decode()
        except UnicodeDecodeError:
            raise WitnessRefused("the witness has a key that is no text") from None
        return self._shown(key, self._take(_VALUE_LENGTH.unpack(self._take(4))[0]))

    def _shown(self, key: str, value: bytes) -> Tree:
        self.pairs[key] = value
        return merkle.update(None, {key: value})

    def _take(self, size: int) -> bytes:
        found = self._data[self.at : self.at + size]
        if len(found) < size:
            raise WitnessRefused("the witness is cut off")
        self.at += size
        return found


def _check_absent(tree: Tree, key: str) -> None:
    """Raise `WitnessGap` unless the tree proves that there is nothing at the key."""
    path, bit = merkle.path_of(key), merkle.PATH_BITS - 1
    while isinstance(tree, Node):
        tree = tree.right if path >> bit & 1 else tree.left
        bit -= 1
    if isinstance(tree, Stub) or (isinstance(tree, Leaf) and tree.path == path):
        raise WitnessGap(f"what stands at {key} is not shown")
