"""Journals, races, stops, limits and earlier searches, used together."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from fakes import Levelled
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

from tunein import (
    BayesSearchCV,
    EarlyStop,
    FoldRace,
    Halving,
    RegretBound,
    TargetScore,
    TimeLimit,
    TPESearchCV,
)

X, y = load_iris(return_X_y=True)
SPACE = {"C": loguniform(1e-2, 1e3), "gamma": loguniform(1e-4, 1e1)}


def search(search_class=TPESearchCV, **options):
    return search_class(SVC(), SPACE, **{"n_iter": 20, "cv": 3, "random_state": 0} | options)


def assert_same(found, expected):
    assert found.cv_results_["params"] == expected.cv_results_["params"]
    for name in ("mean_test_score", "rank_test_score", "split0_test_score"):
        np.testing.assert_array_equal(found.cv_results_[name], expected.cv_results_[name])


def test_what_a_callback_ended_stays_ended_and_goes_on_without_it(tmp_path):
    stopping = search(checkpoint=tmp_path / "run", callbacks=EarlyStop(patience=4))
    first = stopping.fit(X, y)
    n, reason = len(first.history_), first.stop_reason_
    assert n < 20
    again = stopping.fit(X, y)
    assert (len(again.history_), again.stop_reason_) == (n, reason)
    assert_same(stopping.set_params(callbacks=None).fit(X, y), search().fit(X, y))


def test_what_a_limit_of_time_cut_off_is_finished_later(tmp_path):
    options = {"racing": FoldRace(), "n_jobs": 2}
    short = search(BayesSearchCV, checkpoint=tmp_path / "run", **options)
    short.set_params(callbacks=TimeLimit(0.05, abandon=True)).fit(X, y)
    n, spent = len(short.history_), short.search_cost_.wall_seconds
    assert n < 20
    short.fit(X, y)  # the time is over already
    assert len(short.history_) == n
    whole = short.set_params(callbacks=None).fit(X, y)
    assert whole.search_cost_.wall_seconds > spent
    assert_same(whole, search(BayesSearchCV, **options).fit(X, y))


def test_a_halving_with_limits_is_resumed_in_workers(tmp_path):
    options = {"racing": Halving(), "fit_timeout": 60, "n_jobs": 2}
    whole = search(checkpoint=tmp_path / "run", **options).fit(X, y)
    lines = (tmp_path / "run").read_bytes().splitlines(keepends=True)
    (tmp_path / "run").write_bytes(b"".join(lines[: len(lines) // 2]))
    assert_same(search(checkpoint=tmp_path / "run", **options).fit(X, y), whole)


def test_nested_with_all_of_it(tmp_path):
    nested = search(
        racing=FoldRace(),
        scoring=["accuracy", "f1_macro"],
        refit="f1_macro",
        callbacks=[TargetScore(0.9), RegretBound(), EarlyStop()],
        checkpoint=tmp_path / "{fingerprint}",
        acquisition="per_second",
    )
    assert (cross_val_score(nested, X, y, cv=3) > 0.8).all()
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("racing", [None, FoldRace(), Halving()])
def test_a_fitted_search_is_small(tmp_path, racing):
    """Less than a kilobyte a candidate beside ``cv_results_``."""
    sizes = []
    for n_iter in (10, 60):
        fitted = search(n_iter=n_iter, racing=racing, checkpoint=tmp_path / f"{n_iter}").fit(X, y)
        beside = len(pickle.dumps(fitted)) - len(pickle.dumps(fitted.cv_results_))
        sizes.append((len(fitted.history_), beside))
    (n, small), (more, larger) = sizes
    assert (larger - small) / (more - n) < 1000


def test_a_fitted_search_holds_no_data(tmp_path):
    large = np.arange(1e6)[:, None]
    fitted = TPESearchCV(
        Levelled(), {"level": uniform(0, 1)}, n_iter=5, cv=3, checkpoint=tmp_path / "run"
    ).fit(large)
    assert len(pickle.dumps(fitted)) < large.nbytes / 100
