"""A Gaussian process that is told slopes beside values.

Notation, with shapes (n points, g coordinates, N observations: n values, and the slopes known):

    d : (n, m, g)   differences x_a - x_b, as far as a coordinate has slopes
    D : (n, m, g)   squared distances, coordinate by coordinate
    l : (g,)        lengthscales, p = 1 / l^2 precisions, r = sqrt(sum_j p_j D_j), u_j = p_j d_j
    K               s2 (k + noise)

    k(f_a, f_b)     = (1 + q + q^2 / 3) exp(-q), q = sqrt(5) r           Matern, nu = 5/2
    k(f_a, f'_jb)   = A u_j,                    A = 5/3 (1 + q) exp(-q)
    k(f'_ia, f'_jb) = A p_i [i = j] - B u_i u_j, B = 25/3 exp(-q)

(Solak et al. 2003, "Derivative observations in Gaussian process models of dynamic systems".) With
dr/dp_j = D_j / (2 r), dk/dr = -A r, dA/dr = -B r and dB/dr = -sqrt(5) B:

    d k(f, f) / dp_j     = -A D_j / 2
    d k(f, f'_i) / dp_j  = -B D_j u_i / 2 + A d_i [i = j]
    d k(f'_i, f'_k) / dp_j = [i = k] (A [i = j] - B p_i D_j / 2) + sqrt(5) B D_j u_i u_k / (2 r)
                           - B (d_i [i = j] u_k + u_i d_k [k = j])

The constant mean is that of least squares, the signal variance s2 is integrated out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from tunein._math.gp import _at_centre, _free, squared_distances
from tunein._math.losses import Array

# Priors of log-hyperparameters, mean and spread, and their bounds: lengthscales; the noise of
# values, relative to the signal; that of slopes, relative to what the signal's are.
_LENGTHSCALE, _LOG_LENGTHSCALES = (np.log(0.6), 0.8), (np.log(0.03), np.log(20.0))
_NOISE, _LOG_NOISES = (np.log(1e-7), 2.0), (np.log(1e-9), np.log(0.5))
_ROUGHNESS, _LOG_ROUGHNESSES = (np.log(1e-4), 2.0), (np.log(1e-8), np.log(10.0))

# What the signal variance is held for, and for how many observations that counts.
_SIGNAL, _SEEN_BEFORE = 0.1, 1.0

# Steps of the fit at most: beyond, hyperparameters change in digits that do not matter.
_MAX_STEPS = 30


class SlopedGaussianProcess:
    """The posterior of values and slopes, at the likeliest hyperparameters.

    Parameters
    ----------
    x : ndarray of shape (n, c)
        Feature coordinates; NaN where absent.
    y : ndarray of shape (n,)
        Values.
    slopes : ndarray of shape (n, c)
        Slopes by feature coordinate; NaN where unknown.
    kinds, n_levels : sequence
        As in `squared_distances`.

    Attributes
    ----------
    theta : ndarray of shape (g + 2,)
        The likeliest log-hyperparameters: lengthscales, noise of values, noise of slopes.
    free : ndarray of shape (g,)
        Coordinates that have more than one value.
    """

    def __init__(
        self,
        x: Array,
        y: Array,
        slopes: Array,
        kinds: Sequence[str],
        n_levels: Sequence[float],
    ) -> None:
        self._kinds, self._n_levels = kinds, n_levels
        self.free = _free(n_levels)
        self.x = x
        observed = np.isfinite(slopes[:, self.free]).T  # (g, n)
        self._rows = np.concatenate([np.ones((1, len(x)), dtype=bool), observed]).ravel()
        self._y = np.concatenate([y, slopes[:, self.free].T[observed]])
        self._ones = (np.arange(len(self._y)) < len(x)).astype(np.float64)
        self._own = self._distances(x)
        self.theta = self._fit()
        self._precision, noise = self._unpack(self.theta)
        K = self._covariance(self._precision, noise)
        self._factor, self._alpha, self._mean, self._s2 = self._condition(K)

    def _distances(self, z: Array) -> tuple[Array, Array]:
        """Return D and d between z (m, c) and the points, both (m, n, g)."""
        D = squared_distances(z, self.x, self._kinds, self._n_levels)
        a, b = _at_centre(z)[:, self.free], _at_centre(self.x)[:, self.free]
        return np.moveaxis(D, 0, -1), a[:, None, :] - b[None, :, :]

    def _unpack(self, theta: Array) -> tuple[Array, Array]:
        """Return the precisions (g,) and the noise of each observation (N,)."""
        g = len(self.free)
        precision = np.exp(-2 * theta[:g])
        n = len(self.x)
        slopes = np.repeat(np.exp(theta[g + 1]) * precision, n)
        return precision, np.concatenate([np.full(n, np.exp(theta[g])), slopes])[self._rows]

    @staticmethod
    def _kernel(D: Array, d: Array, precision: Array) -> Array:
        """Return k of all values and slopes, of shape ((1 + g) m, (1 + g) n)."""
        m, n, g = D.shape
        q = np.sqrt(5 * (D @ precision))
        e = np.exp(-q)
        A, B = 5 / 3 * (1 + q) * e, 25 / 3 * e
        u = np.moveaxis(d * precision, -1, 0)  # (g, m, n)
        K = np.empty((1 + g, m, 1 + g, n))
        K[0, :, 0] = (1 + q + q * q / 3) * e
        K[0, :, 1:] = np.moveaxis(A * u, 0, 1)
        K[1:, :, 0] = -A * u
        K[1:, :, 1:] = -np.einsum("imn,jmn->imjn", B * u, u)
        i = np.arange(g)
        K[1 + i, :, 1 + i] += A * precision[:, None, None]
        return K.reshape((1 + g) * m, (1 + g) * n)

    def _covariance(self, precision: Array, noise: Array) -> Array:
        """Return K / s2 of the observations, of shape (N, N)."""
        K = self._kernel(*self._own, precision)[self._rows][:, self._rows]
        K[np.diag_indices_from(K)] += noise
        return np.asarray(K)

    def _condition(self, K: Array) -> tuple[tuple[Array, bool], Array, float, float]:
        """Return the factor of K, K^-1 (y - mean), the mean and the signal variance."""
        factor = cho_factor(K, lower=True, check_finite=False)
        solved = cho_solve(factor, np.stack([self._y, self._ones], axis=1), check_finite=False)
        mean = float(self._ones @ solved[:, 0] / (self._ones @ solved[:, 1]))
        alpha = solved[:, 0] - mean * solved[:, 1]
        q = float((self._y - mean * self._ones) @ alpha)
        return factor, alpha, mean, (q + _SEEN_BEFORE * _SIGNAL) / (len(K) + _SEEN_BEFORE)

    def _fit(self) -> Array:
        g = len(self.free)
        priors = np.array([_LENGTHSCALE] * g + [_NOISE, _ROUGHNESS])
        bounds = [_LOG_LENGTHSCALES] * g + [_LOG_NOISES, _LOG_ROUGHNESSES]

        def loss(theta: Array) -> tuple[float, Array]:
            value, slope = self._evidence(theta)
            off = (theta - priors[:, 0]) / priors[:, 1]
            return value + off @ off / 2, slope + off / priors[:, 1]

        found = minimize(
            loss,
            priors[:, 0],
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": _MAX_STEPS, "ftol": 1e-5},
        )
        return np.asarray(found.x)

    def _evidence(self, theta: Array) -> tuple[float, Array]:
        """Return minus the log evidence, up to a constant, and its gradient."""
        precision, noise = self._unpack(theta)
        g, n, rows = len(precision), len(self.x), self._rows
        K = self._covariance(precision, noise)
        try:
            factor, alpha, _, s2 = self._condition(K)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros(g + 2)
        N = len(K) + _SEEN_BEFORE
        value = N / 2 * np.log(s2) + np.log(np.diagonal(factor[0])).sum()
        inverse = cho_solve(factor, np.eye(len(K)), check_finite=False)
        # dvalue/dK, spread over the rows that were not observed
        W = np.zeros((len(rows), len(rows)))
        W[np.ix_(rows, rows)] = (inverse - np.outer(alpha, alpha) / s2) / 2
        by_precision = self._by_precision(precision, W.reshape(1 + g, n, 1 + g, n))
        by_noise = np.zeros(len(rows))
        by_noise[rows] = np.diagonal(W)[rows] * noise
        values, slopes = by_noise[:n].sum(), by_noise[n:].reshape(g, n).sum(axis=1)
        by_length = -2 * (precision * by_precision + slopes)
        return float(value), np.concatenate([by_length, [values, slopes.sum()]])

    def _by_precision(self, p: Array, W: Array) -> Array:
        """Return sum W dk/dp_j for every j; W is symmetric, of shape (1 + g, n, 1 + g, n)."""
        D, d = self._own
        q = np.sqrt(5 * (D @ p))
        e = np.exp(-q)
        A, B = 5 / 3 * (1 + q) * e, 25 / 3 * e
        # sqrt(5) B / (2 r), where u vanishes faster than r
        C = 2.5 * B / np.maximum(q, 1e-12)
        u, d = np.moveaxis(d * p, -1, 0), np.moveaxis(d, -1, 0)
        W00, W01, W11 = W[0, :, 0], np.moveaxis(W[0, :, 1:], 1, 0), W[1:, :, 1:]
        cross = (W01 * u).sum(axis=0)
        diagonal = np.einsum("imin,i->mn", W11, p)
        Wu = np.einsum("imjn,jmn->imn", W11, u)
        square = (Wu * u).sum(axis=0)
        # what multiplies D_j, then what has j by itself; off-diagonal blocks stand twice
        common = -A * W00 / 2 - B * cross - B * diagonal / 2 + C * square
        own = 2 * A * W01 * d + A * np.einsum("imin->imn", W11) - 2 * B * d * Wu
        return np.asarray(np.einsum("mn,mnj->j", common, D) + own.sum(axis=(1, 2)))

    def likeliest(self) -> SlopedGaussianProcess:
        """Return itself: there is one set of hyperparameters."""
        return self

    def predict(self, z: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation (1, m), noise left out, at features z (m, c)."""
        k = self._cross(z)[: len(z)]
        v = solve_triangular(self._factor[0], k.T, lower=True, check_finite=False)
        explained = np.einsum("ij,ij->j", v, v)
        sd = np.sqrt(self._s2 * np.maximum(1 - explained, 1e-12))
        return (self._mean + k @ self._alpha)[None], sd[None]

    def _cross(self, z: Array) -> Array:
        return self._kernel(*self._distances(z), self._precision)[:, self._rows]

    def mean_and_slope(self, z: Array) -> tuple[float, Array]:
        """Return the mean at features z (c,), and its slope in the coordinates that are free."""
        k = self._cross(z[None])
        return self._mean + float(k[0] @ self._alpha), k[1:] @ self._alpha

    def predict_gradient(
        self, z: Array, columns: NDArray[np.intp]
    ) -> tuple[Array, Array, Array, Array]:
        """Return mean and sd (1, m), and their gradients (1, m, c) in numeric `columns`, at z."""
        m, g = len(z), len(self.free)
        k = self._cross(z).reshape(1 + g, m, -1)
        solved = cho_solve(self._factor, k[0].T, check_finite=False).T
        sd = np.sqrt(self._s2 * np.maximum(1 - (k[0] * solved).sum(axis=1), 1e-12))
        own = 1 + np.searchsorted(self.free, columns)
        d_mean = np.einsum("gmN,N->mg", k[own], self._alpha)
        d_sd = -self._s2 * np.einsum("gmN,mN->mg", k[own], solved) / sd[:, None]
        return (self._mean + k[0] @ self._alpha)[None], sd[None], d_mean[None], d_sd[None]
