"""The journal: a search that was cut short, wherever, goes on as if it had not been."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from fakes import Cutoff, FoldPrint, Interrupting, Steps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import Lasso, Ridge
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from tunein import (
    BayesSearchCV,
    Choice,
    FoldRace,
    Halving,
    HyperGradSearchCV,
    TPESearchCV,
)
from tunein import _journal as journal_module
from tunein._events import from_line, to_line
from tunein._fingerprint import Fingerprint, Part
from tunein._history import Proposal, Score
from tunein._journal import CheckpointError, Journal

SEARCHES = [BayesSearchCV, HyperGradSearchCV, TPESearchCV]
every_search = pytest.mark.parametrize("search_class", SEARCHES)

rng = np.random.default_rng(0)
X = rng.random((24, 2))
Y = (X[:, 0] > 0.5).astype(int)


class Peak(BaseEstimator):
    """Scores best at x = 0.3, worse on some folds than on others; refuses to fit above `limit`."""

    def __init__(self, x=0.5, n=3, kind="a", step=None, limit=2.0):
        self.x = x
        self.n = n
        self.kind = kind
        self.step = step
        self.limit = limit

    def fit(self, X, y=None, sample_weight=None):
        if self.x > self.limit:
            raise RuntimeError(f"x={self.x} is too much")
        self.fitted_ = True
        return self

    def predict(self, X):
        return np.full(len(X), self.x)

    def score(self, X, y=None, sample_weight=None):
        wave = 0.01 * np.sin(50 * self.x + 9 * np.mean(X))
        return float(np.mean(X)) - (self.x - 0.3) ** 2 - 0.01 * self.n + wave


def two_metrics(estimator, X, y=None):
    return {"score": estimator.score(X), "length": len(X), "odd": -np.inf}


BRANCHES = {
    "x": uniform(0, 1),
    "kind": Choice([("a", {}), ("b", {"n": randint(1, 5)})]),
    "step": [StandardScaler(), MinMaxScaler(), None],
}
DIABETES = load_diabetes(return_X_y=True)

FIRST = [{"x": 0.1, "kind": "a", "step": None}]

# Searches that write all that there is to write: which class, what it is given, and the data.
KINDS = {
    "bayes": (BayesSearchCV, Peak(), {"x": uniform(0, 1)}, {}),
    "tpe": (TPESearchCV, Peak(), BRANCHES, {"initial_params": FIRST}),
    "descent": (HyperGradSearchCV, Ridge(), {"alpha": loguniform(1e-4, 1e4)}, {"tol": 0.0}),
    "flat": (HyperGradSearchCV, Lasso(1e5), {"alpha": loguniform(1e-2, 1e6)}, {"tol": 0.0}),
    "surrogate": (HyperGradSearchCV, Peak(), {"x": uniform(0, 1)}, {}),
    "race": (BayesSearchCV, Peak(), {"x": uniform(0, 1)}, {"racing": FoldRace(0.3)}),
    "race of branches": (TPESearchCV, Peak(), BRANCHES, {"racing": FoldRace(0.3)}),
    "failures": (TPESearchCV, Peak(limit=0.6), {"x": uniform(0, 1)}, {"error_score": -1}),
    "metrics": (
        TPESearchCV,
        Peak(),
        {"x": uniform(0, 1), "n": [1, 2]},
        {"scoring": two_metrics, "refit": "score", "return_train_score": True},
    ),
}  # fmt: skip
every_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind, path=None, **options):
    search_class, estimator, space, own = KINDS[kind]
    settings = {"n_iter": 14, "cv": 3, "random_state": 0, "refit": False, **own, **options}
    return search_class(clone(estimator), space, checkpoint=path, **settings)


def run(kind, path=None, **options):
    data = DIABETES if kind in ("descent", "flat") else (X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of failing fits, and of scores that are not finite
        return make(kind, path, **options).fit(*data)


def assert_same(one, two, *, times=False):
    """Compare all that two searches found."""
    assert one.stop_reason_ == two.stop_reason_
    assert len(one.history_) == len(two.history_)
    for mine, yours in zip(one.history_, two.history_, strict=True):
        assert mine.proposal.unit.tobytes() == yours.proposal.unit.tobytes()
        assert mine.proposal.note == yours.proposal.note
        assert mine.proposal.origin == yours.proposal.origin
        assert repr(mine.params) == repr(yours.params)
        assert mine.dropped == yours.dropped
    assert one.cv_results_.keys() == two.cv_results_.keys()
    for key in one.cv_results_:
        got, expected = one.cv_results_[key], two.cv_results_[key]
        if key == "params" or key.startswith("param_"):
            assert repr(got) == repr(expected)
        elif times or not key.endswith("_time"):
            np.testing.assert_array_equal(got, expected, err_msg=key, strict=True)
    assert getattr(one, "best_index_", None) == getattr(two, "best_index_", None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.fixture
def unsynced(monkeypatch):
    """The disk takes its time, which a test of the contents need not wait for."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


def ends_of_lines(data):
    return [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]


# --------------------------------------------------------------------- cut and resumed


@every_kind
def test_a_journal_changes_nothing_and_brings_all_of_it_back(kind, path, unsynced):
    plain, written = run(kind), run(kind, path)
    assert_same(plain, written)
    before = path.read_bytes()
    assert_same(run(kind, path), written, times=True)
    assert path.read_bytes() == before


