"""The record of a search: append-only, and all that the search knows.

What to try next, and when to stop, are questions asked of the record; nothing else is state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tunein._clock import Clock
from tunein._dimensions import Array
from tunein._families import HyperGradient
from tunein._math.fidelity import comparable
from tunein._math.folds import FoldModel
from tunein._space import Space

Origin: TypeAlias = Literal["default", "initial", "asked", "promoted"]


# With slots a pickle does not say the names of fields again for each of thousands.
@dataclass(frozen=True, slots=True)
class Proposal:
    """A point to try.

    Attributes
    ----------
    unit : ndarray of shape (n_coordinates,)
        The point, snapped.
    params : dict
        What the estimator gets.
    origin : {"default", "initial", "asked", "promoted"}
        Who proposed it: the estimator's own values, the user, the method, or a race that gives a
        candidate more of a resource.
    note : dict or None
        What the method wants to read again at the next trial, in plain numbers and lists.
    level : int
        How far up a ladder of resources; 0 if there is none.
    resource : int or None
        How much of it the trial gets.
    bracket : int
        The level at which its candidate began.
    parent : int or None
        The trial of the same candidate that this one goes on from; None for a new candidate.
    """

    unit: Array
    params: dict[str, Any]
    origin: Origin = "asked"
    note: Mapping[str, Any] | None = None
    level: int = 0
    resource: int | None = None
    bracket: int = 0
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """What one trial got on one fold.

    Attributes
    ----------
    test, train : float or dict of str to float or None
        Scores, a dict with several metrics; `train` is None unless asked for.
    fit_time, score_time : float
        Seconds.
    n_test_samples : int
        Size of the fold's test set.
    error : str or None
        The traceback if the fit failed.
    hypergradient : HyperGradient or None
        A smooth loss on the test set and its derivative in parameters, if one was asked for.
    no_hypergradient : str or None
        Why there is none, if one was asked for.
    cpu_time : float
        CPU seconds of fit and score.
    peak_memory : int or None
        The most bytes that the process had which ran the fold, by then; None if unknown.
    fitted : bytes or None
        What later trials can go on from. Never in a record.
    """

    test: Any
    train: Any
    fit_time: float
    score_time: float
    n_test_samples: int
    error: str | None = None
    hypergradient: HyperGradient | None = None
    no_hypergradient: str | None = None
    cpu_time: float = 0.0
    peak_memory: int | None = None
    fitted: bytes | None = field(default=None, repr=False)


@dataclass
class Trial:
    """One candidate and what is known of it.

    Attributes
    ----------
    number : int
        Position in the order of proposal.
    proposal : Proposal
        Where it came from.
    scores : list of Score or None
        One a fold; None where the fold has not been run.
    dropped : bool
        Whether the folds that it lacks will never be run.
    """

    number: int
    proposal: Proposal
    scores: list[Score | None] = field(repr=False)
    dropped: bool = False

    @property
    def params(self) -> dict[str, Any]:
        """The candidate's parameters."""
        return self.proposal.params

    @property
    def complete(self) -> bool:
        """Whether every fold has a score."""
        return None not in self.scores

    @property
    def closed(self) -> bool:
        """Whether nothing more will be learned of it."""
        return self.dropped or self.complete

    @property
    def run(self) -> list[int]:
        """The folds that have a score."""
        return [fold for fold, score in enumerate(self.scores) if score is not None]

    @property
    def hypergradient(self) -> HyperGradient | None:
        """The mean over folds; None unless all of them have one."""
        folds = [score.hypergradient for score in self.scores if score and score.hypergradient]
        return HyperGradient.mean(folds) if len(folds) == len(self.scores) else None


