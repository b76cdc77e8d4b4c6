"""Others on the problems of ``hypergrad.py``: which candidates they try from a start, and the cost.

Each is given the same estimator, space, folds and scorer, tries the start first, and fits what it
has found to all samples in the end. sparse-ho goes by hypergradients as ours does, of three of the
models. It has no intercept, so it is given each fold centred by the mean of its training samples,
which is what an intercept comes to; or a column of ones, as liblinear has one. Its gradient
descent is run at its defaults, with celer for the fits as in its examples, for 40 steps: it does
not stop by itself. Its line search is left out: from small penalties a search took 300 times as
long, and ended farther away.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from peers import PEERS, Flat
from sklearn.base import clone
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression
from sklearn.model_selection import cross_val_score

from tunein import BayesSearchCV, HyperGradSearchCV, TPESearchCV

# Parameters of the candidates in order, and CPU seconds of the whole search.
Run = tuple[list[dict[str, float]], float]


def ours(search: Any, n_iter: int) -> Callable[..., Run]:
    """Return how a search of ours is run."""

    def run(problem: Any, X: Any, y: Any, folds: list[Any], start: Any, seed: int) -> Run:
        begin = time.process_time()
        found = search(
            clone(problem.estimator).set_params(**problem.at(start)), problem.space, n_iter=n_iter,
            scoring=problem.scoring, cv=folds, random_state=seed,
        ).fit(X, y)  # fmt: skip
        return found.cv_results_["params"], time.process_time() - begin

    return run


def peer(name: str, n_iter: int) -> Callable[..., Run]:
    """Return how a search of ``peers.py`` is run."""

    def run(problem: Any, X: Any, y: Any, folds: list[Any], start: Any, seed: int) -> Run:
        begin = time.process_time()
        tried, scores = [], []

        def evaluate(params: dict[str, Any]) -> float:
            candidate = clone(problem.estimator).set_params(**params)
            found = cross_val_score(candidate, X, y, cv=folds, scoring=problem.scoring)
            tried.append(params)
            scores.append(float(found.mean()))
            return scores[-1]

        PEERS[name](Flat(problem.space), evaluate, n_iter, seed, problem.at(start))
        clone(problem.estimator).set_params(**tried[int(np.argmax(scores))]).fit(X, y)
        return tried, time.process_time() - begin

    return run


# --------------------------------------------------------------------- sparse-ho


def has_sparse_ho(problem: Any) -> bool:
    """Tell whether sparse-ho has the model."""
    model = problem.estimator
    is_l1 = isinstance(model, LogisticRegression) and model.solver == "liblinear"
    return is_l1 or isinstance(model, Lasso | ElasticNet)


def sparse_ho(n_iter: int) -> Callable[..., Run]:
    """Return how the gradient descent of sparse-ho is run."""

    def run(problem: Any, X: Any, y: Any, folds: list[Any], start: Any, seed: int) -> Run:
        # An alias, gone since numpy 1.24, that it takes where all coefficients are zero.
        np.float = float  # noqa: NPY001  what is given back
        from sparse_ho import ImplicitForward, grad_search
        from sparse_ho.criterion import CrossVal
        from sparse_ho.optimizers import GradientDescent
        from sparse_ho.utils import Monitor

        begin = time.process_time()
        is_logistic = isinstance(problem.estimator, LogisticRegression)
        make, criterion, to_own, from_own = _translated(problem.estimator, len(folds[0][0]))
        own_X, own_y, cv = _with_ones(X, y, folds) if is_logistic else _centred(X, y, folds)
        criterion = CrossVal(criterion, cv=cv)
        # It clips each step to where something is selected; the start as well.
        at = criterion.proj_hyperparam(make, own_X, own_y, np.log(to_own(problem.at(start))))
        monitor = Monitor()
        with contextlib.redirect_stdout(io.StringIO()):
            grad_search(
                ImplicitForward(), criterion, make, GradientDescent(n_outer=n_iter), own_X, own_y,
                np.exp(at), monitor,
            )  # fmt: skip
        tried = [from_own(alpha) for alpha in monitor.alphas]
        clone(problem.estimator).set_params(**tried[int(np.argmin(monitor.objs))]).fit(X, y)
        return tried, time.process_time() - begin

    return run


def _translated(estimator: Any, n: int) -> tuple[Any, Any, Any, Any]:
    """Return its model and criterion, and our parameters to its own and back."""
    import celer
    from sparse_ho import models
    from sparse_ho.criterion import HeldOutLogistic, HeldOutMSE

    free = {"fit_intercept": False, "warm_start": True}
    if isinstance(estimator, LogisticRegression):
        model = models.SparseLogreg(celer.LogisticRegression(penalty="l1", **free))
        return (
            model, HeldOutLogistic(None, None), lambda p: 1 / (p["C"] * n),
            lambda alpha: {"C": float(1 / (alpha * n))},
        )  # fmt: skip
    if isinstance(estimator, Lasso):
        model = models.Lasso(celer.Lasso(**free))
        return (
            model, HeldOutMSE(None, None), lambda p: p["alpha"],
            lambda alpha: {"alpha": float(alpha)},
        )  # fmt: skip

    def to_own(p: dict[str, float]) -> Any:
        return p["alpha"] * np.array([p["l1_ratio"], 1 - p["l1_ratio"]])

    def from_own(alpha: Any) -> dict[str, float]:
        return {"alpha": float(alpha.sum()), "l1_ratio": float(alpha[0] / alpha.sum())}

    return models.ElasticNet(celer.ElasticNet(**free)), HeldOutMSE(None, None), to_own, from_own


def _centred(X: Any, y: Any, folds: list[Any]) -> tuple[Any, Any, list[Any]]:
    """Stack the samples as each fold sees them, and number the folds anew."""
    Xs = [X - X[train].mean(axis=0) for train, _ in folds]
    ys = [y - y[train].mean() for train, _ in folds]
    cv = [(train + i * len(y), test + i * len(y)) for i, (train, test) in enumerate(folds)]
    return np.concatenate(Xs), np.concatenate(ys), cv


def _with_ones(X: Any, y: Any, folds: list[Any]) -> tuple[Any, Any, list[Any]]:
    return np.column_stack([X, np.ones(len(y))]), np.where(y == y.max(), 1.0, -1.0), folds


# --------------------------------------------------------------------- all of them

OURS = "HyperGradSearchCV"
METHODS: dict[str, Callable[..., Run]] = {
    OURS: ours(HyperGradSearchCV, 40),
    "RandomizedSearchCV(50)": peer("random", 50),
    "BayesSearchCV(30)": ours(BayesSearchCV, 30),
    "TPESearchCV(50)": ours(TPESearchCV, 50),
    "Optuna TPE(50)": peer("optuna-tpe-mv", 50),  # its default from Optuna 5 on
    "Optuna GP(30)": peer("optuna-gp", 30),
    "sparse-ho(40)": sparse_ho(40),
}

# What a plain call runs: not what needs an environment of its own.
USUAL = [method for method in METHODS if method != "sparse-ho(40)"]


def version(method: str) -> str:
    """Return the version of the package that is compared with; of ours and scikit-learn's none."""
    packages = {"Optuna": "optuna", "sparse-ho": "sparse-ho-fork-leoiv"}
    found = [name for start, name in packages.items() if method.startswith(start)]
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in found)
