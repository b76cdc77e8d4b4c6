"""Faults that no ``except`` can catch, each of them caused for real."""

import ctypes
import faulthandler
import os
import re
import signal
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from joblib import parallel_config
from joblib.externals.loky import reusable_executor
from sklearn.base import BaseEstimator
from sklearn.exceptions import FitFailedWarning

from tunein import BayesSearchCV, HyperGradSearchCV, TPESearchCV
from tunein._abroad import Mark, how_it_ended
from tunein._evaluation import Call
from tunein._workers import Evaluation

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite"),
]
on_processes = pytest.mark.parametrize("backend", ["loky", "multiprocessing"])

X = np.arange(40.0).reshape(20, 2)

FAULTS = {
    2: lambda: os.kill(os.getpid(), signal.SIGKILL),
    4: lambda: ctypes.string_at(0),
    5: lambda: os._exit(3),
    6: lambda: time.sleep(50),
    7: lambda: ctypes.PyDLL(None).sleep(50),  # a PyDLL keeps the interpreter's lock
    8: lambda: re.match(r"(a+)+$", "a" * 60 + "b"),
}
SAID = {
    2: r"process died while fitting, twice \(exit code -9: out of memory, or killed\)",
    4: r"process died while fitting, twice \(exit code -11: SIGSEGV\)\. It was here:\n.*string_at",
    5: r"process died while fitting, twice \(exit code 3\)",
    6: r"TimeoutError: fit_timeout=\d\.0 seconds were over\. It was here:\n.*in <lambda>",
    7: r"TimeoutError: fit_timeout=\d\.0 seconds were over\. It was here:\n.*in <lambda>",
    8: r"TimeoutError: fit_timeout=\d\.0 seconds were over\. It was here:\n.*sre|match",
}


class Faulty(BaseEstimator):
    """Has the fault of its parameter when fitted without the first sample; keeps a diary."""

    def __init__(self, a=0, faults=(), diary=None):
        self.a = a
        self.faults = faults
        self.diary = diary

    def fit(self, X, y=None):
        is_first = X[0, 0] > 0
        if self.diary is not None:
            with Path(self.diary).open("a") as file:
                file.write(f"{self.a} {is_first}\n")
        time.sleep(0.02)
        if is_first and self.a in self.faults:
            FAULTS[self.a]()
        self.mean_ = X.mean()
        return self

    def score(self, X, y=None):
        return float(self.mean_ - self.a)


def search(estimator, backend, values=range(10), **options):
    settings = {"n_iter": 10, "cv": 2, "n_jobs": 2, "random_state": 0, "refit": False, **options}
    with parallel_config(backend):
        return TPESearchCV(estimator, {"a": list(values)}, **settings).fit(X)


def scores(search):
    return {trial.params["a"]: [s.test for s in trial.scores] for trial in search.history_}


def errors(search):
    return {trial.params["a"]: trial.scores[0].error for trial in search.history_}


# --------------------------------------------------------------------- what cannot travel


class Homebody:
    """Cannot be pickled."""

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        raise TypeError("stays at home")


def refuse(*args):
    raise ValueError("cannot be rebuilt")


class Fragile(Homebody):
    """Can be pickled, and not be unpickled."""

    def __reduce__(self):
        return refuse, ()


class HomebodyScore(float, Homebody):
    pass


class FragileScore(float, Fragile):
    pass


class Uncopied(Exception):
    def __init__(self, what, why):
        super().__init__(what)


class Picky(BaseEstimator):
    def __init__(self, a=0, extra=None):
        self.a = a
        self.extra = extra

    def fit(self, X, y=None):
        if self.a == "raises":
            raise Uncopied("cannot be copied", "two arguments")
        self.fitted_ = True
        return self

    def score(self, X, y=None):
        kinds = {"homebody": HomebodyScore, "fragile": FragileScore}
        return kinds.get(self.a, float)(X.mean())


