"""How soon HyperGradSearchCV is at the best of a fine grid, and what that costs beside peers.

The optimum of each problem is the least cross-validation loss of converged fits on a fine grid (401
points, or 61 x 61). Searches start from values spread over the box; counted are the candidates
until one is within 1e-3 of the optimum (relative), and CPU time, scoring and refit included. Others
start where ours does, and its time is taken beside theirs (``hypergrad_peers.py``).

    python benchmarks/hypergrad.py            # adds what is missing to results/hypergrad*.csv
    python benchmarks/hypergrad.py --quick    # a smoke run of the cheapest problem
    python benchmarks/hypergrad.py --report   # prints the tables

Optuna's GPSampler needs torch. sparse-ho, not maintained since 2023, is on PyPI under the name of a
fork with the same code; give it an environment::

    python3 -m venv sparse-ho && sparse-ho/bin/pip install sparse-ho-fork-leoiv .
    sparse-ho/bin/python benchmarks/hypergrad.py --what others --methods "sparse-ho(40)"
"""

from __future__ import annotations

import argparse
import csv
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypergrad_peers as others
import numpy as np
import scipy
import sklearn
from peers import quiet
from report import stored
from scipy.stats import loguniform, uniform
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    make_regression,
)
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    Lasso,
    LassoCV,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeCV,
)
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, StratifiedKFold
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, SVR

import tunein
from tunein import BayesSearchCV, HyperGradSearchCV, TPESearchCV
from tunein._families import Loss
from tunein._probe import FoldProbe

RESULTS = Path(__file__).parent / "results"
SEARCHES, TIMES = RESULTS / "hypergrad.csv", RESULTS / "hypergrad_times.csv"
OPTIMA, OTHERS = RESULTS / "hypergrad_optima.csv", RESULTS / "hypergrad_others.csv"

LINE, SQUARE = (
    (0.5, 0.05, 0.2, 0.8, 0.95),
    ((0.5, 0.5), (0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8)),
)


@dataclass(frozen=True)
class Problem:
    """An estimator, its space and data; `scoring` is the loss that counts."""

    estimator: Any
    space: dict[str, Any]
    data: Any
    loss: str
    scoring: str | None
    near: float = 1e-3

    @property
    def starts(self) -> tuple[Any, ...]:
        return tuple((u,) for u in LINE) if len(self.space) == 1 else SQUARE

    def folds(self, X: Any, y: Any, seed: int) -> list[Any]:
        splitter = StratifiedKFold if self.loss.endswith("log_loss") else KFold
        return list(splitter(5, shuffle=True, random_state=seed).split(X, y))

    def at(self, u: Any) -> dict[str, float]:
        return {name: float(d.ppf(v)) for (name, d), v in zip(self.space.items(), u, strict=True)}


def standard(loader: Any, degree: int = 1, n: int | None = None) -> Any:
    def load() -> tuple[Any, Any]:
        X, y = loader(return_X_y=True)
        X, y = (X, y) if n is None else (X[:n], y[:n])
        if degree > 1:
            X = PolynomialFeatures(degree, include_bias=False).fit_transform(X)
        X = StandardScaler().fit_transform(X)
        return X, (y - y.mean()) / y.std() if loader is load_diabetes else y

    return load


def synthetic(n: int, p: int, informative: int, noise: float) -> Any:
    def load() -> tuple[Any, Any]:
        X, y = make_regression(n, p, n_informative=informative, noise=noise, random_state=0)
        return X, (y - y.mean()) / y.std()

    return load


