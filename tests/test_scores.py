"""What a Gaussian process is told of scores: order kept, scale gone, noise from the folds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunein._math import scores as told
from tunein._math.scores import Warp, observe, yeo_johnson


def folds_of(means, noise, k=5, seed=0):
    rng = np.random.default_rng(seed)
    return means[:, None] + noise * rng.standard_normal((len(means), k)) + rng.normal(size=k)


@pytest.mark.parametrize("p", [-2.0, -0.5, 0.0, 0.3, 1.0, 2.0, 3.5])
def test_the_power_is_that_of_scipy(p):
    u = np.linspace(-2, 2, 41)
    np.testing.assert_allclose(yeo_johnson(u, p), stats.yeojohnson(u, p), rtol=1e-10)


def test_the_fitted_power_is_that_of_scipy():
    v = np.random.default_rng(0).gamma(2.0, size=60)
    warp = Warp(v)
    u = warp._squash(v)
    assert warp._power == pytest.approx(stats.yeojohnson_normmax(u), abs=1e-3)


def test_skewed_scores_come_out_nearly_normal():
    v = -np.random.default_rng(0).gamma(1.0, size=200)
    before, after = stats.skew(v), stats.skew(observe(v, v[:, None]).y)
    assert abs(after) < 0.4 < 1 < abs(before)


def test_a_candidate_that_diverged_does_not_flatten_the_others():
    v = np.linspace(0.5, 0.9, 20)
    plain = observe(v, v[:, None]).y
    v[3] = -1e30
    diverged = observe(v, v[:, None]).y
    assert np.ptp(diverged[10:]) > 0.6 * np.ptp(plain[10:])


@pytest.mark.parametrize("low", [-1e6, -1e30])
def test_nor_do_many_that_diverged(low):
    v = np.array([low] * 6 + [0.1, 0.3, 0.5, 0.9])
    y = observe(v, np.column_stack([v + 0.01, v - 0.01])).y
    assert (np.diff(y[6:]) > 0.05).all()
    assert y[6] > y[0]


def test_means_that_differ_by_rounding_are_ties():
    one, other = np.array([0.7, 0.83, 0.95]), np.array([0.95, 0.83, 0.7])
    low = one - np.array([[0.001], [0.02], [0.3], [0.5]])
    folds = np.vstack([np.tile(one, (6, 1)), other, low])
    v = (folds / 3).sum(axis=1)
    y = observe(v, folds).y
    assert np.ptp(y[:7]) < 1e-6
    assert y[6] > y[7] > y[8] > y[9]


@pytest.mark.parametrize("scale", [1e-150, 1.0, -1.0, 1e150])
def test_scores_that_are_equal_but_for_rounding_are_equal(scale):
    v = scale * np.array([0.1 + 0.2, 0.3, 0.3, 0.3])
    assert not observe(v, v[:, None]).y.any()
    far = np.append(v, -1e30 * abs(scale))
    assert np.ptp(observe(far, far[:, None]).y[:4]) == 0
    np.testing.assert_array_equal(told.merge_ties(np.arange(4.0)), np.arange(4.0))


def test_folds_may_be_farther_apart_than_the_means_are_from_zero():
    folds = np.array([[1e300, -1e300], [1e-9, 2e-9], [3e-9, 3e-9], [-1e300, 1e300], [0.0, 1e-9]])
    seen = observe(folds.mean(axis=1), folds)
    assert np.isfinite(seen.y).all()
    assert np.isfinite(seen.weights).all()


def test_what_a_search_adds_near_its_best_does_not_change_the_scale():
    v = np.linspace(0.1, 0.9, 10)
    before = observe(v, v[:, None]).y
    found = np.append(v, 0.9 - np.linspace(1e-4, 1e-3, 60))
    after = observe(found, found[:, None]).y
    # Nearly equal scores stay so, beside the distance that random ones have.
    assert np.ptp(after[10:]) < 0.05 * (after[9] - after[5])
    assert (np.diff(before) > 0).all()
    assert (np.diff(after[:10]) >= 0).all()


def test_a_noisier_candidate_has_the_greater_weight_by_as_much():
    rng = np.random.default_rng(3)
    means, sds = np.linspace(0, 1, 400), np.where(np.arange(400) % 4 == 0, 0.15, 0.1)
    folds = means[:, None] + sds[:, None] * rng.standard_normal((400, 30))
    seen = observe(folds.mean(axis=1), folds)
    good = np.arange(400) > 200  # where nothing is squashed
    ratio = np.median(seen.weights[good & (sds > 0.1)]) / np.median(
        seen.weights[good & (sds == 0.1)]
    )
    # The variances are in the ratio 2.25; of 29 degrees of freedom, 4 more are those of all.
    assert 1.7 < ratio < 2.25
    assert np.median(seen.weights) == pytest.approx(1, abs=0.2)


def test_the_level_of_a_fold_is_no_noise():
    rng = np.random.default_rng(0)
    means = np.linspace(0, 1, 30)
    folds = means[:, None] + np.array([0.0, 5.0, -3.0])
    np.testing.assert_array_equal(observe(folds.mean(axis=1), folds).weights, 1)
    noisy = rng.normal(0, 0.1, (30, 3))
    noisy -= noisy.mean(axis=1, keepdims=True)
    with_level, without = (
        observe(means, means[:, None] + noisy + level).weights
        for level in (np.array([0.0, 0.5, -0.5]), 0.0)
    )
    np.testing.assert_allclose(with_level, without, rtol=0.3)


def test_a_candidate_whose_folds_disagree_is_believed_less():
    folds = folds_of(np.linspace(0, 1, 30), 0.05)
    folds[25] += np.array([2.0, -2.0, 2.0, -2.0, 0.0])
    weights = observe(folds.mean(axis=1), folds).weights
    assert weights[25] == told._WEIGHT_RANGE[1]
    assert np.delete(weights, 25).max() < weights[25]


@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (9, 1)])
def test_where_folds_tell_nothing_all_are_believed_alike(shape):
    folds = np.random.default_rng(0).normal(size=shape)
    seen = observe(folds.mean(axis=1), folds)
    np.testing.assert_array_equal(seen.weights, 1)


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1.0, 1e8, 1e150])
def test_scale_and_origin_of_the_scores_change_nothing(scale):
    folds = folds_of(np.random.default_rng(1).normal(size=25), 0.2)
    one = observe(folds.mean(axis=1), folds)
    for moved in (folds * scale, (folds + 17) * scale):
        two = observe(moved.mean(axis=1), moved)
        np.testing.assert_allclose(two.y, one.y, atol=1e-6)
        np.testing.assert_allclose(two.weights, one.weights, rtol=1e-6)


@pytest.mark.parametrize(
    "means",
    [[0.5], [0.5, 0.5], [1.0, 1.0, 1.0, 2.0], [0, 0, 0, 0, 0, 1e-300], [-1e308, 1e308, 0.0]],
)
def test_few_and_equal_and_extreme_scores_are_answered_in_numbers(means):
    v = np.array(means, dtype=float)
    seen = observe(v, np.column_stack([v, v, v]))
    assert np.isfinite(seen.y).all()
    assert np.isfinite(seen.weights).all()
    assert (seen.weights > 0).all()


@pytest.mark.parametrize("n", [1, 2, 50])
@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-15, 1e-14, 1e-12, 1e-10, 1e-3, 1e3, 1e307])
@pytest.mark.parametrize("middle", [0.0, 0.7, -1e3])
def test_all_are_tied_if_merging_leaves_one(n, scale, middle):
    scores = middle + scale * np.random.default_rng(0).uniform(-1, 1, n)
    assert told.all_tied(scores) == (len(np.unique(told.merge_ties(scores))) == 1)
