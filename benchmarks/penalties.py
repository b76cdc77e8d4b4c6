"""One penalty for each feature against one for all: loss on new data, and seconds.

Sparse problems have few relevant features among many; dense ones have signal in all of them, or
none at all, where the best that can be hoped for is not to lose. Real data (diabetes, cancer,
digits) come with probes, copies of the features with their rows shuffled, where they are sparse.

Methods, all from the same shared penalty and the same five folds:

- ``single``      the best shared penalty;
- ``default``     `PerFeaturePenalty` as it is;
- ``unguarded``   the cross-validated loss lowered as far as it goes;
- ``early-stop``  rows kept out say where to stop, as in the default, but nothing pulls back;
- ``shrinkage``   log-penalties are pulled to the shared one, but nothing stops the descent;
- ``hold-out``    a quarter of the rows, chosen once, says where to stop;
- ``groups``      ten features in a row share a penalty, unguarded.

The default was chosen on seeds 0 to 2 of such problems; the seeds here are others. Ratios in the
table are geometric means over seeds, with the worst seed; seconds are the default's. The loss is
mean squared error or negative log-likelihood, on rows that no method has seen.

Run from the root of the repository::

    export OMP_NUM_THREADS=1
    python benchmarks/penalties.py                # half an hour; writes results/penalties.csv
    python benchmarks/penalties.py --only lasso   # some of it, in the place of what was there
    python benchmarks/penalties.py --quick        # smoke test, stores nothing
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from report import markdown
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import tunein
from tunein._math import descent
from tunein._math.penalties import CVLoss, HalfSquared, Logistic, Problem, Split
from tunein._penalties import _coordinate_descent

RESULTS = Path(__file__).parent / "results" / "penalties.csv"
SEEDS = range(10, 15)
N_NEW = 1000
UNGUARDED_STEPS = 50  # of logistic regression they take long, and get only worse
Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """Data to learn from and new data, by seed."""

    name: str
    group: str  # "sparse" or "dense"
    inner: str  # "ridge", "lasso" or "logistic"
    make: Callable[[int], Data]


def synthetic(
    n: int, p: int, n_relevant: int, signal: float, correlation: float, is_classification: bool
) -> Callable[[int], Data]:
    """Return Gaussian features, neighbours correlated; `signal` is a variance, or log-odds."""

    def make(seed: int) -> Data:
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((n + N_NEW, p))
        for j in range(1, p):
            X[:, j] = correlation * X[:, j - 1] + np.sqrt(1 - correlation**2) * X[:, j]
        w = np.zeros(p)
        relevant = rng.choice(p, n_relevant, replace=False)
        w[relevant] = rng.choice([-1, 1], n_relevant) * rng.uniform(0.5, 1.5, n_relevant)
        f = X @ w / (X @ w).std()
        if is_classification:
            y = (rng.random(len(f)) < expit(signal * f)).astype(float)
        else:
            y = np.sqrt(signal) * f + rng.standard_normal(len(f))
        return X[:n], y[:n], X[n:], y[n:]

    return make


def real(
    load: Callable, n: int, n_probes: int, label: Callable | None = None
) -> Callable[[int], Data]:
    """Return bundled data, with `n_probes` copies of the features that tell nothing."""

    def make(seed: int) -> Data:
        rng = np.random.default_rng(seed)
        X, y = load(return_X_y=True)
        y = (y - y.mean()) / y.std() if label is None else label(y).astype(float)
        X = np.hstack([X, *(rng.permutation(X) for _ in range(n_probes))])
        X, X_new, y, y_new = train_test_split(X, y, train_size=n, random_state=seed)
        kept = X.std(axis=0) > 0
        scaler = StandardScaler().fit(X[:, kept])
        return scaler.transform(X[:, kept]), y, scaler.transform(X_new[:, kept]), y_new

    return make


TASKS = [
    Task("ridge 100 x 200", "sparse", "ridge", synthetic(100, 200, 10, 4.0, 0.0, False)),
    Task(
        "ridge 200 x 1000, correlated", "sparse", "ridge", synthetic(200, 1000, 15, 4, 0.7, False)
    ),
    Task("ridge 400 x 2000", "sparse", "ridge", synthetic(400, 2000, 20, 5.0, 0.0, False)),
    Task("logistic 300 x 300", "sparse", "logistic", synthetic(300, 300, 10, 3.0, 0.0, True)),
    Task(
        "logistic 400 x 1500, corr.", "sparse", "logistic", synthetic(400, 1500, 10, 4.0, 0.5, True)
    ),
    Task("diabetes with 200 probes", "sparse", "ridge", real(load_diabetes, 221, 20)),
    Task(
        "cancer with 450 probes",
        "sparse",
        "logistic",
        real(load_breast_cancer, 200, 15, np.asarray),
    ),
    Task("ridge 200 x 100", "dense", "ridge", synthetic(200, 100, 100, 3.0, 0.0, False)),
    Task("ridge 100 x 300", "dense", "ridge", synthetic(100, 300, 300, 3.0, 0.0, False)),
    Task("ridge 300 x 500, correlated", "dense", "ridge", synthetic(300, 500, 500, 2, 0.9, False)),
    Task("ridge 150 x 150, noise", "dense", "ridge", synthetic(150, 150, 150, 0.05, 0.0, False)),
    Task(
        "logistic 200 x 500, corr.", "dense", "logistic", synthetic(200, 500, 500, 3.0, 0.5, True)
    ),
    Task("digits", "dense", "logistic", real(load_digits, 400, 0, lambda y: y > 4)),
    Task("diabetes", "dense", "ridge", real(load_diabetes, 221, 0)),
    Task("cancer", "dense", "logistic", real(load_breast_cancer, 200, 0, np.asarray)),
    Task("lasso 100 x 200", "sparse", "lasso", synthetic(100, 200, 10, 4.0, 0.0, False)),
    Task(
        "lasso 200 x 1000, correlated", "sparse", "lasso", synthetic(200, 1000, 15, 4, 0.7, False)
    ),
    Task("lasso 400 x 2000", "sparse", "lasso", synthetic(400, 2000, 20, 5.0, 0.0, False)),
    Task("lasso, diabetes with probes", "sparse", "lasso", real(load_diabetes, 221, 20)),
    Task("lasso 200 x 100", "dense", "lasso", synthetic(200, 100, 100, 3.0, 0.0, False)),
    Task("lasso 100 x 300", "dense", "lasso", synthetic(100, 300, 300, 3.0, 0.0, False)),
]

INNER = {"ridge": Ridge(), "lasso": Lasso(), "logistic": LogisticRegression(max_iter=10_000)}


class Run:
    """All methods on one task and seed."""

    def __init__(self, task: Task, seed: int) -> None:
        self.X, self.y, self.X_new, self.y_new = task.make(seed)
        self.task, self.is_classification = task, task.inner == "logistic"
        splitter = (StratifiedKFold if self.is_classification else KFold)(5)
        self.folds = [Split(*rows) for rows in splitter.split(self.X, self.y)]
        self.problem = self.as_problem(self.X, self.y)
        self.shared = descent.shared_log_penalty(self.problem, self.folds)

    def as_problem(self, X: np.ndarray, y: np.ndarray) -> Problem:
        loss = Logistic() if self.is_classification else HalfSquared()
        return Problem(
            X - self.X.mean(axis=0),
            y,
            np.ones(len(X)),
            np.arange(X.shape[1]),
            loss,
            True,
            _coordinate_descent if self.task.inner == "lasso" else None,
        )

    def new_loss(self, theta: np.ndarray) -> float:
        both = self.as_problem(np.vstack([self.X, self.X_new]), np.append(self.y, self.y_new))
        rows = np.arange(len(both.X))
        return CVLoss(both, theta).mean([Split(rows[: len(self.X)], rows[len(self.X) :])])

    def single(self) -> np.ndarray:
        return np.full(self.X.shape[1], self.shared)

    def default(self) -> np.ndarray:
        model = tunein.PerFeaturePenalty(INNER[self.task.inner])
        return np.log(model.fit(self.X, self.y).penalties_)

    def unguarded(self) -> np.ndarray:
        return descent.descend(self.problem, self.folds, self.shared, UNGUARDED_STEPS).theta

    def early_stop(self) -> np.ndarray:
        return descent.guarded_descent(self.problem, self.folds, self.shared, 100, 0.0).theta

    def shrinkage(self) -> np.ndarray:
        path = descent._descent(self.problem, self.folds, self.shared, UNGUARDED_STEPS, None, 1.0)
        return path.thetas[-1]

    def hold_out(self) -> np.ndarray:
        rows = np.arange(len(self.y))
        stratify = self.y if self.is_classification else None
        kept = Split(*train_test_split(rows, random_state=0, stratify=stratify))
        folds = [Split(np.intersect1d(f.train, kept.train), np.intersect1d(f.test, kept.train))
                 for f in self.folds]  # fmt: skip
        path = descent._descent(self.problem, folds, self.shared, 100, kept, 0.0)
        return path.thetas[int(np.argmin([losses.mean() for losses in path.held]))]

    def groups(self) -> np.ndarray:
        tied = replace(self.problem, groups=np.arange(self.X.shape[1]) // 10)
        found = descent.descend(tied, self.folds, self.shared, UNGUARDED_STEPS)
        return found.theta[tied.groups]


METHODS: dict[str, Callable[[Run], np.ndarray]] = {
    "single": Run.single,
    "default": Run.default,
    "unguarded": Run.unguarded,
    "early-stop": Run.early_stop,
    "shrinkage": Run.shrinkage,
    "hold-out": Run.hold_out,
    "groups": Run.groups,
}


def compare(tasks: list[Task], seeds: range, store: Callable[[dict[str, Any]], None]) -> None:
    for task in tasks:
        for seed in seeds:
            run = Run(task, seed)
            for name, method in METHODS.items():
                start = time.perf_counter()
                theta = method(run)
                seconds = time.perf_counter() - start
                store(
                    {
                        "group": task.group,
                        "task": task.name,
                        "seed": seed,
                        "method": name,
                        "loss": round(run.new_loss(theta), 6),
                        "seconds": round(seconds, 3),
                    }
                )


def time_large(
    inner: str, n: int, p: int, seeds: range, store: Callable[[dict[str, Any]], None]
) -> None:
    """Time as many penalties as there are features, from the data to the fitted estimator."""
    make = synthetic(n, p, 20, 5.0, 0.0, inner == "logistic")
    for seed in seeds:
        X, y, X_new, y_new = make(seed)
        start = time.perf_counter()
        model = tunein.PerFeaturePenalty(INNER[inner]).fit(X, y)
        seconds = time.perf_counter() - start
        found = model.shared_penalty_
        level = {"C": 1 / found} if inner == "logistic" else {"alpha": found}
        single = clone(INNER[inner]).set_params(**level).fit(X, y)
        row = {"group": "large", "task": f"{inner} {n} x {p}", "seed": seed}
        for name, fitted, cost in (("single", single, 0.0), ("default", model, seconds)):
            loss = round(loss_of(fitted, X_new, y_new), 6)
            store({**row, "method": name, "loss": loss, "seconds": round(cost, 3)})


def loss_of(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    if hasattr(model, "predict_proba"):
        return float(-np.log(model.predict_proba(X)[np.arange(len(y)), y.astype(int)]).mean())
    return float(np.mean((y - model.predict(X)) ** 2))


def versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "numpy", "scipy"))
    python = f"Python {platform.python_version()}, {platform.machine()}"
    return f"tunein {tunein.__version__}, {packages}, {python}, one BLAS thread"


def table(rows: list[dict[str, Any]]) -> str:
    """Return losses relative to the single penalty: geometric mean over seeds, and the worst."""
    losses = {(row["task"], row["seed"], row["method"]): float(row["loss"]) for row in rows}
    lines = []
    for group, task in dict.fromkeys((row["group"], row["task"]) for row in rows):
        seeds = sorted({seed for name, seed, _ in losses if name == task})
        cells = {"problem": task, "kind": group}
        for method in [name for name in METHODS if name != "single"]:
            if (task, seeds[0], method) in losses:
                ratios = [losses[task, s, method] / losses[task, s, "single"] for s in seeds]
                cells[method] = f"{np.exp(np.mean(np.log(ratios))):.2f} ({max(ratios):.2f})"
        seconds = [
            float(row["seconds"])
            for row in rows
            if row["task"] == task and row["method"] == "default"
        ]
        cells["seconds"] = f"{np.median(seconds):.1f}"
        lines.append([cells.get(name, "") for name in HEADER])
    return markdown(HEADER, lines)


HEADER = ["problem", "kind", *[name for name in METHODS if name != "single"], "seconds"]


def stored() -> list[dict[str, Any]]:
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return [{**row, "seed": int(row["seed"])} for row in csv.DictReader(file)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smoke test, stores nothing")
    parser.add_argument("--only", default="", help="of the tasks, those whose names have this")
    arguments = parser.parse_args()
    quick, only = arguments.quick, arguments.only
    rows: list[dict[str, Any]] = []
    tasks = [TASKS[0], TASKS[8], TASKS[15]] if quick else TASKS
    n, p, seeds = (100, 500, SEEDS[:1]) if quick else (400, 10_000, SEEDS)
    with threadpool_limits(1, user_api="blas"):
        compare([task for task in tasks if only in task.name], seeds, rows.append)
        for inner in [name for name in INNER if only in f"{name} {n} x {p}"]:
            time_large(inner, n, p, seeds[:3], rows.append)
    if not quick:
        new = {row["task"] for row in rows}
        measured = versions()
        kept = [row for row in stored() if row["task"] not in new]
        rows = kept + [{**row, "versions": measured} for row in rows]
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0]], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(table(rows))


if __name__ == "__main__":
    main()