@every_kind
def test_cut_after_any_event_a_search_goes_on_as_if_nothing_had_been(kind, path, unsynced):
    whole = run(kind, path)
    data = path.read_bytes()
    ends = ends_of_lines(data)
    assert len(ends) > 20
    for end in random.Random(0).sample(ends, 8):
        path.write_bytes(data[:end])
        assert_same(run(kind, path), whole)
        # What was in the file stands in it as it was.
        assert path.read_bytes()[:end] == data[:end]


def test_cut_after_any_byte_a_search_goes_on_as_if_nothing_had_been(path, unsynced):
    options = {"n_iter": 4, "cv": 2, "racing": FoldRace(0.5), "initial_params": [{"x": 0.3}]}
    whole = run("surrogate", path, **options)
    assert any(trial.dropped for trial in whole.history_)
    data = path.read_bytes()
    header = data.index(b"\n") + 1
    # A header that was cut begins anew, all in the same way.
    for n in [*range(0, header, 29), *range(header - 2, len(data) + 1)]:
        path.write_bytes(data[:n])
        assert_same(run("surrogate", path, **options), whole)
        assert path.read_bytes().count(b"\n") == data.count(b"\n")


def test_a_header_cut_after_any_byte_is_written_again(path, unsynced):
    fingerprint = Fingerprint({"cv": Part.of(5)})
    with Journal.open(path, fingerprint, 3, (2, None, 0)):
        pass
    data = path.read_bytes()
    for n in range(len(data)):
        path.write_bytes(data[:n])
        with Journal.open(path, fingerprint, 3, (2, None, 0)) as journal:
            assert journal.seed == 3
        assert path.read_bytes() == data


@pytest.mark.parametrize("kind", ["bayes", "descent", "race"])
def test_cut_with_two_workers_and_a_seed(kind, path, unsynced):
    with parallel_config("threading"):
        whole = run(kind, path, n_jobs=2)
        assert_same(whole, run(kind, n_jobs=2))
        data = path.read_bytes()
        for end in ends_of_lines(data)[5:40:9]:
            path.write_bytes(data[:end])
            assert_same(run(kind, path, n_jobs=2), whole)


@pytest.mark.parametrize("kind", ["bayes", "race", "descent"])
@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_the_number_of_workers_may_change(kind, before, after, path, unsynced):
    with parallel_config("threading"):
        run(kind, path, n_jobs=before)
        data = path.read_bytes()
        for end in ends_of_lines(data)[3:40:9]:
            path.write_bytes(data[:end])
            search = run(kind, path, n_jobs=after)
            assert all(trial.closed for trial in search.history_)


def test_without_a_seed_the_journal_keeps_that_of_the_first_fit(path, unsynced):
    whole = run("bayes", path, random_state=None)
    data = path.read_bytes()
    for end in ends_of_lines(data)[:20:6]:
        path.write_bytes(data[:end])
        assert_same(run("bayes", path, random_state=None), whole)


@every_kind
def test_a_larger_n_iter_goes_on(kind, path, unsynced):
    whole = run(kind, n_iter=15)
    for n_iter in (1, 3, 8, 12, 15):
        search = run(kind, path, n_iter=n_iter)
    assert_same(search, whole)
    # A smaller one shows what a search of that length would have found.
    assert_same(run(kind, path, n_iter=6), run(kind, n_iter=6))
    assert_same(run(kind, path, n_iter=15), whole)


def test_a_finite_space_is_exhausted_across_fits(path, unsynced):
    space = {"x": [0.1, 0.2, 0.3], "n": [1, 2]}
    for n_iter in (2, 4, 30):
        search = TPESearchCV(Peak(), space, n_iter=n_iter, cv=2, checkpoint=path).fit(X, Y)
    assert search.stop_reason_ == "All 6 points of the search space were tried."
    assert len({repr(params) for params in search.cv_results_["params"]}) == 6


def test_values_given_by_the_user_come_back_as_they_were_given(path, unsynced):
    given = {"x": 0.1 + 0.2}
    for _ in range(2):
        search = TPESearchCV(
            Peak(1 / 3), {"x": loguniform(1e-3, 1)}, n_iter=3, cv=2, initial_params=[given],
            checkpoint=path,
        ).fit(X, Y)  # fmt: skip
        assert search.cv_results_["params"][:2] == [{"x": 1 / 3}, given]


def test_scores_come_back_as_they_were(path, unsynced):
    def scorer(estimator, X, y=None):
        return {"whole": 3, "tiny": 5e-324, "third": 1 / 3, "none": np.nan}

    options = {"scoring": scorer, "refit": False, "n_iter": 2, "cv": 2, "checkpoint": path}
    found = []
    for _ in range(2):
        with pytest.warns(UserWarning, match="non-finite"):
            search = TPESearchCV(Peak(), {"x": uniform(0, 1)}, **options).fit(X, Y)
        found.append([score.test for trial in search.history_ for score in trial.scores])
    assert repr(found[0]) == repr(found[1])
    assert type(found[1][0]["whole"]) is int


def test_failures_come_back_with_their_messages(path, unsynced):
    runs = []
    for _ in range(2):
        with pytest.warns(FitFailedWarning, match=r"x=.* is too much") as caught:
            make("failures", path).fit(X, Y)
        runs.append([str(warning.message) for warning in caught])
    assert runs[0] == runs[1]


