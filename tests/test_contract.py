"""What scikit-learn promises of a search, a search of this package keeps."""

from __future__ import annotations

import copy
import inspect
import pickle

import cloudpickle
import joblib
import numpy as np
import pytest
import skops.io
from alike import (
    OWN_ATTRIBUTES,
    assert_same_results,
    assert_same_search,
    fit_noting_warnings,
    fitted_attributes,
    twins,
)
from fakes import (
    Cutoff,
    Needle,
    Refusal,
    accuracy_alone,
    first_of_best_three,
    high,
    high_and_low,
    hits_and_share,
    low,
    low_and_high,
)
from scipy.stats import loguniform, randint, uniform
from sklearn.base import (
    BaseEstimator,
    clone,
    is_classifier,
    is_outlier_detector,
    is_regressor,
)
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    BaggingClassifier,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    ParameterGrid,
    ParameterSampler,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

from tunein import BayesSearchCV, HyperGradSearchCV, Integer, Real, TPESearchCV

SEARCHES = [TPESearchCV, BayesSearchCV, HyperGradSearchCV]
every_search = pytest.mark.parametrize("search_class", SEARCHES)

X, y = make_classification(60, 4, n_redundant=0, random_state=0)
CUTS = {
    "cut": [-1.0, 0.5, 1.0, 0.25]
}  # the default, 0, is not there: a grid search would not try it


@pytest.fixture
def quick():
    """Data of which exactly one sample has a large second feature."""
    rng = np.random.RandomState(0)
    X = np.column_stack([rng.normal(size=30), np.arange(30.0)])
    X[0, 1] = 100
    return X, (X[:, 0] + rng.normal(size=30) > 0).astype(int)


# ---------------------------------------------------------------------- scikit-learn's own checks


@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings, and look for their own
@pytest.mark.parametrize(
    ("estimator", "space"),
    [
        (LogisticRegression(), {"C": [0.1, 1.0, 10.0]}),
        (Ridge(), {"alpha": loguniform(1e-2, 1e2)}),
        (
            make_pipeline(StandardScaler(), LogisticRegression()),
            {"logisticregression__C": [0.1, 1.0, 10.0]},
        ),
    ],
    ids=["classifier", "regressor", "pipeline"],
)
@every_search
def test_scikit_learns_checks_pass(search_class, estimator, space):
    search = search_class(estimator, space, n_iter=3, cv=2, random_state=0)
    checks = check_estimator(search, on_fail=None, on_skip=None)
    failed = {c["check_name"]: c["exception"] for c in checks if c["status"] == "failed"}
    assert failed == {}
    assert sum(check["status"] == "passed" for check in checks) > 40


# ---------------------------------------------------------------------- the same as a grid search

SINGLE = {
    "none": None,
    "string": "f1",
    "scorer": make_scorer(accuracy_score),
    "function": accuracy_alone,
}
SEVERAL = {
    "list": ["roc_auc", "accuracy"],
    "tuple": ("roc_auc", "accuracy"),
    "dict": {"accuracy": "accuracy", "mine": make_scorer(accuracy_score), "bare": accuracy_alone},
    "function of dict": hits_and_share,
}
SINGLE_REFITS = [True, False, "any name", first_of_best_three]
SEVERAL_REFITS = ["accuracy", False, first_of_best_three]
SCORINGS_AND_REFITS = [
    pytest.param(scoring, refit, id=f"{name}, refit {getattr(refit, '__name__', refit)}")
    for scorings, refits in ((SINGLE, SINGLE_REFITS), (SEVERAL, SEVERAL_REFITS))
    for name, scoring in scorings.items()
    for refit in refits
]


def named(scoring, refit):
    return "hits" if scoring is hits_and_share and refit == "accuracy" else refit


@pytest.mark.parametrize("return_train_score", [False, True])
@pytest.mark.parametrize(("scoring", "refit"), SCORINGS_AND_REFITS)
@every_search
def test_same_as_a_grid_search(search_class, scoring, refit, return_train_score, quick):
    ours, theirs = twins(
        search_class,
        Cutoff(),
        CUTS,
        scoring=scoring,
        refit=named(scoring, refit),
        return_train_score=return_train_score,
        cv=3,
    )
    assert_same_search(ours.fit(*quick), theirs.fit(*quick))
    if refit:
        np.testing.assert_array_equal(ours.predict(quick[0]), theirs.predict(quick[0]))
    if refit and not callable(refit):
        assert ours.score(*quick) == theirs.score(*quick)


FAILING = [
    pytest.param(*case.values, fail, id=f"{case.id}, {fail}")
    for case in SCORINGS_AND_REFITS
    for fail in ("fit", "some", "predict")
    if case.values[1] != "any name"
    # scikit-learn itself cannot line up a dict with a number
    and not (fail == "predict" and case.values[0] is hits_and_share)
]


@pytest.mark.parametrize("error_score", [np.nan, 0])
@pytest.mark.parametrize(("scoring", "refit", "fail"), FAILING)
def test_same_as_a_grid_search_when_fits_fail(scoring, refit, fail, error_score, quick):
    grid = [{"cut": [-1.0, 0.5]}, {"cut": [1.0, 0.25], "fail": [fail]}]
    ours, theirs = twins(
        TPESearchCV,
        Cutoff(),
        grid,
        scoring=scoring,
        refit=named(scoring, refit),
        return_train_score=True,
        cv=3,
        error_score=error_score,
    )
    warned = fit_noting_warnings(ours, *quick)
    assert warned == fit_noting_warnings(theirs, *quick)
    assert warned
    assert_same_search(ours, theirs)


