"""Which fitted ensembles can grow, where that changes nothing but the time it takes.

With ``warm_start`` a fit with more trees begins with those that there are. For the classes below
the result is that of a fit from nothing, to the last bit, given a seed; of others, as networks and
linear models, it is not, since they go on from a different start.

A fit travels and is kept as bytes: whoever goes on from it has a copy, in whichever process, and
how much memory it takes is known.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    RandomTreesEmbedding,
)
from sklearn.pipeline import Pipeline

from tunein._repeats import all_repeat, is_seeded

# A larger fit is not kept: it would be sent to and fro, and there are many of them.
MAX_BYTES = 2**28


def packed(fitted: Any, parameter: str) -> bytes | None:
    """Return a fit to go on from with more of `parameter`; None if that is not exact."""
    if not grows_exactly(fitted, parameter):
        return None
    try:
        content = pickle.dumps(_last_step(fitted), pickle.HIGHEST_PROTOCOL)
    except Exception:  # whatever members of bagging raise; they are fitted from nothing then
        return None
    return content if len(content) <= MAX_BYTES else None


def grown(estimator: Any, content: bytes) -> Any:
    """Return a clone of an unfitted estimator that goes on from a fit when it is fitted."""
    fitted = pickle.loads(content).set_params(warm_start=True)
    if not isinstance(estimator, Pipeline):
        return fitted
    return clone(estimator).set_params(**{estimator.steps[-1][0]: fitted})


def grows_exactly(fitted: Any, parameter: str) -> bool:
    """Tell whether a fit with more of `parameter` can go on from this one with the same result.

    Of a pipeline only the last step goes on, and what is in front is fitted again; so that must
    come out the same, or new trees would be grown on other features than the old ones.
    """
    if type(fitted) is Pipeline:
        name, last = fitted.steps[-1]
        front = {
            key: value
            for key, value in fitted.get_params(deep=True).items()
            if not key.startswith(f"{name}__")
        }
        parameter = parameter.removeprefix(f"{name}__")
    else:
        last, front = fitted, {}
    if type(last) not in _GROWING:
        return False
    grown, is_exact = _GROWING[type(last)]
    is_repeated = all_repeat(front) and is_seeded(_own_params(last))
    return grown == parameter and is_repeated and is_exact(last)


def _last_step(estimator: Any) -> Any:
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def _own_params(estimator: Any) -> dict[str, Any]:
    """Return parameters, but for those of the estimators that a bagging ensemble seeds itself."""
    params = estimator.get_params(deep=True)
    return {key: value for key, value in params.items() if not key.startswith("estimator__")}


# --------------------------------------------------------------------- which, and when


def _forest(fitted: Any) -> bool:
    # Grown with weights by name, forests warn that these are those of other data. They are not.
    return not isinstance(getattr(fitted, "class_weight", None), str)


def _bagging(fitted: Any) -> bool:
    return not fitted.oob_score  # refused when grown


def _boosting(fitted: Any) -> bool:
    # One that had stopped early would be given another stage before it is asked to stop again.
    return fitted.n_iter_no_change is None and _predicts_its_own_sums()


def _histogram_boosting(fitted: Any) -> bool:
    return not fitted.do_early_stopping_  # as above


@cache
def _predicts_its_own_sums() -> bool:
    """Tell whether gradient boosting, as it was compiled, predicts the sums that its fit went by.

    A fit that goes on begins with predictions. Where the compiler made one instruction of a product
    and a sum, as it may on ARM, these differ in the last bit from what a fit from nothing adds up.
    """
    x = np.random.default_rng(0).standard_normal((200, 2))
    whole = GradientBoostingRegressor(random_state=0, n_estimators=20).fit(x, x[:, 0])
    grown = GradientBoostingRegressor(random_state=0, n_estimators=5, warm_start=True)
    for n in (5, 10, 20):
        grown.set_params(n_estimators=n).fit(x, x[:, 0])
    return np.array_equal(whole.train_score_, grown.train_score_)


# By exact type, since a subclass may do what it likes: the parameter, and when growing is exact.
_GROWING: dict[type, tuple[str, Callable[[Any], bool]]] = {
    RandomForestClassifier: ("n_estimators", _forest),
    RandomForestRegressor: ("n_estimators", _forest),
    ExtraTreesClassifier: ("n_estimators", _forest),
    ExtraTreesRegressor: ("n_estimators", _forest),
    RandomTreesEmbedding: ("n_estimators", _forest),
    BaggingClassifier: ("n_estimators", _bagging),
    BaggingRegressor: ("n_estimators", _bagging),
    GradientBoostingClassifier: ("n_estimators", _boosting),
    GradientBoostingRegressor: ("n_estimators", _boosting),
    HistGradientBoostingClassifier: ("max_iter", _histogram_boosting),
    HistGradientBoostingRegressor: ("max_iter", _histogram_boosting),
}