@on_processes
def test_what_cannot_travel_fails_its_candidate_and_no_other(backend):
    values = [0, 1, Homebody(), Fragile(), "homebody", "fragile", "raises"]
    with pytest.warns(FitFailedWarning, match="10 fits failed out of a total of 14"):
        found = search(Picky(), backend, values)
    said = errors(found)
    assert [said[value] for value in values[:2]] == [None, None]
    assert scores(found)[0] == scores(found)[1] == [9.5, 29.5]
    for value, match in zip(
        values[2:],
        [
            r"parameters, a dict, cannot be sent.*stays at home.*n_jobs=1",
            r"parameters, a dict, cannot be sent.*cannot be rebuilt.*n_jobs=1",
            r"stays at home",
            r"cannot be rebuilt.*The result of a call could not be unpickled",
            r"Uncopied: cannot be copied",
        ],
        strict=True,
    ):
        assert re.search(match, said[value], re.DOTALL), said[value]


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ([0, Homebody()], TypeError, "cannot be sent.*stays at home"),
        ([0, "fragile"], Exception, "result of a call could not be unpickled"),
        # Itself, where distributed has taught pickle to copy any error.
        ([0, "raises"], (RuntimeError, Uncopied), "cannot be copied"),
    ],
)
def test_what_cannot_travel_is_raised_with_error_score_raise(values, error, match):
    with pytest.raises(error, match=match):
        search(Picky(), "multiprocessing", values, error_score="raise")


@on_processes
@pytest.mark.parametrize("extra", [Homebody(), Fragile()])
def test_an_estimator_that_cannot_travel_is_refused(backend, extra):
    with pytest.raises(TypeError, match=r"estimator, a Picky, cannot be sent.*Use n_jobs=1"):
        search(Picky(extra=extra), backend)


# --------------------------------------------------------------------- what dies


@pytest.mark.parametrize(
    ("backend", "faults", "limit"),
    [("loky", (2, 7), 3.0), ("multiprocessing", tuple(FAULTS), 1.0)],  # loky restarts slowly
)
def test_only_what_kills_its_worker_or_takes_too_long_is_lost(backend, faults, limit, tmp_path):
    diary = tmp_path / "diary"
    undisturbed = scores(search(Faulty(), backend))
    with pytest.warns(FitFailedWarning, match=f"{len(faults)} fits failed out of a total of 20"):
        disturbed = search(Faulty(faults=faults, diary=diary), backend, fit_timeout=limit)
    for a, (first, second) in scores(disturbed).items():
        assert second == undisturbed[a][1]
        assert np.isnan(first) if a in faults else first == undisturbed[a][0]
    for a, error in errors(disturbed).items():
        assert re.search(SAID[a], error, re.DOTALL) if a in faults else error is None, error
    # What died is tried once more; what took too long is not, unless loky ended it with another.
    lines = diary.read_text().splitlines()
    for a in faults:
        n_times = lines.count(f"{a} True")
        assert n_times >= 2 if "died" in SAID[a] else n_times == 1 or backend == "loky"


class Hungry(Faulty):
    """Takes more memory than its process may have, with a = 3."""

    def __init__(self, a=0, faults=(), diary=None, group=None):
        super().__init__(a, faults, diary)
        self.group = group

    def fit(self, X, y=None):
        if self.a == 3 and self.group is not None:
            (Path(self.group) / "cgroup.procs").write_text(str(os.getpid()))
            np.ones(2**27)  # a gigabyte
        return super().fit(X, y)


@on_processes
def test_who_wants_too_much_memory_is_lost_and_nobody_else(backend, memory_group):
    group = memory_group(200 * 2**20)
    undisturbed = scores(search(Hungry(), backend))
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 20"):
        disturbed = search(Hungry(group=str(group)), backend)
    assert np.isnan(scores(disturbed).pop(3)).all()
    assert {a: s for a, s in scores(disturbed).items() if a != 3} == {
        a: s for a, s in undisturbed.items() if a != 3
    }
    assert "out of memory, or killed" in errors(disturbed)[3]


@pytest.mark.parametrize(
    ("a", "error", "match"),
    [(2, RuntimeError, "died while fitting, twice"), (6, TimeoutError, "0.5 seconds were over")],
)
def test_with_error_score_raise_it_is_raised(a, error, match):
    with pytest.raises(error, match=match):
        search(Faulty(faults=(a,)), "multiprocessing", error_score="raise", fit_timeout=0.5)


# --------------------------------------------------------------------- who is to blame


def fragile(i, folder):
    """Die at the first attempt with i=1; return how many others are at work beside this call."""
    here = Path(folder)
    mine = here / str(os.getpid())
    mine.touch()
    if i == 1 and not (here / "tried").exists():
        time.sleep(0.3)  # until another is at work
        (here / "tried").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    others = [int(path.name) for path in here.iterdir() if path.name.isdigit() and path != mine]
    mine.unlink()
    return i, sum(Path(f"/proc/{pid}").exists() for pid in others)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes there")
