"""Hypergradients of support vector machines.

libsvm stops at a tolerance of 1e-3 and rounds its kernels to single precision, and liblinear stops
early too: each rule goes on to the inner optimum first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR

from tunein._families._registry import HyperGradient, Loss, NoHypergradient, Samples, register
from tunein._families.linear import class_weights, optimum, with_constant
from tunein._math.implicit import Glm, Pointwise, input_slopes
from tunein._math.kernels import Kernel
from tunein._math.losses import Array, Valued
from tunein._math.matrices import dense
from tunein._math.support import (
    Dual,
    Gram,
    NotSettled,
    Rows,
    Settled,
    differentiate,
    settle,
)

# The tolerance of a second fit, where the first is too far from the optimum.
_TIGHT = 1e-8

# --------------------------------------------------------------------- linear, in the primal


def _lacks_of_linear_svc(estimator: Any) -> set[str]:
    if estimator.loss != "squared_hinge":
        raise NoHypergradient(f"loss={estimator.loss!r}, which is not smooth")
    if estimator.multi_class != "ovr":
        raise NoHypergradient(f"multi_class={estimator.multi_class!r}")
    return set()


@register(
    LinearSVC, params=["C"], output="decision", proxy="platt_log_loss", lacks=_lacks_of_linear_svc
)
def linear_svc(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Differentiate ``C sum s max(0, 1 - y f)^2 + |w|^2 / 2``, or ``+ |w|_1``, of each class.

    liblinear weighs the samples of a class by its class weight where it is the one against the
    rest, and those of the rest by one; with two classes, both by their own.
    """
    _lacks_of_linear_svc(estimator)
    classes, C = estimator.classes_, float(estimator.C)
    two = len(classes) == 2
    weights = class_weights(estimator, train)
    problems = []
    for k in range(1 if two else len(classes)):
        mine = np.asarray(train.y) == classes[1 if two else k]
        factor = np.where(mine, weights[1], weights[0]) if two else np.where(mine, weights[k], 1.0)
        problems.append(_squared_hinge(np.where(mine, 1.0, -1.0), C * train.sample_weight * factor))
    return _primal(
        estimator,
        train,
        test,
        problems,
        lambda p: loss(test, p[:, 0] if two else p, classes),
        a1=1.0 if estimator.penalty == "l1" else 0.0,
    )


def _squared_hinge(sign: Array, c: Array) -> Pointwise:
    def pointwise(eta: Array) -> tuple[Array, Array, Array]:
        short = np.maximum(0.0, 1 - sign * eta)
        return c * short**2, -2 * c * sign * short, 2 * c * (short > 0)

    return pointwise


def _lacks_of_linear_svr(estimator: Any) -> set[str]:
    if estimator.loss != "squared_epsilon_insensitive":
        raise NoHypergradient(f"loss={estimator.loss!r}, which is not smooth")
    return set()


