"""When a search has done enough: functions of the record, asked each time a trial closes."""

from __future__ import annotations

import math
import numbers
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tunein._dimensions import Array
from tunein._history import History
from tunein._parse import shown
from tunein._sklearn import on_one_blas_thread
from tunein._surrogate import most_to_gain

# Closed trials between two looks at the regret: at least so many, and so large a part of all. Each
# look fits a Gaussian process, and a few trials more or less tell it little.
_LOOK_EVERY, _LOOK_SHARE = 5, 0.05


@dataclass(frozen=True)
class EarlyStop:
    """Stop a search that has not improved for a while.

    Parameters
    ----------
    patience : int, default=20
        How many trials may close without an improvement, dropped and failed ones among them.
        They are counted from the first mean score on. Of a race with levels, an improvement is one
        on the best of the same level.

    tol : float, default=0.0
        What the best mean score must rise by, to count as an improvement.

    See Also
    --------
    RegretBound : Stop when not enough is left to be gained.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from tunein import EarlyStop, TPESearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> search = TPESearchCV(
    ...     KNeighborsClassifier(), {"n_neighbors": range(1, 100)},
    ...     random_state=0, callbacks=EarlyStop(patience=8, tol=0.001),
    ... ).fit(X, y)
    >>> search.stop_reason_
    'The best mean score, 0.98, was not exceeded by more than 0.001 in 8 candidates.'
    """

    patience: int = 20
    tol: float = 0.0

    def __call__(self, history: History) -> str | None:
        """Return why to stop, or None.

        Parameters
        ----------
        history : History
            The record of the search.

        Returns
        -------
        reason : str or None
            A sentence, or None to go on.
        """
        means, levels = history.visible_means()[history.ended], history.levels[history.ended]
        best, last = -math.inf, -1
        for level in np.unique(levels):  # with less of a resource scores are others
            there = np.flatnonzero((levels == level) & np.isfinite(means))
            rises = self._rises(means[there])
            if rises:
                best, last = means[there[rises[-1]]], max(last, int(there[rises[-1]]))
        n_since = len(means) - 1 - last
        if last < 0 or n_since < self.patience:
            return None
        return (
            f"The best mean score, {best:.6g}, was not exceeded by more than "
            f"{float(self.tol):g} in {n_since} candidates."
        )

    def _rises(self, means: Array) -> list[int]:
        """Return the places at which finite scores exceed the best until then by `tol`."""
        rises, best = [], -math.inf
        before = np.append(-np.inf, np.maximum.accumulate(means))[:-1]
        # Those that do are better than all before them, of which there are few.
        for place in np.flatnonzero(means > before).tolist():
            if means[place] > best + self.tol:
                rises.append(place)
                best = float(means[place])
        return rises

    def _check(self, history: History) -> None:
        _require_whole(self, "patience")
        _require_number(self, "tol", least=0)


@dataclass(frozen=True)
class TargetScore:
    """Stop a search when it has found what was asked for.

    Parameters
    ----------
    score : float
        The mean score over all folds to reach, on the metric that drives the search; greater is
        better, so that of ``'neg_mean_squared_error'`` is negative. With `Halving`, that of a trial
        with all of the resource.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from tunein import BayesSearchCV, TargetScore
    >>> X, y = load_iris(return_X_y=True)
    >>> search = BayesSearchCV(
    ...     SVC(), {"C": loguniform(1e-3, 1e3)}, random_state=0, callbacks=TargetScore(0.95)
    ... ).fit(X, y)
    >>> search.stop_reason_
    'A mean score of 0.95 was asked for, and candidate 0 has 0.966667.'
    """

    score: float

    def __call__(self, history: History) -> str | None:
        """Return why to stop, or None.

        Parameters
        ----------
        history : History
            The record of the search.

        Returns
        -------
        reason : str or None
            A sentence, or None to go on.
        """
        there = np.flatnonzero(history.means >= self.score)
        if not len(there):
            return None
        number = history.closed[int(there[0])]
        return (
            f"A mean score of {float(self.score):g} was asked for, and candidate {number} has "
            f"{history.mean(number):.6g}."
        )

    def _check(self, history: History) -> None:
        _require_number(self, "score", least=-math.inf)


