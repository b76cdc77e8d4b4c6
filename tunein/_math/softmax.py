"""Multinomial logistic regression: its optimum, and the adjoint solve at it.

The inner problem, with c the weights of samples and eta = X W + b (n, k)::

    min over W, b of  sum_i c_i (log sum_j exp eta_ij - eta_i,y_i) + a1 |W|_1 + a2 / 2 |W|^2

With P the softmax of eta and Y the classes as rows of zeros and a one, the slope of the data term
in eta is G = c (P - Y), and its curvature maps t (n, k) to c (P t - P rowsum(P t)).

Coefficients and intercepts are one array T (p + 1, k), the intercepts last; without them (p, k).
A constant added to all the intercepts changes nothing: their mean is held where the fit left it,
so the adjoint is of mean zero too. With a2 = 0 the same is so of a feature that all classes use.

The l1 penalty is dealt with by turns: a proximal step, which finds the support, and Newton's on
that support, which are projected on the orthant [1].

[1] G. Andrew and J. Gao, "Scalable training of L1-regularized log-linear models", ICML 2007.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.special import log_softmax

from tunein._math.implicit import conjugate_gradients
from tunein._math.losses import Array
from tunein._math.matrices import dense, is_sparse, squares

Mask = NDArray[np.bool_]

# Unknowns for which the curvature is factorised: at once, in single precision, and in double if
# that, or its diagonal, preconditions badly.
_MAX_DENSE, _MAX_HARD = 800, 2500

# Numbers in one chunk of rows while the curvature is put together: a cache holds them.
_CHUNK = 200_000

# The trace of the curvature that a factor may miss, in parts of that of the penalty, and of all.
_DROPPED = 0.1

# Curvature that is none.
_TINY = 1e-30

# The part of a step below which it has to end where the first coefficient is zero.
_SHORT = 1e-2

# Newton steps at most, and what the last one promises, as a part of the objective: it leaves about
# the square of its accuracy of that.
_MAX_STEPS, _LAST = 300, 1e-10

# How far a step far from the optimum, one near it and the adjoint are solved; rounds of conjugate
# gradients after which what preconditions them is out of date, and after which it is bad, if it is
# new.
_FIRST_STEP, _STEP, _ADJOINT, _STALE, _BAD = 0.1, 1e-3, 1e-8, 12, 30


@dataclass(frozen=True)
class Softmax:
    """The inner problem.

    Attributes
    ----------
    X : {ndarray, sparse matrix} of shape (n, p)
        Features.
    Y : ndarray of shape (n, k)
        A one in the column of each sample's class.
    c : ndarray of shape (n,)
        Weights of samples.
    a1, a2 : float
        Penalties of the absolute values and of half the squares of coefficients.
    intercept : bool
        Whether there are intercepts; they are not penalised.
    """

    X: Any
    Y: Array
    c: Array
    a1: float
    a2: float
    intercept: bool

    def decisions(self, T: Array) -> Array:
        """Return ``X W + b``."""
        if not self.intercept:
            return np.asarray(self.X @ T)
        return np.asarray(self.X @ T[:-1] + T[-1])

    def back(self, A: Array) -> Array:
        """Return the transpose of `decisions` of A (n, k)."""
        if not self.intercept:
            return np.asarray(self.X.T @ A)
        return np.vstack([self.X.T @ A, A.sum(axis=0)])

    def coefficients(self, T: Any) -> Any:
        """Return the part of T that is penalised, a view."""
        return T[:-1] if self.intercept else T

    def penalised(self, T: Array, by: Array, factor: float) -> Array:
        """Return T with ``factor * by`` added to all but the intercepts, in place."""
        inner = self.coefficients(T)
        inner += factor * self.coefficients(by)
        return T

    @cached_property
    def _truth(self) -> NDArray[np.intp]:
        return np.asarray(np.argmax(self.Y, axis=1))

    def at(self, T: Array) -> State:
        """Evaluate the problem at T."""
        logs = log_softmax(self.decisions(T), axis=1)
        data = -float(self.c @ np.take_along_axis(logs, self._truth[:, None], 1)[:, 0])
        W = self.coefficients(T)
        value = data + self.a1 * float(np.abs(W).sum()) + self.a2 / 2 * float((W * W).sum())
        return State(self, T, value, np.exp(logs))


@dataclass(frozen=True)
class State:
    """The problem at a point: the objective, and the chances P (n, k) of classes."""

    problem: Softmax
    T: Array
    value: float
    P: Array

    @cached_property
    def pull(self) -> Array:
        """The slope of the objective's data term in eta (n, k)."""
        return self.problem.c[:, None] * (self.P - self.problem.Y)

    @cached_property
    def smooth(self) -> Array:
        """The slope of all but the l1 penalty in T."""
        return self.problem.penalised(self.problem.back(self.pull), self.T, self.problem.a2)

    def bend(self, t: Array) -> Array:
        """Return the curvature of the data term in eta times t (n, k)."""
        Pt = self.P * t
        Pt -= self.P * Pt.sum(axis=1, keepdims=True)
        Pt *= self.problem.c[:, None]
        return Pt

    def curvature(self, V: Array) -> Array:
        """Return the curvature of all but the l1 penalty times V."""
        problem = self.problem
        return problem.penalised(problem.back(self.bend(problem.decisions(V))), V, problem.a2)

    def distance(self) -> Array:
        """Return the least slope in T that the l1 penalty leaves."""
        F = self.smooth.copy()
        W, slope = (self.problem.coefficients(A) for A in (self.T, F))
        a1 = self.problem.a1
        at_zero = np.sign(slope) * np.maximum(np.abs(slope) - a1, 0.0)
        slope[...] = np.where(W != 0, slope + a1 * np.sign(W), at_zero)
        return F