@pytest.mark.filterwarnings("ignore:Scoring failed")  # by scikit-learn, of the candidate
@pytest.mark.filterwarnings("ignore:One or more of the")  # by scikit-learn, of NaN scores
@pytest.mark.parametrize("fails", [["predict", None], [None, "predict"]], ids=["first", "last"])
def test_a_scorer_of_dicts_that_fails_for_some_candidates_does_not_end_the_search(fails, quick):
    # The one place where a grid search, which raises, is not the model.
    search, _ = twins(
        TPESearchCV,
        Cutoff(),
        [{"cut": [-1.0, 0.5], "fail": [fail]} for fail in fails],
        scoring=hits_and_share,
        refit="hits",
        cv=3,
        return_train_score=True,
    )
    search.fit(*quick)
    failed = [params["fail"] == "predict" for params in search.cv_results_["params"]]
    for name in ("test_hits", "test_share", "train_hits", "train_share"):
        np.testing.assert_array_equal(np.isnan(search.cv_results_[f"mean_{name}"]), failed)
    assert search.best_params_["fail"] is None
    assert search.multimetric_


def test_a_scorer_of_dicts_that_always_fails_is_taken_for_one_of_numbers(quick):
    grid = {"cut": [-1.0, 0.5], "fail": ["predict"]}
    ours, theirs = twins(TPESearchCV, Cutoff(), grid, scoring=hits_and_share, refit="hits", cv=3)
    assert fit_noting_warnings(ours, *quick) == fit_noting_warnings(theirs, *quick)
    assert_same_search(ours, theirs)


@pytest.mark.parametrize("fail", ["fit", "some", "predict"])
@pytest.mark.parametrize(
    ("scoring", "refit"), [(None, True), (["accuracy", "f1"], "f1"), (hits_and_share, "hits")]
)
def test_raise_lets_the_estimators_own_error_through(scoring, refit, fail, quick):
    grid = {"cut": [-1.0, 0.5], "fail": [None, fail]}
    options = {"scoring": scoring, "refit": refit, "error_score": "raise"}
    for search in twins(TPESearchCV, Cutoff(), grid, **options):
        with pytest.raises(Refusal, match=r"cannot (fit|predict) with cut=-1\.0"):
            search.fit(*quick)


def test_raise_lets_an_error_through_from_a_worker(quick):
    grid = {"cut": [-1.0, 0.5], "fail": [None, "fit"]}
    ours, _ = twins(TPESearchCV, Cutoff(), grid, n_jobs=2, error_score="raise")
    with pytest.raises(Refusal, match=r"cannot fit with cut=-1\.0"):
        ours.fit(*quick)


@every_search
def test_all_fits_failing_is_an_error_with_the_failures(search_class, quick):
    texts = []
    for search in twins(search_class, Cutoff(), {**CUTS, "fail": ["fit"]}, cv=3):
        with pytest.raises(ValueError, match=r"All the 12 fits failed[^$]*cannot fit") as caught:
            search.fit(*quick)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("n_jobs", [None, 2])
@every_search
def test_same_as_a_grid_search_with_workers(search_class, n_jobs):
    grid = {"C": [0.1, 3.0, 10.0], "fit_intercept": [True, False]}
    ours, theirs = twins(search_class, LogisticRegression(), grid, cv=3, n_jobs=n_jobs)
    assert_same_search(ours.fit(X, y), theirs.fit(X, y))
    np.testing.assert_array_equal(ours.best_estimator_.coef_, theirs.best_estimator_.coef_)


@pytest.mark.parametrize("pre_dispatch", ["all", 1, 3, "n_jobs", "3*n_jobs"])
def test_pre_dispatch_changes_no_result(pre_dispatch, quick):
    ours, theirs = twins(TPESearchCV, Cutoff(), CUTS, cv=3, n_jobs=2, pre_dispatch=pre_dispatch)
    assert_same_search(ours.fit(*quick), theirs.fit(*quick))


def test_same_as_a_grid_search_when_fits_fail_in_workers(quick):
    grid = {"cut": [-1.0, 0.5], "fail": [None, "fit", "some"]}
    ours, theirs = twins(TPESearchCV, Cutoff(), grid, cv=3, n_jobs=2, return_train_score=True)
    assert fit_noting_warnings(ours, *quick) == fit_noting_warnings(theirs, *quick)
    assert_same_search(ours, theirs)


GRIDS = {
    "whole numbers": (DecisionTreeClassifier(random_state=0), {"max_depth": [3, 1, 2]}),
    "mixed numbers": (DecisionTreeClassifier(random_state=0), {"min_samples_leaf": [2, 0.1, 5]}),
    "default first": (DecisionTreeClassifier(random_state=0), {"max_depth": [None, 1, 2]}),
    "strings": (KNeighborsClassifier(), {"weights": ["distance"], "metric": ["l1", "l2"]}),
    "booleans": (LogisticRegression(C=2.0), {"fit_intercept": [False, True], "C": [0.1]}),
    "array": (Ridge(), {"alpha": np.logspace(-2, 2, 4)}),
    "range": (KNeighborsClassifier(), {"n_neighbors": range(1, 5)}),
    "tuples": (MinMaxScaler, {"scale__feature_range": [(0, 2), (-1, 1)]}),
    "steps": (
        Pipeline([("scale", MinMaxScaler()), ("clf", DummyClassifier())]),
        {
            "scale": ["passthrough", StandardScaler()],
            "clf": [LogisticRegression(), DecisionTreeClassifier(random_state=0)],
        },
    ),
    "branches": (
        SVC(C=5),
        [{"kernel": ["linear"], "C": [1, 10]}, {"kernel": ["rbf"], "gamma": [0.1, 1.0]}],
    ),
    "dicts": (LogisticRegression(), {"class_weight": [{0: 1, 1: 2}, "balanced"]}),
    "repeated": (KNeighborsClassifier(), {"n_neighbors": [3, 1, 3]}),
    "one point": (KNeighborsClassifier(), {"n_neighbors": [3]}),
}


