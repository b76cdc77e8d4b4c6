"""Promoted candidates go on from what was fitted, and nobody can tell but by the clock."""

from __future__ import annotations

import pickle
import re
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from joblib import parallel_config
from scipy.sparse import csr_matrix
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification, make_regression
from sklearn.decomposition import PCA
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
from sklearn.feature_selection import RFECV, SelectKBest, f_classif, mutual_info_classif
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from tunein import Halving, TPESearchCV
from tunein import _kept as kept
from tunein import _warm as warm
from tunein._halving import Ladder
from tunein._kept import KeptFits

X, Y = make_classification(150, 8, n_informative=5, n_classes=3, random_state=0)
XR, YR = make_regression(150, 8, noise=20.0, random_state=0)
POSITIVE = np.exp(YR / 200)
WEIGHTS = np.random.default_rng(0).uniform(0.5, 2, len(X))


class OwnForest(RandomForestClassifier):
    """May do what it likes."""


class OwnScaler(StandardScaler):
    """So may this."""


def without_change(X):
    return X


class Splitter(KFold):
    """And this."""


class Unsendable(DecisionTreeClassifier):
    """Refuses to be pickled."""

    def __reduce__(self):
        raise TypeError("not to be pickled")


def seeded(cls, **params):
    return cls(random_state=1, **params)


def named(first, last):
    return Pipeline([("first", first), ("last", last)])


CLASSIFIERS = [
    seeded(RandomForestClassifier),
    seeded(RandomForestClassifier, oob_score=True, max_samples=0.4),
    seeded(RandomForestClassifier, class_weight={0: 1, 1: 2, 2: 0.5}, criterion="entropy"),
    seeded(ExtraTreesClassifier, max_features=3),
    seeded(ExtraTreesClassifier, bootstrap=True, max_samples=20, n_jobs=2),
    seeded(BaggingClassifier),
    seeded(BaggingClassifier, estimator=LogisticRegression(max_iter=500), max_samples=0.5),
    seeded(BaggingClassifier, estimator=DecisionTreeClassifier(max_features=2), max_features=0.5),
    seeded(BaggingClassifier, bootstrap_features=True),
    seeded(GradientBoostingClassifier),
    seeded(GradientBoostingClassifier, subsample=0.6, max_features=3),
    seeded(GradientBoostingClassifier, init="zero", learning_rate=0.7),
    seeded(GradientBoostingClassifier, init=LogisticRegression(max_iter=500, random_state=0)),
    seeded(HistGradientBoostingClassifier),
    seeded(HistGradientBoostingClassifier, max_features=0.4, class_weight="balanced"),
]
REGRESSORS = [
    seeded(RandomForestRegressor),
    seeded(RandomForestRegressor, oob_score=True, max_samples=0.5, ccp_alpha=0.1),
    seeded(ExtraTreesRegressor, max_features=0.5),
    seeded(RandomTreesEmbedding),
    seeded(BaggingRegressor),
    *[
        seeded(GradientBoostingRegressor, loss=loss, subsample=0.7)
        for loss in ("squared_error", "absolute_error", "huber", "quantile")
    ],
    seeded(GradientBoostingRegressor, init=Ridge(random_state=0), ccp_alpha=0.2),
    *[
        seeded(HistGradientBoostingRegressor, loss=loss, max_features=0.5)
        for loss in ("squared_error", "absolute_error", "poisson", "gamma")
    ],
    seeded(HistGradientBoostingRegressor, loss="quantile", quantile=0.7),
]
LOSING_STEPS = "ignore:Some inputs do not have OOB scores:UserWarning"


def resource_of(estimator):
    return "max_iter" if hasattr(estimator, "max_iter") else "n_estimators"


def without_addresses(value):
    """Name a case alike in all processes."""
    return re.sub(r" at 0x\w+", "", repr(value))


def data_of(estimator):
    if estimator in CLASSIFIERS:
        return X, Y
    return XR, POSITIVE if getattr(estimator, "loss", "") in ("poisson", "gamma") else YR


def outputs(fitted, X):
    """Return all that a fitted estimator says of the data, and of its fit."""
    found = []
    for name in ("predict", "predict_proba", "decision_function", "transform"):
        if hasattr(fitted, name):
            out = getattr(fitted, name)(X)
            found.append(out.toarray() if hasattr(out, "toarray") else out)
    names = ("oob_score_", "feature_importances_", "train_score_", "oob_improvement_")
    return found + [np.asarray(getattr(fitted, name)) for name in names if hasattr(fitted, name)]


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# --------------------------------------------------------------------- what grows


