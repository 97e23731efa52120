"""What a home learns from what its source measured until a midnight: models, use of weather."""

from datetime import tzinfo
from pathlib import Path
from typing import Final

import numpy as np

from hems import civil
from hems.civil import DAY_MS, BoolArray, FloatArray, IntArray
from hems.config import CommunityHome, ConstantHome, ForecastSettings, HomeConfig
from hems.forecast import HISTORY_DAYS, Forecast, model
from hems.forecast.model import Trained
from hems.forecast.weather import ClearSky, FileWeather, Weather, helps, pv_by_irradiance
from hems.sources.base import Measurements, Source

# A window of this many steps is asked for at a time, well within a source's bound.
WINDOW_STEPS: Final = 4_000


class LoadModel:
    """Trains every so many civil days, and keeps the model in between.

    Which days those are follows from the calendar alone, and what is learnt ends at their midnight:
    a node restarted on a Thursday noon has the model of the others that week. Its level follows
    each day since.
    """

    def __init__(self, config: HomeConfig, source: Source, zone: tzinfo) -> None:
        self._settings = config.forecast
        self._source = source
        self._zone = zone
        self._name = self._settings.model
        if self._name == "auto" and isinstance(config.source, CommunityHome | ConstantHome):
            self._name = "blend"
        self._of: tuple[int, int] | None = None
        self._trained: Trained | None = None
        self._until: int | None = None
        self._followed: Trained | None = None

    def at(self, now_ms: int, step_ms: int) -> Trained | None:
        """Return the model of a moment for steps of this length; None is the blend."""
        if self._name == "blend":
            return None
        today = civil.day_of(now_ms, self._zone)
        since = today % self._settings.retrain_days
        if self._of != (today - since, step_ms):
            self._trained = self._train(today - since, step_ms)
            self._of, self._until = (today - since, step_ms), None
        if self._until != today:
            self._followed = self._follow(today, since, step_ms)
            self._until = today
        return self._followed

    def _follow(self, today: int, since: int, step_ms: int) -> Trained | None:
        """Return the model after the days since it was trained."""
        if self._trained is None or since == 0:
            return self._trained
        days = HISTORY_DAYS + since
        load_wh = self._history(today, days, step_ms)
        rows = model.table(load_wh, DAY_MS // step_ms, today - days)
        return self._trained.followed(rows.upto(days, since))

    def _train(self, day: int, step_ms: int) -> Trained | None:
        steps_per_day = DAY_MS // step_ms
        days = min(self._settings.train_days, model.train_days(steps_per_day))
        load_wh = self._history(day, days, step_ms)
        return model.train(model.table(load_wh, steps_per_day, day - days), self._name)

    def _history(self, day: int, days: int, step_ms: int) -> FloatArray:
        """Return the load of the days before a day, whole civil days. [Wh]"""
        steps_per_day = DAY_MS // step_ms
        whole = np.empty(days * steps_per_day)
        part = max(1, WINDOW_STEPS // steps_per_day)
        for low in range(0, days, part):
            high = min(days, low + part)
            last = day - days + high
            end_ms = civil.day_start_ms(last, self._zone)
            # A day more than wanted: where clocks went forward, days are shorter than their steps.
            start_ms = end_ms - (high - low + 1) * DAY_MS
            past = self._source.window(start_ms, end_ms, step_ms)
            load, _ = civil_history(past, end_ms, step_ms, last * steps_per_day, self._zone)
            whole[low * steps_per_day : high * steps_per_day] = load[
                -(high - low) * steps_per_day :
            ]
        return whole


class HomeWeather:
    """A home's weather, and whether its PV is the better foretold with it; asked once a day.

    Raises
    ------
    ConfigError, DataError
        The extra is not installed, the file cannot be read.
    """

    def __init__(self, settings: ForecastSettings, zone: tzinfo) -> None:
        self._zone = zone
        self._weather: Weather | None = None
        if settings.weather is not None:
            self._weather = FileWeather(Path(settings.weather), zone)
        elif settings.location is not None:
            self._weather = ClearSky(settings.location)
        self._of: tuple[int, int] | None = None
        self._helps = False

    @property
    def knows_clouds(self) -> bool:
        """Whether the last forecast had today's clouds in it already."""
        return self._helps and isinstance(self._weather, FileWeather)

    def outdoor_c(self, edges_ms: IntArray) -> FloatArray:
        """Return the air temperature of the steps between edges [ms, UTC], NaN where unknown. [°C]

        What is past was measured, what is to come is forecast, if the weather knows it.
        """
        steps_ms = np.diff(edges_ms)
        if self._weather is None or len(steps_ms) == 0:
            return np.full(len(steps_ms), np.nan)
        if (steps_ms == steps_ms[0]).all():
            start_ms, step_ms = int(edges_ms[0]), int(steps_ms[0])
            return self._weather.window(start_ms, len(steps_ms), step_ms).temperature_c
        return np.concatenate(
            [
                self._weather.window(int(start_ms), 1, int(step_ms)).temperature_c
                for start_ms, step_ms in zip(edges_ms[:-1], steps_ms, strict=True)
            ]
        )

    def pv(
        self,
        day_ahead: Forecast,
        history_wh: FloatArray,
        now_ms: int,
        step_ms: int,
        horizon: IntArray,
    ) -> Forecast:
        """Return a PV forecast as the weather has it; the given one where it knows no better.

        `history_wh` ends at `now_ms`, and step i of the horizon begins `i` steps after it.
        """
        if self._weather is None or len(horizon) == 0:
            return day_ahead
        steps_per_day = DAY_MS // step_ms
        steps = HISTORY_DAYS * steps_per_day
        past = self._weather.window(now_ms - steps * step_ms, steps, step_ms).irradiance_w_m2
        first = int(civil.positions(now_ms, 1, step_ms, self._zone)[0])
        places = civil.positions(now_ms - steps * step_ms, steps, step_ms, self._zone) - first
        light = _laid(past, np.isfinite(past), places + len(history_wh), len(history_wh))
        day = civil.day_of(now_ms, self._zone)
        if self._of != (day, step_ms):
            # Whole days up to midnight, so that a node restarted at noon decides the same.
            cut = len(history_wh) - first % steps_per_day
            self._helps = helps(history_wh[:cut], light[:cut], steps_per_day)
            self._of = (day, step_ms)
        if not self._helps:
            return day_ahead
        ahead = self._weather.window(now_ms, len(horizon), step_ms).irradiance_w_m2
        return pv_by_irradiance(day_ahead, history_wh, light, ahead, steps_per_day, horizon)


def civil_history(
    past: Measurements, now_ms: int, slot_ms: int, first: int, zone: tzinfo
) -> tuple[FloatArray, FloatArray]:
    """Lay measurements on civil steps up to `first`; a repeated hour's are averaged."""
    steps = len(past.known)
    length = steps + DAY_MS // slot_ms
    places = civil.positions(now_ms - steps * slot_ms, steps, slot_ms, zone) - first + length
    return (
        _laid(past.load_wh, past.known, places, length),
        _laid(past.pv_wh, past.known, places, length),
    )


def _laid(
    values: FloatArray | IntArray, use: BoolArray, places: IntArray, length: int
) -> FloatArray:
    """Return the means of what falls on each place, NaN where nothing does."""
    use = use & (places >= 0) & (places < length)
    count = np.bincount(places[use], minlength=length)
    total = np.bincount(places[use], values[use].astype(np.float64), minlength=length)
    mean: FloatArray = np.divide(total, count, out=np.full(length, np.nan), where=count > 0)
    return mean