@pytest.mark.parametrize("kind", GRIDS)
@every_search
def test_same_results_on_every_kind_of_choice(search_class, kind):
    estimator, grid = GRIDS[kind]
    if kind == "tuples":
        estimator = Pipeline([("scale", MinMaxScaler()), ("clf", LogisticRegression())])
    ours, theirs = twins(search_class, estimator, grid, cv=2)
    ours.fit(X, y), theirs.fit(X, y)
    if kind == "steps":  # estimators are equal only to themselves; candidates hold the user's own
        for mine, other in zip(*(s.cv_results_["params"] for s in (ours, theirs)), strict=True):
            assert all(mine[name] is other[name] for name in other)
    assert_same_search(ours, theirs)


@pytest.mark.parametrize(
    "space",
    [
        {"C": loguniform(1e-2, 1e2), "tol": uniform(1e-4, 1e-2)},
        {"C": loguniform(1e-2, 1e2), "max_iter": randint(100, 200)},
        {"C": loguniform(1e-2, 1e2), "class_weight": [None, "balanced"]},
        # As many choices as make a repetition unlikely; here there is none.
        [{"C": loguniform(1e-2, 1e2)}, {"C": range(2, 99), "class_weight": ["balanced"]}],
    ],
    ids=["continuous", "whole", "choices", "branches"],
)
@every_search
def test_same_as_a_random_search(search_class, space):
    estimator = LogisticRegression(C=1e9, max_iter=99)  # out of the space, or it comes first
    candidates = list(ParameterSampler(space, 5, random_state=0))
    ours = search_class(estimator, space, n_iter=5, initial_params=candidates, cv=2)
    theirs = RandomizedSearchCV(estimator, space, n_iter=5, cv=2, random_state=0)
    assert_same_search(ours.fit(X, y), theirs.fit(X, y))


class GridWalk(TPESearchCV):
    """A search that asks for the points of a grid, one after the other."""

    def _n_startup(self, space):
        return 0

    def _ask(self, space, known, rng):
        candidates = list(ParameterGrid(self.param_distributions))
        unit, _ = next(iter(space.encode(candidates[len(known.units) + len(known.pending)])))
        return unit, None


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_what_a_method_asks_for_is_what_is_tried(n_jobs):
    grid = {"C": [1.0, 0.1, 10.0], "fit_intercept": [True, False]}  # the default comes first
    ours = GridWalk(LogisticRegression(), grid, n_iter=6, cv=2, n_jobs=n_jobs, random_state=0)
    theirs = GridSearchCV(LogisticRegression(), grid, cv=2)
    # Workers must have some scores before a method is asked.
    ours.set_params(initial_params=list(ParameterGrid(grid))[1:4])
    assert_same_search(ours.fit(X, y), theirs.fit(X, y))
    origins = [trial.proposal.origin for trial in ours.history_]
    assert origins == ["default"] + 3 * ["initial"] + 2 * ["asked"]


def test_verbose_prints_what_a_grid_search_prints(quick, capsys):
    printed = []
    for search in twins(TPESearchCV, Cutoff(), CUTS, cv=2, verbose=3, return_train_score=True):
        search.fit(*quick)
        printed.append(capsys.readouterr().out)
    ours, theirs = ([line.split("total time")[0] for line in out.splitlines()] for out in printed)
    assert ours == theirs
    assert len(ours) == 9


@pytest.mark.parametrize("refit", [True, "nope"])
@pytest.mark.parametrize("scoring", SEVERAL.values(), ids=SEVERAL)
def test_several_metrics_need_a_refit_that_names_one(scoring, refit, quick):
    for search in twins(TPESearchCV, Cutoff(), CUTS, scoring=scoring, refit=refit, cv=2):
        with pytest.raises(ValueError, match="refit must be set to a scorer key"):
            search.fit(*quick)


@pytest.mark.parametrize(
    ("bad_index", "error", "match"),
    [("0", TypeError, "not an integer"), (99, IndexError, "out of range")],
)
def test_a_refit_that_returns_no_index_is_refused(bad_index, error, match, quick):
    for search in twins(TPESearchCV, Cutoff(), CUTS, refit=lambda results: bad_index, cv=2):
        with pytest.raises(error, match=match):
            search.fit(*quick)


# ---------------------------------------------------------------------- what drives the search

DRIVEN = [
    pytest.param({"low": low, "high": high}, "high", "high", id="named in a dict"),
    pytest.param({"high": high, "low": low}, "low", "low", id="named second in a dict"),
    pytest.param({"low": low, "high": high}, False, "low", id="first of a dict"),
    pytest.param({"high": high, "low": low}, first_of_best_three, "high", id="refit callable"),
    pytest.param(low_and_high, "high", "high", id="named of a function"),
    pytest.param(low_and_high, False, "low", id="first of a function"),
    pytest.param(high_and_low, False, "high", id="first of the other function"),
    pytest.param(high, True, "score", id="only one"),
    pytest.param(low, False, "score", id="only one, no refit"),
]