@pytest.mark.filterwarnings(LOSING_STEPS)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("estimator", CLASSIFIERS + REGRESSORS, ids=without_addresses)
def test_what_has_grown_is_what_was_fitted_from_nothing(estimator, weights):
    X, y = data_of(estimator)
    name = resource_of(estimator)
    fit_params = {} if weights is None else {"sample_weight": weights}
    grown = clone(estimator).set_params(**{name: 3}).fit(X, y, **fit_params)
    for n in (7, 20):
        assert warm.grows_exactly(grown, name)
        grown.set_params(warm_start=True, **{name: n}).fit(X, y, **fit_params)
        whole = clone(estimator).set_params(**{name: n}).fit(X, y, **fit_params)
        assert_same(outputs(grown, X), outputs(whole, X))


def test_it_is_so_with_sparse_data():
    sparse = csr_matrix(np.where(X > 0.5, X, 0))
    for estimator in (CLASSIFIERS[0], seeded(GradientBoostingClassifier, subsample=0.7)):
        grown = clone(estimator).set_params(n_estimators=4).fit(sparse, Y)
        grown.set_params(warm_start=True, n_estimators=15).fit(sparse, Y)
        whole = clone(estimator).set_params(n_estimators=15).fit(sparse, Y)
        assert_same(outputs(grown, sparse), outputs(whole, sparse))


def test_every_class_on_the_list_is_tried():
    assert {type(estimator) for estimator in CLASSIFIERS + REGRESSORS} == set(warm._GROWING)


