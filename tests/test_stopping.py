"""Callbacks that watch a search or stop it, limits of time, and what a search has cost."""

from __future__ import annotations

import math
import os
import pickle
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from fakes import Cutoff, Diary, Needle, high, high_and_low, low
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, RandomizedSearchCV, ShuffleSplit, cross_val_score

from tunein import (
    BayesSearchCV,
    EarlyStop,
    FoldRace,
    HyperGradSearchCV,
    RegretBound,
    TargetScore,
    TimeLimit,
    TPESearchCV,
)
from tunein._callbacks import standard_error
from tunein._history import History, Proposal, Score
from tunein._space import Space

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
SPACE = {"x": uniform(0, 1)}
every_search = pytest.mark.parametrize(
    "search_class", [TPESearchCV, BayesSearchCV, HyperGradSearchCV]
)


class Sleepy(BaseEstimator):
    """Takes `seconds` to fit; its score is a function of `x`."""

    def __init__(self, x=0.5, seconds=0.02):
        self.x = x
        self.seconds = seconds

    def fit(self, X, y=None):
        time.sleep(self.seconds)
        return self

    def score(self, X, y=None):
        return 1 - (self.x - 0.3) ** 2


class SlowInPart(Sleepy):
    """Takes `seconds` only where the first sample is tested, on the first of several folds."""

    def fit(self, X, y=None):
        time.sleep(0 if X[0, 0] == 0 else self.seconds)
        return self


class Late(Sleepy):
    """Takes `seconds` from the second candidate on: the first has x = 0.5."""

    def fit(self, X, y=None):
        time.sleep(0.01 if self.x == 0.5 else self.seconds)
        return self


class Busy(Sleepy):
    """Works for `seconds` of CPU time."""

    def fit(self, X, y=None):
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        return self


def searched(search_class=TPESearchCV, estimator=None, **options):
    settings = {"n_iter": 30, "cv": 3, "random_state": 0, "scoring": high, **options}
    return search_class(estimator or Needle(), SPACE, **settings)


def slow(estimator=None, search_class=TPESearchCV, **options):
    settings = {"n_iter": 1000, "cv": 3, "random_state": 0, "refit": False, **options}
    return search_class(estimator or Sleepy(), SPACE, **settings)


def after(n):
    """Return a callback that stops when n trials have closed."""

    def stop(history):
        return "Enough." if len(history.closed) >= n else None

    return stop


def record_of(*rows, space=None, n_test=10):
    """Return a record of trials with these fold scores; None where a fold was not run."""
    history = History(len(rows[0]), 1, space=space)
    for i, row in enumerate(rows):
        history.open(Proposal(np.array([(i + 0.5) / len(rows)]), {"x": i}))
        for fold, score in enumerate(row):
            if score is not None:
                history.record(i, fold, Score(score, None, 0.0, 0.0, n_test))
        if None in row:
            history.drop(i)
    return history


# --------------------------------------------------------------------- any function


@every_search
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_sentence_ends_the_search_and_is_the_reason(search_class, n_jobs):
    with parallel_config("threading"):
        search = searched(search_class, n_jobs=n_jobs, callbacks=after(7)).fit(X, Y)
    assert search.stop_reason_ == "Enough."
    n = len(search.cv_results_["params"])
    assert n == 7 if n_jobs == 1 else 7 <= n < 12
    assert all(trial.complete for trial in search.history_)
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert search.best_estimator_.x == search.best_params_["x"]


@every_search
def test_it_is_called_whenever_a_trial_closes(search_class):
    seen, threads = [], set()

    def watch(history):
        seen.append(list(history.closed))
        threads.add(threading.current_thread())

    with parallel_config("threading"):
        searched(search_class, n_iter=12, n_jobs=2, callbacks=watch).fit(X, Y)
    assert [len(closed) for closed in seen] == list(range(1, 13))
    assert all(longer[:-1] == shorter for shorter, longer in pairwise(seen))
    assert sorted(seen[-1]) == list(range(12))
    assert threads == {threading.main_thread()}


