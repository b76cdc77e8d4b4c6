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
from tunein._math.acquisition import Acquisition, Feasible, LogEI, maximise, nearby
from tunein._math.scores import Observations, observe
from tunein._search import BaseSequentialSearchCV
from tunein._sklearn import on_one_blas_thread
from tunein._space import Branch, Space

# More observations than this are thinned: the cost of a step stays bounded.
_MAX_OBSERVATIONS = 300

# Chance of a random point. A model that has explained a cliff as noise would never look again;
# on plateaus, ridges and branches this was worth more than the tenth of the budget it costs.
_EXPLORATION = 0.1

# Chance that a point near the incumbent is preferred, unless another's log expected improvement is
# greater by so much: far from all that was tried a model promises more than it mostly keeps.
_LOCAL = 2 / 3
_DISTRUST = 4.0

# An improvement on what the model believes is the best must be worth so much, in standard
# deviations of the scores: a hill that has been climbed is left.
_WORTHWHILE = 0.03

# Chance of a point of a branch drawn at random: of a branch whose few points were bad ones a model
# expects nothing more, though its best may be the best of all.
_BRANCH = 0.25

# Share of the variance of success and failure that may be noise. With more, a border between the
# two is explained as noise, and never learned.
_MOST_LABEL_NOISE = 0.1

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
    The surrogate's kernel is half a Matern-5/2 of all parameters together, half a sum of one of
    each [6]_, with a lengthscale for each, on a cube that is uniform under the prior that the space
    expresses [2]_, integers at their rounded places [3]_ and categories at equal distances. Its
    hyperparameters maximise the evidence times priors by closed-form gradients; up to 100
    candidates, several sets drawn around the likeliest are believed in at once [4]_. The
    acquisition is log expected improvement [1]_ over the best score, or over the best that the
    surrogate believes in by at least 0.03 standard deviations.

    Scores are warped to be near normal, those far below what random candidates get drawn in [5]_.
    Scores of single folds, once what is common to a fold is taken away, tell how noisy each
    candidate's mean is. Candidates whose scores are still to come are believed to turn out as
    expected. Where fits failed, a second Gaussian process learns how likely one is to succeed,
    which weighs the improvement [7]_; what more probably fails than not is tried when little else
    is to be gained. The first ten candidates are spread by a Sobol' sequence; later, one in ten is
    drawn at random, and for two of three a point near the best is preferred unless another
    promises far more; of a list of dicts, one in four is sought in a dict that is drawn at random.
    Beyond 300 candidates the surrogate sees the best of them and a sample of the rest.

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
    .. [6] D. Duvenaud, H. Nickisch, C. E. Rasmussen, "Additive Gaussian processes", NIPS 2011.
    .. [7] J. R. Gardner, M. J. Kusner, Z. E. Xu, K. Q. Weinberger, J. P. Cunningham, "Bayesian
       optimization with inequality constraints", ICML 2014.

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
        succeeded = np.isfinite(known.scores)
        seen = observe(known.scores[succeeded], known.fold_scores[succeeded])
        kept = _thin(seen.y, rng)
        seen = Observations(seen.y[kept], seen.weights[kept])
        units = known.units[succeeded][kept]
        note = self._believe(space, units, seen, known.note, len(known.units), rng)
        acquisition: Acquisition = _improvement(space, units, seen, known.pending, note)
        if not succeeded.all():
            stale = note is not known.note or "success" not in note
            theta = None if stale else np.array(note["success"])
            model, middle = _success(space, known.units, succeeded, theta, rng)
            note = {**note, "success": model.theta.tolist()}
            acquisition = Feasible(acquisition, model, middle)
        order = np.argsort(-seen.y, kind="stable")
        if space.forks and rng.random() < _BRANCH:
            branch = Branch.draw(space, rng)
            best = units[order[branch.has(units[order])][:_N_BEST]]
            return maximise(acquisition, branch, best, known.tried, rng), note
        best = units[order[:_N_BEST]]
        point = maximise(acquisition, space, best, known.tried, rng)
        if rng.random() < _LOCAL:
            near = nearby(acquisition, space, best[0], known.tried, rng)
            options = np.concatenate([point[None], near])
            promised = acquisition(space.features(options)) + _DISTRUST * np.arange(len(options))
            point = options[int(np.argmax(promised))]
        return point, note

    def _believe(
        self,
        space: Space,
        units: Array,
        seen: Observations,
        note: Mapping[str, Any] | None,
        n: int,
        rng: np.random.Generator,
    ) -> Mapping[str, Any]:
        """Return a note of the likeliest hyperparameters, and some that are about as likely.

        The last one, if it is of nearly as many trials as the `n` there are.
        """
        if note is not None and n > _N_EVERY and n < 1.05 * note["n"] + 1:
            return note
        D = _distances(space, units)
        start = None if note is None else np.array(note["theta"][0])
        prior = gaussian.Prior.of_dimension(len(D))
        rows = gaussian.fit(D, seen.y, prior, start, seen.weights)[None]
        if len(units) <= _N_INTEGRATED and len(D) <= _MAX_INTEGRATED_DIMENSIONS:
            draws = gaussian.draw(rows[0], D, seen.y, prior, seen.weights, rng, _N_MODELS - 1)
            rows = np.concatenate([rows, draws])
        return {"theta": rows.tolist(), "n": n}


