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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from tunein._math.losses import Array
from tunein._math.matrices import dense, is_sparse

# Derivatives (l, l', l'') of the loss of each sample by its eta.
Pointwise = Callable[[Array], tuple[Array, Array, Array]]

# Pivots of a factorisation below which its solution has hardly a correct digit, and eigenvalues,
# as parts of the largest, below which there is nothing but rounding.
_MIN_PIVOT, _MIN_EIGENVALUE = 1e-6, 1e-11

# Order beyond which the curvature of sparse features is not factorised, unless conjugate gradients
# take more than so many rounds.
_MAX_DENSE, _MAX_ROUNDS = 800, 500

# Newton steps at most, and the part of the objective below which one promises nothing: with an l1
# penalty, where pulls tell which coefficients are zero, and without, where all that is left of the
# way is a little of the loss, which the adjoint makes up for.
_MAX_STEPS, _NOTHING, _NOTHING_SMOOTH = 1000, 1e-22, 1e-15

# Part of the objective that its rounding hides, and Newton steps that are taken beyond.
_UNSEEN, _MAX_LAST_STEPS = 1e-12, 4

# How far a pull may be beyond the penalty by rounding; zeros on the way of a step looked at.
_SLACK, _MOST_CROSSINGS = 1e-9, 100

# Part of what a step promises that is enough to take all of it.
_KEPT = 0.25

# Part of the penalty that may be left of the slope where the curvature is zero.
_LEFT = 1e-6


class Curvature:
    """A factorised ``[[X' D X + diag(ridge), X' D 1], [., sum D]]``.

    With m the means of features under D, elimination of the intercept leaves the curvature of
    centred features, ``(X - 1 m')' D (X - 1 m') + diag(ridge)``.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n, p)
        Features.
    D : ndarray of shape (n,)
        Of positive sum.
    ridge : float or ndarray of shape (p,)
        Added to the diagonal of all coefficients but the intercept.
    intercept : bool
        Whether there is one.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is not that of a minimum.
    """

    def __init__(self, X: Any, D: Array, ridge: Any, *, intercept: bool) -> None:
        self._intercept, self._X = intercept, X
        n, p = X.shape
        self._total = float(D.sum())
        if intercept and not self._total > 0:
            raise np.linalg.LinAlgError("the curvature of the intercept vanishes")
        self._mean = np.asarray(X.T @ D).ravel() / self._total if intercept else np.zeros(p)
        self._D, self._ridge = D, ridge
        self._sound = np.ndim(ridge) == 0 and ridge > 0 and bool(np.all(D >= 0))
        # With more features than samples the identity of Woodbury leaves n x n to factorise.
        self._wide = p > n and self._sound
        self._factor: Factor | None = None
        if not (self._sound and is_sparse(X) and min(n, p) > _MAX_DENSE):
            self._factorise()

    def _factorise(self) -> None:
        X, D, ridge = self._X, self._D, self._ridge
        if self._wide:
            root = np.sqrt(D)
            K = self._gram(X) * root * root[:, None] / ridge
            K[np.diag_indices_from(K)] += 1
            self._factor = Factor(K)
        else:
            H = self._centred_square(X, D)
            H[np.diag_indices_from(H)] += ridge
            self._factor = Factor(H)

    def _gram(self, X: Any) -> Array:
        """Return the products of centred rows."""
        if not is_sparse(X):
            A = X - self._mean
            return np.asarray(A @ A.T)
        Xm = X @ self._mean
        return np.asarray(dense(X @ X.T) - Xm - Xm[:, None] + float(self._mean @ self._mean))

    def _centred_square(self, X: Any, D: Array) -> Array:
        if not is_sparse(X):
            A = X - self._mean if self._intercept else X
            if np.all(D >= 0):  # of a matrix times its own transpose half is computed
                A = np.sqrt(D)[:, None] * A
                return np.asarray(A.T @ A, dtype=np.float64)
            return np.asarray(A.T @ _times_rows(A, D), dtype=np.float64)
        H = dense(X.T @ _times_rows(X, D))
        return H - self._total * np.outer(self._mean, self._mean) if self._intercept else H

    def _solve(self, v: Array, strict: bool, tol: float) -> Array:
        if self._factor is None:
            u, rounds = self._iterate(v, tol)
            if rounds < _MAX_ROUNDS:
                return u
            self._factorise()
        assert self._factor is not None
        if not self._wide:
            return self._factor.solve(v, strict=strict)
        root = np.sqrt(self._D)
        root = root if v.ndim == 1 else root[:, None]
        inner = root * self._factor.solve(root * self._forth(v) / self._ridge)
        return np.asarray((v - self._back(inner)) / self._ridge)

    def _forth(self, u: Array) -> Array:
        return np.asarray(self._X @ u - self._mean @ u)

    def _back(self, t: Array) -> Array:
        return np.asarray(self._X.T @ t - np.multiply.outer(self._mean, t.sum(axis=0)))

    def _iterate(self, v: Array, tol: float) -> tuple[Array, int]:
        """Solve by conjugate gradients, with the diagonal to precondition them."""
        squares = self._X.multiply(self._X).T @ self._D
        diagonal = np.maximum(squares - self._total * self._mean**2, 0.0) + self._ridge
        D, diagonal = (a if v.ndim == 1 else a[:, None] for a in (self._D, diagonal))
        return conjugate_gradients(
            lambda u: self._back(D * self._forth(u)) + self._ridge * u,
            v,
            lambda r: np.asarray(r / diagonal),
            tol,
            _MAX_ROUNDS,
        )

    def solve(
        self, v: Array, v0: Any = 0.0, *, strict: bool = False, tol: float = 1e-12
    ) -> tuple[Array, Any]:
        """Return the coefficients and the intercept u, u0 that the curvature maps to v, v0.

        If there are none, the nearest; `strict` raises `numpy.linalg.LinAlgError` then. A large
        sparse system is solved to `tol` of its first residual.
        """
        if not self._intercept:
            return self._solve(v, strict, tol), np.zeros_like(np.asarray(v0, dtype=np.float64))
        u = self._solve(v - np.multiply.outer(self._mean, v0), strict, tol)
        return u, v0 / self._total - self._mean @ u

    def flat(self, v: Array) -> tuple[Array, float]:
        """Return what the curvature maps to zero, along which v rises; zeros if there is none."""
        u = np.zeros_like(v) if self._factor is None or self._wide else self._factor.flat(v)
        return u, -float(self._mean @ u)