def test_it_is_called_for_trials_that_are_dropped():
    dropped = []

    def watch(history):
        dropped.append(history.trials[history.closed[-1]].dropped)

    search = searched(racing=FoldRace(), scoring=shifting, cv=5, callbacks=watch).fit(X, Y)
    assert len(dropped) == 30
    assert sum(dropped) == sum(trial.dropped for trial in search.history_) > 3


def shifting(estimator, X, y=None):
    """Score differently by fold, with a little that is common to no two candidates."""
    return estimator.x + float(np.mean(X)) / 100 + 0.001 * math.sin(1e3 * estimator.x * len(X))


@pytest.mark.parametrize("kind", [lambda one: one, lambda one: [one], lambda one: (one,)])
def test_one_or_several(kind):
    assert len(searched(callbacks=kind(after(4))).fit(X, Y).history_) == 4


@pytest.mark.parametrize("none", [None, [], ()])
def test_none(none):
    search = searched(n_iter=5, callbacks=none).fit(X, Y)
    assert search.stop_reason_ == "n_iter=5 candidates were tried."


def test_the_first_that_wants_to_stop_says_why_and_all_are_called():
    calls = []

    def other(history):
        calls.append(len(history.closed))
        return "Too late." if len(history.closed) >= 3 else None

    search = searched(callbacks=[after(3), other]).fit(X, Y)
    assert search.stop_reason_ == "Enough."
    assert calls == [1, 2, 3]


def test_folds_of_open_trials_are_finished():
    with parallel_config("threading"):
        search = slow(SlowInPart(seconds=0.2), n_jobs=2, callbacks=after(1)).fit(X)
    assert all(trial.complete for trial in search.history_)
    assert len(search.history_) > 1


def test_unless_the_callback_says_otherwise():
    class Impatient:
        finishes_trials = False

        def __call__(self, history):
            return "At once." if len(history.closed) == 1 else None

    with parallel_config("threading"):
        search = slow(n_jobs=2, cv=5, pre_dispatch=2, callbacks=Impatient()).fit(X)
    assert search.stop_reason_ == "At once. 1 candidate lacks folds."
    n_run = [len(trial.run) for trial in search.history_]
    assert n_run[0] == 5
    assert 0 < n_run[1] < 5


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (3, "'callbacks' parameter of TPESearchCV must be .* Got 3 instead"),
        ("stop", "'callbacks' parameter of TPESearchCV must be .* Got 'stop' instead"),
        ([after(3), 7], r"callbacks\[1\]=7 is not callable"),
        (EarlyStop, "callbacks=<class .*EarlyStop'> is a class. Use one of it: EarlyStop"),
        (lambda history: True, "callbacks=<function .*> returned True of type bool. It must"),
        ([lambda history: 0], r"callbacks\[0\]=<function .*> returned 0 of type int. It must"),
        (lambda history: "", "callbacks=<function .*> returned '' of type str. It must"),
        (EarlyStop(patience=0), r"EarlyStop\(.*: patience=0 must be an int of at least 1"),
        (EarlyStop(patience=2.5), r"EarlyStop\(.*: patience=2.5 must be an int of at least 1"),
        (EarlyStop(tol=-1), r"EarlyStop\(.*: tol=-1 must be a number of at least 0"),
        (EarlyStop(tol=math.nan), r"EarlyStop\(.*: tol=nan must be a number of at least 0"),
        (TargetScore("high"), r"TargetScore\(.*: score='high' must be a number"),
        (TargetScore(math.nan), r"TargetScore\(.*: score=nan must be a number"),
        ([TimeLimit(-1)], r"TimeLimit\(.*: seconds=-1 must be a number of at least 0"),
        (RegretBound(min_trials=0), r"RegretBound\(.*: min_trials=0 must be an int of at least 1"),
        (RegretBound(tol=-0.1), r"RegretBound\(.*: tol=-0.1 must be a number of at least 0"),
    ],
)
def test_what_is_no_use_is_refused_at_fit(callbacks, message):
    search = searched(callbacks=callbacks)
    with pytest.raises((TypeError, ValueError), match=message):
        search.fit(X, Y)