# --------------------------------------------------------------------- cut short for real


SCRIPT = textwrap.dedent(
    """
    import signal, sys, time
    import numpy as np
    from joblib import parallel_config
    from scipy.stats import uniform
    from sklearn.base import BaseEstimator
    from tunein import BayesSearchCV

    class Slow(BaseEstimator):
        def __init__(self, x=0.5):
            self.x = x
        def fit(self, X, y=None):
            time.sleep(0.003)
            return self
        def score(self, X, y=None):
            return float(np.mean(X)) - abs(self.x - 0.3)

    if __name__ == "__main__":
        path, n_jobs, backend = sys.argv[1], int(sys.argv[2]), sys.argv[3]
        search = BayesSearchCV(Slow(), {"x": uniform(0, 1)}, n_iter=25, cv=2, n_jobs=n_jobs,
                               random_state=0, refit=False, checkpoint=path)
        if "handles" in sys.argv:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        print("begins", flush=True)
        with parallel_config(backend):
            try:
                search.fit(np.arange(20.0)[:, None])
            except (KeyboardInterrupt, SystemExit):
                print("interrupted", len(search.cv_results_["params"]), flush=True)
                raise SystemExit(3)
        print(search.cv_results_["params"], search.cv_results_["mean_test_score"].tolist())
    """
)


