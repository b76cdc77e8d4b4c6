"""Huber's regression with its scale: the optimum, and the adjoint solve at it.

With r = y - X w - b, weights s, and e for epsilon::

    min over w, b, z > 0 of  sum_i s_i (z + z h(r_i / z)) + alpha |w|^2

where h(x) is x^2 for inliers, |x| <= e, and 2 e |x| - e^2 beyond [1]. It is convex in all of w, b
and the scale z. The slope in eta = X w + b is ``-2 s r / z`` of an inlier, ``-2 s e sign(r)`` of an
outlier; that in z is ``sum s - e^2 sum_out s - sum_in s (r / z)^2``. Inliers alone have curvature:
D = 2 s / z in eta, ``sum D (r / z)^2`` in z, and ``D r / z`` between the two.

[1] A. B. Owen, "A robust hybrid of lasso and ridge regression", 2007.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tunein._math.implicit import Curvature
from tunein._math.losses import Array

# Newton steps at most, and the part of the objective below which one promises nothing.
_MAX_STEPS, _NOTHING = 200, 1e-22

# A scale below this part of that of the targets is none: the fit is exact.
_MIN_SCALE = 1e-10


@dataclass(frozen=True)
class Huber:
    """The inner problem; see the module."""

    X: Any
    y: Array
    s: Array
    alpha: float
    epsilon: float
    intercept: bool

    def objective(self, w: Array, b: float, z: float) -> float:
        """Return what is minimised."""
        if z <= 0:
            return np.inf
        x = np.abs(self.y - self.X @ w - b) / z
        h = np.where(x <= self.epsilon, x**2, 2 * self.epsilon * x - self.epsilon**2)
        return float(z * (self.s @ (1 + h)) + self.alpha * (w @ w))


class HuberOptimum:
    """A point of a `Huber`: slopes and, factorised, the curvature there.

    Attributes
    ----------
    w, b, z : ndarray of shape (p,), float, float
        Coefficients, intercept and scale.
    pull, bend, cross : ndarray of shape (n,)
        Slope in eta, curvature in eta, and curvature between eta and the scale.
    """

    def __init__(self, problem: Huber, w: Array, b: float, z: float) -> None:
        self.problem, self.w, self.b, self.z = problem, w, b, z
        s, epsilon = problem.s, problem.epsilon
        r = problem.y - problem.X @ w - b
        inside = np.abs(r) <= epsilon * z
        self.outliers, self.sign = ~inside, np.sign(r)
        self.pull = -2 * s * np.where(inside, r / z, epsilon * self.sign)
        self.bend = np.where(inside, 2 * s / z, 0.0)
        self.cross = self.bend * r / z
        self.pull_z = float(
            s.sum() - epsilon**2 * s[~inside].sum() - s[inside] @ (r / z)[inside] ** 2
        )
        self._curvature = Curvature(
            problem.X, self.bend, 2 * problem.alpha, intercept=problem.intercept
        )
        self._border = problem.X.T @ self.cross, float(self.cross.sum())
        self._across = self._curvature.solve(*self._border)
        total = float(self.cross @ (r / z))
        self._corner = total - self._dot(self._border, self._across)
        if not self._corner > 1e-12 * total:
            raise np.linalg.LinAlgError("the curvature of the scale vanishes")

    def _dot(self, one: Any, other: Any) -> float:
        return float(one[0] @ other[0] + self.problem.intercept * one[1] * other[1])

    def solve(
        self, v: Array, v0: float, vz: float, *, strict: bool = False
    ) -> tuple[Array, float, float]:
        """Return what the curvature maps to slopes in w, b and z; `strict` if that must exist."""
        u, u0 = self._curvature.solve(v, v0, strict=strict)
        uz = (vz - self._dot(self._border, (u, u0))) / self._corner
        return u - uz * self._across[0], float(u0 - uz * self._across[1]), uz

    def step(self) -> tuple[Array, float, float, float]:
        """Return Newton's step in w, b and z, and twice what it promises."""
        problem = self.problem
        F = problem.X.T @ self.pull + 2 * problem.alpha * self.w
        F0 = float(self.pull.sum()) if problem.intercept else 0.0
        u, u0, uz = self.solve(F, F0, self.pull_z)
        return u, u0, uz, float(F @ u) + F0 * u0 + self.pull_z * uz


def huber_optimum(problem: Huber, w: Array, b: float, z: float) -> HuberOptimum | None:
    """Go from a fit to the optimum by Newton's steps; None if that is not found.

    Where a whole one does not lower the objective the inliers are not yet those of the optimum: a
    step of reweighted least squares brings them nearer.
    """
    value = problem.objective(w, b, z)
    for _ in range(_MAX_STEPS):
        at = _evaluated(problem, w, b, z)
        whole = False
        if at is not None:
            u, u0, uz, promised = at.step()
            if promised <= _NOTHING * abs(value):
                return at
            trial = w - u, b - u0, z - uz
            new = problem.objective(*trial)
            whole = new <= value - 1e-4 * promised
            whole |= bool(promised < 1e-13 * abs(value) and np.isfinite(new))
        if not whole:
            trial = _reweighted(problem, w, b, z)
            new = problem.objective(*trial)
        (w, b, z), value = trial, new
        if not z > _MIN_SCALE * np.abs(problem.y).max():
            return None
    return None


def _evaluated(problem: Huber, w: Array, b: float, z: float) -> HuberOptimum | None:
    try:
        return HuberOptimum(problem, w, b, z)
    except np.linalg.LinAlgError:
        return None


def _reweighted(problem: Huber, w: Array, b: float, z: float) -> tuple[Array, float, float]:
    """Minimise a quadratic in w and b that is nowhere below, then the objective in z.

    ``sum s (1 - min(e, |r| / z)^2)``, its slope in z, rises with z.
    """
    s, epsilon = problem.s, problem.epsilon
    r = np.abs(problem.y - problem.X @ w - b)
    D = 2 * s / np.maximum(z, r / epsilon)
    Dy = D * problem.y
    curvature = Curvature(problem.X, D, 2 * problem.alpha, intercept=problem.intercept)
    w, b = curvature.solve(problem.X.T @ Dy, float(Dy.sum()))
    r = np.abs(problem.y - problem.X @ w - b)
    low, high = 0.0, float(np.sqrt(s @ r**2 / s.sum()))
    for _ in range(60):
        middle = (low + high) / 2
        if s @ (1 - np.minimum(epsilon, r / max(middle, 1e-300)) ** 2) < 0:
            low = middle
        else:
            high = middle
    return w, float(b), high