@pytest.mark.parametrize(("scoring", "refit", "driving"), DRIVEN)
@every_search
def test_the_metric_named_by_refit_drives_or_else_the_first(search_class, scoring, refit, driving):
    search = search_class(
        Needle(), {"x": uniform(0, 1)}, scoring=scoring, refit=refit, n_iter=30, cv=2
    )
    search.set_params(random_state=0).fit(X[:4])
    known = search.history_.known()
    np.testing.assert_array_equal(known.scores, search.cv_results_[f"mean_test_{driving}"])
    later = np.array([params["x"] for params in search.cv_results_["params"][-15:]])
    upwards = driving == "high" or scoring is high
    assert np.median(later) > 0.8 if upwards else np.median(later) < 0.2


def test_the_first_of_a_list_drives(quick):
    for scoring in (["roc_auc", "accuracy"], ("accuracy", "roc_auc")):
        search = TPESearchCV(Cutoff(), CUTS, scoring=scoring, refit=False, n_iter=4, cv=2)
        search.fit(*quick)
        known = search.history_.known()
        np.testing.assert_array_equal(known.scores, search.cv_results_[f"mean_test_{scoring[0]}"])


# ---------------------------------------------------------------------- the constructor


@every_search
def test_the_signature_is_that_of_a_random_search_and_more(search_class):
    ours = inspect.signature(search_class).parameters
    theirs = inspect.signature(RandomizedSearchCV).parameters
    descends = search_class is HyperGradSearchCV
    own = ["gradient", "loss", "tol"] if descends else ["acquisition"]
    ours_alone = ["initial_params", "racing", "callbacks", "checkpoint", "history", "fit_timeout"]
    assert list(ours) == [*theirs, *ours_alone, *own]
    for name, expected in theirs.items():
        assert ours[name].kind == expected.kind, name
        if name == "error_score":
            assert np.isnan(ours[name].default)
        elif name != "n_iter":
            assert ours[name].default == expected.default, name
    assert ours["n_iter"].default == 50
    assert {ours[name].default for name in ours_alone} == {None}
    assert ours["initial_params"].kind is inspect.Parameter.KEYWORD_ONLY


@every_search
def test_the_constructor_keeps_what_it_is_given_and_looks_at_nothing(search_class):
    names = list(inspect.signature(search_class).parameters)
    given = {name: object() for name in names}
    search = search_class(**given)
    assert vars(search) == given
    assert all(getattr(search, name) is value for name, value in given.items())
    others = {name: object() for name in names}
    search.set_params(**others)
    assert all(search.get_params(deep=False)[name] is value for name, value in others.items())


@every_search
def test_parameters_of_the_estimator_are_reached_through_the_search(search_class):
    search = search_class(make_pipeline(StandardScaler(), Ridge()), {})
    assert search.get_params()["estimator__ridge__alpha"] == 1.0
    search.set_params(estimator__ridge__alpha=3.0, n_iter=7)
    assert search.estimator[-1].alpha == 3.0
    with pytest.raises(ValueError, match="Invalid parameter 'n_trials' for estimator"):
        search.set_params(n_trials=3)


INVALID = [
    ("estimator", None, "'estimator' parameter of .*SearchCV must be"),
    ("estimator", 3, "'estimator' parameter of .*SearchCV must be"),
    ("param_distributions", 3, "'param_distributions' parameter of .*SearchCV must be"),
    ("param_distributions", None, "'param_distributions' parameter of .*SearchCV must be"),
    ("param_distributions", [], "param_distributions=.* holds no search space"),
    ("param_distributions", [3], r"param_distributions\[0\] must be a dict, got 3"),
    ("param_distributions", {"cut": 3}, r"param_distributions\['cut'\].* got 3"),
    ("param_distributions", {"cut": "ab"}, r"param_distributions\['cut'\].* got 'ab'"),
    ("param_distributions", {"cut": []}, r"param_distributions\['cut'\]: no choices"),
    ("param_distributions", {"cutt": [1]}, "Invalid parameter 'cutt' for estimator .*'cut'"),
    ("param_distributions", {3: [1]}, "key 3; parameter names are strings"),
    ("n_iter", 0, "'n_iter' parameter of .*SearchCV must be .* Got 0"),
    ("n_iter", 2.5, "'n_iter' parameter of .*SearchCV must be .* Got 2.5"),
    ("n_iter", "10", "'n_iter' parameter of .*SearchCV must be .* Got '10'"),
    ("n_iter", None, "'n_iter' parameter of .*SearchCV must be .* Got None"),
    ("scoring", "nope", "'scoring' parameter of .*SearchCV must be .* Got 'nope'"),
    ("scoring", 3, "'scoring' parameter of .*SearchCV must be"),
    ("scoring", ["accuracy", "accuracy"], "(?i)duplicate"),
    ("n_jobs", "two", "'n_jobs' parameter of .*SearchCV must be .* Got 'two'"),
    ("n_jobs", 0, "n_jobs == 0"),
    ("refit", 3, "'refit' parameter of .*SearchCV must be .* Got 3"),
    ("cv", "five", "'cv' parameter of .*SearchCV must be .* Got 'five'"),
    ("cv", 1, "'cv' parameter of .*SearchCV must be .* Got 1"),
    ("cv", 31, "Cannot have number of splits n_splits=31 greater than|n_splits=31 cannot be"),
    ("verbose", -1, "'verbose' parameter of .*SearchCV must be .* Got -1"),
    ("verbose", "loud", "'verbose' parameter of .*SearchCV must be"),
    ("pre_dispatch", None, "'pre_dispatch' parameter of .*SearchCV must be .* Got None"),
    ("pre_dispatch", "n_workers", "pre_dispatch='n_workers' cannot be read"),
    ("pre_dispatch", 0, "pre_dispatch=0 comes to 0"),
    ("random_state", "seed", "'random_state' parameter of .*SearchCV must be .* Got 'seed'"),
    ("random_state", -1, "'random_state' parameter of .*SearchCV must be .* Got -1"),
    ("error_score", "nan", "'error_score' parameter of .*SearchCV must be .* Got 'nan'"),
    ("error_score", None, "'error_score' parameter of .*SearchCV must be .* Got None"),
    ("return_train_score", "yes", "'return_train_score' parameter of .*SearchCV must be"),
    ("initial_params", "cut", "'initial_params' parameter of .*SearchCV must be"),
    ("initial_params", {"cut": 0.5}, "'initial_params' parameter of .*SearchCV must be"),
    ("initial_params", [3], r"initial_params\[0\] must be a dict, got 3"),
    ("initial_params", [{"cut": 0.5}, {"cut": 7}], r"initial_params\[1\].* outside .*'cut'"),
    ("initial_params", [{"cat": 0.5}], r"initial_params\[0\].*\['cat'\].*\['cut'\]"),
    ("initial_params", [{}], r"initial_params\[0\].*\['cut'\]"),
    ("racing", True, "'racing' parameter of .*SearchCV must be .* Got True"),
    ("callbacks", 3, "'callbacks' parameter of .*SearchCV must be .* Got 3"),
    ("callbacks", [3], r"callbacks\[0\]=3 is not callable"),
    ("checkpoint", 3, "'checkpoint' parameter of .*SearchCV must be .* Got 3"),
    ("history", 3, "history must be the history_ or cv_results_ .* got 3 of type int"),
    ("history", {"cut": [1]}, "history must be a cv_results_ with the columns 'params' and"),
    ("fit_timeout", 0, "'fit_timeout' parameter of .*SearchCV must be .* Got 0"),
    ("fit_timeout", "2s", "'fit_timeout' parameter of .*SearchCV must be .* Got '2s'"),
]


