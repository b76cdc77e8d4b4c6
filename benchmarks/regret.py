"""Measure how well the searches search: what 50 candidates find, against random search.

Every task of ``tasks.py`` is searched end to end through the public ``fit``, by each method with
several seeds. A run stores the mean test score of each candidate in the order of proposal, so that
``report.py`` can tell how far the best so far is from the best known after 25 and 50 of them.

Our searches try the estimator's current parameters first if the space contains them. That is not
what is measured here, so the comparator ``default-random`` gets the same candidate: whatever ours
begin with as "default", then ``RandomizedSearchCV`` for the rest. ``random`` is plain.

The best known score of a task needs a long look: ``--reference`` stores one plain random search of
300 candidates per task. Run from the root of the repository, on one thread for stable times::

    export PYTHONPATH=. OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
    python benchmarks/regret.py --reference             # once
    python benchmarks/regret.py                         # adds the runs that are missing
    python benchmarks/regret.py --methods tpe --force   # after a change to a method
    python benchmarks/report.py
    python benchmarks/regret.py --quick                 # smoke test, stores nothing

An experiment goes to a file of its own with ``--results FILE``; ``report.py`` takes several.
"""

import argparse
import functools
import hashlib
import json
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import RandomizedSearchCV
from tasks import TASKS

import tunein
from tunein import BayesSearchCV, TPESearchCV

RESULTS = Path(__file__).parent / "results"
N_ITER = 50
N_REFERENCE = 300
REFERENCE_SEED = 999  # no run has it
QUICK_TASKS = ("svc_rbf", "classifier_choice", "kernel_ridge_plain")

Search = Callable[[dict[str, Any], tuple[Any, Any], int, int], list[Any]]


# ----------------------------------------------------------------- methods: fitted searches


def random(shared: dict[str, Any], data: tuple[Any, Any], n_iter: int, seed: int) -> list[Any]:
    search = RandomizedSearchCV(**shared, n_iter=n_iter, random_state=seed)
    return [search.fit(*data)]


def default_random(
    shared: dict[str, Any], data: tuple[Any, Any], n_iter: int, seed: int
) -> list[Any]:
    start = TPESearchCV(**shared, n_iter=1, random_state=0).fit(*data)
    if next(iter(start.history_)).proposal.origin != "default":
        return random(shared, data, n_iter, seed)
    return [start, *random(shared, data, n_iter - 1, seed)]


def ours(cls: type) -> Search:
    def run(shared: dict[str, Any], data: tuple[Any, Any], n_iter: int, seed: int) -> list[Any]:
        return [cls(**shared, n_iter=n_iter, random_state=seed).fit(*data)]

    return run


METHODS: dict[str, Search] = {
    "default-random": default_random,
    "tpe": ours(TPESearchCV),
    "bayes": ours(BayesSearchCV),
    "random": random,
}


# ----------------------------------------------------------------- one run


def run(task: str, method: str, n_iter: int, seed: int) -> dict[str, Any]:
    shared, data = TASKS[task].load()
    with warnings.catch_warnings():
        # Candidates that stop early are part of the tasks.
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = time.perf_counter()
        searches = METHODS[method](shared, data, n_iter, seed_of(task, seed))
        seconds = time.perf_counter() - start
    tables = [search.cv_results_ for search in searches]
    fits = sum(t["mean_fit_time"].sum() + t["mean_score_time"].sum() for t in tables)
    return {
        "task": task,
        "method": method,
        "seed": seed,
        "n_iter": n_iter,
        "seconds": round(seconds, 3),
        "fit_seconds": round(float(fits) * TASKS[task].n_splits, 3),
        "versions": versions(),
        "scores": [compact(score) for t in tables for score in t["mean_test_score"]],
    }


def seed_of(task: str, seed: int) -> int:
    return list(TASKS).index(task) * 1000 + seed


def compact(score: float) -> float | None:
    """Return 6 significant digits; None, which JSON can say, for a failed candidate."""
    return float(f"{score:.6g}") if np.isfinite(score) else None


@functools.cache
def versions() -> str:
    """Return what the numbers depend on; tunein by the digest of its source, too."""
    digest = hashlib.sha256()
    for path in sorted(Path(tunein.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return (
        f"tunein {tunein.__version__}+{digest.hexdigest()[:8]}, "
        f"scikit-learn {sklearn.__version__}, numpy {np.__version__}, scipy {scipy.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}"
    )


# ----------------------------------------------------------------- the results file


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def forget(path: Path, todo: set[tuple[str, str, int]]) -> None:
    """Drop the runs that are to be done again."""
    kept = [row for row in read(path) if (row["task"], row["method"], row["seed"]) not in todo]
    if path.exists():
        path.write_text("".join(json.dumps(row) + "\n" for row in kept))


def append(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


# ----------------------------------------------------------------- the command


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=["default-random", "tpe", "bayes"]
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    parser.add_argument("--results", type=Path, help="default: benchmarks/results/regret.jsonl")
    parser.add_argument("--force", action="store_true", help="redo runs that are there already")
    parser.add_argument("--quick", action="store_true", help="3 tasks, 1 seed, 10 candidates")
    parser.add_argument("--reference", action="store_true", help="one long random search a task")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    tasks, methods, seeds, n_iter = options.tasks, options.methods, range(options.seeds), N_ITER
    path = options.results or RESULTS / "regret.jsonl"
    if options.quick:
        tasks, seeds, n_iter = QUICK_TASKS, range(1), 10
    elif options.reference:
        path = options.results or RESULTS / "reference.jsonl"
        methods, seeds, n_iter = ["random"], [REFERENCE_SEED], N_REFERENCE
    todo = [(task, method, seed) for seed in seeds for task in tasks for method in methods]
    if options.force and not options.quick:
        forget(path, set(todo))
    if not options.quick:
        done = {(row["task"], row["method"], row["seed"]) for row in read(path)}
        todo = [key for key in todo if key not in done]
    versions()  # read now: the source may be edited while this runs
    for i, (task, method, seed) in enumerate(todo):
        row = run(task, method, n_iter, seed)
        if not options.quick:
            append(path, row)
        best = max(score for score in row["scores"] if score is not None)
        took = f"{row['seconds']:6.2f} s, {row['fit_seconds']:6.2f} s of fits"
        print(f"{i + 1}/{len(todo)} {task} {method} {seed}: {best:.5g} in {took}", flush=True)


if __name__ == "__main__":
    main()