@dataclass(frozen=True)
class SoftmaxOptimum:
    """Where a `Softmax` is least, with what its adjoint needs.

    Attributes
    ----------
    state : State
        The problem there.
    support : ndarray of bool of the shape of T
        Intercepts, and coefficients that are not held at zero.
    precondition : callable
        An approximate inverse of the curvature on the support.
    """

    state: State
    support: Mask
    precondition: Callable[[Array], Array]

    def adjoint(self, V: Array) -> tuple[Array, Array, float]:
        """Return U, and the curvature of eta times the decisions of U, for slopes V in T.

        Also how much the loss with those slopes is less at the optimum itself: the slope F that is
        left of the objective says which way that is, ``-H^-1 F``, and ``V H^-1 F`` is U F.
        """
        state, free = self.state, _levels(self.state.problem, self.support)
        U, _ = _solve(state, self.support, self.precondition, _centred(V * self.support, free),
                      _ADJOINT, 2000)  # fmt: skip
        U = _centred(U, free)
        left = float((U * state.distance() * self.support).sum())
        return U, state.bend(state.problem.decisions(U)), left


def softmax_optimum(problem: Softmax, T: Array) -> SoftmaxOptimum | None:
    """Go from a fit to the optimum; None if that is not found.

    Newton's steps on the support, by conjugate gradients; those are preconditioned by the factor
    of the curvature where it was last needed.
    """
    state, support = problem.at(T), _support(problem, T)
    precondition: Callable[[Array], Array] | None = None
    is_hard, promised = False, np.inf
    for _ in range(_MAX_STEPS):
        is_new = precondition is None
        if precondition is None:
            precondition = _preconditioner(state, support, is_hard=is_hard)
        free = _idle(problem, support, state.T)
        F = _centred(state.distance() * support, free)
        far = np.sqrt(max(promised, 0.0) / max(abs(state.value), _TINY))
        tol = min(max(_STEP, far), _FIRST_STEP)
        step, rounds = _solve(state, support, precondition, F, tol, 200)
        is_hard |= is_new and rounds > _BAD
        promised = float((F * step).sum())
        # Chances of zero and one may leave no curvature to step by.
        lost = promised <= 0 and bool(np.abs(F).max() > 1e-9 * problem.c.sum())
        is_last = not lost and tol <= _STEP and promised <= _LAST * abs(state.value)
        old, whole = state, False
        if not lost:
            state, whole = _searched(state, _centred(step, free), promised)
        if state is old or (whole and _beyond(state, support)):
            state, is_last = _proximal(state), False
        now = _support(problem, state.T)
        is_same = np.array_equal(now, support)
        if is_last and is_same:
            return SoftmaxOptimum(state, support, precondition)
        if rounds > _STALE or not is_same:
            precondition = None
        support = now
    return None


def _support(problem: Softmax, T: Array) -> Mask:
    support = np.ones(T.shape, dtype=bool)
    if problem.a1 > 0:
        problem.coefficients(support)[...] = problem.coefficients(T) != 0
    return support


def _beyond(state: State, support: Mask) -> bool:
    """Return whether the slope of a coefficient held at zero is beyond the penalty."""
    return bool(np.any(np.abs(state.distance()[~support]) > 1e-7 * state.problem.a1))


