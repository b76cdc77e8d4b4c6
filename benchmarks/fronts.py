"""What it saves that transformers that are not tuned are fitted once for a fold.

The same search, in turn with and without; the results must be the same. Seconds are the
processor's, of the whole search with its refit, so that what else the machine does counts little.

    python benchmarks/fronts.py [--quick]
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
from peers import quiet
from scipy.stats import loguniform
from sklearn.datasets import load_diabetes, load_digits, make_regression
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC

from tunein import HyperGradSearchCV
from tunein._fronts import Fronts

N_WORDS, N_TEXTS = 20_000, 3_000
WIDE = loguniform(1e-4, 1e4)


def texts() -> tuple[Any, Any]:
    """Draw texts of 150 words each, some of which are rather of one class; Zipf's law."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(N_WORDS)])
    often = 1 / np.arange(1, N_WORDS + 1)
    other = often * np.where(rng.random(N_WORDS) < 0.1, 1.5, 1)
    y = rng.integers(0, 2, N_TEXTS)
    rates = [often / often.sum(), other / other.sum()]
    return np.array([" ".join(rng.choice(words, 150, p=rates[c])) for c in y], dtype=object), y


TASKS: dict[str, Any] = {
    "StandardScaler, Ridge; 442 x 10": (
        make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": WIDE},
        lambda: load_diabetes(return_X_y=True), "r2",
    ),
    "PolynomialFeatures(2), StandardScaler, Lasso; 442 x 10": (
        make_pipeline(PolynomialFeatures(2), StandardScaler(), Lasso(max_iter=10_000)),
        {"lasso__alpha": loguniform(1e-1, 1e2)}, lambda: load_diabetes(return_X_y=True), "r2",
    ),
    "StandardScaler, PCA(50), Ridge; 3000 x 400": (
        make_pipeline(StandardScaler(), PCA(50, svd_solver="full"), Ridge()),
        {"ridge__alpha": WIDE}, lambda: make_regression(3000, 400, noise=10, random_state=0), "r2",
    ),
    "PCA(20), SVC; 1797 x 64": (
        make_pipeline(PCA(20), SVC()), {"svc__C": loguniform(1e-2, 1e3)},
        lambda: load_digits(return_X_y=True), "accuracy",
    ),
    "TfidfVectorizer, LogisticRegression; 3000 texts": (
        make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": WIDE}, texts, "neg_log_loss",
    ),
}  # fmt: skip


def run(task: str, keeps: bool) -> tuple[float, int, bytes]:
    """Return the CPU seconds of a search, how many candidates it had, and the scores."""
    estimator, space, load, scoring = TASKS[task]
    data = load()
    search = HyperGradSearchCV(estimator, space, n_iter=20, scoring=scoring, random_state=0)
    with nullcontext() if keeps else patch.object(Fronts, "enter", lambda *_: None):
        begin = time.process_time()
        search.fit(*data)
        seconds = time.process_time() - begin
    results = search.cv_results_
    columns = [results["loss"], *(results[f"split{i}_test_score"] for i in range(5))]
    return seconds, len(results["params"]), np.concatenate(columns).tobytes()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the two smallest, once")
    options = parser.parse_args()
    quiet()
    print("| pipeline | candidates | seconds without | with | ratio |")
    print("| -- | --: | --: | --: | --: |")
    for task in list(TASKS)[: 2 if options.quick else None]:
        run(task, True)  # what is loaded the first time is not measured
        n_runs = 1 if options.quick else 3
        pairs = [[run(task, keeps) for keeps in (False, True)] for _ in range(n_runs)]
        if len({content for pair in pairs for *_, content in pair}) > 1:
            raise AssertionError(f"{task}: the results are not the same")
        without, kept = np.median([[one[0] for one in pair] for pair in pairs], axis=0)
        n = pairs[0][0][1]
        print(f"| {task} | {n} | {without:.2f} | {kept:.2f} | {kept / without:.2f} |", flush=True)


if __name__ == "__main__":
    main()
