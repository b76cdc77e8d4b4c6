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

Most arrays are small, so what counts is how many calls of numpy it takes: coordinates of a kind are
worked out together, which puts them into another order, and so are all marginal densities and the
joint one.

Bergstra et al. 2011, "Algorithms for hyper-parameter optimization", introduced the method, with
marginal densities; the joint kernel and the components are analysed by Watanabe 2023,
"Tree-structured Parzen estimator".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri

Array: TypeAlias = NDArray[np.float64]
Widths: TypeAlias = Callable[[int, Array], Array]

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
    widths : callable
        ``widths(j, u)`` returns the widths of the cells of the discrete coordinate j that hold u.
    """

    def __init__(
        self,
        centres: Array,
        weights: Array,
        bandwidths: Array,
        kinds: Sequence[str],
        widths: Widths,
    ) -> None:
        self.centres = centres
        self.weights = weights / np.add.reduce(weights, axis=-1, keepdims=True)
        self.bandwidths = bandwidths if bandwidths.ndim == 2 else np.full(centres.shape, bandwidths)
        self._sorted = _sort(tuple(kinds))
        self._width = widths
        self._are_whole = not np.count_nonzero(np.isnan(centres))

    def sample(self, rng: np.random.Generator, m: int) -> Array:
        """Draw `m` points of shape (m, d), not snapped: discrete ones lie anywhere in their cell.

        From the first of several mixtures. A coordinate that the drawn centre lacks comes from the
        prior.
        """
        n, d = self.centres.shape
        prior, again = rng.random((2, m, d))
        if n == 0:
            return np.asarray(prior)
        # As rng.choice(n + 1, m, p=...) does, without its checks, which take longer.
        shares = (self.weights if self.weights.ndim == 1 else self.weights[0]).cumsum()
        chosen = (shares / shares[-1]).searchsorted(rng.random(m), side="right")
        # What is drawn from the prior gets the last centre, too, which does not count.
        c = self.centres.take(chosen, axis=0, mode="clip")
        h = self.bandwidths.take(chosen, axis=0, mode="clip")
        categorical = self._sorted.are_categorical
        anew = categorical & (again < h)
        anew |= (chosen == n)[:, None]
        if not self._are_whole:
            anew |= np.isnan(c)
        return np.where(anew, prior, np.where(categorical, c, _truncated_normal(c, h, prior)))

    def log_density(self, x: Array) -> Array:
        """Return log-densities relative to the prior, (m,) or (k, m), at snapped points (m, d)."""
        return self.log_densities(x)[0]

    def log_densities(self, x: Array) -> tuple[Array, Array]:
        """Return the log-density, and that of the product of the marginals; shapes as above."""
        # What holds of each coordinate holds of all together, which are one more.
        logs, prior = self._log_kernels(x), np.zeros((x.shape[1] + 1, len(x), 1))
        together = np.add.reduce(logs[:-1], axis=0, out=logs[-1])
        # Relative to the greatest kernel, of which the prior's is one, nothing overflows.
        peak = np.maximum.reduce(together, axis=1, initial=0.0)
        together -= peak[:, None]
        prior[-1, :, 0] -= peak
        # In place: a further array of this size costs more to get than to fill.
        with np.errstate(under="ignore"):
            mass = self._masses(np.exp(logs, out=logs), np.exp(prior, out=prior))
        shape = (*self.weights.shape[:-1], len(x))
        marginal = np.add.reduce(np.log(mass[:-1]), axis=0).T.reshape(shape)
        # Of thousands of parameters: from the peak of one mixture nothing of another is in sight.
        if not mass[-1].all():
            return self._log_joint(x), marginal
        return (np.log(mass[-1]).T + peak).reshape(shape), marginal

    def _log_joint(self, x: Array) -> Array:
        """Return the log-density on logarithms throughout, which takes longer."""
        total = np.zeros((len(x), len(self.centres) + 1))
        np.add.reduce(self._log_kernels(x)[:-1], axis=0, out=total[:, :-1])
        with np.errstate(divide="ignore"):
            weights = np.log(self.weights)[..., None, :]
        return np.asarray(logsumexp(total + weights, axis=-1))

    def _masses(self, kernels: Array, prior: Array) -> Array:
        """Return densities (d + 1, m, k) from kernels, the prior's of shape (d + 1, m, 1)."""
        weights = self.weights.reshape(-1, self.weights.shape[-1]).T
        centres, anew = weights[:-1], weights[-1]
        if self._are_whole:
            return np.asarray(kernels @ centres + prior * anew)
        # A centre has no part in what it lacks. A point that lacks a coordinate has kernels of one
        # there, and is as likely as by the prior.
        has = np.ones((len(kernels), len(centres)))
        has[:-1] = ~np.isnan(self.centres.T.take(self._sorted.order, axis=0))
        mass = kernels @ (has[:, :, None] * centres) + prior * anew
        return np.asarray(mass / (has @ centres + anew)[:, None])

    def _log_kernels(self, x: Array) -> Array:
        """Return the log-kernels of the coordinates, sorted by kind, and room for one more.

        Of shape (d + 1, m, n).
        """
        order, i, j, _ = self._sorted
        # Coordinate by coordinate, each in one piece.
        u, c = x.T.take(order, axis=0), self.centres.T.take(order, axis=0)
        h = self.bandwidths.T.take(order, axis=0)
        lacks = np.isnan(u)
        are_whole = self._are_whole and not np.count_nonzero(lacks)
        if not are_whole:
            is_without = np.isnan(c)
            u[lacks] = c[is_without] = 0.5
        out = np.empty((len(u) + 1, len(x), c.shape[1]))
        if i > 0:
            _log_normals(u[:i], c[:i], h[:i], out[:i])
        if j > i:
            _log_cells(u[i:j], c[i:j], h[i:j], self._widths(order[i:j], u[i:j]), out[i:j])
        if len(u) > j:
            _log_categories(u[j:], c[j:], h[j:], self._widths(order[j:], c[j:]), out[j:-1])
        if not are_whole:
            out[:-1][lacks[:, :, None] | is_without[:, None, :]] = 0.0
        return out

    def _widths(self, js: NDArray[np.intp], u: Array) -> Array:
        """Return the widths of the cells of some coordinates that hold u (d, ...)."""
        return np.array([self._width(j, at) for j, at in zip(js.tolist(), u, strict=True)])