@every_search
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_of_a_callback_is_raised_and_what_had_finished_is_kept(search_class, n_jobs):
    def stumble(history):
        if len(history.closed) == 5:
            raise LookupError("no more")

    search = searched(search_class, n_jobs=n_jobs, callbacks=stumble)
    with parallel_config("threading"), pytest.raises(LookupError, match="no more") as caught:
        search.fit(X, Y)
    assert "Raised by callbacks=<function" in caught.value.__notes__[0]
    assert len(search.cv_results_["params"]) == 5
    assert search.best_params_ == search.cv_results_["params"][search.best_index_]
    assert search.stop_reason_ == "LookupError after 5 of 30 candidates; nothing was refitted."
    assert search.search_cost_.n_fits >= 15
    assert not hasattr(search, "best_estimator_")


@every_search
def test_candidates_are_those_of_a_search_without_callbacks(search_class):
    alone = searched(search_class, n_iter=25).fit(X, Y)
    watched = searched(
        search_class, n_iter=25, callbacks=[RegretBound(min_trials=10, tol=0), after(22)]
    ).fit(X, Y)
    assert watched.cv_results_["params"] == alone.cv_results_["params"][:22]


def test_exact_descent_can_be_stopped():
    alphas = {"alpha": loguniform(1e-4, 1e4)}
    X, y = load_diabetes(return_X_y=True)
    search = HyperGradSearchCV(Ridge(), alphas, tol=0, callbacks=after(3)).fit(X, y)
    assert search.stop_reason_ == "Enough."
    assert search.gradient_ == "exact"
    assert len(search.cv_results_["loss"]) == 3


def test_an_error_of_the_search_is_not_taken_for_one_of_a_callback():
    def broken(estimator, X, y=None):
        raise LookupError("of the scorer")

    search = searched(scoring=broken, error_score="raise", callbacks=after(3))
    with pytest.raises(LookupError, match="of the scorer"):
        search.fit(X, Y)
    assert not hasattr(search, "history_")


def test_they_survive_clone_and_are_not_touched():
    given = [EarlyStop(3), after(9)]
    search = searched(callbacks=given)
    assert search.get_params()["callbacks"] is given
    twin = clone(search)
    assert twin.callbacks[0] == given[0]
    search.fit(X, Y)
    assert search.callbacks is given
    assert given[0] == EarlyStop(3)
    assert len(twin.set_params(callbacks=after(2)).fit(X, Y).history_) == 2


@every_search
def test_in_a_cross_validation_of_the_search(search_class):
    search = search_class(
        Cutoff(), {"cut": uniform(0, 40)}, n_iter=40, cv=2, callbacks=[EarlyStop(3), TimeLimit(60)]
    )
    scores = cross_val_score(search, X, Y, cv=3, n_jobs=2)
    assert np.isfinite(scores).all()


@every_search
@pytest.mark.parametrize("stop", [EarlyStop(4), RegretBound(min_trials=12, tol=0.05)], ids=repr)
def test_a_seeded_search_stops_at_the_same_trial_every_time(search_class, stop):
    def run():
        it = slow(Sleepy(seconds=0), search_class, n_iter=60, callbacks=stop).fit(X)
        return it.cv_results_["params"], it.stop_reason_

    assert run() == run()


