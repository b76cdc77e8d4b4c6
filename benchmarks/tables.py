"""Cross-validations that were run in full and stored, to be searched again and again.

A `Table` has a space of lists, and for each of its candidates the score and the processor seconds
of every fold. `Replayed` is an estimator that looks its score up; `reported` lets a search see the
stored seconds in place of those of the look-up.

The tables made here are of candidates whose cost ranges over two orders of magnitude; that of
``cost.py`` is a large one of about equal cost. From the root::

    PYTHONPATH=benchmarks OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/tables.py
    ... python benchmarks/tables.py boosting forest      # some of them
"""

import contextlib
import functools
import itertools
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.metrics import get_scorer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True, eq=False)
class Table:
    """All candidates of a grid.

    Attributes
    ----------
    space : dict of str to list
    scores, seconds : ndarray of shape (n, n_folds)
        By candidate, the last parameter's values changing fastest.
    """

    name: str
    space: Mapping[str, list[Any]]
    scores: np.ndarray
    seconds: np.ndarray

    @classmethod
    def load(cls, name: str, space: Mapping[str, list[Any]], path: Path) -> "Table":
        stored = np.load(path)
        return cls(name, space, stored["scores"].astype(float), stored["seconds"].astype(float))

    def save(self, path: Path) -> None:
        # Three digits of the times are more than they mean.
        np.savez_compressed(
            path, scores=self.scores.astype(np.float32), seconds=self.seconds.astype(np.float16)
        )

    def __deepcopy__(self, memo: Any) -> "Table":
        return self  # clones of an estimator share it

    def __repr__(self) -> str:
        return self.name

    @functools.cached_property
    def means(self) -> np.ndarray:
        return self.scores.mean(axis=1)

    @functools.cached_property
    def _row(self) -> dict[tuple[Any, ...], int]:
        rows = itertools.product(*self.space.values())
        return {row: i for i, row in enumerate(rows)}

    def row(self, params: Mapping[str, Any]) -> int:
        return self._row[tuple(params[name] for name in self.space)]


class Replayed(BaseEstimator):
    """Looks its score up, and tells `seen` of each fold: a callable of the row and the fold."""

    def __init__(self, table, seen=None, **values):
        self.table, self.seen, self.values = table, seen, values

    def get_params(self, deep=True):
        return {"table": self.table, "seen": self.seen, **self.values}

    def set_params(self, **params):
        self.values = {**self.values, **params}
        return self

    def fit(self, X, y=None):
        return self

    def score(self, X, y=None):
        row, fold = self.table.row(self.values), int(X[0, 0])
        score = self.table.scores[row, fold]
        if self.seen is not None:
            self.seen(row, fold)
        return score


def folds(table: Table) -> tuple[Any, tuple[np.ndarray, np.ndarray]]:
    """Return a splitter and data from which `Replayed` knows the fold."""
    n = table.scores.shape[1]
    return KFold(n), (np.arange(n, dtype=float)[:, None], np.zeros(n))


@contextlib.contextmanager
def reported(table: Table) -> Iterator[None]:
    """Let searches of ours be told the stored seconds of each fold as those of its fit."""
    import tunein._loop

    evaluate = tunein._loop.evaluate_fold

    def timed(*arguments: Any, **named: Any) -> Any:
        score = evaluate(*arguments, **named)
        row, fold = table.row(named["parameters"]), int(named["test"][0])
        return replace(score, fit_time=float(table.seconds[row, fold]), score_time=0.0)

    with mock.patch("tunein._loop.evaluate_fold", timed):
        yield


# ----------------------------------------------------------------- candidates of unequal cost

TREES = [10, 20, 40, 70, 100, 200, 400, 700, 1000]
UNEQUAL = {
    "boosting": {
        "max_depth": [1, 2, 3, 4, 6, 8],
        "learning_rate": [0.01, 0.02, 0.05, 0.1, 0.2, 0.5],
        "subsample": [0.5, 1.0],
        "max_features": [0.3, 1.0],
        "n_estimators": TREES,
    },
    "forest": {
        "max_depth": [2, 4, 8, None],
        "max_features": [0.1, 0.3, 0.6, 1.0],
        "min_samples_leaf": [1, 2, 5, 10],
        "n_estimators": TREES[:-2],
    },
    "mlp": {
        "hidden": [8, 16, 32, 64, 128, 256],
        "batch_size": [32, 128],
        "learning_rate_init": [0.0003, 0.001, 0.003, 0.01, 0.03],
        "alpha": [1e-4, 1.0],
        "epochs": [3, 6, 12, 25, 50, 100],
    },
}
N_FOLDS = 3

