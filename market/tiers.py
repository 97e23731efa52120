"""The second tier in a genesis: what makes a chain a region of a main chain, or the main chain.

Both are the same application. A region has the contract `export` beside all others and knows the
authorities of the main chain; the main chain has no homes, and other contracts
(`contracts.MAIN_CONTRACTS`).
docs/spec/regions.md says what they do.
"""

from collections.abc import Mapping
from typing import Final

from market import contracts
from market.errors import ParamsError
from market.vm.executor import Native
from wire.codec import Message, Plain
from wire.keys import PUBLIC_KEY_BYTES, is_address

REGIONS_MAX: Final = 1_000
CHECKPOINT_MS_MAX: Final = 3_600_000
UNANCHORED_MS_MAX: Final = 90 * 24 * 3_600_000
HOLD_MS_MAX: Final = 90 * 24 * 3_600_000
MONEY_MICRO_MAX: Final = 10**15
ENERGY_WH_MAX: Final = 10**12
POWER_W_MAX: Final = 10**12
ZONES_MAX: Final = 16
# `contracts/residual.star`: LIMIT_PRICE_MAX.
LIMIT_MICRO_PER_KWH_MAX: Final = 10**8
CLOSE_MS_MAX: Final = 24 * 3_600_000
TRADE_PRICES: Final = ("ask", "mid", "bid")
MAIN_AUTHORITIES_MIN: Final = 4
MAIN_AUTHORITIES_MAX: Final = 32
AUDITORS_MAX: Final = 16
HASH_BYTES: Final = 32
# Entries of the machine that only the main chain has.
MAIN_NATIVES: Final = frozenset({"fraud"})

# The name under which a member of any region is known to the main chain.
POSTER_PREFIX: Final = "regions/poster/"
REGION_RULES_KEY: Final = "regions/rules"
# `contracts/regions.star`: KEY_BASE.
_KEY_BASE: Final = 1_000_000_000


def region_key(number: int) -> str:
    """Return where the main chain's state says how a region stands."""
    return f"regions/region/{_KEY_BASE + number}"


def region_money_key(number: int) -> str:
    """Return where it says what a region has put up."""
    return f"regions/money/{_KEY_BASE + number}"


def region_epochs_key(number: int) -> str:
    """Return where it says of which epochs a region's sets are kept."""
    return f"regions/epochs/{_KEY_BASE + number}"


def region_set_key(number: int, epoch: int) -> str:
    """Return where it keeps a region's set of an epoch."""
    return f"regions/set/{_KEY_BASE + number}/{_KEY_BASE + epoch}"


class ExportRules(Message, frozen=True, tag="exports"):
    """What a region offers to others of what a slot of its own leaves unmatched.

    Parameters
    ----------
    energy_max_wh : at most so much is sold, and so much bought, in a slot. [Wh]
    sell_min_micro_per_kwh : nothing is sold for less.
    buy_max_micro_per_kwh : nothing is bought for more, the grid fee between regions included; 0 for
        no such limit beside the tariff.
    """

    energy_max_wh: int = 1_000_000
    sell_min_micro_per_kwh: int = 0
    buy_max_micro_per_kwh: int = 0

    def check(self) -> None:
        """Raise `ParamsError` for what cannot be meant."""
        _between("region.exports.energy_max_wh", self.energy_max_wh, 1, ENERGY_WH_MAX)
        for name in ("sell_min_micro_per_kwh", "buy_max_micro_per_kwh"):
            value = getattr(self, name)
            _between(f"region.exports.{name}", value, 0, LIMIT_MICRO_PER_KWH_MAX)


