"""Scores of candidates of which not all folds were run.

Notation, with shapes (n candidates, K folds):

    s : (n, K)   scores, greater is better         R : (n, K)   whether a fold was run
    m            how many folds were run of one candidate

Folds are easier or harder for all candidates alike, so the model is additive:

    s_if = a_i + b_f + e_if,   mean_f b_f = 0,   e_if ~ N(0, sigma^2)

b and sigma are told by candidates of which every fold was run. What a fold that was not run would
have scored is expected to be a_i + b_f, with a_i the mean of s_if - b_f over the folds run.

Whether candidate i will have a better mean than candidate j, of which all folds were run, is told
by their differences d_f = s_if - s_jf on the m folds that they share, free of b. Those are
a_i - a_j with noise of variance 2 sigma^2, so the mean difference over all K folds will be the mean
over the m, and an error of variance

    ((K - m) / K)^2 (2 sigma^2 / m + 2 sigma^2 / (K - m)) = 2 sigma^2 (K - m) / (K m).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

Array: TypeAlias = NDArray[np.float64]

# Of more candidates than this, the best tell folds and noise: enough, and the cost stays bounded.
_MOST_TELLING = 200


@dataclass(frozen=True)
class FoldModel:
    """The additive model.

    Attributes
    ----------
    effects : ndarray of shape (K,)
        Estimate of b; zero if no candidate has all folds.
    noise : float
        Estimate of sigma; NaN if fewer than two candidates have all folds.
    dof : int
        Degrees of freedom of that estimate.
    """

    effects: Array
    noise: float
    dof: int

    @classmethod
    def of(cls, s: Array) -> FoldModel:
        """Fit the model to the finite scores, shape (n, K), of candidates that have all folds."""
        if len(s) > _MOST_TELLING:
            s = s[np.argsort(-s.mean(axis=1), kind="stable")[:_MOST_TELLING]]
        n, K = s.shape
        if not n:
            return cls(np.zeros(K), math.nan, 0)
        deviations = s - s.mean(axis=1, keepdims=True)
        # Medians: candidates that diverged know neither which folds are hard nor what noise is.
        effects = np.median(deviations, axis=0)
        effects -= effects.mean()
        dof = (n - 1) * (K - 1)
        if not dof:
            return cls(effects, math.nan, 0)
        variances = ((deviations - effects) ** 2).sum(axis=1) * n / dof
        return cls(effects, math.sqrt(np.median(variances)), dof)

    def complete(self, s: Array, run: NDArray[np.bool_]) -> Array:
        """Return scores, shape (n, K), with what is expected of folds where not `run`.

        NaN, if a fold that was run has no finite score.
        """
        level = np.mean(s - self.effects, axis=1, where=run)
        return np.where(run, s, level[:, None] + self.effects)

    def chance_to_beat(self, rival: Array, own: Array, run: NDArray[np.bool_]) -> float:
        """Return how likely a candidate is to have a better mean than another over all folds.

        Parameters
        ----------
        rival : ndarray of shape (K,)
            Scores of the other.
        own : ndarray of shape (K,)
            Its own scores.
        run : ndarray of shape (K,)
            Where it has some.

        Returns
        -------
        chance : float
            1 if nothing tells the noise.
        """
        K, m = len(run), int(run.sum())
        gap = float((own - rival)[run].mean())
        if not self.dof:
            return 1.0
        error = self.noise * math.sqrt(2 * (K - m) / (K * m))
        return float(stdtr(self.dof, gap / error)) if error > 0 else float(gap >= 0)
