"""The parameters a market is born with; part of the chain's genesis.

They are checked by `MarketParams.check`, which names the parameter and says what would be right.
"""

import hashlib
from typing import Final

from market.errors import ParamsError
from market.tiers import MainRules, Membership, Succession
from market.time import MINUTE_MS, Clock
from wire.codec import Message, encode
from wire.keys import is_address

ROLES: Final = ("consumer", "prosumer", "producer", "speculator")
MECHANISMS: Final = ("high_low", "uniform", "request_offer", "sharing")
# Those with a book of orders for each slot, which rounds before the gate can clear.
MECHANISMS_WITH_ORDERS: Final = ("high_low", "uniform")
UNIFORM_PRICES: Final = ("ask", "mid")
SHARING_KEYS: Final = ("by_consumption", "static", "static_once")
TRADE_PRICES: Final = ("ask", "mid", "bid")

HOMES_MAX: Final = 5_000
TIME_LAPSE_MAX: Final = 3_600
POWER_W_MAX: Final = 1_000_000_000
MONEY_MICRO_MAX: Final = 10**15
PRICE_MICRO_PER_KWH_MAX: Final = 10**10
TABLE_ROWS_MAX: Final = 1_000
INTENSITY_MG_PER_WH_MAX: Final = 100_000
LINES_MAX: Final = 1_024
CLUSTERS_MAX: Final = 16
AUCTIONS_MAX: Final = 800
SHARE_BP_MAX: Final = 10_000
COEFFICIENT_PPM_MAX: Final = 1_000_000
# The contract reveals all of a home's orders in one transaction, within its gas.
SEALED_ORDERS_MAX: Final = 16
# Of real time: a block tells that the gate has closed, the next ones take what is revealed.
REVEAL_REAL_MS_MIN: Final = 2_000
BANDS_MAX: Final = 96
DAY_MINUTES: Final = 1_440
SETTLE_WINDOW_SLOTS_MAX: Final = 200
EPOCH_BLOCKS_MIN: Final = 4
EPOCH_BLOCKS_MAX: Final = 100_000
EXPIRY_BLOCKS_MAX: Final = 1_000_000
HORIZON_SLOTS_MAX: Final = 7 * 288
KEEP_SLOTS_MAX: Final = 8_000
WEIGHT_PERCENT_MAX: Final = 1_000
# So many accepted prices are remembered (`contracts/matching.star`).
LIMITS_MAX: Final = 32

# [first millisecond of market time, value], ascending.
Dated = tuple[tuple[int, int], ...]
# [first millisecond of market time, [[minute of the local day, price], ...]], ascending.
DatedBands = tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
# [first millisecond of market time, (micro per kWh, basis points, matrix of the clusters)].
DatedFees = tuple[tuple[int, tuple[int, int, tuple[tuple[int, ...], ...]]], ...]
# [first millisecond of market time, ((home's number, parts per million), ...)].
DatedCoefficients = tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


class HomeEntry(Message, frozen=True, tag="home"):
    """A home that is in the region from the start.

    `address` is its account, `meter` the account of its meter's key; caps are what the meter is
    certified for. `balance_micro` is minted to it at genesis. `line` is the feeder's line it hangs
    on, `cluster` the one its grid fees go by; `green` certifies all that it gives as green.
    """

    address: str
    meter: str
    name: str
    role: str
    import_cap_w: int
    export_cap_w: int
    battery_wh: int = 0
    pv_w: int = 0
    balance_micro: int = 0
    line: int = 0
    cluster: int = 0
    green: bool = False