class ExchangeRules(Message, frozen=True, tag="exchange"):
    """How a main chain trades for its regions.

    Parameters
    ----------
    close_ms : offers for a slot are taken until so long after its delivery has begun (before it, if
        negative). [ms of market time]
    trade_price : of a pair: the `ask`, the `bid` less the fee, or the `mid` of the two.
    zones : of region N at place N - 1; regions that are not in it are in zone 0.
    fees : grid fee by the buyer's zone and the seller's. [micro per kWh]
    capacities_w : what the lines between the zones carry, the same way. [W]
    """

    close_ms: int = 0
    trade_price: str = "mid"
    zones: tuple[int, ...] = ()
    fees: tuple[tuple[int, ...], ...] = ((20_000,),)
    capacities_w: tuple[tuple[int, ...], ...] = ((1_000_000,),)

    def check(self) -> None:
        """Raise `ParamsError` for what cannot be meant."""
        _between("main.exchange.close_ms", self.close_ms, -CLOSE_MS_MAX, CLOSE_MS_MAX)
        if self.trade_price not in TRADE_PRICES:
            known = ", ".join(TRADE_PRICES)
            raise ParamsError(
                f"main.exchange.trade_price must be one of {known}, not {self.trade_price!r}"
            )
        count = len(self.fees)
        _between("main.exchange.fees: how many zones", count, 1, ZONES_MAX)
        for name, most in (("fees", LIMIT_MICRO_PER_KWH_MAX), ("capacities_w", POWER_W_MAX)):
            table = getattr(self, name)
            if len(table) != count or any(len(row) != count for row in table):
                raise ParamsError(
                    f"main.exchange.{name}: {count} zones want {count} rows of {count}"
                )
            for value in (value for row in table for value in row):
                _between(f"main.exchange.{name}: a value", value, 0, most)
        _between("main.exchange.zones: how many regions", len(self.zones), 0, REGIONS_MAX)
        for zone in self.zones:
            _between("main.exchange.zones: a zone", zone, 0, count - 1)


class Succession(Message, frozen=True, tag="succession"):
    """The block with whose state a region begins, in the place of one that lost its authorities.

    Parameters
    ----------
    chain_id, genesis_hash : of the chain that it goes on with.
    height, block_hash, state_root, time_ms : of the last block that its authorities have certified.
    """

    chain_id: str
    genesis_hash: bytes
    height: int
    block_hash: bytes
    state_root: bytes
    time_ms: int

    def check(self) -> None:
        """Raise `ParamsError` for what cannot be meant."""
        _check_chain_id("region.succeeds.chain_id", self.chain_id)
        _between("region.succeeds.height", self.height, 1, 2**62)
        _between("region.succeeds.time_ms", self.time_ms, 0, 2**53)
        for name in ("genesis_hash", "block_hash", "state_root"):
            if len(getattr(self, name)) != HASH_BYTES:
                raise ParamsError(f"region.succeeds.{name} must have {HASH_BYTES} bytes")


class Membership(Message, frozen=True, tag="membership"):
    """What a region must know of the main chain that it belongs to.

    Parameters
    ----------
    region : its number there.
    main_chain_id, main_authorities : whose headers it believes: the set of the main chain's
        epoch 0, as public keys in their order.
    checkpoint_ms : a checkpoint is closed at the latest so long after the last. [ms of block time]
    unanchored_max_ms : nothing new is traded so long after what is known to be anchored last was
        closed, until more is. [ms of block time]
    exports : what is offered to other regions; None: the region does not trade with them.
    succeeds : the chain in whose place this one is; None: the region begins with nothing.
    """

    region: int
    main_chain_id: str
    main_authorities: tuple[bytes, ...]
    checkpoint_ms: int = 60_000
    exports: ExportRules | None = None
    succeeds: Succession | None = None
    unanchored_max_ms: int = 24 * 3_600_000

    def check(self) -> None:
        """Raise `ParamsError` for what cannot be meant."""
        _between("region.region", self.region, 1, REGIONS_MAX)
        _between("region.checkpoint_ms", self.checkpoint_ms, 1, CHECKPOINT_MS_MAX)
        low, high = 2 * self.checkpoint_ms, UNANCHORED_MS_MAX
        _between("region.unanchored_max_ms", self.unanchored_max_ms, low, high)
        _check_chain_id("region.main_chain_id", self.main_chain_id)
        if self.exports is not None:
            self.exports.check()
        if self.succeeds is not None:
            self.succeeds.check()
        count = len(self.main_authorities)
        _between(
            "region.main_authorities: how many", count, MAIN_AUTHORITIES_MIN, MAIN_AUTHORITIES_MAX
        )
        if any(len(public) != PUBLIC_KEY_BYTES for public in self.main_authorities):
            raise ParamsError(
                f"region.main_authorities: each is a public key of {PUBLIC_KEY_BYTES} bytes"
            )
        if len(set(self.main_authorities)) != count:
            raise ParamsError("region.main_authorities: the same key stands there twice")