@register(
    LinearSVR,
    params=["C", "epsilon"],
    output="target",
    proxy="squared_error",
    lacks=_lacks_of_linear_svr,
)
def linear_svr(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Differentiate ``C sum s max(0, |f - y| - epsilon)^2 + |w|^2 / 2``."""
    _lacks_of_linear_svr(estimator)
    y, c = np.asarray(train.y, dtype=np.float64), float(estimator.C) * train.sample_weight
    epsilon = float(estimator.epsilon)

    def pointwise(eta: Array) -> tuple[Array, Array, Array]:
        beyond = np.maximum(0.0, np.abs(eta - y) - epsilon)
        return c * beyond**2, 2 * c * np.sign(eta - y) * beyond, 2 * c * (beyond > 0)

    return _primal(estimator, train, test, [pointwise], lambda p: loss(test, p[:, 0]))


def _primal(
    estimator: Any,
    train: Samples,
    test: Samples,
    problems: list[Pointwise],
    loss: Callable[[Array], Valued],
    a1: float = 0.0,
) -> HyperGradient:
    """Solve each problem and its adjoint.

    C is a factor of every l', so dF/dC = X' l' / C. The band moves l' by -l'' sign(l').
    liblinear penalises the intercept as the coefficient of a constant feature.
    """
    X, Z = train.X, test.X
    W = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    if estimator.fit_intercept:
        scale = float(estimator.intercept_scaling)
        X, Z = with_constant(X, scale), with_constant(Z, scale)
        W = np.hstack([W, np.reshape(estimator.intercept_, (-1, 1)) / scale])
    optima = [
        optimum(Glm(X, problem, a1, 0.0 if a1 else 1.0, intercept=False), w, 0.0)
        for problem, w in zip(problems, W, strict=True)
    ]
    value, g = loss(np.stack([Z @ at.w for at in optima], axis=1))
    g = g.reshape(len(g), -1)
    by_C, by_epsilon = 0.0, 0.0
    us, ts = [], []
    for j, at in enumerate(optima):
        u, t, left = at.adjoint(Z.T @ g[:, j], 0.0)
        value -= left
        us.append(u)
        ts.append(at.bend * t)
        by_C -= float(t @ at.pull) / float(estimator.C)
        by_epsilon += float(ts[-1] @ np.sign(at.pull))
    p = train.X.shape[1]  # but for the constant
    w, u = np.stack([at.w[:p] for at in optima], axis=1), np.stack(us, axis=1)[:p]
    pull = np.stack([at.pull for at in optima], axis=1)
    slopes = input_slopes(train.X, g, w, u, pull, np.stack(ts, axis=1))
    return HyperGradient(value, {"C": by_C, "epsilon": by_epsilon}, slopes)


# --------------------------------------------------------------------- with kernels, in the dual


def _kernel(estimator: Any) -> Kernel:
    name = estimator.kernel
    if not isinstance(name, str) or name not in ("linear", "rbf", "poly", "sigmoid"):
        raise NoHypergradient("a kernel that is one of linear, rbf, poly and sigmoid")
    gamma = getattr(estimator, "_gamma", 1.0)  # what "scale" and "auto" have come to
    return Kernel(name, float(gamma), float(estimator.coef0), int(estimator.degree))


def _lacks_of_kernel(estimator: Any) -> set[str]:
    """Return the parameters that its kernel does not have, or that it sets from the data."""
    kernel = _kernel(estimator)
    lacks = set() if kernel.has_coef0 else {"coef0"}
    if not kernel.has_gamma or isinstance(estimator.gamma, str):
        lacks.add("gamma")
    return lacks


@register(
    SVC,
    params=["C", "gamma", "coef0"],
    output="decision",
    proxy="platt_log_loss",
    lacks=_lacks_of_kernel,
)
def svc(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Differentiate the machine of each pair of classes.

    Their values are positive for the first class of a pair; those of the only pair of two classes
    for the second, as in scikit-learn.
    """
    classes = estimator.classes_
    two = len(classes) == 2
    position = np.searchsorted(classes, train.y)
    cap = float(estimator.C) * train.sample_weight * estimator.class_weight_[position]

    def machines(fitted: Any, support: Rows, gram: Gram) -> list[Settled]:
        found = []
        for i, j in itertools.combinations(range(len(classes)), 2):
            rows = np.flatnonzero(((position == i) | (position == j)) & (cap > 0))
            y = np.where(position[rows] == (1 if two else i), 1.0, -1.0)
            beta = _coefficients_of_pair(fitted, support, position, i, j)[rows]
            above, below = np.where(y > 0, 0.0, np.inf), np.where(y > 0, np.inf, 0.0)
            found.append(settle(Dual(gram, rows, y, above, below, cap[rows]), beta))
        return found

    return _dual(
        estimator,
        train,
        test,
        machines,
        lambda p: loss(test, p[:, 0], classes) if two else loss(test, p, classes, pairs=True),
    )


def _coefficients_of_pair(fitted: Any, support: Rows, position: Rows, i: int, j: int) -> Array:
    """Return the coefficients of the machine of classes i < j, zero for other samples.

    A support vector of class i has its coefficient against class j in row j - 1 if i < j, and in
    row j if not.
    """
    dual = dense(fitted.dual_coef_)
    beta = np.zeros(len(position))
    first, second = position[support] == i, position[support] == j
    beta[support[first]] = dual[j - 1, first]
    beta[support[second]] = dual[i, second]
    return beta


@register(
    SVR,
    params=["C", "epsilon", "gamma", "coef0"],
    output="target",
    proxy="squared_error",
    lacks=_lacks_of_kernel,
)
def svr(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Differentiate one machine, with a band of epsilon on both sides of the targets."""
    cap = float(estimator.C) * train.sample_weight
    rows = np.flatnonzero(cap > 0)
    y = np.asarray(train.y, dtype=np.float64)[rows]
    band = np.full(len(rows), float(estimator.epsilon))

    def machines(fitted: Any, support: Rows, gram: Gram) -> list[Settled]:
        beta = np.zeros(len(cap))
        beta[support] = dense(fitted.dual_coef_)[0]
        return [settle(Dual(gram, rows, y, band, band, cap[rows]), beta[rows])]

    return _dual(estimator, train, test, machines, lambda p: loss(test, p[:, 0]))


def _dual(
    estimator: Any,
    train: Samples,
    test: Samples,
    machines: Callable[[Any, Rows, Gram], list[Settled]],
    loss: Callable[[Array], Valued],
) -> HyperGradient:
    """Settle the machines, by a second and closer fit if need be, and differentiate them."""
    kernel = _kernel(estimator)
    X, support = train.X, _support(estimator, train)
    gram = Gram(kernel, X, support)
    try:
        settled = machines(estimator, support, gram)
    except NotSettled:
        closer = clone(estimator).set_params(tol=_TIGHT)
        closer.fit(train.X, train.y, sample_weight=train.sample_weight)
        try:
            settled = machines(closer, _support(closer, train), gram)
        except NotSettled as error:
            raise NoHypergradient(f"an inner optimum: {error}") from None

    def columns(p: Array) -> Valued:
        value, slope = loss(p)
        return value, slope.reshape(p.shape)

    found = differentiate(gram, settled, test.X, columns)
    gradient = {
        "C": found.by_scale / float(estimator.C),
        "epsilon": found.by_epsilon,
        "gamma": found.by_gamma,
        "coef0": found.by_coef0,
    }
    of_kernel = found.inputs
    if of_kernel is None or not (kernel.has_gamma and estimator.gamma == "scale"):
        return HyperGradient(found.loss, gradient, of_kernel)

    def inputs() -> tuple[Array, Array]:
        in_train, in_test = of_kernel()
        # gamma = 1 / (p var X), and d var / dX = 2 (X - mean) / size.
        in_log = -2 * (X - X.mean()) / (X.size * X.var())
        return in_train + found.by_gamma * kernel.gamma * in_log, in_test

    return HyperGradient(found.loss, gradient, inputs)


def _support(fitted: Any, train: Samples) -> Rows:
    """Return the support vectors; libsvm does not count samples without weight."""
    support = np.asarray(fitted.support_, dtype=np.intp)
    kept = np.flatnonzero(train.sample_weight > 0)
    if len(kept) == len(train.sample_weight):
        return support
    own = fitted.support_vectors_
    if support.max(initial=-1) < len(kept) and _same(train.X[kept[support]], own):
        return kept[support]
    return support


def _same(A: Any, B: Any) -> bool:
    return np.array_equal(dense(A), dense(B))
