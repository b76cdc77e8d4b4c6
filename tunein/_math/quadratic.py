"""Regression on a mixed cube by a sum of parabolas, in no time.

Notation, with shapes (n observations, p terms):

    y : (n,)   values        A : (n, p)   terms of the points        both less their means
    b = (A'A + r I)^-1 A'y

The terms are, of a number u in [0, 1], v = u - 1/2 and v^2; of a category, one for each value that
was observed, which is 1 there and 0 elsewhere. What a point lacks has terms of 0. The penalty r
keeps small what few observations say, and lets terms be linearly dependent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

# Beside the sum of squares of a number spread over the cube, n / 12, this is little.
_PENALTY = 0.1


class Quadratic:
    """A sum of functions of one coordinate each, fitted to values at points.

    Parameters
    ----------
    units : ndarray of shape (n, d)
        Points, snapped; NaN where one lacks a coordinate.
    y : ndarray of shape (n,)
    kinds : sequence of {"continuous", "ordinal", "categorical"}
        One a coordinate.
    """

    def __init__(self, units: Array, y: Array, kinds: Sequence[str]) -> None:
        self._levels = [
            np.unique(u[~np.isnan(u)]) if kind == "categorical" else None
            for u, kind in zip(units.T, kinds, strict=True)
        ]
        terms = self._terms(units)
        A = terms - terms.mean(axis=0)
        self._slopes = _ridge(A, y - y.mean())
        self._level = float(y.mean() - terms.mean(axis=0) @ self._slopes)

    def _terms(self, units: Array) -> Array:
        blocks = []
        for u, levels in zip(units.T, self._levels, strict=True):
            if levels is None:
                v = np.where(np.isnan(u), 0.0, u - 0.5)
                blocks.append(np.column_stack([v, v * v]))
            else:
                blocks.append((u[:, None] == levels).astype(float))
        return np.concatenate(blocks, axis=1)

    def __call__(self, units: Array) -> Array:
        """Return what is expected at snapped points (m, d)."""
        return np.asarray(self._level + self._terms(units) @ self._slopes)


def _ridge(A: Array, y: Array) -> Array:
    """Return b, by the smaller system: it is A'(A A' + r I)^-1 y too."""
    n, p = A.shape
    if p > n:
        return np.asarray(A.T @ np.linalg.solve(A @ A.T + _PENALTY * np.eye(n), y))
    return np.asarray(np.linalg.solve(A.T @ A + _PENALTY * np.eye(p), A.T @ y))
