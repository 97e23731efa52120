import numpy as np
import pytest

from hems.errors import ConfigError
from hems.forecast import boosted, model
from hems.forecast.blend import blend
from tests.hems.forecast.homes import home

STEPS = 24
DAYS = 160
VALUES = home(DAYS)
ROWS = model.table(VALUES, STEPS, 0)


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosted, "TREES", 12)
    monkeypatch.setattr(boosted, "LEARNING_RATE", 0.3)


def test_the_ridge_beats_the_blend_where_days_hang_together() -> None:
    rows = model.table(home(DAYS, weekend=2.5), STEPS, 0)
    trained = model.train(rows.upto(120), "ridge")
    assert trained is not None
    mean, _, median, _ = trained.energies(rows.values[120:])
    actual = rows.energy_wh[120:]
    untrained = np.array(
        [
            blend(rows.energy_wh[day - 28 : day].ravel(), STEPS, STEPS).mean_wh
            for day in range(120, DAYS)
        ]
    )
    assert ((mean - actual) ** 2).mean() < 0.97 * ((untrained - actual) ** 2).mean()
    assert np.abs(median - actual).mean() < np.abs(mean - actual).mean()


def test_intervals_hold_about_four_in_five() -> None:
    trained = model.train(ROWS.upto(120), "ridge")
    assert trained is not None
    _, low, _, high = trained.energies(ROWS.values[120:])
    actual = ROWS.energy_wh[120:]
    assert 0.7 < ((actual >= low) & (actual <= high)).mean() < 0.9


def test_the_level_follows_a_home_that_changes_its_ways() -> None:
    trained = model.train(ROWS.upto(120), "ridge")
    assert trained is not None
    since = ROWS.upto(150, 30)
    foretold = trained.mean.predict(since.values)
    followed = trained.followed(since._replace(energy_wh=1.8 * foretold))
    assert trained.level.factor < 1.1
    assert 1.2 < followed.level.factor < 1.8
    before, after = (of.energies(ROWS.values[150:]) for of in (trained, followed))
    assert after[0].sum() > 1.1 * before[0].sum()
    # What is below and above was calibrated as it was.
    assert all(np.array_equal(*parts) for parts in zip(before[1:], after[1:], strict=True))


def test_forecasting_is_what_was_learnt_from() -> None:
    trained = model.train(ROWS, "ridge")
    assert trained is not None
    now = 150 * STEPS
    forecast = trained.forecast(VALUES[now - 28 * STEPS : now], now - 28 * STEPS, STEPS)
    mean, low, median, high = (part[150] for part in trained.energies(ROWS.values))
    assert np.allclose(forecast.mean_wh, mean)
    assert forecast.median_wh is not None
    assert np.allclose(forecast.median_wh, median)
    assert np.allclose(forecast.low_wh, np.minimum(low, mean))
    assert np.allclose(forecast.high_wh, np.maximum(high, mean))


@pytest.mark.usefixtures("few_trees")
def test_the_same_history_gives_the_same_model() -> None:
    history = VALUES[: 80 * STEPS]
    first, second = (model.train(model.table(history.copy(), STEPS, 0)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.scores == second.scores
    ours, theirs = first.energies(ROWS.values), second.energies(ROWS.values)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.usefixtures("few_trees")
def test_the_best_on_unseen_days_is_chosen() -> None:
    trained = model.train(ROWS)
    assert trained is not None
    scores = trained.scores
    simpler = {"blend": 1.01, "ridge": 1.01, "boosted": 1.0}
    assert set(simpler) == set(scores)
    rmse, mae = (
        {name: simpler[name] * getattr(scores[name], of) for name in simpler}
        for of in ("rmse_mean_wh", "mae_median_wh")
    )
    assert trained.mean_by == min(rmse, key=lambda name: rmse[name])
    assert trained.median_by == min(mae, key=lambda name: mae[name])


def test_a_simpler_model_must_be_better_by_more_than_chance() -> None:
    assert model._best({"blend": 100.0, "ridge": 99.6, "boosted": 100.0}) == "boosted"
    assert model._best({"blend": 100.0, "ridge": 98.9, "boosted": 100.0}) == "ridge"
    assert model._best({"ridge": 1.0}) == "ridge"


def test_a_new_home_has_the_blend() -> None:
    assert model.train(ROWS.upto(model.TRAIN_DAYS_MIN)) is None
    assert model.train(ROWS, "blend") is None
    history = VALUES[: 10 * STEPS]
    ours = model.load_forecast(None, history, STEPS, 0, STEPS)
    assert np.array_equal(ours.mean_wh, blend(history, STEPS, STEPS).mean_wh)


def test_gaps_are_neither_learnt_nor_forecast_from() -> None:
    values = VALUES.copy()
    values[100 * STEPS : 103 * STEPS] = np.nan
    values[3::STEPS] = np.nan  # never measured at this hour
    trained = model.train(model.table(values, STEPS, 0), "ridge")
    assert trained is not None
    typical = np.full(STEPS, 100.0)
    forecast = trained.forecast(values[-28 * STEPS :], 132 * STEPS, STEPS, typical)
    for part in (forecast.mean_wh, forecast.low_wh, forecast.high_wh, forecast.median_wh):
        assert part is not None
        assert np.isfinite(part).all()
        assert (part >= 0).all()
    level = np.delete(forecast.mean_wh, 3).mean() / 100.0
    assert forecast.mean_wh[3] == pytest.approx(100.0 * level)


def test_half_hours_of_the_year_are_bounded() -> None:
    assert model.train_days(48) == 365
    assert model.train_days(96) == 182
    assert model.train_days(288) == 60


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose one of"):
        model.train(ROWS, "crystal ball")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="whole civil days"):
        model.table(VALUES[:-1], STEPS, 0)


@pytest.mark.usefixtures("few_trees")
def test_trees_forecast_ordered_energies() -> None:
    trained = model.train(ROWS.upto(80), "boosted")
    assert trained is not None
    assert (trained.mean_by, trained.median_by) == ("boosted", "boosted")
    mean, low, median, high = trained.energies(ROWS.values[80:])
    assert np.isfinite(mean).all()
    assert (mean >= 0).all()
    assert (low <= median).all()
    assert (median <= high).all()
