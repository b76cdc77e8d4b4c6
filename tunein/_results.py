"""From the record to the layout of ``cv_results_``."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from tunein._history import Score, Trial

_SCORES = re.compile(r"(split\d+|mean|std)_(test|train)_")


def fold_results(trials: list[Trial], error_score: float) -> list[dict[str, Any]]:
    """Return what scikit-learn makes of each fold that was run, trial by trial."""
    out = [_as_sklearn(score) for trial in trials for score in trial.scores if score]
    _shape_alike(out, error_score)
    return out


def with_stand_ins(trials: list[Trial], out: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a result for every fold: the first of the same trial stands in for one not run.

    So no warning is given of scores that are missing on purpose; `blank` takes them away again.
    """
    filled: list[dict[str, Any]] = []
    ran = iter(out)
    for trial in trials:
        found = {fold: next(ran) for fold in trial.run}
        first = found[trial.run[0]]
        filled.extend(found.get(fold, first) for fold in range(len(trial.scores)))
    return filled


def blank(results: dict[str, Any], trials: list[Trial]) -> None:
    """Make scores that were not run NaN, with their means, and times means over folds run."""
    run = np.array([[score is not None for score in trial.scores] for trial in trials])
    dropped = ~run.all(axis=1)
    for name, column in results.items():
        if match := _SCORES.match(name):
            split = match[1].removeprefix("split")
            column[~run[:, int(split)] if split.isdigit() else dropped] = np.nan
    for name in ("fit_time", "score_time"):
        times = np.array(
            [[getattr(score, name, np.nan) for score in trial.scores] for trial in trials]
        )
        results[f"mean_{name}"] = np.nanmean(times, axis=1)
        results[f"std_{name}"] = np.nanstd(times, axis=1)


def rank_by_level(results: dict[str, Any], levels: NDArray[np.intp]) -> None:
    """Make every rank one of the highest level first; a mean that is missing still ranks last."""
    for name in [name for name in results if name.startswith("rank_test_")]:
        means = results[name.replace("rank", "mean", 1)]
        missing = np.isnan(means)
        keys = np.column_stack([missing, -levels, -means])
        keys[missing, 1:] = 0
        place = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
        results[name] = rankdata(place, method="min").astype(np.int32)


def _shape_alike(out: list[dict[str, Any]], error_score: float) -> None:
    """Give every result the metrics of the first that has several.

    A callable's metrics are known only once it has returned, so a failure before is one number.
    """
    for key in ("test_scores", "train_scores"):
        scores = [result.get(key) for result in out]
        names = next((list(score) for score in scores if isinstance(score, dict)), None)
        if names is None:
            continue
        for result, score in zip(out, scores, strict=True):
            found = score if isinstance(score, dict) else {}
            result[key] = {name: found.get(name, error_score) for name in names}


def _as_sklearn(score: Score) -> dict[str, Any]:
    result = {
        "test_scores": score.test,
        "fit_time": score.fit_time,
        "score_time": score.score_time,
        "n_test_samples": score.n_test_samples,
        "fit_error": score.error,
    }
    if score.train is not None:
        result["train_scores"] = score.train
    return result
