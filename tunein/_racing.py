"""Which folds of which trial are worth paying for."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from tunein._history import History, Score, Trial


class EveryFold:
    """Every trial is given all its folds at once."""

    def n_at_once(self, n_folds: int) -> int:
        """Return how many folds of a trial may be in work at the same time."""
        return n_folds

    def next_folds(self, history: History, number: int, upto: int | None) -> list[int]:
        """Return the folds that trial `number` is to be given next.

        Asked when it is opened, and when all that it was given before have a score and some are
        left. A pure function of its arguments.

        Parameters
        ----------
        history : History
            The record.
        number : int
            The trial.
        upto : int or None
            If given, besides the trial itself only the first `upto` may be looked at.

        Returns
        -------
        folds : list of int
            If none, the trial is dropped.
        """
        trial = history.trials[number]
        return [fold for fold, score in enumerate(trial.scores) if score is None]


@dataclass(frozen=True)
class FoldRace(EveryFold):
    """Drop candidates that, going by their first folds, will not be the best."""

    risk: float = 0.05

    def n_at_once(self, n_folds: int) -> int:
        """Return how many folds of a trial may be in work at the same time."""
        return 1

    def next_folds(self, history: History, number: int, upto: int | None) -> list[int]:
        """Return the next fold, or none if the trial has lost."""
        missing = super().next_folds(history, number, upto)
        if len(missing) < history.n_folds and history.chance(number, upto) < self.risk:
            return []
        return missing[:1]


class Agenda:
    """The folds that are to be run, in order: what a race grants the open trials of a record.

    Parameters
    ----------
    race : EveryFold
        What grants folds.
    history : History
        The record; trials that are open in it are gone on with.
    lookback : int or None
        If given, trial k is judged by the first ``k - lookback`` trials and itself, whatever else
        has finished by then.

    Attributes
    ----------
    waiting : deque of (int, int)
        Trial and fold.
    """

    def __init__(self, race: EveryFold, history: History, lookback: int | None) -> None:
        self._race = race
        self._history = history
        self._lookback = lookback
        self._n_granted: Counter[int] = Counter()
        self.waiting: deque[tuple[int, int]] = deque()
        for trial in history:
            if not trial.closed:
                self.grant(trial)

    def grant(self, trial: Trial) -> None:
        """Queue what the race grants an open trial; drop it if that is nothing."""
        number = trial.number
        upto = None if self._lookback is None else max(number - self._lookback, 0)
        folds = self._race.next_folds(self._history, number, upto)
        if not folds:
            self._history.drop(number)
        self._n_granted[number] = len(folds)
        self.waiting.extend((number, fold) for fold in folds)

    def keep_only(self, number: int | None) -> None:
        """Take the folds of all trials but `number` off the queue."""
        self.waiting = deque(fold for fold in self.waiting if fold[0] == number)

    def record(self, number: int, fold: int, score: Score) -> None:
        """Record a score; once a trial has all that it was granted, see whether it gets more."""
        self._history.record(number, fold, score)
        self._n_granted[number] -= 1
        trial = self._history.trials[number]
        if not self._n_granted[number] and not trial.closed:
            self.grant(trial)