def _distances(space: Space, units: Array) -> Array:
    """Return squared distances by coordinate."""
    x = space.features(units)
    return gaussian.squared_distances(x, x, space.kinds, space.n_levels)


def _posterior(
    space: Space, units: Array, y: Array, theta: Array, weights: Array | None = None
) -> gaussian.GaussianProcess:
    """Return a Gaussian process of points of the space."""
    x = space.features(units)
    return gaussian.GaussianProcess(x, y, theta, space.kinds, space.n_levels, weights)


def _improvement(
    space: Space, units: Array, seen: Observations, pending: Array, note: Mapping[str, Any]
) -> LogEI:
    """Return the log expected improvement over the best so far."""
    theta = np.array(note["theta"])
    model = _posterior(space, units, seen.y, theta, seen.weights)
    # The best score seen is what `best_index_` will go by. Where scores are noisy it lies far above
    # what is believed, and any greater one counts; elsewhere the improvement must be worth it.
    believed = model.predict(model.x)[0].max(axis=1)
    incumbent = np.maximum(seen.y.max(), believed + _WORTHWHILE)
    if len(pending):
        # What is being tried is believed to come out as expected; so it attracts no twin.
        expected = model.predict(space.features(pending))[0]
        y = np.concatenate([np.tile(seen.y, (len(theta), 1)), expected], axis=1)
        weights = np.concatenate([seen.weights, np.ones(len(pending))])
        model = _posterior(space, np.concatenate([units, pending]), y, theta, weights)
    return LogEI(model, incumbent)


def _success(
    space: Space,
    units: Array,
    succeeded: NDArray[np.bool_],
    theta: Array | None,
    rng: np.random.Generator,
) -> tuple[gaussian.GaussianProcess, float]:
    """Return a Gaussian process of which fits succeed, and where between both it says neither.

    Its hyperparameters are those of an earlier one, `theta`, or fitted if that is None.
    """
    # Of many trials, all of the rarer kind are kept, up to a third of what a model is told of.
    rare = succeeded.mean() < 0.5
    kept = _thin((succeeded == rare).astype(float), rng)
    units, labels = units[kept], succeeded[kept].astype(float)
    mean, spread = labels.mean(), labels.std()
    y, middle = (labels - mean) / spread, float((0.5 - mean) / spread)
    if theta is None:
        D = _distances(space, units)
        prior = gaussian.Prior.of_dimension(len(D), most_noise=_MOST_LABEL_NOISE)
        theta = gaussian.fit(D, y, prior)
    return _posterior(space, units, y, theta), middle


def _thin(y: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return which observations the model is told of: the best third, and a sample of the rest."""
    if len(y) <= _MAX_OBSERVATIONS:
        return np.arange(len(y))
    order = np.argsort(-y, kind="stable")
    third = _MAX_OBSERVATIONS // 3
    rest = rng.choice(order[third:], _MAX_OBSERVATIONS - third, replace=False)
    return np.sort(np.concatenate([order[:third], rest]))
