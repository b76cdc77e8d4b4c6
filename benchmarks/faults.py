"""Faults injected into searches: how many results were lost, how many searches ended early.

Two sorts. Of the first, one candidate of forty harms its worker or cannot be handed back; the
search should lose that candidate only. A result is lost if another fold lacks the score that it
has without the fault. Of the second, something ends the search, which is then resumed from its
journal; a result is lost if a fold that was written down is fitted again, or if the candidates or
scores of the resumed search are not those of one that nothing ended. What was in work when the
search ended (a fit that began and has no score in the journal) is fitted again, and counts as no
loss. Each end comes after at least one more event was written than at the one before; a fault
that was not seen to happen is an error, not a count.

Run from the root::

    python benchmarks/faults.py                # three minutes; prints the table

An out-of-memory kill needs root and control groups of version 1; without, its row is left out.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from joblib import parallel_config
from report import markdown
from sklearn.base import BaseEstimator

from tunein import TPESearchCV

X = np.arange(40.0).reshape(20, 2)
N_CANDIDATES, N_FOLDS, BAD = 40, 2, 3
N_KILLS = 20


def unpicklable() -> Any:
    return type("Score", (float,), {"__reduce__": lambda self: 1 / 0})(1.0)


class Broken(Exception):
    """Cannot be made anew from its arguments, so cannot be unpickled."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what)


def raise_broken() -> None:
    raise Broken("one", "two")


def too_much_memory() -> None:
    (group() / "cgroup.procs").write_text(str(os.getpid()))
    np.ones(2**27)


IN_FIT = {
    "SIGKILL of the worker": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segmentation fault": lambda: ctypes.string_at(0),
    "os._exit": lambda: os._exit(3),
    "killed for want of memory": too_much_memory,
    "a fit that hangs, with fit_timeout": lambda: time.sleep(1000),
    "an error that cannot be unpickled": raise_broken,
}
IN_SCORE = {
    "a score that cannot be pickled": unpicklable,
    "a score that is no number": lambda: "good",
    "a score that is NaN": lambda: np.nan,
}
ENDS = ("SIGINT", "SIGTERM", "a callback that raises", "a full disk", "kill -9, at random")


class Faulty(BaseEstimator):
    """Has a fault with one value of its parameter; writes each fit down in a file."""

    def __init__(self, a: int = 0, fault: str = "", diary: str | None = None) -> None:
        self.a = a
        self.fault = fault
        self.diary = diary

    def fit(self, X: Any, y: Any = None) -> Self:
        if self.diary is not None:
            with Path(self.diary).open("a") as file:
                file.write(f"{self.a} {X[0, 0]}\n")
            time.sleep(0.01)
        if self.a == BAD and self.fault in IN_FIT:
            IN_FIT[self.fault]()
        self.mean_ = float(X.mean())
        return self

    def score(self, X: Any, y: Any = None) -> Any:
        if self.a == BAD and self.fault in IN_SCORE:
            return IN_SCORE[self.fault]()
        return self.mean_ - self.a


def search(estimator: Faulty, **options: Any) -> TPESearchCV:
    settings = {"n_iter": N_CANDIDATES, "cv": N_FOLDS, "random_state": 0, "refit": False}
    return TPESearchCV(estimator, {"a": list(range(N_CANDIDATES))}, **{**settings, **options})


def scores(fitted: TPESearchCV) -> dict[int, list[Any]]:
    return {trial.params["a"]: [s and s.test for s in trial.scores] for trial in fitted.history_}


# --------------------------------------------------------------------- what a search survives


def group() -> Path:
    return Path("/sys/fs/cgroup/memory/tunein-faults")


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    group().mkdir()
    try:
        (group() / "memory.limit_in_bytes").write_text(str(200 << 20))
        yield
    finally:
        for _ in range(100):  # what was in it has to end
            with contextlib.suppress(OSError):
                group().rmdir()
                break
            time.sleep(0.05)


