"""How a search scales: more workers, more trials, larger spaces.

Five parts, each of tables:

``efficiency``
    Real workers, 1 to 8: threads, loky's processes, processes of a Dask cluster over TCP, and
    Ray's. A fit sleeps for 10 ms, 100 ms or 1 s, which takes no processor, so two cores show what
    scheduling costs. 1 is ideal: all fit times over the number of workers. The start of the pool
    is not counted, but for Ray's, which is a new one in each search; *later half* counts from when
    half of the fits have ended.
``simulation``
    The real loop on a simulated clock with up to 1,000 workers. A fold takes a minute on average,
    exponentially distributed; thinking takes what it takes here. *stale* is how many trials were
    open when one was proposed, *busy* is the share of the workers' time spent in fits, *regret* is
    how far the best candidate is from the optimum.
``load``
    Trials in the ten thousands and spaces in the thousands: what the search itself takes.
``looks``
    What a look at a long record takes, of records made up for this.
``memory``
    What a search of 2 GB takes on two processes, and what scikit-learn's takes, and which of them
    end within a memory control group of one and a half times as much. Linux, and root's rights.

Run from the root of the repository, on an idle machine::

    export PYTHONPATH=benchmarks OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
    python benchmarks/scaling.py                  # about an hour; writes results/scaling-*.csv
    python benchmarks/scaling.py --only load-tpe
    python benchmarks/scaling.py --quick          # smoke test, stores nothing
"""

from __future__ import annotations

import argparse
import csv
import heapq
import itertools
import math
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self
from unittest import mock

import numpy as np
import psutil
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from report import markdown
from scipy.stats import uniform
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit
from threadpoolctl import threadpool_limits

import tunein
from tunein import _search
from tunein._evaluation import Call
from tunein._halving import Ladder
from tunein._history import History, Proposal, Score

RESULTS = Path(__file__).parent / "results"
X = np.arange(20.0)[:, None]
Rows = list[dict[str, Any]]
SEARCHES: dict[str, Any] = {
    name: getattr(tunein, name) for name in ("TPESearchCV", "BayesSearchCV")
}


class Sleeper(BaseEstimator):
    """Sleeps when fitted; its score is a formula."""

    def __init__(self, a: float = 0.5, b: float = 0.5, seconds: float = 0.0) -> None:
        self.a = a
        self.b = b
        self.seconds = seconds

    def fit(self, X: Any, y: Any = None) -> Self:
        time.sleep(self.seconds)
        return self

    def score(self, X: Any, y: Any = None) -> float:
        return -((self.a - 0.3) ** 2) - (self.b - 0.6) ** 2


# ---------------------------------------------------------------- real workers


def efficiency(quick: bool) -> Rows:
    lengths = (0.01,) if quick else (0.01, 0.1, 1.0)
    rows = []
    for backend, n in itertools.product(WORKERS, (1, 2) if quick else (1, 2, 4, 8)):
        if backend == "ray" and find_spec("ray") is None:
            continue  # it is no part of the bench extra
        with WORKERS[backend](n), parallel_config(backend), threadpool_limits(1):
            warm_up(n)
            for seconds in lengths:
                row = {"backend": backend, "fit_s": seconds, "workers": n}
                rows.append({**row, **share_busy(seconds, n, 0.5 if quick else 8.0)})
                print(rows[-1], flush=True)
    return sorted(rows, key=lambda row: (list(WORKERS).index(row["backend"]), row["fit_s"]))


@contextmanager
def dask_workers(n: int) -> Iterator[None]:
    """Start processes of one thread each that are spoken to over TCP, as in a cluster."""
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=n,
            threads_per_worker=1,
            processes=True,
            protocol="tcp",
            host="127.0.0.1",
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(n)
        yield


@contextmanager
def ray_workers(n: int) -> Iterator[None]:
    import ray
    from ray.util.joblib import register_ray

    ray.init(num_cpus=n, include_dashboard=False, logging_level="error")
    register_ray()
    try:
        yield
    finally:
        ray.shutdown()