WIDE = loguniform(1e-4, 1e4)
PROBLEMS = {
    "ridge diabetes": Problem(
        Ridge(), {"alpha": WIDE}, standard(load_diabetes, 2), "squared_error",
        "neg_mean_squared_error",
    ),
    "ridge 300 x 500": Problem(
        Ridge(), {"alpha": WIDE}, synthetic(300, 500, 50, 20.0), "squared_error",
        "neg_mean_squared_error",
    ),
    "lasso diabetes": Problem(
        Lasso(max_iter=10_000), {"alpha": loguniform(1e-3, 1e1)}, standard(load_diabetes, 2),
        "squared_error", "neg_mean_squared_error",
    ),
    "lasso 300 x 1000": Problem(
        Lasso(max_iter=10_000), {"alpha": loguniform(1e-3, 1e1)}, synthetic(300, 1000, 20, 20.0),
        "squared_error", "neg_mean_squared_error",
    ),
    "logistic cancer": Problem(
        LogisticRegression(max_iter=2000), {"C": WIDE}, standard(load_breast_cancer), "log_loss",
        "neg_log_loss",
    ),
    "logistic digits": Problem(
        LogisticRegression(max_iter=2000), {"C": WIDE}, standard(load_digits), "log_loss",
        "neg_log_loss",
    ),
    "logistic l1 cancer": Problem(
        LogisticRegression(solver="liblinear", l1_ratio=1.0), {"C": loguniform(1e-3, 1e3)},
        standard(load_breast_cancer), "log_loss", "neg_log_loss",
    ),
    "elastic net diabetes": Problem(
        ElasticNet(max_iter=10_000),
        {"alpha": loguniform(1e-3, 1e1), "l1_ratio": uniform(0.02, 0.98)},
        standard(load_diabetes, 2), "squared_error", "neg_mean_squared_error",
    ),
    "elastic net 300 x 500": Problem(
        ElasticNet(max_iter=10_000),
        {"alpha": loguniform(1e-3, 1e1), "l1_ratio": uniform(0.02, 0.98)},
        synthetic(300, 500, 50, 20.0), "squared_error", "neg_mean_squared_error",
    ),
    "kernel ridge diabetes": Problem(
        KernelRidge(kernel="rbf"), {"alpha": loguniform(1e-4, 1e2), "gamma": loguniform(1e-4, 1e1)},
        standard(load_diabetes), "squared_error", "neg_mean_squared_error",
    ),
    "svr diabetes": Problem(
        SVR(), {"C": loguniform(1e-2, 1e3), "gamma": loguniform(1e-4, 1e1)},
        standard(load_diabetes), "squared_error", "neg_mean_squared_error", 1e-2,
    ),
    "svc cancer": Problem(
        SVC(), {"C": loguniform(1e-2, 1e3), "gamma": loguniform(1e-4, 1e1)},
        standard(load_breast_cancer), "platt_log_loss", None, 1e-2,
    ),
    "svc digits": Problem(
        SVC(), {"C": loguniform(1e-2, 1e3), "gamma": loguniform(1e-4, 1e1)},
        standard(load_digits, n=600), "platt_log_loss", None, 1e-2,
    ),
}  # fmt: skip


def converged_loss(problem: Problem, u: Any, X: Any, y: Any, folds: list[Any]) -> float:
    """Return the cross-validation loss of converged fits; NaN if one does not converge."""
    probe = FoldProbe(Loss(problem.loss), False, tuple(problem.space), True)
    values = []
    for train, test in folds:
        fitted = clone(problem.estimator).set_params(**problem.at(u)).fit(X[train], y[train])
        found, _ = probe(fitted, X, y, train=train, test=test, fit_params={}, score_params={})
        if found is None:
            return np.nan
        values.append(found.loss)
    return float(np.mean(values))


def optimum(name: str, seed: int) -> float:
    """Return the least loss on the grid, from the results if it is there."""
    for row in stored(OPTIMA):
        if row["problem"] == name and int(row["seed"]) == seed:
            return float(row["loss"])
    problem = PROBLEMS[name]
    X, y = problem.data()
    folds = problem.folds(X, y, seed)
    d = len(problem.space)
    axis = np.linspace(0.001, 0.999, 401 if d == 1 else 61)
    grid = np.stack(np.meshgrid(*[axis] * d, indexing="ij"), axis=-1).reshape(-1, d)
    least = float(np.nanmin([converged_loss(problem, u, X, y, folds) for u in grid]))
    append(OPTIMA, {"problem": name, "seed": seed, "loss": repr(least), "n_grid": len(grid)})
    return least