@pytest.fixture
def start(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SCRIPT)
    started = []

    def start(path, n_jobs=1, backend="threading", *more):
        process = subprocess.Popen(
            [sys.executable, str(script), str(path), str(n_jobs), backend, *more],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        started.append(process)
        assert process.stdout.readline() == "begins\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What the script prints if nothing cuts it short."""
    folder, found = tmp_path_factory.mktemp("whole"), {}

    def expected(n_jobs):
        if n_jobs not in found:
            script, path = folder / "slow.py", folder / f"{n_jobs}.jsonl"
            script.write_text(SCRIPT)
            done = subprocess.run(
                [sys.executable, str(script), str(path), str(n_jobs), "threading"],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            found[n_jobs] = done.stdout.removeprefix("begins\n")
        return found[n_jobs]

    return expected


def wait_for_events(path, n):
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_bytes().count(b"\n") > n):
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_killed_again_and_again_a_search_ends_as_if_nothing_had_been(n_jobs, start, path, expected):
    """Ten times each, at random moments of its 75 events, with progress between any two."""
    moments = random.Random(n_jobs)
    for n_more in moments.choices(range(1, 6), k=10):
        n_events = path.read_bytes().count(b"\n") if path.exists() else 0
        process = start(path, n_jobs)
        wait_for_events(path, n_events + n_more - 1)
        time.sleep(moments.random() * 0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL  # it had not ended by itself
    assert start(path, n_jobs).communicate(timeout=120)[0] == expected(n_jobs)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
def test_workers_that_outlive_a_killed_search_do_not_hold_its_journal(start, path, expected):
    process = start(path, 2, "multiprocessing")
    wait_for_events(path, 12)
    process.kill()
    process.wait()
    out, _ = start(path, 2, "multiprocessing").communicate(timeout=120)
    assert out == expected(2)  # on any backend


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_then_resumed(sent, start, path, expected):
    """Or SIGTERM, where who runs the search has said what to do then."""
    process = start(path, 1, "threading", "handles")
    wait_for_events(path, 20)
    process.send_signal(sent)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert out.startswith("interrupted ")
    assert start(path).communicate(timeout=120)[0] == expected(1)


def test_terminated_then_resumed(start, path, expected):
    process = start(path, 2)
    wait_for_events(path, 20)
    process.terminate()
    assert process.wait(timeout=60) == -signal.SIGTERM
    assert start(path, 2).communicate(timeout=120)[0] == expected(2)


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_ctrl_c_in_a_terminal_leaves_no_worker_behind(backend, start, path, expected):
    """There the signal goes to the workers as well."""
    process = start(path, 2, backend)
    wait_for_events(path, 20)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out[:12]) == (3, "interrupted ")
    deadline = time.monotonic() + 30
    while is_any_left(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert start(path, 2, backend).communicate(timeout=120)[0] == expected(2)


def is_any_left(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_does_not_reach_a_search_in_another_thread(path):
    """As in a notebook or a server: it interrupts the main thread only."""
    search = TPESearchCV(Peak(), {"x": uniform(0, 1)}, n_iter=40, cv=2, checkpoint=path)
    thread = threading.Thread(target=search.fit, args=(X, Y))
    thread.start()
    wait_for_events(path, 20)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert thread.is_alive()
    thread.join(60)
    assert len(search.cv_results_["params"]) == 40


def test_an_interrupt_in_this_process_leaves_the_journal_free(path):
    search = TPESearchCV(Interrupting(), {"a": [0, 1, 2]}, n_iter=3, cv=2, checkpoint=path)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt, match="on purpose"):
            search.fit(X, Y)
    opened = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert len([event for event in opened if "open" in event]) == len(search.history_)


class Counting(Peak):
    """Acts as if somebody pressed Ctrl-C in one of its fits."""

    n_fits = 0
    last = 0

    def fit(self, X, y=None):
        Counting.n_fits += 1
        if Counting.n_fits == Counting.last:
            raise KeyboardInterrupt
        return super().fit(X, y)


def test_an_interrupt_in_cross_val_score_loses_nothing(tmp_path):
    """In the second of three searches, each of three candidates on two folds, and a refit."""
    nested = TPESearchCV(
        Counting(), {"x": [0.1, 0.2, 0.3]}, n_iter=3, cv=2, random_state=0,
        checkpoint=tmp_path / "{fingerprint}.jsonl",
    )  # fmt: skip
    Counting.n_fits, Counting.last = 0, 11
    with pytest.raises(KeyboardInterrupt):
        cross_val_score(nested, X, Y, cv=3)
    Counting.n_fits, Counting.last = 0, -1
    scores = cross_val_score(nested, X, Y, cv=3)
    assert Counting.n_fits == 3 * 7 - 6 - 3  # all but the folds that had scores
    assert len(list(tmp_path.iterdir())) == 3
    np.testing.assert_array_equal(scores, cross_val_score(clone(nested), X, Y, cv=3))


def test_an_instance_as_random_state_must_stand_where_it_stood(path, unsynced):
    def fit(random_state):
        return run("bayes", path, random_state=random_state, n_iter=12)

    whole = fit(np.random.RandomState(7))
    path.write_bytes(path.read_bytes()[:2000])
    used = np.random.RandomState(7)
    assert_same(fit(used), whole)
    with pytest.raises(ValueError, match=r"random_state \(RandomState\(MT19937\)\) had other cont"):
        fit(used)


def test_groups_belong_to_the_search(path):
    search = TPESearchCV(Peak(), {"x": uniform(0, 1)}, n_iter=2, cv=GroupKFold(2), checkpoint=path)
    groups = np.repeat([0, 1, 2, 3], 6)
    for _ in range(2):
        search.fit(X, Y, groups=groups)
    with pytest.raises(ValueError, match=r"fit's groups .* had other contents"):
        search.fit(X, Y, groups=groups[::-1])


# --------------------------------------------------------------------- within others


def test_searches_on_different_data_keep_to_their_own_files(tmp_path, unsynced):
    def search(checkpoint):
        return TPESearchCV(
            Cutoff(), {"cut": uniform(0, 1)}, n_iter=5, cv=2, random_state=0, checkpoint=checkpoint
        )

    pattern = tmp_path / "run-{fingerprint}.jsonl"
    plain = cross_val_score(search(None), X, Y, cv=3)
    np.testing.assert_array_equal(cross_val_score(search(pattern), X, Y, cv=3), plain)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(files) == 3
    np.testing.assert_array_equal(cross_val_score(search(pattern), X, Y, cv=3), plain)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files
    with pytest.raises(ValueError, match=r"X \(.*\) had other contents.*\{fingerprint\}"):
        cross_val_score(search(tmp_path / "one.jsonl"), X, Y, cv=3, error_score="raise")


def test_a_fitted_search_holds_neither_file_nor_lock(path):
    search = run("bayes", path)
    twin = pickle.loads(pickle.dumps(search))
    assert_same(twin, search, times=True)
    twin.fit(X, Y)
    assert clone(search).checkpoint == path


def test_a_record_may_be_pickled_while_it_is_written_down(path):
    with Journal.open(path, Fingerprint({}), 0, (3, None, 0)) as journal:
        history = run("bayes").history_
        history.follow(journal)
        pickle.loads(pickle.dumps(history)).open(Proposal(np.array([0.5]), {}))
        history.follow(None)
    assert path.read_bytes().count(b"\n") == 1


# --------------------------------------------------------------------- of another search


CHANGES = {
    "estimator": ({}, {"estimator": Peak(0.5, 4)}, r"estimator was Peak\(\), here it is Peak"),
    "space": (
        {},
        {"param_distributions": {"x": uniform(0, 2)}},
        r"param_distributions was x: uniform\(0, 1\), here it is x: uniform\(0, 2\)",
    ),
    "cv": ({"cv": 3}, {"cv": 2}, "cv was 3 folds, here it is 2 folds"),
    "shuffled": (
        {"cv": KFold(2, shuffle=True)},
        {},
        "cv .2 folds. had other contents, as if a splitter shuffles without an int",
    ),
    "scoring": (
        {"scoring": "r2"},
        {"scoring": "neg_max_error"},
        "scoring was 'r2', here it is 'neg_max_error'",
    ),
    "seed": ({"random_state": 1}, {"random_state": 2}, "random_state was 1, here it is 2"),
    "no seed": ({"random_state": 1}, {"random_state": None}, "random_state was 1, here it is None"),
    "racing": ({}, {"racing": FoldRace()}, r"racing was None, here it is FoldRace\(risk=0.05\)"),
    "error_score": ({}, {"error_score": -1}, "error_score was nan, here it is -1"),
    "train": ({}, {"return_train_score": True}, "return_train_score was False, here it is True"),
    "initial": ({}, {"initial_params": [{"x": 0.1}]}, "initial_params was None, here it is "),
    "metric": (
        {"scoring": ["r2", "neg_max_error"], "refit": "r2"},
        {"refit": "neg_max_error"},
        "refit was 'r2', here it is 'neg_max_error'",
    ),
    "lambda": (
        {"scoring": lambda estimator, X, y: 1.0},
        {"scoring": lambda estimator, X, y: 2.0},
        r"scoring \(.*<lambda>\) had other contents",
    ),
}  # fmt: skip


def test_who_resumes_may_give_fits_more_time(path):
    options = {"cv": 2, "n_jobs": 2, "random_state": 0, "refit": False, "checkpoint": path}
    search = TPESearchCV(Peak(), {"x": uniform(0, 1)}, n_iter=3, **options)
    for limit, n_iter in [(60, 3), (90, 4), (None, 5)]:
        with parallel_config("multiprocessing"):
            search.set_params(fit_timeout=limit, n_iter=n_iter).fit(X, Y)
        assert len(search.history_) == n_iter
    assert path.read_bytes().count(b'"open"') == 5


class Dawdling(Peak):
    """Takes too long with one of its values."""

    def fit(self, X, y=None):
        time.sleep(1.5 if self.x == 0.2 else 0)
        return super().fit(X, y)


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_what_took_too_long_stays_a_failure_with_more_time(path):
    options = {"cv": 2, "n_jobs": 2, "random_state": 0, "refit": False, "checkpoint": path}
    search = TPESearchCV(Dawdling(), {"x": [0.1, 0.2, 0.3, 0.4]}, n_iter=3, **options)
    search.set_params(initial_params=[{"x": 0.2}])
    for limit, n_iter in [(0.5, 3), (30, 4)]:
        with parallel_config("multiprocessing"), pytest.warns(FitFailedWarning):
            search.set_params(fit_timeout=limit, n_iter=n_iter).fit(X, Y)
        failed = {t.params["x"] for t in search.history_ if np.isnan(t.scores[0].test)}
        assert failed == {0.2}
    assert len(search.history_) == 4


@pytest.mark.parametrize("change", CHANGES)
def test_another_search_is_told_by_what_is_different(change, path):
    before, after, message = CHANGES[change]
    options = {"n_iter": 2, "cv": 2, "random_state": 0, "refit": False, "checkpoint": path}
    search = TPESearchCV(Peak(), {"x": uniform(0, 1)}).set_params(**{**options, **before})
    search.fit(X, Y)
    data = path.read_bytes()
    with pytest.raises(ValueError, match=f"run.jsonl was written by another search: {message}"):
        search.set_params(**after).fit(X, Y)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("data", "params", "message"),
    [
        ((X[:20], Y[:20]), {}, r"X was float64 array of shape \(24, 2\), here it is .*\(20, 2\)"),
        ((X + 1e-16, Y), {}, None),  # which rounds away
        ((X + 1e-9, Y), {}, r"X \(float64 array of shape \(24, 2\)\) had other contents"),
        ((X, 1 - Y), {}, r"y \(int64 array of shape \(24,\)\) had other contents"),
        (
            (X, Y),
            {"sample_weight": np.ones(24)},
            "fit's sample_weight was not given, here it is float64 ",
        ),
        ((X.astype(np.float32), Y), {}, "X was float64 array .* here it is float32 array"),
        ((X.tolist(), Y), {}, "X was float64 array .* here it is list of length 24"),
        ((np.asfortranarray(X), Y.copy()), {}, None),
    ],
)
def test_other_data_are_told(data, params, message, path):
    search = TPESearchCV(Peak(), {"x": uniform(0, 1)}, n_iter=2, cv=KFold(2), checkpoint=path)
    search.fit(X.copy() if message else data[0], Y)
    if message is None:
        search.fit(*data, **params)
        return
    with pytest.raises(ValueError, match=message):
        search.fit(*data, **params)


def test_of_several_differences_the_first_is_explained_and_the_others_named(path):
    search = TPESearchCV(Peak(), {"x": uniform(0, 1)}, n_iter=2, cv=2, checkpoint=path).fit(X, Y)
    with pytest.raises(ValueError, match=r"X was .* \(and y, scoring, cv differed\)\. Delete"):
        search.set_params(scoring="neg_max_error").fit(X[:20], Y[:20])


def test_another_method_is_another_search(path):
    run("bayes", path)
    with pytest.raises(ValueError, match=r"search was .*BayesSearchCV, here it is .*HyperGradS"):
        run("surrogate", path)


def test_what_changes_no_score_may_change(path):
    search = make("bayes", path).fit(X, Y)
    changed = {"n_jobs": 1, "verbose": 0, "refit": True, "pre_dispatch": "all"}
    search.set_params(**changed).fit(X, Y)
    assert search.best_estimator_.fitted_


def test_other_versions_are_a_warning(path, monkeypatch):
    run("bayes", path)
    ours = journal_module.versions()
    monkeypatch.setattr(journal_module, "versions", lambda: {**ours, "numpy": "1.0"})
    with pytest.warns(UserWarning, match=r"was written with numpy .*; here it is numpy 1\.0\. "):
        make("bayes", path).fit(X, Y)


# --------------------------------------------------------------------- damage


def changed_lines(path, change):
    """Apply `change` to the list of lines of a journal."""
    lines = path.read_bytes().split(b"\n")
    change(lines)
    path.write_bytes(b"\n".join(lines))


def replaced(number, line):
    return lambda lines: lines.__setitem__(number - 1, line)


OPENED = b'{"open":0,"unit":[0.5],"from":"default"}'
SCORED = b'{"score":[0,0],"test":1.0,"times":[0.5,0.5],"n":8}'


@pytest.mark.parametrize(
    ("number", "line", "reason"),
    [
        (4, b"garbage", r"it is no JSON \(JSONDecodeError\)"),
        (4, b"\x00" * 50, "it is no JSON"),
        (4, b"\xff\xfe", "it is no JSON"),
        (4, b"[" * 100_000, r"it is no JSON \(RecursionError\)"),
        (4, b'{"score":[0,1],"test":' + b"9" * 5000 + b"}", r"it is no JSON \(ValueError\)"),
        (4, b"[1]", "it is no JSON object"),
        (4, b'{"what":1}', "it has none of 'open', 'score' and 'drop', but .'what'."),
        (4, OPENED, "it opens trial 0 where trial 1 is next"),
        (3, SCORED.replace(b"8}", b'8,"at":-1}'), "'at' is no time"),
        (4, SCORED, "Trial 0 has a score on fold 0 already"),
        (4, SCORED.replace(b"0,0", b"0,3"), "fold 3 is none of 3"),
        (4, SCORED.replace(b"0,0", b"1,0"), "trial 1 was not opened before"),
        (4, SCORED.replace(b"0,0", b"-1,0"), "no whole number from 0 on, but -1"),
        (4, SCORED.replace(b"0,0", b"true,0"), "no whole number from 0 on, but True"),
        (4, SCORED.replace(b"0,0", b"0"), "'score' must be a trial and a fold"),
        (4, SCORED.replace(b"0,0", b"0,1").replace(b"1.0", b"[]"), "a score is no number, but "),
        (4, SCORED.replace(b"0,0", b"0,1").replace(b"1.0", b"NaN"), "it is no JSON"),
        (4, SCORED.replace(b"0,0", b"0,1").replace(b"8", b'8,"error":1'), "an error is no text"),
        (4, SCORED.replace(b"0,0", b"0,1").replace(b"8", b'8,"slope":1'), "AttributeError"),
        (4, b'{"score":[0,1],"test":1}', "KeyError: 'times'"),
        (4, b'{"score":[0,1],"test":{}}', "KeyError: 'times'"),
        (4, SCORED.replace(b"0,0", b"0,1").replace(b"1.0", b"{}"), "a score is no number, but {}"),
        (4, SCORED.replace(b"0,0", b"0,1").replace(b"1.0", b"1" + b"0" * 400), "a score is no num"),
        (4, b'{"drop":5}', "trial 5 was not opened before"),
        (3, b'{"drop":0}', "trial 0 is dropped before it has a score"),
        (4, SCORED.replace(b"0,0", b"0,1").replace(b"1.0", b'1,"train":1'), "it has a score on"),
        (2, OPENED.replace(b"0.5", b"0.25"), "none of the candidates to be tried first"),
        (2, OPENED.replace(b"0.5", b"0.5,0.5"), "a point has 1 coordinates"),
        (2, OPENED.replace(b"0.5", b"1.5"), "a coordinate is not between 0 and 1"),
        (2, OPENED.replace(b"0.5", b"null"), "a point that the search space does not have"),
        (2, OPENED.replace(b"default", b"heaven"), "it says that trial 0 is from 'heaven'"),
        (2, OPENED.replace(b"}", b',"note":[]}'), "'note' must be an object"),
        (2, OPENED.replace(b"}", b',"note":{"a":' + b"[" * 30 + b"]" * 30 + b"}}"), "is deeper"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_named_and_left_as_it_is(number, line, reason, path):
    run("bayes", path)
    changed_lines(path, replaced(number, line))
    data = path.read_bytes()
    with pytest.raises(ValueError, match=rf"run\.jsonl is damaged in line {number}: .*{reason}"):
        run("bayes", path)
    assert path.read_bytes() == data


HEADER = (
    b'{"tunein":"journal","format":1,"versions":{},"seed":7,"folds":3,"metric":null,"top":0,'
    b'"search":{}}'
)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b'{"tunein":"journal","format":1}', "KeyError: 'seed'"),
        (b'{"tunein":"journal","format":1', "it is no JSON"),
        (HEADER.replace(b"7", b'"7"'), "'seed' is no whole number"),
        (HEADER.replace(b"{}}", b'{"cv":[]}}'), "TypeError"),
        (HEADER.replace(b"3", b"1000000000000"), "'folds' is 1000000000000, more than 100000"),
        (HEADER.replace(b"{}}", b"[]}"), "AttributeError"),
    ],
)  # fmt: skip
def test_a_damaged_header(header, reason, path):
    run("bayes", path)
    changed_lines(path, replaced(1, header))
    with pytest.raises(ValueError, match=f"is damaged in line 1: .*{reason}"):
        run("bayes", path)


def test_a_newer_format_says_so(path):
    run("bayes", path)
    changed_lines(path, lambda lines: lines.__setitem__(0, lines[0].replace(b'mat":1', b'mat":2')))
    with pytest.raises(
        ValueError, match=r"has format 2; this version of tunein reads format 1. Upd"
    ):
        run("bayes", path)


@pytest.mark.parametrize("content", [b"my thesis", b"{}\n", b'{"tunein":"jour-fixe"}\n', b"\n"])
def test_a_file_of_something_else_is_not_written_into(content, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run.jsonl is not a journal of a search. Give another"):
        run("bayes", path)
    assert path.read_bytes() == content


def test_a_line_without_end_is_refused(path, monkeypatch):
    run("bayes", path)
    data = path.read_bytes()
    path.write_bytes(data[: ends_of_lines(data)[4]] + b'{"open":"' + b"x" * 5000)
    monkeypatch.setattr(journal_module, "_LONGEST_LINE", 5000)
    with pytest.raises(ValueError, match="is damaged in line 6: it is too long"):
        run("bayes", path)


BYTES = st.binary(min_size=0, max_size=6)


@given(st.data())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_is_done_to_a_journal_is_an_error_that_says_so_or_nothing(tmp_path, data):
    path = tmp_path / "run.jsonl"
    if not (tmp_path / "whole").exists():
        run("race of branches", path, n_iter=5)
        path.rename(tmp_path / "whole")
    content = bytearray((tmp_path / "whole").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 1, 2, 60]))
        token = data.draw(
            BYTES | st.sampled_from([b"\n", b"1e999", b"null", b"{", b"]", b'"', b"-"])
        )
        content[start : start + length] = token
    path.write_bytes(content)
    refusal = refused("race of branches", path, n_iter=5)
    assert refusal is None or ("run.jsonl" in refusal and path.read_bytes() == content)