class Factor:
    """A positive definite matrix, factorised with its diagonal scaled to ones.

    So that units of features do not count. If it is singular, as with a feature that is there
    twice, its eigenvectors stand in: what they span is solved for.
    """

    def __init__(self, H: Array) -> None:
        diagonal = np.diagonal(H)
        if not np.all(diagonal >= 0):
            raise np.linalg.LinAlgError("the curvature is negative")
        self._scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        self._chol: Any = None
        self._eigen: tuple[Array, Array] | None = None
        if not len(H):
            return
        scaled = H * self._scale * self._scale[:, None]
        try:
            self._chol = linalg.cho_factor(scaled, lower=True, check_finite=True)
            if np.diagonal(self._chol[0]).min() > _MIN_PIVOT:
                return
        except np.linalg.LinAlgError:
            pass
        values, vectors = linalg.eigh(scaled)
        if values[0] < -1e-8 * values[-1]:
            raise np.linalg.LinAlgError("the curvature is negative")
        kept = values > _MIN_EIGENVALUE * values[-1]
        self._eigen = values[kept], vectors[:, kept]

    def solve(self, v: Array, *, strict: bool = False) -> Array:
        """Return what the matrix maps to v (p,) or (p, k).

        If there is none, the nearest; `strict` raises `numpy.linalg.LinAlgError` then.
        """
        if not len(self._scale):
            return v
        scale = self._scale if v.ndim == 1 else self._scale[:, None]
        if self._eigen is None:
            return np.asarray(scale * linalg.cho_solve(self._chol, scale * v, check_finite=False))
        values, vectors = self._eigen
        along = vectors.T @ (scale * v)
        if strict and np.linalg.norm(scale * v - vectors @ along) > 1e-6 * np.linalg.norm(along):
            raise np.linalg.LinAlgError("the curvature is singular")
        return np.asarray(scale * (vectors @ (along.T / values).T))

    def flat(self, v: Array) -> Array:
        """Return a direction that the matrix maps to zero, along which v (p,) rises; else zeros."""
        if self._eigen is None:
            return np.zeros_like(v)
        scaled, vectors = self._scale * v, self._eigen[1]
        return np.asarray(self._scale * (scaled - vectors @ (vectors.T @ scaled)))


