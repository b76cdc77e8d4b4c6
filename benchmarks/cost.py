"""Measure what it costs to find the best candidate of a large grid: fits, and seconds.

A pipeline on data that scikit-learn brings along, with a grid of 7,616 candidates in 5 folds. The
grid is run in full once, and stored: scores and processor seconds of every fold. Then searches are
replayed on the stored table through an estimator that looks its score up: ours end to end through
`fit`, the others through their own public interfaces (``peers.py``), all over the same lists of
values. A run has *reached* when a candidate of which every fold was run has a mean score within a
tenth of a standard error of the grid's best; the standard error is that of the best candidate's
mean over its folds. What a run costs is the stored seconds of the folds that it ran, plus all
processor seconds that the search itself took meanwhile, scikit-learn's share included.

Runs are appended to ``results/cost.csv`` as they finish; those that are there are not repeated.
Several commands may run at once if their methods differ.
From the root::

    pip install -e ".[bench]"
    export PYTHONPATH=benchmarks OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
    python benchmarks/cost.py --grid          # the grid, ten minutes; stored already
    python benchmarks/cost.py                 # adds the runs that are missing, and shows the table
    python benchmarks/cost.py --methods bayes-racing --force     # after a change to a method
    python benchmarks/cost.py --report        # the table alone
    python benchmarks/cost.py --quick         # smoke test, stores nothing
"""

import argparse
import csv
import functools
import itertools
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peers import PEERS, Flat, quiet
from regret import versions
from report import markdown, stored
from sklearn.datasets import load_breast_cancer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from tables import Replayed, Table, folds

FOLDER = Path(__file__).parent / "results"
RESULTS = FOLDER / "cost.csv"
N_FOLDS = 5
N_SEEDS = 20
N_ITER = 500  # of every search but the random one, which may try all there is
TOLERANCE = 0.1  # standard errors
COLUMNS = (
    "task", "method", "seed", "reached", "candidates", "fits", "fit_seconds", "own_seconds",
    "versions",
)  # fmt: skip


# ----------------------------------------------------------------- the grid

SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler}


@dataclass(frozen=True)
class Grid:
    """A pipeline and its lists of values; the choice of the scaler is by name."""

    name: str
    scoring: str
    pipeline: Pipeline
    space: Mapping[str, list[Any]]

    @functools.cached_property
    def candidates(self) -> list[dict[str, Any]]:
        names = list(self.space)
        rows = itertools.product(*self.space.values())
        return [dict(zip(names, row, strict=True)) for row in rows]

    def build(self, params: Mapping[str, Any]) -> Pipeline:
        return self.pipeline.set_params(**{**params, "scale": SCALERS[params["scale"]]()})

    @property
    def path(self) -> Path:
        return FOLDER / f"cost-{self.name}.npz"


def steps(**named: Any) -> Pipeline:
    return Pipeline([("scale", StandardScaler()), *named.items()])


def logspace(low: float, high: float, n: int) -> list[float]:
    return [float(f"{value:.4g}") for value in np.logspace(low, high, n)]


GRIDS = {
    grid.name: grid
    for grid in (
        Grid(
            "nystroem",
            "neg_log_loss",
            steps(map=Nystroem(random_state=0), clf=LogisticRegression(max_iter=200)),
            {
                "scale": list(SCALERS),
                "map__n_components": [20, 40, 60, 80, 100, 150, 200],
                "map__gamma": logspace(-4, 1, 16),
                "clf__C": logspace(-3, 5, 17),
                "clf__class_weight": [None, "balanced"],
            },
        ),
    )
}


def run_grid(grid: Grid) -> None:
    """Fit and score every candidate on every fold, or those that are not stored so far."""
    X, y = load_breast_cancer(return_X_y=True)
    folds = list(StratifiedKFold(N_FOLDS, shuffle=True, random_state=0).split(X, y))
    scorer, n = get_scorer(grid.scoring), len(grid.candidates)
    scores, seconds = np.full((n, N_FOLDS), np.nan), np.full((n, N_FOLDS), np.nan)
    if grid.path.exists():
        stored = load(grid.name)
        scores, seconds = stored.scores, stored.seconds
    warnings.simplefilter("ignore")  # of convergence: it is what the user would get, too
    # In random order: what else the machine does meanwhile is not mistaken for a parameter's cost.
    for done, i in enumerate(np.random.default_rng(0).permutation(n).tolist(), start=1):
        if np.isnan(seconds[i]).any():
            for k, (train, test) in enumerate(folds):
                start = time.process_time()
                model = grid.build(grid.candidates[i]).fit(X[train], y[train])
                scores[i, k] = scorer(model, X[test], y[test])
                seconds[i, k] = time.process_time() - start
        if done % 1000 == 0 or done == n:
            Table(grid.name, grid.space, scores, seconds).save(grid.path)
            print(f"{grid.name}: {done} of {n} candidates", flush=True)


