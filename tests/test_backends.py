"""Searches on every backend of joblib, Dask's with worker processes of its own."""

import time

import numpy as np
import pytest
from joblib import parallel_config
from scipy.stats import uniform
from sklearn.base import BaseEstimator
from sklearn.metrics import make_scorer

from tunein import BayesSearchCV, HyperGradSearchCV, TPESearchCV
from tunein._evaluation import Call
from tunein._workers import Evaluation

X = np.arange(40.0).reshape(20, 2)
every_search = pytest.mark.parametrize(
    "search_class", [TPESearchCV, BayesSearchCV, HyperGradSearchCV]
)


class Sleepy(BaseEstimator):
    """Takes a different time at every fit; its score is a function of its parameter."""

    def __init__(self, a=0.5):
        self.a = a

    def fit(self, X, y=None):
        time.sleep(np.random.default_rng().exponential(0.003))
        return self

    def score(self, X, y=None):
        return -((self.a - 0.3) ** 2)


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def candidates(search_class, **options):
    settings = {"n_iter": 14, "cv": 3, "n_jobs": 2, "random_state": 0, **options}
    search = search_class(Sleepy(), {"a": uniform(0, 1)}, **settings).fit(X)
    assert len(search.cv_results_["params"]) == settings["n_iter"]
    assert all(trial.closed for trial in search.history_)
    return [params["a"] for params in search.cv_results_["params"]]


@every_search
@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_a_seed_gives_the_same_candidates_on_every_backend(search_class, backend):
    with parallel_config("threading"):
        expected = candidates(search_class)
        assert candidates(search_class) == expected
    with parallel_config(backend):
        assert candidates(search_class) == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of distributed's own making
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets that it closes late
@every_search
def test_a_seed_gives_the_same_candidates_on_dask(search_class, cluster):
    with parallel_config("threading"):
        expected = candidates(search_class)
    with parallel_config("dask"):
        assert candidates(search_class) == expected
        assert len(candidates(search_class, random_state=None)) == 14


def test_folds_of_several_candidates_are_in_work_at_the_same_time():
    spans = []

    class Watched(Sleepy):
        def fit(self, X, y=None):
            start = time.perf_counter()
            time.sleep(0.02)
            spans.append((self.a, start, time.perf_counter()))
            return self

    with parallel_config("threading"):
        search = TPESearchCV(Watched(), {"a": uniform(0, 1)}, n_iter=6, cv=3, n_jobs=2, refit=False)
        search.fit(X)
    assert len(spans) == 18
    assert any(
        a != b and start < end_other and start_other < end
        for a, start, end in spans
        for b, start_other, end_other in spans
    )


@pytest.mark.parametrize("pre_dispatch", ["foo", 0, "-n_jobs", '__import__("os")'])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_pre_dispatch_of_no_use_is_refused(pre_dispatch, n_jobs):
    search = TPESearchCV(
        Sleepy(), {"a": uniform(0, 1)}, n_iter=3, n_jobs=n_jobs, pre_dispatch=pre_dispatch
    )
    with parallel_config("threading"), pytest.raises(ValueError, match="pre_dispatch="):
        search.fit(X)


@pytest.mark.parametrize(("pre_dispatch", "most"), [(1, 1), ("n_jobs", 2), ("2*n_jobs", 4)])
def test_no_more_than_pre_dispatch_is_handed_in(pre_dispatch, most):
    with parallel_config("threading"), Evaluation(2, pre_dispatch, None) as workers:
        assert workers.capacity == most


def test_results_come_back_with_their_labels():
    with parallel_config("threading"), Evaluation(2, "all", None) as workers:
        for label in range(4):
            workers.submit(Call(label, pow, {"exp": 2}, {"base": label}))
        assert sorted(workers.next() for _ in range(4)) == [(0, 0), (1, 1), (2, 4), (3, 9)]
        assert workers.n_running == 0


def test_a_scorer_that_returns_no_number_fails_its_candidate():
    scoring = make_scorer(lambda y, z: "good")
    search = TPESearchCV(Sleepy(), {"a": uniform(0, 1)}, n_iter=3, cv=2, scoring=scoring)
    with pytest.raises(ValueError, match="All the 6 fits failed"):
        search.fit(X, np.zeros(20))
