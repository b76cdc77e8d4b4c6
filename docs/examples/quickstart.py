"""Quickstart: four searches, one pipeline, the same budget.

Tunes a pipeline with swapped steps and mixed hyperparameters on scikit-learn's digits, with
``RandomizedSearchCV`` and with the searches of tunein, over several seeds, and prints what each
found, how soon, and what it cost. Run it with ``python docs/examples/quickstart.py``.
"""

import time
import warnings

import numpy as np
from scipy.stats import loguniform, randint
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from tunein import BayesSearchCV, HyperGradSearchCV, TPESearchCV

N_ITER, SEEDS = 40, range(4)

pipeline = Pipeline([("scale", StandardScaler()), ("reduce", PCA()), ("classify", SVC())])

# Exactly what RandomizedSearchCV takes: a list of dicts, scipy's distributions, lists, steps.
scale = [StandardScaler(), MinMaxScaler(), "passthrough"]
space = [
    {
        "scale": scale,
        "reduce": [PCA(random_state=0)],
        "reduce__n_components": randint(4, 40),
        "reduce__whiten": [True, False],
        "classify": [SVC()],
        "classify__C": loguniform(1e-2, 1e3),
        "classify__gamma": loguniform(1e-5, 1e1),
    },
    {
        "scale": scale,
        "reduce": ["passthrough"],
        "classify": [LogisticRegression(max_iter=200)],
        "classify__C": loguniform(1e-4, 1e2),
        "classify__class_weight": [None, "balanced"],
    },
    {
        "scale": ["passthrough"],
        "reduce": ["passthrough"],
        "classify": [ExtraTreesClassifier(n_estimators=30, random_state=0)],
        "classify__max_depth": [4, 8, 16, None],
        "classify__min_samples_leaf": randint(1, 20),
        "classify__max_features": ["sqrt", "log2", 0.5],
    },
]


def fit_timed(search_class, X, y, seed):
    """Return the fitted search and its seconds, in all and outside the fits."""
    search = search_class(pipeline, space, n_iter=N_ITER, cv=3, random_state=seed)
    start = time.perf_counter()
    search.fit(X, y)
    seconds = time.perf_counter() - start
    results = search.cv_results_
    in_fits = 3 * (results["mean_fit_time"] + results["mean_score_time"]).sum()
    return search, seconds, seconds - in_fits - search.refit_time_


def evaluations_to_reach(search, score):
    """Return after how many candidates the search had found `score`; None if it did not."""
    reached = np.flatnonzero(search.cv_results_["mean_test_score"] >= score)
    return int(reached[0]) + 1 if len(reached) else None


def main():
    """Run all searches and print the table."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, train_size=600, stratify=y, random_state=0)
    classes = [RandomizedSearchCV, TPESearchCV, BayesSearchCV, HyperGradSearchCV]
    rows = {search_class: [] for search_class in classes}
    for seed in SEEDS:
        for search_class in classes:
            search, seconds, outside = fit_timed(search_class, X, y, seed)
            if search_class is RandomizedSearchCV:
                target = search.best_score_
            found = (search.best_score_, search.score(X_test, y_test))
            rows[search_class].append(
                (*found, evaluations_to_reach(search, target), seconds, outside)
            )
    print(f"{N_ITER} candidates, mean over {len(SEEDS)} seeds\n")
    print("search              CV score  held out  to reach random  seconds  outside fits")
    for search_class, runs in rows.items():
        score, held_out, _, seconds, outside = np.mean([[r or 0 for r in run] for run in runs], 0)
        # A search that never reached it counts as one evaluation more than it had.
        reach = np.median([N_ITER + 1 if run[2] is None else run[2] for run in runs])
        print(
            f"{search_class.__name__:<19} {score:8.4f}  {held_out:8.4f}  {reach:15.1f}"
            f"  {seconds:7.1f}  {outside:12.2f}"
        )


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    main()
