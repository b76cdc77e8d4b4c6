"""Scores of candidates of which not all folds were run.

Notation, with shapes (n candidates, K folds):

    s : (n, K)   scores, greater is better         R : (n, K)   whether a fold was run
    m : (n,)     how many were run

Folds are easier or harder for all candidates alike, so an additive model stands in for the scores
that are missing:

    s_if = a_i + b_f + e_if,   mean_f b_f = 0,   e_if ~ N(0, sigma^2)

b and sigma are told by the candidates of which every fold was run. Then a_i is estimated by the
mean over the folds run of s_if - b_f, with variance sigma^2 / m_i, and the mean over all folds is
what it was on those run, and a_i + b_f on the others: it will differ from a_i + mean b by an error
of variance

    ((K - m) / K)^2 (sigma^2 / m + sigma^2 / (K - m)) = sigma^2 (K - m) / (K m).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class FoldModel:
    """The additive model, fitted.

    Attributes
    ----------
    completed : ndarray of shape (n, K)
        The scores; where a fold was not run, what is expected of it. All NaN for a candidate one
        of whose folds is.
    noise : float
        Estimate of sigma; NaN if fewer than two candidates have all folds.
    dof : int
        Degrees of freedom of that estimate.
    """

    completed: Array
    noise: float
    dof: int

    @classmethod
    def of(cls, s: Array, run: NDArray[np.bool_]) -> FoldModel:
        """Fit the model to scores `s` where `run`, both of shape (n, K)."""
        full = run.all(axis=1) & np.isfinite(s).all(axis=1)
        K, effects, noise, dof = s.shape[1], np.zeros(s.shape[1]), np.nan, 0
        if full.any():
            deviations, effects = (
                s[full] - s[full].mean(axis=1, keepdims=True),
                fold_effects(s[full]),
            )
            n, dof = len(deviations), (len(deviations) - 1) * (K - 1)
            if dof:
                variances = ((deviations - effects) ** 2).sum(axis=1) / (K - 1) * n / (n - 1)
                noise = float(np.sqrt(np.median(variances)))
        level = np.mean(s - effects, axis=1, where=run)
        return cls(np.where(run, s, level[:, None] + effects), noise, dof)

    def chance(self, i: int, m: int, incumbent: float) -> float:
        """Return how likely candidate i with m folds run will have a better mean than `incumbent`.

        1 if nothing tells the noise.
        """
        if not self.dof:
            return 1.0
        K = self.completed.shape[1]
        error = self.noise * np.sqrt((K - m) / (K * m))
        gap = float(self.completed[i].mean()) - incumbent
        if error == 0:
            return float(gap > 0)
        return float(stdtr(self.dof, gap / error))


def fold_effects(s: Array) -> Array:
    """Return b from scores `s` of shape (n, K); zeros if no candidate has all of them."""
    full = s[np.isfinite(s).all(axis=1)]
    if not len(full):
        return np.zeros(s.shape[1])
    # The median: candidates that diverged know nothing of which folds are hard.
    effects = np.median(full - full.mean(axis=1, keepdims=True), axis=0)
    return np.asarray(effects - effects.mean())
