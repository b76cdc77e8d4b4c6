"""Little for each candidate at first, and more for those that do well."""

from __future__ import annotations

import difflib
import numbers
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.utils.multiclass import type_of_target

from tunein._dimensions import is_number
from tunein._history import History, Proposal, Trial
from tunein._parse import shown
from tunein._racing import EveryFold, FoldRace, TooFewCandidates

# Of each class so many rows are kept in every subsample, or all if there are fewer: with one of
# them, a split inside the estimator would leave a side without.
_ROWS_PER_CLASS = 2

# With a smaller factor there would be thousands of levels between two resources.
_LEAST_FACTOR = 1.01

# The least that is thought sensible for a start, in rows of the data for each fold and class.
_LEAST_ROWS = 2


@dataclass(frozen=True)
class Halving:
    """Give every candidate little of a resource, and more to those that do well.

    A candidate is tried at the lowest level of a ladder, on all folds. Of every `factor` that have
    been tried at a level, the best one so far is promoted: it is tried again with `factor` times
    as much. So all levels together cost the same, and the search with as many candidates costs a
    fraction of what it would cost without.

    Parameters
    ----------
    resource : str, default='n_samples'
        What there is more of at each level: ``'n_samples'``, rows of the training sets; or the name
        of a parameter of the estimator that is a whole number, as ``'n_estimators'`` or
        ``'max_iter'``, in a pipeline ``'clf__max_iter'``. It must not be searched.

    factor : float, default=3
        One of so many is promoted, and gets so many times as much.

    min_resources : int or 'auto', default='auto'
        The lowest level gets at least so much. ``'auto'`` makes it as much as lets one of `n_iter`
        candidates get from there to the top, and rows not fewer than two for each fold and class.

    max_resources : int or 'auto', default='auto'
        What the highest level gets. ``'auto'`` is all rows, or the estimator's own value of the
        parameter.

    brackets : int or 'all', default=1
        At how many levels candidates begin. 1 is successive halving: all at the lowest. ``'all'``
        is Hyperband: most of them begin at the lowest level, and some at each one above, in case
        that little of the resource misleads.

    See Also
    --------
    FoldRace : Drops candidates after some of their folds; takes no resource.
    sklearn.model_selection.HalvingRandomSearchCV : All of a level before any of the next.

    Notes
    -----
    Promotion waits for no level to be complete, as in ASHA [1]_, but for the scores of `factor`
    candidates each time, so that there are never more promotions than in synchronous halving [2]_.
    With ``brackets='all'`` candidates are shared out as Hyperband does [3]_. If none has reached
    the top when all candidates have been tried, or a callback that finishes trials ends the search,
    the best one is tried there.

    A promoted candidate is a further trial, with a row of its own in ``cv_results_`` and the
    columns ``iter``, ``n_resources`` and ``bracket``; only rows of the highest level that any has
    reached can be the best, and all others rank after them. Searches learn from the highest level
    that has two more scores than the space has dimensions, as in BOHB [4]_; candidates that were
    not promoted so far count for no more than the worst that was. The fitted search has
    ``n_resources_`` and ``n_candidates_``, the resource and the number of candidates by level,
    ``min_resources_`` and ``max_resources_``.

    A promoted candidate goes on from what was fitted of it before, where that gives the same:
    with more trees or stages of scikit-learn's forests, bagging and gradient boosting that have an
    int as `random_state` and do not stop early. Its ``mean_fit_time`` is that of what was added.

    Rows are counted as in scikit-learn: of `n_samples` in all, each training set has its share.
    The subsample of a fold is the same for all candidates, keeps the order of rows, and contains
    those of the levels below; it is stratified for classifiers, with at least two rows of each
    class. Test sets are never cut down, so that scores of all levels can be compared.

    References
    ----------
    .. [1] L. Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020.
    .. [2] K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter
       optimization", AISTATS 2016.
    .. [3] L. Li et al., "Hyperband: a novel bandit-based approach to hyperparameter
       optimization", Journal of Machine Learning Research 18, 2018.
    .. [4] S. Falkner, A. Klein, F. Hutter, "BOHB: robust and efficient hyperparameter optimization
       at scale", ICML 2018.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.svm import SVC
    >>> from tunein import Halving, TPESearchCV
    >>> X, y = load_digits(return_X_y=True)
    >>> search = TPESearchCV(
    ...     SVC(), {"C": loguniform(1e-1, 1e3), "gamma": loguniform(1e-5, 1e-1)},
    ...     n_iter=27, cv=3, racing=Halving(), random_state=0,
    ... ).fit(X, y)
    >>> search.n_resources_, search.n_candidates_
    ([67, 200, 599, 1797], [27, 9, 3, 1])
    >>> int(search.cv_results_["n_resources"][search.best_index_])
    1797
    """

    resource: str = "n_samples"
    factor: float = 3
    min_resources: int | Literal["auto"] = "auto"
    max_resources: int | Literal["auto"] = "auto"
    brackets: int | Literal["all"] = 1


