"""Numbers and times as people read them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from node.web.dashboard import texts

MICRO: Final = 1_000_000
HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000
MINUS: Final = "\N{MINUS SIGN}"
THIN: Final = "\N{NARROW NO-BREAK SPACE}"


def number(value: float, digits: int = 0) -> str:
    """Return a number with a true minus and thin spaces between thousands."""
    text = f"{abs(value):,.{digits}f}".replace(",", THIN)
    return f"{MINUS}{text}" if value < 0 and text.strip("0.,") else text


def energy(wh: float) -> str:
    """Return an energy in the unit that suits it."""
    if abs(wh) < 1_000:
        return f"{number(wh)}{THIN}Wh"
    digits = 2 if abs(wh) < 10_000 else 1 if abs(wh) < 1_000_000 else 0
    return f"{number(wh / 1_000, digits)}{THIN}kWh"


def power(w: float) -> str:
    """Return a power in kW, or W if it is little."""
    return f"{number(w)}{THIN}W" if abs(w) < 1_000 else f"{number(w / 1_000, 2)}{THIN}kW"


def mean_power_w(wh: float, length_ms: int) -> float:
    """Return the mean power of an energy over a time."""
    return wh * HOUR_MS / max(1, length_ms)


def money(micro: float, currency: str) -> str:
    """Return an amount of money."""
    return f"{number(micro / MICRO, 2)}{THIN}{currency}"


def price(micro_per_kwh: float) -> str:
    """Return a price in hundredths per kWh, without its unit."""
    return number(micro_per_kwh / MICRO * 100, 1)


def price_unit(currency: str) -> str:
    """Return the unit of `price`."""
    return f"{texts.CENTS.get(currency, 'c')}/kWh"


def percent(share: float) -> str:
    """Return a share of one as percent."""
    return f"{number(100 * share)}{THIN}%"


def seconds(ms: float | None) -> str:
    """Return a duration in seconds; a dash if it is not known."""
    if ms is None:
        return texts.NOTHING
    return f"{number(ms / 1_000, 2)}{THIN}s" if ms < 10_000 else f"{number(ms / 1_000)}{THIN}s"


def short(hexadecimal: str, chars: int = 8) -> str:
    """Return the beginning of a hash or address."""
    return hexadecimal if len(hexadecimal) <= chars + 2 else f"{hexadecimal[:chars]}…"


def cut(name: str, chars: int) -> str:
    """Return a name in so many characters at most."""
    return name if len(name) <= chars else f"{name[: chars - 1]}…"


def plural(count: int, one: str, many: str) -> str:
    """Return a count with its noun."""
    return f"{number(count)} {one if count == 1 else many}"


class Local:
    """The market's local wall clock.

    Parameters
    ----------
    offsets : sequence of (int, int)
        From which market time [ms] it is how far from UTC [min].
    """

    def __init__(self, offsets: Sequence[tuple[int, int]]) -> None:
        self._offsets = offsets

    def moment(self, market_ms: int) -> datetime:
        """Return the wall clock's date and time."""
        minutes = 0
        for from_ms, offset in self._offsets:
            if from_ms <= market_ms:
                minutes = offset
        return datetime.fromtimestamp(market_ms / 1_000, UTC) + timedelta(minutes=minutes)

    def clock(self, market_ms: int) -> str:
        """Return hours and minutes."""
        return f"{self.moment(market_ms):%H:%M}"

    def day(self, market_ms: int) -> str:
        """Return weekday and date."""
        moment = self.moment(market_ms)
        return f"{moment:%A}, {moment.day}{THIN}{moment:%B}"


def utc_clock(ms: int) -> str:
    """Return a real time, UTC."""
    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%d %H:%M:%S} UTC"
