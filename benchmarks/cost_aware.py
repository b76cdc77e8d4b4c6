"""Measure what ``acquisition="per_second"`` is worth where candidates do not cost the same.

Searches are replayed on stored tables (``tables.py``): boosting, forests and networks whose
candidates cost from one to more than a hundred times the least, and the large grid of ``cost.py``,
where they differ by four times. Each search runs twice with the same seed, for improvement, 60
candidates, and for improvement per second, 90 candidates, told of the stored times. What is
compared is the regret of the incumbent after equal seconds of fits, at fractions of the median time
that the former takes for all its candidates; regret is the distance from the best of the table, 1
at the median candidate, and less than 0.001 counts as 0.001. From the root::

    export PYTHONPATH=benchmarks OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
    python benchmarks/tables.py                   # the tables; stored already
    python benchmarks/cost_aware.py               # adds the runs that are missing, and reports
    python benchmarks/cost_aware.py --methods tpe-per-second --force
    python benchmarks/cost_aware.py --report
    python benchmarks/cost_aware.py --times       # how well times are predicted
    python benchmarks/cost_aware.py --quick       # smoke test, stores nothing
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cost
import numpy as np
from peers import quiet
from regret import versions
from report import markdown
from scipy import stats
from tables import UNEQUAL, Replayed, Table, folds, reported, unequal

RESULTS = Path(__file__).parent / "results" / "cost-aware.jsonl"
LOADERS: dict[str, Callable[[str], Table]] = {
    **dict.fromkeys(UNEQUAL, unequal),
    **dict.fromkeys(cost.GRIDS, cost.load),
}
SEARCHES = {"bayes": "BayesSearchCV", "tpe": "TPESearchCV"}
METHODS = [name + how for name in SEARCHES for how in ("", "-per-second")]
N_SEEDS = 20
# Of those that go by time more, so that they, too, have something to do until time is up.
N_ITER, N_ITER_PER_SECOND = 60, 90
FRACTIONS = (0.1, 0.25, 0.5, 0.75, 1.0)
FLOOR = 1e-3


# ----------------------------------------------------------------- runs


def run(task: str, method: str, seed: int, n_iter: int) -> dict[str, Any]:
    import tunein

    table = LOADERS[task](task)
    cv, data = folds(table)
    name = method.removesuffix("-per-second")
    search = getattr(tunein, SEARCHES[name])(
        Replayed(table), table.space, n_iter=n_iter, cv=cv, refit=False, n_jobs=1,
        random_state=seed, acquisition="improvement" if method == name else "per_second",
    )  # fmt: skip
    start = time.process_time()
    with reported(table):
        search.fit(*data)
    return {
        "task": task,
        "method": method,
        "seed": seed,
        "own_seconds": round(time.process_time() - start, 2),
        "versions": versions(name),
        "rows": [table.row(params) for params in search.cv_results_["params"]],
    }


def read() -> list[dict[str, Any]]:
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


# ----------------------------------------------------------------- the report


def spent(table: Table, rows: list[int]) -> np.ndarray:
    """Return the seconds of fits after each candidate."""
    return np.cumsum(table.seconds[rows].sum(axis=1))


def regret_at(table: Table, rows: list[int], budget: float) -> float:
    """Return the regret of the best candidate that was done when the budget was spent."""
    n = int(np.searchsorted(spent(table, rows), budget, side="right"))
    best, middle = table.means.max(), float(np.median(table.means))
    found = table.means[rows[:n]].max(initial=-np.inf)
    return max((best - max(found, table.means.min())) / (best - middle), FLOOR)


def pairs(rows: list[dict[str, Any]], task: str, name: str) -> list[tuple[list[int], list[int]]]:
    """Return what was tried without and with a look at the time, by seed that has both."""
    runs = {(row["method"], row["seed"]): row["rows"] for row in rows if row["task"] == task}
    seeds = sorted(seed for method, seed in runs if method == name)
    other = f"{name}-per-second"
    return [(runs[name, seed], runs[other, seed]) for seed in seeds if (other, seed) in runs]


def regrets(table: Table, found: list[tuple[list[int], list[int]]]) -> np.ndarray:
    """Return regrets by fraction of the time, seed, and without or with a look at it."""
    whole = float(np.median([spent(table, plain)[-1] for plain, _ in found]))
    return np.array(
        [
            [[regret_at(table, rows, f * whole) for rows in both] for both in found]
            for f in FRACTIONS
        ]
    )


def interval(logs: np.ndarray) -> str:
    """Return the geometric mean of ratios and its 95 % interval."""
    middle, error = np.mean(logs), stats.sem(logs)
    reach = stats.t.ppf(0.975, len(logs) - 1) * error
    low, high = np.exp([middle - reach, middle + reach])
    return f"{np.exp(middle):.2f} ({low:.2f} to {high:.2f})"


def report(rows: list[dict[str, Any]]) -> str:
    ratios, means, pooled = [], [], {name: [] for name in SEARCHES}
    for task in dict.fromkeys(row["task"] for row in rows):
        table = LOADERS[task](task)
        low, high = np.quantile(table.seconds.sum(axis=1), [0.01, 0.99])
        for name in SEARCHES:
            found = pairs(rows, task, name)
            left = regrets(table, found)
            logs = np.log(left[..., 1] / left[..., 0])
            pooled[name] += [logs] if task in UNEQUAL else []
            ratios.append([task, f"{high / low:.0f}", name, *map(interval, logs)])
            done = [f"{plain:.3f}, {weighed:.3f}" for plain, weighed in left.mean(axis=1)]
            means.append([task, name, *done])
    for name, logs in pooled.items():
        ratios.append(["all but nystroem", "", name, *map(interval, np.concatenate(logs, axis=1))])
    after = [f"after {f:.0%}" for f in FRACTIONS]
    first = markdown(["task", "costs differ by", "search", *after], ratios)
    return f"{first}\n\n{markdown(['task', 'search', *after], means)}"


# ----------------------------------------------------------------- predicted times


class Nothing:
    """An acquisition that leaves the cost alone to be seen."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.zeros(len(x))


