"""The genesis file: what every home of a chain must agree on before the first block.

It is JSON for people; its hash is taken over the canonical encoding, so that spacing and key
order do not matter. Bytes are written as hexadecimal text.
"""

import hashlib
import hmac
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from consensus.evidence import EVIDENCE_HEIGHTS_MAX
from consensus.messages import BLOCK_BYTES_MAX
from consensus.params import Params
from market.errors import ParamsError
from market.genesis import Founding, GovernanceParams, MarketParams
from node.errors import GenesisError
from wire.codec import Message, decode, encode
from wire.errors import EncodeError, WireError
from wire.keys import PUBLIC_KEY_BYTES

GENESIS_VERSION: Final = 1
# Who and when a chain is for; a market's other parameters are rules, which a community chooses.
NO_RULES: Final = (
    "chain_id", "genesis_ms", "market_start_ms", "time_lapse", "slot_minutes", "regulator", "homes",
    "utc_offsets", "mechanism", "intraday_every_ms", "sealed", "region", "main",
)  # fmt: skip
GENESIS_BYTES_MAX: Final = 4 * 1_048_576
GENESIS_HASH_BYTES: Final = 32
AUTHORITIES_MIN: Final = 4
AUTHORITIES_MAX: Final = 32
# The rest of the largest block is for header, certificate and the framing of the transactions.
TRANSACTIONS_BYTES_MAX: Final = BLOCK_BYTES_MAX - 131_072
TIMER_MS_MIN: Final = 10
TIMER_MS_MAX: Final = 600_000