@dataclass(frozen=True)
class RegretBound:
    """Stop a search when what is left to be gained drowns in the noise of cross-validation.

    A Gaussian process is fitted to the scores, whichever the method of the search, every few
    trials. Its confidence bounds tell what the best score may still be exceeded by, at most [1]_.
    The search stops when that is less than the standard error of the best candidate's mean score.

    Parameters
    ----------
    tol : float or None, default=None
        What is too little to go on for, in the unit of the score. None means the standard error
        of the best candidate's mean, from its scores on the folds, corrected for the samples that
        their training sets share [2]_.

    min_trials : int, default=20
        How many trials must have closed before: with fewer, the model knows too little.

    See Also
    --------
    EarlyStop : Stop when the best score has not improved for a while.

    Notes
    -----
    With K folds whose scores have variance s^2, the standard error is the root of
    (1 / K + n_test / n_train) s^2. With five folds that is two thirds of their standard deviation.

    References
    ----------
    .. [1] A. Makarova, H. Shen, V. Perrone, A. Klein, J. B. Faddoul, A. Krause, M. Seeger,
       C. Archambeau, "Automatic termination for hyperparameter optimization", AutoML 2022.
    .. [2] C. Nadeau, Y. Bengio, "Inference for the generalization error", Machine Learning 52,
       2003.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.kernel_ridge import KernelRidge
    >>> from tunein import RegretBound, TPESearchCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> search = TPESearchCV(
    ...     KernelRidge(kernel="rbf"),
    ...     {"alpha": loguniform(1e-3, 1e1), "gamma": loguniform(1e-2, 1e1)},
    ...     n_iter=100, random_state=0, callbacks=RegretBound(),
    ... ).fit(X, y)
    >>> len(search.history_) < 100
    True
    """

    tol: float | None = None
    min_trials: int = 20

    @on_one_blas_thread  # type: ignore[untyped-decorator]
    def __call__(self, history: History) -> str | None:
        """Return why to stop, or None.

        Parameters
        ----------
        history : History
            The record of the search.

        Returns
        -------
        reason : str or None
            A sentence, or None to go on.
        """
        n = len(history.closed)
        every = max(_LOOK_EVERY, int(_LOOK_SHARE * n))
        if n < self.min_trials or (n - self.min_trials) % every or history.space is None:
            return None
        known = history.known()
        best = _best_complete(history)
        if best is None:
            return None
        enough = standard_error(history, best) if self.tol is None else float(self.tol)
        left = most_to_gain(history.space, known, np.random.default_rng(n))
        if left >= enough:
            return None
        what = "the standard error of the best mean score," if self.tol is None else "tol ="
        return f"At most {left:.3g} more is to be gained, less than {what} {enough:.3g}."

    def _check(self, history: History) -> None:
        _require_whole(self, "min_trials")
        if self.tol is not None:
            _require_number(self, "tol", least=0)
        elif history.n_folds == 1:
            raise ValueError(
                f"{self!r} needs two folds at least to tell the noise of cross-validation, and cv "
                f"has one. Give tol, in the unit of the score."
            )


def standard_error(history: History, number: int) -> float:
    """Return the standard error of a complete trial's mean, corrected after Nadeau and Bengio.

    Parameters
    ----------
    history : History
    number : int
        The trial.
    """
    tested = [score.n_test_samples for score in history.trials[number].scores if score]
    # Of folds that are not known it is taken that each sample is tested once.
    trained = history.train_sizes or tuple(sum(tested) - n for n in tested)
    inflation = 1 / history.n_folds + sum(tested) / max(sum(trained), 1)
    return math.sqrt(inflation) * float(np.std(history.fold_scores(number), ddof=1))


def _best_complete(history: History) -> int | None:
    means = history.means
    if not np.isfinite(means).any():
        return None
    return history.closed[int(np.nanargmax(means))]


@dataclass(frozen=True)
class TimeLimit:
    """Stop a search when its time is over.

    No fold is handed in any more. Those that are running land, unless they are to be abandoned. A
    candidate that has scores on some folds only keeps them in ``cv_results_``, with NaN for the
    others, a NaN mean and the last rank. Open candidates are finished until one has a score:
    without it there would be no result. The time of the refit does not count.

    Parameters
    ----------
    seconds : float
        Wall time. That of a search which this one goes on with counts.

    abandon : bool, default=False
        Whether folds that are still running when the time is over are left to themselves. It
        takes more than one worker; worker processes are ended, threads and Dask's workers go on
        with their fold, of which nothing is heard any more.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from tunein import TPESearchCV, TimeLimit
    >>> X, y = load_iris(return_X_y=True)
    >>> search = TPESearchCV(
    ...     SVC(), {"C": range(1, 1000)}, n_iter=900, callbacks=TimeLimit(0.5)
    ... ).fit(X, y)
    >>> search.stop_reason_
    'The time limit of 0.5 seconds was over...
    >>> len(search.history_) < 900
    True
    """

    finishes_trials: ClassVar[bool] = False

    seconds: float
    abandon: bool = False

    def __call__(self, history: History) -> str | None:
        """Return why to stop, or None.

        Parameters
        ----------
        history : History
            The record of the search.

        Returns
        -------
        reason : str or None
            A sentence, or None to go on.
        """
        return self.sentence if history.seconds >= self.seconds else None

    @property
    def sentence(self) -> str:
        """What `stop_reason_` says."""
        return f"The time limit of {float(self.seconds):g} seconds was over."

    def _check(self, history: History) -> None:
        _require_number(self, "seconds", least=0)
        if not isinstance(self.abandon, bool | np.bool_):
            raise ValueError(f"{shown(self)}: abandon={shown(self.abandon)} must be True or False.")


def check_settings(callback: Any, history: History) -> None:
    """Refuse one of the callbacks above with settings that mean nothing."""
    if isinstance(callback, EarlyStop | TargetScore | RegretBound | TimeLimit):
        callback._check(history)


def _require_whole(callback: Any, name: str) -> None:
    value = getattr(callback, name)
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{shown(callback)}: {name}={shown(value)} must be an int of at least 1.")


def _require_number(callback: Any, name: str, least: float) -> None:
    value: Any = getattr(callback, name)
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    # Whole numbers beyond all floats are compared as they are, and could not be written.
    if not is_real or not least <= value or sys.float_info.max < abs(value) < math.inf:
        what = "a number" if least == -math.inf else f"a number of at least {least:g}"
        raise ValueError(f"{shown(callback)}: {name}={shown(value)} must be {what}.")