def conjugate_gradients(
    times: Callable[[Array], Array],
    v: Array,
    precondition: Callable[[Array], Array],
    tol: float,
    max_rounds: int,
) -> tuple[Array, int]:
    """Solve ``times(u) = v`` for a symmetric positive map of arrays; also count the rounds.

    It stops at `tol` times the first residual, in the norm of the preconditioner.
    """
    u, r = np.zeros_like(v), v.copy()
    z = precondition(r)
    p, rz = z, float((r * z).sum())
    enough = tol**2 * rz
    for done in range(max_rounds):
        if rz <= enough or rz <= 0:
            return u, done
        Ap = times(p)
        bent = float((p * Ap).sum())
        if not bent > 0:  # nothing but rounding is left
            return u, done
        u += rz / bent * p
        r -= rz / bent * Ap
        z = precondition(r)
        rz, before = float((r * z).sum()), rz
        p = z + rz / before * p
    return u, max_rounds


def input_slopes(
    X: Any, g: Array, w: Array, u: Array, pull: Array, t: Array
) -> Callable[[], tuple[Array, Array]] | None:
    """Return what computes the slopes of the loss in training and test samples; None if sparse.

    ``F = X' pull + ...`` gives ``-(pull u' + t w')``, where t is the curvature of each sample times
    the decisions of u; and test samples ``g w'`` for the slope g in their decisions.
    """
    if is_sparse(X):  # they would be dense
        return None

    def slopes() -> tuple[Array, Array]:
        rows = [a if a.ndim == 2 else a[:, None] for a in (g, pull, t)]
        W, U = (a.reshape(len(a), -1) for a in (w, u))
        return -(rows[1] @ U.T + rows[2] @ W.T), rows[0] @ W.T

    return slopes


def _times_rows(X: Any, weights: Array) -> Any:
    if is_sparse(X):
        return sparse.csr_array(sparse.dia_array((weights[None], 0), shape=(len(weights),) * 2) @ X)
    return weights[:, None] * X


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
    columns : {ndarray, sparse matrix} of shape (n, number of those)
        Their features.
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
    columns: Any
    curvature: Curvature
    pull: Array
    bend: Array

    def adjoint(self, v: Array, v0: float) -> tuple[Array, Array, float]:
        """Return u (p,) and t = X u + u0 (n,) for the slopes v, v0 of a loss in w and b.

        Also how much less the loss is at the optimum itself: where the objective has a slope F
        left, that is ``-H^-1 F`` away, and ``v H^-1 F`` is u F.
        """
        S, u = self.support, np.zeros_like(self.w)
        u[S], u0 = self.curvature.solve(v[S], v0, strict=True)
        t = self.glm.X @ u + float(u0)
        sign = np.sign(self.w[S]) if self.glm.a1 > 0 else 0.0
        left = self.pull @ t + u[S] @ (self.glm.a2 * self.w[S] + self.glm.a1 * sign)
        return u, t, float(left)