class GovernanceParams(Message, frozen=True, tag="governance"):
    """How authorities change the set and the parameters (`contracts/governance.star`).

    Parameters
    ----------
    epoch_blocks : how many blocks an epoch has; within one, set and parameters stay.
    bond_micro : what a seat's holder loses for breaking the rules; the first authorities' bonds
        are minted at genesis, beside their balances.
    expiry_blocks_max : the most blocks for which a proposal may be open.
    """

    epoch_blocks: int = 100
    bond_micro: int = 10_000_000
    expiry_blocks_max: int = 10_000

    def check(self) -> "GovernanceParams":
        """Return the parameters if they can be meant. Raises `ParamsError`."""
        _between("epoch_blocks", self.epoch_blocks, EPOCH_BLOCKS_MIN, EPOCH_BLOCKS_MAX)
        _between("bond_micro", self.bond_micro, 0, MONEY_MICRO_MAX)
        _between("expiry_blocks_max", self.expiry_blocks_max, 1, EXPIRY_BLOCKS_MAX)
        return self


class Founding(Message, frozen=True, tag="founding"):
    """The first authorities of the chain that a market runs on, and the chain's parameters.

    `authorities` are Ed25519 public keys in their order; `evidence_blocks` is for how many blocks
    evidence of an offence is taken. Without authorities (a study, a test) nobody governs.

    `machine` is what all homes must execute contracts with (`market.app.machine`); a program that
    is another machine refuses to begin or load the chain. Empty: whatever begins it.
    """

    authorities: tuple[bytes, ...] = ()
    chain: tuple[tuple[str, int], ...] = ()
    governance: GovernanceParams = GovernanceParams()
    evidence_blocks: int = 10_000
    machine: tuple[tuple[str, str], ...] = ()


