"""What a contract can do beyond computing: state, events, other contracts, hashes, signatures.

One `Host` serves one top-level call (a transaction, a hook, a query) and all calls inside it. It
keeps why a call failed in `failure`: engines pass exceptions on as bare texts. Whatever goes wrong
that is not a `ContractError` is the host's own failure, and is raised as `HostFailure` once the
engine has unwound, so a full disk or a bug of ours never marks a transaction failed.
"""

import functools
import hashlib
from collections.abc import Callable
from functools import wraps
from typing import (
    Annotated,
    Any,
    Concatenate,
    Final,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
)

import msgspec

from market.errors import ContractError, Fault, HostFailure, OutOfGas, Revert
from market.vm.gas import COST, TICKS_PER_CALLBACK, Meter
from market.vm.journal import KEY_CHARS_MAX, VALUE_BYTES_MAX, Journal
from wire.codec import DEPTH_MAX, INT_MAX, INT_MIN, TEXT_BYTES_MAX, Plain, encode
from wire.keys import verify

CALL_DEPTH_MAX: Final = 6
EVENT_BYTES_MAX: Final = 65_536
NAME_CHARS_MAX: Final = 64
MESSAGE_CHARS_MAX: Final = 300
BORDER_CHARS_MAX: Final = 32 * 1_048_576
BATCH_MAX: Final = 65_536
# How a key begins that another contract keeps: `/registry/home/ADDRESS`. It can be read.
FOREIGN_MARK: Final = "/"
# What the machine keeps is no contract's; and witnesses have leaves of folders, no state has them.
NO_CONTRACTS: Final = ("/vm/", "/chain/", "//")
TEXTS_KEPT_MAX: Final = 4_096
TEXT_KEPT_BYTES_MAX: Final = 1_024
# Of more values at once the kept texts would push each other out.
TEXTS_JOINED_MAX: Final = 16


class Event(NamedTuple):
    """Something a contract says happened."""

    contract: str
    name: str
    data: Plain


class Caller(Protocol):
    """How the host reaches other contracts: the executor."""

    def enter(self, host: "Host", contract: str, entry: str, arguments: str) -> str:
        """Run an internal or query entry on behalf of the contract now running."""


def _plain_type(depth: int) -> Any:
    """Return the msgspec type of plain values at most `depth` containers deep."""
    integer = Annotated[int, msgspec.Meta(ge=INT_MIN, le=INT_MAX)]
    text = Annotated[str, msgspec.Meta(max_length=TEXT_BYTES_MAX)]
    kind: Any = None | bool | integer | text
    for _ in range(depth):
        kind = None | bool | integer | text | list[kind] | dict[text, kind]
    return kind


_decode_value: Final = msgspec.json.Decoder(_plain_type(DEPTH_MAX)).decode
_batch_type: Any = dict.__class_getitem__((str, _plain_type(DEPTH_MAX)))
_decode_batch: Final = msgspec.json.Decoder(_batch_type).decode
_decode_keys: Final = msgspec.json.Decoder(list[str]).decode
_unpack: Final = msgspec.msgpack.Decoder().decode
_json_encoder: Final = msgspec.json.Encoder(order="deterministic")
_pack: Final = encode

P = ParamSpec("P")
R = TypeVar("R")


def to_text(value: Plain) -> str:
    """Return a plain value as the JSON text that crosses the border."""
    return _json_encoder.encode(value).decode()


@functools.lru_cache(maxsize=TEXTS_KEPT_MAX)
def _text_of(data: bytes) -> str:
    """Return the text of a stored value: rules and records are read in every transaction."""
    return to_text(_unpack(data))


def _as_text(data: bytes) -> str:
    return _text_of(data) if len(data) <= TEXT_KEPT_BYTES_MAX else to_text(_unpack(data))


def from_text(text: str) -> Plain:
    """Return the plain value of a JSON text that a contract handed over.

    Raises
    ------
    Fault
        It is not plain: an integer beyond 64 bits, too deep, too long.
    """
    _bound(text)
    try:
        return _decode_value(text)
    except msgspec.MsgspecError:
        raise Fault("not_plain", "the contract handed over what is no plain value") from None


def _bound(text: str) -> None:
    if len(text) > BORDER_CHARS_MAX:
        raise Fault("not_plain", f"more than {BORDER_CHARS_MAX} characters at once")


