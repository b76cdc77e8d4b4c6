"""Every form of data, metadata and folds goes through a search as through a grid search."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import sklearn
from alike import assert_same_search, fit_noting_warnings, twins
from fakes import FoldPrint, Named, Weighed
from scipy.stats import uniform
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer, max_error, mean_squared_error
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    RandomizedSearchCV,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tunein import BayesSearchCV, HyperGradSearchCV, TPESearchCV

SEARCHES = [TPESearchCV, BayesSearchCV, HyperGradSearchCV]
every_search = pytest.mark.parametrize("search_class", SEARCHES)

X, y = make_classification(60, 4, n_redundant=0, random_state=0)
target = X[:, 0] + np.random.RandomState(0).normal(size=60)
groups = np.arange(60) % 6
weight = np.random.RandomState(1).uniform(0, 5, size=60)
C = {"C": [0.01, 0.1, 10.0]}
ALPHA = {"alpha": [0.1, 30.0, 1000.0]}


# ---------------------------------------------------------------------- containers

NAMES = ["a", "b", "c", "d"]
CONTAINERS = {
    "array": lambda X: X,
    "fortran array": np.asfortranarray,
    "float32": lambda X: X.astype(np.float32),
    "lists": lambda X: X.tolist(),
    "sparse rows": scipy.sparse.csr_matrix,
    "sparse columns": scipy.sparse.csc_matrix,
    "sparse array": scipy.sparse.csr_array,
    "pandas": lambda X: pd.DataFrame(X, columns=NAMES),
    "pandas with another index": lambda X: pd.DataFrame(X, columns=NAMES, index=range(60, 0, -1)),
    "polars": lambda X: pl.DataFrame(X, schema=NAMES),
}


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("container", CONTAINERS)
def test_features_in_every_container(container, n_jobs):
    data = CONTAINERS[container](X)
    ours, theirs = twins(TPESearchCV, LogisticRegression(), C, cv=3, n_jobs=n_jobs)
    assert_same_search(ours.fit(data, y), theirs.fit(data, y))
    np.testing.assert_array_equal(ours.predict_proba(data), theirs.predict_proba(data))
    assert ours.score(data, y) == theirs.score(data, y)


@pytest.mark.parametrize(
    "container", [list, pd.Series, lambda y: pl.Series(y), lambda y: np.array(y, dtype=object)]
)
@every_search
def test_targets_in_every_container(search_class, container):
    labels = container(["no" if label == 0 else "yes" for label in y])
    ours, theirs = twins(
        search_class, DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2]}
    )
    assert_same_search(ours.fit(X, labels), theirs.fit(X, labels))
    assert list(ours.classes_) == ["no", "yes"]


@every_search
def test_columns_of_a_frame_reach_the_estimator_by_name(search_class):
    frame = pd.DataFrame({"number": X[:, 0], "letter": np.where(y == 1, "p", "q")})
    pipeline = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["letter"]), (StandardScaler(), ["number"])),
        LogisticRegression(),
    )
    ours, theirs = twins(search_class, pipeline, {"logisticregression__C": [0.1, 10.0]}, cv=2)
    assert_same_search(ours.fit(frame, y), theirs.fit(frame, y))
    assert list(ours.feature_names_in_) == ["number", "letter"]


@every_search
def test_texts(search_class):
    texts = ["good day" if label else "bad night" for label in y] + ["a good night", "a bad day"]
    labels = [*y, 1, 0]
    pipeline = make_pipeline(CountVectorizer(), MultinomialNB())
    grid = {"countvectorizer__ngram_range": [(1, 2), (2, 2)], "multinomialnb__alpha": [0.1, 2.0]}
    ours, theirs = twins(search_class, pipeline, grid, cv=2)
    assert_same_search(ours.fit(texts, labels), theirs.fit(texts, labels))
    assert list(ours.predict(["good", "bad night"])) == [1, 0]


@every_search
def test_missing_values_reach_an_estimator_that_takes_them(search_class):
    holes = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.2, np.nan, X)
    ours, theirs = twins(
        search_class, DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2]}
    )
    assert_same_search(ours.fit(holes, y), theirs.fit(holes, y))


@every_search
def test_a_kernel_is_split_in_both_directions(search_class):
    ours, theirs = twins(search_class, SVC(kernel="precomputed"), C, cv=3)
    kernel = X @ X.T
    assert_same_search(ours.fit(kernel, y), theirs.fit(kernel, y))
    assert cross_val_score(ours, kernel, y, cv=2).shape == (2,)


@every_search
def test_data_of_three_dimensions(search_class):
    ours, theirs = twins(search_class, FoldPrint(), {"a": [1, 2]}, cv=3)
    cube = X.reshape(60, 2, 2)
    assert_same_search(ours.fit(cube), theirs.fit(cube))


@pytest.mark.parametrize(
    ("estimator", "grid", "outputs"),
    [
        (KNeighborsRegressor(), {"n_neighbors": [1, 3]}, np.column_stack([target, -target])),
        (
            MultiOutputClassifier(KNeighborsClassifier()),
            {"estimator__n_neighbors": [1, 3]},
            np.column_stack([y, 1 - y]),
        ),
    ],
    ids=["regression", "classification"],
)
@every_search
def test_several_outputs(search_class, estimator, grid, outputs):
    ours, theirs = twins(search_class, estimator, grid, cv=2)
    assert_same_search(ours.fit(X, outputs), theirs.fit(X, outputs))
    assert ours.predict(X).shape == (60, 2)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        TPESearchCV(LogisticRegression(), C).fit(X, y[:-1])


# ---------------------------------------------------------------------- no target

UNSUPERVISED = {
    "clusters": (KMeans(n_init=1, random_state=0), {"n_clusters": [2, 3, 4]}),
    "components": (PCA(), {"n_components": [1, 2, 3]}),
    "density": (KernelDensity(), {"bandwidth": [0.1, 0.3, 3.0]}),
}


@pytest.mark.parametrize("kind", UNSUPERVISED)
@pytest.mark.parametrize("given", [(), (None,)], ids=["no y", "y=None"])
@every_search
def test_without_a_target(search_class, given, kind):
    ours, theirs = twins(search_class, *UNSUPERVISED[kind], cv=3)
    assert_same_search(ours.fit(X, *given), theirs.fit(X, *given))
    assert ours.score(X) == theirs.score(X)


# ---------------------------------------------------------------------- folds


def halves(X, y=None, groups=None):
    yield np.arange(30), np.arange(30, 60)
    yield np.arange(30, 60), np.arange(30)


CVS = {
    "none": lambda: None,
    "number": lambda: 3,
    "splitter": lambda: KFold(3),
    "shuffled": lambda: StratifiedKFold(3, shuffle=True, random_state=0),
    "random": lambda: ShuffleSplit(4, test_size=0.2, random_state=0),
    "repeated": lambda: RepeatedKFold(n_splits=2, n_repeats=2, random_state=0),
    "growing": lambda: TimeSeriesSplit(3),
    "generator": lambda: halves(X),
    "list": lambda: list(halves(X)),
    "lists of numbers": lambda: [(a.tolist(), b.tolist()) for a, b in halves(X)],
    "masks": lambda: [(np.arange(60) < 30, np.arange(60) >= 30)],
    "one split": lambda: list(halves(X))[:1],
    "predefined": lambda: PredefinedSplit(np.where(np.arange(60) < 20, -1, np.arange(60) % 2)),
}


@pytest.mark.parametrize("kind", CVS)
@every_search
def test_every_kind_of_folds(search_class, kind):
    # Each search has its own: a generator can be read once.
    ours, theirs = twins(search_class, FoldPrint(), {"a": [1, 2]})
    ours.set_params(cv=CVS[kind]()).fit(X, y)
    theirs.set_params(cv=CVS[kind]()).fit(X, y)
    assert_same_search(ours, theirs)


@every_search
def test_a_number_of_folds_is_stratified_for_a_classifier_only(search_class):
    ordered = np.sort(y)
    ours, theirs = twins(
        search_class, DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2]}
    )
    assert_same_search(ours.fit(X, ordered), theirs.fit(X, ordered))
    ours, theirs = twins(search_class, DecisionTreeRegressor(random_state=0), {"max_depth": [1, 2]})
    assert_same_search(ours.fit(X, ordered), theirs.fit(X, ordered))


def fold_prints(search):
    results = search.cv_results_
    return np.array([results[f"split{i}_test_score"] for i in range(search.n_splits_)])


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize(
    "cv", [KFold(3, shuffle=True), ShuffleSplit(3), StratifiedKFold(3, shuffle=True)]
)
@every_search
def test_an_unseeded_splitter_gives_every_candidate_the_same_folds(search_class, cv, n_jobs):
    search = search_class(FoldPrint(), {"a": uniform(0, 1)}, n_iter=8, cv=cv, n_jobs=n_jobs)
    first = fold_prints(search.fit(X, y))
    assert first.shape == (3, 8)
    assert (first == first[:, :1]).all()
    assert len(np.unique(first)) == 3
    assert (fold_prints(search.fit(X, y)) != first).any()


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_folds_are_numbered_as_the_splitter_gives_them(n_jobs):
    search = TPESearchCV(FoldPrint(), {"a": [1, 2, 3]}, n_iter=3, cv=KFold(4), n_jobs=n_jobs)
    prints = fold_prints(search.fit(X))
    expected = [FoldPrint().fit(X[train]).score(X) for train, _ in KFold(4).split(X)]
    np.testing.assert_array_equal(prints, np.repeat(np.array(expected)[:, None], 3, axis=1))


class Wavering(KFold):
    """Says one number of splits and gives another."""

    def get_n_splits(self, X=None, y=None, groups=None):
        return 5


class Empty(KFold):
    def get_n_splits(self, X=None, y=None, groups=None):
        return 0

    def split(self, X, y=None, groups=None):
        return iter(())


def test_a_splitter_that_contradicts_itself_is_refused():
    for search in twins(TPESearchCV, FoldPrint(), {"a": [1, 2]}, cv=Wavering(2)):
        with pytest.raises(ValueError, match="inconsistent results"):
            search.fit(X)


@pytest.mark.parametrize("cv", [[], Empty(2)])
def test_no_folds_are_refused(cv):
    for search in twins(TPESearchCV, FoldPrint(), {"a": [1, 2]}, cv=cv):
        with pytest.raises(ValueError, match="Was the CV iterator empty"):
            search.fit(X)


# ---------------------------------------------------------------------- groups


@pytest.mark.parametrize("cv", [GroupKFold(3), LeaveOneGroupOut()])
@pytest.mark.parametrize("container", [np.asarray, list, pd.Series])
@every_search
def test_groups_reach_the_splitter_and_not_the_estimator(search_class, container, cv):
    ours, theirs = twins(search_class, FoldPrint(), {"a": [1, 2]}, cv=cv)
    assert_same_search(
        ours.fit(X, y, groups=container(groups)), theirs.fit(X, y, groups=container(groups))
    )


@every_search
def test_a_splitter_that_needs_groups_says_so(search_class):
    with pytest.raises(ValueError, match="'groups' parameter should not be None"):
        search_class(FoldPrint(), {"a": [1, 2]}, cv=GroupKFold(3)).fit(X, y)


@every_search
def test_groups_that_the_splitter_ignores_do_no_harm(search_class):
    ours, theirs = twins(
        search_class, FoldPrint(), {"a": [1, 2]}, cv=ShuffleSplit(2, random_state=0)
    )
    warned = fit_noting_warnings(ours, X, y, groups=groups)
    assert warned == fit_noting_warnings(theirs, X, y, groups=groups)
    assert_same_search(ours, theirs)


# ---------------------------------------------------------------------- weights

WEIGHED_SCORINGS = {
    "none": (None, True),
    "string": ("neg_mean_squared_error", True),
    "list": (["r2", "neg_mean_squared_error"], "r2"),
    "scorer": (make_scorer(mean_squared_error, greater_is_better=False), True),
}


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("kind", WEIGHED_SCORINGS)
@pytest.mark.parametrize("container", [np.asarray, list, pd.Series])
def test_weights_reach_fit_and_scorer_as_in_a_grid_search(container, kind, n_jobs):
    scoring, refit = WEIGHED_SCORINGS[kind]
    options = {"scoring": scoring, "refit": refit, "cv": 3, "n_jobs": n_jobs}
    ours, theirs = twins(TPESearchCV, Ridge(), ALPHA, **options, return_train_score=True)
    weights = container(weight)
    assert_same_search(
        ours.fit(X, target, sample_weight=weights), theirs.fit(X, target, sample_weight=weights)
    )
    np.testing.assert_array_equal(ours.best_estimator_.coef_, theirs.best_estimator_.coef_)


# scikit-learn scores with weights, without routing, from 1.7 on.
scores_with_weights = hasattr(GridSearchCV, "_check_scorers_accept_sample_weight")


@every_search
def test_weights_change_both_what_is_fitted_and_what_is_scored(search_class):
    options = {"n_iter": 2, "cv": 3, "initial_params": [{"a": 1}, {"a": 2}]}
    search = search_class(Weighed(), {"a": [1, 2]}, **options).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [0, 0])
    search.fit(X, y, sample_weight=np.full(60, 2.0))
    # 40 samples to train on of weight 2 each, 20 to test on.
    expected = 80 + (40_000 if scores_with_weights else 0)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [expected, expected])


@every_search
def test_a_scorer_that_takes_no_weights_is_warned_of_as_by_a_grid_search(search_class):
    scoring = make_scorer(max_error, greater_is_better=False)
    ours, theirs = twins(search_class, Ridge(), ALPHA, scoring=scoring, cv=2)
    warned = fit_noting_warnings(ours, X, target, sample_weight=weight)
    expected = fit_noting_warnings(theirs, X, target, sample_weight=weight)
    assert [kind for kind, _ in warned] == [kind for kind, _ in expected]
    assert [text.split(" when ")[0] for _, text in warned] == [
        text.split(" when ")[0] for _, text in expected
    ]
    assert_same_search(ours, theirs)


@every_search
def test_other_parameters_of_fit_are_passed_on_whole_or_split(search_class):
    ours, theirs = twins(search_class, Weighed(), {"a": [1, 2]}, cv=3)
    for extra in ({"bonus": 7.0}, {"bonus": np.arange(60.0)}, {"bonus": None}):
        assert_same_search(ours.fit(X, y, **extra), theirs.fit(X, y, **extra))
    assert ours.fit(X, y, bonus=7.0).best_score_ == 7.0
    with pytest.raises(ValueError, match="unexpected keyword argument 'malus'"):
        ours.fit(X, y, malus=1)


# ---------------------------------------------------------------------- metadata routing


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize(("to_fit", "to_score"), [(True, True), (True, False), (False, True)])
def test_weights_are_routed_as_in_a_grid_search(to_fit, to_score, n_jobs):
    estimator = Ridge().set_fit_request(sample_weight=to_fit)
    estimator.set_score_request(sample_weight=to_score)
    ours, theirs = twins(TPESearchCV, estimator, ALPHA, cv=3, n_jobs=n_jobs)
    assert_same_search(
        ours.fit(X, target, sample_weight=weight), theirs.fit(X, target, sample_weight=weight)
    )
    passed = {"sample_weight": weight} if to_score else {}
    assert ours.score(X, target, **passed) == theirs.score(X, target, **passed)


@pytest.mark.usefixtures("routing")
@every_search
def test_routed_weights_arrive_where_they_are_requested_only(search_class):
    options = {"n_iter": 2, "cv": 3, "initial_params": [{"a": 1}, {"a": 2}]}
    for to_fit, to_score, expected in (
        (True, True, 80 + 40_000),
        (True, False, 80),
        (False, True, 40_000),
        (False, False, 0),
    ):
        estimator = Weighed().set_fit_request(sample_weight=to_fit, bonus=False)
        estimator.set_score_request(sample_weight=to_score)
        search = search_class(estimator, {"a": [1, 2]}, **options)
        if to_fit or to_score:
            search.fit(X, y, sample_weight=np.full(60, 2.0))
        else:
            search.fit(X, y)
        np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [expected, expected])


@pytest.mark.usefixtures("routing")
@every_search
def test_weights_are_routed_to_scorers_by_name(search_class):
    scoring = {
        "weighed": make_scorer(mean_squared_error, greater_is_better=False).set_score_request(
            sample_weight=True
        ),
        "plain": make_scorer(mean_squared_error, greater_is_better=False).set_score_request(
            sample_weight=False
        ),
        "renamed": make_scorer(mean_squared_error, greater_is_better=False).set_score_request(
            sample_weight="importance"
        ),
    }
    estimator = Ridge().set_fit_request(sample_weight=True)
    ours, theirs = twins(search_class, estimator, ALPHA, cv=3, scoring=scoring, refit="weighed")
    params = {"sample_weight": weight, "importance": weight[::-1]}
    assert_same_search(ours.fit(X, target, **params), theirs.fit(X, target, **params))
    means = [ours.cv_results_[f"mean_test_{name}"] for name in scoring]
    assert (means[0] != means[1]).all()
    assert (means[0] != means[2]).all()


@pytest.mark.usefixtures("routing")
@every_search
def test_weights_nobody_asked_for_are_refused(search_class):
    for search in twins(search_class, Ridge(), ALPHA, cv=3):
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            search.fit(X, target, sample_weight=weight)


@pytest.mark.usefixtures("routing")
@every_search
def test_metadata_nobody_knows_is_refused(search_class):
    for search in twins(search_class, Ridge(), ALPHA, cv=3):
        with pytest.raises(TypeError, match=r"unexpected argument.*nonsense"):
            search.fit(X, target, nonsense=weight)


@pytest.mark.usefixtures("routing")
@every_search
def test_groups_are_routed_to_the_splitter(search_class):
    ours, theirs = twins(search_class, FoldPrint(), {"a": [1, 2]}, cv=GroupKFold(3))
    assert_same_search(ours.fit(X, y, groups=groups), theirs.fit(X, y, groups=groups))


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("n_jobs", [None, 2])
@every_search
def test_routing_without_any_metadata(search_class, n_jobs):
    ours, theirs = twins(search_class, LogisticRegression(), C, cv=3, n_jobs=n_jobs)
    assert_same_search(ours.fit(X, y), theirs.fit(X, y))
    assert ours.score(X, y) == theirs.score(X, y)


@pytest.mark.usefixtures("routing")
@every_search
def test_weights_and_groups_are_routed_through_pipeline_and_cross_validation(search_class):
    estimator = make_pipeline(StandardScaler(), Ridge().set_fit_request(sample_weight=True))
    estimator[0].set_fit_request(sample_weight=False)
    scorer = make_scorer(mean_squared_error, greater_is_better=False)
    scorer.set_score_request(sample_weight=True)
    grid = {"ridge__alpha": [0.1, 30.0]}
    params = {"sample_weight": weight, "groups": groups}
    scores = [
        cross_val_score(
            search, X, target, cv=GroupKFold(2), scoring=scorer, params=params, error_score="raise"
        )
        for search in twins(search_class, estimator, grid, cv=GroupKFold(2), scoring=scorer)
    ]
    np.testing.assert_array_equal(scores[0], scores[1])


@every_search
def test_the_routing_of_a_search_is_that_of_a_random_search(search_class):
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = Ridge().set_fit_request(sample_weight=True)
        ours = search_class(estimator, ALPHA, cv=GroupKFold(2)).get_metadata_routing()
        theirs = RandomizedSearchCV(estimator, ALPHA, cv=GroupKFold(2)).get_metadata_routing()
    assert str(ours) == str(theirs)


def test_without_routing_a_score_takes_no_metadata():
    ours, theirs = twins(TPESearchCV, Ridge(), ALPHA, cv=3)
    for search in (ours.fit(X, target), theirs.fit(X, target)):
        with pytest.raises(ValueError, match="enable_metadata_routing=True"):
            search.score(X, target, sample_weight=weight)


# ---------------------------------------------------------------------- configuration


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_the_configuration_reaches_every_fit(n_jobs):
    pipeline = make_pipeline(StandardScaler(), Named())
    ours, theirs = twins(TPESearchCV, pipeline, {"named__a": [1, 2]}, cv=2, n_jobs=n_jobs)
    frame = pd.DataFrame(X, columns=NAMES)
    with sklearn.config_context(transform_output="pandas"):
        assert_same_search(ours.fit(frame, y), theirs.fit(frame, y))
    assert ours.best_score_ == 4
