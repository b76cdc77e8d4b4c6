"""The loop that all searches share, and what it does when something goes wrong."""

import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import KFold
from sklearn.svm import SVC

from tunein import BayesSearchCV, HyperGradSearchCV, TPESearchCV

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
every_search = pytest.mark.parametrize(
    "search_class", [TPESearchCV, BayesSearchCV, HyperGradSearchCV]
)


class Odd(BaseException):
    """Not an Exception."""


TROUBLES = {
    "error": RuntimeError("boom"),
    "memory": MemoryError("too much"),
    "stop": StopIteration("over"),
    "generator": GeneratorExit("closed"),
    "odd": Odd("strange"),
}


class Trying(BaseEstimator):
    """Scores its parameter, or does what `trouble` says for parameters above 0.7."""

    def __init__(self, a=0.5, trouble=None):
        self.a = a
        self.trouble = trouble

    def set_params(self, **params):
        if self.trouble == "set" and params.get("a", 0) > 0.7:
            raise ValueError("cannot be set")
        return super().set_params(**params)

    def fit(self, X, y=None):
        if self.a > 0.7 and self.trouble in TROUBLES:
            raise TROUBLES[self.trouble]
        if self.a > 0.7 and self.trouble == "keyboard":
            raise KeyboardInterrupt
        if self.a > 0.7 and self.trouble == "exit":
            raise SystemExit(3)
        return self

    def score(self, X, y=None):
        if self.a > 0.7 and self.trouble in ("nan", "inf", "-inf", "-1e30"):
            return float(self.trouble)
        return 0.6 - abs(self.a - 0.6)


def search(search_class, trouble=None, **options):
    settings = {"n_iter": 16, "cv": 3, "random_state": 0, **options}
    return search_class(Trying(trouble=trouble), {"a": uniform(0, 1)}, **settings)


def fit_noting_warnings(it):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        it.fit(X, Y)
    return [w for w in caught if issubclass(w.category, FitFailedWarning)]


@every_search
@pytest.mark.parametrize("trouble", [*TROUBLES, "set"])
def test_a_failing_candidate_keeps_its_row_and_one_warning_counts_them(search_class, trouble):
    it = search(search_class, trouble)
    noted = fit_noting_warnings(it)
    a = np.array([params["a"] for params in it.cv_results_["params"]])
    scores = it.cv_results_["mean_test_score"]
    assert len(a) == 16
    assert (a > 0.7).any()
    np.testing.assert_array_equal(np.isnan(scores), a > 0.7)
    assert len(noted) == 1
    assert f"{3 * (a > 0.7).sum()} fits failed out of a total of 48" in str(noted[0].message)
    assert it.best_params_["a"] < 0.7


@every_search
@pytest.mark.parametrize("trouble", ["nan", "-inf", "-1e30"])
@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_scores_that_are_no_use_do_not_end_the_search(search_class, trouble):
    it = search(search_class, trouble).fit(X, Y)
    assert len(it.cv_results_["params"]) == 16
    assert it.best_params_["a"] < 0.7
    late = [params["a"] for params in it.cv_results_["params"][10:]]
    assert np.mean(np.array(late) > 0.7) < 0.5  # the method learns to stay away


@every_search
def test_all_candidates_failing_is_an_error_with_the_first_failure(search_class):
    it = search_class(Trying(0.9, "error"), {"a": uniform(0.8, 0.2)}, n_iter=4, cv=3)
    with pytest.raises(ValueError, match=r"(?s)All the 12 fits failed.*RuntimeError: boom"):
        it.fit(X, Y)


@every_search
@pytest.mark.parametrize(
    ("trouble", "error"), [("keyboard", KeyboardInterrupt), ("exit", SystemExit)]
)
def test_an_interrupt_keeps_what_finished(search_class, trouble, error):
    it = search(search_class, trouble)
    with pytest.raises(error):  # an interrupt has no message
        it.fit(X, Y)
    n_done = sum(trial.closed for trial in it.history_)
    assert 0 < n_done < 16
    assert len(it.cv_results_["params"]) == n_done
    assert it.best_params_ == it.cv_results_["params"][it.best_index_]
    assert it.best_score_ == it.cv_results_["mean_test_score"].max()
    assert it.stop_reason_.startswith(f"{error.__name__} after {n_done} of 16 candidates")
    assert not hasattr(it, "best_estimator_")


