"""BayesSearchCV: fit a Gaussian process, go where log expected improvement is largest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tunein._cost_aware import CostAwareSearchCV, per_second
from tunein._dimensions import Array
from tunein._docstrings import with_common_sections
from tunein._history import Known
from tunein._math.acquisition import maximise, nearby
from tunein._sklearn import on_one_blas_thread
from tunein._space import Space
from tunein._surrogate import Belief

# Chance of a random point. A model that has explained a cliff as noise would never look again;
# on plateaus, ridges and branches this was worth more than the tenth of the budget it costs.
_EXPLORATION = 0.1

# Chance that a point near the incumbent is preferred, unless another's log expected improvement is
# greater by so much: far from all that was tried a model promises more than it mostly keeps.
_LOCAL = 2 / 3
_DISTRUST = 4.0

# Points spread over the cube first. With fewer, the lengthscales are guesses for long.
_N_STARTUP = 10

# Best observed points around which to look closely.
_N_BEST = 5


@with_common_sections
class BayesSearchCV(CostAwareSearchCV):
    """Search with cross-validation by Bayesian optimization with a Gaussian process.

    A Gaussian process is fitted to the scores so far; where the improvement that it leads one to
    expect over the best point is largest, the next candidate is tried. Of the searches here it
    needs the fewest candidates, and some hundredths of a second to think about each.

    Parameters
    ----------
    {parameters}

    {acquisition}

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
    each [6]_, with a lengthscale for each that is held to be the longer the more parameters a
    candidate has [2]_, on a cube that is uniform under the prior that the space expresses, integers
    at their rounded places [3]_ and categories at equal distances. Its hyperparameters maximise the
    evidence times priors by closed-form gradients; up to 100 candidates, several sets drawn around
    the likeliest are believed in at once [4]_. The acquisition is log expected improvement [1]_
    over the best score, or over the best that the surrogate believes in by at least 0.03 standard
    deviations.

    Scores are warped to be near normal, those far below what random candidates get drawn in [5]_.
    Scores of single folds, once what is common to a fold is taken away, tell how noisy each
    candidate's mean is. Candidates whose scores are still to come are believed to turn out as
    expected. Where fits failed, a second Gaussian process learns how likely one is to succeed,
    which weighs the improvement [7]_; what more probably fails than not is tried when little else
    is to be gained. The first ten candidates are spread by a Sobol' sequence; later, one in ten is
    drawn at random, and for two of three a point near the best is preferred unless another
    promises far more. Beyond 300 candidates the surrogate sees the best of them and a sample of
    the rest.

    With ``acquisition='per_second'`` expected improvement is divided by a power of the time that a
    Gaussian process of log seconds predicts; the power falls from one after the first ten
    candidates to zero at the last [8]_.

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
    .. [8] E. H. Lee, V. Perrone, C. Archambeau, M. Seeger, "Cost-aware Bayesian optimization",
       arXiv:2003.10870, 2020.

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
        belief = Belief.of(space, known, rng)
        best, power = belief.best, self._power(space, known)
        acquisition, note = per_second(belief.acquisition, space, known, power, belief.note)
        point = maximise(acquisition, space, best[:_N_BEST], known.tried, rng)
        if rng.random() < _LOCAL:
            near = nearby(acquisition, space, best[0], known.tried, rng)
            options = np.concatenate([point[None], near])
            promised = acquisition(space.features(options)) + _DISTRUST * np.arange(len(options))
            point = options[int(np.argmax(promised))]
        return point, note
