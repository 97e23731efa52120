"""EMHASS forecasts a home's load day by day, for `bench.peers.emhass_forecasts`.

Asked: a home's load [W], one value per step from midnight on, null in gaps, the day it begins, the
days to be forecast, and after how many of them a model is trained anew. Answered, for each method:
the forecasts, a row per day, and the CPU seconds of all.
"""

import asyncio
import json
import logging
import sys
import time
from importlib.metadata import version

import numpy as np
import pandas as pd
from emhass.forecast import Forecast
from emhass.machine_learning_forecaster import MLForecaster

SENSOR = "load"
SILENT = logging.getLogger("emhass")
TRAIN_DAYS = 365


def naive(history: pd.Series, dates: pd.DatetimeIndex) -> np.ndarray:
    """The day before, again."""
    return Forecast.get_naive_load_forecast(history, dates).to_numpy()


def typical(history: pd.Series, dates: pd.DatetimeIndex) -> np.ndarray:
    """The mean of the same month's days of the week; where there are none, the day before."""
    known = history[
        (history.index.month == dates[0].month) & (history.index.dayofweek == dates[0].dayofweek)
    ]
    if known.empty:
        return naive(history, dates)
    found, _ = Forecast.get_typical_load_forecast(history.to_frame(SENSOR), dates[0])
    return found[SENSOR].reindex(dates).ffill().bfill().to_numpy()


class Learned:
    """Its machine-learning forecaster, as its documentation sets it: a day of lags."""

    def __init__(self, model: str, steps: int, retrain_days: int) -> None:
        self.model, self.steps, self.retrain_days = model, steps, retrain_days
        self.forecaster: MLForecaster | None = None
        self.age = 0

    def __call__(self, history: pd.Series, dates: pd.DatetimeIndex) -> np.ndarray:
        """Forecast a day, after training where that is due."""
        whole = history.asfreq(dates.freq).to_frame(SENSOR)
        if self.forecaster is None or self.age == self.retrain_days:
            data = whole.iloc[-TRAIN_DAYS * self.steps :].interpolate().bfill()
            data.index.freq = dates.freq
            self.forecaster = MLForecaster(
                data, "load_forecast", SENSOR, self.model, self.steps, {}, SILENT
            )
            asyncio.run(self.forecaster.fit())
            self.age = 0
        self.age += 1
        # As many values as there are lags, and what they are interpolated from.
        window = whole.iloc[-2 * self.steps :].interpolate().ffill().bfill()
        window.index.freq = dates.freq
        return asyncio.run(self.forecaster.predict(window)).to_numpy()


def main() -> None:
    """Forecast by each method."""
    SILENT.setLevel(logging.CRITICAL)
    with open(sys.argv[1]) as file:
        asked = json.load(file)
    steps, first, days = asked["steps_per_day"], asked["first_day"], asked["days"]
    freq = pd.Timedelta(days=1) / steps
    values = np.array(asked["load_w"], float)
    index = pd.date_range(asked["begins"], periods=len(values), freq=freq, tz="UTC")
    load = pd.Series(values, index=index)
    methods = {"naive": naive, "typical": typical}
    for model in asked["models"]:
        methods[f"mlforecaster, {model}"] = Learned(model, steps, asked["retrain_days"])
    found = {}
    for name, method in methods.items():
        rows = []
        begin = time.process_time()
        for day in range(first, first + days):
            at = day * steps
            dates = load.index[at : at + steps]
            history = load.iloc[:at].dropna()
            rows.append([float(value) for value in method(history, dates)])
        found[name] = {"rows": rows, "cpu_s": time.process_time() - begin}
    with open(sys.argv[2], "w") as file:
        json.dump({"version": version("emhass"), "methods": found}, file)


main()
