"""What a home is, as settings: its source of measurements, its devices, its caps, its bidding.

Frozen structs that decode from and encode to plain maps (`msgspec.convert`, `msgspec.to_builtins`),
so that a node's configuration file can hold them as they are.
"""

import re
from datetime import date, tzinfo
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from hems import civil
from hems.bid import BidSettings
from hems.devices import POWER_W_MAX, Battery, PvArray
from hems.devices.loads import Appliance, Car, Deferrable, Load
from hems.errors import ConfigError, DataError
from hems.forecast.model import TRAIN_DAYS, TRAIN_DAYS_MIN, ModelName
from hems.forecast.weather import FileWeather, Location
from hems.plan import Limits
from hems.sources.base import DailySource, Source
from hems.sources.community import CommunitySource
from hems.sources.constant import ConstantSource
from hems.sources.formats import read_file
from hems.sources.live import CHANNELS
from hems.sources.replay import ReplaySource
from hems.sources.roof import Roof
from hems.sources.synthetic import LATITUDE_SYDNEY, Heating, SyntheticSource

PV_SCALE_MAX: Final = 100.0
DEVICES_MAX: Final = 12
BATTERIES_MAX: Final = 4
PLANNING_MS_MAX: Final = 60_000
RETRAIN_DAYS_MAX: Final = 28
# Whose own meter says all that a plan asks for.
LIVE_DEVICES: Final = (Car, Appliance, Deferrable)
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class CommunityHome(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="community",
):
    """A home of the built-in community; see `CommunitySource`."""

    home: int
    seed: int = 1
    pv_peak_w: int = 0
    load_type: int | None = None
    pv_type: int | None = None


class ReplayHome(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="replay",
):
    """A home of a file (`hems.sources.formats`), its dates moved.

    `data_date` of the file is replayed on `market_date`. `last_date`, of the file, is the last to
    use before it starts over from `repeat_date`. `pv_scale` multiplies the file's production (a
    larger array on the same roof; the kWp, where the file gives that of one). `pv`: where
    production comes from if the file has none. `array` reckons it instead (CE 1), of `irradiance`:
    a weather file (`hems.forecast.weather.FileWeather`) of the same dates as the file.
    """

    path: str
    home: str
    data_date: date
    market_date: date
    last_date: date | None = None
    repeat_date: date | None = None
    pv_scale: float = 1.0
    pv: CommunityHome | None = None
    array: PvArray | None = None
    irradiance: str | None = None

    def __post_init__(self) -> None:
        if (self.array is None) != (self.irradiance is None):
            raise ConfigError("array and irradiance: give both, what produces and under which sun")
        if self.array is not None and (self.pv is not None or self.pv_scale != 1):
            raise ConfigError("array: production is its own; leave out pv and pv_scale")
        if not 0 < self.pv_scale <= PV_SCALE_MAX:
            raise ConfigError(f"pv_scale {self.pv_scale}: above 0, at most {PV_SCALE_MAX:g}")


class SyntheticHome(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="synthetic",
):
    """A home by its household; see `SyntheticSource`."""

    home: int
    seed: int = 1
    persons: int = 2
    heating: Heating = "none"
    hot_water: bool = False
    pv_peak_w: int = 0
    ev_km_per_day: float = 0.0
    latitude: float = LATITUDE_SYDNEY


class ConstantHome(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="constant",
):
    """A home of constant load and production, none by default: storage, or a plant. [W]"""

    load_w: int = 0
    pv_w: int = 0


class LiveHome(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="live",
):
    """A home measured as it lives; its readings come through `[mqtt]` (docs/mqtt.md)."""


SourceConfig: TypeAlias = CommunityHome | ReplayHome | SyntheticHome | ConstantHome | LiveHome


class PlanSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a home plans.

    `caution`: how far towards the quantiles the plan is made for more load and less production
    than forecast: 0 the mean, 1 the 90 % of load and the 10 % of production. `time_limit_ms`: the
    longest the solver may think before the best plan found by then is used; half a second if left
    out.
    """

    caution: float = 0.0
    time_limit_ms: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.caution <= 1:
            raise ConfigError(f"caution {self.caution}: a fraction between 0 and 1")
        if self.time_limit_ms is not None and not 1 <= self.time_limit_ms <= PLANNING_MS_MAX:
            raise ConfigError(f"time_limit_ms {self.time_limit_ms}: 1 to {PLANNING_MS_MAX}")


class ForecastSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a home forecasts its load.

    `model`: `blend` needs no training; `ridge` and `boosted` learn from the last `train_days` days,
    every `retrain_days` days; `auto` takes what was best on the home's own last days. The built-in
    community's habits never change, so that there `auto` is `blend`.

    PV follows the irradiance of `weather`, a file (`hems.forecast.weather.FileWeather`), or else
    the clear sky over `location` (extra `solar`), wherever that was better on the last days.
    """

    model: ModelName = "auto"
    train_days: int = TRAIN_DAYS
    retrain_days: int = 7
    weather: str | None = None
    location: Location | None = None

    def __post_init__(self) -> None:
        if not TRAIN_DAYS_MIN <= self.train_days <= TRAIN_DAYS:
            raise ConfigError(
                f"train_days {self.train_days}: {TRAIN_DAYS_MIN} to {TRAIN_DAYS} days"
            )
        if not 1 <= self.retrain_days <= RETRAIN_DAYS_MAX:
            raise ConfigError(f"retrain_days {self.retrain_days}: 1 to {RETRAIN_DAYS_MAX} days")


class HomeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A home.

    `zone` is an IANA name. The caps are those of the grid connection. [W] `agent` says who trades
    (docs/hems.md, "Agents"): mpc, whose settings are `bidding`; or another by its name, whose
    settings are `agent_settings`. `devices` are loads that can be moved (docs/hems.md, "Devices"),
    `more_batteries` those beside `battery`, by name.
    """

    source: SourceConfig
    zone: str = "Australia/Sydney"
    battery: Battery | None = None
    import_cap_w: int | None = None
    export_cap_w: int | None = None
    bidding: BidSettings = BidSettings()
    forecast: ForecastSettings = ForecastSettings()
    agent: str = "mpc"
    agent_settings: dict[str, int | float | str | bool] = {}
    more_batteries: dict[str, Battery] = {}
    devices: dict[str, Load] = {}
    planning: PlanSettings = PlanSettings()

    def __post_init__(self) -> None:
        civil.zone_of(self.zone)
        for name in ("import_cap_w", "export_cap_w"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= POWER_W_MAX:
                raise ConfigError(f"{name} {value}: 0 to {POWER_W_MAX} W")
        if isinstance(self.source, LiveHome):
            self._check_live()
        if self.more_batteries and self.battery is None:
            raise ConfigError("more_batteries: the first one is [home.battery]")
        for kind, names, most in (
            ("more_batteries", self.more_batteries, BATTERIES_MAX - 1),
            ("devices", self.devices, DEVICES_MAX),
        ):
            if len(names) > most:
                raise ConfigError(f"{kind}: at most {most}, not {len(names)}")
            for name in names:
                if not _NAME.fullmatch(name):
                    raise ConfigError(
                        f"{kind}: {name!r} is not a name such as 'dishwasher' (lower case letters, "
                        "digits, - and _, at most 32)"
                    )

    def _check_live(self) -> None:
        """Refuse what would be promised in a live home and done by nobody."""
        if self.more_batteries:
            raise ConfigError(
                "source: of a live home one battery is steered; a plan for more would promise what "
                "nobody does. Leave out more_batteries"
            )
        for name, load in self.devices.items():
            if not isinstance(load, LIVE_DEVICES):
                kinds = ", ".join(str(kind.__struct_config__.tag) for kind in LIVE_DEVICES)
                raise ConfigError(
                    f"devices: {name!r} is of the kind {type(load).__struct_config__.tag}; in a "
                    f"live home those of the kinds {kinds} are steered. Leave it out: it is part "
                    "of the load"
                )
            if name in CHANNELS:
                raise ConfigError(
                    f"devices: {name!r} is what a live home's meter is called; take another name"
                )

    @property
    def batteries(self) -> tuple[Battery, ...]:
        """All batteries, `battery` first."""
        return (*([self.battery] if self.battery else []), *self.more_batteries.values())

    @property
    def limits(self) -> Limits:
        """The caps, as the planner takes them."""
        return Limits(self.import_cap_w, self.export_cap_w)


def open_source(config: SourceConfig, zone: tzinfo) -> Source:
    """Return the source a configuration names.

    Raises
    ------
    ConfigError
        Its values are out of range, or the home is a `LiveHome`.
    DataError
        Its file cannot be read, or does not have that home or those days.
    """
    if isinstance(config, CommunityHome):
        return _community(config, zone)
    if isinstance(config, SyntheticHome):
        return SyntheticSource(
            config.home,
            config.seed,
            zone,
            config.persons,
            config.heating,
            config.hot_water,
            config.pv_peak_w,
            config.ev_km_per_day,
            config.latitude,
        )
    if isinstance(config, ConstantHome):
        return ConstantSource(config.load_w, config.pv_w)
    if isinstance(config, LiveHome):
        raise ConfigError("source: only a running node hears a live home's meters")
    data = read_file(Path(config.path), zone, only=config.home)
    pv_from = _community(config.pv, zone) if config.pv is not None else None
    last_day = civil.day_number(config.last_date) if config.last_date else None
    repeat_from = civil.day_number(config.repeat_date) if config.repeat_date else None
    return ReplaySource(
        data.homes[0],
        data.steps_per_day,
        data.first_day,
        zone,
        shift_days=(config.market_date - config.data_date).days,
        last_day=last_day,
        repeat_from_day=repeat_from,
        pv_from=pv_from,
        pv_scale=config.pv_scale,
        roof=_roof(config, zone),
    )


def _roof(config: ReplayHome, zone: tzinfo) -> Roof | None:
    if config.array is None or config.irradiance is None:
        return None
    weather = FileWeather(Path(config.irradiance), zone)
    if not weather.knows("irradiance_w_m2"):
        raise DataError(f"{config.irradiance}: no irradiance_w_m2 in it; an array needs it")
    return Roof(config.array, weather)


def _community(config: CommunityHome, zone: tzinfo) -> DailySource:
    return CommunitySource(
        config.home, config.seed, zone, config.pv_peak_w, config.load_type, config.pv_type
    )