@on_processes
def test_who_may_be_to_blame_is_tried_again_alone(backend, tmp_path):
    def never(error, **kwargs):
        raise AssertionError(error)

    with parallel_config(backend), Evaluation(2, "all", never) as workers:
        for i in range(4):
            workers.submit(Call(i, fragile, {"folder": str(tmp_path)}, {"i": i}))
        results = dict(workers.next() for _ in range(4))
        assert workers.n_running == 0
    assert sorted(i for i, _ in results.values()) == [0, 1, 2, 3]
    assert results[1] == (1, 0)


def end_at_once():
    os._exit(3)


def test_workers_that_die_as_soon_as_they_are_born_are_seen():
    def lost(error, **kwargs):
        return str(error)

    with parallel_config("multiprocessing"), Evaluation(2, "all", lost) as workers:
        for i in range(4):
            workers.submit(Call(i, end_at_once, {}, {}))
        said = [workers.next()[1] for _ in range(4)]
    assert all("died while fitting, twice" in words for words in said)


def test_a_worker_that_dies_between_two_searches_is_replaced():
    expected = scores(search(Faulty(), "loky"))
    for pid in list(reusable_executor._executor._processes):
        os.kill(pid, signal.SIGKILL)
    assert scores(search(Faulty(), "loky")) == expected


def test_workers_that_can_do_nothing_end_the_search():
    module = types.ModuleType("known_here_only")
    exec("class Stranger:\n    pass", module.__dict__)
    sys.modules["known_here_only"] = module
    try:
        with pytest.raises(RuntimeError, match=r"Nothing could be run.*Use n_jobs=1"):
            search(Faulty(faults=module.Stranger()), "loky")
    finally:
        del sys.modules["known_here_only"]


# --------------------------------------------------------------------- the limit


def test_the_limit_ends_with_the_fit():
    found = search(Faulty(), "multiprocessing", fit_timeout=0.3)  # which is 0.4 seconds in all
    assert set(errors(found).values()) == {None}


def test_a_mark_leaves_nothing_behind(tmp_path):
    mark = Mark(str(tmp_path / "mark"), limit=100.0)
    was_enabled = faulthandler.is_enabled()
    assert mark.read() is None
    assert mark.run(lambda: mark.read().pid) == os.getpid()
    assert mark.read() is None
    assert not mark.run(lambda: mark.read().time_was_over)
    assert faulthandler.is_enabled() == was_enabled
    (tmp_path / "mark").touch()  # as if it had died at its first breath
    assert mark.read() is None


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (None, "exit code unknown"),
        (3, "exit code 3"),
        (-9, "exit code -9: out of memory, or killed"),
        (-11, "exit code -11: SIGSEGV"),
        (-200, "exit code -200"),
    ],
)
def test_exit_codes_are_put_into_words(exit_code, words):
    assert how_it_ended(exit_code) == words


@pytest.mark.parametrize(
    ("backend", "n_jobs", "there"),
    [
        ("loky", 1, "n_jobs=1: the one worker is this process"),
        ("loky", None, "n_jobs=1: the one worker is this process"),
        ("threading", 2, "ThreadingBackend"),
    ],
)
@pytest.mark.parametrize("search_class", [TPESearchCV, BayesSearchCV, HyperGradSearchCV])
def test_a_limit_that_cannot_be_kept_is_refused(search_class, backend, n_jobs, there):
    limited = search_class(Faulty(), {"a": [0, 1]}, n_iter=2, n_jobs=n_jobs, fit_timeout=2.0)
    with parallel_config(backend), pytest.raises(ValueError, match=f"fit_timeout=2.0.*{there}"):
        limited.fit(X)


@pytest.mark.parametrize("fit_timeout", [0, -1.0, "1", float("inf"), float("nan"), 1e30])
def test_a_limit_of_no_use_is_refused(fit_timeout):
    with pytest.raises(ValueError, match=r"The 'fit_timeout' parameter .* must be a float"):
        search(Faulty(), "loky", fit_timeout=fit_timeout)


# --------------------------------------------------------------------- on a cluster


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=60
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of distributed's own making
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets that it closes late
def test_dask_gives_up_a_task_and_the_search_does_not(cluster):
    with pytest.raises(ValueError, match=r"fit_timeout=2.0.*DaskDistributedBackend"):
        search(Faulty(), "dask", fit_timeout=2.0)
    with pytest.warns(FitFailedWarning, match="fits failed out of a total of 6"):
        found = search(Faulty(faults=(2,)), "dask", values=[0, 1, 2], pre_dispatch=1)
    assert "KilledWorker" in errors(found)[2]
    assert [errors(found)[a] for a in (0, 1)] == [None, None]
