"""What it saves that promoted candidates go on from what was fitted.

The same search, in turn with and without; the scores must be the same. Seconds are the processor's,
so that what else the machine does counts little.

    python benchmarks/warm.py [--quick]
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)

from tunein import Halving, TPESearchCV
from tunein._halving import Ladder

TREES = {"max_features": [0.05, 0.1, 0.2, 0.4, 0.8], "min_samples_leaf": [1, 2, 4, 8]}
STAGES = {"learning_rate": loguniform(0.02, 0.5), "max_depth": [1, 2, 3, 4]}
BINS = {"learning_rate": loguniform(0.02, 0.5), "max_leaf_nodes": [4, 8, 16, 31]}
TASKS = {
    "random forest, digits": (RandomForestClassifier, "n_estimators", TREES, load_digits),
    "extra trees, digits": (ExtraTreesClassifier, "n_estimators", TREES, load_digits),
    "boosting, cancer": (GradientBoostingClassifier, "n_estimators", STAGES, load_breast_cancer),
    "histograms, cancer": (HistGradientBoostingClassifier, "max_iter", BINS, load_breast_cancer),
}


def run(task: str, factor: int, seed: int, n_jobs: int, grows: bool) -> tuple[float, float, bytes]:
    """Return the seconds of all folds, those of the search, and the scores."""
    estimator_class, resource, space, load = TASKS[task]
    search = TPESearchCV(
        estimator_class(random_state=0, **{resource: 81 if factor == 3 else 64}),
        space,
        n_iter=27 if factor == 3 else 32,
        cv=5,
        n_jobs=n_jobs,
        refit=False,
        random_state=seed,
        racing=Halving(resource, factor=factor, min_resources=3 if factor == 3 else 2),
    )
    with nullcontext() if grows else patch.object(Ladder, "grown", None):
        search.fit(*load(return_X_y=True))
    folds = sum(score.cpu_time for trial in search.history_ for score in trial.scores)
    scores = np.asarray(search.cv_results_["mean_test_score"])
    return folds, search.search_cost_.cpu_seconds, scores.tobytes()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--n-jobs", type=int, default=1)
    options = parser.parse_args()
    factors, seeds = ((3,), (0,)) if options.quick else ((3, 2), (0, 1, 2))
    print("| task | factor | seconds of folds without | with | ratio | ratio of the whole search |")
    print("| -- | --: | --: | --: | --: | --: |")
    for task in TASKS:
        for factor in factors:
            cells = []
            for seed in seeds:
                pair = [run(task, factor, seed, options.n_jobs, grows) for grows in (False, True)]
                if pair[0][2] != pair[1][2]:
                    raise AssertionError(f"{task}: the scores are not the same")
                cells.append([pair[0][0], pair[1][0], pair[0][1], pair[1][1]])
            before, after, whole_before, whole_after = np.sum(cells, axis=0)
            print(
                f"| {task} | {factor} | {before:.1f} | {after:.1f} | {after / before:.2f} | "
                f"{whole_after / whole_before:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
