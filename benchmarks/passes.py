"""Halving over passes beside dask-ml's searches, at equal fit time and at equal passes.

dask-ml's searches go on training what they have trained, by ``partial_fit``, and choose by the
score on one part of the rows that they set aside. So the resource is passes over the training rows,
1, 3, 9 and 27 of them, and ours run twice: with one such split, and with five folds. The rows that
a search sees are two thirds of the data; on the rest its choice is scored, fitted anew on all that
the search saw with 27 passes, and for dask-ml's also as the search left it.

The budget of a task and seed is what dask-ml's ``HyperbandSearchCV(max_iter=27)`` takes, and ours
are interrupted when it is spent. There are two:

- ``seconds``  of the processor in ``fit``, ``partial_fit`` and ``predict``. dask-ml begins the next
               pass of candidates before it has decided who goes on, if a worker is idle; those
               passes count as well.
- ``passes``   over rows, each fold by its rows; of dask-ml's those that decisions rest on. Calls
               of a few rows take longer by what is not arithmetic, and dask-ml makes more of them;
               this is what seconds would say if rows were many.

dask-ml's other searches cannot be interrupted: their number of candidates is set for as many passes
as Hyperband's. They are the same in both tables.

- ``dask-hyperband``       ``HyperbandSearchCV``, 49 candidates
- ``dask-halving``         ``SuccessiveHalvingSearchCV``, 119 candidates
- ``dask-incremental``     ``IncrementalSearchCV``, 13 candidates, none stopped early
- ``random``, ``tpe``      candidates of 27 passes, drawn at random or by `TPESearchCV`
- ``tpe-halving``          `TPESearchCV` with ``racing=Halving("max_iter")``
- ``tpe-hyperband``, ...   the same with ``brackets="all"``
- ``tpe-rows``             ``Halving("n_samples", brackets="all")``, 27 passes each
- ``tpe-halving-5``, ...   the same, with five folds

dask-ml 2025.1.0 fails with dask since 2025.3, so everything runs in an environment of its own, all
searches in the same, with one worker and no n_jobs::

    python3.11 -m venv old
    old/bin/pip install dask-ml==2025.1.0 "dask[dataframe]==2025.1.0" distributed==2025.1.0 \
        scikit-learn==1.6.1 "numpy<2.3" "pandas<2.3" "optuna>=4"
    export PYTHONPATH=.:benchmarks OMP_NUM_THREADS=1
    old/bin/python benchmarks/passes.py            # adds what is missing in results/passes.csv
    old/bin/python benchmarks/passes.py --only digits --seeds 0 1
    old/bin/python benchmarks/passes.py --quick    # smoke test, stores nothing
    python benchmarks/passes.py --report           # the tables of what is stored, anywhere
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from halving import CANCER, COVERS, DIABETES, DIGITS
from report import markdown, stored
from scipy.stats import rankdata
from sklearn.base import clone, is_classifier
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.model_selection import (
    KFold,
    ParameterSampler,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
    train_test_split,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from threadpoolctl import threadpool_limits

import tunein
from tunein import BayesSearchCV, Halving, Integer, Real, TPESearchCV

RESULTS = Path(__file__).parent / "results" / "passes.csv"
SEEDS = range(4)
TOP = 27  # passes; a multiple of 3 in powers, so that all ladders are 1, 3, 9, 27
TEST_SIZE = 0.2
FIRST = "dask-hyperband"  # what it takes is everyone's budget
LIMITS = {"seconds": "fit_seconds", "passes": "rows_needed"}


# --------------------------------------------------------------------- what is counted


class Ledger:
    """Counts seconds and rows of fits and predictions, and interrupts what spends too much."""

    def __init__(self) -> None:
        self.start()

    def start(self, unit: str = "seconds", limit: float = np.inf) -> None:
        self.spent: dict[str, float] = {"seconds": 0.0, "passes": 0}
        self.unit, self.limit = unit, limit

    def charge(self, rows: int, method: Callable, *args: Any, **kwargs: Any) -> Any:
        if self.spent[self.unit] > self.limit:
            raise KeyboardInterrupt
        self.spent["passes"] += rows
        start = time.thread_time()  # dask's other threads are not the estimator's
        try:
            return method(*args, **kwargs)
        finally:
            self.spent["seconds"] += time.thread_time() - start


LEDGER = Ledger()


class Metered:
    """An estimator whose fits and predictions are counted."""

    def fit(self, X: Any, y: Any) -> Any:
        return LEDGER.charge(len(X) * self.max_iter, super().fit, X, y)

    def partial_fit(self, X: Any, y: Any, **kwargs: Any) -> Any:
        return LEDGER.charge(len(X), super().partial_fit, X, y, **kwargs)

    def predict(self, X: Any) -> Any:
        return LEDGER.charge(0, super().predict, X)


class LinearClassifier(Metered, SGDClassifier):
    """Counted."""


class LinearRegressor(Metered, SGDRegressor):
    """Counted."""


class NetworkClassifier(Metered, MLPClassifier):
    """Counted."""


class NetworkRegressor(Metered, MLPRegressor):
    """Counted."""


# --------------------------------------------------------------------- tasks

# Nothing ends a fit before its passes are over: `partial_fit` knows no such rule.
LINEAR = {"max_iter": TOP, "tol": None, "random_state": 0}
NETWORK = {"max_iter": TOP, "n_iter_no_change": TOP + 1, "random_state": 0}

# Not `average`: with an L1 penalty, many passes in one `fit` come to something else than as many
# calls of `partial_fit`, and in either to a bad model.
LINEAR_SPACE = {
    "alpha": Real(1e-7, 1e0, log=True),
    "penalty": ["l2", "l1", "elasticnet"],
    "learning_rate": ["constant", "invscaling"],
}
CLASSIFIERS = LINEAR_SPACE | {
    "eta0": Real(1e-4, 1e1, log=True),
    "loss": ["hinge", "log_loss", "modified_huber"],
}
# With larger steps than these the squared loss overflows, which is an error.
REGRESSORS = LINEAR_SPACE | {
    "eta0": Real(1e-6, 1e-2, log=True),
    "loss": ["squared_error", "huber", "epsilon_insensitive"],
}
NETWORKS = {
    "hidden_layer_sizes": Integer(8, 64, log=True),
    "alpha": Real(1e-6, 1e1, log=True),
    "learning_rate_init": Real(1e-4, 1e-1, log=True),
    "batch_size": [32, 64, 128, 256],
    "activation": ["relu", "tanh"],
}


@dataclass(frozen=True)
class Task:
    """What is tuned, on what."""

    name: str
    model: Any
    space: dict[str, Any]
    load: Callable[[], tuple[Any, Any]]


TASKS = [
    Task("sgd digits", LinearClassifier(**LINEAR), CLASSIFIERS, DIGITS),
    Task("sgd cancer", LinearClassifier(**LINEAR), CLASSIFIERS, CANCER),
    Task("sgd covers", LinearClassifier(**LINEAR), CLASSIFIERS, COVERS),
    Task("sgd diabetes", LinearRegressor(**LINEAR), REGRESSORS, DIABETES),
    Task("network digits", NetworkClassifier(**NETWORK), NETWORKS, DIGITS),
    Task("network cancer", NetworkClassifier(**NETWORK), NETWORKS, CANCER),
    Task("network covers", NetworkClassifier(**NETWORK), NETWORKS, COVERS),
    Task("network diabetes", NetworkRegressor(**NETWORK), NETWORKS, DIABETES),
]


class Problem:
    """One task, cut into what searches see and what they do not."""

    def __init__(self, task: Task, seed: int) -> None:
        self.model, self.space, self.seed = task.model, task.space, seed
        X, y = task.load()
        self.classes = np.unique(y) if is_classifier(self.model) else None
        self.X, self.X_new, self.y, self.y_new = train_test_split(
            X, y, test_size=1 / 3, random_state=seed, stratify=None if self.classes is None else y
        )

    def splitter(self, n_folds: int) -> Any:
        if n_folds == 1:  # what dask-ml does
            return ShuffleSplit(1, test_size=TEST_SIZE, random_state=self.seed)
        kind = KFold if self.classes is None else StratifiedKFold
        return kind(n_folds, shuffle=True, random_state=self.seed)

    def held_out(self, params: dict[str, Any]) -> float:
        LEDGER.start()
        model = clone(self.model).set_params(**{**params, "max_iter": TOP})
        return float(model.fit(self.X, self.y).score(self.X_new, self.y_new))


# --------------------------------------------------------------------- methods


@dataclass(frozen=True)
class Choice:
    """What a search chose; its fitted estimator, if it leaves one that is not fitted anew."""

    params: dict[str, Any]
    fitted: Any = None
    n_calls: int = 0  # of `partial_fit` that decisions rest on


Method = Callable[[Problem], Choice]


def of_tunein(search_class: type, n_folds: int, racing: Halving | None) -> Method:
    def run(problem: Problem) -> Choice:
        search = search_class(
            problem.model, problem.space, n_iter=5000, cv=problem.splitter(n_folds), refit=False,
            random_state=problem.seed, racing=racing,
        )  # fmt: skip
        with suppress(KeyboardInterrupt):
            search.fit(problem.X, problem.y)
        return Choice(search.best_params_)

    return run


def at_random(problem: Problem) -> Choice:
    seen: list[tuple[float, int, dict[str, Any]]] = []
    with suppress(KeyboardInterrupt):
        for i, params in enumerate(
            ParameterSampler(problem.space, 2000, random_state=problem.seed)
        ):
            model = clone(problem.model).set_params(**params)
            score = cross_val_score(model, problem.X, problem.y, cv=problem.splitter(1))[0]
            seen.append((score, -i, params))
    return Choice(max(seen)[2])


def of_dask(name: str, **kwargs: Any) -> Method:
    def run(problem: Problem) -> Choice:
        from dask.distributed import Client
        from dask_ml import model_selection

        search = getattr(model_selection, name)(
            problem.model, problem.space, max_iter=TOP, test_size=TEST_SIZE,
            random_state=problem.seed, **kwargs,
        )  # fmt: skip
        known = {} if problem.classes is None else {"classes": problem.classes}
        with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None):
            search.fit(problem.X, problem.y, **known)
        calls = [history[-1]["partial_fit_calls"] for history in search.model_history_.values()]
        return Choice(search.best_params_, search.best_estimator_, sum(calls))

    return run


def ladder(brackets: Any) -> Halving:
    return Halving("max_iter", 3, 1, TOP, brackets)


def by_rows(n_folds: int) -> Method:
    def run(problem: Problem) -> Choice:
        racing = Halving("n_samples", 3, len(problem.y) // TOP, brackets="all")
        return of_tunein(TPESearchCV, n_folds, racing)(problem)

    return run


DASK: dict[str, Method] = {
    FIRST: of_dask("HyperbandSearchCV"),
    "dask-halving": of_dask(
        "SuccessiveHalvingSearchCV", n_initial_parameters=119, n_initial_iter=1
    ),
    "dask-incremental": of_dask("IncrementalSearchCV", n_initial_parameters=13),
}
OURS: dict[str, Method] = {
    "random": at_random,
    "tpe": of_tunein(TPESearchCV, 1, None),
    "tpe-halving": of_tunein(TPESearchCV, 1, ladder(1)),
    "tpe-hyperband": of_tunein(TPESearchCV, 1, ladder("all")),
    "tpe-rows": by_rows(1),
    "bayes-hyperband": of_tunein(BayesSearchCV, 1, ladder("all")),
    "tpe-halving-5": of_tunein(TPESearchCV, 5, ladder(1)),
    "tpe-hyperband-5": of_tunein(TPESearchCV, 5, ladder("all")),
    "bayes-hyperband-5": of_tunein(BayesSearchCV, 5, ladder("all")),
}
METHODS = DASK | OURS


def measure(
    task: Task, seed: int, method: str, unit: str = "seconds", limit: float = np.inf
) -> dict[str, Any]:
    problem = Problem(task, seed)
    LEDGER.start(unit, limit)
    start = time.perf_counter()
    choice = METHODS[method](problem)
    took, spent = time.perf_counter() - start, LEDGER.spent
    left = "" if choice.fitted is None else choice.fitted.score(problem.X_new, problem.y_new)
    row = {
        "task": task.name,
        "seed": seed,
        "method": method,
        "budget": "" if method in DASK else unit,
        "score": round(problem.held_out(choice.params), 5),
        "as_left": left and round(left, 5),
        "fit_seconds": round(spent["seconds"], 3),
        "rows": round(spent["passes"]),  # times passes
        "rows_needed": round(choice.n_calls * (1 - TEST_SIZE) * len(problem.y)) or "",
        "seconds": round(took, 2),
    }
    print(*row.values(), sep=", ", flush=True)
    return row


def missing(
    tasks: list[Task], seeds: list[int], methods: list[str], rows: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Measure what `rows` do not have, the budget first."""
    known = {(row["task"], int(row["seed"]), row["method"], row["budget"]): row for row in rows}
    for seed, task in product(seeds, tasks):
        for method in dict.fromkeys([FIRST, *methods]):
            for unit, limit in LIMITS.items() if method in OURS else [("", "")]:
                key = task.name, seed, method, unit
                if key not in known:
                    budget = known.get((task.name, seed, FIRST, ""), {})
                    given = (unit, float(budget[limit])) if limit else ()
                    known[key] = measure(task, seed, method, *given)
                    yield known[key]