def load(name: str) -> Table:
    return Table.load(name, GRIDS[name].space, GRIDS[name].path)


# ----------------------------------------------------------------- replays


class Reached(SystemExit):
    """The best has been found; nothing more is to be tried."""


class Meter:
    """Counts what a run has paid until it has reached the best, and ends it there."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.goal = goal(table)
        self.fits, self.fit_seconds = 0, 0.0
        self.candidates: set[int] = set()
        self._folds_run: dict[int, int] = {}
        self.start = time.process_time()

    def __deepcopy__(self, memo: Any) -> "Meter":
        return self  # clones of an estimator share it

    def __call__(self, row: int, fold: int) -> None:
        self.fits += 1
        self.fit_seconds += float(self.table.seconds[row, fold])
        self.candidates.add(row)
        n = self._folds_run[row] = self._folds_run.get(row, 0) + 1
        if n == N_FOLDS and self.table.means[row] >= self.goal:
            raise Reached

    def row(self, reached: bool) -> dict[str, Any]:
        return {
            "reached": int(reached),
            "candidates": len(self.candidates),
            "fits": self.fits,
            "fit_seconds": round(self.fit_seconds, 3),
            "own_seconds": round(time.process_time() - self.start, 3),
        }


def goal(table: Table) -> float:
    """Return the score that counts as the best."""
    best = int(table.means.argmax())
    error = table.scores[best].std(ddof=1) / math.sqrt(N_FOLDS)
    return float(table.means[best] - TOLERANCE * error)


def arguments(table: Table, meter: Any) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
    cv, data = folds(table)
    return {"estimator": Replayed(table, meter), "cv": cv, "refit": False, "n_jobs": 1}, data


def ours(name: str, races: bool) -> Callable[..., None]:
    def run(table: Table, meter: Meter, n_iter: int, seed: int) -> None:
        import tunein

        shared, data = arguments(table, meter)
        racing = tunein.FoldRace() if races else None
        search = getattr(tunein, name)(
            param_distributions=table.space, n_iter=n_iter, random_state=seed, racing=racing,
            **shared,
        )  # fmt: skip
        search.fit(*data)

    return run


def evaluator(table: Table, meter: Meter) -> Callable[[dict[str, Any]], float]:
    shared, data = arguments(table, meter)

    def evaluate(params: dict[str, Any]) -> float:
        model = shared["estimator"].set_params(**params)
        return float(cross_val_score(model, *data, cv=shared["cv"]).mean())

    return evaluate


def peer(name: str) -> Callable[..., None]:
    def run(table: Table, meter: Meter, n_iter: int, seed: int) -> None:
        PEERS[name](Flat(table.space), evaluator(table, meter), n_iter, seed, None)

    return run


def random(table: Table, meter: Meter, n_iter: int, seed: int) -> None:
    """Try all there is in random order, which ``ParameterSampler``, asked for all, does not."""
    evaluate, rows = evaluator(table, meter), list(itertools.product(*table.space.values()))
    for i in np.random.default_rng(seed).permutation(len(rows)):
        evaluate(dict(zip(table.space, rows[i], strict=True)))


def exhaustive(table: Table, meter: Meter, n_iter: int, seed: int) -> None:
    shared, data = arguments(table, meter)
    meter.goal = math.inf  # that it has found the best, it knows when it has seen all
    GridSearchCV(param_grid=dict(table.space), **shared).fit(*data)


METHODS: dict[str, Callable[..., None]] = {
    "grid": exhaustive,
    "random": random,
    "hyperopt": peer("hyperopt"),
    "optuna-tpe": peer("optuna-tpe"),
    "optuna-tpe-mv": peer("optuna-tpe-mv"),
    "tpe": ours("TPESearchCV", races=False),
    "bayes": ours("BayesSearchCV", races=False),
    "hypergrad": ours("HyperGradSearchCV", races=False),
    "tpe-racing": ours("TPESearchCV", races=True),
    "bayes-racing": ours("BayesSearchCV", races=True),
    "hypergrad-racing": ours("HyperGradSearchCV", races=True),
}


def run(name: str, method: str, seed: int, n_iter: int) -> dict[str, Any]:
    table = load(name)
    meter = Meter(table)
    reached = method == "grid"
    try:
        METHODS[method](table, meter, n_iter, seed)
    except Reached:
        reached = True
    key = {"task": name, "method": method, "seed": seed}
    return {**key, **meter.row(reached), "versions": versions(method.removesuffix("-racing"))}


# ----------------------------------------------------------------- the table


def write(rows: list[dict[str, Any]]) -> None:
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def append(row: dict[str, Any]) -> None:
    if not RESULTS.exists():
        write([])
    with RESULTS.open("a", newline="") as file:
        csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)


def quartiles(values: np.ndarray, form: str) -> str:
    """Return the median and the quartiles; what did not reach counts as infinite."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], method="closest_observation")
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def report(rows: list[dict[str, str]]) -> str:
    parts = []
    for name in dict.fromkeys(row["task"] for row in rows):
        table = load(name)
        n_good = int((table.means >= goal(table)).sum())
        mine = [row for row in rows if row["task"] == name]
        parts.append(
            f"### {name}\n\n{len(table.means):,} candidates, of which {n_good} count as the best; "
            f"{1e3 * table.seconds.mean():.1f} ms a fit\n"
        )
        parts.append(one_task(mine) + "\n")
    return "\n".join(parts)


