"""Measure what a suggestion costs: seconds of one processor, by the number of trials so far.

The space has six parameters of mixed kinds, the score is a formula, everything else is the
optimiser: from the end of one evaluation to the start of the next. Ours are timed around `_ask`
in searches of 3,000 and 10,000 candidates, the others, through the adapters of ``peers.py``,
up to 1,000 where that takes a minute at most, otherwise up to 100. Tables show medians over the ten
suggestions before each size. A machine that others use as well is faster at one time than at
another; ratios between methods hold if their runs take turns, several times. From the root::

    export PYTHONPATH=benchmarks OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
    python benchmarks/thinking.py                # writes results/thinking.csv
    python benchmarks/thinking.py --methods tpe hyperopt --sizes 50 100 --repeats 9
    python benchmarks/thinking.py --plot docs/images/thinking.svg
"""

import argparse
import csv
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from landscapes import KnownTask, mixed
from peers import PEERS, Flat, quiet
from regret import versions
from report import markdown, stored
from scipy.stats import loguniform, randint, uniform

RESULTS = Path(__file__).parent / "results" / "thinking.csv"
SIZES = (10, 25, 50, 100, 300, 1000, 3000, 10_000)
# Of the others, 100.
LARGEST = {
    "bayes": 3000,
    "tpe": 10_000,
    "optuna-tpe": 1000,
    "optuna-tpe-mv": 1000,
    "hyperopt": 1000,
}
METHODS = ("bayes", "tpe", "optuna-tpe", "optuna-tpe-mv", "optuna-gp", "hyperopt", "smac", "skopt")
TIMES = ("ms", "mean_ms")

SPACE = {
    "a": uniform(0, 1),
    "b": loguniform(1e-4, 1e2),
    "n": randint(1, 40),
    "kind": ["u", "v", "w"],
    "c": uniform(0, 1),
    "size": [1, 2, 4, 8, 16, 32],
}


def six_mixed(params: Any) -> float:
    return mixed(params) - (params["c"] - 0.6) ** 2 - 0.02 * (np.log2(params["size"]) - 3) ** 2


TASK = KnownTask("six_mixed", "cost", SPACE, six_mixed, n_splits=3)


def ours(name: str, n: int) -> list[float]:
    import tunein

    seconds: list[float] = []

    class Timed(getattr(tunein, name)):  # type: ignore[misc]
        def _ask(self, *arguments: Any) -> Any:
            start = time.process_time()
            answer = super()._ask(*arguments)
            seconds.append(time.process_time() - start)
            return answer

    shared, data = TASK.load(0)
    Timed(**shared, n_iter=n, random_state=0).fit(*data)
    return [0.0] * (n - len(seconds)) + seconds


def peers(name: str, n: int) -> list[float]:
    flat, seconds = Flat(SPACE), []
    last = time.process_time()

    def evaluate(params: dict[str, Any]) -> float:
        nonlocal last
        seconds.append(time.process_time() - last)
        score = six_mixed(params)
        last = time.process_time()
        return score

    PEERS[name](flat, evaluate, n, 0, None)
    return seconds


def measure(method: str, sizes: list[int]) -> list[dict[str, Any]]:
    quiet()
    largest = LARGEST.get(method, 100)
    sizes = [size for size in sizes if size <= largest]
    names = {"bayes": "BayesSearchCV", "tpe": "TPESearchCV"}
    n = max(sizes)
    seconds = ours(names[method], n) if method in names else peers(method, n)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return [
        {
            "method": method,
            "trials": size,
            "ms": round(1000 * float(np.median(seconds[size - 10 : size])), 3),
            "mean_ms": round(1000 * float(np.mean(seconds[max(0, size - 100) : size])), 3),
            "peak_mb": memory if size == largest else "",
            "versions": versions(method),
        }
        for size in sizes
    ]


def medians(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each method and size, of those of several runs."""
    cells: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in runs:
        cells.setdefault((row["method"], row["trials"]), []).append(row)
    return [
        rows[0] | {name: round(float(np.median([r[name] for r in rows])), 3) for name in TIMES}
        for rows in cells.values()
    ]


def merge(before: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let rows replace those of the same method and size; others stay."""

    def cell(row: dict[str, Any]) -> tuple[int, int]:
        return METHODS.index(row["method"]), int(row["trials"])

    of = {cell(row): row for row in [*before, *rows]}
    return [of[key] for key in sorted(of)]


def table(rows: list[dict[str, Any]]) -> str:
    sizes = sorted({int(row["trials"]) for row in rows})
    of = {(row["method"], int(row["trials"])): float(row["ms"]) for row in rows}
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = [
        [m, *(f"{of[m, size]:.1f}" if (m, size) in of else "" for size in sizes)] for m in methods
    ]
    return markdown(["ms, trials so far", *map(str, sizes)], cells)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [(int(r["trials"]), float(r["ms"])) for r in rows if r["method"] == method]
        ax.plot(*zip(*mine, strict=True), marker="o", label=method)
    ax.set(xscale="log", yscale="log", xlabel="trials so far", ylabel="ms a suggestion")
    ax.grid(alpha=0.3)
    ax.legend(ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--repeats", type=int, default=1, help="runs of each, by turns")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--plot", type=Path, help="draw what is stored to this file")
    options = parser.parse_args()
    if options.plot:
        plot(stored(options.results), options.plot)
        return
    runs: list[dict[str, Any]] = []
    for _ in range(options.repeats):
        for method in options.methods:
            runs.extend(measure(method, list(options.sizes)))
            print(table(medians(runs)), flush=True)
    rows = merge(stored(options.results), medians(runs))
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with options.results.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
