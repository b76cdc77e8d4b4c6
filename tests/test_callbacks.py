"""Callbacks of scikit-learn 1.9 are told of a search what they are told of a random search."""

from __future__ import annotations

import pickle
import re
from collections import Counter

import joblib
import numpy as np
import pytest
from alike import fit_noting_warnings, twins
from fakes import (
    Cutoff,
    Diary,
    Interrupting,
    Refusal,
    Steps,
    StoppingDiary,
    StumblingDiary,
    TravellingDiary,
    WeighingDiary,
)
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tunein import BayesSearchCV, HyperGradSearchCV, TPESearchCV

SEARCHES = [TPESearchCV, BayesSearchCV, HyperGradSearchCV]
every_search = pytest.mark.parametrize("search_class", SEARCHES)
both_diaries = pytest.mark.parametrize("diary_class", [Diary, TravellingDiary])
needs_callbacks = pytest.mark.skipif(
    not hasattr(RandomizedSearchCV, "set_callbacks"), reason="callbacks came with scikit-learn 1.9"
)

rng = np.random.RandomState(0)
X = rng.normal(size=(24, 3))
y = (X[:, 0] + rng.normal(size=24) > 0).astype(int)

INNER = {
    "with callbacks": (Steps(), {"a": [1.0, 2.0, 3.0, 4.0]}),
    "without": (Cutoff(), {"cut": [0.1, 0.2, 0.3, 0.4]}),
    "logistic regression": (LogisticRegression(tol=1e3), {"C": [0.1, 0.2, 0.3, 0.4]}),
    "pipeline": (
        Pipeline([("scale", StandardScaler()), ("fake", Steps())]),
        {"fake__a": [1.0, 2.0, 3.0, 4.0]},
    ),
}


def anonymous(text):
    return re.sub("(TPE|Bayes|HyperGrad|Randomized|Grid)SearchCV", "Search", text)


def lines_of(diary):
    """Return what a diary was told, under names that are the same for all searches."""
    return [
        (
            line["hook"],
            anonymous(line["estimator"]),
            tuple(tuple(step) for step in line["path"]),
            line["source"],
            tuple(line["data"]),
            line["weight"],
        )
        for line in diary.lines()
    ]


def told(search, diary, *data, **params):
    """Fit, and return the lines written and the texts of the warnings."""
    warned = fit_noting_warnings(search.set_callbacks(diary), *data, **params)
    return lines_of(diary), [anonymous(text) for _, text in warned]


@pytest.fixture
def diary_in(tmp_path):
    """Make diaries with a file each."""
    return lambda diary_class, name, *args: diary_class(tmp_path / name, *args)


# ---------------------------------------------------------------------- with and without callbacks


@every_search
def test_a_search_has_callbacks_where_scikit_learn_has(search_class):
    search = search_class(LogisticRegression(), {"C": [0.1, 0.5]}, n_iter=2, cv=2)
    assert hasattr(search, "set_callbacks") == hasattr(RandomizedSearchCV, "set_callbacks")
    names = {name for name in vars(search.fit(X, y)) if "callback" in name}
    assert names == {"callbacks"}  # the parameter, which is none of scikit-learn's


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [None, 2])
@every_search
def test_an_estimator_with_callbacks_needs_none(search_class, n_jobs):
    search = search_class(Steps(), {"a": [1.0, 2.0, 3.0]}, n_iter=3, cv=2, n_jobs=n_jobs)
    assert search.fit(X, y).best_params_ == {"a": 3.0}


# ---------------------------------------------------------------------- a callback of one's own


@needs_callbacks
@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("inner", INNER)
@both_diaries
@every_search
def test_tasks_are_those_of_a_random_search_in_order(
    search_class, diary_class, inner, refit, diary_in
):
    estimator, space = INNER[inner]
    options = {"n_iter": 3, "cv": 2, "refit": refit}
    ours, warned = told(search_class(estimator, space, **options), diary_in(diary_class, "o"), X, y)
    theirs, expected = told(
        RandomizedSearchCV(estimator, space, **options), diary_in(diary_class, "t"), X, y
    )
    assert ours == theirs
    assert warned == expected
    counts = Counter((hook, path[-1][0]) for hook, _, path, source, *_ in ours if not source)
    assert counts["begin", "search"] == counts["end", "search"] == 1
    assert counts["setup", "fit"] == counts["teardown", "fit"] == 1


