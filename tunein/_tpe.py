"""TPESearchCV: go where good candidates are denser than bad ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tunein._dimensions import Array
from tunein._docstrings import with_common_sections
from tunein._history import Known
from tunein._math.parzen import ParzenMixture
from tunein._search import BaseSequentialSearchCV
from tunein._space import Space

# Spread points before the densities mean something.
_N_STARTUP = 10

# Points drawn from the good density. More would only be greedier.
_N_CANDIDATES = 24

# Share of trials that count as good, and how many at most: more would blur the optimum.
_GOOD_SHARE, _MAX_GOOD = 0.15, 25

# Bandwidth at one observation, in parts of the cube; it shrinks as Scott's rule says.
_BANDWIDTH = 0.15


@with_common_sections
class TPESearchCV(BaseSequentialSearchCV):
    """Search with cross-validation by tree-structured Parzen estimators.

    The candidates so far are split into a few good ones and the rest. One density is put around
    each group, and of the points drawn from the good one's, that is tried next which is likely
    among the good and unlikely among the rest. It costs about a millisecond a candidate, sees
    scores only through their ranks, and takes any kind of space.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    BayesSearchCV : Needs fewer candidates where fits are expensive.
    sklearn.model_selection.RandomizedSearchCV : Learns nothing from what it has tried.

    Notes
    -----
    The densities are joint over all parameters (multivariate), on a cube that is uniform under
    the prior that the space expresses. Failed candidates count as bad, and so do candidates
    whose scores are still to come. Ties are split in the order of trial.

    References
    ----------
    .. [1] J. Bergstra, R. Bardenet, Y. Bengio, B. Kegl, "Algorithms for hyper-parameter
       optimization", NIPS 2011.
    .. [2] S. Watanabe, "Tree-structured Parzen estimator: understanding its algorithm components
       and their roles for better empirical performance", arXiv:2304.11127, 2023.

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
        finite = np.isfinite(scores)
        # Worst last; failures after the worst; equal scores in the order of trial.
        order = np.argsort(np.where(finite, -scores, np.inf), kind="stable")
        n_good = max(1, min(math.ceil(_GOOD_SHARE * len(scores)), _MAX_GOOD, int(finite.sum())))
        # The better of the good weigh more: by the logarithm of their rank, as in CMA-ES.
        weights = np.log(n_good + 1) - np.log(np.arange(1, n_good + 1))
        good = _mixture(space, known.units[order[:n_good]], weights / weights.mean())
        bad_units = np.concatenate([known.units[order[n_good:]], known.pending])
        bad = _mixture(space, bad_units, np.ones(len(bad_units)))
        points = space.snap(good.sample(rng, _N_CANDIDATES))
        fresh = [i for i, point in enumerate(points) if Space.key(point) not in known.tried]
        points = points[fresh] if fresh else space.untried(rng, _N_CANDIDATES, known.tried)
        gain = good.log_density(points) - bad.log_density(points)
        return points[int(np.argmax(gain))], None


def _mixture(space: Space, units: Array, weights: Array) -> ParzenMixture:
    """Put a density around points; the prior weighs as much as an average one."""
    n, d = units.shape
    scott = max(n, 1) ** (-1 / (d + 4))
    redraw = 1 / math.sqrt(n + 2)  # the chance that a category is drawn anew
    bandwidths = [redraw if kind == "categorical" else _BANDWIDTH * scott for kind in space.kinds]
    return ParzenMixture(
        units, np.append(weights, 1.0), np.array(bandwidths), space.kinds, space.cells
    )
