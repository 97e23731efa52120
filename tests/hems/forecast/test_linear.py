import numpy as np

from hems.forecast import linear

RNG = np.random.default_rng(5)
X = RNG.gamma(2.0, 100.0, (4_000, 3))
ONES = np.ones(len(X))


def test_the_mean_is_found() -> None:
    energy = 0.3 * X[:, 0] + 0.5 * X[:, 1] + 20 + RNG.normal(0, 30, len(X))
    found = linear.fit_mean(X, energy, ONES, 2)
    # The pull of 200 rows towards the third feature is left.
    assert np.abs(found.weights - (0.3, 0.5, 0.0)).max() < 0.15
    assert abs(found.predict(X).mean() - energy.mean()) < 2


def test_without_rows_it_is_the_untrained_forecast() -> None:
    nothing = np.zeros((0, 3))
    for found in (
        linear.fit_mean(nothing, np.zeros(0), np.zeros(0), 1),
        linear.fit_quantile(nothing, np.zeros(0), np.zeros(0), 1, 0.5),
    ):
        assert np.array_equal(found.predict(X), X[:, 1])


def test_a_quantile_is_exceeded_by_its_share() -> None:
    energy = X[:, 0] * RNG.lognormal(0, 0.8, len(X))
    for level in (0.1, 0.5, 0.9):
        found = linear.fit_quantile(X, energy, ONES, 2, level)
        assert abs((energy <= found.predict(X)).mean() - level) < 0.06


def test_old_rows_count_less() -> None:
    energy = np.where(np.arange(len(X)) < 2_000, 100.0, 300.0)
    recent = np.where(np.arange(len(X)) < 2_000, 1e-6, 1.0)
    found = linear.fit_mean(np.zeros_like(X), energy, recent, 0)
    assert found.predict(np.zeros((1, 3)))[0] > 265


def test_energy_is_never_negative() -> None:
    energy = np.maximum(X[:, 0] - 300, 0.0)
    assert (linear.fit_mean(X, energy, ONES, 1).predict(X) >= 0).all()