@pytest.mark.skipif(not hasattr(RandomizedSearchCV, "set_callbacks"), reason="scikit-learn < 1.9")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_they_get_along_with_those_of_scikit_learn(n_jobs, tmp_path):
    diary = Diary(tmp_path / "diary")
    search = searched(n_jobs=n_jobs, callbacks=EarlyStop(3)).set_callbacks(diary).fit(X, Y)
    assert "was not exceeded by more than 0 in 3 candidates" in search.stop_reason_
    ends = [line["task"] for line in diary.lines() if line["hook"] == "end"]
    assert ends.count("candidate-split-evaluation") == 3 * len(search.history_)
    assert ends[-3:] == ["search", "refit-with-best-params", "fit"]
    assert diary.lines()[-1]["hook"] == "teardown"


# --------------------------------------------------------------------- no better, good enough


def test_early_stop_counts_from_the_last_improvement():
    assert EarlyStop(3)(record_of([1], [2], [2], [1])) is None
    reason = EarlyStop(3)(record_of([1], [2], [2], [1], [2]))
    assert reason == "The best mean score, 2, was not exceeded by more than 0 in 3 candidates."
    assert EarlyStop(3)(record_of([1], [2], [2], [1], [2.1])) is None


def test_early_stop_takes_less_than_tol_for_no_improvement():
    rising = [[0.1 * i] for i in range(6)]
    assert EarlyStop(3, tol=0.05)(record_of(*rising)) is None
    assert EarlyStop(3, tol=0.5)(record_of(*rising)) is not None
    assert EarlyStop(3, tol=0.25)(record_of(*rising)) is None  # slow progress adds up


def test_early_stop_counts_failures_and_dropped_trials_once_there_is_a_score():
    assert EarlyStop(2)(record_of([math.nan, 1], [math.nan, 1], [math.nan, 1])) is None
    assert EarlyStop(2)(record_of([1, 1], [math.nan, 1], [9, None])) is not None


def test_early_stop_goes_by_the_order_in_which_trials_closed():
    history = History(1, 1)
    for i in range(4):
        history.open(Proposal(np.array([i / 4]), {"x": i}))
    for number, score in [(1, 1.0), (2, 0.5), (3, 0.5), (0, 2.0)]:
        history.record(number, 0, Score(score, None, 0.0, 0.0, 1))
    assert history.closed == [1, 2, 3, 0]
    assert EarlyStop(2)(history) is None


def test_target_score_wants_the_mean_of_all_folds():
    assert TargetScore(0.5)(record_of([0.9, None], [0.9, 0.0])) is None
    reason = TargetScore(0.5)(record_of([0.4, 0.4], [0.6, 0.4]))
    assert reason == "A mean score of 0.5 was asked for, and candidate 1 has 0.5."


@every_search
@pytest.mark.parametrize("refit", ["high", "low"])
def test_of_several_metrics_the_one_of_refit_counts(search_class, refit):
    search = searched(
        search_class, scoring=high_and_low, refit=refit, callbacks=TargetScore(0.1), n_jobs=2
    )
    with parallel_config("threading"):
        search.fit(X, Y)
    if refit == "high":
        assert search.stop_reason_.startswith("A mean score of 0.1 was asked for, and candidate")
        assert len(search.history_) < 5
    else:
        assert search.stop_reason_ == "n_iter=30 candidates were tried."


def test_target_score_of_the_estimators_own_values():
    search = searched(callbacks=TargetScore(0.4)).fit(X, Y)
    assert search.stop_reason_ == "A mean score of 0.4 was asked for, and candidate 0 has 0.5."
    assert len(search.history_) == 1


# --------------------------------------------------------------------- what is left to be gained


def noisy(estimator, X, y=None):
    """Score a parabola, with what differs from fold to fold."""
    return 1 - (estimator.x - 0.3) ** 2 + 0.1 * math.sin(float(X.sum()))


@every_search
def test_regret_bound_stops_when_noise_is_all_that_is_left(search_class):
    search = searched(search_class, n_iter=100, cv=5, scoring=noisy, callbacks=RegretBound())
    search.fit(X, Y)
    assert "less than the standard error of the best mean score" in search.stop_reason_
    assert 20 <= len(search.history_) < 60


