"""A Gaussian process on a mixed cube: kernel, evidence, posterior.

Notation, with shapes (n observations, g coordinates, m queries):

    D : (g, n, n)   squared distances, coordinate by coordinate
    l : (g,)        lengthscales               s2, t2   signal and noise variance
    r2 = sum_j D_j / l_j^2                     K = s2 k(r2) + t2 I = L L'
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
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

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
    noise: tuple[float, float] = (-4.0, 1.5)

    @classmethod
    def of_dimension(cls, g: int) -> Prior:
        """Let lengthscales grow with the root of the dimension (Hvarfner et al. 2024)."""
        return cls(lengthscale=(np.sqrt(2) + 0.5 * np.log(max(g, 1)), np.sqrt(3)))

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


def log_posterior(theta: Array, D: Array, y: Array, prior: Prior) -> tuple[float, Array]:
    """Return log-evidence plus log-prior, and its gradient, at log-hyperparameters theta.

    Parameters
    ----------
    theta : ndarray of shape (g + 2,)
        Logs of lengthscales, signal variance, noise variance.
    D : ndarray of shape (g, n, n)
    y : ndarray of shape (n,)

    Returns
    -------
    value : float
        ``-inf`` where K cannot be factored.
    gradient : ndarray of shape (g + 2,)
    """
    g, n = len(D), len(y)
    precision, signal, noise = np.exp(-2 * theta[:g]), np.exp(theta[g]), np.exp(theta[g + 1])
    k, dk = matern52(np.tensordot(precision, D, axes=1))
    try:
        L = cholesky(signal * k + (noise + _JITTER * signal) * np.eye(n), lower=True)
    except LinAlgError:
        return -np.inf, np.zeros_like(theta)
    K_inv = cho_solve((L, True), np.eye(n))
    a = K_inv @ y
    value = -0.5 * y @ a - np.log(np.diag(L)).sum() - 0.5 * n * np.log(2 * np.pi)
    S = 0.5 * (np.outer(a, a) - K_inv)  # d log p / d K
    gradient = np.empty_like(theta)
    # dr2/d log l_j = -2 D_j / l_j^2
    gradient[:g] = -2 * signal * precision * np.tensordot(D, S * dk, axes=([1, 2], [0, 1]))
    gradient[g] = signal * (np.sum(S * k) + _JITTER * np.trace(S))
    gradient[g + 1] = noise * np.trace(S)
    # A log-normal density of exp(theta): -theta - (theta - mean)^2 / (2 sd^2).
    mean, sd = prior.spread(g)
    value += np.sum(-theta - 0.5 * ((theta - mean) / sd) ** 2)
    gradient += -1 - (theta - mean) / sd**2
    return float(value), gradient


def fit(D: Array, y: Array, prior: Prior, start: Array | None = None) -> Array:
    """Return the log-hyperparameters of highest posterior density found from `start`.

    If `start` leads nowhere, the prior's mode is tried, and is the answer if that fails too.

    Parameters
    ----------
    D : ndarray of shape (g, n, n)
    y : ndarray of shape (n,)
        Standardised.
    prior : Prior
    start : ndarray of shape (g + 2,) or None
        The last answer, usually; None starts at the prior's mode.

    Returns
    -------
    theta : ndarray of shape (g + 2,)
    """
    g = len(D)
    bounds = _bounds(g)

    def loss(theta: Array) -> tuple[float, Array]:
        value, gradient = log_posterior(theta, D, y, prior)
        return (-value, -gradient) if np.isfinite(value) else (1e25, np.zeros_like(theta))

    plain = prior.mode(g)
    best, theta = loss(plain)[0], plain
    for x0 in (plain,) if start is None else (start, plain):
        found = minimize(
            loss,
            np.clip(x0, *bounds.T),
            jac=True,
            bounds=[(float(low), float(high)) for low, high in bounds],
            method="L-BFGS-B",
            options={"maxiter": 50},
        )
        if np.isfinite(found.fun) and found.fun < best:
            return np.asarray(found.x)
    return theta


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
    """

    def __init__(
        self, x: Array, y: Array, theta: Array, kinds: Sequence[str], n_levels: Sequence[float]
    ) -> None:
        self.x, self.theta, self.kinds, self.n_levels = x, theta, kinds, n_levels
        g = x.shape[1]
        self.precision = np.exp(-2 * theta[:g])
        self.signal, self.noise = np.exp(theta[g]), np.exp(theta[g + 1])
        k, _ = self._kernel(x)
        diagonal = self.noise + _JITTER * self.signal
        self._L = cholesky(k + diagonal * np.eye(len(x)), lower=True)
        self._alpha = cho_solve((self._L, True), y)

    def _kernel(self, x: Array) -> tuple[Array, Array]:
        D = squared_distances(x, self.x, self.kinds, self.n_levels)
        k, dk = matern52(np.tensordot(self.precision, D, axes=1))
        return self.signal * k, self.signal * dk

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return posterior mean and standard deviation, noise left out, at x of shape (m, g)."""
        k, _ = self._kernel(x)
        v = solve_triangular(self._L, k.T, lower=True)
        variance = np.maximum(self.signal - np.sum(v * v, axis=0), 1e-12 * self.signal)
        return k @ self._alpha, np.sqrt(variance)

    def predict_gradient(
        self, x: Array, columns: NDArray[np.intp]
    ) -> tuple[float, float, Array, Array]:
        """Return mean, sd and their gradients in the numeric `columns` at one point x (g,)."""
        k, dk = self._kernel(x[None])
        k, dk = k[0], dk[0]
        w = cho_solve((self._L, True), k)
        # dk_i/dx_j = dk/dr2 * 2 (x_j - x_ij) / l_j^2; an absent coordinate sits at the centre
        step = x[columns] - _at_centre(self.x[:, columns])
        J = (2 * dk[:, None] * self.precision[columns]) * step
        sd = np.sqrt(max(self.signal - k @ w, 1e-12 * self.signal))
        return float(k @ self._alpha), float(sd), self._alpha @ J, -(w @ J) / sd
