"""Parzen estimators on the unit cube: mixtures with one product kernel per observed point.

Notation, with shapes:

    x : (m, d)   points to evaluate        c : (n, d)   centres, the observed points
    h : (d,)     bandwidths                w : (n + 1,) weights; the last is the prior's

Densities are relative to the prior, which is uniform on the cube: the prior component is 1
everywhere, and a coordinate that either point lacks (NaN) contributes the factor 1. So densities of
points in different branches of a conditional space can be compared.

Per coordinate, with the cell [a, b] of a discrete x and Z = Phi((1 - c) / h) - Phi(-c / h):

    continuous   phi((x - c) / h) / (h Z)                        truncated normal
    ordinal      [Phi((b - c) / h) - Phi((a - c) / h)] / (Z (b - a))   its mean over the cell
    categorical  (1 - h) [x = c] / (b - a) + h                 Aitchison & Aitken 1976

Bergstra et al. 2011, "Algorithms for hyper-parameter optimization", introduced the method; the
joint kernel and the components are analysed by Watanabe 2023, "Tree-structured Parzen estimator".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import log_ndtr, ndtr, ndtri

Array: TypeAlias = NDArray[np.float64]
Cells: TypeAlias = Callable[[int, Array], tuple[Array, Array]]

_LOG_SQRT_2PI = 0.5 * np.log(2 * np.pi)

# Masses below this are worked out on logarithms: Phi itself is about to underflow.
_FAR = 1e-250

# A cell of so many bandwidths or less is a point: the mean of the density over it differs from
# that in its middle by a part in 1e9, and its mass would be a difference of equal numbers.
_NARROW = 1e-4


class ParzenMixture:
    """A density on the cube, around observed points.

    Parameters
    ----------
    centres : ndarray of shape (n, d)
        Observed points, snapped; NaN where a point lacks the coordinate.
    weights : ndarray of shape (n + 1,)
        Non-negative weights of the centres, then of the prior, which is positive; scaled to sum
        to one.
    bandwidths : ndarray of shape (d,)
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
        self.weights = weights / weights.sum()
        self.bandwidths = bandwidths
        self._kinds = np.array(kinds, dtype=object)
        self._cells = cells
        self._is_complete = not np.isnan(centres).any()

    def sample(self, rng: np.random.Generator, m: int) -> Array:
        """Draw `m` points of shape (m, d), not snapped: discrete ones lie anywhere in their cell.

        A coordinate that the drawn centre lacks comes from the prior.
        """
        n, d = self.centres.shape
        points = rng.random((m, d))
        chosen = rng.choice(n + 1, size=m, p=self.weights)
        rows = np.flatnonzero(chosen < n)
        centres = self.centres[chosen[rows]]
        for j, kind in enumerate(self._kinds):
            here = ~np.isnan(centres[:, j])
            c, h = centres[here, j], self.bandwidths[j]
            if kind == "categorical":
                kept = rng.random(len(c)) >= h
                points[rows[here][kept], j] = c[kept]
            else:
                points[rows[here], j] = _truncated_normal(c, h, points[rows[here], j])
        return points

    def log_density(self, x: Array) -> Array:
        """Return the log-density relative to the prior, shape (m,), at snapped points (m, d)."""
        with np.errstate(divide="ignore"):  # weights may be zero
            log_weights = np.log(self.weights)
        terms = np.empty((len(x), len(self.weights)))
        terms[:, :-1] = self._log_kernels(x)
        terms[:, -1] = 0.0
        terms += log_weights
        peak = terms.max(axis=1)  # finite: the prior's weight is positive
        return np.asarray(peak + np.log(np.exp(terms - peak[:, None]).sum(axis=1)))

    def _log_kernels(self, x: Array) -> Array:
        total = np.zeros((len(x), len(self.centres)))
        if self._is_complete and not np.isnan(x).any():
            smooth = np.flatnonzero(self._kinds == "continuous")
            total += self._log_normals(x[:, smooth], self.centres[:, smooth], smooth)
            rest = np.flatnonzero(self._kinds != "continuous")
        else:
            rest = np.arange(len(self._kinds))
        for j in rest.tolist():
            rows = np.flatnonzero(~np.isnan(x[:, j]))
            columns = np.flatnonzero(~np.isnan(self.centres[:, j]))
            if len(rows) and len(columns):
                block = self._log_kernel(j, x[rows, j], self.centres[columns, j])
                if block.shape == total.shape:
                    total += block  # the usual case, without a copy
                else:
                    total[np.ix_(rows, columns)] += block
        return total

    def _log_normals(self, x: Array, c: Array, columns: NDArray[np.intp]) -> Array:
        if not len(columns) or not len(c):
            return np.zeros((len(x), len(c)))
        h = self.bandwidths[columns]
        scale = (np.log(h) + _LOG_SQRT_2PI + _log_mass(-c / h, (1 - c) / h)).sum(axis=1)
        return np.asarray(-0.5 * cdist(x / h, c / h, "sqeuclidean") - scale)

    def _log_kernel(self, j: int, x: Array, c: Array) -> Array:
        """Return the log-kernel of coordinate j between x (m,) and c (n,), shape (m, n)."""
        h = self.bandwidths[j]
        if self._kinds[j] == "continuous":
            return self._log_normals(x[:, None], c[:, None], np.array([j]))
        lower, upper = self._cells(j, x)
        width = (upper - lower)[:, None]
        if self._kinds[j] == "categorical":
            return np.asarray(np.where(x[:, None] == c, np.log((1 - h) / width + h), np.log(h)))
        block = np.empty((len(x), len(c)))
        narrow = width[:, 0] < _NARROW * h
        block[narrow] = self._log_normals(x[narrow, None], c[:, None], np.array([j]))
        if not narrow.all():
            # Of the many centres, each value is worked out once.
            c, index = np.unique(c, return_inverse=True)
            a, b = lower[~narrow, None], upper[~narrow, None]
            inside = _log_mass((a - c) / h, (b - c) / h) - np.log(b - a)
            block[~narrow] = (inside - _log_mass(-c / h, (1 - c) / h)).take(index, axis=1)
        return block


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


def _truncated_normal(c: Array, h: float, u: Array) -> Array:
    """Map uniform u to normals around c, truncated to [0, 1], by their quantiles."""
    low, high = ndtr(-c / h), ndtr((1 - c) / h)
    return np.clip(c + h * ndtri(low + u * (high - low)), 0.0, 1.0)