@every_search
def test_regret_bound_with_a_tolerance_finds_the_best_to_within_it(search_class):
    search = searched(
        search_class, n_iter=100, scoring=low, cv=2, callbacks=RegretBound(tol=0.01, min_trials=12)
    )
    search.fit(X, Y)
    assert search.stop_reason_.endswith("less than tol = 0.01.")
    assert search.best_score_ > -0.01
    assert len(search.history_) < 60


@pytest.mark.filterwarnings("ignore:Scoring failed:UserWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
def test_regret_bound_with_races_and_failures():
    def failing(estimator, X, y=None):
        if estimator.x < 0.2:
            raise ValueError("too low")
        return shifting(estimator, X)

    search = searched(
        BayesSearchCV, n_iter=60, cv=5, scoring=failing, racing=FoldRace(), callbacks=RegretBound()
    )
    search.fit(X, Y)
    assert "less than the standard error" in search.stop_reason_


def test_regret_bound_has_nothing_to_say_before_scores_differ():
    space = Space.parse(SPACE)
    record = record_of(*[[0.5, 0.5]] * 30, space=space)
    assert RegretBound()(record) is None
    assert RegretBound()(record_of(*[[math.nan, 0.5]] * 30, space=space)) is None
    assert RegretBound(min_trials=40)(record_of([0.1, 0.3], *[[0.5, 0.5]] * 29)) is None


def test_regret_bound_of_one_fold_needs_a_tolerance():
    one = ShuffleSplit(1, random_state=0)
    with pytest.raises(ValueError, match=r"RegretBound\(.* needs two folds .* Give tol"):
        searched(cv=one, callbacks=RegretBound()).fit(X, Y)
    searched(cv=one, callbacks=RegretBound(tol=0.5), n_iter=3).fit(X, Y)


def test_standard_error_is_corrected_for_training_sets_that_overlap():
    row = [0.1, 0.4, 0.3, 0.6, 0.2]
    expected = math.sqrt(1 / 5 + 1 / 4) * np.std(row, ddof=1)
    assert standard_error(record_of(row), 0) == pytest.approx(expected)
    record = record_of(row)
    record.train_sizes = (5,) * 5
    assert standard_error(record, 0) == pytest.approx(math.sqrt(1 / 5 + 2) * np.std(row, ddof=1))


@pytest.mark.parametrize("masks", [False, True])
def test_the_record_knows_how_many_samples_a_fold_is_trained_on(masks):
    folds = list(KFold(3).split(X))
    if masks:
        folds = [(np.isin(np.arange(20), train), test) for train, test in folds]
    assert searched(n_iter=2, cv=folds).fit(X, Y).history_.train_sizes == (13, 13, 14)


# --------------------------------------------------------------------- time

# What may come on top of limits on a busy machine, in seconds.
SLACK = 0.6


def timed(search, *data):
    start = time.monotonic()
    search.fit(*data)
    return time.monotonic() - start


@every_search
def test_a_limit_holds_to_within_a_fold(search_class):
    search = slow(Sleepy(seconds=0.15), search_class, cv=4, callbacks=TimeLimit(0.8))
    took = timed(search, X)
    assert 0.8 <= search.search_cost_.wall_seconds <= took < 0.8 + 0.15 + SLACK
    assert search.stop_reason_.startswith("The time limit of 0.8 seconds was over.")
    assert search.best_score_ == np.nanmax(search.cv_results_["mean_test_score"])


@pytest.mark.parametrize("backend", ["threading", "loky"])
@every_search
def test_a_limit_holds_to_within_a_fold_in_parallel(search_class, backend):
    with parallel_config(backend):
        slow(n_jobs=2, n_iter=2).fit(X)  # workers are there
        search = slow(Sleepy(seconds=0.1), search_class, n_jobs=2, callbacks=TimeLimit(0.6))
        took = timed(search, X)
    # A fold waits behind each that is running.
    assert 0.6 <= search.search_cost_.wall_seconds <= took < 0.6 + 2 * 0.1 + SLACK
    assert search.stop_reason_.startswith("The time limit of 0.6 seconds was over.")


def test_a_candidate_that_lacks_folds_keeps_those_it_has():
    search = slow(Sleepy(seconds=0.15), cv=5, callbacks=TimeLimit(1.15)).fit(X)
    results = search.cv_results_
    assert (
        search.stop_reason_ == "The time limit of 1.15 seconds was over. 1 candidate lacks folds."
    )
    first, n_run = results["n_splits_run"]
    assert first == 5 > n_run > 0
    assert [np.isnan(results[f"split{i}_test_score"][1]) for i in range(5)] == [
        fold >= n_run for fold in range(5)
    ]
    assert np.isnan(results["mean_test_score"][1])
    assert list(results["rank_test_score"]) == [1, 2]
    assert search.best_index_ == 0
    last = search.history_.trials[1]
    assert not last.closed
    assert not last.dropped


def test_candidates_without_any_fold_are_no_rows():
    search = slow(Sleepy(seconds=0.1), cv=3, callbacks=TimeLimit(1e-9)).fit(X)
    assert len(search.cv_results_["params"]) == 1
    assert "n_splits_run" not in search.cv_results_
    assert search.stop_reason_ == "The time limit of 1e-09 seconds was over."


@every_search
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("racing", [None, FoldRace()])
def test_the_first_candidate_is_always_finished(search_class, n_jobs, racing):
    search = slow(search_class=search_class, n_jobs=n_jobs, racing=racing, callbacks=TimeLimit(0))
    with parallel_config("threading"):
        search.fit(X)
    assert search.history_.trials[0].complete
    assert len(search.history_) <= 2
    assert search.best_params_ == {"x": 0.5}


@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
def test_if_the_first_candidate_fails_another_that_is_open_is_finished():
    class Failing(Sleepy):
        def fit(self, X, y=None):
            super().fit(X, y)
            if self.x == 0.5:
                raise ValueError("the first")
            return self

    search = slow(Failing(seconds=0.4), n_jobs=2, callbacks=TimeLimit(0.3))
    with parallel_config("threading"), pytest.warns(FitFailedWarning, match="3 fits failed"):
        search.fit(X)
    assert len(search.history_) == 2
    assert np.isfinite(search.best_score_)
    assert search.best_params_ != {"x": 0.5}


def test_no_fold_is_handed_in_after_a_proposal_that_took_long():
    class Thinker(TPESearchCV):
        def _ask(self, *args):
            time.sleep(0.3)
            return super()._ask(*args)

    search = slow(Sleepy(seconds=0), search_class=Thinker, callbacks=TimeLimit(0.4)).fit(X)
    assert not search.history_.trials[-1].run
    assert search.search_cost_.own_seconds > 0.3


def test_a_limit_with_races_and_several_metrics():
    search = slow(
        Needle(),
        racing=FoldRace(),
        scoring=slow_high_and_low,
        refit="low",
        callbacks=TimeLimit(0.5),
    )
    search.fit(X, Y)
    results = search.cv_results_
    ran = results["n_splits_run"]
    for metric in ("high", "low"):
        means = results[f"mean_test_{metric}"]
        np.testing.assert_array_equal(np.isnan(means), ran < 3)
        assert (results[f"rank_test_{metric}"][ran < 3] > (ran == 3).sum()).all()
    assert search.best_score_ == np.nanmax(results["mean_test_low"])


def slow_high_and_low(estimator, X, y=None):
    time.sleep(0.02)
    return high_and_low(estimator, X)


def test_a_limit_that_is_not_reached_says_nothing():
    search = searched(n_iter=4, callbacks=[TimeLimit(60), TimeLimit(math.inf)]).fit(X, Y)
    assert search.stop_reason_ == "n_iter=4 candidates were tried."


def test_a_limit_that_is_over_when_all_is_handed_in_says_nothing():
    search = slow(Sleepy(seconds=0.1), n_iter=1, cv=2, callbacks=TimeLimit(0.15)).fit(X)
    assert search.stop_reason_ == "n_iter=1 candidates were tried."


def test_time_may_be_over_while_the_folds_of_another_stop_are_finished():
    with parallel_config("threading"):
        search = slow(
            Sleepy(seconds=0.1), n_jobs=2, cv=8, pre_dispatch=2,
            callbacks=[after(1), TimeLimit(0.55)],
        ).fit(X)  # fmt: skip
    assert search.stop_reason_ == (
        "Enough. The time limit of 0.55 seconds was over. 1 candidate lacks folds."
    )


def test_time_that_an_earlier_search_took_counts():
    history = record_of([1.0])
    assert TimeLimit(10)(history) is None
    history.clock.before = 10.0
    assert history.seconds == 10.0
    assert TimeLimit(10)(history) == "The time limit of 10 seconds was over."


def test_the_clock_stands_still_after_the_search():
    history = slow(n_iter=2, callbacks=TimeLimit(60)).fit(X).history_
    assert pickle.loads(pickle.dumps(history)).seconds == history.seconds > 0.1


@settings(deadline=None)
@given(
    means=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, math.nan]), max_size=12),
    patience=st.integers(1, 4),
    tol=st.sampled_from([0.0, 0.1, 0.15, math.inf]),
)
def test_early_stop_counts_what_it_says(means, patience, tol):
    best, n_since = None, 0
    for mean in means:
        if math.isfinite(mean) and (best is None or mean > best + tol) and tol < math.inf:
            best, n_since = mean, 0
        else:
            n_since += best is not None
    said = EarlyStop(patience, tol)(record_of(*([[mean] for mean in means] or [[None]])))
    assert (said is not None) == (n_since >= patience)
    if said:
        assert said.endswith(f"by more than {tol:g} in {n_since} candidates.")
        assert f" {best:.6g}," in said


