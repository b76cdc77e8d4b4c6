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

_N_STARTUP = 10
_N_CANDIDATES = 48


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
        n_good = min(math.ceil(0.1 * len(scores)) + 2, 25, int(finite.sum()))
        good = self._mixture(space, known.units[order[:n_good]])
        bad = self._mixture(space, np.concatenate([known.units[order[n_good:]], known.pending]))
        points = space.snap(good.sample(rng, _N_CANDIDATES))
        fresh = [i for i, point in enumerate(points) if Space.key(point) not in known.tried]
        points = points[fresh] if fresh else space.untried(rng, _N_CANDIDATES, known.tried)
        gain = good.log_density(points) - bad.log_density(points)
        return points[int(np.argmax(gain))], None

    def _mixture(self, space: Space, centres: Array) -> ParzenMixture:
        n, d = centres.shape
        bandwidths = np.where(
            np.array(space.kinds) == "categorical",
            1 / (1 + max(n, 1)) ** 0.5,
            0.2 * max(n, 1) ** (-1 / (d + 4)),
        )
        return ParzenMixture(centres, np.ones(n + 1), bandwidths, space.kinds, space.cells)