class MarketParams(Message, frozen=True, tag="market"):
    """A market's parameters. Times named `market_` run on the market's clock (`market/time.py`).

    Parameters
    ----------
    genesis_ms : real time of the genesis block. [ms since the epoch, UTC]
    market_start_ms : market time at `genesis_ms`; the start of a slot. [ms since the epoch, UTC]
    time_lapse : how many times as fast as real time the market's clock runs, 1 to 3600.
    slot_minutes : delivery interval; divides an hour. [min of market time]
    gate_lead_ms : how long before delivery the gate closes; a third of a slot if None.
    settle_window_ms : how long after delivery readings are taken; two slots if None.
    utc_offsets : local time as dated offsets from UTC. [min]
    tariffs : dated bands of the local day; the first band of each starts at minute 0.
    feed_in : dated price of fed-in energy.
    intensities : dated bands of what a watt-hour of grid energy carries. [mg CO2-equivalent per Wh]
    mechanism : `high_low`, `uniform`, `request_offer` or `sharing` (docs/spec/market.md).
    uniform_price : of `uniform`: the marginal `ask`, or the `mid` of the marginal pair.
    sharing_key, sharing_price_micro_per_kwh : of `sharing`: how surplus is divided, and its price;
        the middle of tariff and feed-in if None.
    auctions : rounds before the gate: (market time [ms], first slot, number of slots), ascending.
    intraday_every_ms : length of the intraday rounds' ticks, 0 for none. [ms of market time]
    offer_timeout_ms : of `request_offer`: how long offers are taken; a third of a slot if None.
    fees : dated grid fees that buyers pay (`contracts/matching.star`).
    coefficients : dated, of `sharing` by a static key.
    lines : the feeder: (number, parent, rating [W]), numbered from 1, parents before children,
        parent 0 for the substation. Without lines nothing is curtailed.
    sealed : whether orders are hidden until their gate closes (`contracts/sealed.star`).
    reveal_ms : of sealed orders: how long after the gate they are revealed at the latest; two
        thirds of `gate_lead_ms` if None.
    margin_percent : share of an order's value at the tariff that is locked.
    penalty_micro_per_kwh : the breakdown loss σ of Hu 1, per kWh a seller falls short.
    suggested_ask_percent, suggested_ask_shift_percent : the weights μ and λ of CE 5: of the root
        mean square of accepted asks, and of the imbalance.
    suggested_bid_percent, suggested_bid_shift_percent : ν and β of CE 6, the same of bids.
    suggested_last : how many of the last accepted asks and bids the roots are of.
    region, main : the second tier (`market/tiers.py`): which main chain the region belongs to, or
        that the chain is one, which then has no homes. Neither: a street by itself.
    """

    chain_id: str
    genesis_ms: int
    market_start_ms: int
    time_lapse: int
    slot_minutes: int
    currency: str
    regulator: str
    homes: tuple[HomeEntry, ...]
    utc_offsets: Dated
    tariffs: DatedBands
    feed_in: Dated
    gate_lead_ms: int | None = None
    settle_window_ms: int | None = None
    mechanism: str = "high_low"
    trade_price: str = "ask"
    uniform_price: str = "ask"
    sharing_key: str = "by_consumption"
    sharing_price_micro_per_kwh: int | None = None
    auctions: tuple[tuple[int, int, int], ...] = ()
    intraday_every_ms: int = 0
    offer_timeout_ms: int | None = None
    fees: DatedFees = ((0, (0, 0, ())),)
    coefficients: DatedCoefficients = ((0, ()),)
    lines: tuple[tuple[int, int, int], ...] = ()
    margin_percent: int = 10
    penalty_micro_per_kwh: int = 50_000
    feed_in_enabled: bool = True
    # Limits of the market and of its audit (Yu, step 2).
    price_max_micro_per_kwh: int = 10_000_000
    energy_max_wh: int = 1_000_000_000
    horizon_slots: int = 192
    orders_per_slot_max: int = 20_000
    orders_per_home_max: int = 8
    unsettled_orders_max: int = 400
    history_slots: int = 192
    history_max: int = 64
    history_min: int = 8
    default_rate_max_percent: int = 75
    shortfall_tolerance_percent: int = 25
    intensities: DatedBands = ((0, ((0, 0),)),)
    keep_slots: int = 192
    region: Membership | None = None
    main: MainRules | None = None
    sealed: bool = False
    reveal_ms: int | None = None
    suggested_ask_percent: int = 100
    suggested_ask_shift_percent: int = 25
    suggested_bid_percent: int = 100
    suggested_bid_shift_percent: int = 25
    suggested_last: int = 32

    @property
    def slot_ms(self) -> int:
        """The length of a slot. [ms of market time]"""
        return self.slot_minutes * MINUTE_MS

    @property
    def succeeds(self) -> Succession | None:
        """The block with whose state the chain begins; None: with nothing."""
        return None if self.region is None else self.region.succeeds

    @property
    def begins_ms(self) -> int:
        """Block time of the chain's first state. [ms since the epoch, UTC]"""
        return self.genesis_ms if self.succeeds is None else self.succeeds.time_ms

    def clock(self) -> Clock:
        """Return the market's clock."""
        window = self.settle_window_ms
        lead_ms = self.slot_ms // 3 if self.gate_lead_ms is None else self.gate_lead_ms
        reveal_ms = lead_ms * 2 // 3 if self.reveal_ms is None else self.reveal_ms
        return Clock(
            genesis_ms=self.genesis_ms,
            market_start_ms=self.market_start_ms,
            time_lapse=self.time_lapse,
            slot_ms=self.slot_ms,
            gate_lead_ms=lead_ms,
            settle_window_ms=2 * self.slot_ms if window is None else window,
            reveal_ms=reveal_ms if self.sealed else 0,
        )

    def fingerprint(self) -> str:
        """Hash of all parameters."""
        return hashlib.sha256(encode(self)).hexdigest()

    def check(self) -> "MarketParams":
        """Return the parameters if they can be meant.

        Raises
        ------
        ParamsError
            Naming the first one that cannot, and what would be right.
        """
        if not self.chain_id or len(self.chain_id) > 64 or not self.chain_id.isascii():
            raise ParamsError("chain_id must have 1 to 64 ASCII characters")
        if not self.currency or len(self.currency) > 16:
            raise ParamsError("currency must have 1 to 16 characters, such as AUD")
        _one_of("mechanism", self.mechanism, MECHANISMS)
        _one_of("trade_price", self.trade_price, TRADE_PRICES)
        _one_of("uniform_price", self.uniform_price, UNIFORM_PRICES)
        _one_of("sharing_key", self.sharing_key, SHARING_KEYS)
        self._check_lines()
        self._check_fees()
        self._check_time()
        self._check_tables()
        self._check_limits()
        self._check_sealed()
        self._check_homes()
        self._check_tier()
        return self

    def _check_tier(self) -> None:
        if self.region is not None and self.main is not None:
            raise ParamsError("a chain is a region, or the main chain, or neither: not both")
        if self.region is not None:
            self.region.check()
            if self.begins_ms < self.genesis_ms:
                raise ParamsError("region.succeeds.time_ms must not be before genesis_ms")
            if self.succeeds is not None and self.succeeds.chain_id == self.chain_id:
                raise ParamsError(
                    f"region.succeeds.chain_id is {self.chain_id}, too: a successor has a name of "
                    "its own"
                )
            if self.region.exports is not None and self.mechanism not in MECHANISMS_WITH_ORDERS:
                raise ParamsError(
                    "region.exports: what is left of orders is exported, and a market whose "
                    f"mechanism is {self.mechanism} has none"
                )
        if self.main is not None:
            self.main.check()
            if self.homes:
                raise ParamsError("homes: the main chain has none, they are in its regions")

    def _check_time(self) -> None:
        _between("genesis_ms", self.genesis_ms, 0, 2**53)
        _between("market_start_ms", self.market_start_ms, 0, 2**53)
        _between("time_lapse", self.time_lapse, 1, TIME_LAPSE_MAX)
        if not 1 <= self.slot_minutes <= 60 or 60 % self.slot_minutes:
            raise ParamsError(
                f"slot_minutes must divide 60 (5, 10, 15, 20, 30 or 60), not {self.slot_minutes}"
            )
        if self.market_start_ms % self.slot_ms:
            raise ParamsError(
                f"market_start_ms must be the start of a slot: a multiple of {self.slot_ms}"
            )
        clock = self.clock()
        _between("gate_lead_ms", clock.gate_lead_ms, 0, HORIZON_SLOTS_MAX * self.slot_ms)
        window_max = SETTLE_WINDOW_SLOTS_MAX * self.slot_ms
        _between("settle_window_ms", clock.settle_window_ms, 1, window_max)

    def _check_tables(self) -> None:
        _dated("utc_offsets", self.utc_offsets, self.market_start_ms)
        for _, minutes in self.utc_offsets:
            _between("utc_offsets: an offset in minutes", minutes, -DAY_MINUTES, DAY_MINUTES)
        _dated("feed_in", self.feed_in, self.market_start_ms)
        for _, price in self.feed_in:
            _between("feed_in: a price", price, 0, PRICE_MICRO_PER_KWH_MAX)
        self._check_bands("tariffs", self.tariffs, "a price", 1, PRICE_MICRO_PER_KWH_MAX)
        self._check_bands("intensities", self.intensities, "a value", 0, INTENSITY_MG_PER_WH_MAX)

    def _check_bands(self, name: str, table: DatedBands, what: str, low: int, high: int) -> None:
        _dated(name, table, self.market_start_ms)
        for _, bands in table:
            starts = [minute for minute, _ in bands]
            if not bands or len(bands) > BANDS_MAX or starts[0] != 0:
                raise ParamsError(
                    f"{name}: each table has 1 to {BANDS_MAX} bands, the first at minute 0"
                )
            if starts != sorted(set(starts)) or starts[-1] >= DAY_MINUTES:
                raise ParamsError(f"{name}: the bands' minutes must ascend within 0 to 1439")
            for _, value in bands:
                _between(f"{name}: {what}", value, low, high)

    def _check_lines(self) -> None:
        if len(self.lines) > LINES_MAX:
            raise ParamsError(f"lines: at most {LINES_MAX}, not {len(self.lines)}")
        for place, (line, parent, rating_w) in enumerate(self.lines, start=1):
            if line != place:
                raise ParamsError(f"lines are numbered from 1 in order: row {place} is {line}")
            _between(f"line {line}: its parent (0 is the substation)", parent, 0, place - 1)
            _between(f"line {line}: its rating [W]", rating_w, 1, POWER_W_MAX)

    def _check_fees(self) -> None:
        _dated("fees", self.fees, self.market_start_ms)
        for _, (constant, share_bp, matrix) in self.fees:
            _between("fees: the constant", constant, 0, PRICE_MICRO_PER_KWH_MAX)
            _between("fees: the share of the price", share_bp, 0, SHARE_BP_MAX)
            if len(matrix) > CLUSTERS_MAX or any(len(row) != len(matrix) for row in matrix):
                raise ParamsError(f"fees: a matrix is square, of at most {CLUSTERS_MAX} clusters")
            for fee in (fee for row in matrix for fee in row):
                _between("fees: a fee of the matrix", fee, 0, PRICE_MICRO_PER_KWH_MAX)
        _dated("coefficients", self.coefficients, self.market_start_ms)
        for _, rows in self.coefficients:
            numbers = [home for home, _ in rows]
            if numbers != sorted(set(numbers)) or len(rows) > HOMES_MAX:
                raise ParamsError("coefficients: the homes' numbers must ascend")
            for home, ppm in rows:
                _between("coefficients: a home", home, 1, HOMES_MAX)
                _between("coefficients: parts per million", ppm, 0, COEFFICIENT_PPM_MAX)
            if sum(ppm for _, ppm in rows) > COEFFICIENT_PPM_MAX:
                raise ParamsError("coefficients: parts per million add up to more than a whole")
        if len(self.auctions) > AUCTIONS_MAX or list(self.auctions) != sorted(self.auctions):
            raise ParamsError(f"auctions: at most {AUCTIONS_MAX}, in order of time")
        for at_ms, first, count in self.auctions:
            _between("auctions: a time", at_ms, 0, 2**53)
            _between("auctions: a first slot", first, 0, 10**9)
            _between("auctions: a number of slots", count, 1, 10**9)
        _between("intraday_every_ms", self.intraday_every_ms, 0, 24 * 3_600_000)
        timeout_ms = self.slot_ms // 3 if self.offer_timeout_ms is None else self.offer_timeout_ms
        _between("offer_timeout_ms", timeout_ms, 1, HORIZON_SLOTS_MAX * self.slot_ms)
        if self.sharing_price_micro_per_kwh is not None:
            price = self.sharing_price_micro_per_kwh
            _between("sharing_price_micro_per_kwh", price, 0, PRICE_MICRO_PER_KWH_MAX)

    def _check_limits(self) -> None:
        price_max = PRICE_MICRO_PER_KWH_MAX
        for name, low, high in (
            ("margin_percent", 0, 100),
            ("penalty_micro_per_kwh", 0, price_max),
            ("price_max_micro_per_kwh", 1, price_max),
            ("energy_max_wh", 1, 10**9),
            ("horizon_slots", 1, HORIZON_SLOTS_MAX),
            ("orders_per_slot_max", 1, 100_000),
            ("orders_per_home_max", 1, 64),
            ("unsettled_orders_max", 1, 100_000),
            ("history_slots", 1, KEEP_SLOTS_MAX),
            ("history_max", 1, 256),
            ("history_min", 1, 256),
            ("default_rate_max_percent", 0, 100),
            ("shortfall_tolerance_percent", 0, 100),
            ("keep_slots", 1, KEEP_SLOTS_MAX),
            ("suggested_ask_percent", 0, WEIGHT_PERCENT_MAX),
            ("suggested_ask_shift_percent", 0, WEIGHT_PERCENT_MAX),
            ("suggested_bid_percent", 0, WEIGHT_PERCENT_MAX),
            ("suggested_bid_shift_percent", 0, WEIGHT_PERCENT_MAX),
            ("suggested_last", 1, LIMITS_MAX),
        ):
            _between(name, getattr(self, name), low, high)

    def _check_sealed(self) -> None:
        if type(self.sealed) is not bool:
            raise ParamsError(f"sealed must be true or false, not {self.sealed!r}")
        if not self.sealed:
            if self.reveal_ms is not None:
                raise ParamsError("reveal_ms: only sealed orders are revealed; leave it out")
            return
        if self.mechanism not in MECHANISMS_WITH_ORDERS:
            raise ParamsError(
                f"sealed: {' and '.join(MECHANISMS_WITH_ORDERS)} have orders to seal, "
                f"{self.mechanism} has none"
            )
        if self.auctions or self.intraday_every_ms:
            raise ParamsError(
                "sealed: orders are unknown before their gate, so no round can clear them there; "
                "leave out auctions and intraday_every_ms"
            )
        if self.region is not None and self.region.exports is not None:
            raise ParamsError(
                "sealed: a region that trades with others (region.exports) takes open orders"
            )
        clock = self.clock()
        _between("gate_lead_ms of sealed orders", clock.gate_lead_ms, 2, 2**53)
        _between("reveal_ms", clock.reveal_ms, 1, clock.gate_lead_ms)
        if clock.reveal_ms < REVEAL_REAL_MS_MIN * self.time_lapse:
            raise ParamsError(
                f"reveal_ms {clock.reveal_ms} are {clock.reveal_ms // self.time_lapse} ms of real "
                f"time at time_lapse {self.time_lapse}, and homes need {REVEAL_REAL_MS_MIN} to "
                "reveal: a longer gate_lead_ms or reveal_ms, or a smaller time_lapse"
            )
        _between(
            "orders_per_home_max of sealed orders", self.orders_per_home_max, 1, SEALED_ORDERS_MAX
        )

    def _check_homes(self) -> None:
        if not is_address(self.regulator):
            raise ParamsError("regulator must be an account address: cw and 40 hex digits")
        if len(self.homes) > HOMES_MAX:
            raise ParamsError(f"homes: at most {HOMES_MAX}, not {len(self.homes)}")
        seen = {self.regulator}
        for place, home in enumerate(self.homes):
            where = f"homes[{place}] ({home.name or 'no name'})"
            for address in (home.address, home.meter):
                if not is_address(address):
                    raise ParamsError(f"{where}: {address!r} is no account address")
                if address in seen:
                    raise ParamsError(f"{where}: {address} is used twice")
                seen.add(address)
            if not 1 <= len(home.name) <= 64:
                raise ParamsError(f"{where}: name must have 1 to 64 characters")
            _one_of(f"{where}: role", home.role, ROLES)
            _between(f"{where}: balance_micro", home.balance_micro, 0, MONEY_MICRO_MAX)
            _between(f"{where}: line", home.line, 0, len(self.lines))
            _between(f"{where}: cluster", home.cluster, 0, CLUSTERS_MAX - 1)
            if type(home.green) is not bool:
                raise ParamsError(f"{where}: green must be true or false, not {home.green!r}")
            for quantity in ("import_cap_w", "export_cap_w", "battery_wh", "pv_w"):
                _between(f"{where}: {quantity}", getattr(home, quantity), 0, POWER_W_MAX)


def _between(name: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ParamsError(f"{name} must be an integer from {low} to {high}, not {value!r}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ParamsError(f"{name} must be one of {', '.join(known)}, not {value!r}")


def _dated(
    name: str, table: Dated | DatedBands | DatedFees | DatedCoefficients, start_ms: int
) -> None:
    times = [row[0] for row in table]
    if not times or len(times) > TABLE_ROWS_MAX:
        raise ParamsError(f"{name} must have 1 to {TABLE_ROWS_MAX} dated rows")
    if times != sorted(set(times)):
        raise ParamsError(f"{name}: the dates must ascend")
    if times[0] > start_ms:
        raise ParamsError(f"{name}: the first row must begin at or before market_start_ms")