def _searched(state: State, step: Array, promised: float) -> tuple[State, bool]:
    """Take the first of the steps 1, 1/2, ... that lowers the objective, within the orthant.

    Below the step at which the first sign would change, that one: its coefficient becomes zero.
    Returns also whether it is the whole step, and no sign changed.
    """
    problem, size = state.problem, 1.0
    first = _first_crossing(state, step) if problem.a1 > 0 else 1.0
    while size > min(1e-8, first / 16):
        T = state.T - size * step
        crossed = False
        if problem.a1 > 0:
            W = problem.coefficients(T)
            over = problem.coefficients(state.T) * W < 0
            W[over] = 0.0
            crossed = bool(over.any())
        new = problem.at(T)
        if new.value <= state.value - 1e-4 * size * promised or promised < 1e-13 * abs(state.value):
            return new, size == 1 and not crossed
        # Where a step is far too long, as along what has no curvature, straight to the crossing.
        size = first if size / 2 < first < size or first < size < _SHORT else size / 2
    return state, False


def _first_crossing(state: State, step: Array) -> float:
    """Return the part of a step after which the first coefficient is zero; one if none is."""
    W, move = (state.problem.coefficients(A) for A in (state.T, step))
    towards = W * move > 0
    return float(np.min(W[towards] / move[towards], initial=1.0)) * (1 + 1e-12)


def _proximal(state: State) -> State:
    """Take a step down the slope and shrink: the longest that a quadratic above accepts."""
    problem, F = state.problem, state.smooth
    # Curvature along the slope is a first guess at that of all directions.
    rate = float((F * state.curvature(F)).sum()) / max(float((F * F).sum()), 1e-300)
    rate = max(rate, 1e-12)
    for _ in range(60):
        T = state.T - F / rate
        W = problem.coefficients(T)
        W[...] = np.sign(W) * np.maximum(np.abs(W) - problem.a1 / rate, 0.0)
        new, move = problem.at(T), T - state.T
        above = float((F * move).sum()) + rate / 2 * float((move * move).sum())
        if _without_l1(new) <= _without_l1(state) + above + 1e-14 * abs(state.value):
            return new if new.value <= state.value else state
        rate *= 2
    return state


def _without_l1(state: State) -> float:
    W = state.problem.coefficients(state.T)
    return state.value - state.problem.a1 * float(np.abs(W).sum())


def _levels(problem: Softmax, support: Mask) -> Mask:
    """Return the rows of T to which a constant can be added for nothing."""
    free = np.zeros(len(support), dtype=bool)
    if problem.a2 == 0:
        free[:] = support.all(axis=1)
    if problem.intercept:
        free[-1] = True
    return free


def _idle(problem: Softmax, support: Mask, T: Array) -> Mask:
    """Return the rows for which that would not change the l1 penalty either."""
    idle = _levels(problem, support)
    if problem.a1 > 0:
        W = problem.coefficients(T)
        problem.coefficients(idle)[:] &= np.sign(W).sum(axis=1) == 0
    return idle


def _centred(V: Array, free: Mask) -> Array:
    V = V.copy()
    V[free] -= V[free].mean(axis=1, keepdims=True)
    return V


def _solve(
    state: State,
    support: Mask,
    precondition: Callable[[Array], Array],
    V: Array,
    tol: float,
    max_rounds: int,
) -> tuple[Array, int]:
    """Solve for the curvature on the support, features that no class uses left out."""
    rows = support.any(axis=1)
    if rows.all():
        return conjugate_gradients(
            lambda A: state.curvature(A) * support, V, precondition, tol, max_rounds
        )
    features = np.flatnonzero(state.problem.coefficients(rows))
    small = replace(state.problem, X=state.problem.X[:, features])
    inside = State(small, state.T[rows], state.value, state.P)
    mask = support[rows]
    U = np.zeros_like(V)
    U[rows], rounds = conjugate_gradients(
        lambda A: inside.curvature(A) * mask, V[rows], precondition, tol, max_rounds
    )
    return U, rounds


# --------------------------------------------------------------------- preconditioners
# Each works on the rows of T that are used.


def _preconditioner(state: State, support: Mask, *, is_hard: bool) -> Callable[[Array], Array]:
    rows = support.any(axis=1)
    mask = support[rows]
    features = np.flatnonzero(state.problem.coefficients(rows))
    X = state.problem.X
    X = X if len(features) == X.shape[1] else X[:, features]
    if mask.sum() <= (_MAX_HARD if is_hard else _MAX_DENSE):
        precision = np.float64 if is_hard else np.float32
        return _factor(state, X, mask, _levels(state.problem, support)[rows], precision)
    P, problem = state.P, state.problem
    bend = problem.c[:, None] * P * (1 - P)
    diagonal = _moments(X, bend) + problem.a2
    if problem.intercept:
        diagonal = np.vstack([diagonal, bend.sum(axis=0)])
    diagonal += 1e-12 * diagonal.max()
    return lambda V: np.asarray(V / diagonal)


