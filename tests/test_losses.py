"""Losses: values against scikit-learn's metrics, slopes against central differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, softmax
from sklearn import metrics

from tunein._families import LOSSES, Loss, NoHypergradient, Samples
from tunein._math import losses

RNG = np.random.default_rng(0)
N = 25


def weights(kind):
    s = np.ones(N) if kind == "equal" else RNG.uniform(0.2, 3.0, size=N)
    return s / s.sum()


def slope_by_differences(function, p, h=1e-6):
    """Return d function / dp, with both sides of each prediction."""
    slope = np.empty_like(p)
    for place in np.ndindex(p.shape):
        sides = []
        for way in (h, -h):
            moved = p.copy()
            moved[place] += way
            sides.append(function(moved)[0])
        slope[place] = (sides[0] - sides[1]) / (2 * h)
    return slope


def has_slope(function, p, atol=1e-9):
    value, slope = function(p)
    assert isinstance(value, float)
    assert slope.shape == p.shape
    atol = max(atol, 1e-8 * abs(value))  # rounding of the value, over the step
    np.testing.assert_allclose(slope, slope_by_differences(function, p), rtol=1e-5, atol=atol)


both_weights = pytest.mark.parametrize("kind", ["equal", "unequal"])

# --------------------------------------------------------------------- of targets

TARGETS = {
    "squared_error": metrics.mean_squared_error,
    "root_squared_error": metrics.root_mean_squared_error,
    "r2": lambda *args, **kwargs: 1 - metrics.r2_score(*args, **kwargs),
    "explained_variance": lambda *a, **kwargs: 1 - metrics.explained_variance_score(*a, **kwargs),
    "absolute_error": metrics.mean_absolute_error,
    "squared_log_error": metrics.mean_squared_log_error,
    "poisson_deviance": metrics.mean_poisson_deviance,
    "gamma_deviance": metrics.mean_gamma_deviance,
}
# scikit-learn has these of one output only.
ONE_OUTPUT = {"poisson_deviance", "gamma_deviance"}


def test_every_loss_of_targets_has_a_metric_here():
    assert set(TARGETS) == {name for name, (output, _) in LOSSES.items() if output == "target"}


@both_weights
@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, (N,)) for name in TARGETS]
    + [(name, shape) for name in sorted(set(TARGETS) - ONE_OUTPUT) for shape in ((N, 1), (N, 3))],
)
def test_losses_of_targets(name, shape, kind):
    y, p, s = RNG.uniform(0.5, 3.0, shape), RNG.uniform(0.5, 3.0, shape), weights(kind)
    function = LOSSES[name][1]
    assert function(y, p, s)[0] == pytest.approx(TARGETS[name](y, p, sample_weight=s), rel=1e-12)
    has_slope(lambda q: function(y, q, s), p)


@both_weights
@pytest.mark.parametrize("power", [-1.0, 0.0, 1.0, 1.5, 2.0, 2.5, 3.0])
def test_tweedie_deviances(power, kind):
    y, p, s = RNG.uniform(0.1, 3.0, N), RNG.uniform(0.1, 3.0, N), weights(kind)
    if 1 <= power < 2:
        y[:5] = 0.0  # is allowed there
    expected = metrics.mean_tweedie_deviance(y, p, sample_weight=s, power=power)
    assert losses.tweedie_deviance(y, p, s, power)[0] == pytest.approx(expected, rel=1e-10)
    has_slope(lambda q: losses.tweedie_deviance(y, q, s, power), p)
    share = 1 - metrics.d2_tweedie_score(y, p, sample_weight=s, power=power)
    assert losses.unexplained_deviance(y, p, s, power)[0] == pytest.approx(share, rel=1e-10)
    has_slope(lambda q: losses.unexplained_deviance(y, q, s, power), p)


def test_negative_targets_where_the_power_lets_them():
    y, p, s = RNG.normal(size=N), RNG.uniform(0.1, 3.0, N), weights("unequal")
    for power in (-2.0, -0.5, 0.0):
        expected = metrics.mean_tweedie_deviance(y, p, sample_weight=s, power=power)
        assert losses.tweedie_deviance(y, p, s, power)[0] == pytest.approx(expected, rel=1e-10)


def test_perfect_predictions_have_no_slope():
    y, s = RNG.uniform(0.5, 3.0, N), weights("unequal")
    for name in TARGETS:
        value, slope = LOSSES[name][1](y, y.copy(), s)
        assert value == pytest.approx(0.0, abs=1e-15)
        np.testing.assert_allclose(slope, 0.0, atol=1e-15)


CONSTANT = np.full(N, 2.0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (losses.one_minus_r2, "R.2 is undefined"),
        (losses.unexplained_variance, "Explained variance is undefined"),
        (lambda y, p, s: losses.unexplained_deviance(y, p, s, 1.5), "D.2 is undefined"),
    ],
)
def test_what_is_undefined_of_constant_targets(function, message):
    for kind in ("equal", "unequal"):
        with pytest.raises(ValueError, match=message):
            function(CONSTANT, RNG.uniform(1, 2, N), weights(kind))


def test_what_needs_positive_predictions():
    y, p, s = RNG.uniform(0.5, 3.0, N), RNG.uniform(0.5, 3.0, N), weights("equal")
    p[3] = -1.5
    for function in (losses.poisson_deviance, losses.gamma_deviance):
        with pytest.raises(ValueError, match="needs positive predictions"):
            function(y, p, s)
    with pytest.raises(ValueError, match="above -1"):
        losses.squared_log_error(y, p, s)


# --------------------------------------------------------------------- of classes


def decisions(k, scale=1.0):
    shape = N if k == 2 else (N, k)
    return scale * RNG.normal(size=shape)


def positions(k):
    return np.append(np.arange(k), RNG.integers(k, size=N - k))


def probabilities(p):
    return np.column_stack([1 - expit(p), expit(p)]) if p.ndim == 1 else softmax(p, axis=1)


@both_weights
@pytest.mark.parametrize("k", [2, 3, 5])
def test_log_loss(k, kind):
    y, p, s = positions(k), decisions(k), weights(kind)
    expected = metrics.log_loss(y, probabilities(p), sample_weight=s)
    assert losses.log_loss(y, p, s)[0] == pytest.approx(expected, rel=1e-10)
    has_slope(lambda q: losses.log_loss(y, q, s), p)


@both_weights
@pytest.mark.parametrize("k", [2, 3, 5])
def test_brier(k, kind):
    y, p, s = positions(k), decisions(k), weights(kind)
    chances = probabilities(p)
    if k == 2:
        expected = metrics.brier_score_loss(y, chances[:, 1], sample_weight=s)
    else:
        expected = s @ ((chances - np.eye(k)[y]) ** 2).sum(axis=1)
    assert losses.brier(y, p, s)[0] == pytest.approx(expected, rel=1e-12)
    has_slope(lambda q: losses.brier(y, q, s), p)


@both_weights
@pytest.mark.parametrize("k", [2, 3, 5])
def test_squared_hinge(k, kind):
    y, p, s = positions(k), decisions(k), weights(kind)
    columns = p[:, None] if k == 2 else p
    signs = np.where(y[:, None] == (np.array([1]) if k == 2 else np.arange(k)), 1, -1)
    expected = s @ (np.maximum(0, 1 - signs * columns) ** 2).sum(axis=1)
    assert losses.squared_hinge(y, p, s)[0] == pytest.approx(expected, rel=1e-12)
    has_slope(lambda q: losses.squared_hinge(y, q, s), p)


def test_extreme_decisions_stay_finite():
    p, s = np.array([1e3, -1e3, 1e3, -1e3]), np.full(4, 0.25)
    y = np.array([1, 0, 0, 1])
    for function in (losses.log_loss, losses.brier, losses.squared_hinge, losses.platt_log_loss):
        for q in (p, np.column_stack([-p, p])):
            value, slope = function(y, q, s)
            assert np.isfinite(value)
            assert np.isfinite(slope).all()
    assert losses.log_loss(y, p, s)[0] == pytest.approx(500.0)


# --------------------------------------------------------------------- after scaling


def platt_by_search(sign, q, w):
    """Return the log loss after the best scaling, by a general optimiser."""
    n1, n0 = (sign > 0).sum(), (sign < 0).sum()
    target = np.where(sign > 0, (n1 + 1) / (n1 + 2), 1 / (n0 + 2))

    def loss(ab):
        margin = ab[0] * q + ab[1]
        return w @ (np.logaddexp(0, margin) - target * margin)

    found = minimize(loss, [1.0, 0.0], bounds=[(0, None), (None, None)], tol=1e-14)
    return found.fun


def informative(y, scale=1.0):
    return scale * (np.where(y == 1, 1.0, -1.0) + RNG.normal(size=N) * 1.5)


@both_weights
def test_platt_of_two_classes(kind):
    for scale in (1e-3, 1.0, 50.0):
        y, s = positions(2), weights(kind)
        p = informative(y, scale)
        expected = platt_by_search(np.where(y == 1, 1, -1), p / scale, s)
        assert losses.platt_log_loss(y, p, s)[0] == pytest.approx(expected, rel=1e-7)
        _, slope = losses.platt_log_loss(y, p, s)
        by_differences = slope_by_differences(
            lambda q, y=y, s=s: losses.platt_log_loss(y, q, s), p, h=1e-5 * scale
        )
        np.testing.assert_allclose(slope, by_differences, rtol=1e-4, atol=1e-8 / scale)


@both_weights
@pytest.mark.parametrize("k", [3, 4])
def test_platt_of_classes_and_of_pairs(k, kind):
    y, s = positions(k), weights(kind)
    one_hot = np.eye(k)[y]
    p = one_hot + RNG.normal(size=(N, k))
    expected = sum(platt_by_search(np.where(y == j, 1, -1), p[:, j], s) for j in range(k))
    assert losses.platt_log_loss(y, p, s)[0] == pytest.approx(expected, rel=1e-7)
    has_slope(lambda q: losses.platt_log_loss(y, q, s), p, atol=1e-8)

    pairs = list(itertools.combinations(range(k), 2))
    q = np.column_stack([one_hot[:, i] - one_hot[:, j] for i, j in pairs])
    q += RNG.normal(size=q.shape)
    expected = 0.0
    for column, (i, j) in enumerate(pairs):
        rows = (y == i) | (y == j)
        expected += platt_by_search(np.where(y[rows] == i, 1, -1), q[rows, column], s[rows])
    found = losses.platt_log_loss(y, q, s, pairs=True)
    assert found[0] == pytest.approx(expected, rel=1e-7)
    has_slope(lambda r: losses.platt_log_loss(y, r, s, pairs=True), q, atol=1e-8)


def test_platt_does_not_depend_on_scale_and_shift():
    y, s = positions(2), weights("unequal")
    p = informative(y)
    value, slope = losses.platt_log_loss(y, p, s)
    other, its_slope = losses.platt_log_loss(y, 7 * p - 3, s)
    assert other == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(its_slope, slope / 7, rtol=1e-6, atol=1e-12)
    assert slope.sum() == pytest.approx(0.0, abs=1e-8)
    assert slope @ p == pytest.approx(0.0, abs=1e-8)


def test_platt_of_misleading_decisions_is_that_of_none():
    y, s = positions(2), weights("unequal")
    value, slope = losses.platt_log_loss(y, -informative(y), s)
    assert value == pytest.approx(losses.platt_log_loss(y, np.zeros(N), s)[0], rel=1e-9)
    np.testing.assert_array_equal(slope, 0.0)


def test_platt_of_separated_classes_is_finite():
    y, s = positions(2), weights("equal")
    value, slope = losses.platt_log_loss(y, np.where(y == 1, 1.0, -1.0), s)
    assert 0 < value < 0.5
    assert np.isfinite(slope).all()


# --------------------------------------------------------------------- by name


def test_a_loss_by_name_normalises_weights():
    y, p = RNG.normal(size=N), RNG.normal(size=N)
    a, b = (Loss("squared_error")(Samples(None, y, c * np.ones(N)), p) for c in (1.0, 7.0))
    assert a[0] == pytest.approx(b[0])
    np.testing.assert_allclose(a[1], b[1])


def test_a_share_of_deviance_has_its_power():
    y, p = RNG.uniform(0.5, 3.0, N), RNG.uniform(0.5, 3.0, N)
    loss = Loss("d2_deviance", 1.5)
    assert loss.output == "target"
    found = loss(Samples(None, y, np.ones(N)), p)[0]
    assert found == pytest.approx(1 - metrics.d2_tweedie_score(y, p, power=1.5))


def test_labels_are_placed_in_the_order_of_classes():
    classes = np.array(["a", "c", "d"])
    y, p, s = positions(3), decisions(3), np.ones(N)
    found = Loss("log_loss")(Samples(None, classes[y], s), p, classes)
    expected = losses.log_loss(y, p, s / N)
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("stranger", ["b", "A", "z"])
def test_classes_that_training_samples_lack(stranger):
    y = np.array(["a", "c", stranger])
    with pytest.raises(NoHypergradient, match="classes that its training samples lack"):
        Loss("log_loss")(Samples(None, y, np.ones(3)), np.zeros((3, 3)), np.array(["a", "c", "d"]))


def test_pairs_need_a_loss_that_scales_them():
    y, q, classes = positions(3), decisions(3), np.arange(3)
    test = Samples(None, y, np.ones(N))
    found = Loss("platt_log_loss")(test, q, classes, pairs=True)
    assert found[0] == losses.platt_log_loss(y, q, np.ones(N) / N, pairs=True)[0]
    with pytest.raises(NoHypergradient, match="log_loss needs a decision for each class"):
        Loss("log_loss")(test, q, classes, pairs=True)
