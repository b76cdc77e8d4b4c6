"""A Gaussian process on a mixed cube: kernel, evidence, posterior.

Notation, with shapes (n observations, g coordinates, m queries):

    D : (g, n, n)   squared distances, coordinate by coordinate
    l : (g,)        lengthscales               s2, t2   signal and noise variance
    w : (n,)        noise relative to t2, of mean about one
    r_j = D_j / l_j^2, r = sum_j r_j           K = s2 k + t2 diag(w) = L L'
    k = (1 - a) M(r) + a / g sum_j C(r_j)
    M(r) = (1 + q + q^2 / 3) exp(-q), q = sqrt(5 r)            Matern, nu = 5/2
    C(r) = 1 / (1 + r / 2)                                     rational quadratic, alpha = 1
    dM/dr = -5/6 (1 + q) exp(-q)               dC/dr = -C(r)^2 / 2

The second part of k is a sum of functions of one coordinate each (Duvenaud, Nickisch & Rasmussen
2011, "Additive Gaussian processes"): what a hyperparameter does is much the same whatever the
others are, and from few candidates that is learned sooner than a function of all together.

Log-evidence and gradient, with a = K^-1 y (Rasmussen & Williams 2006, 5.8 and 5.9):

    log p(y) = -y'a / 2 - sum log L_ii - n log(2 pi) / 2
    d log p / d K = (a a' - K^-1) / 2

Each coordinate is embedded so that its squared distance is Euclidean, hence K positive definite:
numbers as they are (integers at their rounded places, Garrido-Merchan & Hernandez-Lobato 2020),
categories at the corners of a simplex with unit edges, and a coordinate that a point lacks at the
centre of either. So parameters of other branches add next to nothing to r beyond the branch itself;
to the sum of the C(r_j), what both points lack adds a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs, dtrtrs
from scipy.optimize import minimize

Array: TypeAlias = NDArray[np.float64]

# Bounds of the log-hyperparameters: from where a kernel is noise to where it is flat.
_LOG_LENGTHSCALE = (np.log(5e-3), np.log(1e2))
_LOG_SIGNAL = (np.log(5e-2), np.log(2e1))
_LEAST_LOG_NOISE = np.log(1e-6)

# Added to the diagonal beside the noise, relative to the signal: repeated points stay factorable.
_JITTER = 1e-8

# Share of the signal variance that is a sum over coordinates.
_ADDITIVE = 0.5

# Numbers of a kernel that are worked out at once: what stays in a processor's cache.
_BLOCK = 32_768


def squared_distances(x: Array, z: Array, kinds: Sequence[str], n_levels: Sequence[float]) -> Array:
    """Return squared distances by coordinate, shape (g, m, n).

    Parameters
    ----------
    x, z : ndarray of shape (m, c), (n, c)
        Feature coordinates in [0, 1]; NaN where a point lacks the coordinate.
    kinds : sequence of {"continuous", "ordinal", "categorical"}
    n_levels : sequence of float
        Numbers of values. The g coordinates that have more than one are looked at.
    """
    free = _free(n_levels)
    x, z = x[:, free], z[:, free]
    a, b = _at_centre(x).T[:, :, None], _at_centre(z).T[:, None, :]
    out = (a - b) ** 2
    for i, j in enumerate(free.tolist()):
        if kinds[j] == "categorical":
            lacks_a, lacks_b = np.isnan(x[:, i, None]), np.isnan(z[None, :, i])
            out[i] = (a[i] != b[i]) & ~lacks_a & ~lacks_b
            out[i][lacks_a != lacks_b] = (1 - 1 / n_levels[j]) / 2
    return np.asarray(out)


def _free(n_levels: Sequence[float]) -> NDArray[np.intp]:
    """Return the coordinates that have more than one value: others tell nothing."""
    return np.flatnonzero(np.array(n_levels) > 1)


def _at_centre(x: Array) -> Array:
    """Return x with absent numbers in the middle."""
    return np.where(np.isnan(x), 0.5, x)


def matern52(r: Array) -> Array:
    """Return M(r)."""
    q = np.sqrt(5 * r)
    return np.asarray((1 + q + q * q / 3) * np.exp(-q))


def matern52_slope(r: Array) -> Array:
    """Return dM/dr."""
    q = np.sqrt(5 * r)
    return np.asarray(-5 / 6 * (1 + q) * np.exp(-q))


def rational_quadratic(r: Array) -> Array:
    """Return C(r)."""
    return np.asarray(1 / (1 + 0.5 * r))


def rational_quadratic_slope(r: Array) -> Array:
    """Return dC/dr."""
    return np.asarray(-0.5 * rational_quadratic(r) ** 2)


@dataclass(frozen=True)
class Prior:
    """Log-normal priors of lengthscales, signal and noise variance: means and sds of the logs.

    And the greatest noise variance that is believed in.
    """

    lengthscale: tuple[float, float]
    signal: tuple[float, float] = (0.0, 1.0)
    noise: tuple[float, float] = (-4.0 + 1.5**2, 1.5)  # of highest density at exp(-4)
    most_noise: float = 1.0

    @classmethod
    def of_dimension(cls, g: int, most_noise: float = 1.0) -> Prior:
        """Let lengthscales grow with the root of the dimension (Hvarfner et al. 2024).

        Theirs is wider; from tens of candidates the lengthscales of a handful of hyperparameters
        cannot be told so freely.
        """
        return cls((-0.6 + 0.5 * np.log(max(g, 1)), 0.7), most_noise=most_noise)

    def spread(self, g: int) -> tuple[Array, Array]:
        """Return means and sds for g lengthscales, signal and noise, in this order."""
        pairs = np.array([self.lengthscale] * g + [self.signal, self.noise])
        return pairs[:, 0], pairs[:, 1]

    def mode(self, g: int) -> Array:
        """Return the log-hyperparameters of highest prior density."""
        mean, sd = self.spread(g)
        return np.clip(mean - sd**2, *self.bounds(g).T)

    def bounds(self, g: int) -> Array:
        """Return the ends of the log-hyperparameters, of shape (g + 2, 2)."""
        noise = (_LEAST_LOG_NOISE, np.log(self.most_noise))
        return np.array([_LOG_LENGTHSCALE] * g + [_LOG_SIGNAL, noise])


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
    r = (precision @ D.reshape(g, -1)).reshape(n, n)
    # Coordinate by coordinate: all at once would take g times the memory, and longer.
    single = np.zeros((n, n))
    for p, d in zip(precision, D, strict=True):
        single += rational_quadratic(p * d)
    k = (1 - _ADDITIVE) * matern52(r) + _ADDITIVE / g * single
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
    # dr_j/d log l_j = -2 r_j
    by_joint = D.reshape(g, -1) @ ((1 - _ADDITIVE) * matern52_slope(r) * S).ravel()
    for j, (p, d) in enumerate(zip(precision, D, strict=True)):
        by_single = np.vdot(rational_quadratic_slope(p * d) * d, S)
        gradient[j] = -2 * signal * p * (by_joint[j] + _ADDITIVE / g * by_single)
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
    """Return the log-hyperparameters of highest posterior density found from `start`.

    If `start` leads nowhere, the prior's mode is tried, and is the answer if that fails too.

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
    bounds = prior.bounds(g)

    def loss(theta: Array) -> tuple[float, Array]:
        value, gradient = log_posterior(theta, D, y, prior, weights)
        return (-value, -gradient) if np.isfinite(value) else (1e25, np.zeros_like(theta))

    theta = prior.mode(g)
    least = loss(theta)[0]
    for x0 in (theta,) if start is None else (start, theta):
        found = minimize(
            loss,
            np.clip(x0, *bounds.T),
            jac=True,
            bounds=[(float(low), float(high)) for low, high in bounds],
            method="L-BFGS-B",
            options={"maxiter": 50},
        )
        if np.isfinite(found.fun) and found.fun < least:
            return np.asarray(found.x)
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
    # The symmetric root: the signs of the directions, and which of them span a plane of equal
    # curvature, are up to rounding, and the draws must not be.
    root = (directions / np.sqrt(curvature)) @ directions.T
    steps = rng.standard_normal((n_draws, size)) @ root
    return np.asarray(np.clip(theta + steps, *prior.bounds(len(D)).T))


