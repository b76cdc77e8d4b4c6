"""Transformers that are not tuned: fitted once for a fold, and nobody can tell but by the time."""

from __future__ import annotations

import collections
import pickle
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import sklearn
from joblib import parallel_config
from scipy import sparse
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_regression, mutual_info_regression
from sklearn.impute import IterativeImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import Lasso, Ridge
from sklearn.manifold import Isomap
from sklearn.metrics import get_scorer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    PolynomialFeatures,
    StandardScaler,
    scale,
)
from sklearn.svm import SVR

from tunein import BayesSearchCV, Choice, HyperGradSearchCV
from tunein import _fronts as fronts

X, y = load_diabetes(return_X_y=True)
X, y = X[:150], (y[:150] - y.mean()) / y.std()
W = np.random.default_rng(0).uniform(0.5, 2, len(y))
WIDE = loguniform(1e-3, 1e3)

RNG = np.random.default_rng(0)
WORDS = np.array([f"word{i}" for i in range(60)])
TEXT = np.array([" ".join(RNG.choice(WORDS, 12)) for _ in range(150)], dtype=object)
TABLE = pd.DataFrame(X[:, :4], columns=list("abcd")).assign(e=np.where(X[:, 5] > 0, "u", "v"))


def search(estimator, space, **options):
    return HyperGradSearchCV(
        estimator, space, **{"random_state": 0, "cv": 3, "n_iter": 6, **options}
    )


@pytest.fixture
def nothing_is_kept(monkeypatch):
    """Return a context manager in which all is fitted for each candidate."""

    @contextmanager
    def without():
        with monkeypatch.context() as patch:
            patch.setattr(fronts.Fronts, "enter", lambda self, estimator, fold: None)
            yield

    return without


class OwnScaler(TransformerMixin, BaseEstimator):
    """Of whom nobody knows what it does."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X


@pytest.fixture
def counted(monkeypatch):
    """Count the calls of a scaler's methods: which, and of how many samples."""
    calls = collections.Counter()

    def count(name):
        method = getattr(StandardScaler, name)

        def counting(self, X, *args, **kwargs):
            calls[name, len(X)] += 1
            return method(self, X, *args, **kwargs)

        monkeypatch.setattr(StandardScaler, name, counting)

    count("fit")
    count("transform")
    return calls


def assert_same_results(one, two):
    keys = [key for key in one.cv_results_ if "time" not in key]
    assert keys == [key for key in two.cv_results_ if "time" not in key]
    for key in keys:
        values = one.cv_results_[key], two.cv_results_[key]
        if not (isinstance(values[0], np.ndarray) and values[0].dtype.kind in "fi"):
            values = [list(map(repr, column)) for column in values]  # estimators equal nothing
        np.testing.assert_array_equal(*values, err_msg=key)


# --------------------------------------------------------------------- how often


