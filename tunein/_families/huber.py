"""The hypergradient of Huber's regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import HuberRegressor

from tunein._families._registry import HyperGradient, Loss, NoHypergradient, Samples, register
from tunein._math.huber import Huber, huber_optimum
from tunein._math.implicit import input_slopes


@register(HuberRegressor, params=["alpha", "epsilon"], output="target", proxy="squared_error")
def huber(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Differentiate in coefficients and scale at once."""
    y = np.asarray(train.y, dtype=np.float64).reshape(-1)
    alpha, epsilon = float(estimator.alpha), float(estimator.epsilon)
    intercept = bool(estimator.fit_intercept)
    problem = Huber(train.X, y, train.sample_weight, alpha, epsilon, intercept)
    w = np.asarray(estimator.coef_, dtype=np.float64)
    at = huber_optimum(problem, w, float(estimator.intercept_), float(estimator.scale_))
    if at is None:
        raise NoHypergradient("an inner optimum: the fit did not converge, or is exact")
    value, g = loss(test, test.X @ at.w + at.b)
    u, u0, uz = at.solve(test.X.T @ g, float(g.sum()), 0.0, strict=True)
    t = train.X @ u + u0
    # In epsilon an outlier's slope in eta moves by -2 s sign(r), and that in z by -2 e s.
    s = train.sample_weight[at.outliers]
    by_epsilon = 2 * float((s * at.sign[at.outliers]) @ t[at.outliers]) + 2 * epsilon * uz * s.sum()
    gradient = {"alpha": -2 * float(u @ at.w), "epsilon": float(by_epsilon)}
    slopes = input_slopes(train.X, g, at.w, u, at.pull, at.bend * t + at.cross * uz)
    return HyperGradient(value, gradient, slopes)
