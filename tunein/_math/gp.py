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

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs, dtrtri
from scipy.optimize import Bounds, minimize

Array: TypeAlias = NDArray[np.float64]

# Bounds of the log-hyperparameters: from where a kernel is noise to where it is flat.
_LOG_LENGTHSCALE = (np.log(5e-3), np.log(1e2))
_LOG_SIGNAL = (np.log(5e-2), np.log(2e1))
_LEAST_LOG_NOISE = np.log(1e-6)

# Added to the diagonal beside the noise, relative to the signal: repeated points stay factorable.
_JITTER = 1e-8

# Slopes of the log-posterior that need no further steps: a log-hyperparameter is known no better
# than to some tenths.
_FITTED = 0.01

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
    x, z = x[:, free].T, z[:, free].T
    out = _at_centre(x)[:, :, None] - _at_centre(z)[:, None, :]
    out *= out
    for i, j in enumerate(free.tolist()):
        if kinds[j] == "categorical":
            out[i] = x[i, :, None] != z[i]
            lacks_x, lacks_z = np.isnan(x[i]), np.isnan(z[i])
            if lacks_x.any() or lacks_z.any():
                out[i][lacks_x[:, None] != lacks_z] = (1 - 1 / n_levels[j]) / 2
                out[i][np.ix_(lacks_x, lacks_z)] = 0
    return out


def n_present(x: Array, n_levels: Sequence[float]) -> float:
    """Return how many of the coordinates that have more than one value a point has, on average."""
    return float((~np.isnan(x[:, _free(n_levels)])).sum(axis=1).mean())


def _free(n_levels: Sequence[float]) -> NDArray[np.intp]:
    """Return the coordinates that have more than one value: others tell nothing."""
    return np.flatnonzero(np.array(n_levels) > 1)


def _at_centre(x: Array) -> Array:
    """Return x with absent numbers in the middle."""
    return np.where(np.isnan(x), 0.5, x)


def matern52(r: Array) -> tuple[Array, Array]:
    """Return M(r) and dM/dr."""
    q = np.sqrt(5 * r)
    e = np.exp(-q)
    tail = (1 + q) * e
    return tail + 5 / 3 * r * e, -5 / 6 * tail


def rational_quadratic(r: Array) -> Array:
    """Return C(r)."""
    return np.asarray(1 / (1 + 0.5 * r))


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
    def of_dimension(cls, g: float, most_noise: float = 1.0) -> Prior:
        """Let lengthscales grow with the root of the dimension (Hvarfner et al. 2024).

        Theirs is wider; from tens of candidates the lengthscales of a handful of hyperparameters
        cannot be told so freely. Where points lack coordinates, the dimension is how many they
        have: those of other branches do not part them.
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


class LogPosterior:
    """Log-evidence plus log-prior of log-hyperparameters.

    Parameters
    ----------
    D : ndarray of shape (g, n, n)
    y : ndarray of shape (n,)
        Standardised.
    prior : Prior
    weights : ndarray of shape (n,) or None
        Relative noise variances; None for equal ones.
    """

    def __init__(self, D: Array, y: Array, prior: Prior, weights: Array | None = None) -> None:
        self.g, n = len(D), len(y)
        self.prior, self.bounds = prior, prior.bounds(self.g)
        self._mean, self._sd = prior.spread(self.g)
        self._y, self._weights = y, np.ones(n) if weights is None else weights
        # Of a symmetric matrix, what is above the diagonal: half of the work.
        self._pairs = np.flatnonzero(np.tri(n, k=-1).T)
        self._D = D.reshape(self.g, -1)[:, self._pairs]

    @classmethod
    def of(
        cls,
        x: Array,
        y: Array,
        kinds: Sequence[str],
        n_levels: Sequence[float],
        weights: Array | None = None,
        most_noise: float = 1.0,
    ) -> LogPosterior:
        """Return that of points, of as many dimensions as they have coordinates."""
        prior = Prior.of_dimension(n_present(x, n_levels), most_noise)
        return cls(squared_distances(x, x, kinds, n_levels), y, prior, weights)

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Return the value, ``-inf`` where K cannot be factored, and its gradient at theta."""
        g, y, D = self.g, self._y, self._D
        precision, signal, noise = np.exp(-2 * theta[:g]), np.exp(theta[g]), np.exp(theta[g + 1])
        single = 0.5 * precision[:, None] * D  # in place from here on: it may be large
        single += 1
        np.reciprocal(single, out=single)
        joint, slope = matern52(precision @ D)
        k = (1 - _ADDITIVE) * joint + _ADDITIVE / g * (np.ones(g) @ single)  # sooner than a sum
        K = np.zeros((len(y), len(y)))
        K.ravel()[self._pairs] = signal * k
        K.ravel()[:: len(y) + 1] = noise * self._weights + (1 + _JITTER) * signal
        # LAPACK counts along columns, so to it these are the lower halves, and it works in place.
        L, failed = dpotrf(K.T, lower=True, clean=False, overwrite_a=True)
        if failed:
            return -np.inf, np.zeros_like(theta)
        a, _ = dpotrs(L, y, lower=True)
        value = -0.5 * y @ a - np.log(np.diag(L)).sum() - 0.5 * len(y) * np.log(2 * np.pi)
        K_inv, _ = dpotri(L, lower=True, overwrite_c=True)
        # d log p / d K: that of a pair, which stands there twice, and of the diagonal.
        S = np.outer(a, a).ravel()[self._pairs] - K_inv.T.ravel()[self._pairs]
        S_own = 0.5 * (a * a - np.diag(K_inv))
        # dr_j/d log l_j = -2 r_j, and r C(r)^2 / 2 = C(r) - C(r)^2
        by_joint = (1 - _ADDITIVE) * precision * (D @ (slope * S))
        by_single = -(single @ S)
        single *= single
        by_single += single @ S
        by_signal = signal * (S @ k + (1 + _JITTER) * S_own.sum())
        by_noise = noise * (S_own @ self._weights)
        by_length = -2 * signal * (by_joint + _ADDITIVE / g * by_single)
        gradient = np.append(by_length, [by_signal, by_noise])
        log_prior, slope_of_prior = self.log_prior(theta)
        return float(value + log_prior), gradient + slope_of_prior

    def log_prior(self, theta: Array) -> tuple[float, Array]:
        """Return the log-prior, and its gradient, at theta."""
        # A log-normal density of exp(theta): -theta - (theta - mean)^2 / (2 sd^2).
        off = (theta - self._mean) / self._sd
        return -float(theta.sum() + 0.5 * off @ off), -1 - off / self._sd