def _kept(
    function: "Callable[Concatenate[Host, P], R]",
) -> "Callable[Concatenate[Host, P], R]":
    """Keep the cause of an exception where the engine cannot lose it."""

    @wraps(function)
    def kept(self: "Host", *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(self, *args, **kwargs)
        except (ContractError, HostFailure) as error:
            self.failure = self.failure or error
            raise
        except BaseException as error:
            self.failure = HostFailure(f"{function.__name__}: {type(error).__name__}")
            self.failure.__cause__ = error
            raise

    return cast("Callable[Concatenate[Host, P], R]", kept)


class Host:
    """The host API of one top-level call; the methods are what contracts call.

    Parameters
    ----------
    journal : Journal
    meter : Meter
    caller : Caller
    env : dict
        What `env()` shows of the block and the transaction; the host adds `caller`.
    """

    def __init__(
        self, journal: Journal, meter: Meter, caller: Caller, env: dict[str, Plain]
    ) -> None:
        self.journal = journal
        self.meter = meter
        self.events: list[Event] = []
        self.failure: ContractError | HostFailure | None = None
        self.detail = ""
        self._caller = caller
        self._env = env
        self._frames: list[str] = []
        self._prefix = ""
        self._env_text = ""

    # -- for the executor
    def push(self, contract: str) -> None:
        """Enter a contract. Raises `Fault` at the depth cap."""
        if len(self._frames) >= CALL_DEPTH_MAX:
            raise Fault("call_depth", f"contracts call each other at most {CALL_DEPTH_MAX} deep")
        self._frames.append(contract)
        self._switch()

    def pop(self) -> None:
        """Leave the contract entered last."""
        self._frames.pop()
        self._switch()

    @property
    def running(self) -> bool:
        """Whether a contract is running, so that an `enter` comes from it."""
        return bool(self._frames)

    @property
    def contract(self) -> str:
        """The contract now running, empty outside of any."""
        return self._frames[-1] if self._frames else ""

    @property
    def block_env(self) -> dict[str, Plain]:
        """What is known of the block, and nothing of the transaction."""
        return {**self._env, "sender": "", "public_key": "", "tx_id": ""}

    @property
    def _calling(self) -> str:
        return self._frames[-2] if len(self._frames) > 1 else ""

    def _switch(self) -> None:
        self._prefix = f"{self._frames[-1]}/" if self._frames else ""
        self._env_text = ""

    # -- for engines
    def tick(self) -> bool:
        """Account for a thousand ticks; True ends the run."""
        try:
            self.meter.charge(TICKS_PER_CALLBACK)
        except OutOfGas as error:
            self.failure = error
            return True
        return False

    # -- for contracts
    @_kept
    def kv_get(self, key: str) -> str:
        """Return the value at `key`, maybe another contract's, as JSON text; `null` if none."""
        data = self.journal.get(self._key_to_read(key))
        if data is None:
            self.meter.charge(COST["kv_get"])
            return "null"
        self.meter.charge_bytes("kv_get", len(data))
        return _as_text(data)

    @_kept
    def kv_get_many(self, keys: str) -> str:
        """Return the values at several keys as one JSON list."""
        _bound(keys)
        try:
            names = _decode_keys(keys)
        except msgspec.MsgspecError:
            raise Fault("bad_key", "a list of text keys is needed") from None
        self._batch(len(names))
        found = [self.journal.get(self._key_to_read(name)) for name in names]
        return self._rows(found)

    @_kept
    def kv_put(self, row: str) -> int:
        """Write a value: a line with its key, then the JSON text of it."""
        key, _, value = row.rpartition("\n")
        self._put(self._key(key), from_text(value))
        return 0

    @_kept
    def kv_put_many(self, values: str) -> int:
        """Write a JSON map of keys to values."""
        _bound(values)
        try:
            batch = _decode_batch(values)
        except msgspec.MsgspecError:
            raise Fault("not_plain", "a map of text keys to plain values is needed") from None
        self._batch(len(batch))
        for key, value in batch.items():
            self._put(self._key(key), value, COST["kv_row"])
        return 0

    @_kept
    def kv_del(self, key: str) -> int:
        """Delete `key`, if it is there."""
        self.meter.charge(COST["kv_del"])
        self.journal.put(self._key(key), None)
        return 0

    @_kept
    def kv_scan(self, folder: str) -> str:
        """Return the values under a folder (`""` or ending in `/`), in key order."""
        get = self.journal.get
        return self._rows([get(key) for key in self._keys(folder)])

    @_kept
    def kv_keys(self, folder: str) -> str:
        """Return the keys under a folder, in order."""
        skip = len(self._prefix)
        text = to_text([key[skip:] for key in self._keys(folder)])
        self.meter.charge_bytes("kv_scan", len(text))
        return text

    @_kept
    def emit(self, said: str) -> int:
        """Say that something happened: a line with its name, then the JSON text of its data."""
        name, _, data = said.rpartition("\n")
        _need_name(name)
        self.meter.charge_bytes("emit", len(data))
        if len(data) > EVENT_BYTES_MAX:
            raise Fault("event_size", f"an event has at most {EVENT_BYTES_MAX} bytes")
        if len(self.events) >= self.meter.caps.events:
            raise Fault("event_count", f"a call emits at most {self.meter.caps.events} events")
        self.events.append(Event(self._frames[-1], name, from_text(data)))
        return 0

    @_kept
    def revert(self, code: str, message: str) -> None:
        """Refuse: drop all writes of the call, keep the reason."""
        _need_name(code)
        if type(message) is not str:
            raise Fault("bad_message", "a refusal's message is text")
        raise Revert(code, message[:MESSAGE_CHARS_MAX])

    @_kept
    def env(self) -> str:
        """Return what is known of the block, the transaction and the calling contract."""
        self.meter.charge(COST["env"])
        if not self._env_text:
            self._env_text = to_text({**self._env, "caller": self._calling})
        return self._env_text

    @_kept
    def caller(self) -> str:
        """Return the contract that called this one, empty if none did."""
        self.meter.charge(COST["env"])
        return self._calling

    @_kept
    def call(self, wanted: str) -> str:
        """Call another contract: lines with its name and the entry's, then the arguments' JSON.

        Its failure is this call's failure.
        """
        names, _, arguments = wanted.rpartition("\n")
        contract, _, entry = names.rpartition("\n")
        _need_name(contract)
        _need_name(entry)
        return self._caller.enter(self, contract, entry, arguments)

    @_kept
    def sha256(self, text: str) -> str:
        """Return the SHA-256 of a text's UTF-8, in hexadecimal."""
        if type(text) is not str:
            raise Fault("bad_text", "sha256 is of text")
        data = text.encode()
        self.meter.charge_bytes("sha256", len(data))
        return hashlib.sha256(data).hexdigest()

    @_kept
    def verify_signature(self, public_key: str, message: str, signature: str) -> bool:
        """Tell whether an Ed25519 signature (all hexadecimal) is good; malformed is False."""
        self.meter.charge(COST["verify_signature"])
        try:
            parts = [bytes.fromhex(part) for part in (public_key, message, signature)]
        except (TypeError, ValueError):
            return False
        self.meter.charge(len(parts[1]) // COST["bytes_per_gas"])
        return verify(*parts)

    # -- shared
    def _key(self, key: str) -> str:
        if type(key) is not str or not 0 < len(key) <= KEY_CHARS_MAX or not key.isascii():
            raise Fault("bad_key", f"a key is 1 to {KEY_CHARS_MAX} ASCII characters")
        if key[0] == FOREIGN_MARK:
            raise Fault("bad_key", f"what another contract keeps, {key}, is only read, by its key")
        return self._prefix + key

    def _key_to_read(self, key: str) -> str:
        if type(key) is not str or key[:1] != FOREIGN_MARK:
            return self._key(key)
        is_plain = 1 < len(key) <= KEY_CHARS_MAX and key.isascii()
        if not is_plain or key.startswith(NO_CONTRACTS):
            raise Fault("bad_key", "another contract's key is read by /CONTRACT/KEY")
        return key[1:]

    def _keys(self, folder: str) -> list[str]:
        if type(folder) is not str or (folder and not folder.endswith("/")):
            raise Fault("bad_key", "a scan is of a folder: empty, or text that ends in /")
        return self.journal.keys_under(self._prefix + folder)

    def _rows(self, found: list[bytes | None]) -> str:
        size = sum(len(data) for data in found if data is not None)
        self.meter.charge_bytes("kv_scan", size)
        self.meter.charge(COST["kv_row"] * len(found))
        if len(found) <= TEXTS_JOINED_MAX:
            return f"[{','.join(['null' if data is None else _as_text(data) for data in found])}]"
        return to_text([None if data is None else _unpack(data) for data in found])

    def _put(self, key: str, value: Plain, flat: int = COST["kv_put"]) -> None:
        if value is None:
            raise Fault("not_plain", "null is no value to keep: delete the key")
        data = _pack(value)
        if len(data) > VALUE_BYTES_MAX:
            raise Fault("value_size", f"a value has at most {VALUE_BYTES_MAX} bytes")
        self.meter.charge(flat + (len(key) + len(data)) // COST["bytes_per_gas"])
        self.meter.store(len(key) + len(data))
        self.journal.put(key, data)

    def _batch(self, count: int) -> None:
        if count > BATCH_MAX:
            raise Fault("batch_size", f"at most {BATCH_MAX} keys at once")
        self.meter.charge(COST["kv_put"])


def _need_name(name: str) -> None:
    if type(name) is not str or not 0 < len(name) <= NAME_CHARS_MAX or not name.isascii():
        raise Fault("bad_name", f"a name is 1 to {NAME_CHARS_MAX} ASCII characters")
