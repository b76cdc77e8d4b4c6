"""Hypergradients of logistic regression with more than two classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunein._families._registry import HyperGradient, Loss, NoHypergradient, Samples
from tunein._math.implicit import input_slopes
from tunein._math.losses import Array
from tunein._math.softmax import Softmax, softmax_optimum


def multinomial(
    estimator: Any, train: Samples, test: Samples, loss: Loss, l1_ratio: float
) -> HyperGradient:
    """Differentiate ``C sum s l + r |W|_1 + (1 - r) / 2 |W|^2``, where l is of the softmax.

    Parameters
    ----------
    estimator : LogisticRegression
        Fitted to more than two classes.
    train, test : Samples
        Of a fold; weights of `train` are those of samples times those of their classes.
    loss : Loss
        Of decision values, one column for each class.
    l1_ratio : float
        The share r of the l1 penalty.
    """
    if estimator.solver == "liblinear" or getattr(estimator, "multi_class", None) == "ovr":
        raise NoHypergradient("one class against the rest")
    C, intercept = float(estimator.C), bool(estimator.fit_intercept)
    Y = np.equal(np.asarray(train.y)[:, None], estimator.classes_).astype(np.float64)
    problem = Softmax(train.X, Y, C * train.sample_weight, l1_ratio, 1 - l1_ratio, intercept)
    found = softmax_optimum(problem, _fitted(estimator, intercept))
    if found is None:
        raise NoHypergradient("an inner optimum: the fit did not converge")
    at = found.state
    of_test = Softmax(test.X, np.zeros((0, Y.shape[1])), np.zeros(0), 0.0, 0.0, intercept)
    value, g = loss(test, of_test.decisions(at.T), estimator.classes_)
    U, bent, left = found.adjoint(of_test.back(g))
    W, u = problem.coefficients(at.T), problem.coefficients(U)
    # X' pull is minus the slope of the penalty: exactly zero where the support is empty.
    gradient = {
        "C": float((u * (l1_ratio * np.sign(W) + (1 - l1_ratio) * W)).sum()) / C,
        "l1_ratio": -float((u * (np.sign(W) - W)).sum()),
    }
    return HyperGradient(value - left, gradient, input_slopes(train.X, g, W, u, at.pull, bent))


def _fitted(estimator: Any, intercept: bool) -> Array:
    W = np.asarray(estimator.coef_, dtype=np.float64).T
    if not intercept:
        return W.copy()
    return np.vstack([W, np.asarray(estimator.intercept_, dtype=np.float64)])