def search_once(name: str, seed: int, start: Any) -> dict[str, Any]:
    """Search from one start; the losses of the candidates, in order."""
    problem = PROBLEMS[name]
    X, y = problem.data()
    estimator = clone(problem.estimator).set_params(**problem.at(start))
    begin = time.process_time()
    search = HyperGradSearchCV(
        estimator, problem.space, n_iter=40, scoring=problem.scoring,
        cv=problem.folds(X, y, seed), random_state=seed,
    ).fit(X, y)  # fmt: skip
    seconds = time.process_time() - begin
    loss = search.cv_results_["loss"]
    return {
        "problem": name, "seed": seed, "start": " ".join(map(str, start)),
        "n_candidates": len(loss), "seconds": f"{seconds:.4f}",
        "losses": " ".join(f"{value:.8g}" for value in loss), **VERSIONS,
    }  # fmt: skip


VERSIONS = {
    "tunein": tunein.__version__,
    "sklearn": sklearn.__version__,
    "numpy": np.__version__,
    "scipy": scipy.__version__,
}


def append(path: Path, row: dict[str, Any]) -> None:
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def candidates_until(losses: np.ndarray, best: float, near: float) -> float:
    """Return the number of candidates until one is near the optimum; inf if none is."""
    hit = np.flatnonzero(losses <= best + near * abs(best))
    return float(hit[0] + 1) if len(hit) else np.inf


# --------------------------------------------------------------------- what it costs


def grids(problem: Problem) -> dict[str, Any]:
    """Return 100 points of a grid."""
    n = 100 if len(problem.space) == 1 else 10
    axis = np.linspace(0.001, 0.999, n)
    return {name: list(map(float, d.ppf(axis))) for name, d in problem.space.items()}


def timed(name: str, seed: int) -> list[dict[str, Any]]:
    """Time this search and its peers on the same folds, in one run."""
    problem = PROBLEMS[name]
    X, y = problem.data()
    folds = problem.folds(X, y, seed)
    shared = {"scoring": problem.scoring, "cv": folds}
    own = {**shared, "random_state": seed}
    estimator, space = problem.estimator, problem.space
    contenders = {
        "HyperGradSearchCV": HyperGradSearchCV(estimator, space, **own),
        "GridSearchCV(100)": GridSearchCV(estimator, grids(problem), **shared),
        "RandomizedSearchCV(50)": RandomizedSearchCV(estimator, space, n_iter=50, **own),
        "BayesSearchCV(30)": BayesSearchCV(estimator, space, n_iter=30, **own),
        "TPESearchCV(50)": TPESearchCV(estimator, space, n_iter=50, **own),
        **own_cv(problem, folds),
    }
    out = []
    for contender, search in contenders.items():
        seconds = cpu_seconds(search, X, y)
        u = [d.cdf(chosen(search, key)) for key, d in space.items()]
        loss = converged_loss(problem, u, X, y, folds)
        row = {"problem": name, "seed": seed, "contender": contender, "loss": f"{loss:.8g}"}
        out.append({**row, "seconds": f"{seconds:.4f}", **VERSIONS})
    return out


def cpu_seconds(search: Any, X: Any, y: Any) -> float:
    """Return the CPU time of a fit: the median of three, unless one takes long."""
    taken: list[float] = []
    while len(taken) < 3 and sum(taken) < 1:
        begin = time.process_time()
        search.fit(X, y)
        taken.append(time.process_time() - begin)
    return float(np.median(taken))