# --------------------------------------------------------------------- folds that are abandoned


@pytest.mark.parametrize("backend", ["threading", "loky", "multiprocessing"])
def test_running_folds_may_be_abandoned(backend):
    search = slow(Late(seconds=4.0), n_jobs=2, callbacks=TimeLimit(1.0, abandon=True))
    with parallel_config(backend):
        slow(n_jobs=2, n_iter=2).fit(X)  # workers are there
        took = timed(search, X)
        assert took < 1.0 + 1.5
        assert search.cv_results_["params"][0] == {"x": 0.5}
        assert search.stop_reason_.startswith("The time limit of 1 seconds was over.")
        assert search.best_index_ == 0
        # And the backend is as good as before.
        assert len(slow(n_jobs=2, n_iter=3).fit(X).history_) == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of distributed's own making
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets that it closes late
def test_running_folds_may_be_abandoned_on_dask():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        parallel_config("dask"),
    ):
        slow(n_jobs=2, n_iter=2).fit(X)  # workers are there
        search = slow(Late(seconds=2.0), n_jobs=2, callbacks=TimeLimit(0.5, abandon=True))
        took = timed(search, X)
    assert took < 0.5 + 1.0
    assert search.best_params_ == {"x": 0.5}


def test_the_first_candidate_is_not_abandoned():
    search = slow(Sleepy(seconds=0.2), n_jobs=2, callbacks=TimeLimit(0.1, abandon=True))
    with parallel_config("threading"):
        search.fit(X)
    assert search.history_.trials[0].complete


