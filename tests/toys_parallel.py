"""Functions, estimators and scripts for the tests of what runs elsewhere; importable by workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from fakes import Refusal
from joblib._parallel_backends import ThreadingBackend
from sklearn import get_config
from sklearn.base import BaseEstimator

import tunein

# How long anything that should happen may take, on whatever machine, before a test gives up.
PATIENCE = 15


# ------------------------------------------------------------------ calls


def double(x):
    return 2 * x


def refuse(x):
    raise Refusal(f"cannot do {x}")


def raise_it(error):
    raise error


def wait_until(condition, seconds=PATIENCE):
    """Look again and again; False if there was nothing to be seen in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def wait_for_file(path, x):
    """Return `x` once there is a file."""
    if not wait_until(Path(path).exists):
        raise TimeoutError(f"{path} did not appear")
    return x


def touch_after_file(path, told):
    """Say that the call has begun, wait for a file, and write another."""
    Path(told + ".begun").touch()
    wait_for_file(path, None)
    Path(told).touch()


def look_at(X):
    """Tell which file an array lives in, if it does, and whether it may be written to."""
    return getattr(X, "filename", None), isinstance(X, np.memmap), X.flags.writeable, float(X.sum())


def config_seen():
    return get_config()


def warn_and_tell(text):
    """Tell what becomes of a warning here."""
    with warnings.catch_warnings(record=True) as caught:
        try:
            warnings.warn(text, UserWarning, stacklevel=1)
        except UserWarning:
            return "error"
    return "shown" if caught else "ignored"


def die():
    os._exit(1)


class TwoArguments(Exception):
    """Can be pickled, but not be loaded again, as many errors of many libraries."""

    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")


class WithLock(Exception):
    """Cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Outcry(BaseException):
    """No Exception, and nothing that Python itself knows of."""


class Unsendable:
    """A parameter that can be copied, as `clone` does, but not sent to another process."""

    def __init__(self):
        self.lock = threading.Lock()

    def __deepcopy__(self, memo):
        return self


# ------------------------------------------------------------------ backends


class CountingThreads(ThreadingBackend):
    """Threads that know how many calls were with them at most."""

    def __init__(self, **options):
        super().__init__(**options)
        self.lock = threading.Lock()
        self.in_flight = self.most = 0

    def submit(self, func, callback=None):
        with self.lock:
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)

        def count(out):
            with self.lock:
                self.in_flight -= 1
            callback(out)

        return super().submit(func, count)


class SilentThreads(ThreadingBackend):
    """A backend of the old kind, which keeps results until it is asked."""

    supports_retrieve_callback = False


@contextmanager
def dask_client():
    """Start two worker processes that are spoken to over TCP."""
    from distributed import Client, LocalCluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dask's own, about its files and sockets
        cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        )
        client = Client(cluster)
    try:
        yield client
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client.close()
            cluster.close()


# ------------------------------------------------------------------ estimators


class Plain(BaseEstimator):
    """Scores `a`, and less on later folds; costs nothing to fit."""

    def __init__(self, a=0, b=0):
        self.a = a
        self.b = b

    def fit(self, X, y=None):
        return self

    def score(self, X, y=None):
        return float(self.a - 0.001 * X[0, 0])


class Picky(BaseEstimator):
    """Fits where its folds begin, but not on all data."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y=None):
        if len(X) == 20:
            raise Refusal("cannot fit all data")
        return self

    def score(self, X, y=None):
        return float(self.a)


class Dawdler(BaseEstimator):
    """Takes a time that nobody can foretell; scores best at the middle of both parameters.

    ``pace`` is "random", or "early" or "late" for whose folds are slow: the first or the last.
    """

    def __init__(self, a=0.5, b=0.5, pace="random"):
        self.a = a
        self.b = b
        self.pace = pace

    def fit(self, X, y=None):
        if self.pace == "random":
            time.sleep(os.urandom(1)[0] / 20_000)
        elif (X[0, 0] > 0) == (self.pace == "early"):
            time.sleep(0.01)
        return self

    def score(self, X, y=None):
        return float(-((self.a - 0.4) ** 2) - (self.b - 0.6) ** 2 - 0.001 * X[0, 0])


class Stage:
    """What the threads of a test share: events and a list; survives `clone`."""

    def __init__(self, n_parties=None):
        self.barrier = None if n_parties is None else threading.Barrier(n_parties)
        self.lock = threading.Lock()
        self.scored = []
        self.gate = threading.Event()

    def __deepcopy__(self, memo):
        return self


class Meeting(BaseEstimator):
    """Fits only when as many others are being fitted as there are workers."""

    def __init__(self, a=0, stage=None):
        self.a = a
        self.stage = stage

    def fit(self, X, y=None):
        self.stage.barrier.wait(PATIENCE)
        return self

    def score(self, X, y=None):
        return float(self.a % 7)