@dataclass(frozen=True)
class Known:
    """What a method may look at when it proposes a trial.

    Attributes
    ----------
    units : ndarray of shape (n, n_coordinates)
        Closed trials; of a race with levels, one of each candidate.
    fold_scores : ndarray of shape (n, n_folds)
        Their scores on the driving metric, greater is better; NaN where a fit failed or the
        score is not finite. Those of folds that were not run, or of less of a resource, are what
        the others lead one to expect.
    pending : ndarray of shape (n_pending, n_coordinates)
        Trials without a full score so far, of other candidates.
    tried : set of bytes
        Keys (``Space.key``) of all points that were proposed.
    n_asked : int
        How many trials the method itself has proposed.
    note : mapping or None
        The newest note of a method.
    hypergradients : mapping of int to HyperGradient
        Of those closed trials, by row of `units`, that have one.
    n_run : ndarray of shape (n,) or None
        How many folds were run of each; None for all.
    seconds : ndarray of shape (n,) or None
        What a fold of each took, fit and score, the mean over those that were run; NaN where that
        cannot be compared. None if nobody has looked at a clock.
    """

    units: Array
    fold_scores: Array
    pending: Array
    tried: frozenset[bytes] | set[bytes]
    n_asked: int
    note: Mapping[str, Any] | None
    hypergradients: Mapping[int, HyperGradient] = field(default_factory=dict)
    n_run: NDArray[np.intp] | None = None
    seconds: Array | None = None

    @cached_property
    def scores(self) -> Array:
        """Mean over folds of each closed trial; NaN if one of its folds failed."""
        # Divided first: the sum of scores near the largest float would overflow.
        return np.asarray((self.fold_scores / self.fold_scores.shape[1]).sum(axis=1))


@dataclass(frozen=True)
class Evidence:
    """What is known of points before a search begins; they are no trials of it.

    Attributes
    ----------
    units : ndarray of shape (n, n_coordinates)
        Points.
    fold_scores : ndarray of shape (n, n_folds)
        Scores, without what is common to all points on a fold; NaN where a fit failed.
    """

    units: Array
    fold_scores: Array

    def before(self, known: Known) -> Known:
        """Return what is known with the evidence before it."""
        n, n_folds = self.fold_scores.shape
        of_trials = {row + n: found for row, found in known.hypergradients.items()}
        whole = known.fold_scores[np.isfinite(known.fold_scores).all(axis=1)]
        rows = self.fold_scores + FoldModel.of(whole).effects
        run = None if known.n_run is None else np.append(np.full(n, n_folds), known.n_run)
        return replace(
            known,
            units=np.concatenate([self.units, known.units]),
            fold_scores=np.concatenate([rows, known.fold_scores]),
            seconds=None if known.seconds is None else np.append(np.full(n, np.nan), known.seconds),
            hypergradients=of_trials,
            n_run=run,
        )


# What a record has a row of for each trial.
_GROWING = (
    "_units",
    "_fold_scores",
    "_seconds",
    "_spent",
    "_run",
    "_closed",
    "_ended",
    "_levels",
    "_brackets",
    "_first",
    "_went_up",
)


class Follower(Protocol):
    """Is told of what was appended to a record, as it is."""

    def opened(self, trial: Trial) -> None:
        """Hear of a trial that was opened."""

    def recorded(self, trial: Trial, fold: int, score: Score) -> None:
        """Hear of a score."""

    def dropped(self, trial: Trial) -> None:
        """Hear of a trial that is given no more folds."""