def explained(task: str, n: int, seed: int) -> tuple[float, float]:
    """Return the parts of the variance of log seconds that models told of n candidates explain."""
    from tunein._cost_aware import log_seconds, per_second
    from tunein._history import Known
    from tunein._math.quadratic import Quadratic
    from tunein._space import Space

    table = LOADERS[task](task)
    space, rng = Space.parse(table.space), np.random.default_rng(seed)
    units, points = space.sample(rng, n), space.sample(rng, 300)
    seconds, truth = (
        np.array([table.seconds[table.row(space.decode(u))].mean() for u in some])
        for some in (units, points)
    )
    known = Known(units, np.zeros((n, 1)), units[:0], set(), n, None, seconds=seconds)
    process, _ = per_second(Nothing(), space, known, 1.0, {})
    logs = np.log(truth + 1e-3)
    # The acquisition leaves out what is common to all points.
    errors = (
        -process(space.features(points)) + log_seconds(known)[1].mean() - logs,
        Quadratic(*log_seconds(known), space.kinds)(points) - logs,
    )
    first, second = (1 - float(np.mean(error**2) / logs.var()) for error in errors)
    return first, second


def report_times() -> str:
    rows = []
    for task in UNEQUAL:
        for n in (10, 20, 40):
            parts = np.mean([explained(task, n, seed) for seed in range(20)], axis=0)
            rows.append([task, str(n), *(f"{part:.2f}" for part in parts)])
    return markdown(["task", "candidates", "process", "parabolas"], rows)


# ----------------------------------------------------------------- the command


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=list(LOADERS), default=list(LOADERS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, default=N_SEEDS, help="how many")
    parser.add_argument("--force", action="store_true", help="redo runs that are there already")
    parser.add_argument("--report", action="store_true", help="show the tables and run nothing")
    parser.add_argument("--times", action="store_true", help="show how well times are predicted")
    parser.add_argument("--quick", action="store_true", help="1 seed, 20 candidates")
    return parser.parse_args()


def key(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return row["task"], row["method"], row["seed"]


def main() -> None:
    options = parse_arguments()
    quiet()
    todo = [
        (task, method, seed)
        for seed in range(1 if options.quick else options.seeds)
        for task in options.tasks
        for method in options.methods
    ]
    if options.times:
        print(report_times())
        return
    if options.quick:
        for task, method, seed in todo:
            row = run(task, method, seed, n_iter=20)
            print(task, method, row["own_seconds"])
        return
    if options.force:
        kept = [row for row in read() if key(row) not in set(todo)]
        RESULTS.write_text("".join(json.dumps(row) + "\n" for row in kept))
    done = {key(row) for row in read()}
    for i, (task, method, seed) in enumerate([] if options.report else todo):
        if (task, method, seed) in done:
            continue
        weighs = method.endswith("-per-second")
        row = run(task, method, seed, N_ITER_PER_SECOND if weighs else N_ITER)
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{i + 1}/{len(todo)} {task} {method} {seed}: {row['own_seconds']} s", flush=True)
    print(report(read()))


if __name__ == "__main__":
    main()
