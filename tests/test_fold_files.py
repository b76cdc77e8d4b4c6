"""Large data: the rows of each fold in a file that workers map, with the very same results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
import zlib
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.datasets import make_classification
from sklearn.linear_model import Ridge, SGDClassifier
from sklearn.model_selection import KFold, ShuffleSplit

from tunein import Halving, HyperGradSearchCV, Real, TPESearchCV, _fold_files
from tunein._fold_files import FoldFiles

X, y = make_classification(400, 30, random_state=0)
on_processes = pytest.mark.parametrize("backend", ["loky", "multiprocessing"])


@pytest.fixture(params=["written", "not written"])
def either_way(request, monkeypatch):
    """Call once with files for folds of data of any size, once without."""
    monkeypatch.setattr(_fold_files, "MIN_BYTES", 0 if request.param == "written" else 2**60)


@pytest.fixture
def written(monkeypatch):
    monkeypatch.setattr(_fold_files, "MIN_BYTES", 0)


class Masks(KFold):
    """A splitter that gives masks."""

    def split(self, X, y=None, groups=None):
        for _, test in super().split(X, y, groups):
            mask = np.isin(np.arange(len(X)), test)
            yield ~mask, mask


def scores(search):
    results = search.cv_results_
    names = [name for name in results if name.startswith("split") or name in ("loss", "grad_norm")]
    return {name: results[name] for name in names}


SEARCHES = {
    "plain": lambda **kwargs: TPESearchCV(
        SGDClassifier(random_state=0), {"alpha": [1e-5, 1e-4, 1e-3]}, n_iter=3, **kwargs
    ),
    "halving": lambda **kwargs: TPESearchCV(
        SGDClassifier(random_state=0),
        {"alpha": Real(1e-6, 1e-1, log=True)},
        n_iter=6,
        racing=Halving("n_samples", min_resources=40),
        **kwargs,
    ),
    "slopes": lambda **kwargs: HyperGradSearchCV(
        Ridge(), {"alpha": Real(1e-3, 1e3, log=True)}, n_iter=5, **kwargs
    ),
}


@on_processes
@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize(
    "cv",
    [KFold(3), KFold(3, shuffle=True, random_state=0), Masks(3), ShuffleSplit(3, test_size=0.1)],
)
def test_scores_are_those_of_rows_cut_in_the_worker(kind, cv, backend, monkeypatch):
    if isinstance(cv, ShuffleSplit):
        cv = list(ShuffleSplit(3, train_size=0.5, test_size=0.1, random_state=0).split(X))
    weight = np.random.default_rng(0).random(len(X))
    found = []
    for min_bytes in (0, 2**60):
        monkeypatch.setattr(_fold_files, "MIN_BYTES", min_bytes)
        search = SEARCHES[kind](cv=cv, random_state=0, return_train_score=True, n_jobs=2)
        with joblib.parallel_config(backend):
            found.append(scores(search.fit(X, y, sample_weight=weight)))
    np.testing.assert_equal(*found)


class Hasher(BaseEstimator):
    """Scores what it is given, bit by bit."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y=None, names=None):
        self.seen_ = repr((X.dtype, X.tobytes(), type(X), X.flags.c_contiguous, names))
        return self

    def score(self, X, y=None):
        return float(zlib.crc32(repr((self.seen_, X.tobytes(), type(X))).encode()))


