"""State and the journals over it.

`State` is the committed key-value set, in memory, with an index by folder so that a scan costs
what it returns. A `Journal` collects writes over it and can be rolled back to any mark: one mark
per transaction and per cross-contract call, so whatever fails leaves nothing behind.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, cast

from market.errors import StateError
from wire.codec import encode

# The tree has a leaf for each folder too, at this mark and the folder: how many keys and folders
# stand in it. No contract's key begins with it. So a listing can be proven whole (`witness.py`).
FOLDER_MARK: Final = "/"
KEY_CHARS_MAX: Final = 256
VALUE_BYTES_MAX: Final = 65_536


class _Folder(NamedTuple):
    keys: set[str]
    folders: set[str]


class State:
    """The committed key-value pairs. A folder is a key's text up to and with a `/`."""

    __slots__ = ("_folders", "items")

    def __init__(self) -> None:
        self.items: dict[str, bytes] = {}
        self._folders: dict[str, _Folder] = {"": _Folder(set(), set())}

    def apply(self, writes: Mapping[str, bytes | None]) -> None:
        """Take over a block's writes; a None deletes."""
        items = self.items
        for key, value in writes.items():
            if value is None:
                if key in items:
                    del items[key]
                    self._forget(key)
            else:
                if key not in items:
                    self._enter(key)
                items[key] = value

    def keys_under(self, prefix: str) -> list[str]:
        """Return the keys in folder `prefix` (empty, or ending in `/`) and below, unsorted."""
        found: list[str] = []
        pending = [prefix]
        while pending:
            folder = self._folders.get(pending.pop())
            if folder is not None:
                found.extend(folder.keys)
                pending.extend(folder.folders)
        return found

    def count(self, folder: str) -> int:
        """Return how many keys and folders stand in `folder` itself."""
        found = self._folders.get(folder)
        return 0 if found is None else len(found.keys) + len(found.folders)

    def shown_in(self, folder: str) -> tuple[set[str], set[str]]:
        """Return the keys and the folders in `folder` itself."""
        found = self._folders.get(folder)
        return (set(), set()) if found is None else (found.keys, found.folders)

    def folder_value(self, leaf: str) -> bytes | None:
        """Return what the tree holds at a folder's leaf."""
        count = self.count(leaf.removeprefix(FOLDER_MARK))
        return encode(count) if count else None

    def folder_counts(self) -> dict[str, bytes]:
        """Return what the tree holds of all folders."""
        leaves = {FOLDER_MARK + folder: self.count(folder) for folder in self._folders}
        return {leaf: encode(count) for leaf, count in leaves.items() if count}

    def _enter(self, key: str) -> None:
        path = key[: key.rfind("/") + 1]
        folder = self._folders.get(path)
        if folder is None:
            folder = self._make(path)
        folder.keys.add(key)

    def _make(self, path: str) -> _Folder:
        folder = self._folders[path] = _Folder(set(), set())
        parent = path[: path.rfind("/", 0, -1) + 1]
        known = self._folders.get(parent)
        if known is None:
            known = self._make(parent)
        known.folders.add(path)
        return folder

    def _forget(self, key: str) -> None:
        path = key[: key.rfind("/") + 1]
        folder = self._folders[path]
        folder.keys.discard(key)
        while path and not folder.keys and not folder.folders:
            del self._folders[path]
            parent = path[: path.rfind("/", 0, -1) + 1]
            folder = self._folders[parent]
            folder.folders.discard(path)
            path = parent


