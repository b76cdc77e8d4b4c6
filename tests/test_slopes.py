"""The Gaussian process that is told slopes: against differences, and scikit-learn's own."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from tunein._math.slopes import SlopedGaussianProcess

INF = np.inf


def landscape(x):
    return np.sin(3 * x).sum(axis=1) + x.prod(axis=1)


def slopes_of(x):
    return 3 * np.cos(3 * x) + x.prod(axis=1)[:, None] / x


def process(n, d, *, unknown=(), seed=0):
    x = np.random.default_rng(seed).random((n, d))
    slopes = slopes_of(x)
    for index in unknown:
        slopes[index] = np.nan
    return SlopedGaussianProcess(x, landscape(x), slopes, ["continuous"] * d, [INF] * d)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 2), (6, 2), (10, 3)])
def test_the_evidence_has_the_gradient_of_differences(n, d):
    gp = process(n, d, unknown=[(0, 0)] if n > 1 else [])
    theta = gp.theta + 0.1 * np.random.default_rng(1).standard_normal(d + 2)
    _, gradient = gp._evidence(theta)
    h = 1e-6
    differences = [
        (gp._evidence(theta + h * e)[0] - gp._evidence(theta - h * e)[0]) / (2 * h)
        for e in np.eye(d + 2)
    ]
    np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-5)


def test_the_posterior_has_the_gradient_of_differences():
    gp = process(6, 2, unknown=[(0, 1)])
    z, h = np.random.default_rng(2).random((5, 2)), 1e-6
    mean, sd, d_mean, d_sd = gp.predict_gradient(z, np.arange(2))
    np.testing.assert_allclose(gp.predict(z), (mean, sd))
    for j in range(2):
        above, below = gp.predict(z + h * np.eye(2)[j]), gp.predict(z - h * np.eye(2)[j])
        np.testing.assert_allclose(
            (above[0] - below[0]) / (2 * h), d_mean[..., j], rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(
            (above[1] - below[1]) / (2 * h), d_sd[..., j], rtol=1e-4, atol=1e-6
        )


def test_without_slopes_it_is_the_process_of_scikit_learn():
    x = np.random.default_rng(0).random((12, 2))
    y = landscape(x)
    none = np.full(x.shape, np.nan)
    gp = SlopedGaussianProcess(x, y, none, ["continuous"] * 2, [INF] * 2)
    kernel = ConstantKernel(gp._s2) * Matern(np.exp(gp.theta[:2]), nu=2.5)
    noise = gp._s2 * np.exp(gp.theta[2])
    other = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None).fit(x, y - gp._mean)
    z = np.random.default_rng(1).random((7, 2))
    mean, sd = other.predict(z, return_std=True)
    np.testing.assert_allclose(gp.predict(z)[0][0], mean + gp._mean, rtol=1e-6)
    np.testing.assert_allclose(gp.predict(z)[1][0], sd, rtol=1e-4)


def test_values_and_slopes_are_met():
    gp = process(8, 2)
    mean, _, slope, _ = gp.predict_gradient(gp.x, np.arange(2))
    np.testing.assert_allclose(mean[0], landscape(gp.x), atol=2e-3)
    np.testing.assert_allclose(slope[0], slopes_of(gp.x), atol=5e-2)


def test_slopes_are_worth_as_much_as_many_values():
    z = np.random.default_rng(3).random((200, 2))
    errors = [
        np.abs(gp.predict(z)[0][0] - landscape(z)).mean()
        for gp in (process(8, 2), process(8, 2, unknown=[np.s_[:, :]]))
    ]
    assert errors[0] < errors[1] / 3


def test_categories_and_absent_coordinates_have_no_slopes():
    rng = np.random.default_rng(0)
    x = np.stack([rng.random(10), rng.integers(0, 3, 10) / 3 + 1 / 6], axis=1)
    x[:3, 0] = np.nan
    slopes = np.stack([np.where(np.isnan(x[:, 0]), np.nan, 1.0), np.full(10, np.nan)], axis=1)
    y = np.where(np.isnan(x[:, 0]), 0.0, x[:, 0]) + (x[:, 1] > 0.5)
    gp = SlopedGaussianProcess(x, y, slopes, ["continuous", "categorical"], [INF, 3])
    assert np.abs(gp.predict(x)[0][0] - y).max() < 0.05