class _Sorted(NamedTuple):
    """Coordinates by kind: the first `i` in `order` are continuous, those to `j` ordinal."""

    order: NDArray[np.intp]
    i: int
    j: int
    are_categorical: NDArray[np.bool_]  # not in this order


@lru_cache(maxsize=8)
def _sort(kinds: tuple[str, ...]) -> _Sorted:
    """Sort coordinates by kind: once for a space, not for each suggestion."""
    every = np.array(kinds, dtype=str)
    parts = [np.flatnonzero(every == kind) for kind in ("continuous", "ordinal", "categorical")]
    i, j = np.cumsum([len(part) for part in parts])[:2].tolist()
    return _Sorted(np.concatenate(parts), i, j, every == "categorical")


def _log_normals(x: Array, c: Array, h: Array, out: Array) -> None:
    """Set `out` to log truncated normals (d, m, n) at x (d, m) around c (d, n)."""
    log_peak = -np.log(_SQRT_2PI * h * _inside(c, h))
    # In place: most of the time of a suggestion where there are many observations.
    np.subtract(x[:, :, None], c[:, None, :], out=out)
    out *= (_SQRT_HALF / h)[:, None, :]
    out *= out
    np.subtract(log_peak[:, None, :], out, out=out)


def _log_categories(x: Array, c: Array, h: Array, width: Array, out: Array) -> None:
    """Set `out` to log-kernels (d, m, n) of categories; (d, n) are the widths of those of c."""
    kept, anew = np.log((1 - h) / width + h), np.log(h)
    np.copyto(out, anew[:, None, :])
    np.copyto(out, kept[:, None, :], where=x[:, :, None] == c[:, None, :])


def _log_cells(x: Array, c: Array, h: Array, width: Array, out: Array) -> None:
    """Set `out` to log-kernels (d, m, n) of ordered cells around x, of widths (d, m)."""
    # Of the many centres, each value, with its bandwidth, is worked out once.
    once, j, index = _distinct(c + 1j * h)
    c, h = once.real, once.imag
    z, w = (x.T.take(j, axis=1) - c) / h, width.T.take(j, axis=1) / (2 * h)
    np.maximum(w, _NARROW, out=w)
    logs = _log_mass(z, w)
    logs -= np.log(w * (2 * h * _inside(c, h)))
    out[:] = logs.take(index, axis=1).transpose(1, 0, 2)


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
    if not np.count_nonzero(far):
        return np.asarray(np.log(mass))
    log_mass = np.log(np.where(far, 1.0, mass))
    log_b = log_ndtr(b[far])
    log_mass[far] = log_b + np.log1p(-np.exp(log_ndtr(a[far]) - log_b))
    return np.asarray(log_mass)


def _truncated_normal(c: Array, h: Array, u: Array) -> Array:
    """Map uniform u to normals around c, truncated to [0, 1], by their quantiles."""
    low, high = ndtr(-c / h), ndtr((1 - c) / h)
    return np.minimum(np.maximum(c + h * ndtri(low + u * (high - low)), 0.0), 1.0)
