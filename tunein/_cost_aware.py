"""What candidates cost in time, and how much that counts: improvement per second.

EI / c^a, where c is the time that is expected of a candidate and a falls from one to zero as the
budget is spent: at first many cheap candidates tell more than few dear ones, in the end the best is
wanted, whatever it costs (Lee, Perrone, Archambeau & Seeger 2020, "Cost-aware Bayesian
optimization").
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tunein._dimensions import Array
from tunein._halving import Halving
from tunein._history import Known
from tunein._math import gp as gaussian
from tunein._math.acquisition import Acquisition, PerCost
from tunein._racing import FoldRace
from tunein._search import BaseSequentialSearchCV
from tunein._sklearn import OptionsConstraint
from tunein._space import Space

# Seconds of a fold beside its fit and score, for a clone, a split and a record: where fits take
# less, that one takes half of another saves next to nothing.
_OVERHEAD = 1e-3

# Candidates that a model of times is told of: times are smoother than scores.
_MAX_TIMED = 150

# Its hyperparameters are fitted anew when there are so many times more candidates.
_GROWTH = 1.1


class CostAwareSearchCV(BaseSequentialSearchCV):
    """Base of searches that may weigh what they expect of a candidate by the time it takes."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseSequentialSearchCV._parameter_constraints,
        "acquisition": [OptionsConstraint(str, {"improvement", "per_second"})],
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 50,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        initial_params: list[dict[str, Any]] | None = None,
        racing: FoldRace | Halving | None = None,
        callbacks: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        history: Any = None,
        fit_timeout: float | None = None,
        acquisition: str = "improvement",
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
            initial_params=initial_params,
            racing=racing,
            callbacks=callbacks,
            checkpoint=checkpoint,
            history=history,
            fit_timeout=fit_timeout,
        )
        self.acquisition = acquisition

    def _power(self, space: Space, known: Known) -> float:
        """Return how much the cost of the next candidate counts."""
        if self.acquisition == "improvement" or not len(log_seconds(known)[0]):
            return 0.0
        return cooled(known, int(min(self.n_iter, space.size)), self._n_startup(space))


def cooled(known: Known, n_trials: int, n_startup: int) -> float:
    """Return the power a of the cost: one after the startup, none at the last of `n_trials`."""
    # Not the units known: those of earlier searches are none of this one's budget.
    left = (n_trials - len(known.tried)) / max(n_trials - n_startup, 1)
    return float(np.clip(left, 0.0, 1.0))


def log_seconds(known: Known) -> tuple[Array, Array]:
    """Return candidates whose fits succeeded, and the logarithms of what a fold of each took.

    Of many, some of all ages. A fit that failed took no time that tells of others.
    """
    seconds = np.zeros(len(known.units)) if known.seconds is None else known.seconds
    rows = np.flatnonzero(np.isfinite(known.scores) & np.isfinite(seconds))
    if len(rows) > _MAX_TIMED:
        rows = rows[np.linspace(0, len(rows) - 1, _MAX_TIMED).astype(int)]
    return known.units[rows], np.log(seconds[rows] + _OVERHEAD)


def per_second(
    acquisition: Acquisition, space: Space, known: Known, power: float, note: Mapping[str, Any]
) -> tuple[Acquisition, Mapping[str, Any]]:
    """Return the acquisition per second to this power, and a note that holds the model of times.

    The model is a Gaussian process of log seconds, with hyperparameters of its own: what takes long
    seldom is what scores well.
    """
    units, logs = log_seconds(known)
    spread = float(logs.std()) if len(logs) else 0.0
    if power == 0 or spread == 0:
        return acquisition, note
    x, y = space.features(units), (logs - logs.mean()) / spread
    last = (known.note or {}).get("seconds")
    if last is None or len(known.units) >= _GROWTH * last["n"]:
        start = None if last is None else np.array(last["theta"])
        log_posterior = gaussian.LogPosterior.of(x, y, space.kinds, space.n_levels)
        theta = gaussian.fit(log_posterior, start)
        last = {"theta": theta.tolist(), "n": len(known.units)}
    gp = gaussian.GaussianProcess(x, y, np.array(last["theta"]), space.kinds, space.n_levels)
    return PerCost(acquisition, gp, power * spread), {**note, "seconds": last}
