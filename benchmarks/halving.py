"""Halving beside its peers: score on held-out rows after equal total fit time.

Every task has a resource: rows of the training sets, trees, or iterations. A budget is counted in
evaluations of a candidate by three-fold cross-validation at the full resource, the mean time of
eight random ones; what counts is the processor's time in ``fit`` and ``predict``, so that other
work on the machine does not. When it is spent the search is interrupted, and its best candidate
is refitted at the full resource and scored on a third of the data that no search has seen.
scikit-learn's search cannot be interrupted, so its number of candidates is set from the costs of
the levels, which are measured beforehand and not charged.

All ladders have four levels, of 1/27, 1/9, 1/3 and all of the resource.

- ``random``               candidates drawn at random, at the full resource
- ``tpe``, ``bayes``       `TPESearchCV`, `BayesSearchCV`, at the full resource
- ``tpe-halving``, ...     the same with ``racing=Halving(...)``
- ``tpe-hyperband``, ...   the same with ``racing=Halving(..., brackets="all")``
- ``sklearn-halving``      scikit-learn's ``HalvingRandomSearchCV``
- ``optuna-hyperband``     Optuna's ``TPESampler`` and ``HyperbandPruner``; a trial that goes on is
                           fitted anew with more, as in all others

Run from the root of the repository::

    export PYTHONPATH=.:benchmarks OMP_NUM_THREADS=1
    python benchmarks/halving.py                # half an hour; writes results/halving.csv
    python benchmarks/halving.py --only svc     # some tasks, in the place of what was there
    python benchmarks/halving.py --quick        # smoke test, stores nothing
    python benchmarks/halving.py --report       # the table of what is stored
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from report import markdown, stored
from scipy.stats import rankdata
from sklearn.base import clone, is_classifier
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    make_classification,
    make_friedman1,
)
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    HalvingRandomSearchCV,
    KFold,
    ParameterSampler,
    StratifiedKFold,
    train_test_split,
)
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC, SVR
from threadpoolctl import threadpool_limits

import tunein
from tunein import BayesSearchCV, Halving, Integer, Real, TPESearchCV

RESULTS = Path(__file__).parent / "results" / "halving.csv"
BUDGETS = (12,)
SEEDS = range(3)
FACTOR, N_LEVELS = 3, 4


class Ledger:
    """Counts the seconds of fits and predictions, and interrupts what spends too much."""

    def __init__(self) -> None:
        self.start(np.inf)

    def start(self, limit: float) -> None:
        self.spent, self.limit = 0.0, limit

    def charge(self, method: Callable, *args: Any, **kwargs: Any) -> Any:
        if self.spent > self.limit:
            raise KeyboardInterrupt
        start = time.process_time()
        try:
            return method(*args, **kwargs)
        finally:
            self.spent += time.process_time() - start


LEDGER = Ledger()


def metered(model: Any) -> Any:
    """Return an estimator whose fits and predictions are counted."""
    own = type(model)

    class Metered(own):
        def fit(self, X: Any, y: Any) -> Any:
            return LEDGER.charge(super().fit, X, y)

        def predict(self, X: Any) -> Any:
            return LEDGER.charge(super().predict, X)

    Metered.__name__ = own.__name__
    return Metered(**model.get_params(deep=False))


@dataclass(frozen=True)
class Task:
    """What is tuned, on what, with what as the resource."""

    name: str
    model: Any
    space: dict[str, Any]
    load: Callable[[], tuple[Any, Any]]
    resource: str
    top: int  # of the parameter; of the rows, those that are not held out


def scaled(load: Callable, **kwargs: Any) -> Callable[[], tuple[Any, Any]]:
    def build() -> tuple[Any, Any]:
        X, y = load(**kwargs)
        X = (X - X.mean(axis=0)) / np.where(X.std(axis=0) > 0, X.std(axis=0), 1)
        return X, y if y.dtype.kind == "i" else (y - y.mean()) / y.std()

    return build


DIGITS = scaled(load_digits, return_X_y=True)
CANCER = scaled(load_breast_cancer, return_X_y=True)
DIABETES = scaled(load_diabetes, return_X_y=True)
COVERS = scaled(
    make_classification,
    n_samples=1800,
    n_features=30,
    n_informative=10,
    n_classes=5,
    flip_y=0.05,
    random_state=0,
)
FRIEDMAN = scaled(make_friedman1, n_samples=1800, noise=1.0, random_state=0)
FORESTS = {
    "max_features": Real(0.05, 1),
    "min_samples_leaf": Integer(1, 30, log=True),
    "max_samples": Real(0.1, 1),
    "criterion": ["gini", "entropy"],
}
BOOSTING = {
    "learning_rate": Real(1e-3, 1, log=True),
    "max_depth": Integer(1, 6),
    "subsample": Real(0.3, 1),
    "max_features": Real(0.1, 1),
}
SUPPORT = {"C": Real(1e-3, 1e3, log=True), "gamma": Real(1e-6, 1e1, log=True)}

TASKS = [
    Task("svc digits", SVC(), SUPPORT, DIGITS, "n_samples", 0),
    Task("svc covers", SVC(), SUPPORT, COVERS, "n_samples", 0),
    Task(
        "svr friedman", SVR(), {**SUPPORT, "epsilon": Real(1e-3, 1, log=True)}, FRIEDMAN,
        "n_samples", 0,
    ),
    Task(
        "trees covers",
        ExtraTreesClassifier(30, bootstrap=True, random_state=0),
        FORESTS,
        COVERS,
        "n_samples",
        0,
    ),
    Task(
        "forest digits", RandomForestClassifier(random_state=0), FORESTS, DIGITS,
        "n_estimators", 27,
    ),
    Task(
        "boosting cancer", GradientBoostingClassifier(random_state=0), BOOSTING, CANCER,
        "n_estimators", 81,
    ),
    Task(
        "boosting diabetes", GradientBoostingRegressor(random_state=0), BOOSTING, DIABETES,
        "n_estimators", 81,
    ),
    Task(
        "network digits",
        MLPClassifier(random_state=0),
        {
            "hidden_layer_sizes": Integer(8, 64, log=True),
            "alpha": Real(1e-6, 1e1, log=True),
            "learning_rate_init": Real(1e-4, 1e-1, log=True),
            "batch_size": [32, 64, 128, 256],
            "activation": ["relu", "tanh"],
        },
        DIGITS,
        "max_iter",
        27,
    ),
]  # fmt: skip


class Problem:
    """One task, cut into what searches see and what they do not."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task, self.seed = task, seed
        X, y = task.load()
        self.model = metered(task.model)
        self.is_classification = is_classifier(self.model)
        self.X, self.X_new, self.y, self.y_new = train_test_split(
            X, y, test_size=1 / 3, random_state=seed, stratify=y if self.is_classification else None
        )
        splitter = StratifiedKFold if self.is_classification else KFold
        self.cv = splitter(3, shuffle=True, random_state=seed)
        self.by_rows = task.resource == "n_samples"
        self.top = len(self.y) if self.by_rows else task.top
        self.bottom = self.top // FACTOR ** (N_LEVELS - 1)
        self.levels = [round(self.top / FACTOR**k) for k in range(N_LEVELS)][::-1]
        if not self.by_rows:
            self.model.set_params(**{task.resource: self.top})

    def sample(self, n: int, seed: int) -> list[dict[str, Any]]:
        return list(ParameterSampler(self.task.space, n, random_state=seed))

    def evaluate(self, params: dict[str, Any], level: int) -> float:
        """Return the mean score of a candidate over the folds, with so much of the resource."""
        model, scores = clone(self.model).set_params(**params), []
        if not self.by_rows:
            model.set_params(**{self.task.resource: level})
        for train, test in self.cv.split(self.X, self.y):
            rows = train
            if self.by_rows and level < self.top:
                rng = np.random.default_rng(self.seed)
                rows = rng.permutation(train)[: round(len(train) * level / self.top)]
            try:
                scores.append(
                    model.fit(self.X[rows], self.y[rows]).score(self.X[test], self.y[test])
                )
            except ValueError:  # a sample of one class
                return -np.inf
        return float(np.mean(scores))

    def cost(self, level: int) -> float:
        """Return the mean seconds of eight random candidates."""
        LEDGER.start(np.inf)
        for params in self.sample(8, 1234):
            self.evaluate(params, level)
        return LEDGER.spent / 8

    def held_out(self, params: dict[str, Any]) -> float:
        LEDGER.start(np.inf)
        model = clone(self.model).set_params(**params)
        if not self.by_rows:
            model.set_params(**{self.task.resource: self.top})
        return float(model.fit(self.X, self.y).score(self.X_new, self.y_new))


