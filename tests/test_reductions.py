"""Numerics against truths from outside: other libraries, quadrature, finite differences."""

import mpmath
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, RationalQuadratic

from tunein._math import acquisition, gp, parzen
from tunein._math.design import sobol
from tunein._space import Space

NUMERIC = ["continuous"] * 3
NO_LEVELS = [np.inf] * 3


def observations(n, g, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, g))
    return x, np.sin(5 * x[:, 0]) + x[:, -1] ** 2 + 0.1 * rng.standard_normal(n)


def mixed_points(n, seed=0):
    """Two continuous, one ordinal and one categorical coordinate, some of them absent."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.random((n, 2)), rng.integers(5, size=n) / 4, rng.integers(3, size=n)])
    x[::4, 1] = np.nan
    x[1::5, 3] = np.nan
    return x


MIXED_KINDS = ["continuous", "continuous", "ordinal", "categorical"]
MIXED_LEVELS = [np.inf, np.inf, 5, 3]


# --------------------------------------------------------------------- Gaussian process


class OnColumn(Kernel):
    """A kernel of one coordinate."""

    def __init__(self, kernel, column):
        self.kernel, self.column = kernel, column

    def __call__(self, X, Y=None, eval_gradient=False):
        mine = [self.column]
        return self.kernel(X[:, mine], None if Y is None else Y[:, mine])

    def diag(self, X):
        return self.kernel.diag(X[:, [self.column]])

    def is_stationary(self):
        return True


def kernel_of_scikit_learn(lengthscales, signal):
    kernel = ConstantKernel(signal * (1 - gp._ADDITIVE)) * Matern(lengthscales, nu=2.5)
    share = signal * gp._ADDITIVE / len(lengthscales)
    for j, lengthscale in enumerate(lengthscales):
        kernel += ConstantKernel(share) * OnColumn(RationalQuadratic(lengthscale, alpha=1.0), j)
    return kernel


@pytest.mark.parametrize("weights", [None, np.linspace(0.3, 3, 30)])
def test_posterior_is_that_of_scikit_learn(weights):
    x, y = observations(30, 3)
    theta = np.log([0.4, 0.7, 1.3, 1.7, 0.01])
    model = gp.GaussianProcess(x, y, theta, NUMERIC, NO_LEVELS, weights)
    kernel = kernel_of_scikit_learn([0.4, 0.7, 1.3], 1.7)
    alpha = 0.01 * (1 if weights is None else weights) + gp._JITTER * 1.7
    truth = GaussianProcessRegressor(kernel, alpha=alpha, optimizer=None).fit(x, y)
    new = np.random.default_rng(1).random((50, 3))
    mean, sd = model.predict(new)
    true_mean, true_sd = truth.predict(new, return_std=True)
    np.testing.assert_allclose(mean, true_mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(sd, true_sd, rtol=1e-8)


def test_evidence_is_that_of_scikit_learn():
    x, y = observations(25, 3)
    D = gp.squared_distances(x, x, NUMERIC, NO_LEVELS)
    prior = gp.Prior.of_dimension(3)
    theta = np.log([0.4, 0.7, 1.3, 1.7, 0.01])
    mean, sd = prior.spread(3)
    log_prior = np.sum(-theta - 0.5 * ((theta - mean) / sd) ** 2)
    kernel = kernel_of_scikit_learn([0.4, 0.7, 1.3], 1.7)
    alpha = 0.01 + gp._JITTER * 1.7
    truth = GaussianProcessRegressor(kernel, alpha=alpha, optimizer=None).fit(x, y)
    value, _ = gp.LogPosterior(D, y, prior)(theta)
    assert value - log_prior == pytest.approx(truth.log_marginal_likelihood_value_, rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_gradient_of_the_evidence_is_that_of_finite_differences(seed):
    rng = np.random.default_rng(seed)
    x, y = mixed_points(20, seed), rng.standard_normal(20)
    D = gp.squared_distances(x, x, MIXED_KINDS, MIXED_LEVELS)
    prior = gp.Prior.of_dimension(4)
    theta = rng.uniform(-1.5, 1, size=6)
    weights = rng.uniform(0.3, 3, size=20)
    log_posterior = gp.LogPosterior(D, y, prior, weights)

    def at(j, t):
        return log_posterior(_with(theta, j, t))[0]

    _, gradient = log_posterior(theta)
    numeric = [central_difference(lambda t, j=j: at(j, t), t) for j, t in enumerate(theta)]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-7)


def test_a_coordinate_of_one_value_changes_nothing():
    x, y = mixed_points(20), np.random.default_rng(0).standard_normal(20)
    theta = np.append(np.linspace(-1, 0.5, 4), [0.2, -3.0])
    more = np.insert(x, 2, 0.5, axis=1)
    kinds, levels = [*MIXED_KINDS], [*MIXED_LEVELS]
    kinds.insert(2, "ordinal")
    levels.insert(2, 1)
    D = gp.squared_distances(x, x, MIXED_KINDS, MIXED_LEVELS)
    np.testing.assert_array_equal(gp.squared_distances(more, more, kinds, levels), D)
    plain = gp.GaussianProcess(x, y, theta, MIXED_KINDS, MIXED_LEVELS)
    padded = gp.GaussianProcess(more, y, theta, kinds, levels)
    columns = np.array([j for j, kind in enumerate(MIXED_KINDS) if kind == "continuous"])
    shifted = columns + (columns >= 2)
    for one, other in zip(
        plain.predict_gradient(x[:5], columns),
        padded.predict_gradient(more[:5], shifted),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def central_difference(function, t, h=1e-4):
    """Fourth-order central difference."""
    return (
        8 * (function(t + h) - function(t - h)) - (function(t + 2 * h) - function(t - 2 * h))
    ) / (12 * h)


def _with(vector, j, value):
    changed = np.array(vector)
    changed[j] = value
    return changed


@pytest.mark.parametrize("seed", range(5))
def test_gradients_of_the_posterior_and_of_log_ei_are_those_of_finite_differences(seed):
    rng = np.random.default_rng(seed)
    x, y = mixed_points(15, seed), rng.standard_normal(15)
    theta = np.append(rng.uniform(-1, 0.5, size=4), [0.2, -3.0])
    model = gp.GaussianProcess(x, y, theta, MIXED_KINDS, MIXED_LEVELS)
    point = np.array([0.3, 0.6, 0.5, 1.0])
    columns = np.array([0, 1])
    incumbent = float(y.max())
    _, _, d_mean, d_sd = model.predict_gradient(point[None], columns)
    value, d_log_ei = acquisition.log_ei_gradient(model, point[None], columns, incumbent)

    def at(j, t):
        mean, sd = model.predict(_with(point, j, t)[None])
        return np.array([mean[0], sd[0], acquisition.log_ei(mean, sd, incumbent)[0]])

    numeric = np.array([central_difference(lambda t, j=j: at(j, t), point[j]) for j in columns])
    assert value[0] == pytest.approx(at(0, point[0])[2], rel=1e-12)
    mine = np.concatenate([d_mean, d_sd, d_log_ei]).T
    np.testing.assert_allclose(mine, numeric, rtol=1e-6, atol=1e-8)


def test_kernel_of_mixed_points_is_positive_semi_definite():
    x = mixed_points(200)
    model = gp.GaussianProcess(x, np.zeros(200), np.zeros(6), MIXED_KINDS, MIXED_LEVELS)
    assert np.linalg.eigvalsh(model._kernel(x)[0]).min() > -1e-10


@pytest.mark.parametrize("seed", range(5))
def test_the_probability_of_success_and_its_gradient(seed):
    rng = np.random.default_rng(seed)
    x, y = mixed_points(15, seed), rng.standard_normal(15)
    theta = np.append(rng.uniform(-1, 0.5, size=4), [0.2, -3.0])
    scores = gp.GaussianProcess(x, y, theta[None], MIXED_KINDS, MIXED_LEVELS)
    labels = gp.GaussianProcess(x, np.sign(y), theta, MIXED_KINDS, MIXED_LEVELS)
    improvement = acquisition.LogEI(scores, y.max(keepdims=True))
    both = acquisition.Feasible(improvement, labels, 0.1)
    point, columns = np.array([0.3, 0.6, 0.5, 1.0]), np.array([0, 1])
    value, gradient = both.gradient(point[None], columns)
    mean, sd = labels.predict(point[None])
    log_p = stats.norm.logsf(0.1, mean, np.sqrt(sd**2 + np.exp(-3.0)))[0]
    weight = log_p + acquisition._RELUCTANCE * min(log_p - np.log(0.5), 0)
    assert value[0] == pytest.approx(improvement(point[None])[0] + weight, rel=1e-12)
    assert value[0] == pytest.approx(both(point[None])[0], rel=1e-12)
    numeric = [
        central_difference(lambda t, j=j: both(_with(point, j, t)[None])[0], point[j])
        for j in columns
    ]
    np.testing.assert_allclose(gradient[0], numeric, rtol=1e-6, atol=1e-8)


def test_fit_finds_what_a_fine_grid_finds():
    x, y = observations(40, 1)
    y = (y - y.mean()) / y.std()
    D = gp.squared_distances(x, x, ["continuous"], [np.inf])
    log_posterior = gp.LogPosterior(D, y, gp.Prior.of_dimension(1))
    theta = gp.fit(log_posterior)
    grid = np.stack(
        np.meshgrid(
            theta[0] + np.linspace(-1.5, 1.5, 25),
            theta[1] + np.linspace(-1.5, 1.5, 25),
            theta[2] + np.linspace(-1.5, 1.5, 25),
        ),
        axis=-1,
    ).reshape(-1, 3)
    values = [log_posterior(t)[0] for t in grid]
    assert log_posterior(theta)[0] >= max(values) - 1e-6


# --------------------------------------------------------------------- acquisition


@pytest.mark.parametrize("u", [5.0, 0.3, -0.5, -0.999, -1.001, -3.0, -12.0, -24.9, -36.0])
@pytest.mark.parametrize("scale", [1.0, 1e-8])
def test_log_ei_is_that_of_quadrature(u, scale):
    with mpmath.workdps(60):
        density = lambda z: (z - 0) * mpmath.npdf(z, mu=mpmath.mpf(u))  # noqa: E731
        pieces = [0, 0.02, 0.1, 0.3, 1, 3, 10, 40]
        truth = mpmath.log(mpmath.quad(density, pieces) * mpmath.mpf(scale))
    mine = acquisition.log_ei(np.array([u * scale]), np.array([scale]), 0.0)[0]
    assert mine == pytest.approx(float(truth), rel=1e-9)


@pytest.mark.parametrize("u", [-37.0, -69.9, -70.1, -1e3, -9.9e4, -1.1e5, -1e8])
def test_log_ei_is_exact_where_ei_is_zero_in_floating_point(u):
    with mpmath.workdps(80):
        x = mpmath.mpf(-u)
        # Mills' ratio by its continued fraction, bottom up.
        fraction = x
        for k in range(400, 0, -1):
            fraction = x + k / fraction
        truth = -x * x / 2 - mpmath.log(mpmath.sqrt(2 * mpmath.pi)) + mpmath.log(1 - x / fraction)
    assert acquisition.log_h(np.array([u]))[0] == pytest.approx(float(truth), rel=1e-12)


def test_maximiser_finds_what_a_fine_grid_finds():
    from scipy.stats import uniform

    space = Space.parse({"a": uniform(), "b": uniform()})
    x, y = observations(12, 2)
    model = gp.GaussianProcess(x, y, np.log([0.3, 0.3, 1.0, 1e-4]), space.kinds, [np.inf, np.inf])
    incumbent = float(model.predict(x)[0].max())
    best = x[np.argsort(-y)[:5]]
    value = acquisition.LogEI(model, np.array([incumbent]))
    found = acquisition.maximise(value, space, best, set(), np.random.default_rng(0))
    side = np.linspace(0, 1, 200)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    values = acquisition.log_ei(*model.predict(grid), incumbent)
    mine = acquisition.log_ei(*model.predict(found[None]), incumbent)[0]
    assert mine >= values.max() - 1e-4


# --------------------------------------------------------------------- Parzen estimators


def one_coordinate(spec, centres, bandwidth=0.15):
    space = Space.parse({"a": spec})
    units = space.snap(np.asarray(centres, dtype=float)[:, None])
    weights = np.ones(len(units) + 1)
    return space, parzen.ParzenMixture(
        units, weights, np.array([bandwidth]), space.kinds, space.widths
    )


def test_continuous_density_is_a_mixture_of_scipys_truncated_normals():
    _, mixture = one_coordinate(stats.uniform(), [0.0, 0.1, 0.5, 0.97])
    x = np.linspace(0, 1, 101)[:, None]
    c, h = mixture.centres[:, 0], 0.15
    kernels = stats.truncnorm.pdf(x, (0 - c) / h, (1 - c) / h, loc=c, scale=h)
    truth = (kernels.sum(axis=1) + 1) / 5
    np.testing.assert_allclose(np.exp(mixture.log_density(x)), truth, rtol=1e-10)


@pytest.mark.parametrize("bandwidth", [0.5, 0.05, 0.01, 1e-3])
def test_tails_are_those_of_scipys_truncated_normal(bandwidth):
    _, mixture = one_coordinate(stats.uniform(), [0.02, 0.6], bandwidth)
    x = np.linspace(0, 1, 51)
    log_kernels = mixture._log_kernels(x[:, None])[0]
    for i, c in enumerate(mixture.centres[:, 0]):
        truth = stats.truncnorm.logpdf(
            x, (0 - c) / bandwidth, (1 - c) / bandwidth, loc=c, scale=bandwidth
        )
        np.testing.assert_allclose(log_kernels[:, i], truth, rtol=1e-10, atol=1e-12)


def test_continuous_density_integrates_to_one():
    _, mixture = one_coordinate(stats.uniform(), [0.0, 0.1, 0.5, 0.97])
    total, _ = quad(lambda u: np.exp(mixture.log_density(np.array([[u]])))[0], 0, 1, points=[0.5])
    assert total == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize(
    "spec", [list("abcd"), [1, 2, 5, 10], stats.randint(0, 30), stats.binom(20, 0.3), [True, False]]
)
@pytest.mark.parametrize("bandwidth", [0.3, 1e-3])
def test_discrete_masses_sum_to_one(spec, bandwidth):
    space, mixture = one_coordinate(spec, [0.05, 0.3, 0.31, 0.9], bandwidth)
    points = space.untried(np.random.default_rng(0), 1000, set())
    lower, upper = space.cells(0, points[:, 0])
    masses = np.exp(mixture.log_density(points)) * (upper - lower)
    assert masses.sum() == pytest.approx(1, abs=1e-12)


def test_continuous_samples_agree_with_the_density():
    _, mixture = one_coordinate(stats.uniform(), [0.0, 0.1, 0.5, 0.97])
    draws = mixture.sample(np.random.default_rng(0), 4000)[:, 0]
    side = np.linspace(0, 1, 2001)
    density = np.exp(mixture.log_density(side[:, None]))
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2) / 2000])
    p_value = stats.kstest(draws, lambda u: np.interp(u, side, cumulative)).pvalue
    assert p_value > 0.01


@pytest.mark.parametrize("spec", [list("abcd"), [1, 2, 5, 10, 20], stats.binom(20, 0.3)])
def test_discrete_samples_agree_with_the_density(spec):
    space, mixture = one_coordinate(spec, [0.05, 0.3, 0.31, 0.9])
    draws = space.snap(mixture.sample(np.random.default_rng(0), 4000))[:, 0]
    points = space.untried(np.random.default_rng(0), 1000, set())
    lower, upper = space.cells(0, points[:, 0])
    masses = np.exp(mixture.log_density(points)) * (upper - lower)
    counts = np.array([np.sum(draws == point[0]) for point in points])
    likely = masses * 4000 > 5
    observed = np.append(counts[likely], counts[~likely].sum() + 1e-9)
    expected = np.append(masses[likely], masses[~likely].sum() + 1e-12)
    assert stats.chisquare(observed, expected / expected.sum() * observed.sum()).pvalue > 0.01


def test_density_over_branches_integrates_to_one():
    space = Space.parse([{"a": stats.uniform()}, {"a": stats.uniform(), "b": ["x", "y"]}])
    units = space.sample(np.random.default_rng(0), 6)
    mixture = parzen.ParzenMixture(
        units, np.ones(7), np.array([0.3, 0.2, 0.3]), space.kinds, space.widths
    )
    side = (np.arange(2000) + 0.5) / 2000
    total = 0.0
    for branch, b in ((0.25, np.nan), (0.75, 0.25), (0.75, 0.75)):
        points = np.column_stack([np.full(2000, branch), side, np.full(2000, b)])
        width = 0.5 if np.isnan(b) else 0.25
        total += width * np.exp(mixture.log_density(points)).mean()
    assert total == pytest.approx(1, abs=1e-5)


# --------------------------------------------------------------------- design


def test_sobol_points_fill_the_cube_more_evenly_than_random_ones():
    from scipy.stats import qmc

    spread = [qmc.discrepancy(sobol(32, 3, np.random.default_rng(s))) for s in range(10)]
    random = [qmc.discrepancy(np.random.default_rng(s).random((32, 3))) for s in range(10)]
    assert max(spread) < min(random)


def test_finite_difference_helper_of_scipy_agrees_on_log_h():
    for u in (-30.0, -5.0, -0.7, 2.0):
        slope = approx_fprime(np.array([u]), lambda t: acquisition.log_h(t)[0], 1e-7)[0]
        exact = np.exp(stats.norm.logcdf(u) - acquisition.log_h(np.array([u]))[0])
        assert slope == pytest.approx(exact, rel=1e-5)