def refused(kind, path, **options):
    """Return with which message a search refuses its journal; None if it does not."""
    try:
        run(kind, path, **options)
    except ValueError as error:
        return str(error)
    return None


# --------------------------------------------------------------------- the file system


def test_a_journal_that_is_being_written_is_left_alone(start, path):
    process = start(path)
    wait_for_events(path, 3)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(BlockingIOError, match="is being written by a search that is still running"):
        run("bayes", path)
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=120)
    assert out.startswith("[{'x': 0.5}")


def test_a_second_search_of_this_process_is_kept_out_as_well(path):
    fingerprint = Fingerprint({})
    first = Journal.open(path, fingerprint, 0, (2, None, 0))
    with pytest.raises(BlockingIOError, match="still running"):
        Journal.open(path, fingerprint, 0, (2, None, 0))
    first.close()
    Journal.open(path, fingerprint, 0, (2, None, 0)).close()


def test_where_nothing_can_be_locked_there_is_a_warning(path, monkeypatch):
    def refuse(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(journal_module, "_lock_now", refuse)
    with pytest.warns(UserWarning, match="cannot be locked here .No locks available.: see to it"):
        make("bayes", path).fit(X, Y)


def test_a_file_that_must_not_be_written_to(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    path = folder / "run.jsonl"
    run("bayes", path)
    path.chmod(0o444)
    if os.geteuid() == 0:
        for parent in [folder, *folder.parents[:2]]:
            parent.chmod(0o755)
        os.seteuid(65534)  # to root nothing is forbidden
    try:
        with pytest.raises(PermissionError, match="checkpoint cannot be opened: Permission denied"):
            run("bayes", path)
    finally:
        os.seteuid(os.getuid())


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("", IsADirectoryError, "Is a directory. It is a folder; give the path of a file in it: '"),
        ("no/where", FileNotFoundError, "No such file or directory. Make its folder first: '"),
        ("\0", ValueError, "null byte"),
    ],
)
def test_a_path_that_is_none(where, error, message, tmp_path):
    with pytest.raises(error, match=message):
        run("bayes", str(tmp_path) + "/" + where)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no such device here")