@pytest.mark.parametrize(("name", "value", "match"), INVALID)
@every_search
def test_invalid_values_are_refused_in_fit(search_class, name, value, match, quick):
    search = search_class(
        **{"estimator": Cutoff(), "param_distributions": CUTS, "n_iter": 4, "cv": 2, name: value}
    )
    with pytest.raises((TypeError, ValueError), match=match):
        search.fit(*quick)
    assert not hasattr(search, "cv_results_")
    assert not hasattr(search, "history_")


def test_every_parameter_is_refused_something():
    shared = set(inspect.signature(TPESearchCV).parameters) - {"acquisition"}
    assert {name for name, _, _ in INVALID} == shared


@every_search
def test_a_classifier_that_takes_no_scores_needs_scoring(search_class):
    class Mute(BaseEstimator):
        def fit(self, X, y=None):
            return self

    with pytest.raises(TypeError, match="estimator passed should have a 'score' method"):
        search_class(Mute(), {}, n_iter=1).fit(X)


# ---------------------------------------------------------------------- methods and tags

METHODS = [
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "transform",
    "inverse_transform",
    "score_samples",
    "score",
    "classes_",
    "n_features_in_",
    "feature_names_in_",
    "fit_predict",
    "fit_transform",
]
DELEGATES = [
    (LogisticRegression(), {"C": [0.1, 1.0]}),
    (LinearSVC(), {"C": [0.1, 1.0]}),
    (Ridge(), {"alpha": [0.1, 1.0]}),
    (KMeans(2, n_init=1, random_state=0), {"max_iter": [2, 5]}),
    (PCA(2), {"whiten": [True, False]}),
    (IsolationForest(n_estimators=3, random_state=0), {"max_features": [1, 2]}),
    (make_pipeline(StandardScaler(), PCA(2)), {"pca__whiten": [True, False]}),
    (make_pipeline(StandardScaler(), SGDClassifier(random_state=0)), {"sgdclassifier__alpha": [1]}),
    (make_pipeline(PCA(2), LogisticRegression()), {"pca__whiten": [True, False]}),
]


def methods_of(search):
    return [name for name in METHODS if hasattr(search, name)]


def scored_if_needed(estimator):
    return {} if hasattr(estimator, "score") else {"scoring": lambda estimator, X, y: 0.0}


@pytest.mark.parametrize(
    ("estimator", "space"), DELEGATES, ids=[repr(estimator) for estimator, _ in DELEGATES]
)
@every_search
def test_a_method_exists_if_the_estimator_has_it(search_class, estimator, space):
    options = {"n_iter": 1, "cv": 2, "random_state": 0, **scored_if_needed(estimator)}
    ours, theirs = (
        search_class(estimator, space, **options),
        RandomizedSearchCV(estimator, space, **options),
    )
    assert methods_of(ours) == methods_of(theirs)
    ours.fit(X, y), theirs.fit(X, y)
    assert methods_of(ours) == methods_of(theirs)
    for name in METHODS[:4] + METHODS[6:7]:
        if hasattr(ours, name):
            best = getattr(ours.best_estimator_, name)(X)
            np.testing.assert_array_equal(getattr(ours, name)(X), best)
    if hasattr(ours, "transform"):
        projected = ours.transform(X)
        np.testing.assert_array_equal(projected, ours.best_estimator_.transform(X))
        if hasattr(ours, "inverse_transform"):
            back = ours.inverse_transform(projected)
            np.testing.assert_array_equal(back, ours.best_estimator_.inverse_transform(projected))