def test_a_scaler_is_fitted_once_for_a_fold(counted):
    found = search(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": WIDE}).fit(X, y)
    n = len(found.cv_results_["params"])
    assert n > 2
    assert counted == {
        ("fit", 100): 3,
        ("transform", 100): 3 + 3,  # by the fits and for the first hypergradients
        ("transform", 50): 3 + 3 * n,  # for the first hypergradients and by scorers
        ("fit", 150): 1,  # the refit
        ("transform", 150): 1,
    }


def test_threads_share_what_is_kept(counted):
    space = {"ridge__alpha": WIDE}
    with parallel_config("threading"):
        found = search(make_pipeline(StandardScaler(), Ridge()), space, n_jobs=2).fit(X, y)
    assert counted["fit", 100] == 3
    one = search(make_pipeline(StandardScaler(), Ridge()), space).fit(X, y)
    assert_same_results(found, one)


def n_kept(estimator, X, y):
    """Score, and tell what the process of the worker keeps."""
    [here] = fronts._here
    return {
        "score": estimator.score(X, y),
        "kept": len(here._made),
        "token": int(here._token[:8], 16),
    }


def test_processes_keep_what_they_have_made():
    pipeline = make_pipeline(StandardScaler(), Ridge())
    options = {"n_jobs": 2, "scoring": n_kept, "refit": "score", "loss": "r2"}
    tokens = set()
    for n in (1, 2):  # the same workers, which forget the search before
        found = search(pipeline, {"ridge__alpha": WIDE}, **options).fit(X, y)
        results = found.cv_results_
        assert results["split0_test_kept"].min() >= 1
        tokens.update(token for i in range(3) for token in results[f"split{i}_test_token"])
        assert len(tokens) == n
        one = search(pipeline, {"ridge__alpha": WIDE}).fit(X, y).cv_results_["mean_test_score"]
        # Of a scorer that is not known the loss is a proxy, after which the search goes on.
        np.testing.assert_array_equal(results["mean_test_score"][: len(one)], one)


def test_in_another_process_it_is_what_is_kept_there():
    one, two = fronts.Fronts(["alpha"], 100), fronts.Fronts(["alpha"], 100)
    here = pickle.loads(pickle.dumps(one))
    assert pickle.loads(pickle.dumps(one)) is here
    assert pickle.loads(pickle.dumps(here)) is here
    assert pickle.loads(pickle.dumps(two)) is not here


def test_other_searches_fit_everything(counted):
    BayesSearchCV(
        make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": WIDE}, n_iter=4, cv=3,
        random_state=0, refit=False,
    ).fit(X, y)  # fmt: skip
    assert counted["fit", 100] == 3 * 4


def test_nothing_is_kept_without_hypergradients(counted):
    pipeline = make_pipeline(StandardScaler(), Ridge())
    search(pipeline, {"ridge__alpha": WIDE}, gradient="surrogate", n_iter=4, refit=False).fit(X, y)
    assert counted["fit", 100] == 3 * 4


# --------------------------------------------------------------------- to the last bit


MIXED = ColumnTransformer([("n", StandardScaler(), ["a", "b"]), ("c", OneHotEncoder(), ["e"])])
RIDGE = {"ridge__alpha": WIDE}
ALPHA = loguniform(1e-3, 1)

CASES = {
    # What PCA hands on has gaps in memory, and SVR takes a variance of all of it.
    "gaps": (make_pipeline(PCA(3), SVR()), {"svr__C": WIDE}, X),
    "two": (
        make_pipeline(PolynomialFeatures(2), StandardScaler(), Lasso()), {"lasso__alpha": ALPHA}, X
    ),
    "in place": (make_pipeline(StandardScaler(copy=False), Ridge(copy_X=False)), RIDGE, X),
    "model in place": (make_pipeline(StandardScaler(), Ridge(copy_X=False)), RIDGE, X),
    # Of what hands on its own samples, whoever writes into them changes those of train scores.
    "handed on": (
        make_pipeline(FunctionTransformer(), StandardScaler(copy=False), Ridge()), RIDGE, X
    ),
    "model in place of all": (make_pipeline(FunctionTransformer(), Ridge(copy_X=False)), RIDGE, X),
    "handed on, sparse": (
        make_pipeline(
            FunctionTransformer(accept_sparse=True),
            StandardScaler(with_mean=False, copy=False), Ridge(),
        ), RIDGE, sparse.csr_array(X),
    ),
    # It draws from the same generator each time that it transforms.
    "drawn": (
        make_pipeline(
            IterativeImputer(sample_posterior=True, random_state=0, max_iter=2), Ridge()
        ), RIDGE, np.where(RNG.random(X.shape) < 0.1, np.nan, X),
    ),
    "text": (make_pipeline(TfidfVectorizer(), Ridge()), RIDGE, TEXT),
    "sparse": (
        make_pipeline(StandardScaler(with_mean=False), Lasso()), {"lasso__alpha": ALPHA},
        sparse.csr_array(X),
    ),
    "by targets": (make_pipeline(SelectKBest(f_regression, k=4), Ridge()), RIDGE, X),
    "columns": (make_pipeline(MIXED, Ridge()), RIDGE, TABLE),
    "table": (
        make_pipeline(StandardScaler().set_output(transform="pandas"), PCA(3), Ridge()), RIDGE, X
    ),
    "model inside": (
        make_pipeline(StandardScaler(), "passthrough", make_pipeline(PCA(4), Ridge())),
        {"pipeline__ridge__alpha": WIDE}, X,
    ),
    "front inside": (make_pipeline(make_pipeline(StandardScaler(), PCA(4)), Ridge()), RIDGE, X),
    "smooth": (
        make_pipeline(StandardScaler(), Nystroem(n_components=9, random_state=0), Ridge()),
        {**RIDGE, "nystroem__gamma": loguniform(1e-2, 1)}, X,
    ),
    "tuned": (
        make_pipeline(StandardScaler(), PCA(random_state=0), Ridge()),
        {**RIDGE, "pca__n_components": [2, 3, 4, 5]}, X,
    ),
    "replaced": (
        make_pipeline(StandardScaler(), make_pipeline(PCA(3), Ridge())),
        {"pipeline": Choice([
            (Ridge(), {"pipeline__alpha": WIDE}),
            (make_pipeline(PCA(2), Lasso()), {"pipeline__lasso__alpha": ALPHA}),
        ])}, X,
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Objective did not converge")
@pytest.mark.parametrize("case", CASES)
def test_it_changes_no_result(case, nothing_is_kept):
    pipeline, space, samples = CASES[case]
    found = search(pipeline, space, return_train_score=True, n_iter=9)
    one = clone(found).fit(samples.copy(), y)
    with nothing_is_kept():
        two = clone(found).fit(samples.copy(), y)
    assert np.isfinite(one.cv_results_["loss"]).any()
    assert_same_results(one, two)
    np.testing.assert_array_equal(one.predict(samples.copy()), two.predict(samples.copy()))


def test_nor_with_weights_for_a_transformer(nothing_is_kept):
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        ridge = Ridge().set_fit_request(sample_weight=True)
        scorer = get_scorer("r2").set_score_request(sample_weight=True)
        found = search(make_pipeline(scaler, ridge), RIDGE, scoring=scorer)
        one = clone(found).fit(X, y, sample_weight=W)
        with nothing_is_kept():
            two = clone(found).fit(X, y, sample_weight=W)
    assert_same_results(one, two)
    plain = clone(found).fit(X, y).cv_results_["mean_test_score"]
    assert plain[0] != one.cv_results_["mean_test_score"][0]


# --------------------------------------------------------------------- what is kept


def passed(pipeline, names=("ridge__alpha",), samples=X, max_bytes=2**30):
    """Fit a pipeline, and return how many steps are kept."""
    kept = fronts.Fronts(names, max_bytes)
    twin = clone(pipeline)
    kept.enter(twin, 0)
    twin.fit(samples, y)
    made = kept.made(0)
    return 0 if made is None else len(made.steps)


@pytest.mark.parametrize(
    ("n", "front"),
    [
        (1, [StandardScaler()]),
        (2, [StandardScaler(), "passthrough", PCA(3)]),
        (1, [PCA(3, svd_solver="randomized", random_state=0)]),
        (1, [FunctionTransformer(np.square)]),
        (1, [StandardScaler(), TruncatedSVD(3), StandardScaler()]),
        (1, [make_pipeline(StandardScaler(), PCA(3))]),
    ],
    ids=str,
)
def test_steps_that_come_out_the_same_are_kept(n, front):
    assert passed(make_pipeline(*front, Ridge())) == n


@pytest.mark.parametrize(
    "first",
    [
        PCA(3, svd_solver="randomized"),
        PCA(3, svd_solver="arpack", random_state=np.random.RandomState(0)),
        Isomap(n_components=2),
        SelectKBest(mutual_info_regression, k=3),
        FunctionTransformer(lambda X: X),
        OwnScaler(),
        FeatureUnion([("own", OwnScaler()), ("scale", StandardScaler())]),
        FunctionTransformer(),
        FunctionTransformer(scale, kw_args={"copy": False}),
        IterativeImputer(sample_posterior=True, random_state=0, max_iter=1),
        ColumnTransformer([("i", IterativeImputer(random_state=0, max_iter=1), [0, 1])]),
        FunctionTransformer(np.nan_to_num, kw_args={"copy": False}),
        ColumnTransformer([("scale", StandardScaler(), lambda X: [0, 1])]),  # cannot be pickled
        StandardScaler(copy=False),
    ],
    ids=str,
)
def test_others_are_not(first):
    assert passed(make_pipeline(first, StandardScaler(), Ridge())) == 0


def test_functions_that_belong_to_no_module_are_no_hindrance():
    pipeline = make_pipeline(TfidfVectorizer(preprocessor=str.lower), Ridge())
    assert passed(pipeline, samples=TEXT) == 0


def test_tables_are_not_kept_but_what_is_made_of_them_is():
    scaler = StandardScaler().set_output(transform="pandas")
    assert passed(make_pipeline(scaler, Ridge())) == 0
    assert passed(make_pipeline(scaler, PCA(3), Ridge())) == 2


@pytest.mark.parametrize(
    ("n", "name"),
    [
        (2, "pipeline__ridge__alpha"),
        (2, "pipeline__ridge"),
        (1, "pipeline__pca__n_components"),
        (1, "pipeline__pca"),
        (1, "pipeline"),
        (0, "standardscaler__with_mean"),
        (0, "standardscaler"),
        (0, "memory"),
        (0, "steps"),
        (1, "pipeline__memory"),
    ],
)
def test_what_is_tuned_is_not_kept_nor_what_comes_after(n, name):
    nested = make_pipeline(StandardScaler(), make_pipeline(PCA(3), Ridge()))
    assert passed(nested, ["pipeline__ridge__tol", name]) == n


def test_a_memory_of_the_user_stays(tmp_path):
    pipeline = make_pipeline(StandardScaler(), Ridge(), memory=str(tmp_path))
    assert passed(pipeline) == 0
    found = search(pipeline, RIDGE).fit(X, y)
    assert found.best_estimator_.memory == str(tmp_path)
    assert any(tmp_path.iterdir())


def test_a_pipeline_of_another_class_is_left_alone():
    class Other(Pipeline):
        """Whatever it does."""

    assert passed(Other([("scale", StandardScaler()), ("ridge", Ridge())])) == 0


def test_no_more_is_kept_than_may_be():
    pipeline = make_pipeline(StandardScaler(), PolynomialFeatures(3), Ridge())
    n_small = X.nbytes + 10_000
    assert [passed(pipeline, max_bytes=n) for n in (X.nbytes, n_small, 2**30)] == [0, 1, 2]
    kept = fronts.Fronts(["ridge__alpha"], 2 * n_small)
    for fold in range(5):
        twin = make_pipeline(StandardScaler(), Ridge())
        passage = kept.enter(twin, fold)
        twin.fit(X, y)
        passage.sides(X, X[:50])
    assert [kept.made(fold) is not None for fold in range(5)] == [True, True, False, False, False]


def test_what_is_too_large_is_not_copied(monkeypatch):
    copies = []
    twin = fronts._twin
    monkeypatch.setattr(fronts, "_twin", lambda samples: copies.append(samples) or twin(samples))
    pipeline = make_pipeline(StandardScaler(), Ridge())
    kept = fronts.Fronts(["ridge__alpha"], X.nbytes + 10_000)
    passage = kept.enter(pipeline, 0)
    pipeline.fit(X, y)
    assert len(copies) == 1
    passage.sides(X, np.tile(X, (3, 1)))
    assert len(copies) == 1
    assert passed(make_pipeline(StandardScaler(), Ridge()), max_bytes=X.nbytes) == 0
    assert len(copies) == 1


def test_with_no_room_results_are_the_same(monkeypatch, nothing_is_kept):
    found = search(make_pipeline(StandardScaler(), PCA(3), Ridge()), RIDGE)
    monkeypatch.setattr("tunein._search.MAX_BYTES_IN_ALL", int(2.5 * X.nbytes))
    one = clone(found).fit(X, y)
    with nothing_is_kept():
        two = clone(found).fit(X, y)
    assert_same_results(one, two)


# --------------------------------------------------------------------- who could tell


def look_and_spoil(estimator, X, y):
    """Score, after looking at the pipeline, and leave it spoiled."""
    assert type(estimator) is Pipeline
    assert estimator.memory is None
    assert estimator[0].mean_.shape == (10,)
    score = estimator.score(X, y)
    estimator[0].with_mean = False
    estimator.fit(X * 1000, y)
    return score


def test_scorers_have_a_pipeline_of_their_own():
    pipeline = make_pipeline(StandardScaler(), Ridge())
    found = search(pipeline, RIDGE, scoring=look_and_spoil, loss="r2", error_score="raise")
    results = found.fit(X, y).cv_results_
    for params, score in zip(results["params"], results["mean_test_score"], strict=True):
        assert score == cross_val_score(pipeline.set_params(**params), X, y, cv=3).mean()


@pytest.mark.parametrize(
    "front", [FeatureUnion([("scale", StandardScaler())]), make_pipeline(StandardScaler())]
)
def test_scorers_have_what_is_inside_of_steps_of_their_own(front):
    def refit(estimator, X, y):
        score = estimator.score(X, y)
        estimator.fit(X * 1000 + 1, y)
        return score

    pipeline = make_pipeline(front, Ridge())
    results = search(pipeline, RIDGE, scoring=refit, loss="r2").fit(X, y).cv_results_
    for params, score in zip(results["params"], results["mean_test_score"], strict=True):
        assert score == cross_val_score(pipeline.set_params(**params), X, y, cv=3).mean()


def test_models_have_samples_of_their_own():
    for samples in (X, np.asfortranarray(X), np.tile(X, 3)[:, 5:15], sparse.csr_array(X)):
        assert fronts._has_twins(samples)
        twin = fronts._twin(samples)
        part = "data" if sparse.issparse(samples) else "T"
        np.testing.assert_array_equal(getattr(twin, part), getattr(samples, part))
        assert getattr(twin, part).strides == getattr(samples, part).strides
        assert not np.shares_memory(getattr(twin, part), getattr(samples, part))
    for samples in (TABLE, X[::-1], np.broadcast_to(X[0], (5, 10)), TEXT, np.ma.array(X)):
        assert not fronts._has_twins(samples)


def test_a_front_that_raises_is_tried_for_each_candidate():
    """Of four features, in one fold of the others, there are not so many."""
    pipeline = make_pipeline(StandardScaler(), SelectKBest(f_regression, k="many"), Ridge())
    with pytest.raises(ValueError, match="All the 9 fits failed"):
        search(pipeline, RIDGE, n_iter=3).fit(X, y)
    with pytest.raises(ValueError, match="'k' parameter of SelectKBest"):
        search(pipeline, RIDGE, n_iter=3, error_score="raise").fit(X, y)


def test_a_search_that_was_cut_short_keeps_what_it_has():
    def stop(history):
        if len(history) > 2:
            raise KeyboardInterrupt

    found = search(make_pipeline(StandardScaler(), Ridge()), RIDGE, callbacks=[stop])
    whole = clone(found).set_params(callbacks=None).fit(X, y).cv_results_["mean_test_score"]
    with pytest.raises(KeyboardInterrupt):
        found.fit(X, y)
    scores = found.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(scores, whole[: len(scores)])
