"""What is known before a search begins: candidates to try first, and scores of earlier searches.

Scores that were measured as this search measures are evidence: a method learns from them as from
trials. Others only say which candidates are worth a first try.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunein._dimensions import Array, same_value
from tunein._fingerprint import Part
from tunein._history import Evidence, History, Origin, Proposal
from tunein._journal import read_journal
from tunein._math.folds import FoldModel
from tunein._parse import shown
from tunein._space import Space

# Candidates of a search on other data that are tried first. What was best there is among the best
# here if anything is; the fourth best says little that the third did not.
_N_STARTS = 3


@dataclass(frozen=True)
class Source:
    """What one earlier search found.

    Attributes
    ----------
    name : str
        Where the user gave it.
    params : list of dict
        Its candidates.
    fold_scores : ndarray of shape (n, n_folds)
        Greater is better; NaN where a fit failed.
    measured : mapping of str to str or None
        Digests of what the scores were measured with; None if that is not known.
    """

    name: str
    params: list[dict[str, Any]]
    fold_scores: Array
    measured: Mapping[str, str] | None

    def differs_in(self, measured: Mapping[str, Part]) -> list[str]:
        """Return in what its scores were measured otherwise; nothing if that is not known."""
        if self.measured is None:
            return []
        names = [*measured, *(name for name in self.measured if name not in measured)]
        ours = {name: part.digest for name, part in measured.items()}
        return [name for name in names if ours.get(name) != self.measured.get(name)]


@dataclass(frozen=True)
class Earlier:
    """What earlier searches say to this one.

    Attributes
    ----------
    evidence : Evidence or None
        Points with scores.
    starts : list of dict
        Candidates to try first.
    """

    evidence: Evidence | None
    starts: list[dict[str, Any]]

    @classmethod
    def read(
        cls,
        given: Any,
        space: Space,
        measured: Mapping[str, Part],
        metric: str | None,
        n_folds: int,
    ) -> Earlier:
        """Read the parameter `history` of a search.

        Parameters
        ----------
        given : object or list
            Records, paths of journals, ``cv_results_``; or None.
        space : Space
            Of the search.
        measured : dict of str to Part
            What its scores are measured with.
        metric : str or None
            Which of several metrics drives it.
        n_folds : int
            Its number of folds.
        """
        if given is None:
            return cls(None, [])
        units: list[Array] = []
        rows: list[Array] = []
        believed: list[tuple[float, dict[str, Any]]] = []
        starts: list[dict[str, Any]] = []
        for source in _sources(given, space, metric):
            places, inside = _places(source, space)
            ranked = _ranked(source, inside)
            if differing := source.differs_in(measured):
                _warn_of_other_data(source, differing)
                starts.extend(params for _, params in ranked[:_N_STARTS])
                continue
            units.extend(places)
            rows.extend(_on_folds(source.fold_scores, n_folds)[inside])
            believed.extend(ranked)
        best = [max(believed, key=lambda pair: pair[0])[1]] if believed else []
        evidence = Evidence(np.array(units), np.array(rows)) if units else None
        return cls(evidence, best + starts)


def _ranked(source: Source, inside: list[int]) -> list[tuple[float, dict[str, Any]]]:
    """Return mean scores and candidates that lie in the space, the best first."""
    means = source.fold_scores.mean(axis=1)
    order = sorted((i for i in inside if np.isfinite(means[i])), key=lambda i: -means[i])
    return [(float(means[i]), source.params[i]) for i in order]


def _places(source: Source, space: Space) -> tuple[list[Array], list[int]]:
    """Return where the candidates lie that the space holds, and which those are."""
    found = [next(space.encode(params), None) for params in source.params]
    inside = [i for i, place in enumerate(found) if place is not None]
    if n_outside := len(found) - len(inside):
        warnings.warn(
            f"{source.name}: {n_outside} of {len(found)} candidates lie outside the search space "
            f"and are left out.",
            UserWarning,
            stacklevel=2,
        )
    return [place[0] for place in found if place is not None], inside


def _warn_of_other_data(source: Source, differing: list[str]) -> None:
    warnings.warn(
        f"{source.name} was measured otherwise ({', '.join(differing)} differed): its "
        f"{_N_STARTS} best candidates are tried first, and its scores are not believed.",
        UserWarning,
        stacklevel=2,
    )


def _on_folds(fold_scores: Array, n_folds: int) -> Array:
    """Return scores for as many folds as there are now, without what is common to a fold.

    If the number of folds is another, only the means are known.
    """
    if fold_scores.shape[1] == n_folds:
        whole = fold_scores[np.isfinite(fold_scores).all(axis=1)]
        return np.asarray(fold_scores - FoldModel.of(whole).effects)
    return np.repeat(fold_scores.mean(axis=1, keepdims=True), n_folds, axis=1)


# --------------------------------------------------------------------- what users give


def _sources(given: Any, space: Space, metric: str | None) -> Iterator[Source]:
    many = given if isinstance(given, list | tuple) else [given]
    for i, one in enumerate(many):
        name = f"history[{i}]" if isinstance(given, list | tuple) else "history"
        if isinstance(one, History):
            yield _of_history(name, one)
        elif isinstance(one, str | os.PathLike):
            yield _of_history(name, read_journal(one, space, name))
        elif isinstance(one, Mapping):
            yield _of_results(name, one, space, metric)
        elif hasattr(one, "columns") and hasattr(one, "to_dict"):  # a data frame of cv_results_
            columns = {str(column): list(one[column]) for column in one.columns}
            yield _of_results(name, columns, space, metric)
        else:
            raise TypeError(
                f"{name} must be the history_ or cv_results_ of a fitted search, the latter as a "
                f"dict or a data frame, or the path of a journal, got {shown(one)} of type "
                f"{type(one).__name__}."
            )


def _of_history(name: str, history: History) -> Source:
    trials, fold_scores = history.at_top()
    if history.closed and not trials:
        warnings.warn(
            f"{name}: none of {len(history.closed)} trials had all of the resource, so their "
            f"scores tell nothing here.",
            UserWarning,
            stacklevel=2,
        )
    params = [trial.params for trial in trials]
    if history.space is not None:  # a resource is no parameter of the candidate
        names = set(history.space.names)
        params = [{key: one[key] for key in one if key in names} for one in params]
    return Source(name, params, fold_scores, history.measured)


def _without(resource: Any, params: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Return a candidate's own parameters, without the one that a race has set."""
    return {
        name: value
        for name, value in params.items()
        if resource is None or name in space.names or not same_value(value, resource)
    }