Steps = Iterator[tuple[float, float]]  # score and seconds so far, as the last parameter grows


def grown(name: str, model: Any, scoring: str) -> Callable[..., Steps]:
    """Fit with ever more trees: what is there stays, and its time counts."""

    def run(params: dict[str, Any], data: Any, train: Any, test: Any) -> Steps:
        X, y = data
        trees = clone(model).set_params(**params, warm_start=True)
        seconds, scorer = 0.0, get_scorer(scoring)
        for n in UNEQUAL[name]["n_estimators"]:
            start = time.process_time()
            trees.set_params(n_estimators=n).fit(X[train], y[train])
            seconds += time.process_time() - start
            start = time.process_time()
            score = scorer(trees, X[test], y[test])
            yield score, seconds + time.process_time() - start

    return run


def mlp(params: dict[str, Any], data: Any, train: Any, test: Any) -> Steps:
    X, y = data
    hidden = (params.pop("hidden"),)
    seconds = 0.0
    network = MLPClassifier(hidden, **params, random_state=0)
    model = make_pipeline(StandardScaler(), network)
    X_train = model[0].fit_transform(X[train])
    scorer, done = get_scorer("neg_log_loss"), 0
    for n in UNEQUAL["mlp"]["epochs"]:
        start = time.process_time()
        for _ in range(n - done):
            network.partial_fit(X_train, y[train], classes=np.unique(y))
        seconds, done = seconds + time.process_time() - start, n
        start = time.process_time()
        score = scorer(model, X[test], y[test])
        yield score, seconds + time.process_time() - start


def subsample(data: tuple[Any, Any], n: int) -> tuple[Any, Any]:
    chosen = np.random.default_rng(0).permutation(len(data[1]))[:n]
    return data[0][chosen], data[1][chosen]


MAKERS: dict[str, tuple[Callable[..., Steps], Callable[[], Any], Any]] = {
    "boosting": (
        grown("boosting", GradientBoostingRegressor(random_state=0), "r2"),
        lambda: subsample(load_diabetes(return_X_y=True), 250),
        KFold,
    ),
    "forest": (
        grown("forest", RandomForestClassifier(random_state=0), "neg_log_loss"),
        lambda: subsample(load_breast_cancer(return_X_y=True), 300),
        StratifiedKFold,
    ),
    "mlp": (mlp, lambda: subsample(load_digits(return_X_y=True), 300), StratifiedKFold),
}


def path_of(name: str) -> Path:
    return FOLDER / f"cost-aware-{name}.npz"


def unequal(name: str) -> Table:
    return Table.load(name, UNEQUAL[name], path_of(name))


def make(name: str) -> Table:
    """Run every candidate of a table of unequal costs."""
    steps, load, splitter = MAKERS[name]
    data, space = load(), dict(UNEQUAL[name])
    splits = list(splitter(N_FOLDS, shuffle=True, random_state=0).split(*data))
    n_last = len(space[list(space)[-1]])
    rows = list(itertools.product(*list(space.values())[:-1]))
    found = np.empty((len(rows), n_last, N_FOLDS, 2))
    warnings.simplefilter("ignore")
    for i in np.random.default_rng(0).permutation(len(rows)).tolist():
        params = dict(zip(space, rows[i], strict=False))
        for k, (train, test) in enumerate(splits):
            found[i, :, k] = list(steps(dict(params), data, train, test))
    flat = found.reshape(-1, N_FOLDS, 2)
    return Table(name, space, flat[..., 0], flat[..., 1])


def main() -> None:
    for name in sys.argv[1:] or UNEQUAL:
        if path_of(name).exists():
            continue
        table = make(name)
        table.save(path_of(name))
        cost = table.seconds.mean(axis=1)
        print(
            f"{name}: {len(cost)} candidates of {cost.min():.4f} to {cost.max():.3f} s a fold, "
            f"scores {table.means.min():.4g} to {table.means.max():.4g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
