"""Tables and curves of the runs that ``regret.py`` stored.

A run's *incumbent* after n candidates is the one of highest mean score among them; what counts is
its true value, which differs where scores are noisy. *Regret* is its distance from the best value
that any run of any method found, in units of the distance between that and the median of random
candidates, so that 0 is the best known and 1 what one draw gives.

* fraction: regret as a fraction of random search's, geometric mean over tasks of the ratio of the
  means over seeds, both at least 0.001 (differences below that are not worth having).
* rank: mean over tasks of the rank of the mean regret over seeds, 1 for the lowest.
* reaches: candidates needed, median over runs, to reach the median over seeds of what random search
  finds in 100 candidates of the same task.
* seconds: for a suggestion, all that is not spent on fits and scores.
* worse: tasks that are significantly worse than random search by Welch's test over seeds at 5 %,
  after Holm's correction over tasks.

Intervals are 95 % percentile intervals of 2,000 bootstrap resamples of tasks, and of seeds within
tasks. A method is in a table if it has run all of its tasks; whichever it has run, it is compared
with ours over the same tasks and seeds in a table of pairs::

    python benchmarks/report.py                  # tables to standard output
    python benchmarks/report.py --plot docs/images/regret.svg
    python benchmarks/report.py --methods random bayes tpe --results elsewhere
"""

import argparse
import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata, ttest_ind

RESULTS = Path(__file__).parent / "results"
BUDGETS = (25, 50, 100)
FLOOR = 0.001
LEVEL = 0.05
N_BOOTSTRAP = 2000

GROUPS = {
    "real": [
        "svc_kernels", "logistic_elastic_net", "pca_neighbors", "decision_tree", "random_forest",
        "gradient_boosting", "mlp", "polynomial_elastic_net", "kernel_ridge_kernels", "svr", "sgd",
        "classifier_choice",
    ],
    "tabular": [
        "hpobench_vehicle", "hpobench_credit", "hpolib_naval", "hpolib_protein",
        "nasbench201_cifar100",
    ],
    "synthetic": [
        "hartmann_6", "narrow_ridge", "rosenbrock_4", "one_parameter", "twenty_parameters",
        "skewed_priors", "integers", "categories", "lists_of_numbers", "branches_5", "branches_3",
        "invalid_combinations", "failing_rates", "noisy_mixed", "noisy_hartmann", "ties",
        "diverges",
    ],
}  # fmt: skip

EVERY = [task for tasks in GROUPS.values() for task in tasks]

KINDS = {
    "list of dicts": [
        "branches_5", "branches_3", "svc_kernels", "kernel_ridge_kernels", "classifier_choice",
    ],
    "invalid combinations": ["invalid_combinations"],
    "fits fail beside the best": ["failing_rates"],
    "all categorical": ["categories", "nasbench201_cifar100"],
    "integer-heavy": ["integers"],
    "lists of numbers": ["lists_of_numbers", "hpobench_vehicle", "hpobench_credit"],
    "a single parameter": ["one_parameter"],
    "noisy scores": ["noisy_mixed", "noisy_hartmann"],
    "ties": ["ties", "pca_neighbors"],
    "heavy-tailed scores": ["diverges"],
    "20 dimensions": ["twenty_parameters"],
    "skewed scipy priors": ["skewed_priors"],
    "interacting, continuous": ["hartmann_6", "narrow_ridge", "rosenbrock_4"],
}  # fmt: skip

OTHER_TPE = ("optuna-tpe", "optuna-tpe-mv", "optuna-tpe-group", "hyperopt")

# Runs that answer a question of their own, each beside what it is compared with.
PARALLEL = (
    "bayes", "bayes-4", "bayes, 3 late", "bayes-8", "bayes, 7 late", "skopt", "skopt-4",
    "optuna-gp", "optuna-gp-4",
)  # fmt: skip
PARALLEL_TPE = ("tpe", "tpe-8", "tpe, 7 late", "tpe-32", "tpe, 31 late")
LONG = (100, 200, 300)
FOLDS = ("bayes", "bayes-one-noise")
VARIANTS = ("bayes-one-noise", "bayes-4", "bayes-8", "tpe-8", "tpe-32")
APART = (*VARIANTS, "skopt-4", "optuna-gp-4", "bayes-halving")


