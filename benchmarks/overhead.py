"""What a search costs beside the fits: seconds to try candidates whose fits do nothing.

Every search tries 100, 300 and 1,000 candidates of an estimator whose ``fit`` does nothing and
whose score is a formula of its four parameters, with ``cv=3`` and ``n_jobs=1``; so all time is the
search's own, and that of scikit-learn around an empty fit, which `RandomizedSearchCV` shows. Each
peer reads the same space in its own dialect.

Seconds are the processor's, on one thread: what an idle machine would take. The searches take
turns within a repeat, and a ratio compares two runs of the same repeat, so that other work on the
machine falls on both. Tables show medians over repeats. A search that took longer than 10 s is not
repeated, one that takes longer than ``--cap`` is stopped. scikit-optimize takes minutes and is run
at the smallest size only, unless ``--full``.

A second table splits our searches, up to 3,000 candidates, into the time inside `_ask`, which is
the method's thinking, and the rest, which must not grow with the candidates tried so far: the
exponent of the rest against the number of candidates should be 1.

Run from the root of the repository; peers that are missing are named and left out (OptunaSearchCV
needs pandas)::

    export PYTHONPATH=.
    python benchmarks/overhead.py                    # minutes; writes results/overhead.csv
    python benchmarks/overhead.py --full --cap 3600  # hours
    python benchmarks/overhead.py --quick            # smoke test, stores nothing
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import math
import os
import platform
import signal
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

import numpy as np
from report import markdown
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator
from sklearn.model_selection import RandomizedSearchCV
from threadpoolctl import threadpool_limits

import tunein

RESULTS = Path(__file__).parent / "results"
SIZES = (100, 300, 1000)
OWN_SIZES = (*SIZES, 3000)  # far enough for a quadratic cost to show
TARGET = 3.0  # TPESearchCV against RandomizedSearchCV
SLOW = 10.0  # seconds from which a run is not repeated
COMMON: dict[str, Any] = {"cv": 3, "n_jobs": 1, "refit": False}
KERNELS = ["linear", "poly", "rbf"]


class NoOp(BaseEstimator):
    """An estimator that costs nothing and has a best setting."""

    def __init__(
        self, C: float = 1.0, shrink: float = 0.5, degree: int = 3, kernel: str = "rbf"
    ) -> None:
        self.C = C
        self.shrink = shrink
        self.degree = degree
        self.kernel = kernel

    def fit(self, X: Any, y: Any = None) -> Self:
        """Do nothing."""
        return self

    def score(self, X: Any, y: Any = None) -> float:
        """Return at most 0, at C=1, shrink=0.3, degree=30, kernel="rbf"."""
        numbers = (math.log10(self.C) / 3, self.shrink - 0.3, (self.degree - 30) / 100)
        return -sum(number**2 for number in numbers) - 0.1 * KERNELS[::-1].index(self.kernel)


# ---------------------------------------------------------------- the same space for everyone


def random_search(n: int, seed: int) -> Any:
    return RandomizedSearchCV(NoOp(), sklearn_space(), n_iter=n, random_state=seed, **COMMON)


def tunein_tpe(n: int, seed: int) -> Any:
    search = with_clock(tunein.TPESearchCV)
    return search(NoOp(), sklearn_space(), n_iter=n, random_state=seed, **COMMON)


def tunein_bayes(n: int, seed: int) -> Any:
    search = with_clock(tunein.BayesSearchCV)
    return search(NoOp(), sklearn_space(), n_iter=n, random_state=seed, **COMMON)


def skopt_bayes(n: int, seed: int) -> Any:
    from skopt import BayesSearchCV

    return BayesSearchCV(NoOp(), skopt_space(), n_iter=n, random_state=seed, **COMMON)


def optuna_tpe(n: int, seed: int) -> Any:
    import optuna
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna_integration import OptunaSearchCV

    space = {
        "C": FloatDistribution(1e-3, 1e3, log=True),
        "shrink": FloatDistribution(0.0, 1.0),
        "degree": IntDistribution(1, 100),
        "kernel": CategoricalDistribution(KERNELS),
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # one line a candidate otherwise
    return OptunaSearchCV(NoOp(), space, n_trials=n, random_state=seed, **COMMON)


def hyperopt_tpe(n: int, seed: int) -> Any:
    from hyperopt import hp, tpe
    from hyperopt.sklearn import HyperoptSearchCV

    space = {
        "C": hp.loguniform("C", math.log(1e-3), math.log(1e3)),
        "shrink": hp.uniform("shrink", 0.0, 1.0),
        "degree": hp.uniformint("degree", 1, 100),
        "kernel": hp.choice("kernel", KERNELS),
    }
    return HyperoptSearchCV(
        NoOp(), space, max_evals=n, algo=tpe.suggest, random_state=seed, **COMMON
    )


def sklearn_space() -> dict[str, Any]:
    return {
        "C": loguniform(1e-3, 1e3),
        "shrink": uniform(0, 1),
        "degree": randint(1, 101),
        "kernel": KERNELS,
    }


def skopt_space() -> dict[str, Any]:
    from skopt.space import Categorical, Integer, Real

    return {
        "C": Real(1e-3, 1e3, prior="log-uniform"),
        "shrink": Real(0.0, 1.0),
        "degree": Integer(1, 100),
        "kernel": Categorical(KERNELS),
    }


def with_clock(search: type[Any]) -> type[Any]:
    """Return one of our searches that adds up the time it spends in `_ask`."""

    class WithClock(search):  # type: ignore[misc]
        ask_seconds = 0.0

        def _ask(self, *args: Any) -> Any:
            start = time.process_time()
            try:
                return super()._ask(*args)
            finally:
                self.ask_seconds += time.process_time() - start

    return WithClock


@dataclass(frozen=True)
class Method:
    """A search to measure: ``build(n_candidates, seed)`` returns it, ready to fit."""

    name: str
    package: str
    build: Callable[[int, int], Any]
    sizes: tuple[int, ...] = SIZES


BASELINE = Method("RandomizedSearchCV", "scikit-learn", random_search, OWN_SIZES)
METHODS = (
    BASELINE,
    Method("TPESearchCV", "tunein", tunein_tpe, OWN_SIZES),
    Method("BayesSearchCV", "tunein", tunein_bayes, OWN_SIZES),
    Method("HyperoptSearchCV", "hyperopt", hyperopt_tpe),
    Method("OptunaSearchCV", "optuna-integration", optuna_tpe),
    Method("BayesSearchCV", "scikit-optimize", skopt_bayes, SIZES[:1]),
)


# ---------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Run:
    """One fit of one search."""

    method: str
    package: str
    n_candidates: int
    repeat: int
    seconds: float  # of the processor
    wall_seconds: float
    ask_seconds: float | None  # of the processor, in `_ask`; None for searches that have none
    capped: bool  # stopped there, unfinished


class OutOfTime(KeyboardInterrupt):
    """Raised by the clock; of a kind that no search takes for a failed fit."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block once it has had so much of the processor."""

    def stop(*_: Any) -> None:
        raise OutOfTime

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


