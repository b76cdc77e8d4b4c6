"""Inner optima of generalised linear models, and the adjoint solve at them.

The inner problem, with s the weights of samples and eta = X w + b::

    min over w, b of  sum_i s_i l(y_i, eta_i) + a1 |w|_1 + a2 / 2 |w|^2

At its optimum F = X_S' (s l') + a2 w_S + a1 sign(w_S) = 0 on the support S, where the derivative
of F in w is the curvature H = X_S' diag(s l'') X_S + a2 I, bordered for the intercept. For a loss
L(w, b) of test samples, one solve H u = dL/dw gives dL/dtheta = -u . dF/dtheta for every
hyperparameter theta (implicit function theorem; Bertrand et al. 2022, "Implicit differentiation
for fast hyperparameter selection in non-smooth convex learning", JMLR 23).

X is dense or sparse; w (p,), or (p, k) for k columns of the same curvature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from tunein._math.losses import Array

# Derivatives (l, l', l'') of the loss of each sample by its eta.
Pointwise = Callable[[Array], tuple[Array, Array, Array]]

# Ratio of the pivots of a factorisation below which its solution has no correct digit.
_MIN_PIVOT = 1e-7

# Newton steps at most, and the part of the objective below which one promises nothing.
_MAX_STEPS, _NOTHING = 100, 1e-22


class Curvature:
    """A factorised ``[[X' D X + diag(ridge), X' D 1], [., sum D]]``.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n, p)
        Features.
    D : ndarray of shape (n,)
        Non-negative.
    ridge : float
        Added to the diagonal of all coefficients but the intercept.
    intercept : bool
        Whether there is one.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is singular or nearly so.
    """

    def __init__(self, X: Any, D: Array, ridge: float, *, intercept: bool) -> None:
        self._intercept = intercept
        n, p = X.shape
        # With more features than samples the identity of Woodbury leaves n x n to factorise.
        self._wide = p > n and ridge > 0
        scaled = _times_rows(X, D)
        if self._wide:
            root = np.sqrt(D)
            self._ridge, self._Y = ridge, _times_rows(X, root)
            K = _dense(self._Y @ self._Y.T) / ridge
            K[np.diag_indices_from(K)] += 1
            self._factor = _factor(K)
        else:
            H = _dense(X.T @ scaled)
            H[np.diag_indices_from(H)] += ridge
            self._factor = _factor(H) if p else (np.empty((0, 0)), True)
        if intercept:
            self._border = np.asarray(scaled.sum(axis=0), dtype=np.float64).ravel()
            self._inverse_border = self._solve(self._border)
            self._corner = float(D.sum()) - float(self._border @ self._inverse_border)
            if not self._corner > _MIN_PIVOT**2 * max(float(D.sum()), 1e-300):
                raise np.linalg.LinAlgError("the curvature of the intercept vanishes")

    def _solve(self, v: Array) -> Array:
        if not self._wide:
            if not len(v):
                return v
            return np.asarray(linalg.cho_solve(self._factor, v, check_finite=False))
        inner = linalg.cho_solve(self._factor, self._Y @ v / self._ridge, check_finite=False)
        return np.asarray((v - self._Y.T @ inner) / self._ridge)

    def solve(self, v: Array, v0: Any = 0.0) -> tuple[Array, Any]:
        """Return the coefficients and the intercept u, u0 that the curvature maps to v, v0."""
        u = self._solve(v)
        if not self._intercept:
            return u, np.zeros_like(np.asarray(v0, dtype=np.float64))
        u0 = (v0 - self._border @ u) / self._corner
        return u - np.multiply.outer(self._inverse_border, u0), u0


def _factor(H: Array) -> Any:
    factor = linalg.cho_factor(H, lower=True, check_finite=True)
    pivots = np.diagonal(factor[0])
    if pivots.min() < _MIN_PIVOT * pivots.max():
        raise np.linalg.LinAlgError("the curvature is nearly singular")
    return factor


def _times_rows(X: Any, weights: Array) -> Any:
    if sparse.issparse(X):
        return sparse.csr_array(sparse.dia_array((weights[None], 0), shape=(len(weights),) * 2) @ X)
    return weights[:, None] * X


def _dense(A: Any) -> Array:
    return np.asarray(A.toarray() if sparse.issparse(A) else A, dtype=np.float64)


@dataclass(frozen=True)
class Glm:
    """The inner problem.

    Attributes
    ----------
    X : {ndarray, sparse matrix} of shape (n, p)
        Features.
    pointwise : callable
        ``eta -> (l, l', l'')`` of every sample, weights included.
    a1, a2 : float
        Penalties of the absolute values and of half the squares.
    intercept : bool
        Whether there is one; it is not penalised.
    """

    X: Any
    pointwise: Pointwise
    a1: float
    a2: float
    intercept: bool

    def objective(self, w: Array, b: float) -> float:
        """Return what is minimised."""
        value = self.pointwise(self.X @ w + b)[0].sum()
        return float(value + self.a1 * np.abs(w).sum() + self.a2 / 2 * (w @ w))


@dataclass(frozen=True)
class Optimum:
    """Where a `Glm` is least, and what its adjoint needs.

    Attributes
    ----------
    glm : Glm
        The problem.
    w : ndarray of shape (p,)
        Coefficients.
    b : float
        Intercept.
    support : ndarray of int
        Coefficients that are not held at zero.
    curvature : Curvature
        On the support.
    pull : ndarray of shape (n,)
        l' of each sample.
    bend : ndarray of shape (n,)
        l'' of each sample.
    """

    glm: Glm
    w: Array
    b: float
    support: NDArray[np.intp]
    curvature: Curvature
    pull: Array
    bend: Array

    def adjoint(self, v: Array, v0: float) -> tuple[Array, float, Array]:
        """Return u (p,), u0 and t = X u + u0 (n,) for the slopes v, v0 of a loss in w and b."""
        u = np.zeros_like(self.w)
        u[self.support], u0 = self.curvature.solve(v[self.support], v0)
        return u, float(u0), self.glm.X @ u + float(u0)


def polish(glm: Glm, w: Array, b: float) -> Optimum | None:
    """Go from near an optimum to it by Newton's steps on the support; None if that leaves it.

    The support of `w` is kept, and the signs on it. It is left where a sign would change, or where
    the pull on a coefficient held at zero is beyond `a1`.
    """
    S = np.flatnonzero(w) if glm.a1 > 0 else np.arange(len(w))
    sign = np.sign(w[S])
    XS = glm.X if len(S) == len(w) else glm.X[:, S]
    w, value = w.copy(), glm.objective(w, b)
    for _ in range(_MAX_STEPS):
        _, pull, bend = glm.pointwise(XS @ w[S] + b)
        curvature = Curvature(XS, bend, glm.a2, intercept=glm.intercept)
        F = XS.T @ pull + glm.a2 * w[S] + glm.a1 * sign
        F0 = float(pull.sum()) if glm.intercept else 0.0
        step, step0 = curvature.solve(F, F0)
        promised = float(F @ step) + F0 * float(step0)
        if promised <= _NOTHING * abs(value):
            break
        size, trial, trial0 = 1.0, w.copy(), b
        while size > 1e-10:
            trial[S], trial0 = w[S] - size * step, b - size * float(step0)
            new = glm.objective(trial, trial0)
            if new <= value - 1e-4 * size * promised or promised < 1e-13 * abs(value):
                break
            size /= 2
        w, b, value = trial, trial0, new
        if glm.a1 > 0 and np.any(np.sign(w[S]) != sign):
            return None
    if glm.a1 > 0:
        held = np.ones(len(w), dtype=bool)
        held[S] = False
        if np.any(np.abs(glm.X.T @ pull)[held] > glm.a1 * (1 + 1e-7)):
            return None
    return Optimum(glm, w, b, S, curvature, pull, bend)