def is_variant(method: str) -> bool:
    """Tell whether a method has no place in the tables of all."""
    return method in APART or method.startswith("tpe-") or method.endswith(" late")


def is_component(method: str) -> bool:
    """Tell whether it is TPESearchCV with a component changed."""
    return method.startswith("tpe-") and method not in PARALLEL_TPE


# regrets[method][task]: (n_seeds, n_candidates), of the incumbent after each candidate
Regrets = dict[str, dict[str, np.ndarray]]


# ----------------------------------------------------------------- reading


def read(folder: Path, methods: list[str] | None = None) -> list[dict[str, Any]]:
    rows = [
        json.loads(line)
        for path in sorted(folder.glob("regret-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    rows = [row for row in rows if methods is None or row["method"] in methods]
    for row in rows:
        row["scores"] = numbers(row["scores"])
        row["truth"] = numbers(row["truth"]) if "truth" in row else row["scores"]
    return sorted(rows, key=lambda row: row["seed"])


def read_long(folder: Path, methods: list[str] | None = None) -> list[dict[str, Any]]:
    """Read the runs of which only the incumbents are stored; the truth of each after each step."""
    rows = [
        json.loads(line)
        for path in sorted(folder.glob("long-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    rows = [row for row in rows if methods is None or row["method"] in methods]
    for row in rows:
        # Before the first that did not fail there is none.
        values = np.append(-np.inf, numbers(row["values"]))
        row["truth"] = values[np.searchsorted(row["at"], np.arange(row["n"]), side="right")]
        row["scores"] = np.arange(row["n"], dtype=float)  # each is the incumbent
    return rows


def numbers(values: list[float | None]) -> np.ndarray:
    return np.array([-np.inf if value is None else value for value in values])


def incumbents(row: dict[str, Any]) -> np.ndarray:
    """Return the true value of the best so far, after each candidate."""
    scores = row["scores"]
    best = np.maximum.accumulate(scores)
    first = np.array([int(np.argmax(scores[: i + 1])) for i in range(len(scores))])
    values = row["truth"][first]
    return np.where(np.isfinite(best), values, -np.inf)


def regrets_of(rows: list[dict[str, Any]], shown: list[dict[str, Any]] | None = None) -> Regrets:
    """Return the regrets of the runs `shown`, by default all, in units that `rows` give."""
    best: dict[str, float] = {}
    drawn: dict[str, list[np.ndarray]] = {}
    for row in [*rows, *(shown or [])]:
        best[row["task"]] = max(best.get(row["task"], -np.inf), row["truth"].max())
    for row in rows:
        if row["method"] == "random":
            drawn.setdefault(row["task"], []).append(row["truth"])
    unit = {}
    for task, values in drawn.items():
        pooled = np.concatenate(values)
        unit[task] = best[task] - np.median(pooled[np.isfinite(pooled)])
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for row in rows if shown is None else shown:
        task = row["task"]
        if task in unit:
            regret = np.clip((best[task] - incumbents(row)) / unit[task], 0, 1)
            found.setdefault(row["method"], {}).setdefault(task, []).append(regret)
    return {
        method: {task: stack(runs) for task, runs in of.items()} for method, of in found.items()
    }


def stack(runs: list[np.ndarray]) -> np.ndarray:
    """Lay runs side by side; one that exhausted its space stays where it ended."""
    longest = max(map(len, runs))
    return np.stack([np.concatenate([r, np.full(longest - len(r), r[-1])]) for r in runs])


def at(runs: np.ndarray, budget: int) -> np.ndarray:
    """Return the regrets after `budget` candidates; NaN if the runs are shorter."""
    return runs[:, budget - 1] if runs.shape[1] >= budget else np.full(len(runs), np.nan)


# ----------------------------------------------------------------- statistics


def fraction(mine: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    logs = [
        np.log(max(m.mean(), FLOOR) / max(t.mean(), FLOOR))
        for m, t in zip(mine, theirs, strict=True)
    ]
    return float(np.exp(np.mean(logs)))


def bootstrap(regrets: Regrets, tasks: list[str], budget: int) -> dict[str, np.ndarray]:
    """Return the fraction of each method in resamples of tasks, and of seeds within tasks.

    The same tasks are drawn for all methods, so that differences are paired.
    """
    rng = np.random.default_rng(0)
    logs = {}
    for method, of in regrets.items():
        columns = []
        for task in tasks:
            values = at(of[task], budget)
            drawn = values[rng.integers(len(values), size=(N_BOOTSTRAP, len(values)))]
            columns.append(np.log(np.maximum(drawn.mean(axis=1), FLOOR)))
        logs[method] = np.stack(columns, axis=1)
    chosen = rng.integers(len(tasks), size=(N_BOOTSTRAP, len(tasks)))
    rows = np.arange(N_BOOTSTRAP)[:, None]
    return {
        method: np.exp((mine[rows, chosen] - logs["random"][rows, chosen]).mean(axis=1))
        for method, mine in logs.items()
    }


def interval(values: np.ndarray) -> str:
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{low:.2f} to {high:.2f}"


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values corrected for their number, after Holm (1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def p_worse(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Return the p-value of Welch's test of "regret is no higher than theirs"."""
    if max(np.ptp(mine), np.ptp(theirs)) < 1e-9:
        return float(mine[0] <= theirs[0] + 1e-9)
    if min(len(mine), len(theirs)) < 2:
        return 1.0
    with warnings.catch_warnings():
        # Regrets that differ by rounding only: the test warns, and says that they do not differ.
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(ttest_ind(mine, theirs, equal_var=False, alternative="greater").pvalue)


def worse_than_random(regrets: Regrets, tasks: list[str], method: str, budget: int) -> list[str]:
    p = np.array(
        [p_worse(at(regrets[method][t], budget), at(regrets["random"][t], budget)) for t in tasks]
    )
    return [task for task, corrected in zip(tasks, holm(p), strict=True) if corrected < LEVEL]


def reaches(regrets: Regrets, tasks: list[str], method: str) -> float:
    needed: list[float] = []
    for task in tasks:
        target = np.median(regrets["random"][task][:, -1])
        for run in regrets[method][task]:
            there = np.flatnonzero(run <= target)
            needed.append(there[0] + 1 if len(there) else np.inf)
    return float(np.median(needed))


# ----------------------------------------------------------------- tables


def stored(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table on disk; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def markdown(header: list[str], rows: list[list[str]]) -> str:
    rule = ["--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def complete(regrets: Regrets, tasks: list[str], budget: int) -> Regrets:
    """Return the methods that have run all tasks for so long."""
    return {
        method: of
        for method, of in regrets.items()
        if not is_variant(method) and all(t in of and of[t].shape[1] >= budget for t in tasks)
    }


def table(regrets: Regrets, tasks: list[str], budget: int) -> str:
    methods = complete(regrets, tasks, budget)
    resampled = bootstrap(methods, tasks, budget)
    means = {m: np.array([at(of[t], budget).mean() for t in tasks]) for m, of in methods.items()}
    floored = np.maximum(np.stack(list(means.values())), FLOOR)
    ranks = dict(zip(means, rankdata(floored, axis=0).mean(axis=1), strict=True))
    rows = []
    theirs = [at(methods["random"][t], budget) for t in tasks]
    for method, of in methods.items():
        mine = [at(of[t], budget) for t in tasks]
        worse = worse_than_random(methods, tasks, method, budget)
        rows.append(
            [
                method,
                f"{fraction(mine, theirs):.3f}",
                interval(resampled[method]),
                f"{ranks[method]:.2f}",
                f"{means[method].mean():.4f}",
                f"{reaches(methods, tasks, method):.0f}",
                ", ".join(worse) or "none",
            ]
        )
    rows.sort(key=lambda row: float(row[1]))
    header = ["method", "fraction", "95 %", "rank", "regret", "reaches", "worse"]
    return f"{len(tasks)} tasks\n\n" + markdown(header, rows)


def duel(regrets: Regrets, tasks: list[str], budget: int, ours: str) -> str:
    """Say by how much our fraction is below the best other's, of TPE the best other TPE's."""
    methods = complete(regrets, tasks, budget)
    if ours not in methods:
        return ""
    resampled = bootstrap(methods, tasks, budget)
    theirs = [at(methods["random"][t], budget) for t in tasks]
    points = {m: fraction([at(of[t], budget) for t in tasks], theirs) for m, of in methods.items()}
    others = [
        m
        for m in points
        if m not in ("bayes", "tpe", "hypergrad", "random") and (ours != "tpe" or m in OTHER_TPE)
    ]
    if not others:
        return ""
    best = min(others, key=points.__getitem__)
    saved = 1 - points[ours] / points[best]
    spread = interval(1 - resampled[ours] / resampled[best])
    return (
        f"After {budget}: {ours} {points[ours]:.3f}, the best other {best} {points[best]:.3f}: "
        f"{saved:.0%} lower (95 %: {spread})."
    )


def details(regrets: Regrets, groups: dict[str, list[str]], budget: int) -> str:
    """Return fractions of random search's regret, a row for each group of tasks or task."""
    methods = [m for m in regrets if m != "random" and not is_variant(m)]
    rows = []
    for name, tasks in groups.items():
        cells = [name]
        for method in methods:
            known = [t for t in tasks if t in regrets[method] and t in regrets["random"]]
            if len(known) < len(tasks):
                cells.append("")
                continue
            mine = [at(regrets[method][t], budget) for t in tasks]
            cells.append(f"{fraction(mine, [at(regrets['random'][t], budget) for t in tasks]):.2f}")
        rows.append([cell.replace("nan", "") for cell in cells])
    return markdown(["", *methods], rows)


def paired(
    rows: list[dict[str, Any]], regrets: Regrets, ours: str, other: str, budget: int
) -> tuple[float, str, int, int] | None:
    """Compare two methods over the tasks and seeds that both have run.

    The ratio is that of the regrets of one run each, both at least 0.001, geometric mean over seeds
    and then over tasks, which are resampled for the interval. Also the numbers of tasks and runs.
    """
    seeds: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        seeds.setdefault((row["method"], row["task"]), []).append(row["seed"])
    logs, n_runs = [], 0
    for task, theirs in regrets[other].items():
        mine = regrets[ours].get(task)
        if mine is None or min(mine.shape[1], theirs.shape[1]) < budget:
            continue
        common = sorted(set(seeds[ours, task]) & set(seeds[other, task]))
        a = at(mine, budget)[[seeds[ours, task].index(seed) for seed in common]]
        b = at(theirs, budget)[[seeds[other, task].index(seed) for seed in common]]
        n_runs += len(common)
        if common:
            logs.append(np.mean(np.log(np.maximum(a, FLOOR) / np.maximum(b, FLOOR))))
    if not logs:
        return None
    rng = np.random.default_rng(0)
    drawn = np.array(logs)[rng.integers(len(logs), size=(N_BOOTSTRAP, len(logs)))]
    return (
        float(np.exp(np.mean(logs))),
        interval(np.exp(drawn.mean(axis=1))),
        len(logs),
        n_runs,
    )


def pairs(
    rows: list[dict[str, Any]], regrets: Regrets, ours: str, others: list[str], budget: int
) -> str:
    """Compare a method with others, run by run."""
    cells = []
    for other in others:
        found = paired(rows, regrets, ours, other, budget)
        if found is not None:
            ratio, spread, n_tasks, n_runs = found
            cells.append([other, f"{ratio:.2f}", spread, str(n_tasks), str(n_runs)])
    return markdown([f"{ours} / other", "ratio", "95 %", "tasks", "runs"], cells)


def components(rows: list[dict[str, Any]], regrets: Regrets) -> str:
    """Compare TPESearchCV as it is with one component changed at a time."""
    cells = []
    for variant in sorted(filter(is_component, regrets)):
        found = [paired(rows, regrets, variant, "tpe", budget) for budget in BUDGETS]
        ratios = [f"{one[0]:.2f} ({one[1]})" if one else "" for one in found]
        cells.append([variant.removeprefix("tpe-"), *ratios])
    return markdown(["changed / as it is", *(f"after {b}" for b in BUDGETS)], cells)


def thinking(rows: list[dict[str, Any]]) -> str:
    cells = []
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        per = [(r["seconds"] - r["fit_seconds"]) / len(r["scores"]) for r in mine]
        seeds = sorted({r["seed"] for r in mine})
        cells.append(
            [
                method,
                f"{1000 * np.median(per):.1f}",
                str(len(mine)),
                str(len(seeds)),
                str(max(len(r["scores"]) for r in mine)),
                "; ".join(sorted({r["versions"].split(",")[0] for r in mine})),
            ]
        )
    return markdown(["method", "ms a suggestion", "runs", "seeds", "candidates", "version"], cells)


def beside(regrets: Regrets, methods: tuple[str, ...], tasks: list[str], budget: int) -> str:
    """Compare some methods on the tasks that they all have."""
    mine = {m: regrets[m] for m in ("random", *methods) if m in regrets}
    tasks = [t for t in tasks if all(t in of for of in mine.values())]
    if not tasks:
        return "No task has been run by all methods."
    resampled = bootstrap(mine, tasks, budget)
    theirs = [at(mine["random"][t], budget) for t in tasks]
    rows = [
        [m, f"{fraction([at(of[t], budget) for t in tasks], theirs):.3f}", interval(resampled[m])]
        for m, of in mine.items()
    ]
    return f"{len(tasks)} tasks\n\n" + markdown(["method", "fraction", "95 %"], rows)


def long_runs(rows: list[dict[str, Any]], long: list[dict[str, Any]]) -> str:
    """Compare methods over hundreds of candidates, on the tasks that all have run.

    The unit of regret is that of the shorter runs, and the best value that of both.
    """
    regrets = regrets_of(rows, long)
    tasks = [t for t in EVERY if all(t in of for of in regrets.values())]
    n_runs = min(len(of[t]) for of in regrets.values() for t in tasks)
    resampled = {budget: bootstrap(regrets, tasks, budget) for budget in LONG}
    cells = []
    for method, of in regrets.items():
        row = [method]
        for budget in LONG:
            mine, theirs = ([at(o[t], budget) for t in tasks] for o in (of, regrets["random"]))
            row.append(f"{fraction(mine, theirs):.3f} ({interval(resampled[budget][method])})")
        cells.append(row)
    cells.sort(key=lambda row: row[-1])
    table = markdown(["method", *(f"after {budget}" for budget in LONG)], cells)
    duels = "\n\n".join(filter(None, (duel(regrets, tasks, b, "tpe") for b in LONG)))
    return f"{len(tasks)} tasks, at least {n_runs} seeds\n\n{table}\n\n{duels}"


def delayed(of: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """Return regrets that were reached `n` candidates before."""
    return {
        task: np.concatenate([np.repeat(runs[:, :1], n, axis=1), runs[:, :-n]], axis=1)
        for task, runs in of.items()
    }


def halving(regrets: Regrets, budget: int) -> str:
    """Compare with BayesHalvingSearchCV where it has words for the space."""
    tasks = list(regrets.get("bayes-halving", {}))
    mine = {
        m: of
        for m, of in regrets.items()
        if all(t in of for t in tasks) and (m == "bayes-halving" or not is_variant(m))
    }
    theirs = [at(regrets["random"][t], budget) for t in tasks]
    rows = [
        [m, f"{fraction([at(of[t], budget) for t in tasks], theirs):.3f}"] for m, of in mine.items()
    ]
    return f"{', '.join(tasks)}\n\n" + markdown(["method", "fraction"], rows)


# ----------------------------------------------------------------- curves


def plot(regrets: Regrets, path: Path) -> None:
    """Draw the fraction of random search's final regret against candidates, a panel a group."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, 4, figsize=(13, 4.2), sharey=True, layout="constrained", squeeze=False
    )
    shown = [method for method in regrets if not is_variant(method)]
    # A method keeps its colour in every panel, and the legend has all of them.
    colours = {method: plt.get_cmap("tab20")(i / 20) for i, method in enumerate(shown)}
    lines: dict[str, Any] = {}
    for ax, (name, tasks) in zip(axes[0], {"all": EVERY, **GROUPS}.items(), strict=True):
        methods = complete(regrets, tasks, BUDGETS[0])
        for method, of in methods.items():
            shortest = min(of[t].shape[1] for t in tasks)
            curve = [
                np.exp(np.mean([np.log(max(at(of[t], n).mean(), FLOOR)) for t in tasks]))
                for n in range(1, shortest + 1)
            ]
            ours = method in ("bayes", "tpe")
            (lines[method],) = ax.plot(
                range(1, shortest + 1), curve, label=method, color=colours[method],
                linewidth=2.4 if ours else 1.2, zorder=3 if ours else 2,
                linestyle="--" if method == "random" else "-",
            )  # fmt: skip
        ax.set(title=f"{name} ({len(tasks)} tasks)", xlabel="candidates", yscale="log")
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("regret, geometric mean over tasks")
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


# ----------------------------------------------------------------- the command


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    parser.add_argument("--methods", nargs="+", help="only these; random must be among them")
    parser.add_argument("--budgets", nargs="+", type=int, default=BUDGETS)
    parser.add_argument("--plot", type=Path, help="draw curves to this file")
    options = parser.parse_args()
    rows = read(options.results, options.methods)
    if not any(row["method"] == "random" for row in rows):
        parser.error(f"No run of random search in {options.results}.")
    regrets = regrets_of(rows)
    print(thinking([row for row in rows if not is_component(row["method"])]))
    for budget in options.budgets:
        print_budget(rows, regrets, budget)
    for budget in options.budgets:
        print(f"\n## Kinds of space, after {budget}\n\n{details(regrets, KINDS, budget)}")
    singles = {task: [task] for task in EVERY}
    for budget in options.budgets:
        print(f"\n## Tasks, after {budget}\n\n{details(regrets, singles, budget)}")
    print_apart(regrets)
    long = read_long(options.results, options.methods)
    if long:
        print(f"\n## Long runs\n\n{long_runs(rows, long)}")
    if any(map(is_component, regrets)):
        print(f"\n## Components of TPESearchCV\n\n{components(rows, regrets)}")
    if options.plot:
        plot(regrets, options.plot)


def print_budget(rows: list[dict[str, Any]], regrets: Regrets, budget: int) -> None:
    print(f"\n## After {budget} candidates\n")
    print(table(regrets, EVERY, budget))
    for ours in ("bayes", "tpe"):
        print(f"\n{duel(regrets, EVERY, budget, ours)}")
    for name, tasks in GROUPS.items():
        print(f"\n### {name}, {table(regrets, tasks, budget)}")
    for ours in ("bayes", "tpe"):
        if ours in regrets:
            others = [m for m in regrets if m != ours and not is_variant(m)]
            others += [m for m in VARIANTS if m in regrets and m.startswith(ours)]
            print(f"\n### Pairs, {ours}\n\n{pairs(rows, regrets, ours, others, budget)}")


def print_apart(regrets: Regrets) -> None:
    # With n open, a candidate is proposed without the scores of the last n - 1. A search that
    # suffers from nothing else is as good as one at a time was, so many candidates ago.
    late = {
        f"{method}, {n} late": delayed(regrets[method], n)
        for method, numbers in {"bayes": (3, 7), "tpe": (7, 31)}.items()
        if method in regrets
        for n in numbers
    }
    regrets = {**regrets, **late}
    for title, methods in {"In parallel": PARALLEL, "Noise of the folds": FOLDS}.items():
        if set(methods) & set(APART) & set(regrets):
            print(f"\n## {title}, after 50, {beside(regrets, methods, EVERY, 50)}")
    if set(PARALLEL_TPE) & set(APART) & set(regrets):
        for budget in (50, 100):
            print(f"\n## TPESearchCV in parallel, after {budget}, ", end="")
            print(beside(regrets, PARALLEL_TPE, EVERY, budget))
    if "bayes-one-noise" in regrets:
        print(f"\nOn noisy scores, {beside(regrets, FOLDS, KINDS['noisy scores'], 50)}")
    if "bayes-halving" in regrets:
        print(f"\n## BayesHalvingSearchCV, after 50\n\n{halving(regrets, 50)}")


if __name__ == "__main__":
    main()
