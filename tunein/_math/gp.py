"""A Gaussian process on a mixed cube: kernel, evidence, posterior.

Notation, with shapes (n observations, g coordinates, m queries):

    D : (g, n, n)   squared distances, coordinate by coordinate
    l : (g,)        lengthscales               s2, t2   signal and noise variance
    w : (n,)        noise relative to t2, of mean about one
    r2 = sum_j D_j / l_j^2                     K = s2 k(r2) + t2 diag(w) = L L'
    k(r2) = (1 + q + q^2 / 3) exp(-q), q = sqrt(5 r2)          Matern, nu = 5/2
    dk/dr2 = -5/6 (1 + q) exp(-q)

Log-evidence and gradient, with a = K^-1 y (Rasmussen & Williams 2006, 5.8 and 5.9):

    log p(y) = -y'a / 2 - sum log L_ii - n log(2 pi) / 2
    d log p / d K = (a a' - K^-1) / 2

Each coordinate is embedded so that its squared distance is Euclidean, hence K positive definite:
numbers as they are (integers at their rounded places, Garrido-Merchan & Hernandez-Lobato 2020),
categories at the corners of a simplex with unit edges, and a coordinate that a point lacks at the
centre of either. So parameters of other branches add next to nothing beyond the branch itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

Array: TypeAlias = NDArray[np.float64]

# Bounds of the log-hyperparameters: from where a kernel is noise to where it is flat.
_LOG_LENGTHSCALE = (np.log(5e-3), np.log(1e2))
_LOG_SIGNAL = (np.log(5e-2), np.log(2e1))
_LOG_NOISE = (np.log(1e-6), np.log(1e0))

# Added to the diagonal beside the noise, relative to the signal: repeated points stay factorable.
_JITTER = 1e-8


def squared_distances(x: Array, z: Array, kinds: Sequence[str], n_levels: Sequence[float]) -> Array:
    """Return squared distances by coordinate, shape (g, m, n).

    Parameters
    ----------
    x, z : ndarray of shape (m, g), (n, g)
        Feature coordinates in [0, 1]; NaN where a point lacks the coordinate.
    kinds : sequence of {"continuous", "ordinal", "categorical"}
    n_levels : sequence of float
        Numbers of categories.
    """
    a, b = _at_centre(x).T[:, :, None], _at_centre(z).T[:, None, :]
    out = (a - b) ** 2
    for j, kind in enumerate(kinds):
        if kind == "categorical":
            lacks_a, lacks_b = np.isnan(x[:, j, None]), np.isnan(z[None, :, j])
            out[j] = (a[j] != b[j]) & ~lacks_a & ~lacks_b
            out[j][lacks_a != lacks_b] = (1 - 1 / n_levels[j]) / 2
    return np.asarray(out)


def _at_centre(x: Array) -> Array:
    """Return x with absent numbers in the middle."""
    return np.where(np.isnan(x), 0.5, x)


def matern52(r2: Array) -> tuple[Array, Array]:
    """Return k(r2) and dk/dr2."""
    q = np.sqrt(5 * r2)
    decay = np.exp(-q)
    return (1 + q + q * q / 3) * decay, -5 / 6 * (1 + q) * decay


@dataclass(frozen=True)
class Prior:
    """Log-normal priors of lengthscales, signal and noise variance: means and sds of the logs."""

    lengthscale: tuple[float, float]
    signal: tuple[float, float] = (0.0, 1.0)
    noise: tuple[float, float] = (-4.0 + 1.5**2, 1.5)

    @classmethod
    def of_dimension(cls, g: int, noise: float = np.exp(-4.0)) -> Prior:
        """Let lengthscales grow with the root of the dimension (Hvarfner et al. 2024).

        The density of the noise variance is highest at `noise`.
        """
        sd = 1.5
        return cls(
            lengthscale=(np.sqrt(2) + 0.5 * np.log(max(g, 1)), np.sqrt(3)),
            noise=(np.log(noise) + sd**2, sd),
        )

    def spread(self, g: int) -> tuple[Array, Array]:
        """Return means and sds for g lengthscales, signal and noise, in this order."""
        pairs = np.array([self.lengthscale] * g + [self.signal, self.noise])
        return pairs[:, 0], pairs[:, 1]

    def mode(self, g: int) -> Array:
        """Return the log-hyperparameters of highest prior density."""
        mean, sd = self.spread(g)
        return np.clip(mean - sd**2, *_bounds(g).T)


def _bounds(g: int) -> Array:
    return np.array([_LOG_LENGTHSCALE] * g + [_LOG_SIGNAL, _LOG_NOISE])


def log_posterior(
    theta: Array, D: Array, y: Array, prior: Prior, weights: Array | None = None
) -> tuple[float, Array]:
    """Return log-evidence plus log-prior, and its gradient, at log-hyperparameters theta.

    Parameters
    ----------
    theta : ndarray of shape (g + 2,)
        Logs of lengthscales, signal variance, noise variance.
    D : ndarray of shape (g, n, n)
    y : ndarray of shape (n,)
    prior : Prior
    weights : ndarray of shape (n,) or None
        Relative noise variances; None for equal ones.

    Returns
    -------
    value : float
        ``-inf`` where K cannot be factored.
    gradient : ndarray of shape (g + 2,)
    """
    g, n = len(D), len(y)
    precision, signal, noise = np.exp(-2 * theta[:g]), np.exp(theta[g]), np.exp(theta[g + 1])
    k, dk = matern52((precision @ D.reshape(g, -1)).reshape(n, n))
    weights = np.ones(n) if weights is None else weights
    K = signal * k
    K[np.diag_indices(n)] += noise * weights + _JITTER * signal
    L, failed = dpotrf(K, lower=True)
    if failed:
        return -np.inf, np.zeros_like(theta)
    K_inv, _ = dpotri(L, lower=True)
    K_inv = np.tril(K_inv) + np.tril(K_inv, -1).T
    a = K_inv @ y
    value = -0.5 * y @ a - np.log(np.diag(L)).sum() - 0.5 * n * np.log(2 * np.pi)
    S = 0.5 * (np.outer(a, a) - K_inv)  # d log p / d K
    gradient = np.empty_like(theta)
    # dr2/d log l_j = -2 D_j / l_j^2
    gradient[:g] = -2 * signal * precision * (D.reshape(g, -1) @ (S * dk).ravel())
    gradient[g] = signal * (np.sum(S * k) + _JITTER * np.trace(S))
    gradient[g + 1] = noise * (np.diag(S) @ weights)
    # A log-normal density of exp(theta): -theta - (theta - mean)^2 / (2 sd^2).
    mean, sd = prior.spread(g)
    value += np.sum(-theta - 0.5 * ((theta - mean) / sd) ** 2)
    gradient += -1 - (theta - mean) / sd**2
    return float(value), gradient


def fit(
    D: Array, y: Array, prior: Prior, start: Array | None = None, weights: Array | None = None
) -> Array:
    """Return the log-hyperparameters of highest posterior density found.

    The climb is from the prior's mode and from `start`; where both lead nowhere, the mode is the
    answer.

    Parameters
    ----------
    D : ndarray of shape (g, n, n)
    y : ndarray of shape (n,)
        Standardised.
    prior : Prior
    start : ndarray of shape (g + 2,) or None
        The last answer, usually.
    weights : ndarray of shape (n,) or None
        Relative noise variances.

    Returns
    -------
    theta : ndarray of shape (g + 2,)
    """
    g = len(D)
    bounds = _bounds(g)

    def loss(theta: Array) -> tuple[float, Array]:
        value, gradient = log_posterior(theta, D, y, prior, weights)
        return (-value, -gradient) if np.isfinite(value) else (1e25, np.zeros_like(theta))

    theta = prior.mode(g)
    best = loss(theta)[0]
    for x0 in (theta,) if start is None else (start, theta):
        found = minimize(
            loss,
            np.clip(x0, *bounds.T),
            jac=True,
            bounds=[(float(low), float(high)) for low, high in bounds],
            method="L-BFGS-B",
            options={"maxiter": 50},
        )
        if np.isfinite(found.fun) and found.fun < best:
            best, theta = float(found.fun), np.asarray(found.x)
    return theta


def draw(
    theta: Array,
    D: Array,
    y: Array,
    prior: Prior,
    weights: Array | None,
    rng: np.random.Generator,
    n_draws: int,
) -> Array:
    """Draw log-hyperparameters around their mode, from Laplace's approximation of the posterior.

    Parameters
    ----------
    theta : ndarray of shape (g + 2,)
        The mode.
    D, y, prior, weights
        As in `fit`.
    rng : numpy Generator
    n_draws : int

    Returns
    -------
    draws : ndarray of shape (n_draws, g + 2)
        Within the bounds.
    """
    size, step = len(theta), 0.05
    hessian = np.empty((size, size))
    for i in range(size):
        shift = np.zeros(size)
        shift[i] = step
        ahead = log_posterior(theta + shift, D, y, prior, weights)[1]
        behind = log_posterior(theta - shift, D, y, prior, weights)[1]
        hessian[i] = (behind - ahead) / (2 * step)
    curvature, directions = np.linalg.eigh((hessian + hessian.T) / 2)
    # Where the mode lies on a bound the curvature may be anything; half the prior's is the least.
    curvature = np.maximum(curvature, 0.5 / prior.spread(len(D))[1].max() ** 2)
    steps = rng.standard_normal((n_draws, size)) / np.sqrt(curvature)
    return np.asarray(np.clip(theta + steps @ directions.T, *_bounds(len(D)).T))


class GaussianProcess:
    """The posterior of a Gaussian process with zero prior mean.

    Parameters
    ----------
    x : ndarray of shape (n, g)
        Feature coordinates of the observations; NaN where absent.
    y : ndarray of shape (n,)
        Standardised observations.
    theta : ndarray of shape (g + 2,)
        Logs of lengthscales, signal variance, noise variance.
    kinds, n_levels : sequence
        As in `squared_distances`.
    weights : ndarray of shape (n,) or None
        Noise variances of the observations relative to the common one; None for equal ones.
    """

    def __init__(
        self,
        x: Array,
        y: Array,
        theta: Array,
        kinds: Sequence[str],
        n_levels: Sequence[float],
        weights: Array | None = None,
    ) -> None:
        self.x, self.theta, self.n_levels = x, theta, n_levels
        g = x.shape[1]
        self._root = np.exp(-theta[:g])
        self.precision = self._root**2
        self.signal, self.noise = np.exp(theta[g]), np.exp(theta[g + 1])
        categorical = np.array([kind == "categorical" for kind in kinds], dtype=bool)
        self._numeric, self._categorical = np.flatnonzero(~categorical), np.flatnonzero(categorical)
        self._centred = _at_centre(x)
        k, _ = self._kernel(x)
        own = 1.0 if weights is None else weights
        k[np.diag_indices(len(x))] += self.noise * own + _JITTER * self.signal
        self._L = cholesky(k, lower=True)
        self._alpha = cho_solve((self._L, True), y)

    def _kernel(self, x: Array) -> tuple[Array, Array]:
        c = self._numeric
        r2 = np.zeros((len(x), len(self.x)))
        if len(c):
            near, root = _at_centre(x[:, c]), self._root[c]
            r2 = cdist(near * root, self._centred[:, c] * root, "sqeuclidean")
        for j in self._categorical.tolist():
            r2 += (
                self.precision[j]
                * squared_distances(x[:, [j]], self.x[:, [j]], ["categorical"], [self.n_levels[j]])[
                    0
                ]
            )
        k, dk = matern52(r2)
        return self.signal * k, self.signal * dk

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return posterior mean and standard deviation, noise left out, at x of shape (m, g)."""
        k, _ = self._kernel(x)
        v = solve_triangular(self._L, k.T, lower=True, check_finite=False)
        variance = np.maximum(self.signal - np.einsum("ij,ij->j", v, v), 1e-12 * self.signal)
        return k @ self._alpha, np.sqrt(variance)

    def predict_gradient(
        self, x: Array, columns: NDArray[np.intp]
    ) -> tuple[Array, Array, Array, Array]:
        """Return mean, sd (m,) and their gradients (m, c) in the numeric `columns` at x (m, g).

        Where a point lacks a coordinate, its gradient is that at the centre.
        """
        k, dk = self._kernel(x)
        w = cho_solve((self._L, True), k.T, check_finite=False).T
        sd = np.sqrt(np.maximum(self.signal - np.einsum("ij,ij->i", k, w), 1e-12 * self.signal))
        here, there = _at_centre(x[:, columns]), self._centred[:, columns]

        def slope(coefficients: Array) -> Array:
            # sum_i c_i dk_i/dx_j, where dk_i/dx_j = dk/dr2 * 2 (x_j - x_ij) / l_j^2
            a = coefficients * dk
            total = here * a.sum(axis=1, keepdims=True) - a @ there
            return np.asarray(2 * self.precision[columns] * total)

        return k @ self._alpha, sd, slope(self._alpha), -slope(w) / sd[:, None]