# --------------------------------------------------------------------- methods

Method = Callable[[Problem, float, list[float]], dict[str, Any]]


def of_tunein(search_class: type, **halving: Any) -> Method:
    def run(problem: Problem, seconds: float, costs: list[float]) -> dict[str, Any]:
        racing = None
        if halving:
            name = problem.task.resource
            racing = Halving(name, FACTOR, problem.bottom, problem.top, **halving)
        search = search_class(
            problem.model,
            problem.task.space,
            n_iter=5000,
            cv=problem.cv,
            refit=False,
            random_state=problem.seed,
            racing=racing,
        )
        with suppress(KeyboardInterrupt):
            search.fit(problem.X, problem.y)
        return search.best_params_

    return run


def at_random(problem: Problem, seconds: float, costs: list[float]) -> dict[str, Any]:
    seen: list[tuple[float, int, dict[str, Any]]] = []
    with suppress(KeyboardInterrupt):
        for i, params in enumerate(problem.sample(2000, problem.seed)):
            seen.append((problem.evaluate(params, problem.top), -i, params))
    return max(seen)[2]


def of_sklearn(problem: Problem, seconds: float, costs: list[float]) -> dict[str, Any]:
    each = sum(cost / FACTOR**k for k, cost in enumerate(costs))
    LEDGER.limit = np.inf
    search = HalvingRandomSearchCV(
        problem.model,
        problem.task.space,
        n_candidates=max(FACTOR ** (N_LEVELS - 1), round(seconds / each)),
        factor=FACTOR,
        resource=problem.task.resource,
        min_resources=problem.bottom,
        max_resources=problem.top,
        cv=problem.cv,
        refit=False,
        return_train_score=False,
        random_state=problem.seed,
    )
    return search.fit(problem.X, problem.y).best_params_


