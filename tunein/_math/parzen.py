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
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri

Array: TypeAlias = NDArray[np.float64]
Cells: TypeAlias = Callable[[int, Array], tuple[Array, Array]]

_SQRT_2PI, _SQRT_HALF = np.sqrt(2 * np.pi), np.sqrt(0.5)

# Masses below this are worked out on logarithms: Phi itself is about to underflow.
_FAR = 1e-250

# No cell reaches less far to either side, in bandwidths: its mass would be a difference of equal
# numbers, and the mean of the density over one of this width differs from that in its middle by a
# part in 1e9.
_NARROW = 5e-5


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
        self.bandwidths = np.full(centres.shape, bandwidths)
        self._kinds = np.array(kinds, dtype=str)
        self._cells = cells

    def sample(self, rng: np.random.Generator, m: int) -> Array:
        """Draw `m` points of shape (m, d), not snapped: discrete ones lie anywhere in their cell.

        From the first of several mixtures. A coordinate that the drawn centre lacks comes from the
        prior.
        """
        n, d = self.centres.shape
        points: Array
        points, again = rng.random((2, m, d))
        # As rng.choice(n + 1, m, p=...) does, without its checks, which take longer.
        shares = np.atleast_2d(self.weights)[0].cumsum()
        chosen = (shares / shares[-1]).searchsorted(rng.random(m), side="right")
        moves = chosen < n
        rows, prior = chosen[moves], points[moves]
        c, h = self.centres[rows], self.bandwidths[rows]
        categorical = self._kinds == "categorical"
        moved = np.where(categorical, c, _truncated_normal(c, h, prior))
        anew = np.isnan(c) | categorical & (again[moves] < h)
        points[moves] = np.where(anew, prior, moved)
        return points

    def log_density(self, x: Array) -> Array:
        """Return log-densities relative to the prior, (m,) or (k, m), at snapped points (m, d)."""
        return self.log_densities(x)[0]

    def log_densities(self, x: Array) -> tuple[Array, Array]:
        """Return the log-density, and that of the product of the marginals; shapes as above."""
        logs = self._log_kernels(x)
        joint = self._log_joint(logs.sum(axis=0))
        # In place: a further array of this size costs more to get than to fill.
        with np.errstate(under="ignore"):
            kernels = np.exp(logs, out=logs)
        return joint, self._log_marginals(kernels).reshape(joint.shape)

    def _log_joint(self, total: Array) -> Array:
        """Return log-densities, (m,) or (k, m), from the log-kernels (m, n) of whole points."""
        # Relative to the greatest kernel, of which the prior's is one, nothing overflows.
        peak = total.max(axis=1, initial=0.0)
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

    def _log_marginals(self, kernels: Array) -> Array:
        """Return log-densities (k, m) from the kernels (d, m, n) of single coordinates."""
        weights, has = np.atleast_2d(self.weights).T, ~np.isnan(self.centres.T)
        centres, prior = weights[:-1], weights[-1]
        # A centre has no part in what it lacks. A point that lacks a coordinate has kernels of one
        # there, and is as likely as by the prior.
        mass = kernels @ (has[:, :, None] * centres) + prior
        return np.asarray(np.log(mass / (has @ centres + prior)[:, None]).sum(axis=0).T)

    def _log_kernels(self, x: Array) -> Array:
        """Return the log-kernels, coordinate by coordinate, of shape (d, m, n)."""
        lacks, is_without = np.isnan(x.T), np.isnan(self.centres.T)
        # Coordinate by coordinate, each in one piece.
        u, c = np.where(lacks, 0.5, x.T), np.where(is_without, 0.5, self.centres.T)
        h = np.ascontiguousarray(self.bandwidths.T)
        out = np.empty((*u.shape, c.shape[1]))
        if len(js := np.flatnonzero(self._kinds == "continuous")):
            out[js] = _log_normals(u[js], c[js], h[js])
        if len(js := np.flatnonzero(self._kinds == "ordinal")):
            out[js] = _log_cells(u[js], c[js], h[js], self._widths(js, u[js]))
        if len(js := np.flatnonzero(self._kinds == "categorical")):
            out[js] = _log_categories(u[js], c[js], h[js], self._widths(js, c[js]))
        if lacks.any() or is_without.any():
            out[lacks[:, :, None] | is_without[:, None, :]] = 0.0
        return out

    def _widths(self, js: NDArray[np.intp], u: Array) -> Array:
        """Return the widths of the cells of some coordinates that hold u (d, ...)."""
        ends = np.array([self._cells(j, at) for j, at in zip(js.tolist(), u, strict=True)])
        return np.asarray(ends[:, 1] - ends[:, 0])


def _log_normals(x: Array, c: Array, h: Array) -> Array:
    """Return log truncated normals (d, m, n) at x (d, m) around c (d, n)."""
    log_peak = -np.log(_SQRT_2PI * h * _inside(c, h))
    out = x[:, :, None] - c[:, None, :]
    # In place: most of the time of a suggestion where there are many observations.
    out *= (_SQRT_HALF / h)[:, None, :]
    out *= out
    np.subtract(log_peak[:, None, :], out, out=out)
    return np.asarray(out)


def _log_categories(x: Array, c: Array, h: Array, width: Array) -> Array:
    """Return log-kernels (d, m, n) of categories, with the widths (d, n) of the centres' cells."""
    kept, anew = np.log((1 - h) / width + h), np.log(h)
    return np.where(x[:, :, None] == c[:, None, :], kept[:, None, :], anew[:, None, :])


def _log_cells(x: Array, c: Array, h: Array, width: Array) -> Array:
    """Return log-kernels (d, m, n) of ordered cells around x, of widths (d, m)."""
    # Of the many centres, each value, with its bandwidth, is worked out once.
    once, j, index = _distinct(c + 1j * h)
    c, h = once.real, once.imag
    z, w = (x.take(j, axis=0).T - c) / h, width.take(j, axis=0).T / (2 * h)
    w = np.maximum(w, _NARROW)
    logs = _log_mass(z, w) - np.log(w * (2 * h * _inside(c, h)))
    return logs.take(index, axis=1).transpose(1, 0, 2)


def _distinct(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """Return the distinct values of each row, one row's after the other's.

    With them come the row of each, and where each entry of `rows` is among them.
    """
    d, n = rows.shape
    order = rows.argsort(axis=1) + n * np.arange(d)[:, None]
    ordered = rows.take(order)
    is_new = np.ones((d, n), dtype=bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    index = np.empty((d, n), dtype=np.intp)
    index.put(order, is_new.cumsum() - 1)
    return ordered[is_new], is_new.nonzero()[0], index


def _inside(c: Array, h: Array) -> Array:
    """Return the mass on [0, 1] of normals around c in [0, 1]."""
    return np.asarray(ndtr((1 - c) / h) - ndtr(-c / h))


def _log_mass(z: Array, w: Array) -> Array:
    """Return log(Phi(z + w) - Phi(z - w)), exact in both tails."""
    # In the lower tail, where the difference of two small numbers loses nothing.
    z = -np.abs(z)
    a, b = z - w, z + w
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
    return np.minimum(np.maximum(c + h * ndtri(low + u * (high - low)), 0.0), 1.0)