def same_either_way(monkeypatch, data, cv, **fit_params):
    found = []
    for min_bytes in (0, 2**60):
        monkeypatch.setattr(_fold_files, "MIN_BYTES", min_bytes)
        search = TPESearchCV(Hasher(), {"a": [0]}, n_iter=1, cv=cv, n_jobs=2, refit=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of folds that failed
            found.append(scores(search.fit(data, y, **fit_params)))
    np.testing.assert_equal(*found)
    return found[0]


@pytest.mark.parametrize(
    "data",
    [
        (100 * X).astype("M8[s]"),
        X > 0,
        X.astype(">f4"),
        np.asfortranarray(X),
        X[::-1, ::2],
        np.zeros((400, 3), dtype=[("a", "f8"), ("b", "i1")]),
    ],
    ids=["dates", "bool", "other byte order", "Fortran", "a view", "records"],
)
def test_data_of_any_type_and_layout(data, monkeypatch):
    results = same_either_way(monkeypatch, data, KFold(2))
    assert np.isfinite(results["split1_test_score"]).all()


FOLDS = {
    "tuples": (tuple(range(200)), tuple(range(200, 400))),
    "ranges": (range(200), range(200, 400)),
    "a list of bools": ([True] * 200 + [False] * 200, [False] * 200 + [True] * 200),
    "from the end": (np.arange(-400, -200), np.arange(-200, 0)),
    "repeated rows": (np.repeat(np.arange(100), 3), np.arange(300, 400)),
    "no test rows": (np.arange(200), np.arange(0)),
    "rows that X has not": (np.arange(200), np.array([200, 400])),
    "numbers that are no rows": (np.arange(200) + 0.5, np.arange(200, 400)),
    "a mask too short": (np.ones(300, dtype=bool), np.arange(300, 400)),
}


@pytest.mark.parametrize("kind", FOLDS)
def test_rows_in_any_form_and_those_that_are_none(kind, monkeypatch):
    whole = (np.arange(100), np.arange(100, 400))
    results = same_either_way(monkeypatch, X, [whole, FOLDS[kind]])
    is_wrong = kind in ("rows that X has not", "numbers that are no rows", "a mask too short")
    assert np.isnan(results["split1_test_score"]).all() == is_wrong
    assert np.isfinite(results["split0_test_score"]).all()


def test_a_parameter_as_long_as_a_fold_by_chance_is_not_cut(monkeypatch):
    names = [f"feature {i}" for i in range(30)]
    folds = [(np.arange(20), np.arange(20, 30)), (np.arange(100), np.arange(100, 110))]
    same_either_way(monkeypatch, X, folds, names=names)


class Looker(BaseEstimator):
    """Tells what it is given, and whether any of it is mapped; then spoils it."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y=None):
        self.is_plain_ = type(X) is np.ndarray and X.flags.c_contiguous and X.flags.writeable
        base = X
        while isinstance(getattr(base, "base", None), np.ndarray):
            base = base.base
        self.is_mapped_ = type(base.base).__name__ == "mmap"
        self.sum_ = X.sum()
        X[:] = 0.0
        return self

    def score(self, X, y=None):
        return {"plain": self.is_plain_, "mapped": self.is_mapped_, "sum": self.sum_}


def score_of(estimator, X, y=None):
    return estimator.score(X, y)


@on_processes
@pytest.mark.usefixtures("either_way")
def test_what_an_estimator_writes_into_its_rows_is_its_own(backend):
    search = TPESearchCV(
        Looker(),
        {"a": [0, 1, 2, 3]},
        n_iter=4,
        cv=KFold(2),
        n_jobs=2,
        scoring=score_of,
        refit=False,
        error_score="raise",
    )
    before = X.copy()
    with joblib.parallel_config(backend):
        results = search.fit(X).cv_results_
    assert (results["mean_test_plain"] == 1.0).all()
    assert (results["mean_test_mapped"] == (_fold_files.MIN_BYTES == 0)).all()
    np.testing.assert_allclose(results["split0_test_sum"], X[200:].sum())
    np.testing.assert_array_equal(X, before)


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    "data",
    [pd.DataFrame(X), X.tolist(), X[:30], X.astype(object), np.ma.array(X), X[:, :, None]],
    ids=["frame", "list", "square", "objects", "masked", "3 dimensions"],
)
def test_what_no_file_can_stand_for_is_sent_as_it_is(data, tmp_path):
    folds = [(np.arange(10), np.arange(10, 20))]
    with FoldFiles(data, folds, str(tmp_path)) as files:
        assert files.stand_in(0, folds[0][0]) is data
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("written")
def test_folds_that_fill_the_disk_are_not_written(tmp_path, monkeypatch):
    folds = [(np.arange(200), np.arange(200, 400))]
    monkeypatch.setattr("shutil.disk_usage", lambda _: os.statvfs_result)
    monkeypatch.setattr(os.statvfs_result, "free", 2 * X.nbytes, raising=False)
    for n, are_written in ((1, True), (2, False)):
        with FoldFiles(X, n * folds, str(tmp_path)) as files:
            assert (files.stand_in(0, folds[0][0]) is not X) == are_written


@pytest.mark.usefixtures("written")
def test_a_file_that_cannot_be_written_is_told_of_once(tmp_path):
    resource = pytest.importorskip("resource")
    folds = [(np.arange(200), np.arange(200, 400))] * 2
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with FoldFiles(X, folds, str(tmp_path)) as files:
        resource.setrlimit(resource.RLIMIT_FSIZE, (X.nbytes - 1, most[1]))
        try:
            with pytest.warns(UserWarning, match="could not be written to .*JOBLIB_TEMP_FOLDER"):
                assert files.stand_in(0, folds[0][0]) is X
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, most)
        assert files.stand_in(1, folds[1][0]) is X


@pytest.mark.usefixtures("written")
def test_what_was_written_when_the_disk_was_full_is_removed(tmp_path, monkeypatch):
    folds = [(np.arange(200), np.arange(200, 400))]

    def follow(rows, data):
        yield rows
        raise OSError("No space left on device")

    monkeypatch.setattr(_fold_files, "_chunks", follow)
    with FoldFiles(X, folds, str(tmp_path)) as files:
        with pytest.warns(UserWarning, match="No space left"):
            assert files.stand_in(0, folds[0][0]) is X
        assert not list(tmp_path.iterdir())
        assert not any_in(tmp_path, os.getpid())


SLEEPER = """
    import time
    import numpy as np
    from sklearn.base import BaseEstimator
    from tunein import TPESearchCV, _fold_files

    _fold_files.MIN_BYTES = 0

    class Sleeper(BaseEstimator):
        def __init__(self, a=0):
            self.a = a
        def fit(self, X, y=None):
            time.sleep({seconds})
            return self
        def score(self, X, y=None):
            return 0.0

    TPESearchCV(Sleeper(), {{"a": [0, 1]}}, n_iter=2, n_jobs=2).fit(np.zeros((400, 3)))
"""


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="files have names here")
def test_no_file_outlives_the_search(is_killed, tmp_path):
    code = textwrap.dedent(SLEEPER.format(seconds=20 if is_killed else 0))
    environment = {**os.environ, "JOBLIB_TEMP_FOLDER": str(tmp_path)}
    child = subprocess.Popen([sys.executable, "-c", code], env=environment)
    if is_killed:
        wait_for(lambda: any_in(tmp_path, child.pid))
        child.send_signal(signal.SIGKILL)
        child.wait()
        # A worker may be in its fit for long; of what has a name there is only its mark.
        assert all(path.stat().st_size < 100 for path in tmp_path.rglob("*") if path.is_file())
    else:
        assert child.wait(60) == 0
        assert not list(tmp_path.iterdir())


def any_in(folder, process):
    """Tell whether a process has a file open in a folder, with a name or without."""
    opened = Path(f"/proc/{process}/fd")
    return any(os.path.realpath(file).startswith(str(folder)) for file in opened.glob("*"))


def wait_for(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to that")


READER = """
    import os, sys, time
    from pathlib import Path
    import numpy as np
    from sklearn.base import BaseEstimator
    from sklearn.model_selection import GridSearchCV, KFold
    from tunein import TPESearchCV

    (Path(sys.argv[1]) / "cgroup.procs").write_text(str(os.getpid()))

    class Reader(BaseEstimator):
        def __init__(self, a=0):
            self.a = a
        def fit(self, X, y=None):
            self.sum_ = sum(X[i : i + 1000].sum() for i in range(0, len(X), 1000))
            time.sleep(0.3)
            return self
        def score(self, X, y=None):
            return self.sum_

    X = np.load(sys.argv[2], mmap_mode="r")
    common = dict(cv=KFold(5), n_jobs=2, refit=False, error_score="raise")
    if sys.argv[3] == "ours":
        search = TPESearchCV(Reader(), {"a": [0, 1]}, n_iter=2, **common)
    else:
        search = GridSearchCV(Reader(), {"a": [0, 1]}, **common)
    print(search.fit(X).cv_results_["mean_test_score"])
"""


@pytest.mark.parametrize(("whose", "survives"), [("ours", True), ("scikit-learn's", False)])
def test_two_workers_need_no_more_memory_than_for_one_x_and_a_half(
    whose, survives, tmp_path, memory_group
):
    # The search has 0.9 GB, of which three processes with their modules need 0.3; X has 0.4.
    group = memory_group(9 * 10**8)
    np.save(tmp_path / "X.npy", np.full((50_000, 1000), 0.5))
    command = [sys.executable, "-c", textwrap.dedent(READER)]
    ended = subprocess.run([*command, str(group), str(tmp_path / "X.npy"), whose], timeout=300)
    assert (ended.returncode == 0) == survives