def _moments(X: Any, weights: Array) -> Array:
    """Return the weighted sums of squares of each feature."""
    return np.asarray((X.multiply(X) if is_sparse(X) else X * X).T @ weights)


def _factor(
    state: State, X: Any, mask: Mask, free: Mask, precision: type[np.floating[Any]]
) -> Callable[[Array], Array]:
    """Factorise the curvature on the support, with a constant's freedom taken away.

    The block of a class j is X' diag(c P_j (1 - P_j)) X, the others are those of -M' M, where
    M_i,(f,j) = x_if q_ij and q = sqrt(c) P. Features are taken in units in which theirs are about
    one: single precision has little room.
    """
    problem, P = state.problem, state.P
    unit = np.sqrt(_moments(X, problem.c) + problem.a2)
    if problem.intercept:
        unit = np.append(unit, np.sqrt(problem.c.sum()))
    unit = np.where(unit > 0, unit, 1.0)
    row, column = np.nonzero(mask)  # the unknowns, feature by feature
    classes = [np.flatnonzero(column == j) for j in range(P.shape[1])]
    H = np.zeros((len(row), len(row)), dtype=precision)
    blocks = [np.zeros((len(at), len(at)), dtype=precision) for at in classes]
    told = _telling(state, X, len(row))
    chunk = max(1, _CHUNK // max(len(row), 1))
    for start in range(0, len(told), chunk):
        part = told[start : start + chunk]
        A = dense(X[part])
        if problem.intercept:
            A = np.hstack([A, np.ones((len(A), 1))])
        A = (A / unit).astype(precision)
        root = np.sqrt(problem.c[part])[:, None]
        M = A[:, row] * (root * P[part]).astype(precision)[:, column]
        H -= M.T @ M
        bend = (root * np.sqrt(P[part] * (1 - P[part]))).astype(precision)
        for j, at in enumerate(classes):
            B = A[:, row[at]] * bend[:, j, None]
            blocks[j] += B.T @ B
    for at, block in zip(classes, blocks, strict=True):
        H[np.ix_(at, at)] = block
    intercept = row == len(mask) - 1 if problem.intercept else np.zeros(len(row), dtype=bool)
    diagonal = np.diagonal(H).copy()
    H[np.diag_indices_from(H)] += np.where(intercept, 0.0, problem.a2 / unit[row] ** 2)
    for level in np.flatnonzero(free):
        at = np.flatnonzero(row == level)
        H[np.ix_(at, at)] += max(float(diagonal[at].mean()), _TINY)
    scale = np.sqrt(np.maximum(np.diagonal(H), _TINY))
    H /= scale
    H /= scale[:, None]
    factor, scale = _nearby(H), scale * unit[row]

    def precondition(V: Array) -> Array:
        U = np.zeros_like(V)
        v = (V[mask] / scale).astype(precision)
        U[mask] = linalg.cho_solve(factor, v, check_finite=False) / scale
        return U

    return precondition


def _telling(state: State, X: Any, n_unknowns: int) -> NDArray[np.intp]:
    """Return the samples without those that add next to nothing to the curvature.

    Those are many where classes are nearly separated. What is left out has a small part of the
    trace of the penalty, so that next to that nothing is missed; and of the trace of the data
    term, which is all that intercepts have.
    """
    problem = state.problem
    trace = problem.c * (state.P * (1 - state.P)).sum(axis=1) * squares(X)
    order = np.argsort(trace, kind="stable")
    dropped = np.cumsum(trace[order])
    most = _DROPPED * min(problem.a2 * n_unknowns, float(dropped[-1]))
    return np.sort(order[np.searchsorted(dropped, most, side="right") :])


def _nearby(H: Array) -> Any:
    """Factorise a matrix of unit diagonal, or one that is positive definite near to it.

    Chances of zero and one leave some curvature to rounding; a factor only preconditions.
    """
    rounding = float(np.finfo(H.dtype).eps)
    for off in (rounding**0.8, rounding**0.6, rounding**0.4):
        H[np.diag_indices_from(H)] = 1 + off
        try:
            return linalg.cho_factor(H, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            pass
    H[np.diag_indices_from(H)] = 1 + rounding**0.25
    return linalg.cho_factor(H, lower=True, check_finite=True)