@needs_callbacks
@pytest.mark.parametrize("inner", ["with callbacks", "without", "logistic regression"])
@both_diaries
@every_search
def test_tasks_are_those_of_a_random_search_with_workers(
    search_class, diary_class, inner, diary_in
):
    estimator, space = INNER[inner]
    options = {"n_iter": 4, "cv": 3, "n_jobs": 2}
    ours, warned = told(search_class(estimator, space, **options), diary_in(diary_class, "o"), X, y)
    theirs, expected = told(
        RandomizedSearchCV(estimator, space, **options), diary_in(diary_class, "t"), X, y
    )
    assert Counter(ours) == Counter(theirs)
    assert sorted(warned) == sorted(expected)
    alone, _ = told(
        search_class(estimator, space, n_iter=4, cv=3), diary_in(diary_class, "a"), X, y
    )
    assert Counter(ours) == Counter(alone)
    assert ours[:3] == alone[:3]
    assert ours[-2:] == alone[-2:]


@needs_callbacks
@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
@both_diaries
def test_tasks_are_the_same_on_every_backend(diary_class, backend, diary_in):
    space = INNER["with callbacks"][1]
    with joblib.parallel_config(backend, n_jobs=2):
        ours, _ = told(
            TPESearchCV(Steps(), space, n_iter=4, cv=3), diary_in(diary_class, "o"), X, y
        )
    theirs, _ = told(
        RandomizedSearchCV(Steps(), space, n_iter=4, cv=3), diary_in(diary_class, "t"), X, y
    )
    assert Counter(ours) == Counter(theirs)


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [None, 2])
@every_search
def test_a_long_search_tells_of_every_fold(search_class, n_jobs, diary_in):
    space = {"a": np.linspace(0, 1, 40).tolist()}
    options = {"n_iter": 25, "cv": 3, "n_jobs": n_jobs}
    ours, _ = told(search_class(Steps(), space, **options), diary_in(TravellingDiary, "o"), X)
    theirs, _ = told(
        RandomizedSearchCV(Steps(), space, **options), diary_in(TravellingDiary, "t"), X
    )
    assert Counter(ours) == Counter(theirs)


@needs_callbacks
def test_what_workers_are_sent_does_not_grow_with_the_tree_of_tasks(diary_in):
    # Nor may it hold the tree, which grows while another thread pickles.
    diary = diary_in(WeighingDiary, "w")
    space = {"cut": np.linspace(0.1, 1, 60).tolist()}
    TPESearchCV(Cutoff(), space, n_iter=40, cv=3, n_jobs=2).set_callbacks(diary).fit(X, y)
    sizes = [size for task, size in diary.lines() if task == "candidate-split-evaluation"]
    assert len(sizes) == 120
    assert max(sizes) < 1.05 * min(sizes)


@needs_callbacks
def test_as_many_tasks_are_announced_as_a_small_space_has(diary_in):
    diary = diary_in(Diary, "o")
    lines, _ = told(TPESearchCV(Cutoff(), {"cut": [0.1, 0.2]}, n_iter=50, cv=2), diary, X, y)
    announced = {path[1][2] for _, _, path, *_ in lines if path[-1][0].startswith("candidate")}
    assert announced == {4}


@needs_callbacks
@both_diaries
def test_callbacks_see_sample_weight(diary_class, diary_in):
    weight = np.ones(24)
    options = {"n_iter": 3, "cv": 2}
    ours, theirs = (
        told(search, diary_in(diary_class, str(i)), X, y, sample_weight=weight)
        for i, search in enumerate(
            search_class(*INNER["with callbacks"], **options)
            for search_class in (TPESearchCV, RandomizedSearchCV)
        )
    )
    assert ours == theirs
    assert {line[-1] for line in ours[0]} >= {None, 24, 12}


@needs_callbacks
@pytest.mark.parametrize("fails", [["fit"], ["fit", None]], ids=["all", "half"])
@both_diaries
def test_tasks_of_failing_fits_end(diary_class, fails, diary_in):
    endings, lines = [], []
    space = {"cut": [0.1, 0.2], "fail": fails}
    for search in twins(TPESearchCV, Cutoff(), space, cv=2, error_score=0):
        diary = diary_in(diary_class, type(search).__name__)
        try:
            endings.append(bool(told(search, diary, X, y)[1]))
        except ValueError as error:
            endings.append(str(error))
        lines.append([line for line in lines_of(diary) if not ends_the_search(line)])
    assert endings[0] == endings[1]
    assert lines[0] == lines[1]
    counts = Counter((hook, path[-1][0]) for hook, _, path, *_ in lines[0])
    assert counts["begin", "candidate-split-evaluation"] == 4 * len(fails)
    assert counts["end", "candidate-split-evaluation"] == 4 * len(fails)
    assert counts["teardown", "fit"] == 1