def test_a_device_is_no_file():
    with pytest.raises(ValueError, match="checkpoint='/dev/full' is no regular file"):
        run("bayes", "/dev/full")


@pytest.mark.parametrize("value", [3, b"run.jsonl", ["run.jsonl"]])
def test_what_is_no_path(value):
    with pytest.raises(ValueError, match="The 'checkpoint' parameter of BayesSearchCV must be"):
        run("bayes", value)


def full_after(n_bytes, monkeypatch):
    """Make the disk full once so many bytes were written."""
    write, taken = os.write, [0]

    def write_less(file, data):
        left = n_bytes - taken[0]
        if left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken[0] += min(left, len(data))
        return write(file, data[:left])

    monkeypatch.setattr(os, "write", write_less)


@pytest.mark.parametrize("kind", ["bayes", "race", "descent"])
def test_a_full_disk_loses_nothing(kind, path, monkeypatch, unsynced):
    whole = run(kind, path)
    n_bytes = len(path.read_bytes())
    path.unlink()
    for n in (0, 10, n_bytes // 3, n_bytes // 2 + 7, n_bytes - 300):
        with monkeypatch.context() as patch:
            full_after(n, patch)
            search = make(kind, path)
            data = DIABETES if kind == "descent" else (X, Y)
            with pytest.raises(
                CheckpointError, match=r"No space left on device. Make room, or give"
            ):
                search.fit(*data)
        if n > n_bytes // 3:
            assert len(search.cv_results_["params"]) > 1
            assert search.best_score_ == search.cv_results_["mean_test_score"][search.best_index_]
            assert search.stop_reason_.startswith("CheckpointError after ")
        content = path.read_bytes()
        assert content == b"" or content.endswith(b"\n")
        # With room again, the search goes on.
        content = path.read_bytes()
        assert_same(run(kind, path), whole)
        assert path.read_bytes().startswith(content)
        path.unlink()


LIMITED = """
import resource, sys
sys.path.insert(0, {tests!r})
from test_journal import run, make, X, Y
resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))
search = make("bayes", {path!r})
try:
    search.fit(X, Y)
except OSError as error:
    print(type(error).__name__, error.strerror[:60], len(search.cv_results_["params"]) > 1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="files have no limits there")
def test_a_limit_that_the_system_sets(path):
    code = LIMITED.format(tests=str(Path(__file__).parent), path=str(path))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    expected = "CheckpointError checkpoint cannot be written to: File too large. Make room,  True"
    assert done.stdout.strip() == expected
    assert_same(run("bayes", path), run("bayes"))


# --------------------------------------------------------------------- lines


def test_a_thousand_trials_of_five_folds_are_less_than_two_megabytes(path, unsynced):
    space = {"x": uniform(0, 1), "n": randint(1, 100), "kind": ["a", "b", "c"]}
    TPESearchCV(Peak(), space, n_iter=1000, cv=5, random_state=0, refit=False, checkpoint=path).fit(
        X, Y
    )
    content = path.read_bytes()
    assert content.count(b"\n") == 1 + 1000 + 5000
    assert len(content) < 2e6


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), plain, max_size=5))
def test_every_line_comes_back(event):
    line = to_line(event)
    assert line.count(b"\n") == 1
    back = from_line(line)
    assert to_line(back) == line
    finite = [x for x in event.values() if isinstance(x, float) and np.isfinite(x)]
    assert [x for x in back.values() if isinstance(x, float)] == finite


def test_a_long_error_is_cut(path):
    from tunein._events import scored

    score = Score(np.float64(1), None, 0.0, 0.0, np.int64(3), "x" * 10**6)
    line = to_line(scored(0, 0, score, 0.0))
    assert len(line) < 30_000
    assert from_line(line)["n"] == 3


# --------------------------------------------------------------------- halving


def halved(path, n_iter=9, **halving):
    halving = {"resource": "n_steps", "min_resources": 1, "max_resources": 9} | halving
    return TPESearchCV(
        Steps(),
        {"a": uniform(0, 1)},
        n_iter=n_iter,
        cv=2,
        refit=False,
        random_state=0,
        racing=Halving(**halving),
        checkpoint=path,
    )


@pytest.mark.parametrize("brackets", [1, "all"])
def test_halving_is_resumed_from_any_event(tmp_path, brackets):
    X = np.arange(8.0)[:, None]
    whole = halved(tmp_path / "whole", brackets=brackets).fit(X)
    lines = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    assert any(b'"promoted"' in line for line in lines)
    for n in range(1, len(lines), 3):
        path = tmp_path / f"cut{n}"
        path.write_bytes(b"".join(lines[:n]))
        found = halved(path, brackets=brackets).fit(X)
        assert found.cv_results_["params"] == whole.cv_results_["params"]
        for name in ("iter", "n_resources", "bracket", "mean_test_score", "rank_test_score"):
            np.testing.assert_array_equal(found.cv_results_[name], whole.cv_results_[name])


def test_subsamples_are_those_of_the_search_that_began(tmp_path):
    """Also if its seed was drawn."""
    X = np.arange(60.0)[:, None]
    search = halved(tmp_path / "run", resource="n_samples", min_resources=5, max_resources=45)
    search.set_params(estimator=FoldPrint(), param_distributions={"a": range(30)}, cv=3)
    whole = search.set_params(random_state=None).fit(X)
    lines = (tmp_path / "run").read_bytes().splitlines(keepends=True)
    (tmp_path / "run").write_bytes(b"".join(lines[:5]))
    resumed = search.fit(X)
    kept, *_ = (trial.scores for trial in whole.history_ if trial.proposal.level == 0)
    *_, later = (trial.scores for trial in resumed.history_ if trial.proposal.level == 0)
    assert [score.test for score in kept] == [score.test for score in later]


def test_other_levels_are_another_search(tmp_path):
    X = np.arange(8.0)[:, None]
    halved(tmp_path / "run").fit(X)
    with pytest.raises(ValueError, match=r"racing was Halving.*levels \[1, 3, 9\], here it is"):
        halved(tmp_path / "run", min_resources=3).fit(X)


def test_fewer_candidates_than_were_halved_are_refused(tmp_path):
    X = np.arange(8.0)[:, None]
    halved(tmp_path / "run").fit(X)
    with pytest.raises(
        ValueError, match=r"run holds more candidates than n_iter=3\. .* give n_iter"
    ):
        halved(tmp_path / "run", n_iter=3).fit(X)


def test_a_halved_search_learns_from_an_earlier_one():
    X, y = load_diabetes(return_X_y=True)
    space = {"alpha": loguniform(1e-4, 1e4)}
    options = {"n_iter": 9, "cv": 3, "random_state": 0, "acquisition": "per_second"}
    first = TPESearchCV(Ridge(), space, racing=Halving(), **options).fit(X, y)
    second = BayesSearchCV(Ridge(), space, racing=Halving(), history=first.history_, **options).fit(
        X, y
    )
    assert len(second.history_._evidence.units) == first.n_candidates_[-1]