@contextlib.contextmanager
def quiet(package: str) -> Iterator[None]:
    """Keep the peers' deprecations and progress bars off the screen; ours must not need it."""
    if package == "tunein":
        yield
        return
    screen = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(screen),
        contextlib.redirect_stderr(screen),
    ):
        warnings.filterwarnings("ignore", module=r"optuna|hyperopt|skopt|__main__|overhead")
        yield


def run(method: Method, n: int, repeat: int, cap: float) -> Run:
    X, y = np.zeros((12, 1)), np.zeros(12)
    capped = False
    with quiet(method.package):
        search = method.build(n, repeat)
        wall, start = time.perf_counter(), time.process_time()
        try:
            with time_limit(cap), threadpool_limits(limits=1):
                search.fit(X, y)
        except OutOfTime:
            capped = True
        seconds, wall = time.process_time() - start, time.perf_counter() - wall
    ask_seconds = getattr(search, "ask_seconds", None)
    return Run(method.name, method.package, n, repeat, seconds, wall, ask_seconds, capped)


def run_all(methods: Sequence[Method], repeats: int, cap: float) -> list[Run]:
    """Run every method at all its sizes, taking turns; what was slow once is not repeated."""
    runs: list[Run] = []
    slow: set[tuple[Method, int]] = set()
    for n in sorted({n for method in methods for n in method.sizes}):
        for repeat in range(repeats):
            for method in methods:
                if n not in method.sizes or (method, n) in slow:
                    continue
                runs.append(run(method, n, repeat, cap))
                if runs[-1].seconds > SLOW:
                    slow.add((method, n))
                print(describe(runs[-1]), flush=True)
                if runs[-1].capped:  # more candidates would not take less
                    slow.update((method, larger) for larger in method.sizes if larger > n)
    return runs


def describe(run: Run) -> str:
    return (
        f"  {run.package}'s {run.method}, {run.n_candidates} candidates, repeat {run.repeat}: "
        f"{'stopped at ' if run.capped else ''}{run.seconds:.2f} s"
    )


def importable(methods: Iterable[Method], cap: float) -> Iterator[Method]:
    """Yield the methods whose packages are here, run once so that lazy imports are over."""
    for method in methods:
        try:
            run(method, 15, 0, cap)
        except ImportError as error:
            print(f"{method.package}'s {method.name} is left out: {error}")
        else:
            yield method


# ---------------------------------------------------------------- tables