def of_optuna(problem: Problem, seconds: float, costs: list[float]) -> dict[str, Any]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: optuna.Trial) -> float:
        params = {name: suggest(trial, name, one) for name, one in problem.task.space.items()}
        trial.set_user_attr("params", params)
        for level in problem.levels:
            score = problem.evaluate(params, level)
            trial.report(score, level)
            if level < problem.top and trial.should_prune():
                raise optuna.TrialPruned
        return score

    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=problem.seed),
        pruner=optuna.pruners.HyperbandPruner(problem.levels[0], problem.top, FACTOR),
        direction="maximize",
    )
    with suppress(KeyboardInterrupt):
        study.optimize(objective, n_trials=5000)
    tried = [trial for trial in study.trials if trial.intermediate_values]
    best = max(tried, key=lambda trial: max(trial.intermediate_values.items()))
    return best.user_attrs["params"]


def suggest(trial: optuna.Trial, name: str, dimension: Any) -> Any:
    if isinstance(dimension, Real):
        return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
    if isinstance(dimension, Integer):
        return trial.suggest_int(name, dimension.low, dimension.high, log=dimension.log)
    return trial.suggest_categorical(name, dimension)


METHODS: dict[str, Method] = {
    "random": at_random,
    "tpe": of_tunein(TPESearchCV),
    "tpe-halving": of_tunein(TPESearchCV, brackets=1),
    "tpe-hyperband": of_tunein(TPESearchCV, brackets="all"),
    "bayes": of_tunein(BayesSearchCV),
    "bayes-halving": of_tunein(BayesSearchCV, brackets=1),
    "bayes-hyperband": of_tunein(BayesSearchCV, brackets="all"),
    "sklearn-halving": of_sklearn,
    "optuna-hyperband": of_optuna,
}