def _of_results(name: str, results: Mapping[str, Any], space: Space, metric: str | None) -> Source:
    if metric is None or f"mean_test_{metric}" not in results:
        metric = "score"
    column = f"mean_test_{metric}"
    if "params" not in results or column not in results:
        raise ValueError(
            f"{name} must be a cv_results_ with the columns 'params' and {column!r}, got "
            f"{sorted(map(str, results))[:20]}. Of several metrics, scoring and refit of this "
            f"search say which one counts."
        )
    try:
        return _of_columns(name, results, space, metric)
    except _UNREADABLE as error:
        raise ValueError(
            f"{name} must be a cv_results_ with columns of one length, of dicts in 'params' and "
            f"numbers in the scores ({type(error).__name__}: {error})."
        ) from error


# What columns that no search has made may come to.
_UNREADABLE = (TypeError, ValueError, KeyError, IndexError, OverflowError, MemoryError)


def _of_columns(name: str, results: Mapping[str, Any], space: Space, metric: str) -> Source:
    n_folds = sum(f"split{i}_test_{metric}" in results for i in range(len(results)))
    columns = [results[f"split{i}_test_{metric}"] for i in range(n_folds)] or [
        results[f"mean_test_{metric}"]
    ]
    fold_scores = np.stack([np.asarray(values, dtype=float) for values in columns], axis=1)
    fold_scores[~np.isfinite(fold_scores)] = np.nan
    # A candidate that was dropped has no mean that could be compared with others.
    run = np.asarray(results.get("n_splits_run", np.full(len(fold_scores), n_folds)))
    # Nor has one that was halted with less of a resource, here or in scikit-learn's halving.
    amounts = results.get("n_resources")
    is_at_top = True if amounts is None else np.asarray(amounts) == max(amounts, default=0)
    whole = np.flatnonzero((run == n_folds) & is_at_top)
    resource = None if amounts is None or not len(whole) else amounts[whole[0]]
    params = [_without(resource, dict(results["params"][i]), space) for i in whole]
    return Source(name, params, fold_scores[whole], None)


# --------------------------------------------------------------------- what is tried first


def first_candidates(
    space: Space, estimator: Any, initial_params: Any, starts: Iterable[Mapping[str, Any]]
) -> list[Proposal]:
    """Return the estimator's own values, if the space holds them, then what its user gave."""
    current = estimator.get_params(deep=True)
    proposals: list[Proposal] = []
    for own in space.parts(current):
        proposals = _first_free(space, own, [], "default")
        if proposals:
            break
    for i, params in enumerate(initial_params or ()):
        where = f"initial_params[{i}]"
        if not isinstance(params, Mapping):
            raise TypeError(
                f"{where} must be a dict, got {shown(params)} of type {type(params).__name__}."
            )
        if not all(isinstance(name, str) for name in params):
            raise TypeError(f"{where}={shown(dict(params))}: parameter names are strings.")
        if not any(True for _ in space.encode(params)):
            raise ValueError(f"{where}={shown(dict(params))} {space.explain_absence(params)}")
        proposals.extend(_first_free(space, params, proposals, "initial"))
    for params in starts:
        proposals.extend(_first_free(space, params, proposals, "initial"))
    return proposals


def _first_free(
    space: Space, params: Mapping[str, Any], taken: list[Proposal], origin: Origin
) -> list[Proposal]:
    """Return the first point that holds `params` and is not taken, if there is one."""
    for unit, own in space.encode(params):
        # Values far in a tail share a coordinate, and are not the same for all that.
        if not any(
            Space.key(unit) == Space.key(other.unit) and same_value(own, other.params)
            for other in taken
        ):
            return [Proposal(unit, own, origin)]
    return []
