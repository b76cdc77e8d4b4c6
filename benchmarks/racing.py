"""Fold racing against running every fold: fits to the same score, and the choice on held-out rows.

The tables of `racing_tables.py` are replayed: a fit looks its score up. Proposals are random, by
`TPESearchCV` and by `BayesSearchCV`; rules are

- ``every``      every fold of every candidate (``racing=None``), 50 candidates;
- ``race``       ``racing=FoldRace()``, until as many fits are spent;
- ``forgiving``  the rule of Bergman, Purucker and Hutter (2024): dropped if the mean over the folds
                 run is below the worst fold of the best candidate; until as many fits are spent.

For each run it is stored after how many fits the best mean of a candidate with all folds rose, and
what the last one scores on the rows held out. The speed-up of a rule is the fits that ``every``
needed to reach its own final score, over those that the rule needed to reach the same.

Run from the root of the repository::

    export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
    python benchmarks/racing.py             # goes on where it was stopped, then reports
    python benchmarks/racing.py --report    # what is stored
    python benchmarks/racing.py --quick     # smoke test, stores nothing
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from racing_tables import FOLDS, MODELS, RESULTS, TASKS
from report import markdown
from tables import Replayed, Table, folds

from tunein import BayesSearchCV, FoldRace, TPESearchCV
from tunein._racing import EveryFold
from tunein._search import BaseSequentialSearchCV

RUNS = Path(__file__).parent / "results" / "racing.jsonl"
N_ITER = 50
SEEDS = {"random": 10, "tpe": 10, "bayes": 3}
N_BOOTSTRAP = 2000


@cache
def table_of(model: str, data: str, k: int) -> tuple[Table, np.ndarray]:
    """Return the scores of k folds, and those on the rows held out, of the same candidates."""
    scores = np.load(RESULTS / f"{model}-{data}.npz")["scores"].astype(float)
    first = sum(FOLDS[: FOLDS.index(k)])
    own = scores[:, first : first + k]
    # Searches go by the order of names: so it is that of the grid.
    space = {f"p{i}": values for i, values in enumerate(MODELS[model][2].values())}
    return Table(f"{model}-{data}", space, own, np.zeros_like(own)), scores[:, -1]


class RandomSearch(BaseSequentialSearchCV):
    """Random search in the same loop."""

    def _n_startup(self, space: Any) -> int:
        return 0

    def _ask(self, space: Any, known: Any, rng: np.random.Generator) -> Any:
        return space.untried(rng, 1, known.tried)[0], None


class Forgiving(FoldRace):
    """The forgiving rule."""

    def next_folds(self, history: Any, number: int, upto: int | None) -> list[int]:
        trial = history.trials[number]
        missing = EveryFold.next_folds(self, history, number, upto)
        rivals = [other for other in history if other.complete]
        if trial.run and rivals:
            worst = [[score.test for score in other.scores] for other in rivals]
            best = max(worst, key=np.mean)
            if np.mean([trial.scores[fold].test for fold in trial.run]) < min(best):
                return []
        return missing[:1]


PROPOSALS = {"random": RandomSearch, "tpe": TPESearchCV, "bayes": BayesSearchCV}
RULES = {"every": None, "race": FoldRace(), "forgiving": Forgiving()}


@dataclass(frozen=True)
class Budget:
    """Stops a search when so many fits are spent."""

    n_fits: int

    def __call__(self, history: Any) -> str | None:
        spent = sum(len(trial.run) for trial in history)
        return "The fits are spent." if spent >= self.n_fits else None


def run(model: str, data: str, k: int, proposals: str, rule: str, seed: int) -> dict[str, Any]:
    budget = N_ITER * k
    table, held_out = table_of(model, data, k)
    cv, (X, y) = folds(table)
    # The seed of the searches is their own; random ones of all rules go through the same points.
    search = PROPOSALS[proposals](
        Replayed(table),
        table.space,
        n_iter=budget,
        cv=cv,
        refit=False,
        random_state=seed,
        racing=RULES[rule],
        callbacks=Budget(budget),
    ).fit(X, y)
    spent, best, rises = 0, -np.inf, []
    for trial in search.history_:
        spent += len(trial.run)
        if spent > budget or not trial.complete:
            continue
        mean = float(np.mean([score.test for score in trial.scores]))
        if mean > best:
            best, chosen = mean, trial.params
            rises.append([spent, round(mean, 7)])
    key = {"model": model, "data": data, "k": k, "proposals": proposals, "rule": rule, "seed": seed}
    n_tried = sum(1 for _ in search.history_)
    return {
        **key,
        "rises": rises,
        "held_out": round(float(held_out[table.row(chosen)]), 6),
        "n": n_tried,
    }


def jobs() -> list[tuple]:
    """Return all runs, those that say most first."""
    return [
        (model, data, k, proposals, rule, seed)
        for seed in range(max(SEEDS.values()))
        for proposals, n_seeds in SEEDS.items()
        if seed < n_seeds
        for model, data in TASKS
        if (RESULTS / f"{model}-{data}.npz").exists()
        for k in FOLDS
        for rule in RULES
    ]


def key_of(row: dict[str, Any]) -> tuple:
    return tuple(row[name] for name in ("model", "data", "k", "proposals", "rule", "seed"))


def stored() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RUNS.read_text().splitlines()] if RUNS.exists() else []


def speed_up(every: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the ratio of fits to the final score of `every`; 0 if `other` never reached it."""
    needed, goal = every["rises"][-1]
    return next((needed / fits for fits, mean in other["rises"] if mean >= goal), 0.0)


