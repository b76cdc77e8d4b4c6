"""Parzen estimators on the unit cube: mixtures with one product kernel per observed point.

Notation, with shapes:

    x : (m, d)   points to evaluate        c : (n, d)   centres, the observed points
    h : (n, d)   bandwidths                w : (k, n + 1) weights; the last is the prior's

There are k mixtures of the same kernels, with weights of their own: those of good and of bad
points. Densities are relative to the prior, which is uniform on the cube: the prior component is 1
everywhere, and a coordinate that either point lacks (NaN) contributes the factor 1. So densities of
points in different branches of a conditional space can be compared.

Per coordinate, with the cell [a, b] of a discrete x and Z = Phi((1 - c) / h) - Phi(-c / h):

    continuous   phi((x - c) / h) / (h Z)                        truncated normal
    ordinal      [Phi((b - c) / h) - Phi((a - c) / h)] / (Z (b - a))   its mean over the cell
    categorical  (1 - h) [x = c] / (b - a) + h                 Aitchison & Aitken 1976

The kernel of a point is the product over its coordinates. Beside the density that this makes, there
is the product of the marginal densities, each of one coordinate, over the centres that have it.

Bergstra et al. 2011, "Algorithms for hyper-parameter optimization", introduced the method, with
marginal densities; the joint kernel and the components are analysed by Watanabe 2023,
"Tree-structured Parzen estimator".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri

Array: TypeAlias = NDArray[np.float64]
Cells: TypeAlias = Callable[[int, Array], tuple[Array, Array]]

_LOG_SQRT_2PI = 0.5 * np.log(2 * np.pi)

# Masses below this are worked out on logarithms: Phi itself is about to underflow.
_FAR = 1e-250

# A cell of so many bandwidths or less is a point: the mean of the density over it differs from
# that in its middle by a part in 1e9, and its mass would be a difference of equal numbers.
_NARROW = 1e-4


class ParzenMixture:
    """A density on the cube around observed points, or several.

    Parameters
    ----------
    centres : ndarray of shape (n, d)
        Observed points, snapped; NaN where a point lacks the coordinate.
    weights : ndarray of shape (n + 1,) or (k, n + 1)
        Non-negative weights of the centres, then of the prior, which is positive; scaled to sum
        to one. If it has two axes, densities have a first axis of length k.
    bandwidths : ndarray of shape (d,) or (n, d)
        Standard deviations of the kernels; of a categorical coordinate, the probability of
        drawing anew from the prior.
    kinds : sequence of {"continuous", "ordinal", "categorical"}
        One a coordinate.
    cells : callable
        ``cells(j, u)`` returns the lower and upper ends of the cells of coordinate j that hold u.
    """

    def __init__(
        self,
        centres: Array,
        weights: Array,
        bandwidths: Array,
        kinds: Sequence[str],
        cells: Cells,
    ) -> None:
        self.centres = centres
        self.weights = weights / weights.sum(axis=-1, keepdims=True)
        self.bandwidths = bandwidths
        self._kinds = np.array(kinds, dtype=object)
        self._cells = cells
        self._has = ~np.isnan(centres)
        self._is_complete = bool(self._has.all())

    def sample(self, rng: np.random.Generator, m: int) -> Array:
        """Draw `m` points of shape (m, d), not snapped: discrete ones lie anywhere in their cell.

        From the first of several mixtures. A coordinate that the drawn centre lacks comes from the
        prior.
        """
        n, d = self.centres.shape
        points: Array = rng.random((m, d))
        again = rng.random((m, d))
        chosen = rng.choice(n + 1, size=m, p=np.atleast_2d(self.weights)[0])
        rows = chosen[chosen < n]
        c, h = self.centres[rows], np.broadcast_to(self.bandwidths, (n, d))[rows]
        prior = points[chosen < n]
        categorical = self._kinds == "categorical"
        moved = np.where(categorical, c, _truncated_normal(c, h, prior))
        anew = np.isnan(c) | categorical & (again[chosen < n] < h)
        points[chosen < n] = np.where(anew, prior, moved)
        return points

    def log_density(self, x: Array) -> Array:
        """Return log-densities relative to the prior, (m,) or (k, m), at snapped points (m, d)."""
        return self._log_joint(self._log_kernels(x))

    def log_densities(self, x: Array) -> tuple[Array, Array]:
        """Return the log-density, and that of the product of the marginals; shapes as above."""
        kernels = self._log_kernels(x)
        return self._log_joint(kernels), self._log_marginals(kernels, ~np.isnan(x))

    def _log_joint(self, kernels: Array) -> Array:
        total = kernels.sum(axis=0)
        # Relative to the greatest kernel, of which the prior's is one, nothing overflows.
        peak = np.maximum(total.max(axis=1, initial=0.0), 0.0)
        scaled = np.exp(total - peak[:, None])
        centres, prior = self.weights[..., :-1], self.weights[..., -1:]
        density = centres @ scaled.T + prior * np.exp(-peak)
        if density.all():
            return np.asarray(peak + np.log(density))
        # Of thousands of parameters: from the peak of one mixture nothing of another is in sight.
        with np.errstate(divide="ignore"):
            weights = np.log(self.weights)[..., None, :]
        all_kernels = np.append(total, np.zeros((len(total), 1)), axis=1)
        return np.asarray(logsumexp(all_kernels + weights, axis=-1))

    def _log_marginals(self, kernels: Array, present: NDArray[np.bool_]) -> Array:
        with np.errstate(under="ignore"):
            density = np.exp(kernels)
        centres, prior = self.weights[..., :-1], self.weights[..., -1:]
        out = np.zeros((*self.weights.shape[:-1], len(present)))
        for j, here in enumerate(self._has.T):
            mass = centres[..., here] @ density[j][:, here].T + prior
            logs = np.log(mass / (centres[..., here].sum(axis=-1, keepdims=True) + prior))
            out += np.where(present[:, j], logs, 0.0)
        return out

    def _log_kernels(self, x: Array) -> Array:
        """Return the log-kernels, coordinate by coordinate, of shape (d, m, n)."""
        out = np.empty((x.shape[1], len(x), len(self.centres)))
        u, c = np.where(np.isnan(x), 0.5, x), np.where(self._has, self.centres, 0.5)
        h = np.broadcast_to(self.bandwidths, c.shape)
        smooth = np.flatnonzero(self._kinds == "continuous")
        out[smooth] = _log_normals(u[:, smooth], c[:, smooth], h[:, smooth])
        for j in np.flatnonzero(self._kinds != "continuous").tolist():
            lower, upper = self._cells(j, u[:, j])
            kernel = _log_categories if self._kinds[j] == "categorical" else _log_cells
            out[j] = kernel(u[:, j], c[:, j], h[:, j], lower, upper)
        if not self._is_complete or np.isnan(x).any():
            out[np.isnan(x).T[:, :, None] | ~self._has.T[:, None, :]] = 0.0
        return out


def _log_normals(x: Array, c: Array, h: Array) -> Array:
    """Return log truncated normals of each coordinate, (d, m, n), at x (m, d) around c (n, d)."""
    scale = np.log(h) + _LOG_SQRT_2PI + _log_mass(-c / h, (1 - c) / h)
    out = x.T[:, :, None] - c.T[:, None, :]
    # In place: most of the time of a suggestion where there are many observations.
    out /= h.T[:, None, :]
    out *= out
    out *= -0.5
    out -= scale.T[:, None, :]
    return np.asarray(out)


def _log_categories(x: Array, c: Array, h: Array, lower: Array, upper: Array) -> Array:
    """Return log-kernels (m, n) of a categorical coordinate."""
    kept = np.log((1 - h) / (upper - lower)[:, None] + h)
    return np.asarray(np.where(x[:, None] == c, kept, np.log(h)))


def _log_cells(x: Array, c: Array, h: Array, lower: Array, upper: Array) -> Array:
    """Return log-kernels (m, n) of an ordinal coordinate."""
    # Of the many centres, each value, with its bandwidth, is worked out once.
    once, index = np.unique(c + 1j * h, return_inverse=True)
    c, h = once.real, once.imag
    width = (upper - lower)[:, None]
    wide = width[:, 0] >= _NARROW * h.min(initial=np.inf)
    block = np.empty((len(x), len(c)))
    block[~wide] = _log_normals(x[~wide, None], c[:, None], h[:, None])[0]
    a, b = lower[wide, None], upper[wide, None]
    inside = _log_mass((a - c) / h, (b - c) / h) - np.log(width[wide])
    block[wide] = inside - _log_mass(-c / h, (1 - c) / h)
    return np.asarray(block.take(index, axis=1))


def _log_mass(a: Array, b: Array) -> Array:
    """Return log(Phi(b) - Phi(a)) for a < b, exact in both tails."""
    # Mirrored into the lower tail, where the difference of two small numbers loses nothing.
    upper = a > 0
    a, b = np.where(upper, -b, a), np.where(upper, -a, b)
    mass = ndtr(b) - ndtr(a)
    far = mass < _FAR
    if not far.any():
        return np.asarray(np.log(mass))
    log_mass = np.log(np.where(far, 1.0, mass))
    log_b = log_ndtr(b[far])
    log_mass[far] = log_b + np.log1p(-np.exp(log_ndtr(a[far]) - log_b))
    return np.asarray(log_mass)


def _truncated_normal(c: Array, h: Array, u: Array) -> Array:
    """Map uniform u to normals around c, truncated to [0, 1], by their quantiles."""
    low, high = ndtr(-c / h), ndtr((1 - c) / h)
    return np.clip(c + h * ndtri(low + u * (high - low)), 0.0, 1.0)
