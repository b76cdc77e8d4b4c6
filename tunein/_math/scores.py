"""Scores as a Gaussian process likes them: near normal, and with the noise that the folds tell.

Notation, with shapes (n candidates, k folds):

    v : (n,)     mean scores, greater is better        f : (n, k)   fold scores, v = mean_k f
    u = (v - m) / (max v - m)                          so what is above m lies in [0, 1]

where m is about the median of candidates drawn at random.

What matters is the order among good candidates. Below m, u is replaced by its logarithm
and ends at -2: a candidate that diverged must not flatten all others. Then the power of Yeo and
Johnson (2000, "A new family of power transformations", Biometrika 87) makes the rest as normal as
it can be; that such a power pays in tuning was seen by Cowen-Rivers et al. 2022 (HEBO, JAIR 74):

    t(u) = ((1 + u)^p - 1) / p              u >= 0
         = -((1 - u)^(2 - p) - 1) / (2 - p)     u < 0

Fold scores differ because folds are easier or harder, which is the same for all candidates and is
taken away, and because this candidate happened to do well there. The variance of the latter, over
k, is the noise of a candidate's mean, each one's drawn towards that of all. Only how much noisier
one candidate is than another is taken from there: how noisy all are, the means tell better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Array: TypeAlias = NDArray[np.float64]

# Where the lower part ends, in units of the distance from m to the best, and where scores
# of single folds do, which may be above the best mean.
_BOTTOM, _TOP = 2.0, 2.0

# A quantile so much farther below the best than the next one lies among candidates that diverged.
_DIVERGED = 1e3

# Scores that differ by so much of their size are equal but for rounding.
_ROUNDING = 1e-13

# Powers outside would stretch one end beyond what few scores can tell.
_POWERS = (-2.0, 4.0)

# Noise, as a part of the variance of scores, below which its differences say nothing.
_LEAST_NOISE = 1e-3

# A candidate's own variance counts as k - 1 degrees of freedom, that of all as so many.
_POOLED_DEGREES = 4.0
_WEIGHT_RANGE = (0.3, 5.0)


@dataclass(frozen=True)
class Observations:
    """What a Gaussian process is told of the candidates.

    Attributes
    ----------
    y : ndarray of shape (n,)
        Mean 0 and standard deviation 1 over all candidates, unless all are equal.
    weights : ndarray of shape (n,)
        Noise variances of the candidates, relative to one another.
    """

    y: Array
    weights: Array


class Warp:
    """An increasing map of scores, fitted to some.

    Parameters
    ----------
    v : ndarray of shape (n,)
        Finite scores.
    """

    def __init__(self, v: Array) -> None:
        self._middle = _middle(v)
        self._unit = float(v.max() - self._middle) or _spread(v)
        self._power = 1.0
        u = self._squash(v)
        if len(v) > 4 and np.ptp(u) > 0:
            found = minimize_scalar(
                lambda p: -_normality(u, p),
                bounds=_POWERS,
                method="bounded",
                options={"xatol": 1e-4},
            )
            self._power = float(found.x)

    def _squash(self, v: Array) -> Array:
        # The quotient may overflow; there is an end to either side.
        with np.errstate(over="ignore"):
            u = np.minimum((v - self._middle) / self._unit, _TOP)
        return np.asarray(np.where(u < 0, -np.minimum(np.log1p(np.maximum(-u, 0)), _BOTTOM), u))

    def __call__(self, v: Array) -> Array:
        """Return the scores `v`, of any shape, as the model sees them, before standardising."""
        return yeo_johnson(self._squash(v), self._power)


def _middle(v: Array) -> float:
    """Return about the median of points drawn at random, or a higher quantile if that diverged.

    A search draws its first ten, and later one in ten, and tries better ones in between. The median
    of all would rise, and differences among the best that mean nothing would fill the scale.
    """
    best, level = float(v.max()), min(0.5, 5 / len(v) + 0.05)
    while True:
        here, following = np.quantile(v, [level, (1 + level) / 2])
        if not best - here > _DIVERGED * (best - following) > 0:
            return float(here)
        level = (1 + level) / 2


def yeo_johnson(u: Array, p: float) -> Array:
    """Return the power transform t(u)."""
    size = np.log1p(np.abs(u))

    def power(q: float) -> Array:
        return np.asarray(np.expm1(q * size) / q if abs(q) > 1e-8 else size)

    return np.where(u >= 0, power(p), -power(2 - p))


def _normality(u: Array, p: float) -> float:
    """Return the log-likelihood of power p, where t(u) is normal with any mean and variance."""
    jacobian = float(np.sum(np.sign(u) * np.log1p(np.abs(u))))
    variance = max(float(yeo_johnson(u, p).var()), 1e-300)
    return -0.5 * len(u) * math.log(variance) + (p - 1) * jacobian


def observe(
    scores: Array, fold_scores: Array, n_run: NDArray[np.intp] | None = None
) -> Observations:
    """Return what to tell a Gaussian process.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Finite mean scores.
    fold_scores : ndarray of shape (n, k)
        Scores by fold.
    n_run : ndarray of shape (n,) or None
        How many of them were run, the others being guessed; None for all.

    Returns
    -------
    observations : Observations
    """
    scale = float(max(np.abs(scores).max(), np.abs(fold_scores).max())) or 1.0
    v, folds = merge_ties(scores / scale), fold_scores / scale  # no difference overflows
    warp = Warp(v)
    t = warp(v)
    spread = _spread(t)
    if n_run is None:
        weights = _fold_weights(folds, warp, spread)
    else:
        k, whole = folds.shape[1], n_run == folds.shape[1]
        weights = k / n_run  # what was guessed says nothing of noise
        weights[whole] = _fold_weights(folds[whole], warp, spread)
    return Observations((t - t.mean()) / spread, weights)


def merge_ties(scores: Array) -> Array:
    """Return finite scores, shape (n,), those that differ by rounding alone made equal.

    Means of the same fold scores in another order may differ so.
    """
    order = np.argsort(scores, kind="stable")
    v = scores[order]
    size = np.maximum(np.abs(v[1:]), np.abs(v[:-1]))
    with np.errstate(over="ignore"):
        new = np.append(True, v[1:] - v[:-1] > _ROUNDING * size)
    merged = np.empty_like(v)
    merged[order] = v[new][np.cumsum(new) - 1]
    return merged


def all_tied(scores: Array) -> bool:
    """Tell whether finite scores, shape (n,), differ by rounding alone."""
    most = len(scores) * _ROUNDING * float(np.abs(scores).max(initial=0.0))
    low, high = float(scores.min()), float(scores.max())
    if high / 2 - low / 2 > most:  # so many small steps do not lead so far: no need to sort
        return False
    merged = merge_ties(scores)
    return bool(merged.min() == merged.max())


def draw_in(v: Array) -> Array:
    """Return finite scores, shape (n,), those of the worse half nearer to the median.

    The better half keeps its scores, so that a difference there is worth what it was; of how bad
    the others are, no more is told than a model needs to leave them alone.
    """
    middle = float(np.median(v))
    unit = float(v.max()) - middle or _spread(v)
    depth = np.minimum(np.log1p(np.maximum(middle - v, 0) / unit), _BOTTOM)
    return np.where(v < middle, middle - unit * depth, v)


def _spread(v: Array) -> float:
    """Return the standard deviation, or one if all are equal."""
    return float(v.std()) if np.ptp(v) > 0 else 1.0


def _fold_weights(folds: Array, warp: Warp, spread: float) -> Array:
    """Return noise variances of the candidates relative to that of most."""
    n, k = folds.shape
    if n < 3 or k < 2:
        return np.ones(n)
    level = np.median(folds - folds.mean(axis=1, keepdims=True), axis=0)
    own = warp(folds - (level - level.mean())) / spread
    variance = own.var(axis=1, ddof=1) / k
    pooled = float(np.median(variance)) or float(variance.mean())
    if pooled <= _LEAST_NOISE:  # differences between rounding errors say nothing
        return np.ones(n)
    shrunk = (_POOLED_DEGREES + (k - 1) * variance / pooled) / (_POOLED_DEGREES + k - 1)
    return np.asarray(np.clip(shrunk, *_WEIGHT_RANGE))
