"""BayesSearchCV: fit a Gaussian process, go where log expected improvement is largest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunein._dimensions import Array
from tunein._docstrings import with_common_sections
from tunein._history import Known
from tunein._math import gp as gaussian
from tunein._math.acquisition import LogEI, maximise
from tunein._math.scores import observe
from tunein._search import BaseSequentialSearchCV
from tunein._sklearn import on_one_blas_thread
from tunein._space import Space

# More observations than this are thinned: the cost of a step stays bounded.
_MAX_OBSERVATIONS = 300

# Chance of a random point. A model that has explained a cliff as noise would never look again;
# on plateaus, ridges and branches this was worth more than the tenth of the budget it costs.
_EXPLORATION = 0.1

# Chance of a point near the best ones: the ends of the cube, where a model is least certain, took
# too many. A half was as good as none or better over tasks; two thirds was not compared with it.
_LOCAL = 2 / 3

# Points spread over the cube first. With fewer, the lengthscales are guesses for long.
_N_STARTUP = 10

# Best observed points around which to look closely.
_N_BEST = 5

# Sets of hyperparameters that are believed in at once, the likeliest and draws around it, up to so
# many observations; beyond, the likeliest alone is quicker, and there is less doubt to integrate.
_N_MODELS = 6
_N_INTEGRATED = 100

# Coordinates up to which that is done: the curvature at the mode costs twice as many evidences.
_MAX_INTEGRATED_DIMENSIONS = 40

# Observations up to which hyperparameters are fitted at every step; then, when 5 % more are there.
_N_EVERY = 50


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
    closed-form gradients; up to 100 candidates, several sets drawn around the likeliest are
    believed in at once [4]_. The acquisition is log expected improvement [1]_ over the best score.

    Scores are warped to be near normal, those far below the median drawn in [5]_. Scores of single
    folds, once what is common to a fold is taken away, tell how noisy each candidate's mean is.
    Candidates whose scores are still to come are believed to turn out as expected; failed ones
    count as worse than the worst seen. The first ten are spread by a Sobol' sequence; later, one in
    ten is drawn at random, and two of three are sought near the best so far only. Beyond 300
    candidates the surrogate sees the best of them and a sample of the rest.

    References
    ----------
    .. [1] S. Ament, S. Daulton, D. Eriksson, M. Balandat, E. Bakshy, "Unexpected improvements to
       expected improvement for Bayesian optimization", NeurIPS 2023.
    .. [2] C. Hvarfner, E. O. Hellsten, L. Nardi, "Vanilla Bayesian optimization performs great in
       high dimensions", ICML 2024.
    .. [3] E. C. Garrido-Merchan, D. Hernandez-Lobato, "Dealing with categorical and integer-valued
       variables in Bayesian optimization with Gaussian processes", Neurocomputing 380, 2020.
    .. [4] J. Snoek, H. Larochelle, R. P. Adams, "Practical Bayesian optimization of machine
       learning algorithms", NIPS 2012.
    .. [5] A. I. Cowen-Rivers et al., "HEBO: pushing the limits of sample-efficient hyper-parameter
       optimisation", Journal of Artificial Intelligence Research 74, 2022.

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
        return _N_STARTUP

    @on_one_blas_thread  # type: ignore[untyped-decorator]
    def _ask(
        self, space: Space, known: Known, rng: np.random.Generator
    ) -> tuple[Array, Mapping[str, Any] | None]:
        if rng.random() < _EXPLORATION:
            return space.untried(rng, 1, known.tried)[0], known.note
        seen = observe(known.scores, known.fold_scores)
        kept = _thin(seen.y, rng)
        units, y, weights = known.units[kept], seen.y[kept], seen.weights[kept]
        x = space.features(units)
        note = known.note
        if note is None or len(seen.y) <= _N_EVERY or len(seen.y) >= 1.05 * note["n"] + 1:
            theta = self._hyperparameters(space, x, y, weights, seen.noise, note, rng)
            note = {"theta": theta.tolist(), "n": len(seen.y)}
        acquisition = self._acquisition(space, x, y, weights, known.pending, note)
        best = units[np.argsort(-y, kind="stable")[:_N_BEST]]
        local = bool(rng.random() < _LOCAL)
        return maximise(acquisition, space, best, known.tried, rng, local=local), note

    def _hyperparameters(
        self,
        space: Space,
        x: Array,
        y: Array,
        weights: Array,
        noise: float,
        note: Mapping[str, Any] | None,
        rng: np.random.Generator,
    ) -> Array:
        """Return the most likely hyperparameters, and some that are about as likely, in rows."""
        n_levels = np.array([dimension.n_levels for dimension in space.dimensions])
        # A coordinate with one value tells nothing, and its lengthscale is anyone's guess.
        free = np.flatnonzero(n_levels > 1)
        D = gaussian.squared_distances(
            x[:, free], x[:, free], [space.kinds[j] for j in free], n_levels[free].tolist()
        )
        start = None if note is None else np.array(note["theta"][0])
        prior = gaussian.Prior.of_dimension(len(free), noise)
        mode = gaussian.fit(D, y, prior, start, weights)
        if len(y) > _N_INTEGRATED or len(free) > _MAX_INTEGRATED_DIMENSIONS:
            return mode[None]
        draws = gaussian.draw(mode, D, y, prior, weights, rng, _N_MODELS - 1)
        return np.concatenate([mode[None], draws])

    def _acquisition(
        self,
        space: Space,
        x: Array,
        y: Array,
        weights: Array,
        pending: Array,
        note: Mapping[str, Any],
    ) -> LogEI:
        n_levels = [dimension.n_levels for dimension in space.dimensions]
        rows = np.array(note["theta"])
        theta = np.zeros((len(rows), len(n_levels) + 2))
        theta[:, np.array([*n_levels, np.inf, np.inf]) > 1] = rows
        model = gaussian.GaussianProcess(x, y, theta, space.kinds, n_levels, weights)
        if len(pending):
            # What is being tried is believed to come out as expected; so it attracts no twin.
            features = space.features(pending)
            believed = model.predict(features)[0]
            model = gaussian.GaussianProcess(
                np.concatenate([x, features]),
                np.concatenate([np.broadcast_to(y, (len(rows), len(y))), believed], axis=1),
                theta,
                space.kinds,
                n_levels,
                np.concatenate([weights, np.ones(len(pending))]),
            )
        # The best score seen, not the best mean believed in: it is what `best_index_` will go by.
        return LogEI(model, np.full(len(rows), y.max()))


def _thin(y: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return which observations the model is told of: the best third, and a sample of the rest."""
    if len(y) <= _MAX_OBSERVATIONS:
        return np.arange(len(y))
    order = np.argsort(-y, kind="stable")
    third = _MAX_OBSERVATIONS // 3
    rest = rng.choice(order[third:], _MAX_OBSERVATIONS - third, replace=False)
    return np.sort(np.concatenate([order[:third], rest]))