def one_task(rows: list[dict[str, str]]) -> str:
    def column(method: str, *names: str) -> np.ndarray:
        values = [
            sum(float(row[name]) for name in names) if row["reached"] == "1" else math.inf
            for row in rows
            if row["method"] == method
        ]
        return np.array(values)

    whole = {
        "fits": column("grid", "fits"),
        "seconds": column("grid", "fit_seconds", "own_seconds"),
    }
    lines = []
    for method in METHODS:
        fits = column(method, "fits")
        if not len(fits):
            continue
        seconds = column(method, "fit_seconds", "own_seconds")
        own = column(method, "own_seconds")
        lines.append(
            [
                method,
                f"{np.isfinite(fits).sum()} of {len(fits)}",
                quartiles(column(method, "candidates"), ",.0f"),
                quartiles(fits, ",.0f"),
                quartiles(seconds, ",.1f"),
                f"{np.median(own[np.isfinite(own)]):.1f}" if np.isfinite(own).any() else "",
                f"{whole['fits'][0] / np.median(fits):.0f}",
                f"{whole['seconds'][0] / np.median(seconds):.0f}",
            ]
        )
    header = ["method", "reached", "candidates", "fits", "seconds", "own", "fewer fits", "faster"]
    return markdown(header, lines)


# ----------------------------------------------------------------- the command


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=list(GRIDS), default=list(GRIDS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=N_SEEDS, help="how many")
    parser.add_argument("--grid", action="store_true", help="run the grid itself")
    parser.add_argument("--force", action="store_true", help="redo runs that are there already")
    parser.add_argument("--report", action="store_true", help="show the table and run nothing")
    parser.add_argument("--quick", action="store_true", help="1 seed, 30 candidates, no grid")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    if options.grid:
        for name in options.tasks:
            run_grid(GRIDS[name])
        return
    if options.report:
        print(report(stored(RESULTS)))
        return
    quiet()
    todo = [
        (task, method, seed)
        for seed in range(options.seeds)
        for task in options.tasks
        for method in options.methods
        if method != "grid" or seed == 0
    ]
    if options.quick:
        for task, method, seed in todo:
            if seed == 0 and method not in ("grid", "random"):
                print(run(task, method, seed, n_iter=30))
        return

    def key(row: Mapping[str, Any]) -> tuple[str, str, int]:
        return row["task"], row["method"], int(row["seed"])

    if options.force:
        write([row for row in stored(RESULTS) if key(row) not in set(todo)])
    done = {key(row) for row in stored(RESULTS)}
    for i, (task, method, seed) in enumerate(todo):
        if (task, method, seed) in done:
            continue
        row = run(task, method, seed, N_ITER)
        append(row)
        print(f"{i + 1}/{len(todo)}", {k: v for k, v in row.items() if k != "versions"}, flush=True)
    print(report(stored(RESULTS)))


if __name__ == "__main__":
    main()
