"""TPESearchCV: go where good candidates are denser than bad ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunein._cost_aware import CostAwareSearchCV, log_seconds
from tunein._dimensions import Array
from tunein._docstrings import with_common_sections
from tunein._history import Known
from tunein._math.parzen import ParzenMixture
from tunein._math.quadratic import Quadratic
from tunein._space import Space

# Spread points before the densities mean something.
_N_STARTUP = 10

# Points drawn from the good density. More would only be greedier.
_N_CANDIDATES = 24

# Share of trials that count as good, and how many at most: more would blur the optimum.
_GOOD_SHARE, _MAX_GOOD = 0.1, 25

# Of the others so many are looked at: the cost of a step stays bounded.
_MAX_REST = 1000

# Bandwidth at one observation, in parts of the cube; it shrinks as Scott's rule says.
_BANDWIDTH = 0.1

# Chance that a category is drawn anew, times the root of the number of observations.
_REDRAW = 0.5

# Weight of the prior in each density, in parts of an average point's, over the number of
# parameters. With few of them the good points are soon all on one hill, and others would never be
# drawn again.
_PRIOR = 4.0

# Share that the marginal densities have beside the joint one: what a parameter does by itself is
# learned sooner than what all do together.
_MARGINAL = 0.3


@with_common_sections
class TPESearchCV(CostAwareSearchCV):
    """Search with cross-validation by tree-structured Parzen estimators.

    The candidates so far are split into a few good ones and the rest. One density is put around
    each group, and of the points drawn from the good one's, that is tried next which is likely
    among the good and unlikely among the rest. It costs about a millisecond a candidate, sees
    scores only through their ranks, and takes any kind of space.

    Parameters
    ----------
    {parameters}

    {acquisition}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    BayesSearchCV : Needs fewer candidates where fits are expensive.
    sklearn.model_selection.RandomizedSearchCV : Learns nothing from what it has tried.

    Notes
    -----
    The densities are on a cube that is uniform under the prior that the space expresses. Their
    logarithms count for 70 % as joint ones of all parameters (multivariate), for 30 % as the
    product of those of single parameters, as in [1]_. The best tenth of the candidates are the
    good ones, 25 at most, the better ones with more weight. Failed candidates count as bad, and so
    do candidates whose scores are still to come. Ties are split in the order of trial.

    With ``acquisition='per_second'`` the improvement that the ratio of densities stands for [1]_ is
    divided by a power of the predicted time; the power falls from one after the first ten
    candidates to zero at the last [3]_. Log seconds are predicted by a parabola of each number and
    a constant of each category, fitted by ridge regression.

    References
    ----------
    .. [1] J. Bergstra, R. Bardenet, Y. Bengio, B. Kegl, "Algorithms for hyper-parameter
       optimization", NIPS 2011.
    .. [2] S. Watanabe, "Tree-structured Parzen estimator: understanding its algorithm components
       and their roles for better empirical performance", arXiv:2304.11127, 2023.
    .. [3] E. H. Lee, V. Perrone, C. Archambeau, M. Seeger, "Cost-aware Bayesian optimization",
       arXiv:2003.10870, 2020.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from tunein import TPESearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> search = TPESearchCV(
    ...     SVC(), {"C": loguniform(1e-2, 1e3), "gamma": loguniform(1e-4, 1e1)},
    ...     n_iter=20, random_state=0,
    ... ).fit(X, y)
    >>> bool(search.best_score_ > 0.97)
    True
    >>> search.stop_reason_
    'n_iter=20 candidates were tried.'
    """

    def _n_startup(self, space: Space) -> int:
        return _N_STARTUP

    def _ask(
        self, space: Space, known: Known, rng: np.random.Generator
    ) -> tuple[Array, Mapping[str, Any] | None]:
        scores = known.scores
        n_finite = int(np.count_nonzero(np.isfinite(scores)))
        n_good = max(1, min(math.ceil(_GOOD_SHARE * len(scores)), _MAX_GOOD, n_finite))
        good, rest = _split(-scores, n_good)
        if len(rest) > _MAX_REST:
            rest = rng.choice(rest, _MAX_REST, replace=False)
        units = [known.units.take(rows, axis=0) for rows in (good, rest)]
        mixtures = _mixtures(space, np.concatenate([*units, known.pending]), n_good)
        points = space.snap(mixtures.sample(rng, _N_CANDIDATES))
        points = space.fresh(points, known.tried)
        if not len(points):
            points = space.untried(rng, _N_CANDIDATES, known.tried)
        joint, marginal = mixtures.log_densities(points)
        logs = (1 - _MARGINAL) * joint + _MARGINAL * marginal
        promise = logs[0] - logs[1]
        if power := self._power(space, known):
            cost = Quadratic(*log_seconds(known), space.kinds)(points)
            promise = _log_improvement(promise, n_good / len(scores)) - power * cost
        return points[int(promise.argmax())], None


def _split(losses: Array, n_good: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the least losses, in order, and the others; equal ones in the order of trial.

    NaN is a loss greater than all others; at least `n_good` are none.
    """
    if len(losses) <= _MAX_GOOD + _MAX_REST:
        order = losses.argsort(kind="stable")
        return order[:n_good], order[n_good:]
    # Of many, most are left out by chance next, and to sort them all at every step takes long.
    limit = np.partition(losses, n_good - 1)[n_good - 1]
    good = np.append(np.flatnonzero(losses < limit), np.flatnonzero(losses == limit))[:n_good]
    good = good[np.argsort(losses[good], kind="stable")]
    is_good = np.zeros(len(losses), dtype=bool)
    is_good[good] = True
    return good, np.flatnonzero(~is_good)


def _log_improvement(log_ratio: Array, share: float) -> Array:
    """Return the log expected improvement, but for a constant, where good over bad is this likely.

    Of Bergstra et al. 2011, (share + (1 - share) bad / good)^-1: it has an end, where the ratio
    has none, so that it can be weighed against a cost.
    """
    return np.asarray(-np.logaddexp(np.log(share), np.log1p(-share) - log_ratio))


def _mixtures(space: Space, centres: Array, n_good: int) -> ParzenMixture:
    """Put a density around the first `n_good` points, the best first, and one around the others."""
    n, d = centres.shape
    kinds, sizes = space.kinds, (n_good, n - n_good)
    weights = np.zeros((2, n + 1))
    weights[0, :n_good], weights[1, n_good:], weights[:, -1] = _by_rank(n_good), 1.0, _PRIOR / d
    # Those of either group shrink with its own size.
    bandwidths = np.empty((n, d))
    bandwidths[:n_good], bandwidths[n_good:] = (_bandwidths(kinds, size) for size in sizes)
    return ParzenMixture(centres, weights, bandwidths, kinds, space.widths)


def _bandwidths(kinds: Sequence[str], n: int) -> list[float]:
    """Return the bandwidth of each coordinate around one of `n` points."""
    redraw = _REDRAW / math.sqrt(n + 2)
    narrow = _BANDWIDTH * max(n, 1) ** (-1 / (len(kinds) + 4))
    return [redraw if kind == "categorical" else narrow for kind in kinds]


@lru_cache(maxsize=_MAX_GOOD)
def _by_rank(n: int) -> Array:
    """Return weights of mean one: the better of the good count more, as in CMA-ES."""
    weights = np.log((n + 1) / np.arange(1, n + 1))
    return np.asarray(weights * (n / weights.sum()))
