"""What a search has cost."""

from __future__ import annotations

from dataclasses import dataclass

from tunein._clock import peak_memory
from tunein._history import History


@dataclass(frozen=True)
class SearchCost:
    """What a search has cost, the refit left out.

    Attributes
    ----------
    n_fits : int
        Folds that were run, failed ones among them.
    fit_seconds, score_seconds : float
        Sums over folds, of their wall time; folds run side by side count each for itself.
    cpu_seconds : float
        Of this process during the search, and of folds that ran in others. A fold is measured by
        its worker: all threads of a process of its own, but its own thread alone on a Dask worker;
        processes that the estimator starts are not seen.
    own_seconds : float
        Wall time in which the search did not wait for folds, nor for workers to start: proposing,
        judging, callbacks, handing in. Of this run alone if an earlier one is gone on with.
    wall_seconds : float
        From the first proposal to the last score.
    peak_memory : int or None
        The most bytes this process has had in its life; None where the system cannot tell.
    worker_peak_memory : int or None
        Of the process, among those that ran folds, that had most; None where it cannot be told.
    """

    n_fits: int
    fit_seconds: float
    score_seconds: float
    cpu_seconds: float
    own_seconds: float
    wall_seconds: float
    peak_memory: int | None
    worker_peak_memory: int | None

    @classmethod
    def of(cls, history: History) -> SearchCost:
        """Read the cost from the record."""
        scores = [score for trial in history for score in trial.scores if score is not None]
        clock = history.clock
        told = [score.peak_memory for score in scores if score.peak_memory is not None]
        return cls(
            n_fits=len(scores),
            fit_seconds=sum(score.fit_time for score in scores),
            score_seconds=sum(score.score_time for score in scores),
            # This process has counted its own folds once already.
            cpu_seconds=clock.cpu + sum(score.cpu_time for score in scores) - clock.cpu_of_folds,
            own_seconds=clock.this_run - clock.waited,
            wall_seconds=clock.seconds,
            peak_memory=peak_memory(),
            worker_peak_memory=max(told, default=None),
        )
