"""A fold in, a score out, whatever happens to the fit.

Nothing here knows about search spaces and methods, nor about joblib.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sklearn.base import clone

from tunein._clock import metered
from tunein._families import HyperGradient
from tunein._fold_files import FoldFile
from tunein._fronts import Fronts
from tunein._history import Score
from tunein._sklearn import _fit_and_score, error_scores, is_from_callback
from tunein._warm import grown, packed


@metered
def evaluate_fold(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    parameters: Mapping[str, Any],
    scorer: Any,
    error_score: Any,
    return_train_score: bool,
    probe: Probe | None = None,
    fronts: Fronts | None = None,
    grows: str | None = None,
    grown_from: bytes | None = None,
    **kwargs: Any,
) -> Score:
    """Fit a clone of `estimator` with `parameters` on one fold and score it.

    X may be the file of the fold instead.

    A `probe` is asked for the hypergradient of what was fitted. `fronts` keeps what transformers
    that are not tuned have come to in each fold; which that is ``split_progress`` tells. If the fit
    is one that others, with more of the parameter `grows`, can go on from, it comes back with the
    score. `grown_from` is such a fit of another trial.

    Whatever goes wrong with the candidate is its score, with the traceback. What gets through is
    ``KeyboardInterrupt``, ``SystemExit``, errors of callbacks, and all if ``error_score="raise"``.
    """
    try:
        data = X.cut(y, **kwargs) if isinstance(X, FoldFile) else {"X": X, "y": y, **kwargs}
        candidate = clone(estimator) if grown_from is None else grown(estimator, grown_from)
        passage = None if fronts is None else fronts.enter(candidate, kwargs["split_progress"][0])
        result = _fit_and_score(
            candidate,
            parameters=parameters,
            scorer=scorer,
            error_score=error_score,
            return_train_score=return_train_score,
            return_n_test_samples=True,
            return_times=True,
            return_estimator=probe is not None or grows is not None,
            **data,
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # parameters that cannot be set, scores that are no numbers, ...
        if is_from_callback(error):
            raise
        return failed_fold(
            error,
            scorer=scorer,
            error_score=error_score,
            return_train_score=return_train_score,
            **kwargs,
        )
    found: tuple[HyperGradient | None, str | None] = (None, None)
    if probe is not None and result["fit_error"] is None:
        found = probe(result["estimator"], **data, passage=passage)
    fitted = None
    if grows is not None and result["fit_error"] is None:
        fitted = packed(result["estimator"], grows)
    return Score(
        test=result["test_scores"],
        train=result.get("train_scores"),
        fit_time=result["fit_time"],
        score_time=result["score_time"],
        n_test_samples=result["n_test_samples"],
        error=result["fit_error"],
        hypergradient=found[0],
        no_hypergradient=found[1],
        fitted=fitted,
    )


def failed_fold(
    error: BaseException,
    *,
    scorer: Any,
    error_score: Any,
    return_train_score: bool,
    test: Any,
    **_: Any,
) -> Score:
    """Score a fold that cannot be scored, or raise; arguments are those of `evaluate_fold`."""
    if error_score == "raise":
        raise error
    failed = error_scores(scorer, error_score)
    text = "".join(traceback.format_exception(error))
    return Score(failed, failed if return_train_score else None, 0.0, 0.0, len(test), text)


class Probe(Protocol):
    """Asks a fitted estimator for a hypergradient."""

    def __call__(
        self, estimator: Any, X: Any, y: Any, **kwargs: Any
    ) -> tuple[HyperGradient | None, str | None]:
        """Return it, or why there is none; `kwargs` are those of ``_fit_and_score``."""


@dataclass
class Call:
    """What an evaluator is handed.

    Attributes
    ----------
    label : object
        What its result is handed back with.
    function : callable
        What to call.
    kwargs : dict
        Arguments, which may be large, like those of other calls. If they cannot be sent to a
        worker, all calls have failed.
    own : mapping
        Arguments of this call alone. If they cannot be sent, it has failed.
    """

    label: Any
    function: Callable[..., Any]
    kwargs: dict[str, Any]
    own: Mapping[str, Any]


class Evaluator(Protocol):
    """Runs calls, and hands results back as they finish.

    Attributes
    ----------
    n_workers : int
        How many calls run at the same time.
    leaves_process : bool
        Whether calls are pickled.
    n_running : int
        Calls handed in and not handed back.
    capacity : int
        How many calls may be handed in before one is handed back.
    can_abandon : bool
        Whether calls that run can be left to themselves.
    folder : str or None
        Where files are that all workers see, until the end; None if there is no such place.
    """

    n_workers: int
    leaves_process: bool
    n_running: int
    capacity: int
    can_abandon: bool
    folder: str | None

    def submit(self, call: Call) -> None:
        """Hand in a call."""

    def next(self, timeout: float | None = None) -> tuple[Any, Any] | None:
        """Wait for a call to finish; return its label and result, or raise its error.

        None if none has after `timeout` seconds, of those that can be abandoned.
        """

    def abandon(self) -> None:
        """Drop what is running and waiting, at the end."""


class InProcess:
    """Runs one call after the other, here: no threads, no copies."""

    n_workers = 1
    leaves_process = False
    capacity = 1
    can_abandon = False
    folder: str | None = None

    def __init__(self) -> None:
        self.n_running = 0
        self._waiting: Call | None = None

    def submit(self, call: Call) -> None:
        """Keep the call until `next`."""
        self._waiting = call
        self.n_running = 1

    def next(self, timeout: float | None = None) -> tuple[Any, Any]:
        """Run the call."""
        call = self._waiting
        if call is None:
            raise RuntimeError("Nothing was handed in.")
        self._waiting, self.n_running = None, 0
        return call.label, call.function(**{**call.kwargs, **call.own})

    def abandon(self) -> None:
        """Refuse: what runs here has the only thread there is."""
        raise RuntimeError("What runs in this process cannot be abandoned.")
