"""What a home expects of the time ahead: all its forecasts know, joined at one moment."""

from datetime import tzinfo

import numpy as np

from hems import civil, intraday
from hems.civil import DAY_MS, FloatArray, IntArray
from hems.config import HomeConfig
from hems.forecast import HISTORY_DAYS, Forecast, pv_blend
from hems.forecast.model import load_forecast
from hems.learning import HomeWeather, LoadModel, civil_history
from hems.sources.base import Source
from hems.sources.community import typical_load_wh


class Foresight:
    """Load and production of the slots ahead, by the home's model, its weather and today so far.

    Raises
    ------
    ConfigError, DataError
        As `HomeWeather`.
    """

    def __init__(self, config: HomeConfig, source: Source, zone: tzinfo) -> None:
        self._source = source
        self._zone = zone
        self._load_model = LoadModel(config, source, zone)
        self._weather = HomeWeather(config.forecast, zone)

    def outdoor_c(self, edges_ms: IntArray) -> FloatArray:
        """Return the air temperature of the steps between edges; see `HomeWeather`. [°C]"""
        return self._weather.outdoor_c(edges_ms)

    def ahead(self, now_ms: int, slots: int, slot_ms: int) -> tuple[Forecast, Forecast]:
        """Return the forecasts of load and production, shape (slots,) each. [Wh]"""
        steps_per_day = DAY_MS // slot_ms
        past = self._source.window(now_ms - HISTORY_DAYS * DAY_MS, now_ms, slot_ms)
        first = int(civil.positions(now_ms, 1, slot_ms, self._zone)[0])
        load, pv = civil_history(past, now_ms, slot_ms, first, self._zone)
        ahead = civil.positions(now_ms, slots, slot_ms, self._zone)
        # The hour that is repeated when clocks go back is forecast like its first time.
        offsets = np.maximum(ahead - first, 0)
        typical = typical_load_wh(ahead, steps_per_day)
        trained = self._load_model.at(now_ms, slot_ms)
        load_ahead = load_forecast(
            trained, load, steps_per_day, first - len(load), offsets, typical
        )
        pv_ahead = pv_blend(pv, steps_per_day, offsets, fallback_wh=np.zeros(slots))
        pv_ahead = self._weather.pv(pv_ahead, pv, now_ms, slot_ms, offsets)
        if not self._weather.knows_clouds:
            pv_ahead = intraday.persist_pv(pv_ahead, pv, steps_per_day, offsets)
        return intraday.persist_load(load_ahead, load, steps_per_day, offsets), pv_ahead
