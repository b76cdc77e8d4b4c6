"""Races, callbacks, journals, earlier searches and costs, in one search."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from fakes import Levelled
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator
from sklearn.datasets import load_iris
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingRandomSearchCV, cross_val_score
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
from tunein._history import History, Proposal, Score

X = np.arange(60.0)[:, None]
SPACE = {"a": uniform(0, 1)}
IRIS, SPECIES = load_iris(return_X_y=True)
SVC_SPACE = {"C": loguniform(1e-2, 1e3), "gamma": loguniform(1e-4, 1e1)}
every_race = pytest.mark.parametrize("racing", [None, FoldRace(), Halving("n_steps")])


class Steps(BaseEstimator):
    """Scores best at a = 0.3, and ten times better after nine steps than after one."""

    def __init__(self, a=0.5, n_steps=9):
        self.a = a
        self.n_steps = n_steps

    def fit(self, X, y=None):
        return self

    def score(self, X, y=None):
        return self.n_steps + 1 - (self.a - 0.3) ** 2


class Stumbling(Steps):
    """Refuses the first candidate; acts as if somebody pressed Ctrl-C in fit number `at`."""

    n_fits = 0
    at = 0

    def fit(self, X, y=None):
        Stumbling.n_fits += 1
        if Stumbling.n_fits == Stumbling.at:
            raise KeyboardInterrupt
        if self.a == 0.5:
            raise RuntimeError("on purpose")
        return self


def make(search_class=TPESearchCV, estimator=None, **options):
    settings = {"n_iter": 9, "cv": 2, "random_state": 0, **options}
    return search_class(estimator or Steps(), SPACE, **settings)


def evidence_of(history, **options):
    """Return what a search learns from what an earlier one left."""
    return make(n_iter=1, history=history, **options).fit(X).history_._evidence


# --------------------------------------------------------------------- races and earlier searches


@pytest.mark.parametrize("brackets", [1, "all"])
@pytest.mark.parametrize("resource", ["n_samples", "n_steps"])
def test_only_full_scores_of_a_halving_search_are_believed(resource, brackets, tmp_path):
    path = tmp_path / "run.jsonl"
    racing = Halving(resource, brackets=brackets)
    halved = make(n_iter=27, racing=racing, checkpoint=path).fit(X)
    results = halved.cv_results_
    at_top = results["n_resources"] == halved.max_resources_
    for left in (halved.history_, path, results, pickle.loads(pickle.dumps(halved.history_))):
        found = evidence_of(left)
        np.testing.assert_allclose(
            found.units[:, 0], [p["a"] for p in np.array(results["params"])[at_top]]
        )
        np.testing.assert_allclose(
            found.fold_scores.mean(axis=1), results["mean_test_score"][at_top]
        )


def test_scores_of_fewer_rows_are_not_those_of_all(tmp_path):
    path = tmp_path / "run.jsonl"
    few = make(racing=Halving(max_resources=40), checkpoint=path).fit(X)
    for left in (few.history_, path):
        with pytest.warns(UserWarning, match=r"measured otherwise \(max_resources differed\)"):
            assert evidence_of(left) is None
    assert evidence_of(few.history_, racing=Halving(max_resources=40)) is not None


def test_a_halving_search_that_never_got_to_the_top_tells_nothing():
    out_of_time = make(racing=Halving("n_steps"), callbacks=TimeLimit(0)).fit(X)
    assert set(out_of_time.cv_results_["iter"]) == {0}
    with pytest.warns(UserWarning, match="none of 1 trials had all of the resource"):
        assert evidence_of(out_of_time.history_) is None


def test_the_halving_of_others_is_understood():
    theirs = HalvingRandomSearchCV(
        Steps(), SPACE, resource="n_steps", max_resources=9, cv=2, random_state=0
    ).fit(X, np.zeros(60))
    n = (theirs.cv_results_["n_resources"] == 9).sum()
    assert len(evidence_of(theirs.cv_results_).units) == n < len(theirs.cv_results_["params"])


def test_the_points_an_earlier_search_began_with_are_not_tried_again():
    first = make(n_iter=5).fit(X)
    second = make(n_iter=8, history=first.history_).fit(X)
    tried = [p["a"] for p in first.cv_results_["params"]]
    again = [
        a for a in (p["a"] for p in second.cv_results_["params"]) if np.isclose(a, tried).any()
    ]
    assert len(again) <= 2  # the estimator's own values, and the best of the first search


# --------------------------------------------------------------------- races and callbacks


def test_a_stopped_halving_search_tries_its_best_with_all_there_is():
    search = make(n_iter=30, racing=Halving("n_steps"), callbacks=lambda h: "Enough.").fit(X)
    assert search.stop_reason_ == "Enough."
    assert search.n_candidates_[-1] == 1
    assert search.best_params_["n_steps"] == 9


def test_a_halving_search_whose_time_is_over_does_not():
    search = make(n_iter=30, racing=Halving("n_steps"), callbacks=TimeLimit(0)).fit(X)
    assert len(search.history_) == 1
    assert search.stop_reason_ == "The time limit of 0 seconds was over."


def test_a_target_is_reached_with_all_of_the_resource():
    """Which the first candidate with one step has not, though it scores as much."""
    search = make(n_iter=9, racing=Halving("n_steps"), callbacks=TargetScore(1.5)).fit(X)
    number = next(t.number for t in search.history_ if t.params["n_steps"] == 9)
    assert f"candidate {number} has 9.99" in search.stop_reason_
    assert search.best_score_ > 1.5


def test_a_fit_leaves_nothing_of_the_one_before():
    search = make(racing=Halving("n_steps")).fit(X)
    search.set_params(racing=None, refit=False).fit(X)
    assert not hasattr(search, "n_resources_")
    assert not hasattr(search, "best_estimator_")


def test_patience_is_with_every_level():
    """Trials that do better than others with as little are an improvement."""
    history = History(1, 1, top=1)
    for level, value in [(0, 0.1), (1, 0.9), (0, 0.2), (0, 0.3), (0, 0.4)]:
        trial = history.open(Proposal(np.array([value]), {}, level=level))
        history.record(trial.number, 0, Score(value, None, 0.0, 0.0, 1))
        assert EarlyStop(2)(history) is None
    for _ in range(2):
        trial = history.open(Proposal(np.array([0.0]), {}, level=0))
        history.record(trial.number, 0, Score(0.4, None, 0.0, 0.0, 1))
    assert EarlyStop(2)(history).startswith("The best mean score, 0.9, was not exceeded")


def test_a_callable_refit_sees_how_many_folds_were_run():
    def best(results):
        return int(np.flatnonzero(results["n_splits_run"] == 2)[0])

    class Ticks:
        finishes_trials = False

        def __call__(self, history):
            return "Enough." if len(history.closed) > 1 else None

    search = make(refit=best, callbacks=Ticks(), n_jobs=1, racing=FoldRace()).fit(X)
    assert search.best_index_ == 0


# --------------------------------------------------------------------- Ctrl-C


@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.FitFailedWarning", "ignore:One or more of the test scores"
)
@every_race
@pytest.mark.parametrize("at", [2, 3, 4, 12])
def test_ctrl_c_is_ctrl_c_where_only_what_is_open_succeeded(racing, at, tmp_path):
    def search(path=tmp_path / "run"):
        return make(estimator=Stumbling(), racing=racing, checkpoint=path, refit=False)

    Stumbling.n_fits, Stumbling.at = 0, at
    with pytest.raises(KeyboardInterrupt):
        search().fit(X)
    Stumbling.at = 0
    resumed, whole = search().fit(X), search(None).fit(X)
    assert resumed.cv_results_["params"] == whole.cv_results_["params"]


# --------------------------------------------------------------------- all of them, on disk


@every_race
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_what_callbacks_had_ended_goes_on(racing, n_jobs, tmp_path):
    if isinstance(racing, Halving):
        racing = Halving("n_steps", min_resources=1)
    path = tmp_path / "run"
    options = {"racing": racing, "n_iter": 12, "n_jobs": n_jobs}
    limits = [TimeLimit(1e-9), lambda h: "Enough." if len(h.closed) >= 4 else None]
    reasons = ["The time limit of 1e-09 seconds was over.", "Enough."]
    for limit, reason in zip(limits, reasons, strict=True):
        found = make(checkpoint=path, callbacks=limit, **options).fit(X)
        assert found.stop_reason_.startswith(reason)
    resumed = make(checkpoint=path, **options).fit(X)
    assert resumed.stop_reason_ == "n_iter=12 candidates were tried."
    if n_jobs == 1 and not isinstance(racing, Halving):  # which had a last promotion
        assert resumed.cv_results_["params"] == make(**options).fit(X).cv_results_["params"]


@pytest.mark.parametrize("racing", [None, FoldRace(), Halving()])
@pytest.mark.parametrize("search_class", [BayesSearchCV, TPESearchCV])
def test_a_pickle_grows_by_less_than_a_kilobyte_a_trial(search_class, racing):
    sizes, n_trials = [], []
    for n in (20, 40):
        search = of_iris(
            search_class, n_iter=n, cv=5, racing=racing, callbacks=EarlyStop(1000)
        ).fit(IRIS, SPECIES)
        del search.cv_results_
        content = pickle.dumps(search)
        assert IRIS[:9].tobytes() not in content
        sizes.append(len(content))
        n_trials.append(len(search.history_))
    assert (sizes[1] - sizes[0]) / (n_trials[1] - n_trials[0]) < 1000
    twin = pickle.loads(content).history_
    for _ in range(3):
        twin.open(Proposal(np.array([0.5, 0.5]), {}))
    assert len(twin) == n_trials[1] + 3


# --------------------------------------------------------------------- all of them, on real data


def of_iris(search_class=TPESearchCV, **options):
    return search_class(SVC(), SVC_SPACE, **{"n_iter": 20, "cv": 3, "random_state": 0} | options)


def assert_same(found, expected):
    assert found.cv_results_["params"] == expected.cv_results_["params"]
    for name in ("mean_test_score", "rank_test_score", "split0_test_score"):
        np.testing.assert_array_equal(found.cv_results_[name], expected.cv_results_[name])


def test_what_a_callback_ended_stays_ended_and_goes_on_without_it(tmp_path):
    stopping = of_iris(checkpoint=tmp_path / "run", callbacks=EarlyStop(patience=4))
    first = stopping.fit(IRIS, SPECIES)
    n, reason = len(first.history_), first.stop_reason_
    assert n < 20
    again = stopping.fit(IRIS, SPECIES)
    assert (len(again.history_), again.stop_reason_) == (n, reason)
    assert_same(
        stopping.set_params(callbacks=None).fit(IRIS, SPECIES), of_iris().fit(IRIS, SPECIES)
    )


def test_what_a_limit_of_time_cut_off_is_finished_later(tmp_path):
    options = {"racing": FoldRace(), "n_jobs": 2}
    short = of_iris(BayesSearchCV, checkpoint=tmp_path / "run", **options)
    short.set_params(callbacks=TimeLimit(0.05, abandon=True)).fit(IRIS, SPECIES)
    n, spent = len(short.history_), short.search_cost_.wall_seconds
    assert n < 20
    short.fit(IRIS, SPECIES)  # the time is over already
    assert len(short.history_) == n
    whole = short.set_params(callbacks=None).fit(IRIS, SPECIES)
    assert whole.search_cost_.wall_seconds > spent
    assert_same(whole, of_iris(BayesSearchCV, **options).fit(IRIS, SPECIES))


def test_a_halving_with_limits_is_resumed_in_workers(tmp_path):
    options = {"racing": Halving(), "fit_timeout": 60, "n_jobs": 2}
    whole = of_iris(checkpoint=tmp_path / "run", **options).fit(IRIS, SPECIES)
    lines = (tmp_path / "run").read_bytes().splitlines(keepends=True)
    (tmp_path / "run").write_bytes(b"".join(lines[: len(lines) // 2]))
    assert_same(of_iris(checkpoint=tmp_path / "run", **options).fit(IRIS, SPECIES), whole)


def test_nested_with_all_of_it(tmp_path):
    nested = of_iris(
        racing=FoldRace(),
        scoring=["accuracy", "f1_macro"],
        refit="f1_macro",
        callbacks=[TargetScore(0.9), RegretBound(), EarlyStop()],
        checkpoint=tmp_path / "{fingerprint}",
        acquisition="per_second",
    )
    assert (cross_val_score(nested, IRIS, SPECIES, cv=3) > 0.8).all()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_fitted_search_holds_no_data(tmp_path):
    large = np.arange(1e6)[:, None]
    fitted = TPESearchCV(
        Levelled(), {"level": uniform(0, 1)}, n_iter=5, cv=3, checkpoint=tmp_path / "run"
    ).fit(large)
    assert len(pickle.dumps(fitted)) < large.nbytes / 100
