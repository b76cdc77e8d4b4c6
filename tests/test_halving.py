"""Little for each candidate at first, and more for those that do well."""

from __future__ import annotations

import pickle
import time
import warnings
from typing import ClassVar

import numpy as np
import pytest
from joblib import parallel_config
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, KFold, TimeSeriesSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from tunein import BayesSearchCV, FoldRace, Halving, HyperGradSearchCV, TPESearchCV
from tunein._halving import Ladder, Setup, Subsample
from tunein._history import History, Proposal, Score
from tunein._math.fidelity import comparable

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
SEARCHES = [
    (TPESearchCV, {}),
    (BayesSearchCV, {}),
    (HyperGradSearchCV, {"gradient": "surrogate"}),
]
every_search = pytest.mark.parametrize(("search_class", "more"), SEARCHES)


class Curve(BaseEstimator):
    """Scores `x`, and `gain` more with each doubling of `steps`; does what `trouble` says."""

    def __init__(self, x=3.0, steps=9, gain=1.0, trouble=None):
        self.x = x
        self.steps = steps
        self.gain = gain
        self.trouble = trouble

    def fit(self, X, y=None):
        if self.trouble == "good" and self.x > 5:
            raise ValueError("too good to be fitted")
        if self.trouble == "long" and self.steps > 3:
            raise ValueError("too long to be fitted")
        if self.trouble == "slow":
            time.sleep(0.0005 * np.random.default_rng().exponential())
        return self

    def score(self, X, y=None):
        return float(self.x + self.gain * np.log2(self.steps))


class Rows(ClassifierMixin, BaseEstimator):
    """Keeps what it was fitted on in `seen`, by the value of `x`."""

    seen: ClassVar[list] = []

    def __init__(self, x=0.0):
        self.x = x

    def fit(self, X, y=None, sample_weight=None):
        weight = None if sample_weight is None else np.asarray(sample_weight)
        self.seen.append((np.asarray(X)[:, 0].astype(int), None if y is None else y, weight))
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def score(self, X, y=None, sample_weight=None):
        return self.x


@pytest.fixture
def seen():
    Rows.seen.clear()
    return Rows.seen


ORDER = [3, 1, 5, 4, 8, 2, 7, 0, 6]


def in_order(order=ORDER, search_class=TPESearchCV, racing=None, n_iter=None, **options):
    """Return a search whose candidates come in this order, on a ladder of 1, 3 and 9 steps."""
    estimator = options.pop("estimator", Curve(x=order[0]))
    return search_class(
        estimator,
        {"x": sorted(order)},
        n_iter=n_iter or len(order),
        cv=2,
        initial_params=[{"x": x} for x in order[1:]],
        racing=racing or Halving("steps", min_resources=1),
        **{"random_state": 0, "refit": False, **options},
    )


def searched(search_class=TPESearchCV, racing=None, estimator=None, **options):
    return search_class(
        estimator or Curve(trouble="slow"),
        {"x": uniform(0, 10), "gain": uniform(0, 1)},
        racing=racing or Halving("steps", min_resources=1),
        **{"n_iter": 30, "cv": 3, "random_state": 0, **options},
    )


def steps_of(search):
    return [(trial.params["x"], trial.proposal.level) for trial in search.history_]


def names_of_warnings(fit):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    return {warning.category for warning in caught}


# --------------------------------------------------------------------- the schedule


def test_of_every_three_the_best_so_far_is_promoted_at_once():
    search = in_order().fit(X, Y)
    # fmt: off
    assert steps_of(search) == [
        (3, 0), (1, 0), (5, 0), (5, 1),
        (4, 0), (8, 0), (2, 0), (8, 1),
        (7, 0), (0, 0), (6, 0), (7, 1), (8, 2),
    ]
    # fmt: on
    parents = [trial.proposal.parent for trial in search.history_]
    assert parents == [None, None, None, 2, None, None, None, 5, None, None, None, 8, 7]
    assert search.n_resources_ == [1, 3, 9]
    assert search.n_candidates_ == [9, 3, 1]
    assert (search.min_resources_, search.max_resources_) == (1, 9)
    assert search.best_params_ == {"x": 8, "steps": 9}
    assert search.stop_reason_ == "All 9 points of the search space were tried."


