"""Scores of candidates that were tried with more and more of a resource.

Notation, with shapes (n trials, levels 0 to L):

    s : (n,)   scores, greater is better         l : (n,)   levels
    p : (n,)   the trial that each goes on from, of the same candidate; -1 for none

More of a resource mostly means a better score for all candidates alike. What one level is worth is
told by those that were tried on both sides of it:

    g_k = median {s_i - s_p(i) : l_i = k + 1, l_p(i) = k}

and what a score of level k lacks to one of level L is g_k + ... + g_(L-1). Only promising
candidates are promoted, whose scores below were lucky ones; so the rest is rated a little too low.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def offsets(s: Array, levels: NDArray[np.intp], parents: NDArray[np.intp]) -> Array:
    """Return for each level what its scores lack to those of the highest; shape (L + 1,)."""
    gains = np.zeros(levels.max(initial=0) + 1)
    went_up = (parents >= 0) & np.isfinite(s)
    differences = s[went_up] - s[parents[went_up]]
    low, high = levels[parents[went_up]], levels[went_up]
    for k in range(len(gains) - 1):
        if len(seen := differences[(low == k) & (high == k + 1)]):
            gains[k] = np.median(seen)
    return np.asarray(gains[::-1].cumsum()[::-1])
