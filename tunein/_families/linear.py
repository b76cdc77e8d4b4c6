"""Hypergradients of linear models."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
)
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from tunein._families._registry import HyperGradient, Loss, NoHypergradient, Samples, register
from tunein._families.multinomial import multinomial
from tunein._math.implicit import Curvature, Glm, Optimum, input_slopes, polish
from tunein._math.losses import Array
from tunein._math.matrices import is_sparse

# --------------------------------------------------------------------- least squares


def _lacks_one_penalty(estimator: Any) -> set[str]:
    if estimator.positive:
        raise NoHypergradient("positive=True")
    if np.ndim(estimator.alpha):
        raise NoHypergradient("an alpha for each target")
    return set()


@register(Ridge, params=["alpha"], output="target", proxy="squared_error", lacks=_lacks_one_penalty)
def ridge(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Solve the normal equations once, and with the same factor their adjoint."""
    y = np.asarray(train.y, dtype=np.float64)
    return _ridge(estimator, y, train, test, lambda p: loss(test, p))


@register(
    RidgeClassifier,
    params=["alpha"],
    output="decision",
    proxy="platt_log_loss",
    lacks=_lacks_one_penalty,
)
def ridge_classifier(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Regress on -1 and 1, one column for each class if there are several."""
    classes = estimator.classes_
    Y = np.where(np.asarray(train.y)[:, None] == classes, 1.0, -1.0)
    y = Y[:, 1] if len(classes) == 2 else Y
    s = train.sample_weight * compute_sample_weight(estimator.class_weight, train.y)
    weighted = Samples(train.X, train.y, s)
    return _ridge(estimator, y, weighted, test, lambda p: loss(test, p, classes))


def _ridge(estimator: Any, y: Array, train: Samples, test: Samples, loss: Any) -> HyperGradient:
    s, X = train.sample_weight, train.X
    curvature = Curvature(X, s, float(estimator.alpha), intercept=estimator.fit_intercept)
    sy = (s * y.T).T
    w, b = curvature.solve(X.T @ sy, sy.sum(axis=0))
    value, g = loss(test.X @ w + b)
    u, u0 = curvature.solve(test.X.T @ g, g.sum(axis=0), strict=True)
    gradient = {"alpha": -float((u * w).sum())}
    pull, t = (s * (X @ w + b - y).T).T, (s * (X @ u + u0).T).T
    return HyperGradient(value, gradient, input_slopes(train.X, g, w, u, pull, t))


# --------------------------------------------------------------------- sparse least squares


def _lacks_one_target(estimator: Any) -> set[str]:
    if estimator.positive:
        raise NoHypergradient("positive=True")
    return {"l1_ratio"} if isinstance(estimator, Lasso) else set()


@register(
    Lasso, ElasticNet, params=["alpha", "l1_ratio"], output="target", proxy="squared_error",
    lacks=_lacks_one_target,
)  # fmt: skip
def elastic_net(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Differentiate on the support: ``alpha l1_ratio |w| + alpha (1 - l1_ratio) / 2 |w|^2``."""
    s = train.sample_weight / train.sample_weight.sum()
    y = np.asarray(train.y, dtype=np.float64)
    if y.ndim == 2 and y.shape[1] > 1:
        raise NoHypergradient("several targets; use MultiTaskElasticNet")
    y = y.reshape(-1)

    def pointwise(eta: Array) -> tuple[Array, Array, Array]:
        return s * (eta - y) ** 2 / 2, s * (eta - y), s

    alpha, ratio = float(estimator.alpha), float(estimator.l1_ratio)
    glm = Glm(train.X, pointwise, alpha * ratio, alpha * (1 - ratio), estimator.fit_intercept)
    at = optimum(glm, *_coefficients(estimator))
    value, g = loss(test, test.X @ at.w + at.b)
    u, t, left = at.adjoint(test.X.T @ g, g.sum())
    by_a1, by_a2 = -u @ np.sign(at.w), -u @ at.w
    gradient = {
        "alpha": float(ratio * by_a1 + (1 - ratio) * by_a2),
        "l1_ratio": float(alpha * (by_a1 - by_a2)),
    }
    inputs = input_slopes(train.X, g, at.w, u, at.pull, at.bend * t)
    flat = {} if at.w.any() else {"alpha": (float(np.abs(train.X.T @ at.pull).max()) / ratio, 1)}
    return HyperGradient(value - left, gradient, inputs, flat)


def _coefficients(estimator: Any) -> tuple[Array, float]:
    w = np.asarray(estimator.coef_, dtype=np.float64).ravel()
    return w, float(np.ravel(estimator.intercept_)[0])


def optimum(glm: Glm, w: Array, b: float) -> Optimum:
    """Polish a fitted model."""
    found = polish(glm, w, b)
    if found is None:
        raise NoHypergradient("an inner optimum: the fit did not converge")
    return found


# --------------------------------------------------------------------- logistic regression


def _l1_ratio(estimator: Any) -> float:
    """Return the share of the l1 penalty, however this scikit-learn says it."""
    penalty = getattr(estimator, "penalty", "deprecated")
    if penalty == "deprecated" or penalty == "elasticnet":
        return float(estimator.l1_ratio or 0.0)
    if penalty is None:
        raise NoHypergradient("a penalty (penalty=None)")
    return {"l1": 1.0, "l2": 0.0}[penalty]


def _lacks_ratio(estimator: Any) -> set[str]:
    penalty = getattr(estimator, "penalty", "deprecated")
    _l1_ratio(estimator)
    if not np.isfinite(estimator.C):
        raise NoHypergradient("a penalty (C=inf)")
    if (
        getattr(estimator, "multi_class", None) == "multinomial"
        and len(getattr(estimator, "classes_", ())) == 2
    ):
        raise NoHypergradient("two classes by multi_class='multinomial'")
    # Other solvers know one or two values of it only.
    varies = penalty in ("deprecated", "elasticnet") and estimator.solver == "saga"
    return set() if varies else {"l1_ratio"}


@register(
    LogisticRegression, params=["C", "l1_ratio"], output="decision", proxy="log_loss",
    lacks=_lacks_ratio,
)  # fmt: skip
def logistic(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Differentiate ``C sum s l + r |w| + (1 - r) / 2 |w|^2``."""
    s = _with_class_weights(estimator, train)
    if len(estimator.classes_) > 2:
        weighted = Samples(train.X, train.y, s)
        return multinomial(estimator, weighted, test, loss, _l1_ratio(estimator))
    sign = np.where(train.y == estimator.classes_[1], 1.0, -1.0)
    C, ratio = float(estimator.C), _l1_ratio(estimator)

    def pointwise(eta: Array) -> tuple[Array, Array, Array]:
        chance = expit(-sign * eta)
        return (
            C * s * np.logaddexp(0, -sign * eta),
            -C * s * sign * chance,
            C * s * chance * (1 - chance),
        )

    w, b = _coefficients(estimator)
    X, Z, intercept = train.X, test.X, estimator.fit_intercept
    if estimator.solver == "liblinear" and intercept:  # it penalises the intercept as a coefficient
        X, Z = (with_constant(A, estimator.intercept_scaling) for A in (X, Z))
        w, b, intercept = np.append(w, b / estimator.intercept_scaling), 0.0, False
    at = optimum(Glm(X, pointwise, ratio, 1 - ratio, intercept), w, b)
    value, g = loss(test, Z @ at.w + at.b, estimator.classes_)
    u, t, left = at.adjoint(Z.T @ g, g.sum())
    gradient = {
        "C": float(u @ (ratio * np.sign(at.w) + (1 - ratio) * at.w)) / C,
        "l1_ratio": -float(u @ (np.sign(at.w) - at.w)),
    }
    p = train.X.shape[1]  # but for the constant
    slopes = input_slopes(train.X, g, at.w[:p], u[:p], at.pull, at.bend * t)
    strongest = float(np.abs(X.T @ at.pull).max())
    flat = {} if at.w.any() or not strongest else {"C": (C * ratio / strongest, -1)}
    return HyperGradient(value - left, gradient, slopes, flat)


def class_weights(estimator: Any, train: Samples) -> Array:
    """Return the weight of each class.

    scikit-learn 1.7 balances the weights of classes, before that their numbers.
    """
    if estimator.class_weight is None:
        return np.ones(len(estimator.classes_))
    counted = {}
    if "sample_weight" in inspect.signature(compute_class_weight).parameters:
        counted["sample_weight"] = train.sample_weight
    found = compute_class_weight(
        estimator.class_weight, classes=estimator.classes_, y=train.y, **counted
    )
    return np.asarray(found, dtype=np.float64)


def _with_class_weights(estimator: Any, train: Samples) -> Array:
    """Return the weights of samples times those of their classes."""
    of_class = class_weights(estimator, train)
    return np.asarray(train.sample_weight * of_class[np.searchsorted(estimator.classes_, train.y)])


def with_constant(X: Any, value: float) -> Any:
    """Append a column of one value, which makes of the intercept a coefficient."""
    ones: Any = np.full((X.shape[0], 1), float(value))
    return sparse.hstack([X, ones], format="csr") if is_sparse(X) else np.hstack([X, ones])