@pytest.mark.filterwarnings(LOSING_STEPS)
@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (RandomForestClassifier(), "n_estimators"),
        (RandomForestClassifier(random_state=np.random.RandomState(0)), "n_estimators"),
        (seeded(RandomForestClassifier), "max_depth"),
        (seeded(RandomForestClassifier, class_weight="balanced"), "n_estimators"),
        (seeded(OwnForest), "n_estimators"),
        (seeded(BaggingClassifier, oob_score=True), "n_estimators"),
        (seeded(GradientBoostingClassifier, n_iter_no_change=3), "n_estimators"),
        (seeded(GradientBoostingClassifier, init=LogisticRegression(max_iter=500)), "n_estimators"),
        (seeded(HistGradientBoostingClassifier, early_stopping=True), "max_iter"),
        (HistGradientBoostingClassifier(), "max_iter"),
        (seeded(SGDClassifier), "max_iter"),
        (seeded(LogisticRegression, max_iter=500), "max_iter"),
        (seeded(MLPClassifier, max_iter=3, solver="lbfgs"), "max_iter"),
        (
            named(PCA(2, svd_solver="randomized"), seeded(RandomForestClassifier)),
            "last__n_estimators",
        ),
        (named(StandardScaler(), RandomForestClassifier()), "last__n_estimators"),
        (named(PCA(2, random_state=0), seeded(RandomForestClassifier)), "first__n_components"),
        *[
            (named(first, seeded(RandomForestClassifier)), "last__n_estimators")
            for first in (
                SelectKBest(mutual_info_classif, k=2),
                SelectKBest(partial(mutual_info_classif, random_state=0), k=2),
                FunctionTransformer(without_change),
                OwnScaler(),
                FeatureUnion([("own", OwnScaler())]),
                RFECV(DecisionTreeClassifier(random_state=0), cv=Splitter(3)),
                RFECV(DecisionTreeClassifier(random_state=0), cv=KFold(3, shuffle=True)),
            )
        ],
    ],
    ids=without_addresses,
)
def test_nothing_else_grows(estimator, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not warm.grows_exactly(clone(estimator).fit(X, Y), name)


@pytest.mark.parametrize(
    "first",
    [
        SelectKBest(f_classif, k=2),
        FunctionTransformer(np.square),
        PCA(2),  # few samples: of the exact solver
        ColumnTransformer([("all", OneHotEncoder(dtype=np.float32), [0])], remainder="passthrough"),
        RFECV(DecisionTreeClassifier(random_state=0), cv=KFold(3, shuffle=True, random_state=0)),
        FeatureUnion([("scale", StandardScaler()), ("pca", PCA(2, random_state=0))]),
        "passthrough",
    ],
    ids=without_addresses,
)
def test_steps_that_come_out_the_same_are_no_hindrance(first):
    pipeline = named(first, seeded(RandomForestClassifier, n_estimators=3))
    assert warm.grows_exactly(pipeline.fit(np.round(X), Y), "last__n_estimators")


def test_no_ensemble_is_grown_on_two_choices_of_features(taken):
    """Rows of equal values: which features carry most information is a matter of chance."""
    pipeline = named(SelectKBest(mutual_info_classif, k=2), FOREST)
    space = {"last__max_depth": [1, 2, 3, 5]}
    search = searched(pipeline, "last__n_estimators", space, n_iter=4).fit(np.sign(X), Y)
    assert search.n_candidates_[-1] > 0
    assert taken == []


@pytest.mark.parametrize(
    "estimator",
    [
        seeded(GradientBoostingClassifier, n_iter_no_change=2, learning_rate=0.5),
        seeded(HistGradientBoostingClassifier, early_stopping=True, learning_rate=0.5, tol=0.5),
    ],
    ids=without_addresses,
)
def test_with_early_stopping_it_would_be_another(estimator):
    name = resource_of(estimator)
    grown = clone(estimator).set_params(**{name: 30}).fit(X, Y)
    grown.set_params(warm_start=True, **{name: 90}).fit(X, Y)
    whole = clone(estimator).set_params(**{name: 90}).fit(X, Y)
    assert not np.array_equal(grown.predict_proba(X), whole.predict_proba(X))


# --------------------------------------------------------------------- the search


FOREST = seeded(RandomForestClassifier, n_estimators=18)
BOOSTING = seeded(GradientBoostingClassifier, n_estimators=18, subsample=0.8)
HISTOGRAMS = seeded(HistGradientBoostingClassifier, max_iter=18)
PIPELINE = make_pipeline(StandardScaler(), PCA(4, random_state=0), FOREST)
SPACES = [
    (FOREST, "n_estimators", {"max_features": [1, 2, 4, 8], "max_depth": [2, 3, 5, None]}),
    (BOOSTING, "n_estimators", {"learning_rate": loguniform(0.01, 1), "max_depth": [1, 2, 3]}),
    (HISTOGRAMS, "max_iter", {"learning_rate": loguniform(0.01, 1), "max_leaf_nodes": [3, 7]}),
    (
        PIPELINE,
        "randomforestclassifier__n_estimators",
        {"randomforestclassifier__max_depth": [1, 2, 3, None], "pca__n_components": [2, 3, 4, 8]},
    ),
    (
        make_pipeline(StandardScaler(), FOREST),
        "randomforestclassifier__n_estimators",
        {  # the step itself is searched, and set anew: what was kept of it is not gone on with
            "randomforestclassifier": [FOREST, seeded(ExtraTreesClassifier)],
            "randomforestclassifier__max_depth": [1, 2, 3, None],
        },
    ),
    (
        seeded(BaggingClassifier, n_estimators=18, warm_start=True),
        "n_estimators",
        {
            "estimator": [DecisionTreeClassifier(max_depth=depth) for depth in (1, 2, 4)],
            "max_samples": [0.2, 0.5, 0.9],
        },
    ),
]
NAMES = ["forest", "boosting", "hist", "pipe", "steps", "bag"]
every_space = pytest.mark.parametrize(("estimator", "resource", "space"), SPACES, ids=NAMES)


def searched(estimator=FOREST, resource="n_estimators", space=SPACES[0][2], **options):
    return TPESearchCV(
        estimator,
        space,
        racing=options.pop("racing", Halving(resource, min_resources=2)),
        **{"n_iter": 9, "cv": 3, "random_state": 0, "refit": False, **options},
    )


def depth_of_first_tree(estimator, X, y):
    return estimator.estimators_[0].get_depth()


def results(search):
    """Return all of the results but times."""
    columns = {k: v for k, v in search.cv_results_.items() if not k.endswith("_time")}
    return repr({k: v if k == "params" else np.asarray(v).tolist() for k, v in columns.items()})


@pytest.fixture
def taken(monkeypatch):
    """Return the list of trials and folds that go on from a fit."""
    found, take = [], KeptFits.take

    def spy(self, proposal, fold):
        content = take(self, proposal, fold)
        if content is not None:
            found.append((proposal.parent, fold))
        return content

    monkeypatch.setattr(KeptFits, "take", spy)
    return found


@every_space
def test_the_search_is_the_same_to_the_last_bit(estimator, resource, space, taken, monkeypatch):
    options = {"estimator": estimator, "resource": resource, "space": space}
    grown = searched(**options, return_train_score=True).fit(X, Y)
    n_promoted = sum(trial.proposal.parent is not None for trial in grown.history_)
    assert len(taken) == 3 * n_promoted == len(set(taken))
    monkeypatch.setattr(warm, "_GROWING", {})
    whole = searched(**options, return_train_score=True).fit(X, Y)
    assert len(taken) == 3 * n_promoted
    assert results(grown) == results(whole)
    assert grown.best_params_ == whole.best_params_


@pytest.mark.parametrize("brackets", [1, "all"])
@pytest.mark.parametrize("case", [0, 3], ids=[NAMES[0], NAMES[3]])
def test_of_an_ensemble_only_what_is_missing_is_fitted(case, brackets, monkeypatch):
    trees, fit = [], DecisionTreeClassifier._fit
    monkeypatch.setattr(
        DecisionTreeClassifier, "_fit", lambda self, *a, **k: trees.append(1) or fit(self, *a, **k)
    )
    estimator, resource, space = SPACES[case]
    racing = Halving(resource, min_resources=2, brackets=brackets)
    search = searched(estimator, space=space, racing=racing).fit(X, Y)
    n_trees = {trial.number: trial.proposal.resource for trial in search.history_}
    already = [n_trees.get(trial.proposal.parent, 0) for trial in search.history_]
    assert len(trees) == 3 * (sum(n_trees.values()) - sum(already))
    assert sum(already) > 0


@pytest.mark.parametrize("backend", ["threading", "loky", "multiprocessing"])
def test_it_is_the_same_with_workers_of_any_kind(backend, taken, monkeypatch):
    with parallel_config(backend):
        grown = searched(n_jobs=2).fit(X, Y)
        assert len(set(taken)) == len(taken) > 0
        monkeypatch.setattr(Ladder, "grown", None)  # as workers do not hear of _GROWING
        n_taken = len(taken)
        assert results(searched(n_jobs=2).fit(X, Y)) == results(grown)
        assert len(taken) == n_taken


def test_workers_do_go_on(monkeypatch):
    """A fit that was tampered with tells: what grows from a stump has it for its first tree."""
    stump = seeded(RandomForestClassifier, n_estimators=1, max_depth=1).fit(X, Y)
    content, keep = warm.packed(stump, "n_estimators"), KeptFits.keep

    def tamper(self, number, fold, score):
        return keep(self, number, fold, replace(score, fitted=content))

    options = {"n_jobs": 2, "scoring": depth_of_first_tree}
    assert searched(**options).fit(X, Y).best_score_ > 1
    monkeypatch.setattr(KeptFits, "keep", tamper)
    assert searched(**options).fit(X, Y).best_score_ == 1


@pytest.mark.parametrize("keep", [12, 20, 33])
def test_a_search_that_is_gone_on_with_fits_from_nothing_what_it_has_not(keep, tmp_path, taken):
    path = tmp_path / "search.jsonl"
    whole = searched(checkpoint=path).fit(X, Y)
    n_taken = len(taken)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:keep]))
    assert results(searched(checkpoint=path).fit(X, Y)) == results(whole)
    assert len(taken) - n_taken < n_taken


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_a_fold_that_failed_has_nothing_to_go_on_from(monkeypatch, taken):
    fit = RandomForestClassifier.fit

    def fails(self, *args, **kwargs):
        if self.max_features == 4 or (self.max_features == 8 and self.n_estimators > 2):
            raise ValueError("no")
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(RandomForestClassifier, "fit", fails)
    grown = searched().fit(X, Y)
    assert any(np.isnan(grown.history_.means))
    assert taken
    monkeypatch.setattr(warm, "_GROWING", {})
    np.testing.assert_array_equal(
        searched().fit(X, Y).cv_results_["mean_test_score"], grown.cv_results_["mean_test_score"]
    )


