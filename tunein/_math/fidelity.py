"""One score for each candidate, where some were tried with more of a resource than others.

Notation, with shapes (n trials, levels 0 to L):

    s : (n,)   scores, greater is better         l : (n,)   levels
    c : (n,)   candidates, each the number of its first trial

Candidates are compared at one level k, the highest with enough scores. Those that never got there
were found worth less than some that did, which must not be forgotten: a model that is told only of
the promoted would look for better ones where the others failed. More of a resource mostly means a
better score for all alike. So a score of another level counts with what it lacks, going by the
candidates that were tried at both,

    s_i + median {s_j - s_m : c_j = c_m, l_j = k, l_m = l_i},

but one of a lower level counts for no more than the worst of level k.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.intp]


def comparable(
    s: Array, levels: Integers, candidates: Integers, enough: int
) -> tuple[Integers, Array]:
    """Choose one trial of each candidate, and say what to add to its score.

    Parameters
    ----------
    s : ndarray of shape (n,)
        Scores; NaN of those that failed.
    levels, candidates : ndarray of shape (n,)
        Of each trial.
    enough : int
        A level with so many scores is the one of comparison.

    Returns
    -------
    rows : ndarray of int
        The trials chosen, in order.
    added : ndarray of float
        What makes up for less of the resource.
    """
    n_succeeded = np.bincount(levels[np.isfinite(s)], minlength=1)
    full = np.flatnonzero(n_succeeded >= enough)
    level = int(full[-1]) if len(full) else int(n_succeeded.argmax())
    rows = _last_up_to(level, levels, candidates)
    there = levels[rows] == level
    reference = np.full(candidates.max(initial=-1) + 1, np.nan)  # by candidate; NaN if none
    reference[candidates[rows[there]]] = s[rows[there]]
    worst = np.nanmin(s[rows[there]], initial=np.inf)
    added = np.zeros(len(rows))
    for other in np.unique(levels[rows[~there]]):
        lacks = (reference[candidates] - s)[levels == other]
        lacks = lacks[np.isfinite(lacks)]
        mine = levels[rows] == other
        added[mine] = np.median(lacks) if len(lacks) else 0.0
        if other < level:
            added[mine] = np.minimum(added[mine], worst - s[rows[mine]])
    return rows, added


def _last_up_to(level: int, levels: Integers, candidates: Integers) -> Integers:
    """Return the last trial at `level` or below of each candidate, or else its first; in order."""
    n = len(levels)
    first = np.full(candidates.max(initial=-1) + 1, n)
    last = np.full(len(first), -1)
    np.minimum.at(first, candidates, np.arange(n))
    low = np.flatnonzero(levels <= level)
    np.maximum.at(last, candidates[low], low)
    rows = np.where(last >= 0, last, first)
    return np.sort(rows[first < n])
