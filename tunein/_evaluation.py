"""A fold in, a score out, whatever happens to the fit.

Nothing here knows about search spaces, methods or workers.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any, Protocol

from sklearn.base import clone

from tunein._families import HyperGradient
from tunein._history import Score
from tunein._sklearn import _fit_and_score, error_scores, is_from_callback


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
    **kwargs: Any,
) -> Score:
    """Fit a clone of `estimator` with `parameters` on one fold and score it.

    A `probe` is asked for the hypergradient of what was fitted.

    Whatever goes wrong with the candidate is its score, with the traceback. What gets through is
    ``KeyboardInterrupt``, ``SystemExit``, errors of callbacks, and all if ``error_score="raise"``.
    """
    try:
        result = _fit_and_score(
            clone(estimator),
            X,
            y,
            parameters=parameters,
            scorer=scorer,
            error_score=error_score,
            return_train_score=return_train_score,
            return_n_test_samples=True,
            return_times=True,
            return_estimator=probe is not None,
            **kwargs,
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
        found = probe(result["estimator"], X, y, **kwargs)
    return Score(
        test=result["test_scores"],
        train=result.get("train_scores"),
        fit_time=result["fit_time"],
        score_time=result["score_time"],
        n_test_samples=result["n_test_samples"],
        error=result["fit_error"],
        hypergradient=found[0],
        no_hypergradient=found[1],
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