def test_with_less_rows_nothing_is_kept(taken):
    searched(racing=Halving("n_samples", min_resources=50)).fit(X, Y)
    assert taken == []


# --------------------------------------------------------------------- what it costs


def test_no_more_is_kept_than_may_be_wanted(monkeypatch):
    sizes, drop = [], KeptFits.drop_needless

    def spy(self):
        drop(self)
        sizes.append(len(self._kept))
        assert self.n_bytes == sum(map(len, self._kept.values()))

    monkeypatch.setattr(KeptFits, "drop_needless", spy)
    searched(n_iter=16, space={"max_depth": range(1, 17)}).fit(X, Y)
    assert 0 < max(sizes) <= 3 * (5 + 1)  # of sixteen five go up, and of those one
    assert sizes[-1] <= 3 * 2


def test_nothing_that_was_fitted_is_left_in_the_search(taken):
    search = searched().fit(X, Y)
    assert taken
    assert all(score.fitted is None for trial in search.history_ for score in trial.scores)
    assert b"tree._tree" not in pickle.dumps(search)
    assert b"tree._tree" in warm.packed(clone(FOREST).fit(X, Y), "n_estimators")


def test_what_takes_too_much_memory_is_fitted_again(monkeypatch, taken):
    whole = results(searched().fit(X, Y))
    assert taken
    n_taken = len(taken)
    monkeypatch.setattr(kept, "MAX_BYTES_IN_ALL", 10)
    assert results(searched().fit(X, Y)) == whole
    monkeypatch.undo()
    monkeypatch.setattr(warm, "MAX_BYTES", 10)
    assert results(searched().fit(X, Y)) == whole
    assert len(taken) == n_taken


def test_members_that_cannot_be_pickled_are_no_error(taken):
    bagging = seeded(BaggingClassifier, estimator=Unsendable(max_depth=2), n_estimators=18)
    search = searched(bagging, space={"max_samples": [0.1, 0.2, 0.4, 0.6, 0.8]}, n_iter=5)
    assert np.isfinite(search.fit(X, Y).best_score_)
    assert taken == []
