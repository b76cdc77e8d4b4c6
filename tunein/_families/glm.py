"""Hypergradients of generalised linear models with Poisson, gamma and Tweedie deviances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import GammaRegressor, PoissonRegressor, TweedieRegressor

from tunein._families._registry import HyperGradient, Loss, NoHypergradient, Samples, register
from tunein._math.implicit import Glm, Pointwise, input_slopes, polish
from tunein._math.losses import Array


@register(PoissonRegressor, params=["alpha"], output="target", proxy="poisson_deviance")
def poisson(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Differentiate the optimum of the Poisson deviance with a log link."""
    return _deviance(estimator, train, test, loss, 1.0, log=True)


@register(GammaRegressor, params=["alpha"], output="target", proxy="gamma_deviance")
def gamma(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Differentiate the optimum of the gamma deviance with a log link."""
    return _deviance(estimator, train, test, loss, 2.0, log=True)


@register(TweedieRegressor, params=["alpha"], output="target", proxy="squared_error")
def tweedie(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Differentiate the optimum of a Tweedie deviance with either link."""
    power = float(estimator.power)
    log = estimator.link == "log" or (estimator.link == "auto" and power > 0)
    return _deviance(estimator, train, test, loss, power, log=log)


def _deviance(
    estimator: Any, train: Samples, test: Samples, loss: Loss, power: float, *, log: bool
) -> HyperGradient:
    """Differentiate ``sum s d / (2 sum s) + alpha / 2 |w|^2`` for a unit deviance d."""
    s = train.sample_weight / train.sample_weight.sum()
    y = np.asarray(train.y, dtype=np.float64).reshape(-1)
    pointwise = _with_log_link(y, s, power) if log else _with_identity(y, s, power)
    glm = Glm(train.X, pointwise, 0.0, float(estimator.alpha), bool(estimator.fit_intercept))
    w = np.asarray(estimator.coef_, dtype=np.float64).ravel()
    at = polish(glm, w, float(np.ravel(estimator.intercept_)[0]))
    if at is None:
        raise NoHypergradient("an inner optimum: the fit did not converge")
    eta = test.X @ at.w + at.b
    prediction = np.exp(eta) if log else eta
    value, g = loss(test, prediction)
    g = g * prediction if log else g
    u, t, left = at.adjoint(test.X.T @ g, float(g.sum()))
    slopes = input_slopes(train.X, g, at.w, u, at.pull, at.bend * t)
    return HyperGradient(value - left, {"alpha": -float(u @ at.w)}, slopes)


def _with_log_link(y: Array, s: Array, power: float) -> Pointwise:
    """Return the half deviance of ``mu = exp(eta)``, but for a term of y alone, and its slopes.

    With p the power, d/dmu is ``(mu - y) mu^-p``; so l' = mu^(2 - p) - y mu^(1 - p).
    """
    a, b = 1 - power, 2 - power

    def pointwise(eta: Array) -> tuple[Array, Array, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            A, B = y * np.exp(a * eta), np.exp(b * eta)
            first, second = (eta if b == 0 else B / b), (y * eta if a == 0 else A / a)
            value = first - second
        return s * np.where(np.isnan(value), np.inf, value), s * (B - A), s * (b * B - a * A)

    return pointwise


def _with_identity(y: Array, s: Array, power: float) -> Pointwise:
    """Return the half deviance of ``mu = eta`` and its slopes; infinite where it is undefined."""
    a, b = 1 - power, 2 - power

    def pointwise(eta: Array) -> tuple[Array, Array, Array]:
        if power == 0:
            return s * (eta - y) ** 2 / 2, s * (eta - y), s.copy()
        mu = np.where(eta > 0, eta, np.nan)
        first = np.log(mu) if b == 0 else mu**b / b
        second = y * np.log(mu) if a == 0 else y * mu**a / a
        value, flat = first - second, mu**-power
        bend = a * flat + power * y * flat / mu
        return s * np.where(np.isnan(value), np.inf, value), s * (mu - y) * flat, s * bend

    return pointwise
