"""Turn the results of ``regret.py`` into Markdown tables.

Regret is how far the best candidate so far is from the best score known of the task, in units of
the distance from there to the median candidate of random search, clipped to [0, 1]. "Best known" is
over all results given and the reference. Means are over seeds first, then over tasks. The columns:

* regret: mean; lower is better.
* relative: geometric mean over tasks of regret divided by the comparator's, both at least 0.005.
* rank: mean over tasks of the rank, 1 for the lowest regret.
* wins: tasks with a lower and with a higher regret than the comparator's.
* p better: Wilcoxon's signed-rank test over tasks of "no better than the comparator".
* worse: tasks that are significantly worse than the comparator, by Welch's test over seeds at 5 %
  after Holm's correction over tasks.
* thinking: milliseconds a candidate beside fitting and scoring it.

::

    python benchmarks/report.py  # of benchmarks/results/regret.jsonl
    python benchmarks/report.py benchmarks/results/regret.jsonl experiment.jsonl

Methods of further files carry the file's name. Tasks that some method lacks are left out.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata, ttest_ind, wilcoxon

RESULTS = Path(__file__).parent / "results"
BUDGETS = (25, 50)
FLOOR = 0.005
LEVEL = 0.05

Regrets = dict[str, dict[str, np.ndarray]]  # method, task: (n_seeds, n_budgets)


# ----------------------------------------------------------------- reading


def read(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["scores"] = np.array([-np.inf if s is None else s for s in row["scores"]])
    return rows


def read_runs(paths: list[Path]) -> dict[str, list[dict[str, Any]]]:
    """Return the runs of each method."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for i, path in enumerate(paths):
        for row in read(path):
            method = f"{row['method']} ({path.stem})" if i else row["method"]
            runs.setdefault(method, []).append(row)
    return runs


def regrets_of(
    runs: dict[str, list[dict[str, Any]]], reference: list[dict[str, Any]]
) -> tuple[list[str], Regrets]:
    """Return the tasks that all methods have, and the regrets on them."""
    everything = reference + [row for rows in runs.values() for row in rows]
    best: dict[str, float] = {}
    for row in everything:
        best[row["task"]] = max(best.get(row["task"], -np.inf), row["scores"].max())
    unit = {row["task"]: best[row["task"]] - np.median(row["scores"]) for row in reference}
    has = [{row["task"] for row in rows} for rows in runs.values()]
    tasks = [task for task in unit if all(task in mine for mine in has)]
    regrets = {
        method: {
            task: np.array(
                [
                    [(best[task] - row["scores"][:n].max()) / unit[task] for n in BUDGETS]
                    for row in rows
                    if row["task"] == task
                ]
            ).clip(0, 1)
            for task in tasks
        }
        for method, rows in runs.items()
    }
    return tasks, regrets


# ----------------------------------------------------------------- statistics


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values corrected for their number, after Holm (1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def p_worse(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Return the p-value of Welch's test of "regret is no higher than theirs"."""
    if np.ptp(mine) == 0 and np.ptp(theirs) == 0:
        return float(mine[0] <= theirs[0])
    if min(len(mine), len(theirs)) < 2:
        return 1.0
    return float(ttest_ind(mine, theirs, equal_var=False, alternative="greater").pvalue)


def p_better(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Return the p-value over tasks of Wilcoxon's test of "regret is no lower than theirs"."""
    difference = mine - theirs
    return float(wilcoxon(difference, alternative="less").pvalue) if difference.any() else 1.0


# ----------------------------------------------------------------- tables


def markdown(header: list[str], rows: list[list[str]]) -> str:
    rule = ["--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def thinking(rows: list[dict[str, Any]]) -> float:
    seconds = sum(row["seconds"] - row["fit_seconds"] for row in rows)
    return 1000 * seconds / sum(len(row["scores"]) for row in rows)


def summary(
    runs: dict[str, list[dict[str, Any]]],
    tasks: list[str],
    regrets: Regrets,
    against: str,
    budget: int,
) -> str:
    b = BUDGETS.index(budget)
    means = {m: np.array([regrets[m][task][:, b].mean() for task in tasks]) for m in regrets}
    ranks = dict(zip(means, rankdata(np.stack(list(means.values())), axis=0), strict=True))
    theirs = means[against]
    rows = []
    for method, mine in means.items():
        logs = np.log(np.maximum(mine, FLOOR) / np.maximum(theirs, FLOOR))
        worse = corrected_p(regrets, tasks, method, against, b) < LEVEL
        rows.append(
            [
                method,
                f"{mine.mean():.4f}",
                f"{np.exp(logs.mean()):.2f}",
                f"{ranks[method].mean():.2f}",
                f"{(mine < theirs).sum()} : {(mine > theirs).sum()}",
                f"{p_better(mine, theirs):.1g}",
                ", ".join(np.array(tasks)[worse]) or "none",
                f"{thinking(runs[method]):.0f}",
            ]
        )
    header = ["method", "regret", "relative", "rank", "wins", "p better", "worse", "thinking"]
    return markdown(header, rows)


def corrected_p(
    regrets: Regrets, tasks: list[str], method: str, against: str, b: int
) -> np.ndarray:
    return holm(
        np.array(
            [p_worse(regrets[method][task][:, b], regrets[against][task][:, b]) for task in tasks]
        )
    )


def details(tasks: list[str], regrets: Regrets, against: str, budget: int) -> str:
    """Return mean regret and standard error by task, with p-values of "worse" that are small."""
    b = BUDGETS.index(budget)
    corrected = {m: corrected_p(regrets, tasks, m, against, b) for m in regrets}
    rows = []
    for i, task in enumerate(tasks):
        cells = [task]
        for method in regrets:
            mine = regrets[method][task][:, b]
            error = mine.std(ddof=1) / len(mine) ** 0.5 if len(mine) > 1 else np.nan
            raw = p_worse(mine, regrets[against][task][:, b])
            note = f" (p={raw:.3f}, Holm {corrected[method][i]:.2f})" if raw < LEVEL else ""
            cells.append(f"{mine.mean():.3f} ± {error:.3f}{note}")
        rows.append(cells)
    return markdown(["task", *regrets], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="*", type=Path, default=[RESULTS / "regret.jsonl"])
    parser.add_argument("--reference", type=Path, default=RESULTS / "reference.jsonl")
    parser.add_argument("--against", default="default-random", help="the comparator")
    options = parser.parse_args()
    runs = read_runs(options.results)
    if options.against not in runs:
        parser.error(f"--against must be one of {list(runs)}, got {options.against!r}.")
    tasks, regrets = regrets_of(runs, read(options.reference))
    if not tasks:
        parser.error("No task has a reference and a run of every method.")
    for method, rows in runs.items():
        counts = sorted({len(regrets[method][task]) for task in tasks})
        seeds = " or ".join(map(str, counts))
        print(
            f"- {method}: {seeds} seeds a task; {'; '.join(sorted({r['versions'] for r in rows}))}"
        )
    for budget in BUDGETS:
        print(f"\n## After {budget} candidates, {len(tasks)} tasks\n")
        print(summary(runs, tasks, regrets, options.against, budget))
        print("\nMean regret and its standard error; p where worse than the comparator:\n")
        print(details(tasks, regrets, options.against, budget))


if __name__ == "__main__":
    main()