@pytest.mark.parametrize(
    ("estimator", "space"), DELEGATES, ids=[repr(estimator) for estimator, _ in DELEGATES]
)
def test_without_a_refit_no_method_exists(estimator, space):
    options = {"n_iter": 1, "cv": 2, "refit": False, **scored_if_needed(estimator)}
    ours, theirs = (
        TPESearchCV(estimator, space, **options),
        RandomizedSearchCV(estimator, space, **options),
    )
    assert methods_of(ours) == methods_of(theirs)
    ours.fit(X, y), theirs.fit(X, y)
    assert methods_of(ours) == methods_of(theirs)
    assert "predict" not in methods_of(ours)


@every_search
def test_methods_before_fit_say_that_there_was_none(search_class):
    search = search_class(LogisticRegression(), {"C": [0.1, 1.0]})
    for method in (search.predict, search.predict_proba, search.decision_function, search.score):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            method(X)


@every_search
def test_methods_without_refit_say_so(search_class):
    search = search_class(LogisticRegression(), {"C": [0.1, 1.0]}, refit=False, cv=2, n_iter=2)
    search.fit(X, y)
    for name in ("predict", "predict_proba"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'") as caught:
            getattr(search, name)
        assert "refit=False" in str(caught.value.__cause__)
    with pytest.raises(AttributeError, match="score is available only after refitting"):
        search.score(X, y)


def test_a_method_that_depends_on_the_candidate_exists_with_the_best_one():
    search = TPESearchCV(SGDClassifier(), {"loss": ["hinge"]}, n_iter=1, cv=2)
    assert not hasattr(search, "predict_proba")
    search.set_params(param_distributions={"loss": ["log_loss"]}).fit(X, y)
    assert hasattr(search, "predict_proba")


@pytest.mark.parametrize(
    ("estimator", "space"), DELEGATES, ids=[repr(estimator) for estimator, _ in DELEGATES]
)
@every_search
def test_tags_are_those_of_a_random_search(search_class, estimator, space):
    ours = get_tags(search_class(estimator, space))
    theirs = get_tags(RandomizedSearchCV(estimator, space))
    inner = get_tags(estimator)
    # scikit-learn's searches forget these, which are the estimator's as well.
    theirs.target_tags.multi_output = inner.target_tags.multi_output
    theirs.target_tags.required = ours.target_tags.required
    theirs.input_tags.allow_nan = inner.input_tags.allow_nan
    assert ours == theirs


@every_search
def test_a_search_is_what_its_estimator_is(search_class):
    assert is_classifier(search_class(LogisticRegression(), {}))
    assert not is_classifier(search_class(Ridge(), {}))
    assert is_regressor(search_class(Ridge(), {}))
    assert is_regressor(search_class(make_pipeline(StandardScaler(), Ridge()), {}))
    assert is_outlier_detector(search_class(IsolationForest(), {}))


def test_tags_of_a_search_are_not_those_of_its_estimator_by_reference():
    estimator = LogisticRegression()
    get_tags(TPESearchCV(estimator, {})).classifier_tags.multi_class = False
    assert get_tags(TPESearchCV(estimator, {})).classifier_tags.multi_class


# ---------------------------------------------------------------------- inside other estimators


@every_search
def test_cross_validation_stratifies_around_and_inside(search_class):
    ordered = np.argsort(y, kind="stable")  # unstratified folds would have one class only
    search = search_class(
        LogisticRegression(), {"C": loguniform(0.1, 10)}, n_iter=3, cv=3, error_score="raise"
    )
    scores = cross_val_score(search, X[ordered], y[ordered], cv=3, error_score="raise")
    assert scores.shape == (3,)
    assert (scores > 0.6).all()


@pytest.mark.parametrize("n_jobs", [None, 2])
@every_search
def test_cross_validate_returns_fitted_searches(search_class, n_jobs):
    search = search_class(
        LogisticRegression(), {"C": loguniform(0.1, 10)}, n_iter=3, cv=2, random_state=0
    )
    results = cross_validate(search, X, y, cv=2, n_jobs=n_jobs, return_estimator=True)
    assert [len(found.cv_results_["params"]) for found in results["estimator"]] == [3, 3]
    assert not fitted_attributes(search)


@every_search
def test_nested_workers_give_the_same_answer(search_class):
    search = search_class(
        LogisticRegression(), {"C": loguniform(0.1, 10)}, n_iter=4, cv=2, random_state=0, n_jobs=2
    )
    alone = cross_val_score(search, X, y, cv=2)
    np.testing.assert_array_equal(alone, cross_val_score(search, X, y, cv=2, n_jobs=2))


AROUND = {
    "stacking": lambda search: StackingClassifier([("a", search), ("b", DummyClassifier())], cv=2),
    "voting": lambda search: VotingClassifier([("a", search)]),
    "soft voting": lambda search: VotingClassifier([("a", search)], voting="soft"),
    "calibration": lambda search: CalibratedClassifierCV(search, cv=2),
    "threshold": lambda search: TunedThresholdClassifierCV(search, cv=2),
    "bagging": lambda search: BaggingClassifier(search, n_estimators=2, random_state=0),
    "one against rest": lambda search: OneVsRestClassifier(search),
    "pipeline": lambda search: make_pipeline(StandardScaler(), search),
    "search": lambda search: TPESearchCV(search, {"cv": [2, 3]}, n_iter=2, cv=2),
    "grid": lambda search: GridSearchCV(search, {"n_iter": [1, 2]}, cv=2),
}


@pytest.mark.parametrize("kind", AROUND)
@every_search
def test_other_estimators_take_a_search(search_class, kind):
    search = search_class(
        LogisticRegression(), {"C": loguniform(0.1, 10)}, n_iter=3, cv=2, random_state=0
    )
    around = AROUND[kind](search).fit(X, y)
    assert around.score(X, y) > 0.6
    assert around.predict(X).shape == y.shape
    if hasattr(around, "predict_proba"):
        np.testing.assert_allclose(around.predict_proba(X).sum(axis=1), 1)
    assert not fitted_attributes(search) or kind == "pipeline"


@every_search
def test_a_search_over_a_pipeline_with_a_search(search_class):
    pipeline = Pipeline(
        [("reduce", PCA()), ("clf", search_class(LogisticRegression(), {"C": [0.1, 1]}, cv=2))]
    )
    search = search_class(pipeline, {"reduce__n_components": [2, 3], "clf__n_iter": [1, 2]}, cv=2)
    search.set_params(n_iter=3).fit(X, y)
    assert search.best_estimator_["clf"].best_params_["C"] in (0.1, 1)


def test_predictions_can_be_cross_validated():
    search = TPESearchCV(LogisticRegression(), {"C": loguniform(0.1, 10)}, n_iter=2, cv=2)
    assert cross_val_predict(search, X, y, cv=2, method="predict_proba").shape == (60, 2)


# ---------------------------------------------------------------------- nothing is shared


@every_search
def test_a_clone_of_a_fitted_search_is_new(search_class):
    search = search_class(
        LogisticRegression(),
        {"C": loguniform(0.1, 10)},
        n_iter=3,
        cv=2,
        initial_params=[{"C": 0.5}],
    ).fit(X, y)
    twin = clone(search)
    assert fitted_attributes(twin) == set()
    assert set(vars(twin)) == set(inspect.signature(search_class).parameters)
    assert twin.estimator is not search.estimator
    assert twin.initial_params is not search.initial_params
    assert twin.initial_params == search.initial_params
    before = copy.deepcopy(search.cv_results_)
    twin.fit(X[:30], y[:30])
    assert_same_results(search.cv_results_, before)
    assert twin.history_ is not search.history_


@every_search
def test_fit_changes_nothing_that_the_user_gave(search_class):
    seeded = SGDClassifier(random_state=np.random.RandomState(0))
    estimator = make_pipeline(StandardScaler(), seeded)
    steps = [SGDClassifier(), DecisionTreeClassifier(random_state=np.random.RandomState(1))]
    space = {
        "standardscaler": [None, StandardScaler()],
        "sgdclassifier": steps,
    }
    initial = [{"standardscaler": None, "sgdclassifier": steps[1]}]
    order, lists = list(space), {name: list(values) for name, values in space.items()}
    states = [seeded.random_state, steps[1].random_state]
    before = [state.get_state()[1].tolist() for state in states]
    search = search_class(estimator, space, n_iter=4, cv=2, initial_params=initial).fit(X, y)

    assert search.estimator is estimator
    assert search.param_distributions is space
    assert search.initial_params is initial
    assert list(space) == order
    assert all(
        mine is other
        for name in order
        for mine, other in zip(space[name], lists[name], strict=True)
    )
    assert initial == [{"standardscaler": None, "sgdclassifier": steps[1]}]
    for fitted in (*estimator, *steps, lists["standardscaler"][1]):
        assert not fitted_attributes(fitted)
    assert [state.get_state()[1].tolist() for state in states] == before
    for params in search.cv_results_["params"]:
        assert not fitted_attributes(params["sgdclassifier"])
    assert search.best_estimator_["sgdclassifier"] not in steps


@every_search
def test_a_random_state_moves_on_as_in_a_random_search(search_class):
    def tried(search):
        return search.fit(X, y).cv_results_["params"]

    space = {"C": loguniform(0.1, 10)}
    search = search_class(LogisticRegression(C=50), space, n_iter=2, cv=2, random_state=3)
    if search_class is HyperGradSearchCV:  # whose descent has nothing random
        search.set_params(gradient="surrogate")
    assert tried(search) == tried(search) == tried(clone(search))
    generator = np.random.RandomState(3)
    search.set_params(random_state=generator)
    copied = clone(search)
    first = tried(search)
    assert first != tried(search)
    assert first == tried(copied)
    assert search.random_state is generator
    search.set_params(random_state=None)
    assert tried(search) != tried(search)


def test_a_global_seed_seeds_an_unseeded_search():
    def tried():
        np.random.seed(5)  # noqa: NPY002 - what users of scikit-learn do
        search = TPESearchCV(LogisticRegression(), {"C": loguniform(0.1, 10)}, n_iter=3, cv=2)
        return search.fit(X, y).cv_results_["params"]

    assert tried() == tried()


def test_a_random_state_of_the_folds_moves_on_as_in_a_grid_search(quick):
    states = [np.random.RandomState(0), np.random.RandomState(0)]
    ours, theirs = twins(TPESearchCV, Cutoff(), CUTS)
    for search, state in zip((ours, theirs), states, strict=True):
        search.set_params(cv=KFold(3, shuffle=True, random_state=state))
    for _ in range(2):
        assert_same_search(ours.fit(*quick), theirs.fit(*quick))
    assert states[0].get_state()[1].tolist() == states[1].get_state()[1].tolist()


def test_a_random_state_of_the_estimator_is_the_same_for_each_fit():
    grid = {"max_features": [1, 2, 3]}
    estimator = RandomForestClassifier(3, random_state=np.random.RandomState(0))
    ours, theirs = twins(TPESearchCV, estimator, grid, cv=2)
    assert_same_search(ours.fit(X, y), theirs.fit(X, y))
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


@every_search
def test_fitting_again_starts_again(search_class, quick):
    search = search_class(Cutoff(), {"cut": uniform(-1, 2)}, n_iter=3, cv=2, random_state=0)
    first = copy.deepcopy(search.fit(*quick).cv_results_)
    assert_same_results(search.fit(*quick).cv_results_, first)
    assert len(search.history_) == 3


# ---------------------------------------------------------------------- kept on disk


def by_pickle(search, path):
    return pickle.loads(pickle.dumps(search))


def by_cloudpickle(search, path):
    return cloudpickle.loads(cloudpickle.dumps(search))


def by_joblib(search, path):
    joblib.dump(search, path / "search.joblib")
    return joblib.load(path / "search.joblib")


def by_skops(search, path):
    data = skops.io.dumps(search)
    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))


