"""How busy a search keeps its workers: wall time of ``fit`` against the ideal.

Four workers try 60 candidates on five folds. A fit sleeps for a time of its own, exponentially
distributed with a mean of 50 ms and decided by parameters and fold, so that its length has nothing
to do with the method or the moment. The ideal is the larger of a quarter of all fit times, as the
search recorded them, and the longest one. What lies above is waiting: for the slowest fold of a
batch, for the next candidate to be thought of, for messages.

Not counted is the start of the pool: before each fit, trivial calls keep every worker busy until
all four run and have their modules. Sleeping takes no processor, so two cores are enough for four
workers; thinking does, so run this on an idle machine. The searches think on one thread and take
turns; tables show medians over repeats.

Our searches run with ``random_state=None``, where a proposal sees all that has finished, and with
an int, where it sees what it would see on every run. scikit-optimize proposes four candidates at a
time and waits for them all (``n_points=4``). Run from the root of the repository::

    export PYTHONPATH=.
    python benchmarks/streaming.py                # minutes; writes results/streaming.csv
    python benchmarks/streaming.py --only tunein --csv experiment.csv
    python benchmarks/streaming.py --quick        # smoke test, stores nothing
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed, parallel_config
from overhead import RESULTS, NoOp, grouped, median, quiet, save, sklearn_space, skopt_space
from report import markdown
from sklearn.model_selection import KFold, RandomizedSearchCV
from threadpoolctl import threadpool_limits

import tunein

N_WORKERS = 4
N_CANDIDATES = 60  # of fewer, the last ones weigh too much for a verdict
MEAN_SECONDS = 0.05
BACKENDS = ("loky", "threading")
CV = KFold(5)
COMMON: dict[str, Any] = {"cv": CV, "n_jobs": N_WORKERS, "refit": False}
X, Y = np.arange(20.0)[:, None], np.zeros(20)


class Sleeper(NoOp):
    """An estimator whose fit takes a time of its own."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Sleep."""
        time.sleep(fit_seconds(self.get_params(), X))
        return self


def fit_seconds(params: dict[str, Any], X: Any) -> float:
    """Return how long a fit takes: an exponential variate, decided by the arguments."""
    text = str([f"{name}={params[name]}" for name in sorted(params)])
    digest = hashlib.sha256(text.encode() + X.tobytes()).digest()
    uniform = (int.from_bytes(digest[:4]) + 0.5) / 2**32
    return -MEAN_SECONDS * math.log(uniform)


# ---------------------------------------------------------------- the searches


@dataclass(frozen=True)
class Method:
    """A search to measure: ``build(n_candidates, seed)`` returns it, ready to fit."""

    name: str
    package: str
    build: Callable[[int, int], Any]
    target: float | None = None  # against the ideal


def random_search(n: int, seed: int) -> Any:
    return RandomizedSearchCV(Sleeper(), sklearn_space(), n_iter=n, random_state=seed, **COMMON)


def skopt_bayes(n: int, seed: int) -> Any:
    from skopt import BayesSearchCV

    space = skopt_space()
    return BayesSearchCV(
        Sleeper(), space, n_iter=n, n_points=N_WORKERS, random_state=seed, **COMMON
    )


def ours(search: type[Any], *, is_seeded: bool) -> Method:
    def build(n: int, seed: int) -> Any:
        random_state = seed if is_seeded else None
        return search(Sleeper(), sklearn_space(), n_iter=n, random_state=random_state, **COMMON)

    name = f"{search.__name__}, random_state={'int' if is_seeded else 'None'}"
    return Method(name, "tunein", build, 1.35 if is_seeded else 1.15)


METHODS = (
    Method("RandomizedSearchCV", "scikit-learn", random_search),
    ours(tunein.TPESearchCV, is_seeded=False),
    ours(tunein.TPESearchCV, is_seeded=True),
    ours(tunein.BayesSearchCV, is_seeded=False),
    ours(tunein.BayesSearchCV, is_seeded=True),
    Method("BayesSearchCV, n_points=4", "scikit-optimize", skopt_bayes),
)


# ---------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Run:
    """One fit of one search."""

    method: str
    package: str
    backend: str
    n_candidates: int
    repeat: int
    seconds: float
    ideal_seconds: float

    @property
    def ratio(self) -> float:
        """Return how many times the ideal it took."""
        return self.seconds / self.ideal_seconds


def run(method: Method, backend: str, n: int, repeat: int) -> Run:
    with quiet(method.package), threadpool_limits(limits=1), parallel_config(backend=backend):
        search = method.build(n, repeat)
        warm_up()
        start = time.perf_counter()
        search.fit(X, Y)
        seconds = time.perf_counter() - start
    ideal = ideal_seconds(search.cv_results_)
    return Run(method.name, method.package, backend, n, repeat, seconds, ideal)


def warm_up() -> None:
    """Return when all workers run."""
    workers: set[tuple[int, int]] = set()
    while len(workers) < N_WORKERS:
        calls = (delayed(nap)() for _ in range(2 * N_WORKERS))
        workers = set(Parallel(N_WORKERS, batch_size=1)(calls))


def nap() -> tuple[int, int]:
    time.sleep(MEAN_SECONDS)
    return os.getpid(), threading.get_ident()


def ideal_seconds(results: dict[str, Any]) -> float:
    total = CV.get_n_splits() * float(np.sum(results["mean_fit_time"]))
    longest = max(
        fit_seconds(params, X[train]) for params in results["params"] for train, _ in CV.split(X)
    )
    return max(total / N_WORKERS, longest)


def run_all(methods: Sequence[Method], n: int, repeats: int) -> list[Run]:
    runs = []
    for backend in BACKENDS:
        for repeat in range(repeats):
            for method in methods:
                try:
                    runs.append(run(method, backend, n, repeat))
                except ImportError as error:
                    print(f"  {method.package}'s {method.name} is left out: {error}")
                else:
                    print(f"  {backend}, {method.name}: {runs[-1].ratio:.3f} x ideal", flush=True)
    return runs


# ---------------------------------------------------------------- the table


def table(runs: Sequence[Run]) -> str:
    targets = {method.name: method.target for method in METHODS}
    header = ["search", "backend", "seconds", "x ideal", "least and most", "target", "runs"]
    rows = []
    for group in grouped(runs, "backend", "package", "method"):
        first, ratios = group[0], [run.ratio for run in group]
        target = targets[first.method] if first.n_candidates >= N_CANDIDATES else None
        verdict = "holds" if target and median(ratios) <= target else "is missed"
        rows.append(
            [
                f"{first.package} {first.method}",
                first.backend,
                f"{median(run.seconds for run in group):.2f}",
                f"{median(ratios):.3f}",
                f"{min(ratios):.3f}, {max(ratios):.3f}",
                f"{target} {verdict}" if target else "",
                str(len(group)),
            ]
        )
    return markdown(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="try 8 candidates, once")
    parser.add_argument("--only", default="", help="part of the package or name of a search")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--csv", type=Path, help="where to write the results")
    options = parser.parse_args()
    methods = [method for method in METHODS if options.only in f"{method.package} {method.name}"]
    if not methods:
        parser.error(f"--only={options.only!r} is part of no package or name of a search.")
    n, repeats = (8, 1) if options.quick else (N_CANDIDATES, options.repeats)
    runs = run_all(methods, n, repeats)
    print(f"\n{table(runs)}")
    path = options.csv or (None if options.quick else RESULTS / "streaming.csv")
    if path:
        save(runs, path)


if __name__ == "__main__":
    # Workers import what a module defines, as they import installed estimators; what a script
    # defines would be sent to them again and again.
    import streaming

    streaming.main()