def polish(glm: Glm, w: Array, b: float) -> Optimum | None:
    """Go from near an optimum to it; None if it is not found.

    Newton's steps on the support, which loses a coefficient where one comes to zero, and wins those
    whose pull is beyond `a1` once the rest has come to rest: the feature-sign search of Lee,
    Battle, Raina & Ng 2007, "Efficient sparse coding algorithms".
    """
    w, value, last_steps = w.copy(), glm.objective(w, b), 0
    of_nothing = float(glm.pointwise(np.zeros(glm.X.shape[0]))[0].sum())
    if not value <= of_nothing:
        w, b, value = np.zeros_like(w), 0.0, of_nothing
    active = w != 0 if glm.a1 > 0 else np.ones(len(w), dtype=bool)
    sign = np.sign(w) if glm.a1 > 0 else np.zeros(len(w))
    if not np.isfinite(value):
        return None
    at: Optimum | None = None
    nothing = _NOTHING if glm.a1 > 0 else _NOTHING_SMOOTH
    for _ in range(_MAX_STEPS):
        S = np.flatnonzero(active)
        at = _at(glm, w, b, S, at)
        slope = at.columns.T @ at.pull + glm.a2 * w[S] + glm.a1 * sign[S]
        step, step0, promised = _newton(at, slope)
        wrong = (w[S] == 0) & (step * sign[S] > 0)
        if glm.a1 > 0 and wrong.any():  # would go to the other side of zero than its pull says
            active[S[wrong]] = False
            continue
        if promised > nothing * abs(value):
            # Where the objective is flat to the last digit only the step tells what is left.
            is_last = promised < _UNSEEN * abs(value)
            there, there0, new = _along(at, step, step0, promised, at_end=is_last)
            # One that is zero but for rounding, and on the way to the other side, is on none.
            is_freed = new <= value * (1 + _UNSEEN) and bool(np.any((w != 0) & (there == 0)))
            last_steps += is_last
            if new < value or is_freed or (is_last and last_steps <= _MAX_LAST_STEPS):
                w, b, value = there, there0, min(new, value)
                active &= w != 0 if glm.a1 > 0 else active
                sign = np.where(active, np.sign(w), 0.0) if glm.a1 > 0 else sign
                continue
        if promised > _UNSEEN * abs(value):
            return None
        flat, flat0 = at.curvature.flat(slope)
        if glm.a1 > 0 and slope @ flat > _LEFT * glm.a1 * np.abs(flat).sum():
            # Along what the curvature does not see it is downhill until a coefficient is zero.
            t = _to_zero(w[S], flat)
            w, b, value = _along(at, t * flat, t * flat0, np.inf, at_end=False)
            active &= w != 0
            sign = np.where(active, np.sign(w), 0.0)
            continue
        if glm.a1 == 0:
            return at
        F = glm.X.T @ at.pull
        beyond = np.where(active, 0.0, np.abs(F) - glm.a1 * (1 + _SLACK))
        if beyond.max(initial=0.0) <= 0:
            return at
        first = np.argsort(-beyond)[: max(1, len(S) // 4)]
        first = first[beyond[first] > 0]
        active[first], sign[first], last_steps = True, -np.sign(F[first]), 0
    return None


def _to_zero(w: Array, direction: Array) -> float:
    """Return how many times a direction, subtracted, brings the first coefficient to zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = w / direction
    first = float(crossing[crossing > 0].min(initial=np.inf))
    return first if np.isfinite(first) else 1.0


def _at(glm: Glm, w: Array, b: float, S: NDArray[np.intp], last: Optimum | None) -> Optimum:
    """Return what is known at w and b; that of squared losses is as curved as it was at `last`."""
    if last is None or not np.array_equal(S, last.support):
        last, XS = None, glm.X if len(S) == len(w) else glm.X[:, S]
    else:
        XS = last.columns
    _, pull, bend = glm.pointwise(XS @ w[S] + b)
    if last is not None and np.array_equal(bend, last.bend):
        return replace(last, w=w, b=b, pull=pull)
    curvature = Curvature(XS, bend, glm.a2, intercept=glm.intercept)
    return Optimum(glm, w, b, S, XS, curvature, pull, bend)


def _newton(at: Optimum, F: Array) -> tuple[Array, float, float]:
    """Return the step to subtract, that of the intercept, and twice the decrease it promises."""
    F0 = float(at.pull.sum()) if at.glm.intercept else 0.0
    step, step0 = at.curvature.solve(F, F0, tol=1e-4)
    return step, float(step0), float(F @ step) + F0 * float(step0)


def _along(
    at: Optimum, step: Array, step0: float, promised: float, *, at_end: bool
) -> tuple[Array, float, float]:
    """Return the best of the places on the way of a step, and the objective there.

    Coefficients that come to zero stay there. The end, if that keeps enough of twice the decrease
    that is `promised`; else places where a coefficient comes to zero, and halves of the way that is
    downhill; only the end, if nothing comes to zero before, if the objective tells no difference
    (`at_end`).
    """
    glm, w, b, S = at.glm, at.w, at.b, at.support

    def inside(t: float) -> Array:
        out = w[S] - t * step
        if glm.a1 > 0:
            out[(crossing > 0) & (crossing <= t * (1 + 1e-14))] = 0.0
        return out

    def value(t: float) -> float:
        inner = inside(t)
        loss = float(glm.pointwise(at.columns @ inner + (b - t * step0))[0].sum())
        return loss + glm.a1 * float(np.abs(inner).sum()) + glm.a2 / 2 * float(inner @ inner)

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        crossing = w[S] / step
    before, options = value(0.0), {1.0: value(1.0)}
    crossed = np.unique(crossing[(crossing > 0) & (crossing <= 1)]) if glm.a1 > 0 else np.empty(0)
    if not options[1.0] < before - _KEPT * promised:
        options |= {float(t): value(float(t)) for t in crossed[:_MOST_CROSSINGS]}
    t = 1.0
    while not at_end and min(options.values()) >= before and t > 1e-8:
        t /= 2
        options[t] = value(t)
    t = min(options, key=lambda t: options[t])
    t = 1.0 if at_end and not len(crossed) else t
    there = w.copy()
    there[S] = inside(t)
    return there, b - t * step0, options[t]
