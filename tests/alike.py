"""What it means that a search found what scikit-learn's own would have found."""

from __future__ import annotations

import re
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ParameterGrid

# What a search of this package has beyond those of scikit-learn.
OWN_ATTRIBUTES = {"history_", "search_cost_", "space_", "stop_reason_"}
OF_DESCENT = {"gradient_", "loss_", "loss_is_proxy_"}
OWN_COLUMNS = {"loss", "grad_norm"}


def twins(search_class, estimator, grid, **options):
    """Return a search that proposes the candidates of a grid in their order, and the grid search.

    The estimator's own values must not be in the grid, or come first.
    """
    candidates = list(ParameterGrid(grid))
    ours = search_class(
        clone(estimator), grid, n_iter=len(candidates), initial_params=candidates, **options
    )
    return ours, GridSearchCV(clone(estimator), grid, **options)


def fit_noting_warnings(search, *data, **params):
    """Fit, and return the category and text of each warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(*data, **params)
    return [(warning.category, str(warning.message)) for warning in caught]


def assert_same_results(ours, theirs):
    """Compare two ``cv_results_`` to the letter, timings and slopes aside."""
    assert [key for key in ours if key not in OWN_COLUMNS] == [
        key for key in theirs if key not in OWN_COLUMNS
    ]
    for key, expected in theirs.items():
        got = ours[key]
        assert type(got) is type(expected), key
        if key == "params":
            assert got == expected
            assert [list(params) for params in got] == [list(params) for params in expected]
            continue
        assert got.dtype == expected.dtype, key
        assert got.shape == expected.shape, key
        if isinstance(expected, np.ma.MaskedArray):
            np.testing.assert_array_equal(np.ma.getmaskarray(got), np.ma.getmaskarray(expected))
            assert got.fill_value == expected.fill_value, key
            assert got.tolist() == expected.tolist(), key
        elif key.endswith("_time"):
            assert (np.isfinite(got) == np.isfinite(expected)).all(), key
        else:
            np.testing.assert_array_equal(got, expected, err_msg=key, strict=True)


def fitted_attributes(search):
    return {name for name in vars(search) if name.endswith("_") and not name.startswith("_")}


def assert_same_search(ours, theirs):
    """Compare all that two fitted searches tell their users."""
    assert_same_results(ours.cv_results_, theirs.cv_results_)
    assert fitted_attributes(ours) - OWN_ATTRIBUTES - OF_DESCENT == fitted_attributes(theirs)
    assert fitted_attributes(ours) >= OWN_ATTRIBUTES
    for name in ("best_index_", "best_score_", "best_params_", "multimetric_", "n_splits_"):
        assert hasattr(ours, name) == hasattr(theirs, name), name
        got, expected = getattr(ours, name, None), getattr(theirs, name, None)
        assert type(got) is type(expected), name
        # NaN is the same as NaN.
        assert got == expected or (got != got and expected != expected), name
    assert repr(ours.scorer_) == repr(theirs.scorer_)
    for name in ("n_features_in_", "feature_names_in_", "classes_"):
        assert hasattr(ours, name) == hasattr(theirs, name), name
        if hasattr(theirs, name):
            got, expected = np.asarray(getattr(ours, name)), np.asarray(getattr(theirs, name))
            np.testing.assert_array_equal(got, expected, strict=True)
    if hasattr(theirs, "best_estimator_"):
        assert without_addresses(ours.best_estimator_) == without_addresses(theirs.best_estimator_)


def without_addresses(estimator):
    return re.sub(" at 0x[0-9A-Fa-f]+", "", repr(estimator))
