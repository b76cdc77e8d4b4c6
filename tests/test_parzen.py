"""Parzen mixtures: kernels by hand, samples and hard cases; densities are in test_reductions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunein import Integer, Real
from tunein._math.parzen import ParzenMixture, _distinct, _log_mass
from tunein._space import Space

MIXED = {"a": Real(0, 1), "b": [1, 2, 5, 10], "c": list("xyz")}
BRANCHES = [{"a": Real(0, 1)}, {"a": Real(0, 1), "b": ["u", "v"]}, {"c": Integer(1, 9)}]


def rng(seed=0):
    return np.random.default_rng(seed)


def mixture_of(written, units, bandwidth=0.15, weights=None):
    space = Space.parse(written)
    units = np.asarray(units, dtype=float).reshape(len(units), len(space.dimensions))
    units = space.snap(units)
    weights = np.ones(len(units) + 1) if weights is None else np.asarray(weights, dtype=float)
    bandwidths = np.full(len(space.dimensions), bandwidth)
    return space, ParzenMixture(units, weights, bandwidths, space.kinds, space.widths)


# --------------------------------------------------------------------- density


@pytest.mark.parametrize("written", [MIXED, BRANCHES, {"a": ["x"]}, {}])
def test_without_observations_the_density_is_the_prior(written):
    space, mixture = mixture_of(written, [])
    points = space.sample(rng(), 30)
    np.testing.assert_array_equal(mixture.log_density(points), np.zeros(30))
    drawn = mixture.sample(rng(), 1000)
    assert drawn.shape == (1000, len(space.dimensions))
    for column in drawn.T:
        assert stats.kstest(column, stats.uniform.cdf).pvalue > 0.01


def test_a_category_is_kept_or_drawn_anew():
    """One observation, the prior as heavy: half of 1, half of the kernel of Aitchison & Aitken."""
    space, mixture = mixture_of({"a": list("wxyz")}, [[0.3]], bandwidth=0.2)
    points = space.dimensions[0].points(np.arange(4))[:, None]
    kernel = np.array([0.2, 0.2 + 0.8 * 4, 0.2, 0.2])
    np.testing.assert_allclose(np.exp(mixture.log_density(points)), 0.5 + 0.5 * kernel)


def test_the_kernel_of_a_point_is_the_product_over_its_coordinates():
    space, both = mixture_of({"a": Real(0, 1), "b": list("xy")}, [[0.3, 0.2]], weights=[1, 1e-300])
    _, one = mixture_of({"a": Real(0, 1)}, [[0.3]], weights=[1, 1e-300])
    _, two = mixture_of({"b": list("xy")}, [[0.2]], weights=[1, 1e-300])
    points = space.sample(rng(), 20)
    np.testing.assert_allclose(
        both.log_density(points), one.log_density(points[:, :1]) + two.log_density(points[:, 1:])
    )


def test_weights_count_by_their_ratio():
    units = rng().random((4, 3))
    space, one = mixture_of(MIXED, units, weights=[1, 2, 3, 0, 1])
    _, two = mixture_of(MIXED, units, weights=[10, 20, 30, 0, 10])
    _, three = mixture_of(MIXED, units[:3], weights=[1, 2, 3, 1])
    points = space.sample(rng(1), 20)
    np.testing.assert_allclose(one.log_density(points), two.log_density(points))
    np.testing.assert_allclose(one.log_density(points), three.log_density(points), rtol=1e-12)


def test_repeated_observations_weigh_as_often_as_they_stand():
    units = rng().random((2, 3))
    space, one = mixture_of(MIXED, units[[0, 0, 1]])
    _, two = mixture_of(MIXED, units, weights=[2, 1, 1])
    points = space.sample(rng(1), 20)
    np.testing.assert_allclose(one.log_density(points), two.log_density(points))


def test_the_order_of_points_and_of_observations_changes_nothing():
    units = rng().random((6, 3))
    space, one = mixture_of(MIXED, units)
    _, two = mixture_of(MIXED, units[::-1])
    points = space.sample(rng(1), 20)
    np.testing.assert_allclose(one.log_density(points), two.log_density(points), rtol=1e-12)
    np.testing.assert_allclose(
        one.log_density(points), one.log_density(points[::-1])[::-1], rtol=1e-12
    )


@pytest.mark.parametrize("order", [[1, 2, 0], [2, 0, 1], [2, 1, 0]])
def test_the_order_of_coordinates_changes_nothing(order):
    units = rng().random((6, 3))
    kinds = list(MIXED.values())
    space, one = mixture_of(MIXED, units)
    _, two = mixture_of({f"x{i}": kinds[j] for i, j in enumerate(order)}, units[:, order])
    points = space.sample(rng(1), 20)
    for found, expected in zip(
        two.log_densities(points[:, order]), one.log_densities(points), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_points_with_and_without_missing_coordinates_have_the_same_density_in_company():
    space = Space.parse(BRANCHES)
    units = space.sample(rng(), 12)
    mixture = ParzenMixture(
        units, np.ones(13), np.full(len(space.dimensions), 0.2), space.kinds, space.widths
    )
    points = space.sample(rng(1), 20)
    alone = [mixture.log_density(point[None])[0] for point in points]
    np.testing.assert_allclose(mixture.log_density(points), alone, rtol=1e-12)


def test_a_coordinate_that_either_point_lacks_has_no_say():
    space = Space.parse(BRANCHES)
    j = space.names.index("b")
    units = space.snap(np.array([[0.1, 0.3, np.nan, np.nan]]))
    mixture = ParzenMixture(
        units, np.ones(2), np.full(len(space.dimensions), 0.2), space.kinds, space.widths
    )
    density = []
    for b in (0.25, 0.75):
        unit = np.array([0.4, 0.3, np.nan, np.nan])
        unit[j] = b
        density.append(mixture.log_density(space.snap(unit[None]))[0])
    assert density[0] == density[1]


def test_density_is_highest_where_the_observations_are():
    space, mixture = mixture_of(MIXED, [[0.2, 0.6, 0.5]] * 3)
    points = space.sample(rng(), 500)
    best = points[np.argmax(mixture.log_density(points))]
    assert abs(best[0] - 0.2) < 0.1
    assert best[1] == space.snap(np.array([[0.2, 0.6, 0.5]]))[0, 1]
    assert space.decode(best)["c"] == "y"


@pytest.mark.parametrize("bandwidth", [1e-3, 1e-6])
@pytest.mark.parametrize("written", [{"a": Real(0, 1)}, {"a": Integer(1, 50)}, {"a": list("abc")}])
def test_narrow_kernels_far_away_leave_the_prior_and_no_warning(written, bandwidth):
    space, mixture = mixture_of(written, [[0.0], [0.01]], bandwidth)
    far = space.snap(np.array([[0.99]]))
    assert mixture.log_density(far)[0] >= np.log(1 / 3) - 1e-12
    np.testing.assert_allclose(mixture.log_density(far), np.log(1 / 3), atol=1e-2)


@pytest.mark.parametrize("high", [10**6, 10**9, 10**12, 10**15, 10**18])
def test_cells_too_narrow_for_a_difference_have_the_density_of_a_continuous_one(high):
    space, mixture = mixture_of({"a": Integer(0, high)}, [[0.2], [0.7]])
    _, smooth = mixture_of({"a": Real(0, 1)}, [[0.2], [0.7]])
    points = space.sample(rng(), 40)
    points[0] = space.snap(np.array([[0.2]]))
    np.testing.assert_allclose(
        mixture.log_density(points), smooth.log_density(points), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("high", [100, 10**4, 10**6, 10**9])
def test_masses_of_wide_ranges_are_those_of_their_cells(high, log):
    space, mixture = mixture_of({"a": Integer(1, high, log=log)}, [[0.2], [0.7]])
    points = space.sample(rng(), 40)
    lower, upper = space.cells(0, points[:, 0])
    h = 0.15
    centres = mixture.centres[:, 0]
    mass = [
        (stats.norm.cdf(upper, c, h) - stats.norm.cdf(lower, c, h))
        / (stats.norm.cdf(1, c, h) - stats.norm.cdf(0, c, h))
        for c in centres
    ]
    truth = (np.sum(mass, axis=0) / (upper - lower) + 1) / 3
    np.testing.assert_allclose(np.exp(mixture.log_density(points)), truth, rtol=1e-4)


def test_the_log_of_a_mass_is_exact_in_both_tails_and_never_nan():
    a = np.array([-40.0, -40.0, -1.0, 0.0, 5.0, 39.0, -1e3, 1e3, -1e5])
    b = np.array([-39.0, 40.0, 1.0, 1e-8, 6.0, 40.0, -999.0, 1001.0, 1e5])
    middle, half = (a + b) / 2, (b - a) / 2
    found = _log_mass(middle, half)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, _log_mass(-middle, half))
    truth = np.log(stats.norm.cdf(b[2:5]) - stats.norm.cdf(a[2:5]))
    np.testing.assert_allclose(found[2], truth[0], rtol=1e-12)
    np.testing.assert_allclose(found[4], np.log(stats.norm.sf(5) - stats.norm.sf(6)), rtol=1e-12)
    assert found[1] == pytest.approx(0, abs=1e-12)
    assert found[0] == pytest.approx(stats.norm.logcdf(-39), rel=1e-12)


def test_the_marginal_density_is_the_product_of_those_of_single_coordinates():
    units = rng().random((5, 3))
    space, mixture = mixture_of(MIXED, units, weights=[3, 1, 2, 1, 1, 1])
    points = space.sample(rng(1), 20)
    single = []
    for j, name in enumerate(space.names):
        _, one = mixture_of({name: MIXED[name]}, units[:, [j]], weights=[3, 1, 2, 1, 1, 1])
        single.append(one.log_density(points[:, [j]]))
    joint, marginal = mixture.log_densities(points)
    np.testing.assert_allclose(marginal, np.sum(single, axis=0), rtol=1e-10)
    np.testing.assert_array_equal(joint, mixture.log_density(points))


def test_a_marginal_density_is_of_the_observations_that_have_the_coordinate():
    space = Space.parse(BRANCHES)
    units = space.sample(rng(), 12)
    d = len(space.dimensions)
    mixture = ParzenMixture(units, np.ones(13), np.full(d, 0.2), space.kinds, space.widths)
    points = space.sample(rng(1), 20)
    expected = np.zeros(20)
    for j in range(d):
        has, here = ~np.isnan(units[:, j]), ~np.isnan(points[:, j])
        one = ParzenMixture(
            units[has][:, [j]], np.ones(has.sum() + 1), np.array([0.2]), [space.kinds[j]],
            lambda _, u, j=j: space.widths(j, u),
        )  # fmt: skip
        expected[here] += one.log_density(points[here][:, [j]])
    np.testing.assert_allclose(mixture.log_densities(points)[1], expected, atol=1e-10)


def test_two_weightings_are_two_mixtures():
    units = rng().random((6, 3))
    weights = np.array([[1.0, 2, 3, 0, 0, 0, 1], [0, 0, 0, 1, 1, 1, 2]])
    space, both = mixture_of(MIXED, units, weights=weights)
    _, one = mixture_of(MIXED, units[:3], weights=[1, 2, 3, 1])
    _, two = mixture_of(MIXED, units[3:], weights=[1, 1, 1, 2])
    points = space.sample(rng(1), 20)
    for found, first, second in zip(
        both.log_densities(points), one.log_densities(points), two.log_densities(points),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(found, [first, second], rtol=1e-10)
    np.testing.assert_array_equal(both.sample(rng(2), 9).shape, (9, 3))


def test_bandwidths_may_differ_between_observations():
    units = rng().random((4, 3))
    each = np.repeat([[0.1, 0.2, 0.3], [0.4, 0.1, 0.2]], 2, axis=0)
    space = Space.parse(MIXED)
    snapped = space.snap(units)
    mixture = ParzenMixture(snapped, np.ones(5), each, space.kinds, space.widths)
    points = space.sample(rng(1), 20)
    parts = [
        np.exp(
            ParzenMixture(
                snapped[rows], np.array([1.0, 1, 1e-300]), each[rows][0], space.kinds, space.widths
            ).log_density(points)
        )
        for rows in (slice(0, 2), slice(2, 4))
    ]
    np.testing.assert_allclose(
        np.exp(mixture.log_density(points)), (2 * parts[0] + 2 * parts[1] + 1) / 5, rtol=1e-10
    )


def test_the_distinct_values_of_each_row_are_found_again():
    rows = rng().integers(0, 5, (3, 40)) + 1j * rng(1).integers(0, 2, (3, 40))
    once, of_row, index = _distinct(rows)
    np.testing.assert_array_equal(once[index], rows)
    for j, row in enumerate(rows):
        np.testing.assert_array_equal(once[of_row == j], np.unique(row))
        assert (of_row[index[j]] == j).all()
    assert all(len(found) == 0 for found in _distinct(rows[:, :0])[:2])


# --------------------------------------------------------------------- samples


@pytest.mark.parametrize("bandwidth", [1e-6, 0.15, 1.0, 100.0])
def test_samples_lie_in_the_cube(bandwidth):
    _, mixture = mixture_of(MIXED, [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], min(bandwidth, 1.0))
    mixture.bandwidths[:, 0] = bandwidth
    drawn = mixture.sample(rng(), 500)
    assert ((drawn >= 0) & (drawn <= 1)).all()


def test_samples_are_the_same_for_the_same_generator():
    _, mixture = mixture_of(MIXED, rng().random((4, 3)))
    np.testing.assert_array_equal(mixture.sample(rng(3), 9), mixture.sample(rng(3), 9))
    assert (mixture.sample(rng(3), 9) != mixture.sample(rng(4), 9)).any()
    assert mixture.sample(rng(), 0).shape == (0, 3)


def test_samples_stay_near_a_narrow_observation():
    space, mixture = mixture_of(MIXED, [[0.2, 0.6, 0.5]], 0.01, weights=[1, 1e-12])
    drawn = space.snap(mixture.sample(rng(), 200))
    assert np.abs(drawn[:, 0] - 0.2).max() < 0.05
    assert np.mean(drawn[:, 1] == mixture.centres[0, 1]) == 1
    assert np.mean(drawn[:, 2] == mixture.centres[0, 2]) > 0.95


def test_an_observation_of_weight_zero_is_never_drawn_from():
    _, mixture = mixture_of({"a": Real(0, 1)}, [[0.1], [0.9]], 1e-3, weights=[0, 1, 1e-12])
    assert mixture.sample(rng(), 200).min() > 0.8


def test_a_coordinate_that_an_observation_lacks_is_drawn_from_the_prior():
    space = Space.parse(BRANCHES)
    units = space.snap(np.array([[0.05, 0.3, np.nan, np.nan]]))
    mixture = ParzenMixture(
        units, np.array([1, 1e-12]), np.full(len(space.dimensions), 0.01), space.kinds, space.widths
    )
    drawn = mixture.sample(rng(), 500)
    for name in ("b", "c"):
        column = drawn[:, space.names.index(name)]
        assert stats.kstest(column, stats.uniform.cdf).pvalue > 0.01


def test_sampling_and_scoring_change_nothing():
    units, weights, bandwidths = rng().random((4, 1)), np.ones(5), np.array([0.1])
    kept = [array.copy() for array in (units, weights, bandwidths)]
    space = Space.parse({"a": Real(0, 1)})
    mixture = ParzenMixture(units, weights, bandwidths, space.kinds, space.widths)
    points = space.sample(rng(), 5)
    before = points.copy()
    mixture.log_density(points)
    mixture.sample(rng(), 5)
    np.testing.assert_array_equal(points, before)
    for now, then in zip((units, weights, bandwidths), kept, strict=True):
        np.testing.assert_array_equal(now, then)


def test_of_thousands_of_parameters_no_mixture_is_out_of_sight_of_another():
    d = 2000
    points = rng().random((5, d))
    weights = np.array([[1.0, 1, 0, 0, 0, 0.002], [0, 0, 1, 1, 1, 0.002]])
    kinds, widths = ["continuous"] * d, [None] * d
    mixtures = ParzenMixture(points, weights, np.full(d, 0.05), kinds, widths)
    logs = mixtures.log_density(points)
    assert np.isfinite(logs).all()
    for i in range(2):
        alone = ParzenMixture(points, weights[i], np.full(d, 0.05), kinds, widths)
        np.testing.assert_allclose(logs[i], alone.log_density(points), rtol=1e-12)
