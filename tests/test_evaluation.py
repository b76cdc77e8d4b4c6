"""Calls go in, results come out with their labels, on every backend and in bounded time."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import threading
import time
import warnings
import weakref
from pathlib import Path

import joblib
import numpy as np
import pytest
from fakes import Refusal
from sklearn import config_context, get_config
from sklearn.model_selection import cross_val_score
from sklearn.utils.parallel import _FuncWrapper
from toys_parallel import (
    CountingThreads,
    Dawdler,
    Plain,
    Script,
    SilentThreads,
    config_seen,
    dask_client,
    die,
    double,
    look_at,
    raise_it,
    refuse,
    touch_after_file,
    wait_for_file,
    wait_until,
    warn_and_tell,
)

from tunein import TPESearchCV
from tunein._evaluation import Evaluation, InProcess, Workers
from tunein._math.design import sobol

pytestmark = pytest.mark.timeout(40)

LOCAL = ["threading", "loky", "multiprocessing"]
BACKENDS = [*LOCAL, "dask"]
PROCESSES = ["loky", "multiprocessing"]

X = np.arange(20.0).reshape(20, 1)


@pytest.fixture(scope="module")
def cluster():
    with dask_client() as client:
        yield client


@pytest.fixture
def backend(request):
    if request.param == "dask":
        request.getfixturevalue("cluster")
    with joblib.parallel_config(request.param, n_jobs=2):
        yield request.param


all_backends = pytest.mark.parametrize("backend", BACKENDS, indirect=True)
local_backends = pytest.mark.parametrize("backend", LOCAL, indirect=True)
process_backends = pytest.mark.parametrize("backend", PROCESSES, indirect=True)


def evaluation(n_jobs=None, pre_dispatch="2*n_jobs"):
    return Evaluation(n_jobs, pre_dispatch)


def run(evaluator, calls):
    """Make all calls, as many at a time as may be, and return label and result of each."""
    calls = iter(calls)
    done = []
    while True:
        for call in itertools.islice(calls, evaluator.capacity - evaluator.n_running):
            evaluator.submit(*call)
        if not evaluator.n_running:
            return done
        done.append(evaluator.next())


def call(function, **kwargs):
    with evaluation() as evaluator:
        evaluator.submit("only", function, kwargs)
        label, result = evaluator.next()
    assert label == "only"
    return result


def fail_amid_calls(error_class):
    with evaluation() as evaluator:
        for i in range(evaluator.capacity):
            evaluator.submit(i, double, {"x": i})
        evaluator.next()
        raise error_class("on purpose")


def assert_works():
    with evaluation() as evaluator:
        done = run(evaluator, [(i, double, {"x": i}) for i in range(6)])
    assert sorted(done) == [(i, 2 * i) for i in range(6)]


# ---------------------------------------------------------------------- in this process


def test_one_job_runs_here():
    with evaluation(n_jobs=1) as evaluator:
        assert isinstance(evaluator, InProcess)
        assert (evaluator.n_workers, evaluator.capacity, evaluator.n_running) == (1, 1, 0)
        assert not evaluator.leaves_process
        evaluator.submit("a", threading.get_ident, {})
        assert evaluator.n_running == 1
        assert evaluator.next() == ("a", threading.get_ident())
        assert evaluator.n_running == 0


def test_one_job_makes_no_copies():
    data = [1, 2]
    with evaluation(n_jobs=1) as evaluator:
        evaluator.submit(None, lambda x: x, {"x": data})
        assert evaluator.next()[1] is data


def test_nothing_comes_of_nothing():
    with pytest.raises(RuntimeError, match="Nothing was handed in"):
        InProcess().next()


def test_errors_of_one_job_come_through_and_leave_it_usable():
    with evaluation(n_jobs=1) as evaluator:
        evaluator.submit("a", refuse, {"x": 3})
        with pytest.raises(Refusal, match="cannot do 3"):
            evaluator.next()
        assert evaluator.n_running == 0
        evaluator.submit("b", double, {"x": 3})
        assert evaluator.next() == ("b", 6)


# ---------------------------------------------------------------------- on workers


@all_backends
def test_every_result_comes_back_with_its_label(backend):
    with evaluation() as evaluator:
        assert isinstance(evaluator, Workers)
        assert evaluator.n_workers == 2
        assert evaluator.leaves_process == (backend != "threading")
        done = run(evaluator, [((i, "label"), double, {"x": i}) for i in range(25)])
        assert evaluator.n_running == 0
    assert sorted(done) == [((i, "label"), 2 * i) for i in range(25)]


@all_backends
def test_labels_may_be_equal_and_need_no_hash(backend):
    with evaluation() as evaluator:
        done = run(evaluator, [([], double, {"x": i}) for i in range(5)])
    assert sorted(done) == [([], 2 * i) for i in range(5)]


@all_backends
def test_what_is_done_first_comes_back_first(backend, tmp_path):
    with evaluation() as evaluator:
        evaluator.submit("slow", wait_for_file, {"path": str(tmp_path / "gate"), "x": 1})
        evaluator.submit("fast", double, {"x": 2})
        assert evaluator.n_running == 2
        assert evaluator.next() == ("fast", 4)
        assert evaluator.n_running == 1
        (tmp_path / "gate").touch()
        assert evaluator.next() == ("slow", 1)


@all_backends
def test_errors_come_back_and_the_others_are_not_lost(backend):
    errors, done = [], []
    with evaluation() as evaluator:
        for i in range(4):
            evaluator.submit(i, refuse if i % 2 else double, {"x": i})
        while evaluator.n_running:
            try:
                done.append(evaluator.next())
            except Refusal as error:
                errors.append(str(error))
    assert sorted(errors) == ["cannot do 1", "cannot do 3"]
    assert sorted(done) == [(0, 0), (2, 4)]


@all_backends
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt("k"), SystemExit(3), StopIteration(4), GeneratorExit("g")], ids=repr
)
def test_even_errors_that_are_no_exceptions_come_back(backend, error):
    with evaluation() as evaluator:
        evaluator.submit(0, raise_it, {"error": error})
        with pytest.raises(type(error), match=str(error)):
            evaluator.next()
    assert_works()


@all_backends
@pytest.mark.parametrize("error_class", [Refusal, KeyboardInterrupt])
def test_after_an_error_the_pool_works_again(backend, error_class):
    with pytest.raises(error_class, match="on purpose"):
        fail_amid_calls(error_class)
    assert_works()


@process_backends
def test_running_calls_are_dropped_on_error(backend, tmp_path):
    gate, told = tmp_path / "gate", tmp_path / "told"

    def fail():
        with evaluation() as evaluator:
            evaluator.submit(0, touch_after_file, {"path": str(gate), "told": str(told)})
            assert wait_until((tmp_path / "told.begun").exists)
            raise Refusal("on purpose")

    with pytest.raises(Refusal, match="on purpose"):
        fail()
    gate.touch()
    time.sleep(0.2)
    assert not told.exists()


@pytest.mark.parametrize("backend", ["multiprocessing"], indirect=True)
def test_no_process_is_left(backend):
    before = multiprocessing.active_children()
    assert_works()
    with pytest.raises(Refusal, match="on purpose"):
        fail_amid_calls(Refusal)
    assert multiprocessing.active_children() == before


def test_no_thread_is_left():
    before = set(threading.enumerate())
    with joblib.parallel_config("threading", n_jobs=2):
        assert_works()
        with pytest.raises(Refusal, match="on purpose"):
            fail_amid_calls(Refusal)
    assert wait_until(lambda: set(threading.enumerate()) <= before)


# ---------------------------------------------------------------------- how many at a time


@pytest.mark.parametrize(
    ("pre_dispatch", "capacity"),
    [
        ("2*n_jobs", 4),
        ("all", 4),  # more would only be proposed with less known
        (100, 4),
        ("n_jobs", 2),
        ("n_jobs + 1", 3),
        ("1.5*n_jobs", 3),
        ("n_jobs//2", 1),
        (1, 1),
        (3, 3),
        ("3", 3),
        (np.int64(2), 2),
    ],
)
def test_pre_dispatch_is_how_many_may_be_handed_in(pre_dispatch, capacity):
    with joblib.parallel_config("threading"), evaluation(2, pre_dispatch) as evaluator:
        assert evaluator.capacity == capacity
        done = run(evaluator, [(i, double, {"x": i}) for i in range(9)])
    assert len(done) == 9


@pytest.mark.parametrize("random_state", [0, None])
@pytest.mark.parametrize(
    ("pre_dispatch", "most"), [(1, 1), (2, 2), ("n_jobs", 3), ("2*n_jobs", 6), ("all", 6)]
)
def test_a_search_never_has_more_with_the_backend(pre_dispatch, most, random_state):
    backend = CountingThreads()
    search = TPESearchCV(
        Plain(),
        {"a": list(range(50))},
        n_iter=8,
        cv=4,
        n_jobs=3,
        pre_dispatch=pre_dispatch,
        random_state=random_state,
    )
    with joblib.parallel_config(backend):
        search.fit(X)
    assert 1 <= backend.most <= most
    assert backend.in_flight == 0
    assert len(search.cv_results_["params"]) == 8


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize(
    "pre_dispatch",
    ["foo", "", "2*", "n_jobs n_jobs", '__import__("os")', "1/0", "9**9**9", "2*m_jobs", "nan"],
)
def test_a_pre_dispatch_that_cannot_be_read_is_refused(pre_dispatch, n_jobs):
    search = TPESearchCV(Plain(), {"a": [0, 1]}, n_jobs=n_jobs, pre_dispatch=pre_dispatch)
    with (
        joblib.parallel_config("threading"),
        pytest.raises(ValueError, match=r"pre_dispatch=.* cannot be read"),
    ):
        search.fit(X)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("pre_dispatch", [0, -1, "0", "-n_jobs", "0.1*n_jobs", "n_jobs-n_jobs"])
def test_a_pre_dispatch_of_nothing_is_refused(pre_dispatch, n_jobs):
    search = TPESearchCV(Plain(), {"a": [0, 1]}, n_jobs=n_jobs, pre_dispatch=pre_dispatch)
    with (
        joblib.parallel_config("threading"),
        pytest.raises(ValueError, match=r"pre_dispatch=.* at least one task"),
    ):
        search.fit(X)


def test_a_pre_dispatch_of_another_type_is_refused():
    search = TPESearchCV(Plain(), {"a": [0, 1]}, pre_dispatch=2.5)
    with pytest.raises(ValueError, match=r"'pre_dispatch' parameter .* Got 2\.5"):
        search.fit(X)


def test_a_refusal_leaves_no_pool_behind():
    # Elsewhere, so that what is left does not disturb other tests.
    code, out, err = Script(
        """
        import multiprocessing, joblib
        from tunein._evaluation import Evaluation
        with joblib.parallel_config("multiprocessing"):
            evaluation = Evaluation(2, "foo")
            try:
                evaluation.__enter__()
            except ValueError:
                print(len(multiprocessing.active_children()))
        """
    ).finish()
    assert (code, out) == (0, "0\n"), err


def test_n_jobs_comes_from_the_context():
    with joblib.parallel_config("threading", n_jobs=3):
        with evaluation() as evaluator:
            assert evaluator.n_workers == 3
        with evaluation(n_jobs=2) as evaluator:
            assert evaluator.n_workers == 2
        with evaluation(n_jobs=1) as evaluator:
            assert isinstance(evaluator, InProcess)
    with evaluation() as evaluator:
        assert isinstance(evaluator, InProcess)


def test_negative_n_jobs_counts_from_the_cores():
    with joblib.parallel_config("threading"):
        one_less = evaluation(n_jobs=-2)
        with one_less as evaluator:
            assert evaluator.n_workers == max(joblib.cpu_count() - 1, 1)
        assert one_less.n_workers_asked == evaluator.n_workers


@pytest.mark.parametrize("backend", [None, *LOCAL])
def test_zero_n_jobs_is_refused(backend):
    search = TPESearchCV(Plain(), {"a": [0, 1]}, n_jobs=0)
    with joblib.parallel_config(backend or "loky"), pytest.raises(ValueError, match="n_jobs == 0"):
        search.fit(X)


def test_a_backend_that_keeps_results_is_refused_by_name():
    search = TPESearchCV(Plain(), {"a": [0, 1]}, n_jobs=2)
    with (
        joblib.parallel_config(SilentThreads()),
        pytest.raises(TypeError, match=r"SilentThreads cannot hand back .* or n_jobs=1"),
    ):
        search.fit(X)
    with joblib.parallel_config(SilentThreads()):
        search.set_params(n_jobs=1).fit(X)


# ---------------------------------------------------------------------- nested


def nested_scores(n_jobs_outside):
    search = TPESearchCV(
        Dawdler(), {"a": [0.1, 0.3, 0.5], "b": [0.2, 0.4]}, n_iter=4, cv=2, n_jobs=2, random_state=0
    )
    return cross_val_score(search, X, cv=3, n_jobs=n_jobs_outside)


@local_backends
def test_a_search_runs_inside_a_worker(backend):
    np.testing.assert_array_equal(nested_scores(2), nested_scores(1))


def test_a_search_runs_inside_a_worker_of_dask():
    # As many searches as workers: if each kept its worker while it waits, all would wait for ever.
    code, out, err = Script(
        """
        import joblib
        from test_evaluation import best_of_nested_searches, nested_scores
        from toys_parallel import dask_client
        if __name__ == "__main__":
            expected = nested_scores(1).tolist()
            with dask_client(), joblib.parallel_config("dask"):
                print(nested_scores(2).tolist() == expected, best_of_nested_searches())
        """
    ).finish()
    assert (code, out) == (0, "True {'a': 3}\n"), err


def best_of_nested_searches():
    inner = TPESearchCV(Plain(), {"a": [1, 2, 3]}, n_iter=3, cv=2, n_jobs=1, random_state=0)
    outer = TPESearchCV(inner, {"estimator__b": [1, 2]}, n_iter=2, cv=2, random_state=0)
    return outer.fit(X).best_estimator_.best_params_


@local_backends
def test_a_search_may_search_over_a_search(backend):
    assert best_of_nested_searches() == {"a": 3}


# ---------------------------------------------------------------------- what workers see


@all_backends
def test_the_configuration_reaches_workers(backend):
    before = get_config()
    with config_context(assume_finite=True, enable_metadata_routing=True, working_memory=77):
        here = get_config()
        seen = call(config_seen)
    assert seen == here
    assert call(config_seen) == before


@all_backends
@pytest.mark.skipif(
    not hasattr(_FuncWrapper, "with_config_and_warning_filters"),
    reason="warning filters travel since scikit-learn 1.7",
)
@pytest.mark.parametrize(("action", "fate"), [("error", "error"), ("ignore", "ignored")])
def test_warning_filters_reach_workers(backend, action, fate):
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.filterwarnings("always")
        assert call(warn_and_tell, text="sent with a call") == "shown"
        warnings.filterwarnings(action, message="sent with", category=UserWarning)
        assert call(warn_and_tell, text="sent with a call") == fate
        assert call(warn_and_tell, text="another one") == "shown"


@process_backends
def test_large_arrays_are_mapped_into_memory_once(backend):
    large, small = np.ones((400, 400)), np.ones((4, 4))
    with evaluation() as evaluator:
        seen = [out for _, out in run(evaluator, [(i, look_at, {"X": large}) for i in range(8)])]
        files = {file for file, *_ in seen}
        assert len(files) == 1
        assert files != {None}
        assert all(is_mapped and not may_write for _, is_mapped, may_write, _ in seen)
        assert {total for *_, total in seen} == {160_000.0}
        seen_small = [out for _, out in run(evaluator, [(0, look_at, {"X": small})])]
        assert seen_small == [(None, False, True, 16.0)]
        folder = Path(files.pop()).parent
        assert len(list(folder.iterdir())) == 1
    assert wait_until(lambda: not folder.exists() or not any(folder.iterdir()))


@process_backends
@pytest.mark.parametrize("error_class", [Refusal, KeyboardInterrupt])
def test_temporary_files_are_gone_after_an_error(backend, error_class):
    seen = []

    def fail():
        with evaluation() as evaluator:
            for i in range(3):
                evaluator.submit(i, look_at, {"X": np.ones((400, 400))})
            seen.append(evaluator.next()[1])
            raise error_class("on purpose")

    with pytest.raises(error_class, match="on purpose"):
        fail()
    assert wait_until(lambda: not Path(seen[0][0]).exists())
    assert_works()


@process_backends
def test_two_searches_in_a_row_use_their_own_files(backend):
    large = np.ones((400, 400))
    first = call(look_at, X=large)
    second = call(look_at, X=2 * large)
    assert first[0] != second[0]
    assert second[3] == 320_000.0


@all_backends
def test_data_are_not_kept_alive(backend):
    data = np.ones((400, 400))
    gone = weakref.ref(data)
    search = TPESearchCV(Plain(), {"a": [1, 2, 3]}, n_iter=3, cv=2, random_state=0).fit(data)
    del data
    gc.collect()
    assert gone() is None
    assert search.best_params_ == {"a": 3}


# ---------------------------------------------------------------------- at the same time


@local_backends
def test_two_threads_may_search_at_the_same_time(backend):
    options = {"n_iter": 12, "cv": 3, "n_jobs": 2}
    space = {"a": np.linspace(0, 1, 30), "b": np.linspace(0, 1, 30)}
    expected = [
        TPESearchCV(Dawdler(), space, random_state=seed, **options).fit(X).cv_results_["params"]
        for seed in range(2)
    ]
    found, errors = {}, []
    start = threading.Barrier(2)

    def fit(seed):
        try:
            start.wait(60)
            with joblib.parallel_config(backend):
                search = TPESearchCV(Dawdler(), space, random_state=seed, **options).fit(X)
            found[seed] = search.cv_results_["params"]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=fit, args=(seed,), daemon=True) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert [found.get(0), found.get(1)] == expected


def test_threads_may_draw_first_points_at_the_same_time():
    # Filters of warnings are shared by all threads, so that setting them here is felt there.
    errors = []
    start = threading.Barrier(4)

    def draw():
        start.wait(60)
        for seed in range(40):
            try:
                sobol(11, 3, np.random.default_rng(seed))
            except UserWarning as error:
                errors.append(error)

    threads = [threading.Thread(target=draw, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


# ---------------------------------------------------------------------- what must not hang


@pytest.mark.parametrize("backend", ["loky"], indirect=True)
def test_a_worker_that_dies_is_an_error_and_the_pool_works_again(backend):
    with pytest.raises(RuntimeError, match="unexpectedly terminated"):
        call(die)
    assert_works()


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "dask"])
@pytest.mark.parametrize("trouble", ["TwoArguments", "WithLock"])
def test_errors_that_cannot_travel_end_the_search(backend, trouble):
    code, out, err = Script(
        """
        import sys
        from test_evaluation import fit_in_script
        if __name__ == "__main__":
            fit_in_script(sys.argv[1], trouble=sys.argv[2], error_score="raise")
        """,
        backend,
        trouble,
    ).finish()
    assert code == 0, err
    name, text, again = out.split("|")
    assert name not in ("TimeoutError", "no error")
    assert f"{trouble}: trouble with a=1" in text
    assert again == "fitted again\n"


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_a_parameter_that_cannot_travel_ends_the_search(backend):
    code, out, err = Script(
        """
        import sys
        from test_evaluation import fit_in_script
        from toys_parallel import Unsendable
        if __name__ == "__main__":
            fit_in_script(sys.argv[1], folders=Unsendable())
        """,
        backend,
    ).finish()
    assert code == 0, err
    name, text, again = out.split("|")
    assert name in ("PicklingError", "TypeError")
    assert "pickle" in text
    assert again == "fitted again\n"


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_a_worker_that_dies_does_not_stop_the_search_for_ever(backend):
    code, out, err = Script(
        """
        import sys
        from test_evaluation import fit_in_script
        if __name__ == "__main__":
            fit_in_script(sys.argv[1], where="die")
        """,
        backend,
    ).finish()
    assert code == 0, err
    assert out.endswith("|fitted again\n")


def fit_in_script(backend, error_score=np.nan, folders=None, **options):
    """Fit a search that gets into trouble; tell what came of it, and of another one."""
    from contextlib import ExitStack

    from toys_parallel import Troubled

    space = {"a": [0, 1, 2, 3]}
    with ExitStack() as stack:
        if backend == "dask":
            stack.enter_context(dask_client())
        stack.enter_context(joblib.parallel_config(backend, n_jobs=2))
        estimator = Troubled(bad=(1,), **options)
        if folders is not None:
            estimator.set_params(folds=folders)
        search = TPESearchCV(
            estimator, space, n_iter=4, cv=2, random_state=0, error_score=error_score
        )
        try:
            search.fit(X)
        except BaseException as error:
            text = str(error) + str(error.__cause__)
            print(type(error).__name__, text.replace("|", "/").replace("\n", " "), sep="|", end="|")
        else:
            print("no error", "", sep="|", end="|")
        search.set_params(estimator=Plain()).fit(X)
        print("fitted again")