class Straggler(BaseEstimator):
    """With ``a=0``, the first fold waits until the test opens the gate."""

    def __init__(self, a=0, stage=None, n_before=0):
        self.a = a
        self.stage = stage
        self.n_before = n_before

    def fit(self, X, y=None):
        # The first fold is that without the first sample.
        if self.a == 0 and X[0, 0] > 0 and not self.stage.gate.wait(PATIENCE):
            raise TimeoutError("nothing else was scored")
        return self

    def score(self, X, y=None):
        with self.stage.lock:
            self.stage.scored.append((self.a, float(X[0, 0])))
            if len(self.stage.scored) >= self.n_before:
                self.stage.gate.set()
        return float(self.a)


def overflow(text):
    return overflow(text)


TROUBLES = {
    "Refusal": Refusal,
    "Outcry": Outcry,
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "RecursionError": overflow,
    "MemoryError": MemoryError,
    "AssertionError": AssertionError,
    "TwoArguments": lambda text: TwoArguments(text, "more"),
    "WithLock": WithLock,
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": SystemExit,
}


class Troubled(BaseEstimator):
    """Gets into trouble at `where` if `a` is among `bad`, on all folds or on the later ones."""

    def __init__(self, a=0, trouble="Refusal", where="fit", bad=(), folds="all"):
        self.a = a
        self.trouble = trouble
        self.where = where
        self.bad = bad
        self.folds = folds

    def set_params(self, **params):
        super().set_params(**params)
        self._meet("set_params")
        return self

    def fit(self, X, y=None):
        # On the first fold, the first sample is in the test set.
        self._meet("fit", is_first=X[0, 0] > 0)
        self._meet("die")
        return self

    def score(self, X, y=None):
        self._meet("score", is_first=X[0, 0] == 0)
        return float(self.a)

    def _meet(self, where, is_first=False):
        if where != self.where or self.a not in self.bad or (self.folds == "later" and is_first):
            return
        if where == "die":
            die()
        raise TROUBLES[self.trouble](f"trouble with a={self.a}")


class Odd(BaseEstimator):
    """Has a score that is no number for ``a=1``."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y=None):
        return self


ODD_SCORES = {
    "a string": "high",
    "None": None,
    "a list": [1.0, 2.0],
    "complex": 1j,
    "huge": 10**400,
    "an array": np.arange(2.0),
    "dict of strings": {"a": "high"},
    "an object": object(),
}


class OddScore:
    """A scorer that returns `odd` for ``a=1``."""

    def __init__(self, odd):
        self.odd = odd

    def __call__(self, estimator, X, y=None):
        return ODD_SCORES[self.odd] if estimator.a == 1 else float(estimator.a)


class Stuck(BaseEstimator):
    """From ``a=3`` on, a fit writes a file into `folder` and does not end."""

    def __init__(self, a=0, folder=None):
        self.a = a
        self.folder = folder

    def fit(self, X, y=None):
        if self.a >= 3 and self.folder is not None:
            (Path(self.folder) / f"stuck.{self.a}.{int(X[0, 0])}").touch()
            time.sleep(10 * PATIENCE)
        return self

    def score(self, X, y=None):
        return float(self.a)


# ------------------------------------------------------------------ scripts


class Script:
    """A Python program in its own process group, of which nothing outlives the test."""

    def __init__(self, text, *arguments):
        homes = [Path(__file__).parent, Path(tunein.__file__).parent.parent]
        paths = [*map(str, homes), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-W",
                "ignore",
                "-c",
                textwrap.dedent(text),
                *map(str, arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )

    def interrupt(self, whole_group=False):
        """Press Ctrl-C; in a terminal that reaches the whole group."""
        (os.killpg if whole_group else os.kill)(self.process.pid, signal.SIGINT)

    def finish(self):
        """Return the exit code, what was printed and what was complained about."""
        import pytest  # here and not above, for workers that start sooner without

        try:
            out, err = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            out, err = self.process.communicate()
            pytest.fail(f"The script did not end. It printed:\n{out}\n{err[-3000:]}")
        if not wait_until(lambda: not self.living()):
            living = self.living()
            os.killpg(self.process.pid, signal.SIGKILL)
            pytest.fail(f"Processes outlived the script: {living}")
        return self.process.returncode, out, err

    def living(self):
        """Command lines of all processes of the group that are alive."""
        import psutil

        found = []
        for process in psutil.process_iter():
            try:
                is_ours = os.getpgid(process.pid) == self.process.pid
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.cmdline())
            except (psutil.Error, ProcessLookupError):
                continue
        return found
