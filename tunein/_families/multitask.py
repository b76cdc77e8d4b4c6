"""Hypergradients of linear models of several targets that share their features."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import MultiTaskElasticNet, MultiTaskLasso

from tunein._families._registry import HyperGradient, Loss, NoHypergradient, Samples, register
from tunein._math.implicit import input_slopes
from tunein._math.losses import Array
from tunein._math.matrices import dense
from tunein._math.multitask import MultiTask, MultiTaskOptimum, multitask_optimum

# Tolerances of the fits that look for the rows in use, where the first has not found them.
_TOLERANCES = (1e-7, 1e-10, 1e-13, 0.0)


def _lacks(estimator: Any) -> set[str]:
    return {"l1_ratio"} if isinstance(estimator, MultiTaskLasso) else set()


@register(
    MultiTaskLasso, MultiTaskElasticNet, params=["alpha", "l1_ratio"], output="target",
    proxy="squared_error", lacks=_lacks,
)  # fmt: skip
def multi_task(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Differentiate on the rows in use: ``alpha r sum |W_j| + alpha (1 - r) / 2 |W|^2``."""
    alpha, ratio = float(estimator.alpha), float(estimator.l1_ratio)
    s = train.sample_weight / train.sample_weight.sum()
    Y = np.asarray(train.y, dtype=np.float64)
    problem = MultiTask(
        train.X, Y, s, alpha * ratio, alpha * (1 - ratio), bool(estimator.fit_intercept)
    )
    at = _optimum(estimator, problem, train)
    value, g = loss(test, test.X @ at.W + at.b)
    U, t = at.adjoint(test.X.T @ g, g.sum(axis=0))
    norms = np.linalg.norm(at.W, axis=1, keepdims=True)
    by_a1 = -float((U * at.W / np.where(norms > 0, norms, 1.0)).sum())
    by_a2 = -float((U * at.W).sum())
    gradient = {
        "alpha": ratio * by_a1 + (1 - ratio) * by_a2,
        "l1_ratio": alpha * (by_a1 - by_a2),
    }
    s = s[:, None]
    return HyperGradient(value, gradient, input_slopes(train.X, g, at.W, U, s * at.residual, s * t))


def _optimum(estimator: Any, problem: MultiTask, train: Samples) -> MultiTaskOptimum:
    found = multitask_optimum(problem, _rows(estimator))
    if found is not None:
        return found
    # Coordinate descent from where it stopped: the fit of the same optimum, if it is unweighted.
    s = problem.s
    root = np.sqrt(s * len(s))[:, None]
    other = clone(estimator).set_params(
        warm_start=True, max_iter=10_000, fit_intercept=False, selection="cyclic"
    )
    other.coef_ = np.asfortranarray(_rows(estimator).T)
    X, Y = _centred(problem)
    for tol in _TOLERANCES:
        other.set_params(tol=tol)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            other.fit(X * root, Y * root)
        found = multitask_optimum(problem, _rows(other))
        if found is not None:
            return found
    raise NoHypergradient("an inner optimum: the fit did not converge")


def _centred(problem: MultiTask) -> tuple[Array, Array]:
    """Return dense features and targets less their means, where there is an intercept."""
    X = dense(problem.X)
    if not problem.intercept:
        return X, problem.Y
    return X - problem.s @ X, problem.Y - problem.s @ problem.Y


def _rows(estimator: Any) -> Array:
    return np.asarray(estimator.coef_, dtype=np.float64).T.copy()