def own_cv(problem: Problem, folds: list[Any]) -> dict[str, Any]:
    """Return the estimator of scikit-learn that searches by itself, if there is one."""
    values = np.asarray(next(iter(grids(problem).values())))
    estimator = problem.estimator
    if isinstance(estimator, Ridge):
        # those of its sizes that its users would pick
        return {f"RidgeCV({n})": RidgeCV(values[:: 100 // n], cv=folds) for n in (10, 100)}
    if isinstance(estimator, Lasso):
        return {"LassoCV(100)": LassoCV(alphas=values, cv=folds, max_iter=10_000)}
    if isinstance(estimator, ElasticNet):
        ratios = grids(problem)["l1_ratio"]
        alphas = np.geomspace(1e-3, 1e1, 100)
        net = ElasticNetCV(l1_ratio=ratios[::2], alphas=alphas, cv=folds, max_iter=10_000)
        return {"ElasticNetCV(5 x 100)": net}
    if isinstance(estimator, LogisticRegression):
        keep = {k: v for k, v in estimator.get_params().items() if k in ("solver", "max_iter")}
        ratio = (float(estimator.l1_ratio or 0.0),)
        model = LogisticRegressionCV(
            Cs=values, cv=folds, scoring="neg_log_loss", l1_ratios=ratio,
            use_legacy_attributes=False, **keep,
        )  # fmt: skip
        return {"LogisticRegressionCV(100)": model}
    return {}


def chosen(search: Any, name: str) -> float:
    """Return the value that a search, or an estimator that searches, has settled for."""
    if hasattr(search, "best_params_"):
        return float(search.best_params_[name])
    return float(np.ravel(getattr(search, f"{name}_"))[0])


# --------------------------------------------------------------------- others


def beside(name: str, seed: int, start: Any, methods: list[str]) -> Iterator[dict[str, Any]]:
    """Search from one start with others, and with this search before and after each."""
    if not methods:
        return
    problem = PROBLEMS[name]
    X, y = problem.data()
    folds = problem.folds(X, y, seed)
    own = others.METHODS[others.OURS]
    draws = len(problem.starts) * seed + problem.starts.index(start)  # others at each start
    for method in (others.OURS, *methods):
        load_and_compile(method, name)
    before = own(problem, X, y, folds, start, draws)[1]
    for method in methods:
        tried, seconds = others.METHODS[method](problem, X, y, folds, start, draws)
        after = own(problem, X, y, folds, start, draws)[1]
        us = [[d.cdf(params[key]) for key, d in problem.space.items()] for params in tried]
        # With a proxy, others do not look for the optimum that ours descends to.
        counts = problem.scoring is not None
        losses = [converged_loss(problem, u, X, y, folds) for u in us] if counts else []
        yield {
            "problem": name, "seed": seed, "start": " ".join(map(str, start)), "method": method,
            "n_candidates": len(tried), "seconds": f"{seconds:.4f}",
            "ours": f"{(before + after) / 2:.4f}",
            "losses": " ".join(f"{value:.8g}" for value in losses),
            "package": others.version(method), **VERSIONS,
        }  # fmt: skip
        before = after


@functools.cache
def load_and_compile(method: str, name: str) -> None:
    """Search once for nothing: what only the first search of a process takes is not measured."""
    problem = PROBLEMS[name]
    X, y = problem.data()
    others.METHODS[method](problem, X, y, problem.folds(X, y, 0), problem.starts[0], 0)


def missing(name: str, seed: int, start: Any, methods: list[str]) -> list[str]:
    """Return the methods that have the model, and have not been run yet."""
    key = (name, str(seed), " ".join(map(str, start)))
    done = {r["method"] for r in stored(OTHERS) if (r["problem"], r["seed"], r["start"]) == key}
    return [m for m in methods if m not in done and has_words(m, PROBLEMS[name])]


def has_words(method: str, problem: Problem) -> bool:
    """Tell whether a method has the model."""
    return not method.startswith("sparse-ho") or others.has_sparse_ho(problem)


# --------------------------------------------------------------------- tables


def report() -> None:
    optima = {(r["problem"], r["seed"]): float(r["loss"]) for r in stored(OPTIMA)}
    print("| problem | candidates until near | most | stopped after | never near |")
    print("|---|--:|--:|--:|--:|")
    found = stored(SEARCHES)
    for name, problem in PROBLEMS.items():
        mine = [r for r in found if r["problem"] == name and (name, r["seed"]) in optima]
        if not mine:
            continue
        until = np.array(
            [
                candidates_until(
                    np.array(r["losses"].split(), dtype=float),
                    optima[name, r["seed"]], problem.near,
                )
                for r in mine
            ]
        )  # fmt: skip
        stopped = np.median([int(r["n_candidates"]) for r in mine])
        never = int(np.isinf(until).sum())
        print(
            f"| {name} (to {problem.near:g}) | {np.median(until):g} | {until.max():g} | "
            f"{stopped:g} | {never} of {len(until)} |"
        )
    print("\n| problem | contender | CPU seconds | times ours | loss above the optimum |")
    print("|---|---|--:|--:|--:|")
    times = stored(TIMES)
    for name in PROBLEMS:
        mine = [r for r in times if r["problem"] == name]
        base = {r["seed"]: float(r["seconds"]) for r in mine if r["contender"].startswith("HyperG")}
        for contender in dict.fromkeys(r["contender"] for r in mine):
            these = [r for r in mine if r["contender"] == contender]
            seconds = np.median([float(r["seconds"]) for r in these])
            ratio = np.median([float(r["seconds"]) / base[r["seed"]] for r in these])
            gaps = [
                float(r["loss"]) / optima[name, r["seed"]] - 1
                for r in these
                if (name, r["seed"]) in optima
            ]
            gap = f"{np.median(gaps):.1e}" if gaps else ""
            print(f"| {name} | {contender} | {seconds:.3f} | {ratio:.1f} | {gap} |")
    report_others(optima)


def report_others(optima: dict[tuple[str, str], float]) -> None:
    """Print how soon each search is near, and in parentheses its CPU time in multiples of ours."""
    rows = stored(OTHERS)
    print("\n| problem |", " | ".join(others.METHODS), "|")
    print("|---|" + "--:|" * len(others.METHODS))
    for name, problem in PROBLEMS.items():
        cells = []
        for method in others.METHODS:
            mine = [r for r in rows if (r["problem"], r["method"]) == (name, method)]
            found = [r for r in mine if r["losses"] and (name, r["seed"]) in optima]
            until = [
                candidates_until(
                    np.array(r["losses"].split(), float), optima[name, r["seed"]], problem.near
                )
                for r in found
                if problem.scoring is not None
            ]
            ratios = [float(r["seconds"]) / float(r["ours"]) for r in mine]
            cells.append(
                " ".join([how_soon(until), f"({np.median(ratios):.1f})" * bool(ratios)]).strip()
            )
        if any(cells):
            print(f"| {name} |", " | ".join(cells), "|")


def how_soon(until: list[float]) -> str:
    """Put numbers of candidates into a word or two."""
    if not until:
        return ""
    never = int(np.isinf(until).sum())
    # The lower of the two in the middle, which is a number even if the other is never.
    median = float(np.sort(until)[(len(until) - 1) // 2])
    some = f", {never} of {len(until)} never" if never and np.isfinite(median) else ""
    return f"{median:g}{some}" if np.isfinite(median) else f"never in {never} of {len(until)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one start of the cheapest problem")
    parser.add_argument("--report", action="store_true", help="print the tables")
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--what", choices=["optima", "searches", "times", "others"], nargs="*")
    parser.add_argument("--methods", choices=list(others.METHODS), nargs="*", default=others.USUAL)
    arguments = parser.parse_args()
    quiet()
    if arguments.report:
        return report()
    if arguments.quick:
        return print(search_once("ridge diabetes", 0, (0.5,)))
    what = arguments.what or ["optima", "searches", "times", "others"]
    for name in arguments.problems:
        for seed in range(arguments.seeds):
            if "optima" in what:
                optimum(name, seed)
            done = {(r["problem"], r["seed"], r["start"]) for r in stored(SEARCHES)}
            for start in PROBLEMS[name].starts if "searches" in what else ():
                if (name, str(seed), " ".join(map(str, start))) not in done:
                    append(SEARCHES, search_once(name, seed, start))
            timed_before = {(r["problem"], r["seed"]) for r in stored(TIMES)}
            if "times" in what and (name, str(seed)) not in timed_before:
                for row in timed(name, seed):
                    append(TIMES, row)
            for start in PROBLEMS[name].starts if "others" in what else ():
                for row in beside(name, seed, start, missing(name, seed, start, arguments.methods)):
                    append(OTHERS, row)
    return None


if __name__ == "__main__":
    main()
