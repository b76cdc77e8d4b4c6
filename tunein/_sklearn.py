"""Every private scikit-learn name that the package relies on, in one place.

Tested against the oldest and the newest scikit-learn that we support. Where versions differ, one
function hides the difference and says when it can go.
"""

from __future__ import annotations

import copy
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sklearn import get_config
from sklearn.base import ClassifierMixin, RegressorMixin, _fit_context
from sklearn.metrics import accuracy_score, r2_score
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import (
    _fit_and_score,
    _warn_or_raise_about_fit_failures,
)
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval as IntervalConstraint
from sklearn.utils._param_validation import Options as OptionsConstraint
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.parallel import _FuncWrapper, _threadpool_controller_decorator
from sklearn.utils.validation import _check_method_params, _check_sample_weight

__all__ = [
    "BaseSearchCV",
    "IntervalConstraint",
    "OptionsConstraint",
    "SearchContext",
    "_check_method_params",
    "_check_sample_weight",
    "_fit_and_score",
    "_fit_context",
    "_safe_indexing",
    "_safe_split",
    "_warn_or_raise_about_fit_failures",
    "configured",
    "draws_for_pca",
    "error_scores",
    "is_from_callback",
    "metric_of",
    "name_of_sample_weight",
    "on_one_blas_thread",
]


def configured(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `function` so that a worker runs it under this thread's scikit-learn configuration."""
    wrapper = _FuncWrapper(function)
    if hasattr(wrapper, "with_config"):  # remove when sklearn >= 1.7
        return wrapper.with_config(get_config())  # type: ignore[no-any-return]
    # Free-threaded Python keeps the filters in a context variable, behind a function.
    filters = getattr(warnings, "_get_filters", lambda: warnings.filters)()
    return wrapper.with_config_and_warning_filters(get_config(), filters)  # type: ignore[no-any-return]


# Small matrices gain nothing from threads, and lose tenfold where workers keep all cores busy.
on_one_blas_thread = _threadpool_controller_decorator(limits=1, user_api="blas")


def error_scores(scorer: Any, error_score: float) -> Any:
    """Give `error_score` the shape that `scorer` would have returned."""
    if isinstance(scorer, _MultimetricScorer):
        return dict.fromkeys(scorer._scorers, error_score)
    return error_score


def metric_of(scorer: Any, estimator: Any) -> Any:
    """Return what a scorer computes: metric, sign and the method of the estimator it looks at.

    ``"score"`` if it is the estimator's own score and none of the usual ones; None for anything
    else, and for metrics with further arguments.
    """
    if isinstance(scorer, _PassthroughScorer):
        method = getattr(type(estimator), "score", None)
        usual = {RegressorMixin.score: r2_score, ClassifierMixin.score: accuracy_score}
        return (usual[method], 1, "predict") if method in usual else "score"
    if isinstance(scorer, _BaseScorer) and not scorer._kwargs:
        looks_at = scorer._response_method
        first = looks_at if isinstance(looks_at, str) else next(iter(looks_at))
        return scorer._score_func, scorer._sign, first
    return None


def name_of_sample_weight(step: Any) -> str | None:
    """Return under which name metadata routing hands sample weights to the fit of a step."""
    if not get_config().get("enable_metadata_routing"):
        return None
    asked = step.get_metadata_routing().fit.requests.get("sample_weight")
    return "sample_weight" if asked is True else asked if isinstance(asked, str) else None


def draws_for_pca(fitted: Any) -> bool:
    """Tell whether the solver that a fitted PCA has picked for its samples draws at random."""
    return getattr(fitted, "_fit_svd_solver", None) not in ("full", "covariance_eigh")


class SearchContext:
    """Drives scikit-learn's callbacks (1.9 and later) as ``GridSearchCV`` drives them.

    On older versions, which have no callbacks, every method does nothing.

    Parameters
    ----------
    search : BaseSearchCV
        The search whose callbacks are called.
    X, y : array-like
        What the callbacks are told of the data.
    sample_weight : array-like or None
        Handed to the callbacks as metadata.
    """

    def __init__(self, search: Any, X: Any, y: Any, sample_weight: Any) -> None:
        self._search = search
        self._data = {
            "X": X,
            "y": y,
            "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
        }
        self._root = self._tasks = None
        if hasattr(search, "_init_callback_context"):  # remove when sklearn >= 1.9
            self._root = search._init_callback_context(
                max_subtasks=1 + (search.refit is not False)
            ).call_on_fit_task_begin(estimator=search, **self._data)

    def begin_search(self, n_tasks: int) -> None:
        """Announce at most `n_tasks` evaluations of one candidate on one fold."""
        if self._root is not None:
            self._tasks = self._root.subcontext(
                task_name="search", max_subtasks=n_tasks, sequential_subtasks=False
            ).call_on_fit_task_begin(estimator=self._search)

    def task_arguments(self, task_id: int, *, leaves_process: bool) -> dict[str, Any]:
        """Return what ``_fit_and_score`` needs to call the callbacks for one evaluation.

        What leaves the process travels without the siblings: the tree grows while tasks are being
        pickled in another thread, and would make every message larger.
        """
        if self._tasks is None:
            return {}
        context = self._tasks.subcontext(task_name="candidate-split-evaluation", task_id=task_id)
        if not leaves_process:
            return {"callback_ctx": context, "caller": self._search}
        has_callbacks = hasattr(self._search, "_skl_callbacks")
        return {
            "callback_ctx": _without_siblings(context),
            "caller": _without_results(self._search) if has_callbacks else None,
        }

    def end_search(self) -> None:
        """Announce the end of all evaluations."""
        if self._tasks is not None:
            self._tasks.call_on_fit_task_end(estimator=self._search)

    @contextmanager
    def refit(self, estimator: Any) -> Iterator[None]:
        """Announce the refit, which happens inside this context, to callbacks and `estimator`."""
        if self._root is None:
            yield
            return
        context = self._root.subcontext(task_name="refit-with-best-params")
        with context.propagate_callback_context(estimator):
            context.call_on_fit_task_begin(estimator=self._search, **self._data)
            yield
        context.call_on_fit_task_end(estimator=self._search, **self._data)

    def end(self) -> None:
        """Announce the end of ``fit``."""
        if self._root is not None:
            self._root.call_on_fit_task_end(estimator=self._search, **self._data)


def is_from_callback(error: BaseException) -> bool:
    """Tell whether a scikit-learn callback raised `error` after a fit, not the candidate itself."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == "call_on_fit_task_end" for frame in frames)


# Attributes that scikit-learn's callbacks hang on an estimator for the time of a fit.
_OF_ONE_FIT = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")


def _without_results(search: Any) -> Any:
    """Return a copy of the search that holds neither the tree of tasks nor an earlier fit."""
    twin = copy.copy(search)
    for name in list(vars(twin)):
        if name.endswith("_") or name in _OF_ONE_FIT:
            delattr(twin, name)
    return twin


def _without_siblings(context: Any) -> Any:
    twin = copy.copy(context)
    twin._children_map = {}
    if context.parent is not None:
        twin.parent = _without_siblings(context.parent)
    return twin
