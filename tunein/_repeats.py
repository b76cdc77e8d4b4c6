"""Which estimators do the same each time that they are fitted to the same samples.

Chance need not come by a parameter `random_state`: ``mutual_info_classif`` draws, `Isomap` draws
where its iterations begin, splitters shuffle, and what others have written may do anything. So this
is said of scikit-learn's only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import Isomap

from tunein._sklearn import draws_for_pca


def repeats(fitted: Any) -> bool:
    """Tell whether a fitted estimator is known to come out the same when it is fitted again."""
    inside = fitted.get_params(deep=True) if hasattr(fitted, "get_params") else {}
    return all_repeat({"": fitted, **{f"__{name}": value for name, value in inside.items()}})


def all_repeat(params: dict[str, Any]) -> bool:
    """Tell the same of all that is among parameters, which are those of estimators among them."""
    return is_seeded(params) and all(map(_repeats_itself, params.values()))


def is_seeded(params: dict[str, Any]) -> bool:
    """Tell whether every random state is an int: any other is not the same at the next fit.

    Those that nothing is drawn from do not count.
    """
    owners = (
        params.get(name.rpartition("__")[0])
        for name, state in params.items()
        if name.split("__")[-1] == "random_state" and not isinstance(state, int | np.integer)
    )
    return not any(map(_draws, owners))


def _draws(owner: Any) -> bool:
    """Tell whether an estimator may have drawn from its random state."""
    return draws_for_pca(owner) if type(owner) is PCA else True


def _repeats_itself(value: Any) -> bool:
    if isinstance(value, type | np.ufunc):
        return True
    if hasattr(value, "get_params"):
        return _package(type(value)) == "sklearn" and not isinstance(value, Isomap)
    if callable(value):  # a partial function is of nobody, and may hold anything
        name = getattr(value, "__name__", "")
        return _package(value) == "sklearn" and not name.startswith("mutual_info")
    state = getattr(value, "random_state", 0)
    return _package(type(value)) in _HARMLESS and isinstance(state, int | np.integer)


def _package(value: Any) -> str:
    return str(getattr(value, "__module__", "")).partition(".")[0]  # ``str.lower`` has none


# Of what else parameters may be: numbers, lists, arrays, splitters, a memory.
_HARMLESS = ("builtins", "numpy", "scipy", "pandas", "sklearn", "joblib")
