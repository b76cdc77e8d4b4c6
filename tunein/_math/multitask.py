"""Least squares of several targets with rows of coefficients that vanish together.

The inner problem, with weights s that sum to one, W (p, k) and norms |W_j| of its rows::

    min over W, b of  sum_i s_i |y_i - W' x_i - b|^2 / 2 + a1 sum_j |W_j| + a2 / 2 |W|^2

On the rows that are not zero it is smooth. With G the curvature of features centred, and
U_j = W_j / |W_j|, its curvature maps V to ``(G + a2) V + a1 / |W_j| (V_j - U_j U_j' V_j)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunein._math.implicit import Factor, conjugate_gradients
from tunein._math.losses import Array
from tunein._math.matrices import dense, is_sparse

# Newton steps at most, and the part of the objective below which one promises nothing.
_MAX_STEPS, _NOTHING = 60, 1e-22

# A row this much shorter than the longest is on its way to zero.
_VANISHING = 1e-9

# How far each step, and the adjoint, is solved by conjugate gradients, and their rounds at most.
_STEP, _ADJOINT, _MAX_ROUNDS = 1e-3, 1e-12, 2000


@dataclass(frozen=True)
class MultiTask:
    """The inner problem; see the module."""

    X: Any
    Y: Array
    s: Array
    a1: float
    a2: float
    intercept: bool


@dataclass(frozen=True)
class _Rows:
    """The problem on some features: a quadratic of their centred products, and the norms."""

    G: Array
    XY: Array
    rest: float
    a1: float
    a2: float

    def objective(self, W: Array) -> float:
        fit = float((W * (self.G @ W)).sum()) / 2 - float((W * self.XY).sum()) + self.rest
        norms = np.linalg.norm(W, axis=1).sum()
        return fit + self.a1 * float(norms) + self.a2 / 2 * float((W * W).sum())

    def slope(self, W: Array) -> Array:
        norms = _norms(W)
        return np.asarray(self.G @ W - self.XY + self.a2 * W + self.a1 * W / norms)

    def solve(self, W: Array, V: Array, tol: float) -> Array:
        """Solve for the curvature at W, preconditioned by it without its ``U U'``."""
        norms = _norms(W)
        U, ridge = W / norms, self.a2 + self.a1 / norms
        factor = Factor(self.G + np.diag(ridge[:, 0]))

        def times(A: Array) -> Array:
            along = U * (U * A).sum(axis=1, keepdims=True)
            return np.asarray(self.G @ A + ridge * A - self.a1 / norms * along)

        return conjugate_gradients(times, V, factor.solve, tol, _MAX_ROUNDS)[0]


@dataclass(frozen=True)
class MultiTaskOptimum:
    """Where a `MultiTask` is least: W (p, k), b (k,), residuals (n, k) and features in use."""

    problem: MultiTask
    W: Array
    b: Array
    residual: Array
    support: NDArray[np.intp]
    rows: _Rows
    mean: Array

    def adjoint(self, V: Array, v0: Array) -> tuple[Array, Array]:
        """Return U (p, k) and X U + u0 (n, k) for the slopes of a loss in W and b."""
        U, at = np.zeros_like(self.W), self.support
        if self.problem.intercept:
            V = V - np.outer(self.mean, v0)
        if len(at):
            U[at] = self.rows.solve(self.W[at], V[at], _ADJOINT)
        t = self.problem.X @ U
        # The weights sum to one, so v0 is the mean of t.
        return U, t + (v0 - self.mean @ U) if self.problem.intercept else t


def multitask_optimum(problem: MultiTask, W: Array) -> MultiTaskOptimum | None:
    """Go from near an optimum to it by Newton's steps on its rows; None if that leaves them."""
    s, X = problem.s, problem.X
    p = X.shape[1]
    mean = np.asarray(X.T @ s) if problem.intercept else np.zeros(p)
    y0 = s @ problem.Y if problem.intercept else np.zeros(problem.Y.shape[1])
    support = np.flatnonzero(np.any(W != 0, axis=1)) if problem.a1 > 0 else np.arange(p)
    XS, target = (X if len(support) == p else X[:, support]), problem.Y - y0
    rows = _Rows(
        *_products(XS, target, s, mean[support]),
        float(s @ (target**2).sum(axis=1)) / 2,
        problem.a1,
        problem.a2,
    )
    found = _newton(rows, W[support]) if len(support) else W[support]
    if found is None:
        return None
    W = np.zeros_like(W)
    W[support] = found
    b = y0 - mean @ W
    residual = X @ W + b - problem.Y
    if problem.a1 > 0:
        held = np.ones(p, dtype=bool)
        held[support] = False
        pull = np.linalg.norm((X.T @ (s[:, None] * residual))[held], axis=1)
        if np.any(pull > problem.a1 * (1 + 1e-7)):
            return None
    return MultiTaskOptimum(problem, W, b, residual, support, rows, mean)


def _products(X: Any, Y: Array, s: Array, mean: Array) -> tuple[Array, Array]:
    """Return the weighted products of centred features, with themselves and with targets."""
    sY = s[:, None] * Y
    if is_sparse(X):
        sX = X.multiply(s[:, None]).tocsr()
        G = dense(X.T @ sX) - np.outer(mean, mean)
        return G, np.asarray(X.T @ sY) - np.outer(mean, sY.sum(axis=0))
    A = X - mean
    return np.asarray(A.T @ (s[:, None] * A)), np.asarray(A.T @ sY)


def _norms(W: Array) -> Array:
    # Without a norm to penalise a row may be zero; with one, none of those in use is.
    return np.asarray(np.maximum(np.linalg.norm(W, axis=1, keepdims=True), 1e-300))


def _newton(rows: _Rows, W: Array) -> Array | None:
    value = rows.objective(W)
    for _ in range(_MAX_STEPS):
        F = rows.slope(W)
        step = rows.solve(W, F, _STEP)
        promised = float((F * step).sum())
        if promised <= _NOTHING * abs(value):
            return W
        size = 1.0
        while size > 1e-10:
            trial = W - size * step
            new = rows.objective(trial)
            if new <= value - 1e-4 * size * promised or promised < 1e-13 * abs(value):
                break
            size /= 2
        W, value = trial, new
        norms = np.linalg.norm(W, axis=1)
        if rows.a1 > 0 and norms.min() < _VANISHING * norms.max():
            return None
    return None