def survive(fault: str) -> tuple[int, int, int]:
    """Return faults injected, results lost, searches ended early."""
    expected = scores(search(Faulty(), n_jobs=2).fit(X))
    guard = little_memory() if fault == "killed for want of memory" else contextlib.nullcontext()
    limit = 3 if "fit_timeout" in fault else None
    with guard, parallel_config("loky"):
        found = scores(search(Faulty(fault=fault), n_jobs=2, fit_timeout=limit).fit(X))
    if not np.isnan(np.array(found[BAD], dtype=float)).all():
        raise RuntimeError(f"{fault}: did not happen")
    lost = sum(found.get(a) != expected[a] for a in expected if a != BAD)
    return N_FOLDS, N_FOLDS * lost, int(len(found) < N_CANDIDATES)


# --------------------------------------------------------------------- what ends a search


class Raising:
    """A callback."""

    def __call__(self, history: Any) -> None:
        if len(history.closed) == 5:
            raise RuntimeError("on purpose")


def run_here(folder: str, fault: str) -> None:
    """Run the search in this process, which is to be ended; called by another one."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if fault == "a full disk":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    callbacks = Raising() if fault == "a callback that raises" else None
    estimator = Faulty(diary=f"{folder}/diary")
    search(estimator, checkpoint=f"{folder}/run.jsonl", callbacks=callbacks).fit(X)


def written(folder: str) -> list[str]:
    """Return the whole lines of the journal."""
    path = Path(folder) / "run.jsonl"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def progress(folder: str) -> tuple[int, int]:
    """Return how many fits have begun, and how many scores are in the journal."""
    diary = Path(folder) / "diary"
    n_begun = len(diary.read_text().splitlines()) if diary.exists() else 0
    return n_begun, sum(line.startswith('{"score"') for line in written(folder))


def end_once(folder: str, fault: str, n_more: int) -> int:
    """Run the search until the fault ends it; return how many folds were in work then."""
    n_events, (begun, scored) = len(written(folder)), progress(folder)
    command = [sys.executable, __file__, folder, fault]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        if fault in ("SIGINT", "SIGTERM", "kill -9, at random"):
            while len(written(folder)) < n_events + n_more and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL if "kill" in fault else getattr(signal, fault))
        if process.wait() == 0 or len(written(folder)) <= n_events:
            raise RuntimeError(f"{fault}: did not happen, or before anything was written")
    begun_after, scored_after = progress(folder)
    return min(max((begun_after - begun) - (scored_after - scored), 0), 1)  # of the one worker


def end(fault: str) -> tuple[int, int, int]:
    """Return faults injected, results lost, searches ended early."""
    moments = random.Random(0)
    more = [moments.randint(1, 4) for _ in range(N_KILLS)] if "random" in fault else [10]
    with tempfile.TemporaryDirectory() as folder:
        in_work = sum(end_once(folder, fault, n_more) for n_more in more)
        estimator = Faulty(diary=f"{folder}/diary")
        resumed = search(estimator, checkpoint=f"{folder}/run.jsonl").fit(X)
        n_fits, _ = progress(folder)
    again = n_fits - N_CANDIDATES * N_FOLDS - in_work
    differ = scores(resumed) != scores(search(Faulty()).fit(X))
    return len(more), max(again, 0) + N_CANDIDATES * N_FOLDS * differ, len(more)


def main() -> None:
    if len(sys.argv) > 1:
        run_here(*sys.argv[1:])
        return
    warnings.simplefilter("ignore")  # of fits that fail
    rows = []
    for fault in (*IN_FIT, *IN_SCORE, *ENDS):
        try:
            counts = (end if fault in ENDS else survive)(fault)
        except OSError as error:
            if fault != "killed for want of memory":
                raise
            print(f"{fault}: left out, as {error}", file=sys.stderr)
            continue
        rows.append([fault, *map(str, counts)])
    total = np.sum([[int(n) for n in row[1:]] for row in rows], axis=0)
    rows.append(["all", *map(str, total)])
    print(markdown(["fault", "injected", "results lost", "searches ended early"], rows))


if __name__ == "__main__":
    import faults  # workers find what a module defines

    faults.main()