def by_deepcopy(search, path):
    return copy.deepcopy(search)


SPACES = {
    "continuous": {"C": loguniform(0.01, 100)},
    "own": {"C": Real(0.01, 100, log=True), "max_iter": Integer(100, 120)},
    "choices": {"C": [0.1, 1, 10], "class_weight": [None, "balanced"]},
    "branches": [{"C": uniform(0.1, 1)}, {"C": [5, 10], "fit_intercept": [True, False]}],
}


@pytest.fixture(
    scope="module", params=[(s, kind) for s in SEARCHES for kind in SPACES], ids=lambda p: p[1]
)
def fitted(request):
    search_class, kind = request.param
    search = search_class(LogisticRegression(), SPACES[kind], n_iter=12, cv=2, random_state=0)
    return search.fit(X, y)


@pytest.mark.parametrize("copied", [by_pickle, by_cloudpickle, by_joblib, by_skops, by_deepcopy])
def test_a_fitted_search_survives_storage(fitted, copied, tmp_path):
    twin = copied(fitted, tmp_path)
    assert_same_search_of_ours(twin, fitted)
    np.testing.assert_array_equal(twin.predict_proba(X), fitted.predict_proba(X))
    assert twin.score(X, y) == fitted.score(X, y)


def test_a_stored_search_fits_again(fitted, tmp_path):
    twin = by_pickle(fitted, tmp_path)
    assert_same_results(twin.fit(X, y).cv_results_, fitted.cv_results_)


