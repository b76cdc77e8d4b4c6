"""Asks the callbacks of a search, and keeps what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunein._callbacks import TimeLimit, check_settings
from tunein._history import History
from tunein._parse import shown


class Watch:
    """Asks the callbacks of a search, and keeps what they say.

    Parameters
    ----------
    callbacks : callable, sequence of callables or None
        As the user gave them.
    history : History
        The record.

    Attributes
    ----------
    reason : str or None
        Why no more trials are opened, if so.
    halted : bool
        Whether no more folds of open trials are handed in either.
    raised : Exception or None
        What a callback raised.
    """

    def __init__(self, callbacks: Any, history: History) -> None:
        self.reason: str | None = None
        self.halted = False
        self.raised: Exception | None = None
        self._history = history
        named = _named(callbacks)
        for name, callback in named.items():
            _check_callback(name, callback, history)
        self._limits = [one for one in named.values() if isinstance(one, TimeLimit)]
        self._others = {k: one for k, one in named.items() if not isinstance(one, TimeLimit)}

    @property
    def conclusion(self) -> str | None:
        """The reason, and how many candidates have scores on some of their folds for it."""
        n = sum(not trial.closed and len(trial.run) > 0 for trial in self._history)
        if self.reason is None or n == 0:
            return self.reason
        return f"{self.reason} {n} candidate{'s lack' if n > 1 else ' lacks'} folds."

    def check_worker(self, can_abandon: bool) -> None:
        """Refuse to abandon folds where that is not possible."""
        for limit in self._limits:
            if limit.abandon and not can_abandon:
                raise ValueError(
                    f"{limit!r} cannot abandon a fold that runs in this process, as with one "
                    f"worker it does. Use n_jobs=2 or more, or abandon=False."
                )

    def stop(self, reason: str, finishes_trials: bool = True) -> None:
        """Let no more trials be opened."""
        self.reason = reason if self.reason is None else f"{self.reason} {reason}"
        self.halted |= not finishes_trials

    def ask(self) -> None:
        """Ask all callbacks, as a trial has closed; the first that wants to stop says why."""
        for name, callback in self._others.items():
            try:
                answer = _answer(name, callback, self._history)
            except Exception as error:
                error.add_note(f"Raised by {name}, asked after {len(self._history.closed)} trials.")
                self.raised = error
                raise
            if answer is not None and self.reason is None:
                self.stop(answer, getattr(callback, "finishes_trials", True))

    def look_at_clock(self) -> None:
        """Halt if a limit of time is over."""
        for limit in self._limits:
            if not self.halted and (reason := limit(self._history)):
                self.stop(reason, limit.finishes_trials)

    def patience(self) -> float | None:
        """Return how many seconds to wait for a fold until all are abandoned; None for ever."""
        abandoning = [limit.seconds for limit in self._limits if limit.abandon]
        if not abandoning or not self._history.has_result:
            return None
        return max(min(abandoning) - self._history.seconds, 0.0)

    def give_up(self) -> None:
        """Halt, as the patience is over."""
        if not self.halted:
            limits = [limit for limit in self._limits if limit.abandon]
            limit = min(limits, key=lambda limit: limit.seconds)
            self.stop(limit.sentence, limit.finishes_trials)


def _named(callbacks: Any) -> dict[str, Any]:
    """Return each callback under the name that errors give it."""
    if callbacks is None:
        return {}
    if isinstance(callbacks, Sequence):
        return {f"callbacks[{i}]={shown(one)}": one for i, one in enumerate(callbacks)}
    return {f"callbacks={shown(callbacks)}": callbacks}


def _check_callback(name: str, callback: Any, history: History) -> None:
    if not callable(callback):
        raise TypeError(f"{name} is not callable. Use a function of the record, or EarlyStop().")
    if isinstance(callback, type):
        raise TypeError(f"{name} is a class. Use one of it: {callback.__name__}(...).")
    check_settings(callback, history)


def _answer(name: str, callback: Any, history: History) -> str | None:
    answer: Any = callback(history)
    if answer is None or (isinstance(answer, str) and answer):
        return answer
    raise TypeError(
        f"{name} returned {shown(answer)} of type {type(answer).__name__}. It must return None to "
        f"go on, or a sentence (str) that says why to stop."
    )