def test_a_fold_in_this_process_cannot_be_abandoned():
    message = r"TimeLimit\(seconds=9, abandon=True\) cannot abandon .* Use n_jobs=2 or more, or"
    with pytest.raises(ValueError, match=message):
        slow(callbacks=TimeLimit(9, abandon=True)).fit(X)


# --------------------------------------------------------------------- what it has cost


@every_search
def test_the_cost_is_told(search_class):
    search = slow(search_class=search_class, n_iter=8, cv=2).fit(X)
    cost, results = search.search_cost_, search.cv_results_
    assert cost.n_fits == 16
    assert cost.fit_seconds == pytest.approx(2 * results["mean_fit_time"].sum())
    assert cost.score_seconds == pytest.approx(2 * results["mean_score_time"].sum())
    assert cost.fit_seconds > 16 * 0.02
    assert cost.wall_seconds == search.history_.seconds
    assert 0 < cost.own_seconds < cost.wall_seconds - cost.fit_seconds + 0.01
    assert cost.peak_memory > 2**20
    assert cost.worker_peak_memory > 2**20


@pytest.mark.parametrize(
    ("backend", "n_jobs"), [("loky", 1), ("threading", 2), ("loky", 2), ("multiprocessing", 2)]
)
def test_cpu_time_of_folds_counts_once_wherever_they_run(backend, n_jobs):
    with parallel_config(backend):
        search = slow(Busy(seconds=0.05), n_iter=6, cv=2, n_jobs=n_jobs, pre_dispatch=2).fit(X)
    scores = [score for trial in search.history_ for score in trial.scores]
    folds = sum(score.cpu_time for score in scores)
    assert 0.6 <= folds < 0.9
    assert folds <= search.search_cost_.cpu_seconds < folds + 0.8
    assert search.search_cost_.own_seconds < search.search_cost_.wall_seconds