def folder_counts_after(
    state: State, writes: Mapping[str, bytes | None]
) -> dict[str, bytes | None]:
    """Return how the tree's leaves of folders change when `writes` are applied to `state`."""
    moved: dict[int, dict[str, int]] = {}
    items = state.items
    for key, value in writes.items():
        if (key in items) == (value is None):
            folder = key[: key.rfind("/") + 1]
            level = moved.setdefault(folder.count("/"), {})
            level[folder] = level.get(folder, 0) + (-1 if value is None else 1)
    changed: dict[str, bytes | None] = {}
    # The deepest first: a folder that comes or goes is counted in the one above it.
    for depth in range(max(moved, default=-1), -1, -1):
        for folder, by in moved.get(depth, {}).items():
            before = state.count(folder)
            after = before + by
            if after < 0:
                raise StateError(f"{folder} has {before} entries, {-by} more than that go")
            if by:
                changed[FOLDER_MARK + folder] = encode(after) if after else None
            if depth and (before == 0) != (after == 0):
                above = moved.setdefault(depth - 1, {})
                parent = folder[: folder.rfind("/", 0, -1) + 1]
                above[parent] = above.get(parent, 0) + (1 if after else -1)
    return changed


class Journal:
    """Writes over a state, not yet its own.

    `code_checks` counts texts that were checked over this journal: work that no rollback undoes.
    """

    __slots__ = ("_state", "_undo", "code_checks", "writes")

    def __init__(self, state: State) -> None:
        self._state = state
        self.writes: dict[str, bytes | None] = {}
        self.code_checks = 0
        # What each write replaced in `writes`; `...` where there was nothing.
        self._undo: list[tuple[str, object]] = []

    def get(self, key: str) -> bytes | None:
        """Return the value at `key`, or None."""
        if key in self.writes:
            return self.writes[key]
        return self._state.items.get(key)

    def put(self, key: str, value: bytes | None) -> None:
        """Write, or with None delete."""
        self._undo.append((key, self.writes.get(key, ...)))
        self.writes[key] = value

    def keys_under(self, prefix: str) -> list[str]:
        """Return the keys in folder `prefix` and below that have a value, in order."""
        keys = self._state.keys_under(prefix)
        writes = self.writes
        if writes:
            committed = self._state.items
            keys = [key for key in keys if writes.get(key, ...) is not None]
            keys += [
                key
                for key, value in writes.items()
                if value is not None and key not in committed and key.startswith(prefix)
            ]
        keys.sort()
        return keys

    def mark(self) -> int:
        """Return a mark of now, for `rollback`."""
        return len(self._undo)

    def rollback(self, mark: int) -> None:
        """Undo all writes since `mark`."""
        while len(self._undo) > mark:
            key, before = self._undo.pop()
            if before is ...:
                del self.writes[key]
            else:
                self.writes[key] = before  # type: ignore[assignment]

    def since(self, mark: int) -> "Changes":
        """Return what has been written since `mark`, and over what."""
        before: dict[str, object] = {}
        for key, value in self._undo[mark:]:
            before.setdefault(key, value)
        writes = {key: self.writes.get(key) for key in before}
        return Changes(Before(self, self._state, before), writes)

    def settle(self) -> None:
        """Forget how to undo: what stands now stands."""
        self._undo.clear()


class Before:
    """The key-value pairs as they were before some writes of a journal; reads as a `State`.

    Of what has not been written since, they are the journal's as it stands. `written` has for each
    key what the first of the writes replaced; `...` where the journal had nothing.
    """

    __slots__ = ("_journal", "_state", "_written")

    def __init__(self, journal: Journal, state: State, written: Mapping[str, object]) -> None:
        self._journal = journal
        self._state = state
        self._written = written

    @property
    def items(self) -> "Before":
        """The pairs, to be read by key."""
        return self

    def get(self, key: str) -> bytes | None:
        """Return the value at `key`, or None."""
        if key not in self._written:
            return self._journal.get(key)
        value = self._written[key]
        return self._state.items.get(key) if value is ... else cast("bytes | None", value)

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None


class Changes(NamedTuple):
    """Writes, and what was there before them."""

    before: Before
    writes: Mapping[str, bytes | None]


def effective(state: State, writes: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
    """Return the writes that change `state`, in key order."""
    items = state.items
    return {key: writes[key] for key in sorted(writes) if items.get(key) != writes[key]}


def load(items: Iterable[tuple[str, bytes]]) -> State:
    """Return a state of the given pairs."""
    state = State()
    state.apply(dict(items))
    return state
