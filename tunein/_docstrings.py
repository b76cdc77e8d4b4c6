"""What the docstrings of all searches share, written once."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T", bound=type)

_PARAMETERS = """\
estimator : estimator object
    What to tune, as in scikit-learn's ``RandomizedSearchCV``.

param_distributions : dict or list of dict
    The search space, with the meaning it has for ``RandomizedSearchCV``: parameter names to lists
    of choices, to distributions of ``scipy.stats``, or to anything with ``rvs``. A list or array
    of numbers is taken as ordered. A list of dicts is a choice of branches, which share one model
    and the budget of `n_iter`; a `Choice` has options that bring further parameters, to any depth.
    Also `Real`, `Integer`, `Categorical`, the dimensions of scikit-optimize and the distributions
    of Optuna. An unbounded distribution is searched between its 0.1 % and 99.9 % quantiles.

n_iter : int, default=50
    Number of candidates. In a finite space no point is tried twice, and the search ends early
    when all have been.

scoring : str, callable, list, tuple or dict, default=None
    As in ``RandomizedSearchCV``. Of several metrics the one named by `refit` drives the search,
    else the first one listed.

n_jobs : int or None, default=None
    Number of folds evaluated at a time, on joblib's active backend. None means 1 unless in a
    ``joblib.parallel_config`` context; -1 means all processors, or
    all workers of a cluster.

refit : bool, str or callable, default=True
    As in ``RandomizedSearchCV``.

cv : int, cross-validation generator or iterable, default=None
    As in ``RandomizedSearchCV``. Folds are drawn once, so that a shuffling splitter without a seed
    gives all candidates the same ones.

verbose : int, default=0
    As in ``RandomizedSearchCV``.

pre_dispatch : int or str, default='2*n_jobs'
    At most so many folds are with the workers at a time, in work or waiting. More than enough to
    keep them busy are never sent: what is proposed later is proposed with more known.

random_state : int, RandomState instance or None, default=None
    An int, or an instance, makes the candidates the same on every run with the same `n_jobs`, on
    any backend and whatever the timing; to that end a proposal looks only at trials that are old
    enough to have ended for certain. With None it looks at everything that has finished.

error_score : 'raise' or numeric, default=np.nan
    As in ``RandomizedSearchCV``. Unless it is ``'raise'``, no failure of a candidate ends the
    search; the method counts it as the worst seen.

return_train_score : bool, default=False
    As in ``RandomizedSearchCV``.

initial_params : list of dict, default=None
    Candidates to try first, each with all parameters of the space, or of one of its branches.
    Before them, the estimator's own current values are tried if the space contains them. Both
    count towards `n_iter`.

racing : FoldRace, Halving or None, default=None
    What losers are spared. `FoldRace` drops candidates that, going by their first folds, will not
    be the best. `Halving` tries all with little data or few iterations, and the best with more.
    None runs every fold of every candidate. Either says which columns it adds to `cv_results_`,
    and `Halving` which attributes it adds to the fitted search.

callbacks : callable or list of callables, default=None
    Each is called with the record, ``history_``, in this process whenever a candidate has all its
    folds or is dropped. A sentence that it returns ends the search and is its `stop_reason_`, None
    goes on. Folds of open candidates are finished, unless the callback has an attribute
    ``finishes_trials`` that is False. `EarlyStop`, `TargetScore`, `RegretBound` and `TimeLimit` are
    such callbacks. With several workers, timing decides which candidates are open when it ends;
    scikit-learn's own callbacks are set by ``set_callbacks``.

checkpoint : str or os.PathLike, default=None
    Path of a journal, in which every score is written down as it comes. `fit` begins it, or goes on
    from what it holds if it is of the same search on the same data, so that a search that was cut
    short is resumed, and a finished one continued with a larger `n_iter`. ``{fingerprint}`` in the
    path is replaced by digits that are those of this search and data alone, for searches within
    ``cross_val_score``.

history : History, dict, path or list of them, default=None
    What earlier searches found: their `history_`, their journals, or the `cv_results_` of any
    search of scikit-learn's form over the same parameters. The method learns from those scores as
    if it had tried the candidates itself, and begins with the best of them; they are no rows of
    `cv_results_` and do not count towards `n_iter`. If the record of a search says that its data
    or `scoring` were others, its scores are not believed, and its three best candidates are tried
    first, with a warning; of a `cv_results_` nobody knows, so it is believed. Candidates outside
    the space are left out, with a warning.

fit_timeout : float, default=None
    Seconds that one fold of one candidate may take, fit and score. What takes longer has failed,
    like a fit that raises; its error says where in the code it was. As even compiled code is ended,
    this needs worker processes: `n_jobs` of 2 or more, and joblib's loky backend (the default) or
    multiprocessing. Loky ends all its workers with one, and what the others were fitting begins
    again. None is no limit; the refit has none."""

_ACQUISITION = """\
acquisition : {'improvement', 'per_second'}, default='improvement'
    What the next candidate is chosen for: the improvement that is expected of it, or that per
    second of the time its fit is expected to take, going by those so far. For parameters that make
    fits many times dearer; by and by, as `n_iter` is spent, the time counts less, and in the end
    not at all. No two runs take the same times, so no seed makes the candidates of
    ``'per_second'`` the same on every run."""

_ATTRIBUTES = """\
cv_results_ : dict of numpy (masked) ndarrays
    As in ``RandomizedSearchCV``, in the order in which candidates were proposed.

best_estimator_ : estimator
    Refitted on all data with the best parameters; only if `refit` is not False.

best_score_ : float
    Mean cross-validated score of the best candidate.

best_params_ : dict
    Parameters of the best candidate.

best_index_ : int
    Its row in `cv_results_`.

scorer_ : function or dict
    The scorer, or one for each metric.

n_splits_ : int
    Number of folds.

refit_time_ : float
    Seconds that the refit took.

multimetric_ : bool
    Whether there were several metrics.

classes_ : ndarray of shape (n_classes,)
    Class labels, if the refitted estimator has them.

n_features_in_ : int
    Number of features seen during `fit`, if the refitted estimator has it.

feature_names_in_ : ndarray of shape (n_features_in_,)
    Names of features seen during `fit`, if the refitted estimator has them.

history_ : History
    The record of the search: every trial, in order, with its score on each fold.

space_ : Space
    The search space as it was understood.

stop_reason_ : str
    A sentence that says why the search ended.

search_cost_ : SearchCost
    What the search has cost, without the refit: ``n_fits``; ``fit_seconds`` and ``score_seconds``,
    sums over folds; ``cpu_seconds``; ``own_seconds``, in which the search itself was at work;
    ``wall_seconds``; ``peak_memory`` and ``worker_peak_memory`` in bytes."""


def with_common_sections(cls: T) -> T:
    """Fill ``{parameters}`` and ``{attributes}`` in the docstring of a search."""
    sections = {
        "{parameters}": _PARAMETERS,
        "{acquisition}": _ACQUISITION,
        "{attributes}": _ATTRIBUTES,
    }
    for placeholder, text in sections.items():
        indented = text.replace("\n", "\n    ").replace("\n    \n", "\n\n")
        cls.__doc__ = (cls.__doc__ or "").replace(placeholder, indented)
    return cls