def test_rows_say_where_on_the_ladder_they_were():
    results = in_order().fit(X, Y).cv_results_
    np.testing.assert_array_equal(results["iter"], [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 2])
    np.testing.assert_array_equal(results["n_resources"], 3 ** results["iter"])
    np.testing.assert_array_equal(results["param_steps"], results["n_resources"])
    np.testing.assert_array_equal(results["bracket"], 0)
    assert "n_splits_run" not in results
    ranks = results["rank_test_score"]
    assert ranks.dtype == np.int32
    np.testing.assert_array_equal(ranks, [10, 12, 8, 4, 9, 5, 11, 2, 6, 13, 7, 3, 1])


@pytest.mark.parametrize("factor", [2, 2.5, 3, 5])
@pytest.mark.parametrize("n_iter", [1, 2, 7, 30, 41])
@pytest.mark.parametrize("brackets", [1, "all"])
def test_one_of_so_many_is_promoted_and_the_totals_are_announced(factor, n_iter, brackets, capsys):
    racing = Halving("steps", factor, min_resources=1, max_resources=27, brackets=brackets)
    search = searched(n_iter=n_iter, racing=racing, estimator=Curve(), verbose=1, cv=2).fit(X)
    trials = [trial.proposal for trial in search.history_]
    top = len(search.n_resources_) - 1
    for bracket in range(top + 1):
        n = sum(t.bracket == bracket and t.parent is None for t in trials)
        for level in range(bracket, top + 1):
            at_level = sum(t.bracket == bracket and t.level == level for t in trials)
            is_last_resort = search.n_candidates_[top] == 1 and level == top
            assert at_level == n or (is_last_resort and at_level == 1)
            n = int(n // factor)
    assert search.n_candidates_[top] >= 1
    n_promoted = len(trials) - n_iter
    words = {0: "", 1: " and 1 promotion"}
    promotions = words.get(n_promoted, f" and {n_promoted} promotions")
    assert capsys.readouterr().out.startswith(
        f"Fitting 2 folds for each of {n_iter} candidates{promotions}, "
        f"totalling {2 * len(trials)} fits\n"
    )
    assert search.stop_reason_ == f"n_iter={n_iter} candidates were tried."


@pytest.mark.parametrize("brackets", [1, 2, "all"])
@pytest.mark.parametrize("factor", [1.5, 2, 3])
def test_from_the_lowest_level_somebody_gets_to_the_top(factor, brackets):
    """With as many levels as n_iter allows, no more."""
    n_levels = []
    for n_iter in (6, 17, 49):
        racing = Halving("steps", factor, max_resources=10**6, brackets=brackets)
        search = searched(n_iter=n_iter, racing=racing, estimator=Curve(), cv=2).fit(X)
        at_top = [t.proposal for t in search.history_ if t.proposal.level == search.history_.top]
        assert any(proposal.bracket == 0 for proposal in at_top)
        n_levels.append(len(search.n_resources_))
    if factor == 3:
        assert n_levels == {1: [2, 3, 4], 2: [2, 3, 4], "all": [2, 3, 4]}[brackets]


def test_levels_that_round_to_the_same_are_one():
    racing = Halving("steps", 1.05, min_resources=15, max_resources=18)
    search = searched(n_iter=6, racing=racing, estimator=Curve(), cv=2).fit(X)
    assert search.n_resources_ == [15, 16, 17, 18]


def test_the_best_is_tried_at_the_top_if_nobody_got_there():
    search = in_order([3, 5]).fit(X, Y)
    assert steps_of(search) == [(3, 0), (5, 0), (5, 2)]
    search = in_order([3, 5, 1, 4]).fit(X, Y)
    assert steps_of(search) == [(3, 0), (5, 0), (1, 0), (5, 1), (4, 0), (5, 2)]


def test_hyperband_shares_candidates_out_over_the_levels():
    racing = Halving("steps", min_resources=1, max_resources=27, brackets="all")
    search = searched(n_iter=49, racing=racing, estimator=Curve()).fit(X)
    starts = [t.proposal.bracket for t in search.history_ if t.proposal.parent is None]
    # With s promotions to go, ceil(4 / (s + 1) 3^s).
    np.testing.assert_array_equal(np.bincount(starts), [27, 12, 6, 4])
    np.testing.assert_array_equal(np.bincount(starts[:25]), [14, 6, 3, 2])
    assert search.n_candidates_ == [27, 9 + 12, 3 + 4 + 6, 1 + 1 + 2 + 4]
    np.testing.assert_array_equal(search.cv_results_["bracket"][:2], starts[:2])


def test_a_ladder_ends_at_the_top_and_begins_not_below_the_least():
    def ladder(**halving):
        names, folds = ["x"], [(np.arange(20), np.arange(20))]
        setup = Setup(Curve(), names, folds, 20, None, 100, 0)
        return Ladder.of(Halving("steps", **halving), setup).resources

    assert ladder(max_resources=100, min_resources=9) == [11, 33, 100]
    assert ladder(max_resources=100, min_resources=12) == [33, 100]
    assert ladder(max_resources=81) == [1, 3, 9, 27, 81]
    assert ladder(max_resources=1000) == [12, 37, 111, 333, 1000]  # 100 candidates fill no more
    assert ladder(max_resources=7, min_resources=7) == [7]


def test_a_ladder_of_one_level_is_no_race():
    racing = Halving(min_resources=20)
    raced, plain = (
        TPESearchCV(
            DecisionTreeClassifier(random_state=0),
            {"ccp_alpha": uniform(0, 0.2)},
            n_iter=15,
            random_state=0,
            racing=one,
        ).fit(X, Y)
        for one in (racing, None)
    )
    assert raced.cv_results_["params"] == plain.cv_results_["params"]
    for name in ("mean_test_score", "rank_test_score"):
        np.testing.assert_array_equal(raced.cv_results_[name], plain.cv_results_[name])


# --------------------------------------------------------------------- who wins


def test_a_candidate_never_wins_with_less_than_others_had():
    racing = Halving("steps", min_resources=1)
    search = searched(estimator=Curve(), racing=racing)
    search.set_params(estimator__gain=0.0, param_distributions={"x": uniform(0, 10)})
    search.fit(X)
    assert search.n_candidates_ == [30, 10, 3]
    worse_with_more = clone(search).set_params(estimator__gain=-5.0).fit(X)
    for one in (search, worse_with_more):
        results = one.cv_results_
        assert results["iter"][one.best_index_] == 2
        assert one.best_params_["steps"] == one.best_estimator_.steps == 9
        assert one.best_score_ == results["mean_test_score"][results["iter"] == 2].max()
        ranks = results["rank_test_score"]
        assert ranks[results["iter"] == 2].max() <= 3 < ranks[results["iter"] < 2].min()
    assert worse_with_more.best_score_ < worse_with_more.cv_results_["mean_test_score"][0]


def test_a_callable_refit_sees_the_levels():
    def best_of_highest(results):
        highest = np.flatnonzero(results["iter"] == results["iter"].max())
        assert set(results["n_resources"][highest]) == {9}
        return highest[np.argmax(results["mean_test_score"][highest])]

    search = in_order(refit=best_of_highest).fit(X, Y)
    assert search.best_index_ == 12
    assert search.best_params_ == {"x": 8, "steps": 9}


def test_failures_are_not_promoted():
    search = in_order(estimator=Curve(x=3, trouble="good"), error_score=100.0)
    assert names_of_warnings(lambda: search.fit(X, Y)) == {FitFailedWarning}
    levels = dict(steps_of(search))
    assert levels == {3: 1, 1: 0, 5: 2, 4: 1, 8: 0, 2: 0, 7: 0, 0: 0, 6: 0}
    assert search.best_params_ == {"x": 5, "steps": 9}


def test_if_all_fail_at_the_top_the_best_below_wins():
    search = in_order(estimator=Curve(x=3, trouble="long"))
    assert FitFailedWarning in names_of_warnings(lambda: search.fit(X, Y))
    assert search.n_candidates_ == [9, 3, 1]
    assert search.best_params_ == {"x": 8, "steps": 3}
    assert search.cv_results_["rank_test_score"][-1] == 13


def test_if_all_fail_at_once_nobody_is_promoted_and_the_search_says_why():
    search = in_order([6, 7, 8], estimator=Curve(x=6, trouble="good"))
    with pytest.raises(ValueError, match="too good to be fitted"):
        search.fit(X, Y)


def test_several_metrics():
    def both(estimator, X, y=None):
        return {"high": estimator.x, "low": -estimator.x * estimator.steps}

    for scoring, metric, best in ((both, "high", 8), (both, "low", 0)):
        search = in_order(scoring=scoring, refit=metric).fit(X, Y)
        assert search.best_params_ == {"x": best, "steps": 9}
        results = search.cv_results_
        for name in ("high", "low"):
            assert results[f"rank_test_{name}"][results["iter"] == 2] == 1
    unnamed = in_order(scoring={"b": lambda e, X, y: -e.x, "a": lambda e, X, y: e.x}).fit(X, Y)
    assert unnamed.history_.trials[-1].params == {"x": 0, "steps": 9}  # the first listed drives


# --------------------------------------------------------------------- searches


@every_search
@pytest.mark.parametrize("brackets", [1, "all"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_int_random_state_repeats(search_class, more, brackets, n_jobs):
    racing = Halving("steps", min_resources=1, brackets=brackets)
    settings = {"racing": racing, "n_iter": 22, "n_jobs": n_jobs, "cv": 2, **more}
    with parallel_config("threading"):
        one, two = (searched(search_class, **settings).fit(X) for _ in range(2))
    assert one.cv_results_["params"] == two.cv_results_["params"]
    assert steps_of(one) == steps_of(two)
    assert one.n_candidates_[-1] >= 1


def test_without_a_seed_nobody_waits():
    with parallel_config("threading"):
        search = searched(random_state=None, n_jobs=2).fit(X)
    assert search.n_candidates_ == [30, 10, 3]


@every_search
def test_searches_learn(search_class, more):
    search = searched(search_class, n_iter=54, estimator=Curve(), cv=2, **more)
    xs = [x for x, level in steps_of(search.fit(X)) if level == 0]
    assert np.mean(xs[12:]) > np.mean(xs[:12])
    assert search.best_params_["x"] > 9


def test_no_candidate_is_proposed_twice():
    search = searched(n_iter=40, estimator=Curve(), cv=2)
    search.set_params(param_distributions={"x": [*range(50)]}).fit(X)
    new = [t.params["x"] for t in search.history_ if t.proposal.parent is None]
    assert len(set(new)) == len(new) == 40


@pytest.mark.parametrize("gradient", ["auto", "exact"])
def test_exact_hypergradients_are_of_one_loss(gradient):
    search = HyperGradSearchCV(
        Ridge(), {"alpha": loguniform(1e-3, 1e3)}, gradient=gradient, racing=Halving()
    )
    with pytest.raises(ValueError, match=r"racing=Halving\(.*Use gradient='surrogate', or racing="):
        search.fit(X, Y)
    assert search.set_params(gradient="surrogate", n_iter=5, cv=2).fit(X, Y).n_candidates_[-1] == 1


def test_a_step_of_a_pipeline():
    pipeline = Pipeline([("scale", StandardScaler()), ("clf", RandomForestClassifier(24))])
    search = TPESearchCV(
        pipeline,
        {"scale": [StandardScaler(), "passthrough"], "clf__max_features": uniform(0.1, 0.8)},
        n_iter=9,
        cv=3,
        racing=Halving("clf__n_estimators", factor=2, min_resources=3),
        random_state=0,
    ).fit(*load_iris(return_X_y=True))
    assert search.n_resources_ == [3, 6, 12, 24]
    assert search.best_params_["clf__n_estimators"] == 24
    assert len(search.best_estimator_["clf"].estimators_) == 24
    assert len(search.predict(load_iris().data)) == 150


def test_searches_are_cloned_and_pickled():
    search = searched(BayesSearchCV, n_iter=12, estimator=Curve())
    twin = clone(search)
    assert twin.racing == search.racing
    assert repr(search.racing) == (
        "Halving(resource='steps', factor=3, min_resources=1, max_resources='auto', brackets=1)"
    )
    for one in (twin, pickle.loads(pickle.dumps(search))):
        assert one.fit(X).cv_results_["params"] == clone(search).fit(X).cv_results_["params"]
    again = pickle.loads(pickle.dumps(twin))
    assert again.n_resources_ == [1, 3, 9]
    assert steps_of(again) == steps_of(twin)


# --------------------------------------------------------------------- what models are told


def compared(*trials, enough=2):
    """Return the rows chosen of (score, level, candidate), and their scores."""
    s, levels, candidates = (np.array(column) for column in zip(*trials, strict=True))
    rows, added = comparable(s, levels, candidates, enough)
    return rows.tolist(), (s[rows] + added).tolist()


def test_candidates_are_compared_at_the_highest_level_with_enough_scores():
    below = [(1.0, 0, 0), (2.0, 0, 1), (3.0, 0, 2), (np.nan, 0, 3)]
    assert compared(*below[:3]) == ([0, 1, 2], [1, 2, 3])
    # One score above is not enough. Two are: then those below lack the median of 4 and 3.
    one_above = [*below, (5.0, 1, 1)]
    np.testing.assert_array_equal(compared(*one_above)[1], [1, 2, 3, np.nan])
    rows, scores = compared(*one_above, (7.0, 1, 2))
    assert rows == [0, 3, 4, 5]
    np.testing.assert_array_equal(scores, [4.5, np.nan, 5, 7])
    # 4 + 3.5 would be more than the worst of those promoted.
    assert compared((4.0, 0, 9), *below[1:3], (5.0, 1, 1), (7.0, 1, 2))[1] == [5, 5, 7]


def test_candidates_that_began_above_are_brought_down():
    rows, scores = compared(
        (1.0, 0, 0), (9.0, 1, 1), (2.0, 0, 2), (6.0, 1, 2), (9.5, 2, 1), (3.0, 0, 4), enough=3
    )  # fmt: skip
    assert (rows, scores) == ([0, 1, 2, 5], [1, 5, 2, 3])


def test_if_all_failed_nothing_is_compared():
    rows, scores = compared((np.nan, 0, 0), (np.nan, 1, 1))
    assert rows == [0, 1]
    assert np.isnan(scores).all()
    assert comparable(np.empty(0), np.empty(0, int), np.empty(0, int), 2)[0].tolist() == []


def record(*trials):
    """Return a history of (unit, level, parent, score); a score of None is still to come."""
    history = History(2, 1)
    for number, (unit, level, parent, value) in enumerate(trials):
        history.open(Proposal(np.array([unit]), {}, level=level, parent=parent))
        for fold in range(2 if value is not None else 0):
            history.record(number, fold, Score(value + fold, None, 0.1, 0.1, 5))
    return history


def test_models_see_one_score_of_each_candidate():
    history = record(
        (0.1, 0, None, 1.0), (0.2, 0, None, 2.0), (0.3, 0, None, None), (0.2, 1, 1, 5.0),
        (0.4, 0, None, 4.0), (0.4, 1, 4, None), (0.5, 0, None, np.nan), (0.1, 1, 0, 6.0),
        (0.6, 0, None, 0.0),
    )  # fmt: skip
    known = history.known()
    np.testing.assert_array_equal(known.units[:, 0], [0.1, 0.2, 0.4, 0.5, 0.6])
    np.testing.assert_array_equal(known.scores, [1.5, 2.5, 4.5, np.nan, 0.5])
    np.testing.assert_array_equal(known.pending[:, 0], [0.3])  # what is seen is not pending
    assert len(known.tried) == history.n_candidates == 6
    early = history.known(2)
    np.testing.assert_array_equal(early.units[:, 0], [0.1, 0.2])
    np.testing.assert_array_equal(early.scores, [1.5, 2.5])
    np.testing.assert_array_equal(early.pending[:, 0], [0.3, 0.4, 0.4, 0.5, 0.6])
    for fold in range(2):
        history.record(5, fold, Score(7.0, None, 0.1, 0.1, 5))
    known = history.known()  # three trials in one dimension
    np.testing.assert_array_equal(known.units[:, 0], [0.2, 0.4, 0.5, 0.1, 0.6])
    np.testing.assert_array_equal(known.fold_scores[[0, -1]], [[5, 6], [3, 4]])
    np.testing.assert_array_equal(known.scores, [5.5, 7, np.nan, 6.5, 3.5])
    np.testing.assert_array_equal(known.pending[:, 0], [0.3])


# --------------------------------------------------------------------- rows


def setup(y, folds=None, estimator=None, seed=0):
    n = len(y)
    folds = folds or [(np.arange(n), np.arange(n))]
    return Setup(estimator or SVC(), ["C"], folds, n, np.asarray(y), 50, seed)


@pytest.mark.parametrize("resource", [4, 10, 33, 100, 299])
def test_subsamples_are_stratified(resource):
    y = np.repeat([0, 1, 2], [200, 90, 10])
    drawn = Subsample.of(setup(y)).rows(0, resource, None)
    assert len(drawn) == resource
    if resource >= 33:
        share = np.bincount(y[drawn]) / resource
        np.testing.assert_allclose(share, [2 / 3, 0.3, 1 / 30], atol=0.07)
    assert np.all(np.diff(drawn) > 0)


def test_every_class_keeps_two_rows_or_all_it_has():
    y = np.repeat([0, 1, 2, 3], [1000, 500, 3, 1])
    subsample = Subsample.of(setup(y))
    assert subsample.least == 7
    for resource in (7, 8, 20, 100, 1503):
        counts = np.bincount(y[subsample.rows(0, resource, None)], minlength=4)
        assert np.all(counts >= [2, 2, 2, 1])


def test_subsamples_are_nested_and_differ_by_fold_and_seed():
    y = np.arange(200) % 2
    folds = [(np.arange(100), np.arange(100, 200)), (np.arange(100), np.arange(100, 200))]
    subsample = Subsample.of(setup(y, folds))
    sizes = [subsample.rows(0, resource, None) for resource in (20, 50, 120)]
    assert [len(rows) for rows in sizes] == [10, 25, 60]
    assert set(sizes[0]) < set(sizes[1]) < set(sizes[2]) <= set(range(100))
    assert set(sizes[0]) != set(subsample.rows(1, 20, None))
    assert set(sizes[0]) != set(Subsample.of(setup(y, folds, seed=1)).rows(0, 20, None))
    everything = object()
    assert subsample.rows(0, 200, everything) is everything


def test_training_sets_are_cut_down_and_weights_with_them(seen):
    y, groups = np.arange(90) % 3, np.arange(90) // 10
    data = np.column_stack([np.arange(90), np.ones(90)])
    search = TPESearchCV(
        Rows(),
        {"x": uniform(0, 1)},
        n_iter=9,
        cv=GroupKFold(3),
        racing=Halving(min_resources=10),
        random_state=0,
        refit=False,
    ).fit(data, y, groups=groups, sample_weight=np.arange(90.0))
    assert search.n_resources_ == [10, 30, 90]
    sizes = [len(rows) for rows, _, _ in seen]
    assert sorted(set(sizes)) == [7, 20, 60]
    for rows, labels, weight in seen:
        np.testing.assert_array_equal(rows, weight)  # each row with its own
        np.testing.assert_array_equal(rows % 3, labels)
        np.testing.assert_array_equal(rows, np.sort(rows))
        assert len(set(rows // 10)) <= 6  # those of three groups are in the test set
    first = {tuple(rows) for rows, _, _ in seen if len(rows) == 7}
    assert len(first) == 3  # one a fold: all candidates have the same


def test_what_is_no_classification_is_not_stratified(seen):
    data = np.column_stack([np.arange(100), np.ones(100)])
    folds = [(np.arange(100) < 80, np.arange(100) >= 80)]
    options = {"n_iter": 6, "racing": Halving(min_resources=10), "random_state": 0, "refit": False}
    search = TPESearchCV(Rows(), {"x": uniform(0, 1)}, cv=folds, **options).fit(data)
    assert search.n_resources_ == [11, 33, 100]
    assert {len(rows) for rows, _, _ in seen} == {9, 26, 80}
    assert all(np.all(rows < 80) for rows, _, _ in seen)
    TPESearchCV(Ridge(), {"alpha": uniform(0, 1)}, cv=TimeSeriesSplit(3), **options).fit(
        data, np.linspace(0, 1, 100)
    )
    TPESearchCV(KMeans(2), {"n_clusters": [2, 3, 4]}, cv=KFold(2), **options).fit(data)


def test_real_data():
    data, y = load_breast_cancer(return_X_y=True, as_frame=True)
    y = y.map({0: "malignant", 1: "benign"})
    search = TPESearchCV(
        Pipeline([("scale", StandardScaler()), ("svc", SVC())]),
        {"svc__C": loguniform(1e-2, 1e3), "svc__gamma": loguniform(1e-5, 1)},
        n_iter=27,
        cv=2,
        racing=Halving(),
        random_state=0,
    ).fit(data, y)
    assert search.n_resources_ == [21, 63, 190, 569]
    assert search.n_candidates_ == [27, 9, 3, 1]
    assert search.best_score_ > 0.96
    assert search.predict(data)[0] == "malignant"


# --------------------------------------------------------------------- what cannot be meant


@pytest.mark.parametrize(
    ("racing", "message"),
    [
        (Halving("C"), r"resource='C'.*no parameter that is searched"),
        (Halving("max_itre"), r"resource='max_itre'.*parameter of LogisticR.*'max_iter'"),
        (
            Halving("n_estimators"),
            r"a whole number, such as \['max_iter'",
        ),
        (Halving(3), r"resource=3\) is not possible: .*'n_samples' or a parameter"),
        (Halving("tol"), r"max_resources='auto'\) is not possible: it must be given, .*tol=0.0001"),
        (Halving(factor=1), r"factor=1\) is not possible: it must be a number above 1"),
        (Halving(factor="3"), "factor='3'"),
        (Halving(factor=np.inf), "factor=inf"),
        (Halving(factor=np.nan), "factor=nan"),
        (Halving(min_resources=0), r"min_resources=0\).*'auto' or an int of at least 1"),
        (Halving(min_resources=2.5), r"min_resources=2.5\)"),
        (Halving(max_resources=True), r"max_resources=True\)"),
        (Halving(max_resources="all"), r"max_resources='all'\).*'auto' or an int"),
        (Halving(max_resources=21), r"max_resources=21\).*at most 20, the rows there are"),
        (Halving(min_resources=15, max_resources=10), r"min_resources=15\).*max_resources=10"),
        (Halving("max_iter", min_resources=101), r"min_resources=101\).*max_resources=100"),
        (Halving(min_resources=4), r"min_resources=4\).*at least 5, .* 2 rows of each class"),
        (Halving(brackets=0), r"brackets=0\).*'all' or an int of at least 1"),
        (Halving(brackets=9), r"brackets=9\).*at most 1, the number of levels \[20\]"),
        (Halving, "The 'racing' parameter of TPESearchCV must be an instance of"),
    ],
)
def test_what_cannot_be_meant_is_refused(racing, message):
    search = TPESearchCV(LogisticRegression(), {"C": loguniform(0.1, 10)}, racing=racing, n_iter=20)
    with pytest.raises(ValueError, match=message):
        search.fit(X, Y)


def test_a_ladder_is_a_race_of_its_own():
    ladder = Ladder.of(Halving(), setup(Y))
    assert ladder.n_at_once(5) == 5
    assert not isinstance(ladder, FoldRace)