def overhead_table(runs: Sequence[Run]) -> str:
    header = ["search", "candidates", "seconds", "ms per candidate", "x RandomizedSearchCV", "runs"]
    rows = []
    for group in grouped(runs, "package", "method", "n_candidates"):
        first, seconds = group[0], median(run.seconds for run in group)
        sign = "> " if first.capped else ""
        rows.append(
            [
                f"{first.package} {first.method}",
                f"{first.n_candidates:,}",
                f"{sign}{seconds:.2f}",
                f"{sign}{1e3 * seconds / first.n_candidates:.2f}",
                f"{sign}{ratio(group, runs):.2f}",
                str(len(group)),
            ]
        )
    return markdown(header, rows)


def ask_table(runs: Sequence[Run]) -> str:
    """Split our searches into thinking and the rest, in ms per candidate."""
    header = ["search", "candidates", "in `_ask`", "rest", "rest of RandomizedSearchCV"]
    rows = []
    for group in grouped(runs, "package", "method", "n_candidates"):
        first, n = group[0], group[0].n_candidates
        if first.ask_seconds is None or first.capped:
            continue
        cells = [
            median(run.ask_seconds for run in group),
            median(rest(run) for run in group),
            median(run.seconds for run in at(runs, BASELINE, n)),
        ]
        rows.append([first.method, f"{n:,}", *(f"{1e3 * cell / n:.3f}" for cell in cells)])
    return markdown(header, rows)


def exponent(runs: Sequence[Run], method: Method) -> float:
    """Return p in rest ~ n^p, by least squares on logarithms of medians."""
    groups = {n: [run for run in at(runs, method, n) if not run.capped] for n in method.sizes}
    sizes = [n for n in groups if groups[n]]
    if len(sizes) < 2:
        return math.nan
    rests = [median(rest(run) for run in groups[n]) for n in sizes]
    return float(np.polyfit(np.log(sizes), np.log(rests), 1)[0])


def rest(run: Run) -> float:
    return run.seconds - (run.ask_seconds or 0.0)


def ratio(group: Sequence[Run], runs: Sequence[Run]) -> float:
    """Return the median ratio to `RandomizedSearchCV` in the same repeat."""
    baseline = {run.repeat: run.seconds for run in at(runs, BASELINE, group[0].n_candidates)}
    return median(run.seconds / baseline[run.repeat] for run in group)


def at(runs: Sequence[Run], method: Method, n: int) -> list[Run]:
    key = (method.package, method.name, n)
    return [run for run in runs if (run.package, run.method, run.n_candidates) == key]


def grouped(runs: Sequence[Any], *fields: str) -> list[list[Any]]:
    """Collect the runs that agree in `fields`, in the order of the first run."""
    groups: dict[Any, list[Any]] = {}
    for run in runs:
        groups.setdefault(attrgetter(*fields)(run), []).append(run)
    return list(groups.values())


def median(values: Iterable[float | None]) -> float:
    return statistics.median(value for value in values if value is not None)


# ---------------------------------------------------------------- where it was measured


def environment() -> dict[str, str]:
    """Return what a number depends on beside the code: the columns that end every result file."""
    packages = ("scikit-learn", "numpy", "scipy", "joblib")
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def package_version(package: str) -> str:
    return tunein.__version__ if package == "tunein" else version(package)


def save(runs: Sequence[Any], path: Path) -> None:
    """Write runs (dataclasses with a `package`) as CSV, with versions in every row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {**asdict(run), "version": package_version(run.package), **environment()} for run in runs
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"\nWritten to {path}.")


def show(runs: Sequence[Run], methods: Sequence[Method]) -> None:
    print(f"\n{overhead_table(runs)}\n\n{ask_table(runs)}\n")
    for method in methods:
        if method.package in ("scikit-learn", "tunein"):
            print(f"{method.name} outside `_ask` takes n^{exponent(runs, method):.2f}.")
    for group in grouped(runs, "package", "method", "n_candidates"):
        if group[0].method == "TPESearchCV":
            times = ratio(group, runs)
            verdict = "holds" if times <= TARGET else "is missed"
            print(
                f"TPESearchCV at {group[0].n_candidates:,} candidates: {times:.2f} x "
                f"RandomizedSearchCV; the target of {TARGET:.2f} x {verdict}."
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="try 20 and 50 candidates, once")
    parser.add_argument("--full", action="store_true", help="scikit-optimize at every size")
    parser.add_argument(
        "--cap", type=float, default=120.0, help="seconds (of the processor) a run may take"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--csv", type=Path, help="where to write the results")
    options = parser.parse_args()
    methods = list(importable(METHODS, options.cap))
    if options.full:
        methods = [
            replace(method, sizes=tuple(sorted({*SIZES, *method.sizes}))) for method in methods
        ]
    if options.quick:
        methods = [replace(method, sizes=(20, 50)) for method in methods]
    if not (options.full or options.quick):
        print(f"scikit-optimize is run at {SIZES[0]} candidates only; --full runs all.")
    runs = run_all(methods, 1 if options.quick else options.repeats, options.cap)
    show(runs, methods)
    path = options.csv or (None if options.quick else RESULTS / "overhead.csv")
    if path:
        save(runs, path)


if __name__ == "__main__":
    main()