# --------------------------------------------------------------------- what is told


def of_budget(rows: list[dict[str, Any]], unit: str) -> list[dict[str, Any]]:
    """Return the rows of a table, with what `FIRST` left behind as a method of its own."""
    left = [row for row in rows if row["method"] == FIRST]
    left = [{**row, "method": f"{FIRST}, as left", "score": row["as_left"]} for row in left]
    return left + [row for row in rows if row["budget"] in ("", unit)]


def table(rows: list[dict[str, Any]]) -> str:
    """Return mean scores, and mean ranks over tasks and seeds, of those that all methods have."""
    scores = {(r["method"], r["task"], int(r["seed"])): float(r["score"]) for r in rows}
    methods = list(dict.fromkeys(row["method"] for row in rows))
    tasks, grids = [], []
    for task in dict.fromkeys(row["task"] for row in rows):
        seeds = [s for s in SEEDS if all((m, task, s) in scores for m in methods)]
        if seeds:
            tasks.append(f"{task} ({len(seeds)})")
            grids.append(np.array([[scores[m, task, s] for s in seeds] for m in methods]))
    each = np.hstack([rankdata(-grid, axis=0) for grid in grids])
    ranks, errors = each.mean(axis=1), each.std(axis=1) / np.sqrt(each.shape[1])
    lines = [
        [methods[i], f"{ranks[i]:.1f} ± {errors[i]:.1f}"]
        + [f"{grid[i].mean():.4f}" for grid in grids]
        for i in np.argsort(ranks)
    ]
    return markdown(["", "mean rank", *tasks], lines)