class GaussianProcess:
    """The posterior of a Gaussian process with zero prior mean.

    With several sets of hyperparameters it is as many posteriors, worked out together.

    Parameters
    ----------
    x : ndarray of shape (n, c)
        Feature coordinates of the observations; NaN where absent.
    y : ndarray of shape (n,) or (s, n)
        Standardised observations, for all sets of hyperparameters or for each.
    theta : ndarray of shape (g + 2,) or (s, g + 2)
        Logs of lengthscales, of the g coordinates that have more than one value, signal variance,
        noise variance. If it has two axes, all that is returned has a first axis of length s.
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
        self.x, self.theta, self._kinds, self._n_levels = x, theta, kinds, n_levels
        rows = np.atleast_2d(theta)
        g = rows.shape[1] - 2
        self._precision, self._signal = np.exp(-2 * rows[:, :g]), np.exp(rows[:, g])
        self._centred = _at_centre(x)
        own = np.ones(len(x)) if weights is None else weights
        k = self._kernel(x)
        diagonal = np.exp(rows[:, g + 1, None]) * own + _JITTER * self._signal[:, None]
        i = np.arange(len(x))
        k[:, i, i] += diagonal
        self._L = [cholesky(one, lower=True) for one in k]
        each = np.broadcast_to(y, (len(rows), len(x)))
        self._alpha = np.stack(
            [cho_solve((L, True), values) for L, values in zip(self._L, each, strict=True)]
        )

    def _kernel(self, x: Array) -> Array:
        """Return k between x (m, g) and the observations, of shape (s, m, n)."""
        k = np.empty((len(self._signal), len(x), len(self.x)))
        size = max(1, _BLOCK // (len(self._signal) * len(self.x)))
        for i in range(0, len(x), size):
            self._kernel_block(x[i : i + size], k[:, i : i + size])
        return k

    def _kernel_block(self, x: Array, out: Array) -> None:
        # In place, and as few passes as there can be: most of the time of a search's thoughts.
        D = squared_distances(x, self.x, self._kinds, self._n_levels)
        halves = np.zeros(out.shape)  # sum_j (1 + r_j / 2)
        out[...] = 0
        term = np.empty(out.shape)
        for precision, d in zip(0.5 * self._precision.T, D, strict=True):
            np.multiply(precision[:, None, None], d, out=term)
            term += 1
            halves += term
            np.reciprocal(term, out=term)
            out += term
        out *= _ADDITIVE / len(D)
        out += (1 - _ADDITIVE) * matern52(2 * np.maximum(halves - len(D), 0))
        out *= self._signal[:, None, None]

    def _shaped(self, values: Array) -> Array:
        return values if self.theta.ndim == 2 else np.asarray(values[0])

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return posterior mean and standard deviation, noise left out, at x of shape (m, g)."""
        k = self._kernel(x)
        v = [dtrtrs(L, one.T, lower=True)[0] for L, one in zip(self._L, k, strict=True)]
        explained = np.stack([np.einsum("ij,ij->j", one, one) for one in v])
        mean = np.einsum("smn,sn->sm", k, self._alpha)
        return self._shaped(mean), self._shaped(self._sd(explained))

    def _sd(self, explained: Array) -> Array:
        signal = self._signal[:, None]
        return np.sqrt(np.maximum(signal - explained, 1e-12 * signal))

    def predict_gradient(
        self, x: Array, columns: NDArray[np.intp]
    ) -> tuple[Array, Array, Array, Array]:
        """Return mean, sd (m,) and their gradients (m, c) in the numeric `columns` at x (m, g).

        Where a point lacks a coordinate, its gradient is that at the centre.
        """
        k, dk = self._kernel_with_slope(x, columns)
        w = np.stack([dpotrs(L, one.T, lower=True)[0].T for L, one in zip(self._L, k, strict=True)])
        mean = np.einsum("smn,sn->sm", k, self._alpha)
        sd = self._sd(np.einsum("smn,smn->sm", k, w))
        d_mean = np.einsum("csmn,sn->smc", dk, self._alpha)
        d_sd = -np.einsum("csmn,smn->smc", dk, w) / sd[:, :, None]
        shaped = self._shaped
        return shaped(mean), shaped(sd), shaped(d_mean), shaped(d_sd)

    def _kernel_with_slope(self, x: Array, columns: NDArray[np.intp]) -> tuple[Array, Array]:
        """Return k (s, m, n) and its gradients (c, s, m, n) in the numeric `columns` at x (m, c).

        For few points: all coordinates at once, which `_kernel` avoids.
        """
        D = squared_distances(x, self.x, self._kinds, self._n_levels)[:, None]
        own = np.searchsorted(_free(self._n_levels), columns)  # their layers of D
        precision = self._precision.T[:, :, None, None]
        r = precision * D
        joint, single = r.sum(axis=0), rational_quadratic(r)
        signal = self._signal[:, None, None]
        k = (1 - _ADDITIVE) * matern52(joint) + _ADDITIVE / len(D) * single.sum(axis=0)
        by_joint = (1 - _ADDITIVE) * matern52_slope(joint)
        by_r = by_joint - _ADDITIVE / len(D) * 0.5 * single[own] ** 2
        # dr_j/dx_j = 2 (x_j - x_ij) / l_j^2
        gap = _at_centre(x[:, columns]).T[:, :, None] - self._centred[:, columns].T[:, None, :]
        return signal * k, signal * by_r * precision[own] * 2 * gap[:, None]