def assert_same_search_of_ours(twin, search):
    assert_same_results(twin.cv_results_, search.cv_results_)
    for key in ("mean_fit_time", "std_score_time"):
        np.testing.assert_array_equal(twin.cv_results_[key], search.cv_results_[key])
    assert fitted_attributes(twin) == fitted_attributes(search) >= OWN_ATTRIBUTES
    assert twin.stop_reason_ == search.stop_reason_
    assert twin.best_params_ == search.best_params_
    assert len(twin.history_) == len(search.history_)
    for mine, other in zip(twin.history_, search.history_, strict=True):
        assert (mine.number, mine.params, mine.scores) == (
            other.number,
            other.params,
            other.scores,
        )
        assert mine.proposal.origin == other.proposal.origin
        assert mine.proposal.note == other.proposal.note
        np.testing.assert_array_equal(mine.proposal.unit, other.proposal.unit)
    known, expected = twin.history_.known(), search.history_.known()
    np.testing.assert_array_equal(known.fold_scores, expected.fold_scores)
    assert known.tried == expected.tried
    units = np.array([trial.proposal.unit for trial in search.history_])
    assert [twin.space_.decode(u) for u in units] == [search.space_.decode(u) for u in units]


@pytest.mark.parametrize("copied", [by_pickle, by_cloudpickle, by_joblib, by_skops])
@every_search
def test_an_unfitted_search_survives_storage(search_class, copied, tmp_path):
    search = search_class(LogisticRegression(), SPACES["continuous"], n_iter=3, cv=2)
    twin = copied(search.set_params(random_state=0), tmp_path)
    assert_same_results(twin.fit(X, y).cv_results_, search.fit(X, y).cv_results_)


def test_a_search_of_several_metrics_with_a_failure_survives_storage(quick, tmp_path):
    space = {"cut": uniform(-1, 2), "fail": [None, "fit"]}
    search = TPESearchCV(
        Cutoff(), space, n_iter=8, cv=2, scoring=["accuracy", "f1"], refit="f1", random_state=0
    )
    fit_noting_warnings(search, *quick)
    assert any(score.error for trial in search.history_ for score in trial.scores)
    for copied in (by_pickle, by_cloudpickle, by_joblib, by_skops):
        twin = copied(search, tmp_path)
        assert twin.history_.metric == "f1"
        assert_same_results(twin.cv_results_, search.cv_results_)
        errors = [[score.error for score in trial.scores] for trial in search.history_]
        assert [[score.error for score in trial.scores] for trial in twin.history_] == errors


# ---------------------------------------------------------------------- what it looks like


@every_search
def test_a_search_shows_itself(search_class):
    search = search_class(LogisticRegression(), {"C": [0.1, 1.0]}, n_iter=3)
    assert repr(search) == (
        f"{search_class.__name__}(estimator=LogisticRegression(), n_iter=3,\n"
        f"{' ' * (len(search_class.__name__) + 1)}param_distributions={{'C': [0.1, 1.0]}})"
    )
    assert "LogisticRegression" in search._repr_html_()
    assert search_class.__name__ in search.fit(X, y)._repr_html_()