def test_an_interrupt_before_anything_finished_is_only_itself():
    it = TPESearchCV(Trying(0.9, "keyboard"), {"a": uniform(0.8, 0.2)}, n_iter=4, cv=3)
    with pytest.raises(KeyboardInterrupt):
        it.fit(X, Y)
    assert not hasattr(it, "cv_results_")


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ctrl_c_in_a_process_of_its_own(n_jobs, tmp_path):
    script = textwrap.dedent(
        """
        import sys, time
        import numpy as np
        from sklearn.base import BaseEstimator
        from tunein import HyperGradSearchCV, TPESearchCV

        class Slow(BaseEstimator):
            def __init__(self, a=1):
                self.a = a
            def fit(self, X, y=None):
                time.sleep(0.02)
                return self
            def score(self, X, y=None):
                return -abs(self.a - 7)

        class Noisy(TPESearchCV):
            def _ask(self, space, known, rng):
                print("asked", flush=True)
                return super()._ask(space, known, rng)

        if __name__ == "__main__":
            search = Noisy(Slow(), {"a": list(range(5000))}, n_iter=5000, cv=2,
                           n_jobs=int(sys.argv[1]), random_state=0)
            try:
                search.fit(np.zeros((10, 1)))
            except KeyboardInterrupt:
                print("kept", len(search.cv_results_["params"]), search.best_params_, flush=True)
        """
    )
    path = tmp_path / "interrupted.py"
    path.write_text(script)
    process = subprocess.Popen(
        [sys.executable, str(path), str(n_jobs)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout.readline() == "asked\n"
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert "kept" in out
    assert process.returncode == 0


def test_trials_come_in_their_order():
    space = {"C": loguniform(1e-2, 1e2), "gamma": loguniform(1e-3, 1e1)}
    initial = [{"C": 10.0, "gamma": 0.5}]
    it = TPESearchCV(
        SVC(gamma=0.1), space, n_iter=14, cv=2, initial_params=initial, random_state=0
    ).fit(*load_iris(return_X_y=True))
    origins = [trial.proposal.origin for trial in it.history_]
    assert origins == ["default", "initial"] + ["asked"] * 12
    assert it.cv_results_["params"][0] == {"C": 1.0, "gamma": 0.1}
    assert it.cv_results_["params"][1] == initial[0]
    for trial, row in zip(it.history_, it.cv_results_["params"], strict=True):
        assert trial.params is row
        assert [score.test for score in trial.scores] == [
            it.cv_results_[f"split{i}_test_score"][trial.number] for i in range(2)
        ]


def test_defaults_outside_the_space_are_left_out():
    it = TPESearchCV(SVC(gamma="scale"), {"gamma": loguniform(1e-3, 1e1)}, n_iter=3, cv=2)
    it.fit(*load_iris(return_X_y=True))
    assert {trial.proposal.origin for trial in it.history_} == {"asked"}


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        ([{"C": 1.0}], r"initial_params\[0\].*the search space has \['C', 'gamma'\]"),
        (
            [{"C": 1.0, "gamma": 99}],
            r"initial_params\[0\].*outside the search space in \['gamma'\]",
        ),
        ([7], r"initial_params\[0\] must be a dict, got 7"),
    ],
)
def test_initial_params_outside_the_space_are_refused(initial, message):
    space = {"C": [1.0, 2.0], "gamma": [0.1, 0.2]}
    with pytest.raises((TypeError, ValueError), match=message):
        TPESearchCV(SVC(), space, initial_params=initial).fit(*load_iris(return_X_y=True))


def test_an_exhausted_space_says_so():
    it = TPESearchCV(SVC(), {"C": [1, 2], "kernel": ["rbf", "linear"]}, n_iter=9, cv=2)
    it.fit(*load_iris(return_X_y=True))
    assert it.stop_reason_ == "All 4 points of the search space were tried."
    assert len(it.cv_results_["params"]) == 4


def test_verbose_is_one_line(capsys):
    search(TPESearchCV, n_iter=4, verbose=1).fit(X, Y)
    out = capsys.readouterr().out
    assert out == "Fitting 3 folds for each of 4 candidates, totalling 12 fits\n"


def test_one_worker_waits_for_every_score_and_many_look_back_further():
    its = TPESearchCV(SVC(), {})
    assert its._lookback(1, 5, None) == 0
    rising = [its._lookback(n, 5, None) for n in range(1, 40)]
    assert rising == sorted(rising)
    assert all(its._lookback(n, 5, None) >= math.ceil(n / 5) for n in range(2, 40))


def test_a_fitted_search_holds_no_data():
    small = search(TPESearchCV, n_iter=4, refit=False).fit(X, Y)
    large = search(TPESearchCV, n_iter=4, refit=False).fit(
        np.zeros((100_000, 2)), np.zeros(100_000)
    )
    assert len(pickle.dumps(large)) < 1.2 * len(pickle.dumps(small)) + 1000


@every_search
def test_fitting_twice_is_the_same(search_class):
    it = search(search_class, cv=KFold(3))
    one = it.fit(X, Y).cv_results_["params"]
    assert it.fit(X, Y).cv_results_["params"] == one


@every_search
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_a_seed_gives_the_same_candidates_in_parallel_whatever_the_backend(search_class, backend):
    from joblib import parallel_config

    def run(name):
        with parallel_config(name):
            return search(search_class, n_jobs=2).fit(X, Y).cv_results_["params"]

    assert run(backend) == run("threading")