class MainRules(Message, frozen=True, tag="main"):
    """The rules of a main chain. Money is in micro, times are real.

    Parameters
    ----------
    bond_micro : what a region's sponsor loses if the region is frozen.
    hold_ms : how long bond and escrow are held after the region has left. [ms]
    halt_ms : a region without a checkpoint for so long is halted. [ms]
    sponsors : accounts from the start, with their balance: (address, micro).
    auditors, audits_needed : how many are drawn for a record, and how many must be content.
    audit_ms : how long they have for it, and an accuser for its proof. [ms]
    accuser_bond_micro : what an accuser who was not drawn loses if it proves nothing.
    exchange : how regions trade with each other; None: they do not.
    """

    bond_micro: int = 100_000_000
    hold_ms: int = 7 * 24 * 3_600_000
    halt_ms: int = 180_000
    sponsors: tuple[tuple[str, int], ...] = ()
    auditors: int = 3
    audits_needed: int = 2
    audit_ms: int = 120_000
    accuser_bond_micro: int = 1_000_000
    exchange: ExchangeRules | None = None

    def check(self) -> None:
        """Raise `ParamsError` for what cannot be meant."""
        _between("main.bond_micro", self.bond_micro, 0, MONEY_MICRO_MAX)
        _between("main.hold_ms", self.hold_ms, 0, HOLD_MS_MAX)
        _between("main.halt_ms", self.halt_ms, 1, HOLD_MS_MAX)
        _between("main.auditors", self.auditors, 1, AUDITORS_MAX)
        _between("main.audits_needed", self.audits_needed, 1, self.auditors)
        _between("main.audit_ms", self.audit_ms, 1, HOLD_MS_MAX)
        _between("main.accuser_bond_micro", self.accuser_bond_micro, 0, MONEY_MICRO_MAX)
        if self.exchange is not None:
            self.exchange.check()
        if len({address for address, _ in self.sponsors}) != len(self.sponsors):
            raise ParamsError("main.sponsors: the same address stands there twice")
        for address, balance_micro in self.sponsors:
            if not is_address(address):
                raise ParamsError(f"main.sponsors: {address!r} is no account address")
            _between(f"main.sponsors: {address}", balance_micro, 0, MONEY_MICRO_MAX)


def contracts_of(
    region: Membership | None, main: MainRules | None, sealed: bool = False
) -> tuple[str, ...]:
    """Return which contracts a chain begins with, in their order."""
    if main is not None:
        return contracts.MAIN_CONTRACTS
    found = contracts.CONTRACTS + (contracts.SEALED_CONTRACTS if sealed else ())
    return found + (contracts.REGION_CONTRACTS if region is not None else ())


def natives_of(main: MainRules | None, natives: Mapping[str, Native]) -> dict[str, Native]:
    """Return which entries of the machine a chain has: regions judge nobody."""
    return {name: one for name, one in natives.items() if main or name not in MAIN_NATIVES}


def keepers_of(
    region: Membership | None, main: MainRules | None, sealed: bool = False
) -> list[str]:
    """Return which contracts hold and settle money."""
    if main is not None:
        return ["regions", "audit", "governance"]
    keepers = ["market", "requests", "settlement", "carbon", "governance"]
    return keepers + ["sealed"] * sealed + ["export"] * exports(region)


def exports(region: Membership | None) -> bool:
    """Tell whether a chain trades with other regions."""
    return region is not None and region.exports is not None


def arguments_of(
    region: Membership | None, main: MainRules | None, slot_ms: int, first_slot: int
) -> dict[str, Plain]:
    """Return what the second tier's contracts are instantiated with.

    `slot_ms` is the length of the chain's slots [ms of market time], `first_slot` the one that it
    begins in.
    """
    if main is not None:
        return {
            "regions": {"bond_micro": main.bond_micro, "hold_ms": main.hold_ms},
            "anchor": {"halt_ms": main.halt_ms},
            "audit": {
                "auditors": main.auditors,
                "audits_needed": main.audits_needed,
                "audit_ms": main.audit_ms,
                "accuser_bond_micro": main.accuser_bond_micro,
            },
            "override": {},
            "exchange": {
                "slot_ms": slot_ms,
                "first_slot": first_slot,
                "exchange": None if main.exchange is None else _fields(main.exchange),
            },
        }
    if region is not None:
        return {
            "export": {
                "region": region.region,
                "checkpoint_ms": region.checkpoint_ms,
                "unanchored_max_ms": region.unanchored_max_ms,
                "main_chain_id": region.main_chain_id,
                "main_keys": [public.hex() for public in region.main_authorities],
                "slot_ms": slot_ms,
                "exports": None if region.exports is None else _fields(region.exports),
            }
        }
    return {}


def _fields(rules: Message) -> dict[str, Plain]:
    return {name: getattr(rules, name) for name in rules.__struct_fields__}


def _check_chain_id(name: str, value: str) -> None:
    if not 0 < len(value) <= 64 or not value.isascii():
        raise ParamsError(f"{name} must have 1 to 64 ASCII characters")


def _between(name: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ParamsError(f"{name} must be an integer from {low} to {high}, not {value!r}")
