"""Earlier knowledge: evidence where it was measured alike, starting points elsewhere."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from fakes import Cutoff
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from tunein import BayesSearchCV, FoldRace, HyperGradSearchCV, TPESearchCV
from tunein._earlier import Earlier
from tunein._fingerprint import Part
from tunein._history import Evidence, History, Proposal, Score
from tunein._space import Space

SEARCHES = [BayesSearchCV, HyperGradSearchCV, TPESearchCV]
every_search = pytest.mark.parametrize("search_class", SEARCHES)

X = np.random.default_rng(0).random((30, 2))
Y = (X[:, 0] > 0.4).astype(int)
SPACE = {"x": uniform(0, 1), "z": uniform(0, 1)}


class Bowl(BaseEstimator):
    """Scores best at x = 0.3, z = 0.7; refuses x above `limit`."""

    def __init__(self, x=2.0, z=0.5, step=None, limit=3.0):
        self.x = x
        self.z = z
        self.step = step
        self.limit = limit

    def fit(self, X, y=None, sample_weight=None):
        if self.x > self.limit:
            raise RuntimeError("too much")
        return self

    def score(self, X, y=None, sample_weight=None):
        return 0.1 * float(np.mean(X)) - (self.x - 0.3) ** 2 - (self.z - 0.7) ** 2


def make(search_class=BayesSearchCV, history=None, **options):
    settings = {"n_iter": 8, "cv": 3, "random_state": 0, "refit": False, **options}
    return search_class(Bowl(), SPACE, history=history, **settings)


@pytest.fixture(scope="module")
def earlier():
    return make(TPESearchCV, n_iter=40, random_state=1).fit(X, Y)


def gap(search):
    params = search.best_params_
    return max(abs(params["x"] - 0.3), abs(params["z"] - 0.7))


# --------------------------------------------------------------------- evidence


@every_search
@pytest.mark.parametrize("kind", ["record", "results", "journal"])
def test_a_method_learns_from_it_and_goes_on_from_the_best(search_class, kind, tmp_path):
    path = tmp_path / "run.jsonl"
    earlier = make(TPESearchCV, n_iter=40, random_state=1, checkpoint=path).fit(X, Y)
    history = {"record": earlier.history_, "results": earlier.cv_results_, "journal": path}[kind]
    search = make(search_class, history).fit(X, Y)
    assert len(search.cv_results_["params"]) == len(search.history_) == 8
    assert search.cv_results_["params"][0] == earlier.best_params_
    assert search.best_score_ >= earlier.best_score_
    assert [trial.proposal.origin for trial in search.history_] == ["initial"] + ["asked"] * 7
    # No point was spread over the space: none is far from the best.
    if search_class is HyperGradSearchCV:
        assert gap(search) < 0.03


def test_all_sources_of_the_same_scores_say_the_same(earlier, tmp_path):
    path = tmp_path / "run.jsonl"
    make(TPESearchCV, n_iter=40, random_state=1, checkpoint=path).fit(X, Y)
    found = [
        make(history=history).fit(X, Y).cv_results_["params"]
        for history in (
            earlier.history_,
            [earlier.history_],
            earlier.cv_results_,
            pd.DataFrame(earlier.cv_results_),
            pl.DataFrame(earlier.cv_results_, strict=False),
            path,
            str(path),
            pickle.loads(pickle.dumps(earlier.history_)),
        )
    ]
    assert all(params == found[0] for params in found)
    assert found[0] != make().fit(X, Y).cv_results_["params"]


@pytest.mark.parametrize("kind", [GridSearchCV, RandomizedSearchCV])
def test_the_results_of_scikit_learn_are_read(kind):
    steps = [StandardScaler(), MinMaxScaler(), None]
    grid = {"x": [0.1, 0.35, 0.9], "z": [0.2, 0.65], "step": steps}
    options = {"cv": 3, "refit": False}
    theirs = kind(Bowl(), grid, **options).fit(X, Y)
    search = TPESearchCV(Bowl(), {**SPACE, "step": steps}, n_iter=3, history=theirs.cv_results_)
    search.set_params(**options).fit(X, Y)
    assert (
        search.cv_results_["params"][0]
        == theirs.cv_results_["params"][int(np.nanargmax(theirs.cv_results_["mean_test_score"]))]
    )


def test_it_wins_nothing(earlier):
    """Its best candidate is tried again, and counts as what it gets now."""
    better = {
        **earlier.cv_results_,
        "mean_test_score": earlier.cv_results_["mean_test_score"] + 100,
    }
    for i in range(3):
        better[f"split{i}_test_score"] = better[f"split{i}_test_score"] + 100
    search = make(history=better).fit(X, Y)
    assert search.best_score_ < 1
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()


def test_several_searches_are_put_together(earlier):
    other = make(TPESearchCV, n_iter=12, random_state=5).fit(X, Y)
    search = make(history=[other.history_, earlier.cv_results_], n_iter=2).fit(X, Y)
    assert search.cv_results_["params"][0] == earlier.best_params_
    known = search.history_.known(0)
    assert len(known.units) == 52
    assert known.n_asked == 1


def test_failures_are_learned_from():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = BayesSearchCV(Bowl(limit=0.5), SPACE, n_iter=30, cv=3, random_state=0).set_params(
            refit=False
        )
        first.fit(X, Y)
        second = BayesSearchCV(Bowl(limit=0.5), SPACE, n_iter=10, cv=3, random_state=1).set_params(
            refit=False, history=first.cv_results_
        )
        second.fit(X, Y)
    assert (
        np.isnan(second.history_.known(0).scores).sum()
        == np.isnan(first.cv_results_["mean_test_score"]).sum()
    )
    assert np.isnan(second.cv_results_["mean_test_score"]).sum() <= 3


def test_dropped_candidates_count_as_far_as_they_can(earlier):
    raced = make(TPESearchCV, n_iter=40, racing=FoldRace(0.3)).fit(X, Y)
    n_dropped = sum(trial.dropped for trial in raced.history_)
    assert n_dropped
    from_record = make(history=raced.history_).fit(X, Y)
    assert len(from_record.history_.known(0).units) == 40
    from_results = make(history=raced.cv_results_).fit(X, Y)
    assert len(from_results.history_.known(0).units) == 40 - n_dropped


def test_evidence_is_not_handed_on():
    first = make(n_iter=5).fit(X, Y)
    second = make(history=first.history_, n_iter=4).fit(X, Y)
    third = make(history=second.history_, n_iter=2).fit(X, Y)
    assert len(third.history_.known(0).units) == 4


def test_another_number_of_folds_counts_by_means(earlier):
    search = make(history=earlier.history_, cv=4).fit(X, Y)
    known = search.history_.known(0)
    means = [np.mean([score.test for score in trial.scores]) for trial in earlier.history_]
    np.testing.assert_allclose(known.scores, means)
    assert known.fold_scores.shape == (40, 4)


def test_descent_goes_on_from_evidence():
    data = load_diabetes(return_X_y=True)
    options = {"cv": 3, "random_state": 0, "n_iter": 20}
    space = {"alpha": loguniform(1e-4, 1e4)}
    first = HyperGradSearchCV(Ridge(), space, **options).fit(*data)
    again = HyperGradSearchCV(Ridge(), space, history=first.history_, **options).fit(*data)
    assert len(again.history_) <= len(first.history_)
    assert again.best_score_ >= first.best_score_ - 1e-6
    assert again.gradient_ == "exact"


def test_it_is_the_same_with_two_workers_and_resumed(earlier, tmp_path):
    path = tmp_path / "run.jsonl"
    whole = make(history=earlier.history_, checkpoint=path, n_iter=12).fit(X, Y)
    data = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for end in ends[1::7]:
        path.write_bytes(data[:end])
        again = make(history=earlier.history_, checkpoint=path, n_iter=12).fit(X, Y)
        assert again.cv_results_["params"] == whole.cv_results_["params"]
    with pytest.raises(ValueError, match=r"history was .*, here it is None"):
        make(checkpoint=path, n_iter=12).fit(X, Y)


def test_without_it_nothing_changes():
    assert (
        make().fit(X, Y).cv_results_["params"] == make(history=[]).fit(X, Y).cv_results_["params"]
    )


def test_what_is_common_to_a_fold_is_taken_from_this_search():
    evidence = Evidence(np.array([[0.1], [0.2]]), np.array([[1.0, 1.2], [2.0, np.nan]]))
    history = History(2, 1, evidence=evidence)
    np.testing.assert_array_equal(history.known().fold_scores, evidence.fold_scores)
    history.open(Proposal(np.array([0.5]), {}))
    for fold, value in enumerate([1.0, 5.0]):
        history.record(0, fold, Score(value, None, 0.0, 0.0, 3))
    known = history.known()
    np.testing.assert_array_equal(known.fold_scores, [[-1.0, 3.2], [0.0, np.nan], [1.0, 5.0]])
    np.testing.assert_array_equal(known.units[:, 0], [0.1, 0.2, 0.5])


# --------------------------------------------------------------------- starting points


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"X": X + 1}, "X"),
        ({"y": 1 - Y}, "y"),
        ({"X": X[:20], "y": Y[:20]}, "X, y"),
        ({"sample_weight": np.ones(30)}, "fit's sample_weight"),
    ],
)
def test_scores_on_other_data_are_not_believed(change, names, earlier):
    search = make(history=earlier.history_)
    with pytest.warns(UserWarning, match=rf"history was measured otherwise \({names} differed\): "):
        search.fit(**{"X": X, "y": Y, **change})
    best = np.argsort(-earlier.cv_results_["mean_test_score"], kind="stable")[:3]
    tried = search.cv_results_["params"][:3]
    assert tried == [earlier.cv_results_["params"][i] for i in best]
    assert len(search.history_.known(0).units) == 0
    assert [trial.proposal.origin for trial in search.history_][:4] == ["initial"] * 3 + ["asked"]


def test_scores_of_another_metric_are_not_believed(earlier):
    def score(estimator, X, y=None):
        return estimator.score(X)

    with pytest.warns(UserWarning, match=r"\(scoring differed\)"):
        make(history=earlier.history_, scoring=score).fit(X, Y)


def test_a_journal_knows_its_data(tmp_path):
    path = tmp_path / "run.jsonl"
    make(checkpoint=path).fit(X, Y)
    with pytest.warns(UserWarning, match=r"history\[0\] was measured otherwise \(X differed\)"):
        make(history=[path]).fit(X + 1, Y)


# --------------------------------------------------------------------- refusals


def test_what_lies_outside_is_left_out_with_a_warning(earlier):
    search = TPESearchCV(
        Bowl(), {"x": uniform(0, 0.5), "z": uniform(0, 1)}, n_iter=3, cv=3, refit=False,
        history=earlier.history_,
    )  # fmt: skip
    n_outside = sum(params["x"] > 0.5 for params in earlier.cv_results_["params"])
    with pytest.warns(UserWarning, match=f"history: {n_outside} of 40 candidates lie outside"):
        search.fit(X, Y)
    assert len(search.history_.known(0).units) == 40 - n_outside


def test_other_parameters_are_all_outside(earlier):
    search = TPESearchCV(Cutoff(), {"cut": uniform(0, 1)}, n_iter=3, cv=3)
    with pytest.warns(UserWarning, match="history: 40 of 40 candidates lie outside the search sp"):
        search.set_params(history=earlier.cv_results_).fit(X, Y)


@pytest.mark.parametrize(
    ("history", "error", "message"),
    [
        (3, TypeError, r"history must be the history_ or cv_results_ .* got 3 of type int"),
        ([3], TypeError, r"history\[0\] must be .* got 3 of type int"),
        (
            {"a": 1},
            ValueError,
            r"a cv_results_ with .*'mean_test_score', got .'a'.\. Of several metrics, scoring and",
        ),
        ("no/such/file", FileNotFoundError, "No such file"),
    ],
)
def test_what_is_no_history(history, error, message):
    with pytest.raises(error, match=message):
        make(history=history).fit(X, Y)


def test_a_table_is_given_as_a_dict_of_lists(earlier):
    table = pd.DataFrame(earlier.cv_results_)
    asked = make(history=table.to_dict("list"), n_iter=3).fit(X, Y).cv_results_["params"]
    assert asked == make(history=earlier.cv_results_, n_iter=3).fit(X, Y).cv_results_["params"]


def test_a_journal_of_another_space(tmp_path):
    path = tmp_path / "run.jsonl"
    make(checkpoint=path).fit(X, Y)
    search = TPESearchCV(Bowl(), {"x": uniform(0, 1)}, history=path)
    with pytest.raises(
        ValueError, match=r"history: .* holds points of another search space, x: uni"
    ):
        search.fit(X, Y)


@pytest.mark.parametrize("content", [b"", b'{"tunein":"jou'])
def test_a_journal_that_was_not_begun_says_nothing(content, tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    found = make(history=path).fit(X, Y)
    assert found.cv_results_["params"] == make().fit(X, Y).cv_results_["params"]


def test_damage_is_told(tmp_path):
    path = tmp_path / "run.jsonl"
    make(checkpoint=path).fit(X, Y)
    path.write_bytes(path.read_bytes() + b"garbage\n")
    with pytest.raises(ValueError, match="is damaged in line 34: it is no JSON"):
        make(history=path).fit(X, Y)


def test_nothing_given_is_nothing_known():
    space = Space.parse({"x": uniform(0, 1)})
    assert Earlier.read(None, space, {"X": Part.of(1)}, None, 2) == Earlier(None, [])