def fit(log_posterior: LogPosterior, start: Array | None = None) -> Array:
    """Return the log-hyperparameters of highest posterior density found from `start`.

    If `start` leads nowhere, the prior's mode is tried, and is the answer if that fails too.

    Parameters
    ----------
    log_posterior : LogPosterior
    start : ndarray of shape (g + 2,) or None
        The last answer, usually.

    Returns
    -------
    theta : ndarray of shape (g + 2,)
    """
    bounds = log_posterior.bounds

    def loss(theta: Array) -> tuple[float, Array]:
        value, gradient = log_posterior(theta)
        return (-value, -gradient) if np.isfinite(value) else (1e25, np.zeros_like(theta))

    theta = log_posterior.prior.mode(log_posterior.g)
    least = loss(theta)[0]
    for x0 in (theta,) if start is None else (start, theta):
        found = minimize(
            loss,
            np.clip(x0, *bounds.T),
            jac=True,
            bounds=Bounds(*bounds.T),
            method="L-BFGS-B",
            options={"maxiter": 50, "gtol": _FITTED},
        )
        if np.isfinite(found.fun) and found.fun < least:
            return np.asarray(found.x)
    return theta


def draw(
    theta: Array, log_posterior: LogPosterior, rng: np.random.Generator, n_draws: int
) -> Array:
    """Draw log-hyperparameters around their mode, from Laplace's approximation of the posterior.

    Parameters
    ----------
    theta : ndarray of shape (g + 2,)
        The mode.
    log_posterior : LogPosterior
    rng : numpy Generator
    n_draws : int

    Returns
    -------
    draws : ndarray of shape (n_draws, g + 2)
        Within the bounds.
    """
    size, step = len(theta), 0.01
    here = log_posterior(theta)[1]
    ahead = [log_posterior(theta + shift)[1] for shift in step * np.eye(size)]
    hessian = (here - np.array(ahead)) / step
    curvature, directions = np.linalg.eigh((hessian + hessian.T) / 2)
    # Where the mode lies on a bound the curvature may be anything; half the prior's is the least.
    spread = log_posterior.prior.spread(log_posterior.g)[1].max()
    curvature = np.maximum(curvature, 0.5 / spread**2)
    # The symmetric root: the signs of the directions, and which of them span a plane of equal
    # curvature, are up to rounding, and the draws must not be.
    root = (directions / np.sqrt(curvature)) @ directions.T
    steps = rng.standard_normal((n_draws, size)) @ root
    return np.asarray(np.clip(theta + steps, *log_posterior.bounds.T))


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

    Attributes
    ----------
    fitted : ndarray of shape (n,) or (s, n)
        Posterior mean at the observations.
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
        i = np.arange(len(x))
        noise = np.exp(rows[:, g + 1, None]) * own + _JITTER * self._signal[:, None]
        k[:, i, i] += noise
        L = np.linalg.cholesky(k)
        each = np.broadcast_to(y, (len(rows), len(x)))
        self._alpha = np.stack(
            [cho_solve((one, True), values) for one, values in zip(L, each, strict=True)]
        )
        self.fitted = self._shaped(each - noise * self._alpha)
        # Inverted once: a product for all sets is worked out sooner than a solution for each.
        self._whiten = np.stack([dtrtri(one, lower=True)[0].T for one in L])

    def _kernel(self, x: Array) -> Array:
        """Return k between x (m, c) and the observations, of shape (s, m, n)."""
        # In place, and as few passes as there can be: most of the time of a search's thoughts.
        D = squared_distances(x, self.x, self._kinds, self._n_levels)
        shape = (len(self._signal), len(x), len(self.x))
        k, term = np.zeros(shape), np.empty(shape)
        for half, d in zip(0.5 * self._precision.T, D, strict=True):
            np.multiply(half[:, None, None], d, out=term)
            term += 1
            np.reciprocal(term, out=term)
            k += term
        k *= _ADDITIVE / len(D)
        joint = (5 * self._precision @ D.reshape(len(D), -1)).reshape(shape)  # q^2
        q = np.sqrt(joint, out=term)
        joint /= 3
        joint += q
        joint += 1
        np.negative(q, out=q)
        joint *= np.exp(q, out=q)
        joint *= 1 - _ADDITIVE
        k += joint
        k *= self._signal[:, None, None]
        return k

    def likeliest(self) -> GaussianProcess:
        """Return the posterior of the first set of hyperparameters, itself if there is no other."""
        if len(self._signal) == 1:
            return self
        one = copy.copy(self)
        for name in ("theta", "fitted", "_precision", "_signal", "_alpha", "_whiten"):
            setattr(one, name, getattr(self, name)[:1])
        return one

    def _shaped(self, values: Array) -> Array:
        return values if self.theta.ndim == 2 else np.asarray(values[0])

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return posterior mean and standard deviation, noise left out, at x of shape (m, g)."""
        mean, explained = np.empty((2, len(self._signal), len(x)))
        size = max(1, _BLOCK // (len(self._signal) * len(self.x)))
        for i in range(0, len(x), size):
            k = self._kernel(x[i : i + size])
            v = k @ self._whiten
            mean[:, i : i + size] = np.einsum("smn,sn->sm", k, self._alpha)
            explained[:, i : i + size] = np.einsum("smn,smn->sm", v, v)
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
        v = k @ self._whiten
        mean = np.einsum("smn,sn->sm", k, self._alpha)
        sd = self._sd(np.einsum("smn,smn->sm", v, v))
        d_mean = np.einsum("csmn,sn->smc", dk, self._alpha)
        d_sd = -np.einsum("csmn,smn->smc", dk, v @ self._whiten.swapaxes(1, 2)) / sd[:, :, None]
        shaped = self._shaped
        return shaped(mean), shaped(sd), shaped(d_mean), shaped(d_sd)

    def _kernel_with_slope(self, x: Array, columns: NDArray[np.intp]) -> tuple[Array, Array]:
        """Return k (s, m, n) and its gradients (c, s, m, n) in the numeric `columns` at x (m, c).

        For few points: all coordinates at once, which `_kernel` avoids.
        """
        D = squared_distances(x, self.x, self._kinds, self._n_levels)
        own = np.searchsorted(_free(self._n_levels), columns)  # their layers of D
        precision, signal = self._precision.T[:, :, None, None], self._signal[:, None, None]
        r = precision * D[:, None]
        single = rational_quadratic(r)
        joint, by_joint = matern52(r.sum(axis=0))
        k = (1 - _ADDITIVE) * joint + _ADDITIVE / len(D) * single.sum(axis=0)
        by_r = (1 - _ADDITIVE) * by_joint - _ADDITIVE / len(D) * 0.5 * single[own] ** 2
        # dr_j/dx_j = 2 (x_j - x_ij) / l_j^2
        gap = _at_centre(x[:, columns]).T[:, :, None] - self._centred[:, columns].T[:, None, :]
        return signal * k, (2 * signal * precision[own]) * by_r * gap[:, None]
