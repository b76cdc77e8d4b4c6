"""BayesSearchCV: fit a Gaussian process, go where log expected improvement is largest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tunein._dimensions import Array
from tunein._docstrings import with_common_sections
from tunein._history import Known
from tunein._math import gp as gaussian
from tunein._math.acquisition import maximise
from tunein._search import BaseSequentialSearchCV
from tunein._sklearn import on_one_blas_thread
from tunein._space import Space

# More observations than this are thinned: the cost of a step stays bounded.
_MAX_OBSERVATIONS = 300

# Chance of a random point. A model that has explained a cliff as noise would never look again;
# on plateaus, ridges and branches this was worth more than the tenth of the budget it costs.
_EXPLORATION = 0.1

# Best observed points around which to look closely.
_N_BEST = 5


@with_common_sections
class BayesSearchCV(BaseSequentialSearchCV):
    """Search with cross-validation by Bayesian optimization with a Gaussian process.

    A Gaussian process is fitted to the scores so far; where the improvement that it leads one to
    expect over the best point is largest, the next candidate is tried. Of the searches here it
    needs the fewest candidates, and some hundredths of a second to think about each.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    TPESearchCV : Thinks for a millisecond, for cheap fits and large budgets.
    sklearn.model_selection.RandomizedSearchCV : Learns nothing from what it has tried.

    Notes
    -----
    The surrogate has a Matern-5/2 kernel with a lengthscale for each parameter, on a cube that is
    uniform under the prior that the space expresses [2]_, integers at their rounded places [3]_ and
    categories at equal distances. Its hyperparameters maximise the evidence times priors by
    closed-form gradients. The acquisition is log expected improvement [1]_ over the best posterior
    mean. Candidates whose scores are still to come are believed to turn out as expected; failed
    ones count as the worst seen. Scores far below the middle are drawn in logarithmically. Beyond
    300 candidates the surrogate sees the best of them and a sample of the rest.

    References
    ----------
    .. [1] S. Ament, S. Daulton, D. Eriksson, M. Balandat, E. Bakshy, "Unexpected improvements to
       expected improvement for Bayesian optimization", NeurIPS 2023.
    .. [2] C. Hvarfner, E. O. Hellsten, L. Nardi, "Vanilla Bayesian optimization performs great in
       high dimensions", ICML 2024.
    .. [3] E. C. Garrido-Merchan, D. Hernandez-Lobato, "Dealing with categorical and integer-valued
       variables in Bayesian optimization with Gaussian processes", Neurocomputing 380, 2020.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from tunein import BayesSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> search = BayesSearchCV(
    ...     SVC(), {"C": loguniform(1e-2, 1e3), "gamma": loguniform(1e-4, 1e1)},
    ...     n_iter=15, random_state=0,
    ... ).fit(X, y)
    >>> bool(search.best_score_ > 0.97)
    True
    """

    def _n_startup(self, space: Space) -> int:
        return min(10, max(4, len(space.dimensions) + 2))

    @on_one_blas_thread  # type: ignore[untyped-decorator]
    def _ask(
        self, space: Space, known: Known, rng: np.random.Generator
    ) -> tuple[Array, Mapping[str, Any] | None]:
        if rng.random() < _EXPLORATION:
            return space.untried(rng, 1, known.tried)[0], known.note
        y = _standardise(known.scores)
        units, y = _thin(known.units, y, rng)
        x = space.features(units)
        kinds, n_levels = space.kinds, [d.n_levels for d in space.dimensions]
        theta, note = self._hyperparameters(x, y, kinds, n_levels, known.note)
        model = gaussian.GaussianProcess(x, y, theta, kinds, n_levels)
        incumbent = float(model.predict(x)[0].max())
        if len(known.pending):
            # What is being tried is believed to come out as expected; so it attracts no twin.
            pending = space.features(known.pending)
            believed = np.concatenate([y, model.predict(pending)[0]])
            model = gaussian.GaussianProcess(
                np.concatenate([x, pending]), believed, theta, kinds, n_levels
            )
        best = units[np.argsort(-y, kind="stable")[:_N_BEST]]
        return maximise(model, space, incumbent, best, known.tried, rng), note

    def _hyperparameters(
        self, x: Array, y: Array, kinds: Any, n_levels: Any, note: Mapping[str, Any] | None
    ) -> tuple[Array, Mapping[str, Any]]:
        if note is not None and len(y) > 50 and len(y) < 1.05 * note["n"] + 1:
            return np.array(note["theta"]), note
        D = gaussian.squared_distances(x, x, kinds, n_levels)
        start = None if note is None else np.array(note["theta"])
        theta = gaussian.fit(D, y, gaussian.Prior.of_dimension(x.shape[1]), start)
        return theta, {"theta": theta.tolist(), "n": len(y)}


def _standardise(scores: Array) -> Array:
    """Return scores with mean 0 and sd 1; failures below the worst, the lower half drawn in.

    What matters is the order among good candidates. Below the median, distances enter by their
    logarithm: a candidate that diverged must not flatten all others.
    """
    finite = np.isfinite(scores)
    y = scores / (np.abs(scores[finite]).max() or 1.0)  # so that no difference overflows
    y = y - y[finite].max()
    y = y / (-y[finite].min() or 1.0)
    y[~finite] = y[finite].min() - 0.1
    middle = float(np.median(y))
    z = (y - middle) / max(-middle or float(y.std()), 1e-12)
    lower = z < 0
    z[lower] = -np.log1p(-z[lower])
    return np.asarray((z - z.mean()) / (z.std() or 1.0))


def _thin(units: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    if len(y) <= _MAX_OBSERVATIONS:
        return units, y
    order = np.argsort(-y, kind="stable")
    third = _MAX_OBSERVATIONS // 3
    kept = np.concatenate(
        [order[:third], rng.choice(order[third:], _MAX_OBSERVATIONS - third, replace=False)]
    )
    return units[np.sort(kept)], y[np.sort(kept)]