def ends_the_search(line):
    """Tell whether the line is one that scikit-learn leaves out when all fits failed."""
    return (line[0], line[2][-1][0]) == ("end", "search")


@needs_callbacks
def test_an_interrupted_search_tears_callbacks_down(diary_in):
    diary = diary_in(TravellingDiary, "o")
    search = TPESearchCV(Interrupting(), {"a": [0, 1, 2, 3]}, n_iter=4, cv=2).set_callbacks(diary)
    with (
        pytest.warns(UserWarning, match="does not support callbacks"),
        pytest.raises(KeyboardInterrupt, match="on purpose"),
    ):
        search.fit(X, y)
    assert Counter(line[0] for line in lines_of(diary))["teardown"] == 1
    assert not [name for name in vars(search) if "callback_" in name]


@needs_callbacks
@both_diaries
def test_a_callback_that_asks_to_stop_stops_no_search(diary_class, diary_in):
    search = TPESearchCV(Cutoff(), {"cut": [0.1, 0.2, 0.3]}, n_iter=3, cv=2)
    told(search, diary_in(StoppingDiary, "o"), X, y)
    assert len(search.cv_results_["params"]) == 3


@needs_callbacks
@pytest.mark.parametrize(
    ("hook", "task", "n_jobs"),
    [
        ("setup", "fit", None),
        ("begin", "fit", None),
        ("begin", "search", None),
        ("begin", "candidate-split-evaluation", None),
        ("end", "candidate-split-evaluation", None),
        ("end", "candidate-split-evaluation", 2),
        ("end", "search", None),
        ("begin", "refit-with-best-params", None),
        ("end", "refit-with-best-params", None),
        ("end", "fit", None),
        ("teardown", "fit", None),
    ],
)
def test_an_error_in_a_callback_gets_through_as_from_a_random_search(hook, task, n_jobs, diary_in):
    endings = []
    for search_class in (TPESearchCV, RandomizedSearchCV):
        diary = diary_in(StumblingDiary, search_class.__name__, hook, task)
        search = search_class(*INNER["without"], n_iter=3, cv=2, n_jobs=n_jobs)
        with pytest.raises((Refusal, ValueError), match=f"cannot {hook} {task}") as caught:
            search.set_callbacks(diary).fit(X, y)
        assert not [name for name in vars(search) if "callback_" in name]
        lines = [line for line in lines_of(diary) if not ends_the_search(line)]
        endings.append((caught.type, lines[-1] if n_jobs == 2 else lines))
    assert endings[0] == endings[1]


# ---------------------------------------------------------------------- nested


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [None, 2])
@both_diaries
@every_search
def test_tasks_inside_a_cross_validation_are_the_same(search_class, diary_class, n_jobs, diary_in):
    lines = []
    for cls in (search_class, RandomizedSearchCV):
        diary = diary_in(diary_class, cls.__name__)
        search = cls(*INNER["with callbacks"], n_iter=3, cv=2).set_callbacks(diary)
        cross_validate(search, X, y, cv=2, n_jobs=n_jobs)
        lines.append(lines_of(diary))
    if n_jobs is None:
        assert lines[0] == lines[1]
    assert Counter(lines[0]) == Counter(lines[1])
    assert Counter(line[0] for line in lines[0])["setup"] == 2


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [None, 2])
@both_diaries
def test_tasks_of_a_search_in_a_search_are_the_same(diary_class, n_jobs, diary_in):
    lines = []
    for cls in (TPESearchCV, RandomizedSearchCV):
        diary = diary_in(diary_class, cls.__name__)
        inner = cls(*INNER["with callbacks"], n_iter=2, cv=2)
        outer = cls(inner, {"error_score": [0.0, 1.0]}, n_iter=2, cv=2, n_jobs=n_jobs)
        lines.append(told(outer, diary, X, y)[0])
    assert Counter(lines[0]) == Counter(lines[1])
    deepest = max(len(path) for _, _, path, *_ in lines[0])
    assert deepest == (6 if diary_class is TravellingDiary else 3)


@needs_callbacks
def test_tasks_of_a_search_in_a_pipeline_are_the_same(diary_in):
    lines = []
    for cls in (TPESearchCV, RandomizedSearchCV):
        diary = diary_in(TravellingDiary, cls.__name__)
        search = cls(*INNER["with callbacks"], n_iter=2, cv=2)
        lines.append(told(make_pipeline(StandardScaler(), search), diary, X, y)[0])
    assert [tuple(map(anonymous, map(str, line))) for line in lines[0]] == [
        tuple(map(anonymous, map(str, line))) for line in lines[1]
    ]