def rows_of_report(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return a table: by proposals, folds and rule."""
    by_key = {key_of(row): row for row in rows}
    spread = {task: float(table_of(*task, FOLDS[0])[1].std()) for task in TASKS}
    gains: dict[tuple, dict[tuple, list]] = defaultdict(lambda: defaultdict(list))
    for key, row in by_key.items():
        model, data, k, proposals, rule, seed = key
        every = by_key.get((model, data, k, proposals, "every", seed))
        if rule == "every" or every is None:
            continue
        gained = (row["held_out"] - every["held_out"]) / spread[model, data]
        higher = (row["rises"][-1][1] - every["rises"][-1][1]) >= 0
        gains[proposals, k, rule][model, data].append(
            (speed_up(every, row), gained, higher, row["n"])
        )
    table = []
    rng = np.random.default_rng(0)
    for (proposals, k, rule), by_task in sorted(gains.items()):
        speeds = np.array([np.median([run[0] for run in runs]) for runs in by_task.values()])
        held = np.array([np.mean([run[1] for run in runs]) for runs in by_task.values()])
        draws = held[rng.integers(len(held), size=(N_BOOTSTRAP, len(held)))].mean(axis=1)
        low, high = np.quantile(draws, [0.025, 0.975])
        every_run = [run for runs in by_task.values() for run in runs]
        table.append(
            [
                proposals,
                str(k),
                rule,
                f"{np.median(speeds):.2f}",
                f"{speeds.min():.2f}",
                f"{np.mean(speeds < 0.9):.0%}",
                f"{np.mean([run[0] > 0 for run in every_run]):.0%}",
                f"{np.mean([run[2] for run in every_run]):.0%}",
                f"{held.mean():+.3f} ({low:+.3f} to {high:+.3f})",
                f"{np.mean([run[3] for run in every_run]):.0f}",
            ]
        )
    return table


HEADER = [
    "proposals", "folds", "rule", "speed-up, median over tasks", "least", "tasks below 0.9",
    "runs that reached it", "runs not behind in the end", "held out, in sd of candidates",
    "candidates",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        print([run("svm", "digits", 5, "random", rule, 0) for rule in RULES])
        return
    if not arguments.report:
        done = {key_of(row) for row in stored()}
        for job in jobs():
            if job not in done:
                with RUNS.open("a") as file:
                    file.write(json.dumps(run(*job), separators=(",", ":")) + "\n")
    print(markdown(HEADER, rows_of_report(stored())))


if __name__ == "__main__":
    main()