def compare(
    task: Task, methods: list[str], budgets: tuple[int, ...], seeds: list[int]
) -> list[dict[str, Any]]:
    rows = []
    for seed in seeds:
        problem = Problem(task, seed)
        costs = [problem.cost(level) for level in problem.levels]
        for budget in budgets:
            for method in methods:
                LEDGER.start(budget * costs[-1])
                start = time.perf_counter()
                params = METHODS[method](problem, budget * costs[-1], costs)
                took, spent = time.perf_counter() - start, LEDGER.spent
                row = {
                    "task": task.name,
                    "seed": seed,
                    "budget": budget,
                    "method": method,
                    "score": round(problem.held_out(params), 5),
                    "evaluations": round(spent / costs[-1], 2),
                    "seconds": round(took, 2),
                }
                rows.append(row)
                print(*row.values(), sep=", ", flush=True)
    return rows


# --------------------------------------------------------------------- what is told


def table(rows: list[dict[str, Any]], budget: int) -> str:
    """Return mean scores over seeds, and each method's mean rank over tasks and seeds.

    Of each task those seeds that all methods have run.
    """
    scores: dict[tuple[str, str], dict[int, float]] = {}
    spent: dict[str, list[float]] = {}
    for row in rows:
        if int(row["budget"]) == budget:
            of = scores.setdefault((row["task"], row["method"]), {})
            of[int(row["seed"])] = float(row["score"])
            spent.setdefault(row["method"], []).append(float(row["evaluations"]))
    tasks = list(dict.fromkeys(task for task, _ in scores))
    methods = list(dict.fromkeys(method for _, method in scores))
    lines, ranks = [], []
    for task in tasks:
        of = [scores.get((task, method), {}) for method in methods]
        seeds = set.intersection(*map(set, of))
        if not seeds:
            continue
        own = np.array([[one[seed] for seed in sorted(seeds)] for one in of])
        ranks.append(rankdata(-own, axis=0).mean(axis=1))
        lines.append([f"{task} ({len(seeds)})", *(f"{mean:.4f}" for mean in own.mean(axis=1))])
    lines.append(["mean rank", *(f"{rank:.2f}" for rank in np.mean(ranks, axis=0))])
    lines.append(["budget spent", *(f"{np.mean(spent[method]):.1f}" for method in methods)])
    return markdown(["task", *methods], lines)


def versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "optuna", "numpy"))
    python = f"Python {platform.python_version()}, {platform.machine()}"
    return f"tunein {tunein.__version__}, {packages}, {python}, one BLAS thread"


def store(new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put new rows in the place of those of the same task, method and seed."""

    def key(row: dict[str, Any]) -> tuple[str, str, int]:
        return row["task"], row["method"], int(row["seed"])

    measured, done = versions(), {key(row) for row in new}
    rows = [row for row in stored(RESULTS) if key(row) not in done]
    rows += [{**row, "versions": measured} for row in new]
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


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
    budgets, seeds = BUDGETS, arguments.seeds
    if arguments.quick:
        tasks, budgets, seeds = [TASKS[0], TASKS[6]], (4,), [0]
    rows: list[dict[str, Any]] = []
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that do not converge, in every method
        for task in [] if arguments.report else tasks:
            new = compare(task, arguments.methods, budgets, seeds)
            rows = rows + new if arguments.quick else store(new)
    rows = rows or stored(RESULTS)
    for budget in budgets:
        print(f"\nAfter {budget} evaluations:\n\n{table(rows, budget)}")


if __name__ == "__main__":
    main()
