"""The home's load model, trained once a day on what the source has measured until midnight."""

from datetime import tzinfo
from typing import Final

import numpy as np

from hems import civil
from hems.civil import DAY_MS, FloatArray
from hems.config import CommunityHome, HomeConfig
from hems.errors import ConfigError
from hems.forecast import boosted, model
from hems.forecast.model import Trained
from hems.sources.base import Measurements, Source

# A window of this many steps is asked for at a time, well within a source's bound.
WINDOW_STEPS: Final = 4_000


class DailyModel:
    """Trains when the civil day changes, and keeps the model until the next.

    It learns from whole days before today alone: a node restarted at noon has the morning's model.

    Raises
    ------
    ConfigError
        The model chosen needs an extra that is not installed.
    """

    def __init__(self, config: HomeConfig, source: Source, zone: tzinfo) -> None:
        self._settings = config.forecast
        self._source = source
        self._zone = zone
        self._name = self._settings.model
        if self._name == "auto" and isinstance(config.source, CommunityHome):
            self._name = "blend"
        if self._name == "boosted" and not boosted.installed():
            raise ConfigError(
                "[home.forecast] model = 'boosted' needs LightGBM; install commonwatt[forecast] "
                "or choose 'ridge'"
            )
        self._of: tuple[int, int] | None = None
        self._trained: Trained | None = None

    def at(self, now_ms: int, step_ms: int) -> Trained | None:
        """Return the model of a moment's day for steps of this length; None is the blend."""
        if self._name == "blend":
            return None
        day = civil.day_of(now_ms, self._zone)
        if self._of != (day, step_ms):
            self._trained = self._train(day, step_ms)
            self._of = (day, step_ms)
        return self._trained

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


def civil_history(
    past: Measurements, now_ms: int, slot_ms: int, first: int, zone: tzinfo
) -> tuple[FloatArray, FloatArray]:
    """Lay measurements on civil steps up to `first`; a repeated hour's are averaged."""
    steps = len(past.known)
    places = civil.positions(now_ms - steps * slot_ms, steps, slot_ms, zone) - first
    length = steps + DAY_MS // slot_ms
    places = places + length
    use = past.known & (places >= 0) & (places < length)
    count = np.bincount(places[use], minlength=length)
    histories = []
    for values in (past.load_wh, past.pv_wh):
        total = np.bincount(places[use], values[use].astype(float), minlength=length)
        histories.append(np.divide(total, count, out=np.full(length, np.nan), where=count > 0))
    return histories[0], histories[1]
