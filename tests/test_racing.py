"""Races between candidates: who is dropped, what is reported, and what is learned from it."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from fakes import Levelled, level_and_opposite
from joblib import parallel_config
from scipy.stats import loguniform, uniform
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    PredefinedSplit,
    RepeatedStratifiedKFold,
    cross_val_score,
)
from sklearn.svm import SVC

from tunein import BayesSearchCV, FoldRace, HyperGradSearchCV, TPESearchCV

SEARCHES = [BayesSearchCV, TPESearchCV, HyperGradSearchCV]
every_search = pytest.mark.parametrize("search_class", SEARCHES)

X = np.arange(6.0)[:, None]
SPACE = {"level": uniform(0, 1)}


def race(search_class=TPESearchCV, estimator=None, space=None, **kwargs):
    kwargs = {"cv": KFold(6), "n_iter": 25, "random_state": 0, "racing": FoldRace()} | kwargs
    return search_class(estimator or Levelled(noise=0.01), space or SPACE, **kwargs)


def splits_of(search, metric="score", kind="test"):
    columns = [f"split{k}_{kind}_{metric}" for k in range(search.n_splits_)]
    return np.stack([search.cv_results_[column] for column in columns], axis=1)


@every_search
def test_losers_are_dropped_and_the_best_has_every_fold(search_class):
    search = race(search_class, refit=False).fit(X)
    results = search.cv_results_
    run = np.isfinite(splits_of(search))
    dropped = ~run.all(axis=1)
    assert dropped.any()
    np.testing.assert_array_equal(run.sum(axis=1), results["n_splits_run"])
    assert not dropped[search.best_index_]
    means = np.where(dropped, np.nan, splits_of(search).mean(axis=1))
    np.testing.assert_allclose(results["mean_test_score"], means)
    assert results["rank_test_score"][search.best_index_] == 1
    assert search.best_score_ == np.nanmax(means)
    assert results["rank_test_score"][dropped].min() == (~dropped).sum() + 1
    assert np.isnan(results["std_test_score"][dropped]).all()
    assert [trial.dropped for trial in search.history_] == dropped.tolist()
    assert np.isfinite(results["mean_fit_time"]).all()
    assert np.isfinite(results["std_score_time"]).all()


def test_what_was_dropped_would_not_have_won():
    search = race(estimator=Levelled(noise=0.02), n_iter=60).fit(X)
    run = [len(trial.run) for trial in search.history_]
    assert sum(run) < 0.7 * 60 * 6
    whole = [
        np.mean([Levelled(noise=0.02, **t.params).score(row[None]) for row in X])
        for t in search.history_
    ]
    assert search.best_score_ >= max(whole) - 0.005


def test_without_noise_one_fold_is_enough():
    search = race(estimator=Levelled()).fit(X)
    levels = np.array([t.params["level"] for t in search.history_])
    run = search.cv_results_["n_splits_run"]
    is_record = levels >= np.maximum.accumulate(levels)
    assert set(run[~is_record][2:]) <= {1}
    assert (run[is_record] == 6).all()


def test_the_riskier_the_fewer_folds():
    folds = [
        race(estimator=Levelled(noise=0.3), racing=FoldRace(risk))
        .fit(X)
        .cv_results_["n_splits_run"]
        .sum()
        for risk in (0.001, 0.1, 0.45)
    ]
    assert folds[0] > folds[1] > folds[2]


def test_no_race_runs_every_fold_and_has_no_column_of_its_own():
    search = race(racing=None).fit(X)
    assert np.isfinite(splits_of(search)).all()
    assert "n_splits_run" not in search.cv_results_


def test_scores_that_were_not_run_give_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        race(return_train_score=True).fit(X)


def test_train_scores_are_missing_where_test_scores_are():
    search = race(return_train_score=True).fit(X)
    train, test = splits_of(search, kind="train"), splits_of(search)
    np.testing.assert_array_equal(np.isnan(train), np.isnan(test))
    dropped = np.isnan(test).any(axis=1)
    np.testing.assert_array_equal(np.isnan(search.cv_results_["mean_train_score"]), dropped)


@pytest.mark.parametrize(("driving", "best"), [("good", np.argmax), ("bad", np.argmin)])
def test_of_several_metrics_the_driving_one_decides(driving, best):
    search = race(estimator=Levelled(), scoring=level_and_opposite, refit=driving, n_iter=30).fit(X)
    levels = [trial.params["level"] for trial in search.history_]
    assert search.best_index_ == best(levels)
    for metric in ("good", "bad"):
        np.testing.assert_array_equal(
            np.isfinite(splits_of(search, metric)).sum(axis=1), search.cv_results_["n_splits_run"]
        )


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_who_fails_on_a_fold_is_dropped_and_counts_as_failed():
    space = {"level": uniform(0, 1), "fail_on": [None, 0]}
    with pytest.warns(FitFailedWarning, match=r"fits failed out of a total of"):
        search = race(space=space, n_iter=30).fit(X)
    run = search.cv_results_["n_splits_run"]
    failing = [trial.params["fail_on"] == 0 for trial in search.history_]
    assert set(run[failing]) == {1}
    assert search.best_params_["fail_on"] is None


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_if_all_fail_that_is_said():
    with pytest.raises(ValueError, match=r"All the 5 fits failed"):
        race(space={"level": uniform(0, 1), "fail_on": [0]}, n_iter=5).fit(X)


@every_search
def test_a_seed_gives_the_same_race_again(search_class):
    first, second = (race(search_class, refit=False).fit(X) for _ in range(2))
    assert first.cv_results_["params"] == second.cv_results_["params"]
    np.testing.assert_array_equal(splits_of(first), splits_of(second))


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_timing_changes_nothing_in_parallel_with_a_seed(backend):
    found = []
    for _ in range(2):
        with parallel_config(backend):
            found.append(race(n_jobs=3, estimator=Levelled(noise=0.1)).fit(X))
    assert found[0].cv_results_["params"] == found[1].cv_results_["params"]
    np.testing.assert_array_equal(splits_of(found[0]), splits_of(found[1]))
    assert np.isnan(splits_of(found[0])).any()


def test_workers_are_kept_busy_though_each_candidate_waits_for_one_fold():
    search = race(n_jobs=2, random_state=None)
    with parallel_config("threading"):
        assert np.isnan(splits_of(search.fit(X))).any()


def test_repeated_folds_groups_and_unequal_test_sets():
    X, y = load_digits(return_X_y=True)
    X, y = X[:300], y[:300]
    space = {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-6, 1e1)}
    uneven = np.repeat(np.arange(5), [150, 60, 40, 30, 20])
    for cv, groups in (
        (RepeatedStratifiedKFold(n_splits=5, n_repeats=3, random_state=0), None),
        (GroupKFold(4), np.arange(300) % 7),
        (PredefinedSplit(uneven), None),
    ):
        search = race(estimator=SVC(), space=space, cv=cv, n_iter=15).fit(X, y, groups=groups)
        n_folds = cv.get_n_splits(X, y, groups)
        assert search.cv_results_["n_splits_run"].sum() < 0.8 * 15 * n_folds
        assert search.cv_results_["n_splits_run"][search.best_index_] == n_folds
        assert search.best_score_ > 0.85


def test_one_fold_is_no_race_and_no_error():
    search = race(cv=[(np.arange(5), np.array([5]))]).fit(X)
    assert (search.cv_results_["n_splits_run"] == 1).all()


def test_hypergradients_of_those_that_ran_through_are_used():
    X, y = load_iris(return_X_y=True)
    search = HyperGradSearchCV(
        Ridge(), {"alpha": loguniform(1e-4, 1e4)}, cv=KFold(5, shuffle=True, random_state=0),
        racing=FoldRace(), random_state=0, n_iter=10,
    ).fit(X, y)  # fmt: skip
    assert search.gradient_ == "exact"
    whole = ~np.isnan(search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(np.isfinite(search.cv_results_["loss"]), whole)


def test_it_survives_clone_pickle_and_cross_validation():
    search = race(racing=FoldRace(risk=0.1))
    assert clone(search).racing == FoldRace(risk=0.1)
    assert pickle.loads(pickle.dumps(search.fit(X))).racing == FoldRace(risk=0.1)
    scores = cross_val_score(race(cv=3), X, cv=2)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("risk", [0, 1, -0.1, "little", None, float("nan")])
def test_a_risk_that_is_none_is_refused(risk):
    with pytest.raises(ValueError, match=r"risk must be a number between 0 and 1"):
        race(racing=FoldRace(risk=risk)).fit(X)


def test_what_is_no_race_is_refused():
    with pytest.raises(ValueError, match=r"'racing' parameter of TPESearchCV must be"):
        race(racing="fold").fit(X)