class ChainParams(Message, frozen=True, tag="chain-params"):
    """How blocks are made. Times are real. [ms]"""

    block_interval_ms: int = 1_000
    heartbeat_ms: int = 30_000
    block_bytes_max: int = 1_048_576
    block_transactions_max: int = 4_096
    consensus: Params = Params()

    def check(self) -> None:
        """Raise `GenesisError` for a value outside its hard bounds."""
        bounds = {
            "block_interval_ms": (100, 60_000),
            "heartbeat_ms": (1_000, 600_000),
            "block_bytes_max": (65_536, TRANSACTIONS_BYTES_MAX),
            "block_transactions_max": (16, 16_384),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise GenesisError(f"chain.{name} is {value}, allowed are {low} to {high}")
        for name in Params.__struct_fields__:
            value = getattr(self.consensus, name)
            low = 0 if "growth" in name else TIMER_MS_MIN
            if not low <= value <= TIMER_MS_MAX:
                raise GenesisError(
                    f"chain.consensus.{name} is {value}, allowed are {low} to {TIMER_MS_MAX}"
                )


def values_of(chain: ChainParams) -> dict[str, int]:
    """Return all parameters by name, as a vote names them: `chain_of` undoes it."""
    own = {name: getattr(chain, name) for name in ChainParams.__struct_fields__[:-1]}
    return own | {name: getattr(chain.consensus, name) for name in Params.__struct_fields__}


def chain_of(values: Mapping[str, int]) -> ChainParams:
    """Return the parameters with these values."""
    consensus = Params(**{name: values[name] for name in Params.__struct_fields__})
    own = {name: values[name] for name in ChainParams.__struct_fields__[:-1]}
    return ChainParams(**own, consensus=consensus)


class Genesis(Message, frozen=True, tag="genesis"):
    """The first agreement of a chain. `authorities` are Ed25519 public keys, in their order.

    Authorities and `chain` parameters are those of the first epoch; votes change them later.
    `machine` is what every home executes contracts with (`market.app.machine`): versions and
    hashes. A program that is another machine refuses to start; empty, whatever begins the chain.
    """

    version: int
    authorities: tuple[bytes, ...]
    chain: ChainParams
    market: MarketParams
    governance: GovernanceParams = GovernanceParams()
    machine: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def chain_id(self) -> str:
        """The chain's name, which every signature covers."""
        return self.market.chain_id

    @property
    def hash(self) -> bytes:
        """SHA-256 of the canonical encoding."""
        return hashlib.sha256(encode(self)).digest()

    def founding(self) -> Founding:
        """Return what the market's contracts must know of the chain under them."""
        return Founding(
            authorities=self.authorities,
            chain=tuple(values_of(self.chain).items()),
            governance=self.governance,
            evidence_blocks=EVIDENCE_HEIGHTS_MAX,
            machine=tuple(sorted(self.machine.items())),
        )

    def check(self) -> None:
        """Raise `GenesisError` for the first thing that cannot be."""
        if self.version != GENESIS_VERSION:
            raise GenesisError(f"version is {self.version}, this program reads {GENESIS_VERSION}")
        count = len(self.authorities)
        if not AUTHORITIES_MIN <= count <= AUTHORITIES_MAX:
            raise GenesisError(
                f"authorities: {count} given, {AUTHORITIES_MIN} to {AUTHORITIES_MAX} are needed"
            )
        if any(len(key) != PUBLIC_KEY_BYTES for key in self.authorities):
            raise GenesisError(f"authorities: each is a public key of {PUBLIC_KEY_BYTES} bytes")
        if len(set(self.authorities)) != count:
            raise GenesisError("authorities: the same key stands there twice")
        self.chain.check()
        try:
            self.market.check()
        except ParamsError as error:
            raise GenesisError(f"market: {error}") from None
        try:
            self.governance.check()
        except ParamsError as error:
            raise GenesisError(f"governance.{error}") from None


def community_key(genesis_hash: bytes, psk: bytes | None = None) -> bytes:
    """Return the 32-byte pre-shared key by which homes of this genesis know each other.

    Parameters
    ----------
    psk : bytes, optional
        A secret of the community's own beside the genesis, which many may have seen.
    """
    if psk is None:
        return hashlib.sha256(b"commonwatt/community/1\0" + genesis_hash).digest()
    return hmac.digest(psk, b"commonwatt/community/2\0" + genesis_hash, "sha256")


def market_rules(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return rules of a market, by their names in `MarketParams`, of what a file says of them.

    Whether they can be meant says `MarketParams.check`.

    Raises
    ------
    GenesisError
        There is no such rule, or it is of another kind; the message names it.
    """
    fields = {
        field.name: field.type
        for field in msgspec.structs.fields(MarketParams)
        if field.name not in NO_RULES
    }
    unknown = sorted(set(tree) - set(fields))
    if unknown:
        raise GenesisError(f"{unknown[0]} is no rule of a market; there are {', '.join(fields)}")
    return {name: _typed(fields[name], value, name) for name, value in tree.items()}


def write_genesis(genesis: Genesis, path: Path) -> None:
    """Write the genesis as readable JSON."""
    path.write_text(json.dumps(_readable(genesis), indent=1) + "\n")


def read_genesis(path: Path) -> Genesis:
    """Read and check a genesis file.

    Raises
    ------
    GenesisError
        It is missing, not JSON, or something in it cannot be; the message names it.
    """
    try:
        with path.open("rb") as file:
            text = file.read(GENESIS_BYTES_MAX + 1)
    except OSError as error:
        raise GenesisError(f"{path}: cannot be read ({error.strerror})") from None
    if len(text) > GENESIS_BYTES_MAX:
        raise GenesisError(f"{path}: more than the {GENESIS_BYTES_MAX} bytes that are read")
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GenesisError(f"{path}: not JSON: {error}") from None
    try:
        value = _typed(Genesis, tree, "genesis")
        genesis = decode(encode(value), Genesis, GENESIS_BYTES_MAX)
        genesis.check()
    except (GenesisError, WireError) as error:
        raise GenesisError(f"{path}: {error}") from None
    return genesis


def _readable(value: Any) -> Any:
    if isinstance(value, Message):
        return {name: _readable(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, list | tuple):
        return [_readable(item) for item in value]
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in value.items()}
    return value.hex() if isinstance(value, bytes) else value


def _typed(kind: Any, value: Any, where: str) -> Any:
    """Undo `_readable`, naming what is of the wrong kind."""
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is types.UnionType and type(None) in inner and value is not None:
        return _typed(next(one for one in inner if one is not type(None)), value, where)
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(value):
            raise GenesisError(f"{where} has {len(value)} elements, not {len(kinds)}")
        return tuple(
            _typed(kinds[place], item, f"{where}[{place}]") for place, item in enumerate(value)
        )
    if kind is bytes:
        try:
            return bytes.fromhex(value)
        except (TypeError, ValueError):
            raise GenesisError(f"{where} is hexadecimal text, not {value!r}") from None
    if not (isinstance(kind, type) and issubclass(kind, Message)):
        try:
            plain = msgspec.convert(value, kind)
            encode(plain)
            return plain
        except (msgspec.ValidationError, EncodeError) as error:
            raise GenesisError(f"{where}: {error}") from None
    if not isinstance(value, dict):
        raise GenesisError(f"{where} is an object, not {type(value).__name__}")
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise GenesisError(f"{where}.{unknown[0]} is unknown; known are {', '.join(fields)}")
    missing = [name for name, field in fields.items() if field.required and name not in value]
    if missing:
        raise GenesisError(f"{where}.{missing[0]} is missing")
    return kind(
        **{name: _typed(fields[name].type, value[name], f"{where}.{name}") for name in value}
    )
