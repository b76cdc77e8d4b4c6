"""What stopping early saves and loses: records of 100 candidates, replayed to each callback.

The searches try 100 candidates of each of the real tasks. Their records are then told again, trial
by trial, to every callback, until it says stop: what the best mean score rises by afterwards is
what was lost, in standard errors of the best candidate's mean, as `RegretBound` takes them. A
second figure is how often the regret's upper bound was exceeded by what was gained later.
HyperGradSearchCV goes by scores alone here: where it has exact slopes it stops by itself.
From the root::

    export PYTHONPATH=benchmarks:. OMP_NUM_THREADS=1
    python benchmarks/stopping.py            # writes results/stopping.csv
    python benchmarks/stopping.py --quick    # smoke test, stores nothing
"""

import argparse
import csv
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from regret import versions
from report import markdown
from tasks import TASKS

from tunein import BayesSearchCV, EarlyStop, HyperGradSearchCV, RegretBound, TPESearchCV
from tunein._callbacks import standard_error
from tunein._history import History
from tunein._surrogate import most_to_gain

RESULTS = Path(__file__).parent / "results" / "stopping.csv"
SEARCHES: dict[str, Any] = {
    "bayes": BayesSearchCV,
    "tpe": TPESearchCV,
    "hypergrad": lambda **given: HyperGradSearchCV(**given, gradient="surrogate"),
}
STOPS = {
    "RegretBound()": RegretBound(),
    "EarlyStop(10)": EarlyStop(10),
    "EarlyStop()": EarlyStop(),
    "EarlyStop(30)": EarlyStop(30),
}
BOUND = "bound exceeded"  # beside the names of stops
LOOKS = range(20, 100, 10)


def told_again(full: History) -> Iterator[History]:
    """Yield the record as it was after each trial."""
    space = full.space
    history = History(full.n_folds, len(space.dimensions), full.metric, space, full.train_sizes)
    for trial in full:
        history.open(trial.proposal)
        for fold, score in enumerate(trial.scores):
            history.record(trial.number, fold, score)
        yield history


def best_of(history: History) -> tuple[int, float]:
    means = [history.mean(trial.number) for trial in history]
    best = int(np.nanargmax(means))
    return best, means[best]


def replay(full: History) -> Iterator[dict[str, Any]]:
    best, final = best_of(full)
    error = standard_error(full, best)
    waiting = dict(STOPS)
    seconds = 0.0
    for history in told_again(full):
        for name, stop in list(waiting.items()):
            start = time.process_time()
            reason = stop(history)
            seconds += (time.process_time() - start) * (name == "RegretBound()")
            if reason or len(history) == len(full):
                lost = (final - best_of(history)[1]) / error
                del waiting[name]
                yield {"stop": name, "trials": len(history), "lost": lost, "seconds": seconds}
        if len(history) in LOOKS:
            rng = np.random.default_rng(len(history))
            left = most_to_gain(history.space, history.known(), rng)
            gained = final - best_of(history)[1]
            yield {"stop": BOUND, "trials": len(history), "lost": float(gained > left)}


def measure(tasks: list[str], seeds: int, n_iter: int) -> list[dict[str, Any]]:
    rows = []
    for task in tasks:
        for name, search in SEARCHES.items():
            for seed in range(seeds):
                shared, data = TASKS[task].load(seed)
                fitted = search(**shared, n_iter=n_iter, random_state=seed).fit(*data)
                head = {"task": task, "search": name, "seed": seed, "versions": versions("bayes")}
                rows += [{**head, **row} for row in replay(fitted.history_)]
        print(task, flush=True)
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    table = []
    for name in SEARCHES:
        for stop in STOPS:
            chosen = [row for row in rows if row["search"] == name and row["stop"] == stop]
            trials = [float(row["trials"]) for row in chosen]
            lost = [float(row["lost"]) for row in chosen]
            figures = [f"{np.median(trials):.0f}", f"{np.mean(lost):.2f}", f"{np.max(lost):.2f}"]
            table.append([name, stop, *figures])
    looks = [float(row["lost"]) for row in rows if row["stop"] == BOUND]
    header = ["search", "stop", "candidates", "mean loss", "greatest loss"]
    exceeded = f"The bound was exceeded {sum(looks):.0f} of {len(looks)} times."
    return f"{markdown(header, table)}\n\n{exceeded}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # failed candidates
    if options.quick:
        print(report(measure(list(TASKS)[:1], 1, 25)))
        return
    rows = measure(list(TASKS), options.seeds, 100)
    with RESULTS.open("w", newline="") as file:
        names = ["task", "search", "seed", "stop", "trials", "lost", "seconds", "versions"]
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    print(report(rows))


if __name__ == "__main__":
    main()