@dataclass(frozen=True)
class Setup:
    """What a race may have to know of a search.

    Attributes
    ----------
    estimator : estimator object
        What is tuned.
    names : sequence of str or None
        Parameters that are searched.
    folds : list of (array-like, array-like)
        Training and test rows.
    n_samples : int
        Rows of the data.
    y : array-like or None
        Target.
    n_candidates : int
        How many there will be at most.
    seed : int
        For whatever is drawn.
    """

    estimator: Any
    names: Sequence[str | None]
    folds: list[tuple[Any, Any]]
    n_samples: int
    y: Any
    n_candidates: int
    seed: int

    @cached_property
    def trained_on(self) -> list[NDArray[np.intp]]:
        """The places of each fold's training rows; a splitter may give those, or a mask."""
        chosen = [np.asarray(train) for train, _ in self.folds]
        return [np.flatnonzero(rows) if rows.dtype == bool else rows for rows in chosen]


def race_of(racing: FoldRace | Halving | None, setup: Setup) -> EveryFold:
    """Return the race that is meant by `racing`; raise if it cannot be meant."""
    if isinstance(racing, Halving):
        return Ladder.of(racing, setup)
    race = racing or EveryFold()
    race.check()
    return race


@dataclass(frozen=True)
class Ladder(EveryFold):
    """Halving, for one search.

    Attributes
    ----------
    resource : str
        ``"n_samples"`` or the name of a parameter.
    factor : float
        One of so many is promoted.
    resources : list of int
        By level.
    brackets : list of int
        The level at which each candidate begins, in the order of proposal.
    subsample : Subsample or None
        What cuts training sets down, if rows are the resource.
    """

    resource: str
    factor: float
    resources: list[int]
    brackets: list[int]
    subsample: Subsample | None

    @classmethod
    def of(cls, halving: Halving, setup: Setup) -> Ladder:
        """Check what was asked for against the search."""
        _check(halving, setup)
        by_rows = halving.resource == "n_samples"
        subsample = Subsample.of(setup) if by_rows else None
        highest = _max_resources(halving, setup)
        lowest = _min_resources(halving, setup, highest, subsample)
        resources = _levels(highest, lowest, float(halving.factor))
        n_brackets = len(resources) if halving.brackets == "all" else halving.brackets
        if n_brackets > len(resources):
            accepted = f"at most {len(resources)}, the number of levels {resources}"
            raise _refusal("brackets", n_brackets, accepted)
        brackets = _shared_out(
            n_brackets, len(resources), float(halving.factor), setup.n_candidates
        )
        return cls(halving.resource, halving.factor, resources, brackets, subsample)

    @property
    def levels(self) -> list[int]:
        """How much of the resource trials get, level by level."""
        return self.resources

    @property
    def measured(self) -> dict[str, Any]:
        """The rows of the highest level, if they are not all."""
        if self.subsample is None or self.resources[-1] >= self.subsample.n_samples:
            return {}
        return {"max_resources": self.resources[-1]}

    @property
    def top(self) -> int:
        """The highest level."""
        return len(self.resources) - 1

    def n_trials(self, n_candidates: int) -> int:
        """Return how many trials so many candidates take at most."""
        total = n_at_top = 0
        for bracket in set(self.brackets[:n_candidates]):
            n = self.brackets[:n_candidates].count(bracket)
            for level in range(bracket, self.top + 1):
                total += n
                n_at_top += n if level == self.top else 0
                n = int(n // self.factor)
        return total if n_at_top else total + 1

    def admit(self, proposal: Proposal, i: int) -> Proposal:
        """Return the trial at the level at which the i-th candidate begins."""
        if i >= len(self.brackets):
            raise TooFewCandidates(
                f"holds more candidates than n_iter={len(self.brackets)}. Of halving a part cannot "
                f"be gone on with: give n_iter as it was, or more."
            )
        return self._at(replace(proposal, bracket=self.brackets[i]), self.brackets[i])

    def _at(self, proposal: Proposal, level: int) -> Proposal:
        amount, params = self.resources[level], proposal.params
        if self.subsample is None:
            params = {**params, self.resource: amount}
        return replace(proposal, params=params, level=level, resource=amount)

    def promotion(self, history: History, upto: int | None, is_over: bool) -> Proposal | None:
        """Return the best candidate of the highest level that is due to send one up."""
        means = history.visible_means(upto)
        able = np.isfinite(means) & ~history.went_up
        for level, members in self._rungs(history, upto):
            n_due = int(len(members) // self.factor) - int(history.went_up[members].sum())
            if level < self.top and n_due > 0 and able[members].any():
                best = _best(members[able[members]], means)
                return self.promoted(history, best, level + 1)
        return self.finale(history) if is_over else None

    def finale(self, history: History) -> Proposal | None:
        """Return the best trial of the highest level at the top, if none has got there."""
        if (history.levels == self.top).any() or history.n_closed_in_row < len(history):
            return None
        means = history.visible_means()
        able = np.isfinite(means) & ~history.went_up
        for _, members in self._rungs(history, None):
            if able[members].any():
                return self.promoted(history, _best(members[able[members]], means), self.top)
        return None

    @property
    def grown(self) -> str | None:
        """The resource, if it is a parameter."""
        return self.resource if self.subsample is None else None

    def contenders(self, history: History) -> set[int]:
        """Return the best trials of each level, as many as it has promotions left."""
        means = history.visible_means()
        able = np.isfinite(means) & ~history.went_up
        found: set[int] = set()
        for level, members in self._rungs(history, None):
            if level == self.top:
                continue
            n_above = self._n_at_most(int(history.brackets[members[0]]), level + 1)
            n_left = n_above - int(history.went_up[members].sum())
            there = members[able[members]]
            best = there[np.argsort(-means[there], kind="stable")]
            # One more than none, since the finale promotes where none was due.
            found.update(best[: max(n_left, 1)].tolist())
        return found

    def _n_at_most(self, bracket: int, level: int) -> int:
        """Return how many trials of a bracket a level has in the end, the finale apart."""
        n = self.brackets.count(bracket)
        for _ in range(bracket, level):
            n = int(n // self.factor)
        return n

    def _rungs(self, history: History, upto: int | None) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Go through level and trials of each level of each bracket, the highest level first."""
        numbers = np.flatnonzero(history.visible(upto))
        # One number for both: the higher the level and the lower the bracket, the greater.
        rungs = ((history.levels + 1) * (self.top + 1) - history.brackets)[numbers]
        for rung in np.unique(rungs)[::-1]:
            members = numbers[rungs == rung]
            yield int(history.levels[members[0]]), members

    def promoted(self, history: History, number: int, level: int) -> Proposal:
        """Return trial `number` at a higher level."""
        return self._at(super().promoted(history, number, level), level)

    def rows(self, proposal: Proposal, fold: int, train: Any) -> Any:
        """Return the subsample of a training set; all of it at the end of all rows."""
        if self.subsample is None or proposal.resource is None:
            return train
        return self.subsample.rows(fold, proposal.resource, train)

    def columns(self, trials: Sequence[Trial]) -> dict[str, Any]:
        """Return where each trial was on the ladder, in scikit-learn's words."""
        proposals = [trial.proposal for trial in trials]
        return {
            "iter": np.array([proposal.level for proposal in proposals]),
            "n_resources": np.array([proposal.resource for proposal in proposals]),
            "bracket": np.array([proposal.bracket for proposal in proposals]),
        }

    def attributes(self, history: History) -> dict[str, Any]:
        """Return the ladder, and how many trials there were at each level."""
        levels = [trial.proposal.level for trial in history]
        return {
            "n_resources_": list(self.resources),
            "n_candidates_": [levels.count(level) for level in range(self.top + 1)],
            "min_resources_": self.resources[0],
            "max_resources_": self.resources[-1],
        }


def _best(trials: NDArray[np.intp], means: NDArray[np.float64]) -> int:
    """Return the first of the best."""
    return int(trials[means[trials].argmax()])


def _levels(highest: int, lowest: int, factor: float) -> list[int]:
    """Return the resource of each level; those that round to the same are one."""
    found, amount, steps = [highest], highest, 0
    while amount >= lowest:
        if amount < found[0]:
            found.insert(0, amount)
        steps += 1
        amount = round(highest / factor**steps)
    return found


def _shared_out(n_brackets: int, n_levels: int, factor: float, n_candidates: int) -> list[int]:
    """Return in which bracket each candidate is, so that at any time each has its due.

    Bracket b of Hyperband, with s = n_levels - 1 - b promotions to go, has n_levels / (s + 1)
    factor^s candidates; so all brackets cost about the same.
    """
    shares = _shares(n_brackets, n_levels, factor)
    has = np.zeros(n_brackets)
    brackets: list[int] = []
    for i in range(n_candidates):
        brackets.append(int(np.argmax(shares * (i + 1) - has)))
        has[brackets[-1]] += 1
    return brackets


def _shares(n_brackets: int, n_levels: int, factor: float) -> NDArray[np.float64]:
    to_go = n_levels - 1 - np.arange(n_brackets)
    due = np.ceil(n_levels / (to_go + 1) * factor**to_go)
    return np.asarray(due / due.sum())


def _reach_the_top(halving: Halving, n_levels: int, n_candidates: int) -> bool:
    """Tell whether of so many candidates one that begins at the lowest level gets to the top."""
    n_brackets = n_levels if halving.brackets == "all" else min(halving.brackets, n_levels)
    share = float(_shares(n_brackets, n_levels, float(halving.factor))[0])
    n = int(n_candidates * share + 1e-9)
    for _ in range(n_levels - 1):
        n = int(n // halving.factor)
    return n > 0


@dataclass(frozen=True)
class Subsample:
    """Cuts the training sets of a search down.

    Attributes
    ----------
    orders : list of ndarray of int
        For each fold its training rows; the first so many of them are a subsample.
    n_required : list of int
        For each fold, with how many of them every class has its rows.
    n_samples : int
        Rows of the data.
    n_classes : int
        1 if it is no classification.
    """

    orders: list[NDArray[np.intp]]
    n_required: list[int]
    n_samples: int
    n_classes: int

    @classmethod
    def of(cls, setup: Setup) -> Subsample:
        """Draw an order of the rows of each fold."""
        codes = _classes(setup)
        orders, n_required = [], []
        for fold, rows in enumerate(setup.trained_on):
            # Trial k draws from (k,), and the first points from none: this is apart from both.
            rng = np.random.default_rng(np.random.SeedSequence(setup.seed, spawn_key=(fold, 0)))
            order, n = _spread(rng.permutation(rows), codes)
            orders.append(order)
            n_required.append(n)
        return cls(orders, n_required, setup.n_samples, len(np.unique(codes)))

    def rows(self, fold: int, resource: int, train: Any) -> Any:
        """Return the rows of a fold's training set that `resource` rows of all data come to."""
        if resource >= self.n_samples:
            return train
        return np.sort(self.orders[fold][: self._n_rows(fold, resource)])

    def _n_rows(self, fold: int, resource: int) -> int:
        return max(1, round(len(self.orders[fold]) * resource / self.n_samples))

    @property
    def least(self) -> int:
        """The smallest resource with which every training set has its rows of each class."""
        folds = range(len(self.orders))
        for resource in range(1, self.n_samples):
            if all(self._n_rows(fold, resource) >= self.n_required[fold] for fold in folds):
                return resource
        return self.n_samples


def _classes(setup: Setup) -> NDArray[np.intp]:
    """Return a code of each row's class; all the same if there are none."""
    if is_classifier(setup.estimator) and setup.y is not None:
        y = np.asarray(setup.y)
        if type_of_target(y) in ("binary", "multiclass"):
            return np.asarray(np.unique(y.ravel(), return_inverse=True)[1].ravel())
    return np.zeros(setup.n_samples, dtype=np.intp)


def _spread(rows: NDArray[np.intp], codes: NDArray[np.intp]) -> tuple[NDArray[np.intp], int]:
    """Return rows in an order of which any first part has each class in proportion.

    And how many come first of all because they are the few that each class must have.
    """
    key = np.empty(len(rows))
    n_first = 0
    for code in np.unique(codes[rows]):
        mine = np.flatnonzero(codes[rows] == code)
        place = np.arange(len(mine))
        key[mine] = np.where(place < _ROWS_PER_CLASS, -1.0, (place + 0.5) / len(mine))
        n_first += min(len(mine), _ROWS_PER_CLASS)
    return rows[np.argsort(key, kind="stable")], n_first


# --------------------------------------------------------------------- what was asked for


def _refusal(name: str, value: Any, accepted: str) -> ValueError:
    return ValueError(
        f"racing=Halving({name}={shown(value)}) is not possible: it must be {accepted}."
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_whole(value) and 1 <= int(value) <= sys.maxsize


def _check(halving: Halving, setup: Setup) -> None:
    """Refuse what could not be meant, whatever the data."""
    factor = halving.factor
    if not is_number(factor) or not factor > 1:
        raise _refusal("factor", factor, "a number above 1")
    if factor < _LEAST_FACTOR:
        raise _refusal("factor", factor, f"at least {_LEAST_FACTOR}, or there is no end of levels")
    for name, word in (("min_resources", "auto"), ("max_resources", "auto"), ("brackets", "all")):
        value = getattr(halving, name)
        if not _is_count(value) and not (isinstance(value, str) and value == word):
            raise _refusal(name, value, f"{word!r} or an int of at least 1")
    resource = halving.resource
    if not isinstance(resource, str):
        raise _refusal("resource", resource, "'n_samples' or a parameter, by its name")
    if resource == "n_samples":
        return
    if resource in setup.names:
        raise _refusal(
            "resource", resource, "no parameter that is searched. Take it out of the search space"
        )
    own = setup.estimator.get_params(deep=True)
    if resource not in own:
        # Of what it could be, whole numbers alone; an estimator may have none.
        counts = [name for name, value in own.items() if _is_whole(value)]
        near = difflib.get_close_matches(resource, counts, n=3, cutoff=0.0)
        raise _refusal(
            "resource",
            resource,
            f"'n_samples' or a parameter of {type(setup.estimator).__name__} that is a whole number"
            + (f", such as {near}" if near else ""),
        )


def _max_resources(halving: Halving, setup: Setup) -> int:
    asked, by_rows = halving.max_resources, halving.resource == "n_samples"
    if asked != "auto":
        if by_rows and asked > setup.n_samples:
            raise _refusal("max_resources", asked, f"at most {setup.n_samples}, the rows there are")
        return int(asked)
    if by_rows:
        return setup.n_samples
    own = setup.estimator.get_params(deep=True)[halving.resource]
    if not _is_count(own):
        raise _refusal(
            "max_resources", asked, f"given, since the estimator has {halving.resource}={own!r}"
        )
    return int(own)


def _min_resources(
    halving: Halving, setup: Setup, highest: int, subsample: Subsample | None
) -> int:
    asked, least = halving.min_resources, subsample.least if subsample else 1
    if asked == "auto":
        # No more levels than so many candidates fill; a lower one would only be less telling.
        n_promotions = 0
        while _reach_the_top(halving, n_promotions + 2, setup.n_candidates):
            n_promotions += 1
        if subsample is not None:
            least = max(least, _LEAST_ROWS * len(setup.folds) * subsample.n_classes)
        return min(highest, max(least, round(highest / halving.factor**n_promotions)))
    if asked > highest:
        raise _refusal("min_resources", asked, f"at most max_resources={highest}")
    if asked < least:
        raise _refusal(
            "min_resources",
            asked,
            f"at least {least}, so that each training set has {_ROWS_PER_CLASS} rows of each class",
        )
    return int(asked)