# What must be started before a joblib backend of this name has so many workers.
WORKERS: dict[str, Callable[[int], AbstractContextManager[None]]] = {
    "threading": nullcontext,  # type: ignore[dict-item]
    "loky": nullcontext,  # type: ignore[dict-item]
    "dask": dask_workers,
    "ray": ray_workers,
}


def share_busy(seconds: float, n_workers: int, ideal: float) -> dict[str, float]:
    """Return the ideal wall time of a search over its real one, and that of its later half."""
    n_iter = max(1, int(ideal / seconds) * n_workers // 4)
    search = tunein.TPESearchCV(
        Sleeper(seconds=seconds),
        {"a": uniform(0, 1), "b": uniform(0, 1)},
        n_iter=n_iter,
        scoring=score_and_time,
        cv=KFold(4),
        n_jobs=n_workers,
        random_state=0,
        refit=False,
    )
    start = time.perf_counter()
    search.fit(X)
    wall = time.perf_counter() - start
    ends = np.sort([search.cv_results_[f"split{fold}_test_end"] for fold in range(4)], axis=None)
    half = len(ends) // n_workers // 2 * n_workers
    later = (len(ends) - half) * seconds / n_workers / (ends[-1] - ends[half - 1])
    whole = len(ends) * seconds / n_workers / wall
    return {"efficiency": round(whole, 3), "later_half": round(float(later), 3)}


def score_and_time(estimator: Any, X: Any, y: Any = None) -> dict[str, float]:
    return {"score": estimator.score(X), "end": time.time()}


def warm_up(n_workers: int) -> None:
    """Return when all workers run, and have their modules."""
    met: set[tuple[int, int]] = set()
    while len(met) < n_workers:
        met = set(Parallel(n_workers, batch_size=1)(delayed(nap)() for _ in range(2 * n_workers)))


def nap() -> tuple[int, int]:
    time.sleep(0.1)
    return os.getpid(), threading.get_ident()


# ---------------------------------------------------------------- simulated workers


class Simulated:
    """An evaluator of so many workers whose clock is simulated.

    It speaks the protocol of ``tunein._evaluation.Evaluator``. Calls run here, at once; each is
    handed back in the order in which workers would have finished. What the search itself takes is
    measured in seconds of the processor, and put on the same clock.
    """

    leaves_process = False
    can_abandon = True
    folder = None

    def __init__(self, n_workers: int, mean_seconds: float, seed: int) -> None:
        self.n_workers = self.n_workers_asked = n_workers
        self.capacity = 2 * n_workers
        self.n_running = 0
        self.now = self.busy = self.own = 0.0
        self.staleness: list[int] = []
        self._mean, self._rng = mean_seconds, np.random.default_rng(seed)
        self._free = [0.0] * n_workers
        self._running: list[tuple[float, int, Any, Any]] = []
        self._n, self._open, self._left = itertools.count(), set(), {}
        self._last = 0.0

    def __enter__(self) -> Self:
        self._last = time.process_time()
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def _think(self) -> None:
        """Let the clock go on by what the search took since it was last here."""
        took = time.process_time() - self._last
        self.own += took
        self.now += took

    def submit(self, call: Call) -> None:
        self._think()
        number, _ = call.label
        if number not in self._left:
            self.staleness.append(len(self._open))
            self._open.add(number)
            self._left[number] = call.kwargs["split_progress"][1]
        length = self._rng.exponential(self._mean)
        end = max(heapq.heappop(self._free), self.now) + length
        heapq.heappush(self._free, end)
        self.busy += length
        result = call.function(**call.kwargs, **call.own)
        heapq.heappush(self._running, (end, next(self._n), call.label, result))
        self.n_running += 1
        self._last = time.process_time()

    def next(self, timeout: float | None = None) -> tuple[Any, Any]:
        self._think()
        end, _, label, result = heapq.heappop(self._running)
        self.now = max(self.now, end)
        self.n_running -= 1
        self._left[label[0]] -= 1
        if not self._left[label[0]]:
            self._open.discard(label[0])
        self._last = time.process_time()
        return label, result

    def abandon(self) -> None:
        self._running.clear()


class Hartmann(BaseEstimator):
    """Hartmann's function of six parameters, upside down: the best score is 3.32237."""

    BEST = 3.32237

    def __init__(
        self,
        x0: float = 0.5,
        x1: float = 0.5,
        x2: float = 0.5,
        x3: float = 0.5,
        x4: float = 0.5,
        x5: float = 0.5,
    ) -> None:
        self.x0, self.x1, self.x2, self.x3, self.x4, self.x5 = x0, x1, x2, x3, x4, x5

    def fit(self, X: Any, y: Any = None) -> Self:
        return self

    def score(self, X: Any, y: Any = None) -> float:
        from landscapes import hartmann

        return hartmann(np.array([getattr(self, f"x{i}") for i in range(6)]))


def simulation(name: str, quick: bool) -> Rows:
    # A Gaussian process thinks for long: fewer candidates, workers and repeats.
    n_iter, crowds, n_seeds = 2000, (1, 100, 1000), 3
    if name == "BayesSearchCV":
        n_iter, crowds, n_seeds = 500, (1, 10, 100), 1
    if quick:
        n_iter, crowds, n_seeds = 60, (8,), 1
    return [
        simulate(name, n, n_iter, is_seeded, seed)
        for n in crowds
        for is_seeded in ((True,) if n == 1 else (True, False))
        for seed in range(n_seeds)
    ]


def simulate(name: str, n_workers: int, n_iter: int, is_seeded: bool, seed: int) -> dict[str, Any]:
    cluster = Simulated(n_workers, 60.0, seed)
    search = SEARCHES[name](
        Hartmann(),
        {f"x{i}": uniform(0, 1) for i in range(6)},
        n_iter=n_iter,
        cv=KFold(5),
        random_state=seed if is_seeded else None,
        refit=False,
    )
    evaluation = mock.patch.object(_search, "Evaluation", return_value=Entered(cluster))
    with threadpool_limits(1), evaluation:
        search.fit(X)
    wall = max(cluster.now, 1e-9)
    row = {
        "search": name,
        "workers": n_workers,
        "random_state": "int" if is_seeded else "None",
        "candidates": n_iter,
        "seed": seed,
        "own_ms_per_fold": round(1000 * cluster.own / (5 * n_iter), 3),
        "stale": float(np.median(cluster.staleness)),
        "busy": round(cluster.busy / (n_workers * wall), 3),
        "hours": round(wall / 3600, 2),
        "regret": round(Hartmann.BEST - float(search.best_score_), 4),
    }
    print(row, flush=True)
    return row


class Entered:
    """Stands for ``Evaluation``: a context manager that knows how many workers were asked for."""

    def __init__(self, cluster: Simulated) -> None:
        self.cluster = cluster
        self.n_workers_asked = cluster.n_workers

    def __enter__(self) -> Simulated:
        return self.cluster.__enter__()

    def __exit__(self, *_: Any) -> None:
        return None


# ---------------------------------------------------------------- load


class AnyParams(BaseEstimator):
    """Takes whatever parameters there are; fitting does nothing."""

    def __init__(self, values: Any = None) -> None:
        self.values = values

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return dict(self.values or {})

    def set_params(self, **values: Any) -> Self:
        self.values = {**(self.values or {}), **values}
        return self

    def __sklearn_clone__(self) -> AnyParams:
        return AnyParams(dict(self.values or {}))

    def fit(self, X: Any, y: Any = None) -> Self:
        return self

    def score(self, X: Any, y: Any = None) -> float:
        numbers = [v for v in (self.values or {}).values() if isinstance(v, float)]
        return -float(np.mean((np.array(numbers or [0.0]) - 0.3) ** 2))


class Noisy(Sleeper):
    """Does nothing; its score depends on the fold as well."""

    def __init__(self, a: float = 0.5, b: float = 0.5, resource: int = 1) -> None:
        self.a = a
        self.b = b
        self.resource = resource

    def fit(self, X: Any, y: Any = None) -> Self:
        self.first_ = float(X[0, 0])
        return self

    def score(self, X: Any, y: Any = None) -> float:
        return super().score(X) + 0.05 * math.sin(1e4 * self.a + 1e3 * self.b + 77 * self.first_)


class Laps:
    """Keeps CPU seconds and resident memory at every so many trials, as a callback."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.at = [time.process_time()]
        self.megabytes: list[float] = []

    def __call__(self, history: Any) -> None:
        if len(history.closed) >= len(self.at) * self.every:
            self.at.append(time.process_time())
            self.megabytes.append(psutil.Process().memory_info().rss / 1e6)


def long_run(name: str, n_iter: int, every: int, kind: str = "", **options: Any) -> Rows:
    """Return milliseconds a trial and megabytes of the process, by so many trials."""
    laps = Laps(every)
    settings = {"n_iter": n_iter, "random_state": 0, "refit": False, "cv": KFold(2), **options}
    settings["callbacks"] = [laps, *settings.get("callbacks", [])]
    space: dict[str, Any] = {"a": uniform(0, 1), "b": uniform(0, 1)}
    if not kind:
        space["seconds"] = [0.0]
    search = SEARCHES[name](Noisy() if kind else Sleeper(), space, **settings)
    start = time.process_time()
    with threadpool_limits(1):
        search.fit(X)
    total = time.process_time() - start
    n_trials = len(search.history_)
    common = {"search": name, **({"with": kind} if kind else {})}
    rows = [
        {
            **common,
            "trials": every * (i + 1),
            "ms_per_trial": round(1000 * lap / every, 2),
            "rss_mb": round(laps.megabytes[i], 1),
        }
        for i, lap in enumerate(np.diff(laps.at).tolist())
    ]
    after = 1000 * (total - (laps.at[-1] - laps.at[0])) / n_trials
    at_end = round(psutil.Process().memory_info().rss / 1e6, 1)
    rows.append({**common, "trials": "results", "ms_per_trial": round(after, 3), "rss_mb": at_end})
    for row in rows:
        print(row, flush=True)
    print(f"a pickle of {len(pickle.dumps(search)) / n_trials:.0f} bytes a trial")
    return rows


SPACES: dict[str, Callable[[int], Any]] = {
    "parameters": lambda n: {f"p{i}": uniform(0, 1) for i in range(n)},
    "choices": lambda n: {"p0": uniform(0, 1), "kind": [f"choice {i}" for i in range(n)]},
    "branches": lambda n: [{f"p{i}": uniform(0, 1), "kind": [f"branch {i}"]} for i in range(n)],
}


def wide(name: str, what: str, n: int, n_iter: int) -> Rows:
    """Return seconds until the first fit, and between two later ones."""
    stamps: list[float] = []
    search = SEARCHES[name](
        AnyParams(),
        SPACES[what](n),
        n_iter=n_iter,
        cv=KFold(2),
        random_state=0,
        refit=False,
        callbacks=lambda history: stamps.append(time.process_time()),
    )
    start = time.process_time()
    with threadpool_limits(1):
        search.fit(X)
    steps = np.diff(stamps)
    row = {
        "search": name,
        "space": f"{n} {what}",
        "trials": n_iter,
        "first_s": round(stamps[0] - start, 3),
        "median_step_s": round(float(np.median(steps[n_iter // 2 :])), 4),
        "worst_step_s": round(float(steps.max()), 3),
        "results_s": round(time.process_time() - stamps[-1], 3),
    }
    print(row, flush=True)
    return [row]


def load_trials(name: str, quick: bool) -> Rows:
    if quick:
        return long_run(name, 40, 20)
    return long_run(name, 20_000, 1000) if name == "TPESearchCV" else long_run(name, 5000, 500)


def load_races(quick: bool) -> Rows:
    """Return what `long_run` does, of searches that look at their record in more ways."""
    every, n = (20, 40) if quick else (1000, 20_000)
    stops = [tunein.EarlyStop(patience=n), tunein.TargetScore(10.0)]
    halving = tunein.Halving("resource", min_resources=1, max_resources=27)
    kinds: dict[str, tuple[int, dict[str, Any]]] = {
        "EarlyStop, TargetScore": (n, {"callbacks": stops}),
        "FoldRace": (n, {"racing": tunein.FoldRace(), "cv": KFold(3)}),
        "Halving": (int(n / 1.48), {"racing": halving}),  # and promotions
    }
    rows = []
    for kind, (n_iter, options) in kinds.items():
        rows += long_run("TPESearchCV", n_iter, every, kind, **options)
    return rows


def load_spaces(quick: bool) -> Rows:
    sizes = (("parameters", 2000), ("choices", 10_000), ("branches", 1000))
    rows = []
    for name, (what, n) in itertools.product(SEARCHES, sizes):
        rows += wide(name, what, n // 100 if quick else n, 20)
    return rows


# ---------------------------------------------------------------- looks at a record


def made_up(n: int, kind: str) -> History:
    """Return a record of `n` trials of 3 folds and one that has begun, with random scores."""
    rng = np.random.default_rng(0)
    history = History(3, 2, top=3 if kind == "Halving" else 0)
    can_go_up: list[int] = []
    for i in range(n):
        proposal = Proposal(rng.random(2), {})
        if kind == "Halving" and can_go_up and rng.random() < 1 / 3:
            parent = can_go_up.pop(int(rng.integers(len(can_go_up))))
            level = history.trials[parent].proposal.level + 1
            proposal = replace(proposal, origin="promoted", parent=parent, level=level)
        history.open(proposal)
        if proposal.level < 3:
            can_go_up.append(i)
        n_run = int(rng.integers(1, 3)) if kind == "FoldRace" and rng.random() < 0.85 else 3
        for fold in range(n_run):
            history.record(i, fold, Score(rng.random(), None, 0.01, 0.01, 7))
        if n_run < 3:
            history.drop(i)
    history.open(Proposal(np.zeros(2), {}))
    history.record(n, 0, Score(0.5, None, 0.01, 0.01, 7))
    return history


def looks(quick: bool) -> Rows:
    """Return milliseconds a look, by kind of race, of look, and number of trials."""
    sizes = (50, 100) if quick else (1000, 20_000)
    ladder = Ladder("n", 3.0, [1, 3, 9, 27], [0] * max(sizes), None)
    never = 10**6
    kinds: dict[str, dict[str, Callable[[History], Any]]] = {
        "": {
            "what a method may know": lambda history: history.known().scores,
            "EarlyStop": tunein.EarlyStop(never),
            "TargetScore": tunein.TargetScore(never),
        },
        "FoldRace": {
            "what a method may know": lambda history: history.known().scores,
            "a further fold": lambda history: history.chance(len(history) - 1),
        },
        "Halving": {
            "what a method may know": lambda history: history.known().scores,
            "promotion": lambda history: ladder.promotion(history, None, False),
        },
    }
    rows: Rows = []
    for kind, calls in kinds.items():
        histories = {n: made_up(n, kind) for n in sizes}
        for name, call in calls.items():
            row: dict[str, Any] = {"look": name, "race": kind}
            for n, history in histories.items():
                row[f"{n} trials"] = round(1000 * min(seconds_of(call, history)), 3)
            rows.append(row)
    return rows


def seconds_of(call: Callable[[History], Any], history: History) -> Iterator[float]:
    for _ in range(20):
        start = time.process_time()
        call(history)
        yield time.process_time() - start


# ---------------------------------------------------------------- memory


class Reader(BaseEstimator):
    """Reads all that it is given, without a copy."""

    def __init__(self, a: int = 0) -> None:
        self.a = a

    def fit(self, X: Any, y: Any = None) -> Self:
        self.sum_ = sum(float(X[i : i + 1000].sum()) for i in range(0, len(X), 1000))
        return self

    def score(self, X: Any, y: Any = None) -> float:
        return float(self.a + self.fit(X).sum_ / X.size)


@contextmanager
def watched(peak: dict[str, float]) -> Iterator[None]:
    """Keep the most memory that this process and its children had together, in gigabytes.

    A page that several of them have is counted once (the proportional set size). *own* is without
    pages of files, which the system takes away when others need the memory.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            own = total = 0.0
            for process in [me, *me.children(recursive=True)]:
                with suppress(OSError):
                    sizes = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
                    kb = {line.split(":")[0]: float(line.split()[1]) for line in sizes}
                    total += kb["Pss"] / 1e6
                    own += (kb["Pss_Anon"] + kb["Pss_Shmem"]) / 1e6
            peak["all"], peak["own"] = max(peak["all"], total), max(peak["own"], own)

    me, watcher = psutil.Process(), threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@contextmanager
def limited(gigabytes: float | None) -> Iterator[Path | None]:
    """Make a control group of so much memory; those in it that want more are killed."""
    if gigabytes is None:
        yield None
        return
    group = Path("/sys/fs/cgroup/memory") / f"tunein-{os.getpid()}"
    group.mkdir()
    # What is in memory already was charged to whoever read it first.
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("1")
    (group / "memory.limit_in_bytes").write_text(str(int(gigabytes * 1e9)))
    yield group
    while left := (group / "cgroup.procs").read_text().split():
        for process in left:  # loky's workers outlive a search that was killed
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        time.sleep(0.1)
    group.rmdir()


def search_large(
    name: str, kind: str, few: bool, path: Path, group: Path | None, answer: Connection
) -> None:
    """Run one search of X on two of loky's workers, in a process of its own."""
    if group:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    cv = ShuffleSplit(5, train_size=0.01, test_size=0.01, random_state=0) if few else KFold(5)
    X = np.load(path, mmap_mode="r" if kind == "file" else None)
    common: dict[str, Any] = {"cv": cv, "n_jobs": 2, "refit": False}
    if name == "GridSearchCV":
        search: Any = GridSearchCV(Reader(), {"a": [0, 1]}, error_score="raise", **common)
    else:
        search = tunein.TPESearchCV(Reader(), {"a": [0, 1]}, n_iter=2, random_state=0, **common)
    peak = {"all": 0.0, "own": 0.0}
    start = time.perf_counter()
    try:
        with watched(peak):
            search.fit(X)
        answer.send({**peak, "seconds": time.perf_counter() - start})
    finally:
        get_reusable_executor().shutdown(kill_workers=True)


def memory(quick: bool) -> Rows:
    """Return the peak of a search and of scikit-learn's, and whether they can do with less."""
    rows: Rows = []
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder) / "X.npy"
        np.save(path, np.full((2500 if quick else 250_000, 1000), 0.5))
        x_gb = path.stat().st_size / 1e9
        cases = (("file", True), ("file", False), ("array", False))
        limits = (None,) if quick else (None, 1.5 * x_gb)
        names = ("GridSearchCV", "TPESearchCV")
        for (kind, few), limit, name in itertools.product(cases, limits, names):
            mine, theirs = spawn.Pipe()
            with limited(limit) as group:
                arguments = (name, kind, few, path, group, theirs)
                process = spawn.Process(target=search_large, args=arguments)
                process.start()
                theirs.close()
                process.join()
            row: dict[str, Any] = {
                "search": name,
                "X": kind,
                "training rows": "1 %" if few else "80 %",
                "X_gb": round(x_gb, 2),
                "limit_gb": limit and round(limit, 2),
            }
            found = mine.recv() if process.exitcode == 0 else {}
            rows.append(row | {key: round(value, 2) for key, value in found.items()})
            print(rows[-1], flush=True)
    return rows


PARTS: dict[str, Callable[[bool], Rows]] = {
    "efficiency": efficiency,
    "simulation-tpe": partial(simulation, "TPESearchCV"),
    "simulation-bayes": partial(simulation, "BayesSearchCV"),
    "load-tpe": partial(load_trials, "TPESearchCV"),
    "load-bayes": partial(load_trials, "BayesSearchCV"),
    "load-races": load_races,
    "load-spaces": load_spaces,
    "looks": looks,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing is stored")
    parser.add_argument("--only", default="", help="part of the name of a part")
    options = parser.parse_args()
    for name, part in PARTS.items():
        if options.only not in name:
            continue
        rows = part(options.quick)
        print(
            f"\n{name}\n\n{markdown(list(rows[0]), [[str(v) for v in r.values()] for r in rows])}"
        )
        if not options.quick:
            with (RESULTS / f"scaling-{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, max(rows, key=len))
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    # Workers import what a module defines; what a script defines would be sent again and again.
    import scaling

    scaling.main()
