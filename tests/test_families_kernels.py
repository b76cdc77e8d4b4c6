"""Hypergradients of kernel ridge regression and Gaussian processes, against refits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process import kernels as gp
from sklearn.kernel_ridge import KernelRidge

from tunein import check_hypergradient
from tunein._families import (
    Loss,
    NoHypergradient,
    Samples,
    active_names,
    final_rule,
    hypergradient,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = np.column_stack([np.sin(X[:, 0]) + X[:, 1] ** 2, X[:, 2] * X[:, 3]])
Y += 0.1 * RNG.normal(size=Y.shape) + 3
y = Y[:, 0]
WEIGHTS = RNG.uniform(0.5, 2.0, size=60)

POINTS = [(0.01, 0.05, 0.5), (0.1, 0.3, 1.0), (1.0, 0.1, 2.0), (10.0, 1.0, 0.1)]
KERNELS = {
    "linear": {"alpha"},
    "rbf": {"alpha", "gamma"},
    "laplacian": {"alpha", "gamma"},
    "poly": {"alpha", "gamma", "coef0"},
    "polynomial": {"alpha", "gamma", "coef0"},
}


def agrees(estimator, names, target=y, **kwargs):
    report = check_hypergradient(estimator, kwargs.pop("X", X), target, cv=3, **kwargs)
    assert {each.parameter for each in report.comparisons} == names
    assert report.ok, report
    assert report.loss == pytest.approx(report.fitted_loss, rel=1e-8)


# --------------------------------------------------------------------- kernel ridge


@pytest.mark.parametrize(("alpha", "gamma", "coef0"), POINTS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel_ridge(kernel, alpha, gamma, coef0):
    estimator = KernelRidge(kernel=kernel, alpha=alpha, gamma=gamma, coef0=coef0, degree=2)
    agrees(estimator, KERNELS[kernel])
    agrees(estimator, KERNELS[kernel], sample_weight=WEIGHTS)


@pytest.mark.parametrize(("alpha", "gamma"), [(1, 0.01), (2, 0.02), (5, 0.03), (10, 0.05)])
def test_a_sigmoid_is_no_true_kernel_and_has_slopes_all_the_same(alpha, gamma):
    estimator = KernelRidge(kernel="sigmoid", alpha=alpha, gamma=gamma, coef0=0.5)
    agrees(estimator, {"alpha", "gamma", "coef0"})
    agrees(estimator, {"alpha", "gamma", "coef0"}, sample_weight=WEIGHTS)


@pytest.mark.filterwarnings("ignore:Singular matrix in solving dual problem")
def test_an_indefinite_kernel_matrix():
    estimator = KernelRidge(kernel="sigmoid", alpha=0.05, gamma=0.5, coef0=-1.0)
    agrees(estimator, {"alpha", "gamma", "coef0"})


@pytest.mark.parametrize("loss", ["squared_error", "root_squared_error", "r2", "absolute_error"])
def test_several_targets(loss):
    for alpha, gamma, _ in POINTS:
        estimator = KernelRidge(kernel="rbf", alpha=alpha, gamma=gamma)
        agrees(estimator, {"alpha", "gamma"}, Y, loss=loss, sample_weight=WEIGHTS)


@pytest.mark.parametrize("kernel", ["linear", "rbf", "laplacian", "poly"])
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csr_array, sparse.csc_array])
def test_sparse_samples(kernel, form):
    thin = np.where(np.abs(X) > 0.5, X, 0.0)
    estimator = KernelRidge(kernel=kernel, alpha=0.5, gamma=0.2, coef0=1.5)
    agrees(estimator, KERNELS[kernel], X=form(thin), sample_weight=WEIGHTS)
    asked = [ask(estimator, A, list(KERNELS[kernel])) for A in (thin, form(thin))]
    assert asked[0].gradient == pytest.approx(asked[1].gradient, rel=1e-10)
    assert asked[1].inputs is None


def test_weights_of_zero_are_samples_left_out():
    estimator = KernelRidge(kernel="rbf", alpha=0.5, gamma=0.2)
    weights = np.arange(40) % 4 > 0
    test = Samples(X[40:], y[40:], np.ones(20))
    kept = Samples(X[:40][weights], y[:40][weights], np.ones(weights.sum()))
    found = [
        hypergradient(
            clone(estimator).fit(train.X, train.y, sample_weight=train.sample_weight),
            train,
            test,
            Loss("squared_error"),
            ["alpha", "gamma"],
        )
        for train in (Samples(X[:40], y[:40], weights.astype(float)), kept)
    ]
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-10)
    assert found[0].gradient == pytest.approx(found[1].gradient, rel=1e-8)


def test_single_precision_is_taken_for_what_it_says():
    report = check_hypergradient(
        KernelRidge(kernel="rbf", alpha=0.5, gamma=0.2), X.astype(np.float32), y, cv=3
    )
    assert report.ok, report


def ask(estimator, A, names, train=slice(0, 40), test=slice(40, None)):
    sides = [Samples(A[rows], y[rows], WEIGHTS[rows]) for rows in (train, test)]
    fitted = clone(estimator).fit(sides[0].X, y[train], sample_weight=WEIGHTS[train])
    return hypergradient(fitted, *sides, Loss("squared_error"), names)


@pytest.mark.parametrize("kernel", ["linear", "rbf", "laplacian", "poly", "sigmoid"])
def test_slopes_in_samples(kernel):
    estimator = KernelRidge(kernel=kernel, alpha=2.0, gamma=0.05, coef0=0.5)
    found, h = ask(estimator, X, []), 1e-5
    for row, column in [(0, 0), (7, 3), (39, 1), (40, 2), (55, 0), (59, 3)]:
        moved = []
        for way in (h, -h):
            A = X.copy()
            A[row, column] += way
            moved.append(ask(estimator, A, []).loss)
        side, place = (0, row) if row < 40 else (1, row - 40)
        slope = (moved[0] - moved[1]) / (2 * h)
        assert found.in_samples()[side][place, column] == pytest.approx(slope, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("kernel", ["precomputed", lambda a, b: a @ b, "cosine", "chi2"])
def test_kernels_without_a_rule(kernel):
    estimator = KernelRidge(kernel=kernel)
    assert final_rule(estimator) is None
    assert active_names(estimator, ["alpha", "gamma"]) == set()


def test_what_counts_with_each_kernel():
    names = ["alpha", "gamma", "coef0", "degree", "kernel"]
    for kernel, expected in KERNELS.items():
        assert active_names(KernelRidge(kernel=kernel, gamma=0.1), names) == expected
        without = active_names(KernelRidge(kernel=kernel), names)
        assert without == expected - {"gamma"}


def test_gamma_that_the_number_of_features_decides():
    agrees(KernelRidge(kernel="rbf", alpha=0.3), {"alpha"})
    agrees(KernelRidge(kernel="poly", alpha=0.3), {"alpha", "coef0"})


def test_a_penalty_for_each_target_has_no_rule():
    assert final_rule(KernelRidge(alpha=np.array([1.0, 2.0]))) is None


def test_a_singular_system_is_not_answered():
    estimator = KernelRidge(kernel="linear", alpha=0.0)
    with pytest.warns(UserWarning, match="Singular"):
        estimator.fit(X, y)
    sides = Samples(X, y, np.ones(60))
    with pytest.raises(NoHypergradient, match="unique inner optimum"):
        hypergradient(estimator, sides, sides, Loss("squared_error"), ["alpha"])


# --------------------------------------------------------------------- Gaussian process


def process(kernel, **params):
    return GaussianProcessRegressor(kernel, optimizer=None, **params)


PROCESSES = [
    (gp.RBF(1.5), {"length_scale"}),
    (
        gp.ConstantKernel(2.0) * gp.RBF(1.5) + gp.WhiteKernel(0.1),
        {"k1__k1__constant_value", "k1__k2__length_scale", "k2__noise_level"},
    ),
    (
        gp.RationalQuadratic(1.2, 0.7) + gp.DotProduct(0.5),
        {"k1__length_scale", "k1__alpha", "k2__sigma_0"},
    ),
    (gp.Matern(1.5, nu=2.5) * gp.ConstantKernel(3.0), {"k1__length_scale", "k2__constant_value"}),
    (
        gp.ExpSineSquared(1.2, 6.0) + gp.RBF(2.0),
        {"k1__length_scale", "k1__periodicity", "k2__length_scale"},
    ),
    (gp.RBF(3.0) ** 2, {"kernel__length_scale"}),
    (gp.Matern(1.5, nu=0.9), {"length_scale"}),
]


@pytest.mark.parametrize("normalize_y", [False, True])
@pytest.mark.parametrize(("kernel", "names"), PROCESSES, ids=[str(k) for k, _ in PROCESSES])
def test_gaussian_process(kernel, names, normalize_y):
    names = {f"kernel__{name}" for name in names} | {"alpha"}
    for alpha in (0.01, 0.05, 0.3, 1.0):
        agrees(process(kernel, alpha=alpha, normalize_y=normalize_y), names)
    agrees(process(kernel, alpha=0.1, normalize_y=normalize_y), names, Y)


def test_fixed_parameters_of_kernels_have_slopes_too():
    kernel = gp.ConstantKernel(2.0, "fixed") * gp.RBF(1.5, "fixed")
    names = {"alpha", "kernel__k1__constant_value", "kernel__k2__length_scale"}
    agrees(process(kernel, alpha=0.1), names)
    agrees(GaussianProcessRegressor(kernel, alpha=0.1), names)  # nothing for its optimizer to do


def test_length_scales_of_features_are_left_out_and_the_rest_keeps_its_place():
    kernel = gp.ConstantKernel(2.0) * gp.RBF([1.0, 2.0, 1.5, 0.7]) + gp.WhiteKernel(0.2)
    names = {"alpha", "kernel__k1__k1__constant_value", "kernel__k2__noise_level"}
    agrees(process(kernel, alpha=0.1), names)


def test_a_parameter_of_zero_has_no_logarithm():
    with np.errstate(divide="ignore"):
        found = active_names(process(gp.DotProduct(0.0)), ["alpha", "kernel__sigma_0"])
    assert found == {"alpha"}


def test_the_kernel_that_there_is_by_default():
    assert active_names(process(None), ["alpha", "kernel"]) == {"alpha"}
    agrees(process(None, alpha=0.1), {"alpha"})


def test_noise_of_each_sample_is_no_parameter():
    estimator = process(gp.RBF(1.0), alpha=np.full(40, 0.1))
    assert active_names(estimator, ["alpha", "kernel__length_scale"]) == {"kernel__length_scale"}


@pytest.mark.parametrize("kernel", [None, gp.RBF(1.0)])
def test_a_fit_that_moves_the_kernel_has_no_rule(kernel):
    assert final_rule(GaussianProcessRegressor(kernel)) is None
    with pytest.raises(ValueError, match="optimizer=None"):
        check_hypergradient(GaussianProcessRegressor(kernel), X, y)
