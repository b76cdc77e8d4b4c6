"""Losses of predictions, each with its slope: what a hypergradient starts from.

Notation: y (n,) or (n, k) targets, p predictions of the same shape, s (n,) weights that sum to
one. Every function returns the loss and dloss/dp. For classes, p are decision values: (n,) with
two classes, (n, k) with k, or (n, k (k - 1) / 2), one for each pair in the order of
``itertools.combinations``, where classes were compared in pairs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax

Array: TypeAlias = NDArray[np.float64]
Valued: TypeAlias = tuple[float, Array]


def _rows(s: Array, like: Array) -> Array:
    """Spread weights of samples over outputs, which count alike."""
    return s if like.ndim == 1 else s[:, None] / like.shape[1]


def _is_constant(y: Array, s: Array) -> bool:
    """Tell whether an output has one value only; its variance may be off zero by rounding."""
    return bool(np.any(np.ptp(y[s > 0], axis=0) == 0))


# --------------------------------------------------------------------- of targets


def squared_error(y: Array, p: Array, s: Array) -> Valued:
    """Mean squared error."""
    w = _rows(s, p)
    return float((w * (p - y) ** 2).sum()), 2 * w * (p - y)


def root_squared_error(y: Array, p: Array, s: Array) -> Valued:
    """Root of the mean squared error, of each output by itself."""
    mse = s @ (p - y) ** 2
    root = np.sqrt(mse)
    k = 1 if p.ndim == 1 else p.shape[1]
    weights = s if p.ndim == 1 else s[:, None]
    return float(np.mean(root)), weights * (p - y) / np.maximum(root, 1e-300) / k


def one_minus_r2(y: Array, p: Array, s: Array) -> Valued:
    """One minus the coefficient of determination, outputs averaged."""
    total = s @ (y - s @ y) ** 2
    if _is_constant(y, s):
        raise ValueError("R^2 is undefined: the targets of a test fold are constant.")
    w = _rows(s, p) / total
    return float((w * (p - y) ** 2).sum()), 2 * w * (p - y)


def unexplained_variance(y: Array, p: Array, s: Array) -> Valued:
    """One minus the explained variance, outputs averaged."""
    total = s @ (y - s @ y) ** 2
    if _is_constant(y, s):
        raise ValueError("Explained variance is undefined: a test fold's targets are constant.")
    error = (p - y) - s @ (p - y)
    w = _rows(s, p) / total
    return float((w * error**2).sum()), 2 * w * error


def absolute_error(y: Array, p: Array, s: Array) -> Valued:
    """Mean absolute error; its slope is that of almost everywhere."""
    w = _rows(s, p)
    return float((w * np.abs(p - y)).sum()), w * np.sign(p - y)


def squared_log_error(y: Array, p: Array, s: Array) -> Valued:
    """Mean squared error of ``log(1 + y)``."""
    if np.any(p <= -1) or np.any(y <= -1):
        raise ValueError("The squared logarithmic error needs targets and predictions above -1.")
    w, error = _rows(s, p), np.log1p(p) - np.log1p(y)
    return float((w * error**2).sum()), 2 * w * error / (1 + p)


def tweedie_deviance(y: Array, p: Array, s: Array, power: float) -> Valued:
    """Mean Tweedie deviance; power 0 is squared error, 1 Poisson, 2 gamma.

    d/dp of the unit deviance is ``2 (p - y) / p**power`` for every power.
    """
    if power != 0 and np.any(p <= 0):
        raise ValueError(f"The Tweedie deviance of power {power} needs positive predictions.")
    if power == 0:
        unit = (y - p) ** 2
    elif power == 1:
        unit = 2 * (np.where(y > 0, y * np.log(np.maximum(y, 1e-300) / p), 0.0) - y + p)
    elif power == 2:
        unit = 2 * (np.log(p / y) + y / p - 1)
    else:
        a, b = 1 - power, 2 - power
        first = np.maximum(y, 0.0) ** b / (a * b) if power < 2 else y**b / (a * b)
        unit = 2 * (first - y * p**a / a + p**b / b)
    slope = 2 * (p - y) / p**power if power else 2 * (p - y)
    return float(s @ unit), s * slope


def poisson_deviance(y: Array, p: Array, s: Array) -> Valued:
    """Mean Poisson deviance."""
    return tweedie_deviance(y, p, s, 1)


def gamma_deviance(y: Array, p: Array, s: Array) -> Valued:
    """Mean gamma deviance."""
    return tweedie_deviance(y, p, s, 2)


def unexplained_deviance(y: Array, p: Array, s: Array, power: float) -> Valued:
    """One minus D^2: the Tweedie deviance over that of the mean."""
    null, _ = tweedie_deviance(y, np.full_like(y, s @ y), s, power)
    if _is_constant(y, s):
        raise ValueError("D^2 is undefined: the targets of a test fold are constant.")
    value, slope = tweedie_deviance(y, p, s, power)
    return value / null, slope / null


# --------------------------------------------------------------------- of classes
# y holds the positions of classes, 0 to k - 1.


def log_loss(y: NDArray[np.intp], p: Array, s: Array) -> Valued:
    """Logarithmic loss of the sigmoid, or the softmax, of decision values."""
    if p.ndim == 1:
        sign = np.where(y == 1, 1.0, -1.0)
        return float(s @ np.logaddexp(0, -sign * p)), -s * sign * expit(-sign * p)
    here = np.arange(len(y)), y
    slope = softmax(p, axis=1)
    slope[here] -= 1
    return -float(s @ log_softmax(p, axis=1)[here]), s[:, None] * slope


def brier(y: NDArray[np.intp], p: Array, s: Array) -> Valued:
    """Brier score of the sigmoid, or the softmax, of decision values."""
    if p.ndim == 1:
        q = expit(p)
        return float(s @ (q - y) ** 2), s * 2 * (q - y) * q * (1 - q)
    q = softmax(p, axis=1)
    error = q - np.eye(p.shape[1])[y]
    inner = (error * q).sum(axis=1, keepdims=True)
    return float(s @ (error**2).sum(axis=1)), 2 * s[:, None] * q * (error - inner)


def squared_hinge(y: NDArray[np.intp], p: Array, s: Array) -> Valued:
    """Squared hinge loss, one class against the rest if there are several."""

    def one(sign: Array, q: Array, w: Array) -> Valued:
        short = np.maximum(0.0, 1 - sign * q)
        return float(w @ short**2), -2 * w * sign * short

    return _over_columns(one, y, p, s, pairs=False)


def platt_log_loss(y: NDArray[np.intp], p: Array, s: Array, *, pairs: bool = False) -> Valued:
    """Log loss of decision values after the best scaling ``a p + b`` with a >= 0.

    It measures what decisions are worth whatever their scale. At the best a and b its slope in
    them is zero, so the slope in p is that with both held [1].

    [1] J. Platt, "Probabilistic outputs for support vector machines", 1999.
    """
    return _over_columns(_platt, y, p, s, pairs=pairs)


def _over_columns(
    one: Callable[[Array, Array, Array], Valued],
    y: NDArray[np.intp],
    p: Array,
    s: Array,
    *,
    pairs: bool,
) -> Valued:
    """Sum a loss of two classes over all the questions that the columns of p answer."""
    if p.ndim == 1:
        return one(np.where(y == 1, 1.0, -1.0), p, s)
    total, slope = 0.0, np.zeros_like(p)
    k = (1 + math.isqrt(1 + 8 * p.shape[1])) // 2 if pairs else p.shape[1]
    for j, classes in enumerate(itertools.combinations(range(k), 2) if pairs else range(k)):
        if isinstance(classes, tuple):  # a positive decision is for the first of the pair
            rows = np.isin(y, classes)
            sign = np.where(y[rows] == classes[0], 1.0, -1.0)
        else:
            rows = np.ones(len(y), dtype=bool)
            sign = np.where(y == classes, 1.0, -1.0)
        value, slope[rows, j] = one(sign, p[rows, j], s[rows])
        total += value
    return total, slope


# Spread of decisions, relative to their size, that is none.
_CONSTANT = 1e-10

# Newton's steps that find a and b, at most; and the part of the loss below which what a step
# promises is lost in its rounding, so that it is the last.
_MAX_STEPS, _UNSEEN = 50, 1e-12


def _platt(sign: Array, q: Array, w: Array) -> Valued:
    """Return the loss of the best a >= 0 and b, and its slope in q.

    Targets are short of 0 and 1, as if two more samples had been seen, which keeps a finite where
    decisions separate the classes.
    """
    positive = sign > 0
    target = np.where(
        positive, (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2)
    )
    centre, scale = q.mean(), q.std()
    if scale <= _CONSTANT * np.abs(q).max():  # what is left of them is rounding
        centre, scale = q, np.inf
    Z = np.stack([(q - centre) / scale, np.ones_like(q)])
    ab = _logistic(Z, target, w)
    if ab[0] < 0:  # decisions that mislead are worth no more than none
        ab = np.append(0.0, _logistic(Z[1:], target, w))
    margin = ab @ Z
    loss = float(w @ (np.logaddexp(0, margin) - target * margin))
    return loss, ab[0] / scale * w * (expit(margin) - target)


def _logistic(Z: Array, target: Array, w: Array) -> Array:
    """Return the coefficients (m,) of rows Z (m, n) of least log loss, by damped Newton steps."""
    coef = np.zeros(len(Z))

    def loss(coef: Array) -> float:
        margin = coef @ Z
        return float(w @ (np.logaddexp(0, margin) - target * margin))

    value = loss(coef)
    for _ in range(_MAX_STEPS):
        chance = expit(coef @ Z)
        pull = Z @ (w * (chance - target))
        H = (Z * (w * chance * (1 - chance))) @ Z.T + 1e-12 * w.sum() * np.eye(len(Z))
        step = np.linalg.solve(H, pull)
        if pull @ step < _UNSEEN * max(value, 1e-300):
            return coef - step
        size = 1.0
        while (new := loss(coef - size * step)) > value and size > 1e-8:
            size /= 2
        coef, value = coef - size * step, new
    return coef