@needs_callbacks
def test_clones_and_copies_keep_callbacks(diary_in):
    diary = diary_in(Diary, "o")
    search = TPESearchCV(*INNER["without"], n_iter=3, cv=2).set_callbacks(diary)
    search.fit(X, y)
    n_lines = len(diary.lines())
    clone(search).fit(X, y)
    pickle.loads(pickle.dumps(search)).fit(X, y)
    assert len(diary.lines()) == 3 * n_lines
    search.set_callbacks().fit(X, y)
    assert len(diary.lines()) == 3 * n_lines


@needs_callbacks
def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match="FitCallback protocol"):
        TPESearchCV(*INNER["without"]).set_callbacks(print)


# ---------------------------------------------------------------------- scikit-learn's callbacks


def progress_of(search, capsys):
    """Return the bars shown: what they are of, and how far they came."""
    from sklearn.callback import ProgressBar

    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    text = anonymous(capsys.readouterr().out)
    return re.findall(r"^( *\S.*?) +[━╸╺ ]*(\d+)%", text, flags=re.MULTILINE)


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [None, 2])
@every_search
def test_progress_bars_are_those_of_a_random_search(search_class, n_jobs, capsys, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")  # whole lines
    estimator, space = INNER["with callbacks"]
    options = {"n_iter": 3, "cv": 2, "n_jobs": n_jobs}
    ours = progress_of(search_class(estimator, space, **options), capsys)
    theirs = progress_of(RandomizedSearchCV(estimator, space, **options), capsys)
    assert sorted(ours) == sorted(theirs)
    if n_jobs is None:
        assert ours == theirs
    assert len(ours) == 1 + 1 + 6 + 1
    assert {percent for _, percent in ours} == {"100"}


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("inner", ["with callbacks", "logistic regression"])
@every_search
def test_a_scoring_monitor_on_the_estimator_logs_the_same(search_class, inner, n_jobs):
    from sklearn.callback import ScoringMonitor

    scoring = "neg_mean_squared_error"
    monitors = [ScoringMonitor(scoring=scoring), ScoringMonitor(scoring=scoring)]
    searches = twins(search_class, *INNER[inner], cv=2, n_jobs=n_jobs)
    logs = []
    for search, monitor in zip(searches, monitors, strict=True):
        search.estimator.set_callbacks(monitor)
        search.fit(X, y)
        assert len(monitor.get_logs(select="all")) == 1
        log = monitor.get_logs(include_lineage=True)
        assert log.estimator_name == type(search).__name__
        logs.append(sorted(anonymous(str(row)) for row in log.data))
    assert logs[0] == logs[1]
    assert sum(scoring in row for row in logs[0]) == {"with callbacks": 27}.get(inner, 9)


@needs_callbacks
def test_a_scoring_monitor_on_the_search_has_nothing_to_score():
    from sklearn.callback import ScoringMonitor

    for search in twins(TPESearchCV, *INNER["with callbacks"], cv=2):
        monitor = ScoringMonitor(scoring="neg_mean_squared_error")
        search.set_callbacks(monitor).fit(X, y)
        with pytest.raises(ValueError, match="No logs to retrieve"):
            monitor.get_logs()


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_callbacks_on_the_search_and_on_its_estimator_go_together(n_jobs, diary_in):
    lines = []
    for cls in (TPESearchCV, RandomizedSearchCV):
        inner, outer = (diary_in(Diary, f"i{cls}"), diary_in(TravellingDiary, f"o{cls}"))
        estimator, space = INNER["with callbacks"]
        estimator = clone(estimator).set_callbacks(inner)
        search = cls(estimator, space, n_iter=3, cv=2, n_jobs=n_jobs)
        lines.append(Counter(told(search, outer, X, y)[0]) + Counter(lines_of(inner)))
    assert lines[0] == lines[1]


@needs_callbacks
def test_a_travelling_callback_on_the_estimator_is_refused_as_by_a_random_search(diary_in):
    estimator, space = INNER["with callbacks"]
    estimator = clone(estimator).set_callbacks(diary_in(TravellingDiary, "i"))
    for cls in (TPESearchCV, RandomizedSearchCV):
        with pytest.raises((TypeError, ValueError), match="can't have auto-propagated callbacks"):
            cls(estimator, space, n_iter=2, cv=2).fit(X, y)
