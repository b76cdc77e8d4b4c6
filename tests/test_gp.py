"""The Gaussian process: shapes, ranges and hard cases; its numbers are in test_reductions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import LinAlgError

from tunein._math import gp

KINDS = ["continuous", "ordinal", "categorical"]
LEVELS = [np.inf, 5, 4]
PLAIN = np.log([0.5, 0.5, 0.5, 1.0, 1e-3])


def points(n, seed=0, missing=0.0):
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.random(n), rng.integers(5, size=n) / 4, rng.integers(4, size=n) / 4])
    x[rng.random(x.shape) < missing] = np.nan
    return x


def distances(x, z=None):
    return gp.squared_distances(x, x if z is None else z, KINDS, LEVELS)


# --------------------------------------------------------------------- distances


def test_distances_have_a_layer_for_each_coordinate():
    D = distances(points(6), points(4, 1))
    assert D.shape == (3, 6, 4)
    np.testing.assert_array_equal(D, distances(points(4, 1), points(6)).transpose(0, 2, 1))
    assert distances(points(0), points(4)).shape == (3, 0, 4)
    assert gp.squared_distances(np.empty((2, 0)), np.empty((3, 0)), [], []).shape == (0, 2, 3)


def test_a_point_is_at_no_distance_from_itself():
    x = points(20, missing=0.3)
    assert not np.diagonal(distances(x), axis1=1, axis2=2).any()


def test_categories_are_all_equally_far_apart():
    x = np.array([[0, 0, c] for c in (0.0, 0.25, 0.5, 0.75)])
    np.testing.assert_array_equal(distances(x)[2], 1 - np.eye(4))


def test_absent_numbers_lie_in_the_middle_and_absent_categories_equally_far_from_all():
    x = np.array([[np.nan, np.nan, np.nan], [0.1, 1.0, 0.25], [0.9, 0.0, 0.5]])
    D = distances(x)
    np.testing.assert_allclose(D[0, 0], [0, 0.16, 0.16])
    np.testing.assert_allclose(D[1, 0], [0, 0.25, 0.25])
    np.testing.assert_allclose(D[2, 0], [0, 0.375, 0.375])  # centre of a simplex with unit edges
    endless = gp.squared_distances(x[:, 2:], x[:, 2:], ["categorical"], [np.inf])
    np.testing.assert_allclose(endless[0, 0], [0, 0.5, 0.5])


def test_the_dimension_is_how_many_coordinates_a_point_has():
    assert gp.n_present(points(9), LEVELS) == 3
    assert gp.n_present(points(9), [np.inf, 1, 4]) == 2
    branches = np.array([[0.0, 0.3, np.nan], [0.0, 0.6, np.nan], [0.5, np.nan, 0.1]])
    assert gp.n_present(branches, [np.inf] * 3) == 2
    narrow, wide = gp.Prior.of_dimension(2).mode(3), gp.Prior.of_dimension(3).mode(3)
    assert (narrow[:3] < wide[:3]).all()


def test_distances_are_euclidean_whatever_is_missing():
    D = distances(points(60, missing=0.4)).sum(axis=0)
    centring = np.eye(60) - 1 / 60
    assert np.linalg.eigvalsh(-0.5 * centring @ D @ centring).min() > -1e-10


# --------------------------------------------------------------------- kernel and prior


def test_the_kernel_falls_from_one_to_zero_without_a_warning():
    r2 = np.array([0.0, 1e-300, 1e-12, 0.1, 1.0, 1e2, 1e4, 1e8, 1e300])
    k, dk = gp.matern52(r2)
    assert k[0] == 1
    assert (np.diff(k) <= 0).all()
    assert k[-1] == 0
    assert dk[0] == pytest.approx(-5 / 6)
    assert (dk <= 0).all()
    assert np.isfinite(dk).all()


def test_lengthscales_are_believed_to_grow_with_the_dimension():
    modes = [gp.Prior.of_dimension(g).mode(g) for g in (1, 4, 100)]
    assert [len(mode) for mode in modes] == [3, 6, 102]
    assert modes[0][0] < modes[1][0] < modes[2][0]
    assert gp.Prior.of_dimension(0).mode(0).shape == (2,)
    for g, mode in zip((1, 4, 100), modes, strict=True):
        low, high = gp.Prior.of_dimension(g).bounds(g).T
        assert ((mode >= low) & (mode <= high)).all()


def test_the_prior_has_its_mode_where_it_says():
    prior = gp.Prior.of_dimension(2)
    mode = prior.mode(2)
    nothing = np.empty((2, 0, 0)), np.empty(0)
    log_prior = gp.LogPosterior(*nothing, prior).log_prior
    best, gradient = log_prior(mode)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)
    for j in range(4):
        for step in (-0.1, 0.1):
            moved = mode.copy()
            moved[j] += step
            assert log_prior(moved)[0] < best


# --------------------------------------------------------------------- evidence and fit


def test_a_kernel_that_cannot_be_factored_has_no_evidence():
    D = np.array([[[0, 0, 9.0], [0, 0, 0], [9.0, 0, 0]]])  # violates the triangle inequality
    log_posterior = gp.LogPosterior(D, np.zeros(3), gp.Prior.of_dimension(1))
    value, gradient = log_posterior(np.array([-1.0, 3.0, np.log(1e-6)]))
    assert value == -np.inf
    assert not gradient.any()
    assert np.isfinite(gp.fit(log_posterior)).all()


def test_fitting_improves_on_the_prior():
    x = points(30)
    y = np.sin(6 * x[:, 0]) + (x[:, 2] == 0.25)
    y = (y - y.mean()) / y.std()
    prior = gp.Prior.of_dimension(3)
    log_posterior = gp.LogPosterior(distances(x), y, prior)
    assert log_posterior(gp.fit(log_posterior))[0] > log_posterior(prior.mode(3))[0] + 1


def test_fitting_finds_which_coordinates_matter_and_how_noisy_it_is():
    rng = np.random.default_rng(0)
    x = rng.random((60, 2))
    D = gp.squared_distances(x, x, ["continuous"] * 2, [np.inf] * 2)
    signal = np.sin(7 * x[:, 0])
    signal = (signal - signal.mean()) / signal.std()
    prior = gp.Prior.of_dimension(2)
    clean = gp.fit(gp.LogPosterior(D, signal, prior))
    assert clean[0] < clean[1] - 1
    noisy = gp.fit(gp.LogPosterior(D, signal + 0.5 * rng.standard_normal(60), prior))
    assert np.exp(clean[3]) < 0.01 < 0.1 < np.exp(noisy[3])


@pytest.mark.parametrize("start", [np.full(5, -50.0), np.full(5, 50.0), np.zeros(5), PLAIN])
def test_a_start_is_no_more_than_a_hint(start):
    x = points(25)
    y = np.sin(6 * x[:, 0])
    y = (y - y.mean()) / y.std()
    prior = gp.Prior.of_dimension(3)
    log_posterior = gp.LogPosterior(distances(x), y, prior)
    best = log_posterior(gp.fit(log_posterior))[0]
    theta = gp.fit(log_posterior, start)
    low, high = prior.bounds(3).T
    assert ((theta >= low) & (theta <= high)).all()
    found = log_posterior(theta)[0]
    assert found > log_posterior(prior.mode(3))[0]
    assert found > best - 3


def test_fitting_changes_none_of_its_arguments():
    x, start = points(10), PLAIN.copy()
    D, y = distances(x), np.linspace(-1, 1, 10)
    kept = D.copy(), y.copy()
    gp.fit(gp.LogPosterior(D, y, gp.Prior.of_dimension(3)), start)
    np.testing.assert_array_equal(D, kept[0])
    np.testing.assert_array_equal(y, kept[1])
    np.testing.assert_array_equal(start, PLAIN)


@pytest.mark.parametrize("y", [[0.7], [0, 0], [1, -1], [1, 1, -2], [0] * 8, [1] + [0] * 7])
@pytest.mark.parametrize("same_place", [True, False])
def test_few_constant_and_repeated_observations_are_fitted(y, same_place):
    x = np.repeat(points(1), len(y), axis=0) if same_place else points(len(y))
    y = np.array(y, dtype=float)
    theta = gp.fit(gp.LogPosterior(distances(x), y, gp.Prior.of_dimension(3)))
    mean, sd = gp.GaussianProcess(x, y, theta, KINDS, LEVELS).predict(points(30, 1, missing=0.2))
    assert np.isfinite(theta).all()
    assert np.isfinite(mean).all()
    assert (sd > 0).all()


def test_three_hundred_repeated_observations_of_a_strong_signal_are_factored():
    x = np.repeat(points(3), 100, axis=0)
    y = np.tile([1.0, -1.0], 150)
    theta = np.array(
        [*gp.Prior.of_dimension(3).bounds(3)[:3, 1], gp._LOG_SIGNAL[1], gp._LEAST_LOG_NOISE]
    )
    model = gp.GaussianProcess(x, y, theta, KINDS, LEVELS)
    mean, sd = model.predict(x[::100])
    assert np.isfinite(mean).all()
    assert (sd > 0).all()
    value, gradient = gp.LogPosterior(distances(x), y, gp.Prior.of_dimension(3))(theta)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_broken_observations_are_no_silent_nonsense():
    with pytest.raises((ValueError, LinAlgError), match=r"infs or NaNs|positive definite"):
        gp.GaussianProcess(points(3), np.array([0, np.nan, 1]), PLAIN, KINDS, LEVELS)


# --------------------------------------------------------------------- posterior


def test_the_posterior_goes_through_what_was_observed_without_noise():
    x = points(12)
    x[:, 0] = np.linspace(0, 1, 12)
    y = np.cos(5 * x[:, 0])
    theta = np.log([0.5, 5.0, 5.0, 1.0, 1e-6])
    mean, sd = gp.GaussianProcess(x, y, theta, KINDS, LEVELS).predict(x)
    np.testing.assert_allclose(mean, y, atol=1e-3)
    assert sd.max() < 1e-2


def test_far_from_everything_the_posterior_is_the_prior():
    x = points(5)
    theta = np.log([0.005, 0.005, 0.005, 2.0, 1e-3])
    mean, sd = gp.GaussianProcess(x, np.full(5, 3.0), theta, KINDS, LEVELS).predict(
        np.array([[0.987, 0.6, 0.99]])
    )
    # The additive part of the kernel decays as the inverse square of the distance.
    assert mean == pytest.approx([0], abs=0.02)
    assert sd == pytest.approx([np.sqrt(2.0)], rel=1e-4)


def test_more_observations_never_make_the_posterior_less_certain():
    x, new = points(20), points(40, 1)
    y = np.zeros(20)
    sds = [
        gp.GaussianProcess(x[:n], y[:n], PLAIN, KINDS, LEVELS).predict(new)[1] for n in (1, 5, 20)
    ]
    assert (sds[0] >= sds[1] - 1e-12).all()
    assert (sds[1] >= sds[2] - 1e-12).all()


def test_a_repeated_observation_is_averaged():
    x = np.repeat(points(1), 2, axis=0)
    model = gp.GaussianProcess(x, np.array([1.0, 0.0]), PLAIN, KINDS, LEVELS)
    assert model.predict(x)[0] == pytest.approx([0.5, 0.5], abs=1e-3)


def test_predictions_do_not_depend_on_the_company():
    model = gp.GaussianProcess(points(15), np.arange(15.0), PLAIN, KINDS, LEVELS)
    new = points(10, 1, missing=0.3)
    together = model.predict(new)
    alone = [model.predict(point[None]) for point in new]
    np.testing.assert_allclose(together[0], [mean[0] for mean, _ in alone], rtol=1e-9)
    np.testing.assert_allclose(together[1], [sd[0] for _, sd in alone], rtol=1e-6)
    mean, sd = model.predict(new[:0])
    assert mean.shape == sd.shape == (0,)


def test_the_gradient_comes_with_the_prediction_and_none_for_no_columns():
    model = gp.GaussianProcess(points(15), np.arange(15.0), PLAIN, KINDS, LEVELS)
    new = points(5, 1)
    mean, sd, d_mean, d_sd = model.predict_gradient(new, np.array([0]))
    np.testing.assert_allclose([mean, sd], model.predict(new))
    assert d_mean.shape == d_sd.shape == (5, 1)
    _, _, d_mean, d_sd = model.predict_gradient(new, np.array([], dtype=int))
    assert d_mean.shape == d_sd.shape == (5, 0)


def test_several_sets_of_hyperparameters_are_as_many_models():
    x, new = points(15, missing=0.2), points(7, 1, missing=0.2)
    thetas = PLAIN + np.array([[0.0], [0.3], [-0.5]])
    y = np.random.default_rng(0).standard_normal((3, 15))
    together = gp.GaussianProcess(x, y, thetas, KINDS, LEVELS)
    columns = np.array([0, 1])
    for s in range(3):
        alone = gp.GaussianProcess(x, y[s], thetas[s], KINDS, LEVELS)
        for mine, theirs in zip(
            together.predict_gradient(new, columns),
            alone.predict_gradient(new, columns),
            strict=True,
        ):
            np.testing.assert_allclose(mine[s], theirs, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(together.predict(new)[1][s], alone.predict(new)[1], rtol=1e-9)


def test_large_questions_are_answered_block_by_block(monkeypatch):
    model = gp.GaussianProcess(points(15), np.arange(15.0), PLAIN, KINDS, LEVELS)
    new = points(40, 2)
    whole = model.predict(new)
    monkeypatch.setattr(gp, "_BLOCK", 200)
    np.testing.assert_allclose(model.predict(new), whole, rtol=1e-12)


def test_a_noisy_observation_counts_less():
    x = np.array([[0.2, 0.5, 0.25], [0.2, 0.5, 0.25]])
    theta = np.log([0.5, 0.5, 0.5, 1.0, 0.1])
    y = np.array([1.0, -1.0])
    weights = np.array([0.3, 3.0])
    mean, _ = gp.GaussianProcess(x, y, theta, KINDS, LEVELS, weights).predict(x[:1])
    even, _ = gp.GaussianProcess(x, y, theta, KINDS, LEVELS).predict(x[:1])
    assert even == pytest.approx([0.0], abs=1e-9)
    assert mean[0] > 0.5


def test_draws_surround_the_mode_and_keep_the_bounds():
    x, rng = points(30), np.random.default_rng(0)
    D, y = distances(x), np.sin(6 * x[:, 0])
    prior = gp.Prior.of_dimension(3)
    log_posterior = gp.LogPosterior(D, y, prior)
    mode = gp.fit(log_posterior)
    draws = gp.draw(mode, log_posterior, rng, 400)
    low, high = prior.bounds(3).T
    assert draws.shape == (400, 5)
    assert ((draws >= low) & (draws <= high)).all()
    # What matters is known better than what does not.
    spread = draws.std(axis=0)
    assert spread[0] < 0.5 * spread[1]
    worse = [log_posterior(theta)[0] for theta in draws[:50]]
    assert max(worse) <= log_posterior(mode)[0] + 1e-6


def test_the_gradient_is_finite_where_a_point_was_observed():
    x = points(8)
    theta = np.log([0.5, 0.5, 0.5, 1.0, 1e-6])
    model = gp.GaussianProcess(x, np.arange(8.0), theta, KINDS, LEVELS)
    mean, sd, d_mean, d_sd = model.predict_gradient(x, np.array([0, 1]))
    assert np.isfinite(np.column_stack([mean, sd, d_mean, d_sd])).all()
    assert (sd > 0).all()


def test_parameters_of_another_branch_change_a_prediction_little():
    """Two branches with a parameter of their own each: its value says nothing about the other."""
    rng = np.random.default_rng(0)
    x = np.full((20, 3), np.nan)
    x[:10, 0], x[:10, 1] = 0.25, rng.random(10)
    x[10:, 0], x[10:, 2] = 0.75, rng.random(10)
    kinds, levels = ["categorical", "continuous", "continuous"], [2, np.inf, np.inf]
    y = np.where(x[:, 0] == 0.25, 1.0, -1.0)
    theta = np.log([0.5, 1.0, 1.0, 1.0, 1e-2])
    model = gp.GaussianProcess(x, y, theta, kinds, levels)
    side = np.linspace(0, 1, 20)
    one = np.column_stack([np.full(20, 0.25), side, np.full(20, np.nan)])
    mean, _ = model.predict(one)
    np.testing.assert_allclose(mean, 1, atol=0.2)


def test_the_names_of_categories_and_the_order_of_parameters_are_nothing_to_a_model():
    x, new = points(25, missing=0.1), points(10, 1)
    y = np.random.default_rng(2).standard_normal(25)
    plain = gp.GaussianProcess(x, y, PLAIN, KINDS, LEVELS).predict(new)
    code = {0.0: 0.75, 0.25: 0.0, 0.5: 0.25, 0.75: 0.5}

    def renamed(z):
        return np.column_stack([z[:, :2], [code.get(c, np.nan) for c in z[:, 2]]])

    other = gp.GaussianProcess(renamed(x), y, PLAIN, KINDS, LEVELS).predict(renamed(new))
    np.testing.assert_allclose(other, plain, rtol=1e-10)
    turn = [2, 0, 1]
    theta = PLAIN[[*turn, 3, 4]]
    turned = gp.GaussianProcess(
        x[:, turn], y, theta, [KINDS[j] for j in turn], [LEVELS[j] for j in turn]
    )
    np.testing.assert_allclose(turned.predict(new[:, turn]), plain, rtol=1e-10)


def test_draws_do_not_hang_on_rounding():
    # Nothing tells the coordinates apart: any directions of their plane would do as well.
    x = np.tile(np.random.default_rng(0).random((6, 1)), (1, 4))
    D = gp.squared_distances(x, x, ["continuous"] * 4, [np.inf] * 4)
    y = np.sin(6 * x[:, 0])
    prior = gp.Prior.of_dimension(4)
    theta = prior.mode(4)
    here, there = (
        gp.draw(theta, gp.LogPosterior(D, values, prior), np.random.default_rng(1), 5)
        for values in (y, y * (1 + 1e-14))
    )
    np.testing.assert_allclose(here, there, atol=1e-6)


def test_the_likeliest_of_several_posteriors_stands_alone():
    x, new = points(15, missing=0.2), points(7, 1, missing=0.2)
    thetas = PLAIN + np.array([[0.0], [0.3]])
    y = np.random.default_rng(0).standard_normal((2, 15))
    together = gp.GaussianProcess(x, y, thetas, KINDS, LEVELS)
    first, columns = together.likeliest(), np.array([0, 1])
    for mine, all_of_them in zip(
        first.predict_gradient(new, columns), together.predict_gradient(new, columns), strict=True
    ):
        assert len(mine) == 1
        np.testing.assert_allclose(mine, all_of_them[:1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(first.predict(new), [part[:1] for part in together.predict(new)])
    assert first.likeliest() is first
    assert len(together.predict(new)[0]) == 2


def test_what_is_fitted_is_what_is_predicted_where_something_was_observed():
    x, weights = points(20, missing=0.1), np.linspace(0.3, 3, 20)
    y, theta = np.sin(np.arange(20.0)), PLAIN + np.log([1, 1, 1, 1, 50])
    model = gp.GaussianProcess(x, y, theta, KINDS, LEVELS, weights)
    np.testing.assert_allclose(model.fitted, model.predict(x)[0], rtol=1e-9, atol=1e-12)
    assert abs(model.fitted - y).max() > 0.01