def test_sleeping_is_no_cpu_time():
    search = slow(Sleepy(seconds=0.1), n_iter=3, cv=2).fit(X)
    assert search.search_cost_.cpu_seconds < 0.3 < search.search_cost_.fit_seconds


@pytest.mark.skipif(os.name == "nt", reason="the system does not tell")
def test_the_memory_of_workers_is_theirs():
    with parallel_config("loky"):
        small = slow(n_iter=2, cv=2, n_jobs=2).fit(X).search_cost_
        large = slow(Hungry(), n_iter=2, cv=2, n_jobs=2).fit(X).search_cost_
    assert large.worker_peak_memory > small.worker_peak_memory + 150 * 2**20
    assert large.peak_memory < small.peak_memory + 100 * 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the system does not tell")
def test_a_worker_does_not_inherit_the_memory_of_who_started_it():
    own = 200 * 2**17
    with parallel_config("loky", max_nbytes=None):
        held = np.ones(own)  # alive while new workers start
        get_reusable_executor(max_workers=2, reuse=False, kill_workers=True)
        cost = slow(n_iter=2, cv=2, n_jobs=2).fit(X).search_cost_
    assert cost.peak_memory > held.nbytes
    assert cost.worker_peak_memory < cost.peak_memory - held.nbytes / 2


class Hungry(Sleepy):
    """Takes 200 MiB for a moment."""

    def fit(self, X, y=None):
        np.ones(200 * 2**17)
        return self


@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
def test_failed_folds_cost_what_they_cost():
    class Refusing(Busy):
        def fit(self, X, y=None):
            super().fit(X, y)
            if self.x != 0.5:
                raise ValueError("not that")
            return self

    with pytest.warns(FitFailedWarning, match="8 fits failed"):
        search = slow(Refusing(seconds=0.02), n_iter=5, cv=2).fit(X)
    assert search.search_cost_.n_fits == 10
    assert search.search_cost_.cpu_seconds > 10 * 0.02


def test_the_cost_is_told_after_an_interrupt():
    def interrupt(history):
        if len(history.closed) == 3:
            raise KeyboardInterrupt

    search = searched(callbacks=interrupt)
    with pytest.raises(KeyboardInterrupt):  # an interrupt has no message
        search.fit(X, Y)
    assert search.search_cost_.n_fits == 9
    assert search.stop_reason_.startswith("KeyboardInterrupt after 3 of 30 candidates")


def test_the_cost_can_be_pickled():
    search = slow(n_iter=2).fit(X)
    assert pickle.loads(pickle.dumps(search)).search_cost_ == search.search_cost_
