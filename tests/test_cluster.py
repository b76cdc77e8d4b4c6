"""A search on a Dask cluster whose workers and scheduler are processes that can be killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from joblib import parallel_config
from scipy.stats import uniform
from sklearn.base import BaseEstimator

from tunein import BayesSearchCV, TimeLimit, TPESearchCV

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.timeout(120),
    # Of distributed's own making, and sockets that it closes late.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

X = np.random.default_rng(0).normal(size=(2000, 250))  # 4 MB that cannot be compressed


class Diary(BaseEstimator):
    """Sleeps, and leaves a file for each process that fits it."""

    def __init__(self, a=0.5, folder=None, seconds=0.02):
        self.a = a
        self.folder = folder
        self.seconds = seconds

    def fit(self, X, y=None):
        time.sleep(self.seconds)
        if self.folder is not None:
            (Path(self.folder) / str(os.getpid())).touch()
        return self

    def score(self, X, y=None):
        return -((self.a - 0.3) ** 2)


@pytest.fixture(scope="module")
def cluster():
    with (
        # When all workers die, the scheduler sees one after the other, and in between moves a fit
        # to one that is dead as well. By default a fit of which four die is given up.
        dask.config.set({"distributed.scheduler.allowed-failures": 20}),
        distributed.LocalCluster(
            n_workers=3,
            threads_per_worker=1,
            processes=True,
            protocol="tcp",
            host="127.0.0.1",
            dashboard_address=":0",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def run(backend, search_class=TPESearchCV, estimator=None, **options):
    settings = {"n_iter": 16, "cv": 3, "n_jobs": 3, "random_state": 0, "refit": False, **options}
    with parallel_config(backend):
        return search_class(estimator or Diary(), {"a": uniform(0, 1)}, **settings).fit(X)


def candidates(search):
    assert all(trial.closed for trial in search.history_)
    assert not any(score.error for trial in search.history_ for score in trial.scores)
    return search.cv_results_["params"]


@pytest.fixture(scope="module")
def expected():
    return candidates(run("threading"))


def pids(client):
    return list(client.run(os.getpid).values())


class Once:
    """A callback that does something after so many trials."""

    def __init__(self, n, act):
        self.n = n
        self.act = act

    def __call__(self, history):
        if len(history.closed) >= self.n and self.act:
            self.act()
            self.act = None


@pytest.mark.parametrize("search_class", [TPESearchCV, BayesSearchCV])
def test_candidates_are_those_of_threads(search_class, cluster):
    expected = candidates(run("threading", search_class))
    assert candidates(run("dask", search_class)) == expected


def test_data_travel_once_and_not_with_each_fit(cluster, monkeypatch):
    from distributed.comm.tcp import TCP

    sent = []  # by this process, in which the scheduler is as well
    write = TCP.write

    async def counting(self, *args, **kwargs):
        n_bytes = await write(self, *args, **kwargs)
        sent.append(n_bytes)
        return n_bytes

    def received_from_peers(dask_worker):
        return sum(entry["total"] for entry in dask_worker.transfer_incoming_log)

    before = sum(cluster.run(received_from_peers).values())
    monkeypatch.setattr(TCP, "write", counting)
    candidates(run("dask"))
    monkeypatch.undo()
    between = sum(cluster.run(received_from_peers).values()) - before
    # From here to the scheduler or straight to a worker, and from there to the two others; with
    # each of 48 fits it would have been 48 times.
    assert X.nbytes <= sum(sent) < 2.5 * X.nbytes
    # Twice; but from a worker that has nothing to do for a moment Dask takes copies away.
    assert between < 8 * X.nbytes


def test_a_worker_is_killed_and_one_added(cluster, expected, tmp_path):
    first = pids(cluster)

    def kill_and_add():
        os.kill(first[0], signal.SIGKILL)  # its nanny starts another
        cluster.cluster.scale(4)

    search = run(
        "dask",
        estimator=Diary(folder=str(tmp_path), seconds=0.1),
        n_iter=30,
        callbacks=Once(4, kill_and_add),
    )
    assert len(candidates(search)) == 30
    assert candidates(search)[:16] == expected
    assert {int(path.name) for path in tmp_path.iterdir()} - set(first)


def test_all_that_have_the_data_are_killed(cluster, expected):
    def kill_all():
        for pid in pids(cluster):
            os.kill(pid, signal.SIGKILL)

    assert candidates(run("dask", callbacks=Once(4, kill_all))) == expected


@pytest.fixture
def daemons():
    """A scheduler and two workers that are daemons of their own: processes and address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    port = address.rpartition(":")[2]
    commands = [["scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]] + 2 * [
        ["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    ]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # They unpickle what this module defines.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        for command in commands
    ]
    yield running, address
    for process in running:
        process.kill()
        process.wait()


def test_the_scheduler_dies_and_the_journal_resumes(daemons, tmp_path):
    running, address = daemons
    path = tmp_path / "run.jsonl"
    with distributed.Client(address, timeout=30) as client:
        client.wait_for_workers(2, timeout=30)
        with pytest.raises(ConnectionError, match=r"Dask's scheduler was lost.*checkpoint="):
            run("dask", n_jobs=2, checkpoint=path, callbacks=Once(5, running[0].kill))
    written = len(path.read_bytes().splitlines())
    assert written > 5 * 4
    resumed = run("threading", n_jobs=2, checkpoint=path)
    assert len(path.read_bytes().splitlines()) > written
    whole = run("threading", n_jobs=2)
    assert candidates(resumed) == candidates(whole)
    means = [search.cv_results_["mean_test_score"] for search in (resumed, whole)]
    assert np.array_equal(*means)


def test_a_limit_of_time_ends_what_no_worker_is_left_for(daemons):
    running, address = daemons

    def kill_workers():
        for worker in running[1:]:
            worker.kill()

    limit = TimeLimit(10, abandon=True)
    with distributed.Client(address, timeout=30) as client:
        client.wait_for_workers(2, timeout=30)
        run("dask", n_jobs=2)  # what they import takes longer than the limit on a busy machine
        search = run("dask", n_jobs=2, n_iter=1000, callbacks=[Once(3, kill_workers), limit])
    assert search.stop_reason_.startswith(limit.sentence)
    assert 3 <= len(search.history_.closed) < 1000