def costs(rows: list[dict[str, Any]]) -> str:
    """Return what each method spent, as a multiple of the budgets, and what it took beside fits."""
    first = {(row["task"], row["seed"]): row for row in rows if row["method"] == FIRST}
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        parts = [
            np.mean([float(r[of]) / float(first[r["task"], r["seed"]][limit]) for r in own])
            for of, limit in (("fit_seconds", "fit_seconds"), ("rows", "rows_needed"))
        ]
        beside = np.mean([float(row["seconds"]) - float(row["fit_seconds"]) for row in own])
        lines.append([method, *(f"{part:.2f}" for part in parts), f"{beside:.1f}"])
    return markdown(["", "fit time", "passes", "seconds beside fits"], lines)


def versions() -> str:
    names = ("scikit-learn", "dask-ml", "dask", "distributed", "numpy")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    python = f"Python {platform.python_version()}, {platform.machine()}"
    return f"tunein {tunein.__version__}, {packages}, {python}, one thread"


def add(row: dict[str, Any]) -> None:
    row = {**row, "versions": versions()}
    is_new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, [*row], lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smoke test, stores nothing")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="tasks whose names have one of these"
    )
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[*SEEDS])
    parser.add_argument("--report", action="store_true", help="tell what is stored")
    arguments = parser.parse_args()
    tasks = [task for task in TASKS if any(word in task.name for word in arguments.only)]
    seeds = [0] if arguments.quick else arguments.seeds
    rows = [] if arguments.quick else stored(RESULTS)
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that do not converge, in every method
        if not arguments.report:
            todo = tasks[1:2] if arguments.quick else tasks
            for row in missing(todo, seeds, arguments.methods, rows):
                rows = [*rows, row]
                if not arguments.quick:
                    add(row)
    rows = [{name: str(value) for name, value in row.items()} for row in rows]
    for unit in LIMITS:
        shown = of_budget(rows, unit)
        print(f"\nAt equal {unit}:\n\n{table(shown)}\n\n{costs(shown)}")


if __name__ == "__main__":
    # dask would pickle a class of __main__ with a ledger of its own.
    import passes

    passes.main()