class History:
    """Everything that happened in a search, in order.

    Parameters
    ----------
    n_folds : int
        Folds of every trial.
    n_coordinates : int
        Width of the space's points.
    metric : str or None
        Which of several metrics drives the search; None for the first one seen.
    evidence : Evidence or None
        What was known before.
    space : Space or None
        What the trials are points of, for callbacks that want to know.
    train_sizes : tuple of int
        How many samples each fold is trained on, if known.
    top : int
        The level at which a trial has all of its resource.

    Attributes
    ----------
    trials : list of Trial
        All that were opened.
    measured : mapping of str to str or None
        Digests of what its scores were measured with, by name; None if that is not known.
    n_candidates : int
        How many of them were the first of a new candidate.
    n_asked : int
        How many of those the method proposed.
    closed : list of int
        Numbers of the trials that nothing more will be learned of, in the order they ended.
    clock : Clock
        The time that the search has taken.
    read_from : str or None
        The file that it goes on from.
    """

    def __init__(
        self,
        n_folds: int,
        n_coordinates: int,
        metric: str | None = None,
        evidence: Evidence | None = None,
        space: Space | None = None,
        train_sizes: tuple[int, ...] = (),
        top: int = 0,
    ) -> None:
        self.n_folds = n_folds
        self.measured: Mapping[str, str] | None = None
        self._evidence = evidence
        self.metric = metric
        self.space = space
        self.train_sizes = train_sizes
        self.top = top
        self.trials: list[Trial] = []
        self.n_candidates = 0
        self.closed: list[int] = []
        self.clock = Clock()
        self.n_asked = 0
        self._note: Mapping[str, Any] | None = None
        self._tried: set[bytes] = set()
        self._hypergradients: dict[int, HyperGradient] = {}
        self._first_open = 0
        self.read_from: str | None = None
        self._follower: Follower | None = None
        # Rows are appended by doubling, so that a look at the record costs no copy of it.
        self._units = np.empty((16, n_coordinates))
        self._fold_scores = np.empty((16, n_folds))
        self._seconds = np.empty((16, n_folds))
        self._run = np.zeros((16, n_folds), dtype=bool)
        self._closed = np.zeros(16, dtype=bool)
        self._levels = np.zeros(16, dtype=np.intp)
        self._brackets = np.zeros(16, dtype=np.intp)
        self._spent = np.zeros(16)  # seconds on all folds
        self._ended = np.zeros(16, dtype=np.intp)  # `closed`, with places for what will be
        self._first = np.zeros(16, dtype=np.intp)  # the first trial of the same candidate
        self._went_up = np.zeros(16, dtype=bool)  # is there a further trial of the candidate?

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    def __repr__(self) -> str:
        done = int(self._run[: len(self)].all(axis=1).sum())
        return f"History({len(self)} trials of {self.n_folds} folds, {done} complete)"

    def __getstate__(self) -> dict[str, Any]:
        used = {name: getattr(self, name)[: len(self)] for name in _GROWING}
        return {**self.__dict__, **used, "_follower": None}

    def follow(self, follower: Follower | None) -> None:
        """Tell `follower`, and nobody else, of what is appended from now on.

        It is in the record before: whatever the follower raises, nothing is lost.
        """
        self._follower = follower

    @property
    def n_closed_in_row(self) -> int:
        """How many trials, from the first on, are closed without a gap."""
        return self._first_open

    @property
    def seconds(self) -> float:
        """Wall seconds that the search has taken so far."""
        return self.clock.seconds

    def mean(self, number: int) -> float:
        """Return the mean score of trial `number` on the driving metric.

        Greater is better; NaN if a fold failed or was not run.
        """
        return float(self._fold_scores[number].mean())

    def fold_scores(self, number: int) -> Array:
        """Return the scores of trial `number` by fold, as in `mean`."""
        return np.array(self._fold_scores[number])

    @property
    def means(self) -> Array:
        """As `mean`, of all closed trials, in the order of `closed`.

        NaN also of those that had not all of the resource.
        """
        numbers = self.ended
        means = self._fold_scores[numbers].mean(axis=1)
        return np.where(self.levels[numbers] == self.top, means, np.nan)

    @property
    def has_result(self) -> bool:
        """Whether there is a trial of which every fold was run and none failed."""
        return bool(np.isfinite(self._fold_scores[: len(self)]).all(axis=1).any())

    @property
    def first_to_finish(self) -> int | None:
        """The first open trial, as long as there is no result."""
        if self.has_result:
            return None
        return next((trial.number for trial in self.trials if not trial.closed), None)

    @property
    def ended(self) -> NDArray[np.intp]:
        """As `closed`, an array that must not be changed."""
        return self._ended[: len(self.closed)]

    @property
    def levels(self) -> NDArray[np.intp]:
        """The level of each trial; must not be changed, nor the next two."""
        return self._levels[: len(self)]

    @property
    def brackets(self) -> NDArray[np.intp]:
        """The bracket of each trial."""
        return self._brackets[: len(self)]

    @property
    def went_up(self) -> NDArray[np.bool_]:
        """Whether there is a further trial that goes on from it, trial by trial."""
        return self._went_up[: len(self)]

    @property
    def tried(self) -> set[bytes]:
        """Keys of all points that were proposed."""
        return self._tried

    def open(self, proposal: Proposal) -> Trial:
        """Append a trial that has no scores so far."""
        number = len(self)
        if number == len(self._units):
            for name in _GROWING:
                setattr(self, name, _doubled(getattr(self, name)))
        self._units[number] = proposal.unit
        self._fold_scores[number] = np.nan
        self._seconds[number] = 0.0
        self._spent[number] = 0.0
        self._run[number] = False
        self._closed[number] = False
        self._went_up[number] = False
        trial = Trial(number, proposal, [None] * self.n_folds)
        self.trials.append(trial)
        self._tried.add(proposal.unit.tobytes())
        parent = proposal.parent
        self._first[number] = number if parent is None else self._first[parent]
        self._levels[number] = proposal.level
        self._brackets[number] = proposal.bracket
        if parent is not None:
            self._went_up[parent] = True
        self.n_candidates += parent is None
        self.n_asked += proposal.origin == "asked"
        self._note = self._note if proposal.note is None else proposal.note
        if self._follower:
            self._follower.opened(trial)
        return trial

    def record(self, number: int, fold: int, score: Score) -> None:
        """Append what trial `number` got on `fold`."""
        if self.trials[number].scores[fold] is not None:
            raise ValueError(f"Trial {number} has a score on fold {fold} already.")
        trial = self.trials[number]
        trial.scores[fold] = score
        self._fold_scores[number, fold] = self._driving(score)
        self._seconds[number, fold] = score.fit_time + score.score_time
        self._spent[number] = self._seconds[number].sum()
        self._run[number, fold] = True
        if trial.complete:
            self._close(trial)
            if mean := trial.hypergradient:
                self._hypergradients[number] = mean
        if self._follower:
            self._follower.recorded(trial, fold, score)

    def drop(self, number: int) -> None:
        """Append that trial `number` will be given no more folds."""
        if self._closed[number]:
            raise ValueError(f"Trial {number} is closed already.")
        self.trials[number].dropped = True
        self._close(self.trials[number])
        if self._follower:
            self._follower.dropped(self.trials[number])

    def _close(self, trial: Trial) -> None:
        self._closed[trial.number] = True
        self._ended[len(self.closed)] = trial.number
        self.closed.append(trial.number)
        while self._first_open < len(self) and self._closed[self._first_open]:
            self._first_open += 1

    def _driving(self, score: Score) -> float:
        value = score.test
        if score.error is not None:
            return math.nan
        if isinstance(value, dict):
            if self.metric is None:
                self.metric = next(iter(value))
            value = value.get(self.metric, math.nan)
        return float(value) if math.isfinite(value) else math.nan

    def known(self, upto: int | None = None) -> Known:
        """Return what a method may know.

        Parameters
        ----------
        upto : int or None
            If given, exactly the scores of the first `upto` trials, which must be closed: what
            later ones have got by now depends on timing. If None, every closed trial.
        """
        n, closed = len(self), self.visible(upto)
        pending, added = ~closed, np.zeros((1, 1))
        if self.levels.any():
            closed, pending, added = self._compared(upto)
        run = self._run[:n].compress(closed, axis=0)
        n_run = None if run.all() else run.sum(axis=1)
        known = Known(
            units=self._units[:n].compress(closed, axis=0),
            fold_scores=self._completed(closed, added),
            pending=self._units[:n][pending],
            tried=self._tried,
            n_asked=self.n_asked,
            note=self._note,
            hypergradients=self._of_closed(closed) if self._hypergradients else {},
            n_run=n_run,
            seconds=self._seconds_of(closed, n_run),
        )
        return self._evidence.before(known) if self._evidence else known

    def at_top(self) -> tuple[list[Trial], Array]:
        """Return the closed trials that had all of the resource, and their scores as in `known`."""
        chosen = self.visible() & (self.levels == self.top)
        return [trial for trial in self if chosen[trial.number]], self._completed(chosen)

    def _completed(self, chosen: NDArray[np.bool_], added: Array | float = 0.0) -> Array:
        """Return the scores of some trials, with what is expected on folds that were not run."""
        n = len(self)
        fold_scores = self._fold_scores[:n].compress(chosen, axis=0) + added
        run = self._run[:n].compress(chosen, axis=0)
        if run.all():
            return np.asarray(fold_scores)
        whole = fold_scores[self._whole()[chosen]]
        return FoldModel.of(whole).complete(fold_scores, run)

    def _seconds_of(self, chosen: NDArray[np.bool_], n_run: NDArray[np.intp] | None) -> Array:
        """Return what a fold took of each; NaN where less of a resource was used than of others."""
        seconds = self._spent[: len(self)].compress(chosen)
        seconds /= self.n_folds if n_run is None else np.maximum(n_run, 1)
        levels = self.levels.compress(chosen)
        return np.where(levels == levels.max(initial=0), seconds, np.nan)

    def visible(self, upto: int | None = None) -> NDArray[np.bool_]:
        """Return, trial by trial, whether its scores may be looked at; `upto` as in `known`."""
        n = len(self)
        return self._closed[:n].copy() if upto is None else np.arange(n) < upto

    def visible_means(self, upto: int | None = None) -> Array:
        """Return the mean score of each trial; NaN if it failed or may not be looked at."""
        means = (self._fold_scores[: len(self)] / self.n_folds).sum(axis=1)
        return np.where(self.visible(upto), means, np.nan)

    def _compared(self, upto: int | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Array]:
        """Return the trial of each candidate to go by, what is pending, and what to add."""
        numbers, first = np.flatnonzero(self.visible(upto)), self._first[: len(self)]
        rows, added = comparable(
            self.visible_means(upto)[numbers],
            self.levels[numbers],
            first[numbers],
            self._units.shape[1] + 2,  # as BOHB asks of a level
        )
        chosen = np.zeros(len(self), dtype=bool)
        chosen[numbers[rows]] = True
        pending = ~self.visible(upto) & ~np.isin(first, first[numbers])
        return chosen, pending, added[:, None]

    def chance(self, number: int, upto: int | None = None) -> float:
        """Return how likely trial `number` will have a better mean over all folds than the best.

        Parameters
        ----------
        number : int
            A trial with some scores.
        upto : int or None
            As in `known`.

        Returns
        -------
        chance : float
            1 if too little is known to tell; 0 if it failed on a fold.
        """
        own, run = self._fold_scores[number], self._run[number]
        rivals = np.flatnonzero(self._whole()[: len(self) if upto is None else upto])
        if np.isnan(own[run]).any():
            return 0.0
        if not len(rivals):
            return 1.0
        scores = self._fold_scores[rivals]
        best = scores[scores.mean(axis=1).argmax()]
        return FoldModel.of(scores).chance_to_beat(best, own, run)

    def _whole(self) -> NDArray[np.bool_]:
        """Tell which trials have a finite score on every fold."""
        n = len(self)
        return np.asarray((self._run[:n] & np.isfinite(self._fold_scores[:n])).all(axis=1))

    def _of_closed(self, closed: NDArray[np.bool_]) -> dict[int, HyperGradient]:
        return {
            row: self._hypergradients[number]
            for row, number in enumerate(np.flatnonzero(closed).tolist())
            if number in self._hypergradients
        }


def _doubled(rows: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([rows, np.empty((max(len(rows), 1), *rows.shape[1:]), rows.dtype)])
