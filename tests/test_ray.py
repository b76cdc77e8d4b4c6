"""Searches on Ray's joblib backend; skipped where Ray is not installed."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from joblib import parallel_config
from joblib._parallel_backends import MultiprocessingBackend
from joblib.pool import PicklingPool
from scipy.stats import uniform
from sklearn.base import BaseEstimator

from tunein import BayesSearchCV, TPESearchCV
from tunein._workers import kind_of
from tunein._workers.clusters import RayProcesses

X = np.arange(40.0).reshape(20, 2)
pytestmark = pytest.mark.timeout(300)  # its processes take long to start


class Sleepy(BaseEstimator):
    """Sleeps, and kills its process once, if there is a file to remember that by."""

    def __init__(self, a=0.5, file=None):
        self.a = a
        self.file = file

    def fit(self, X, y=None):
        time.sleep(0.01)
        if self.file is not None and self.a > 0.5 and not Path(self.file).exists():
            Path(self.file).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def score(self, X, y=None):
        return -((self.a - 0.3) ** 2)


def run(backend, search_class=TPESearchCV, estimator=None, **options):
    settings = {"n_iter": 14, "cv": 3, "n_jobs": 2, "random_state": 0, **options}
    with parallel_config(backend):
        return search_class(estimator or Sleepy(), {"a": uniform(0, 1)}, **settings).fit(X)


@pytest.fixture(scope="module")
def started():
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    bases = PicklingPool.__bases__
    try:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            logging_level="error",
            # Its workers unpickle what this module defines.
            runtime_env={"env_vars": {"PYTHONPATH": os.path.dirname(__file__)}},
        )
    except Exception as error:  # whatever it lacks of ports, memory or files
        pytest.skip(f"Ray cannot be started here: {error}")
    register_ray()
    yield
    ray.shutdown()
    PicklingPool.__bases__ = bases  # else "multiprocessing" is Ray's as well from here on


def test_its_pool_is_not_taken_for_one_of_multiprocessing():
    class RayBackend(MultiprocessingBackend):
        pass

    assert kind_of(RayBackend()) is RayProcesses


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("search_class", [TPESearchCV, BayesSearchCV])
def test_candidates_are_those_of_threads(search_class, started):
    params = [run(b, search_class).cv_results_["params"] for b in ("threading", "ray")]
    assert params[0] == params[1]


@pytest.mark.filterwarnings("default")
def test_a_worker_that_dies_ends_the_search_which_resumes(started, tmp_path):
    """Ray's pool starts no other in its place."""
    estimator, path = Sleepy(file=str(tmp_path / "killed")), tmp_path / "run.jsonl"
    with pytest.raises(Exception, match="actor died"):
        run("ray", estimator=estimator, checkpoint=path)
    resumed = run("ray", estimator=estimator, checkpoint=path)
    expected = [params["a"] for params in run("threading").cv_results_["params"]]
    assert [params["a"] for params in resumed.cv_results_["params"]] == expected


@pytest.mark.filterwarnings("default")
def test_data_are_sent_once(started, monkeypatch):
    import ray

    large = np.random.default_rng(0).normal(size=(2000, 250))
    put, sent = ray.put, []

    def counting(value):
        sent.append(getattr(value, "nbytes", 0))
        return put(value)

    monkeypatch.setattr(ray, "put", counting)
    with parallel_config("ray"):
        TPESearchCV(
            Sleepy(), {"a": uniform(0, 1)}, n_iter=8, cv=3, n_jobs=2, random_state=0, refit=False
        ).fit(large)
    assert large.nbytes <= sum(sent) < 1.1 * large.nbytes  # X, and the rows of each fold
