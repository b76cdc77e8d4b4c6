"""The record: append-only, and all that a method may know."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from tunein._history import History, Known, Proposal, Score


def proposal(*unit, origin="asked", note=None):
    unit = np.array(unit, dtype=float)
    return Proposal(unit, {"a": unit.tolist()}, origin, note)


def score(test, error=None):
    return Score(test, None, 0.1, 0.2, 5, error)


def filled(fold_scores, **options):
    """Return a history whose trials have these scores; None where there is none so far."""
    history = History(len(fold_scores[0]), 1, **options)
    for number, scores in enumerate(fold_scores):
        history.open(proposal(number / 100))
        for fold, value in enumerate(scores):
            if value is not None:
                history.record(number, fold, score(value))
    return history


def test_a_new_record_is_empty():
    history = History(3, 2)
    assert len(history) == 0
    assert list(history) == []
    assert history.n_closed_in_row == 0
    known = history.known()
    assert known.units.shape == (0, 2)
    assert known.fold_scores.shape == (0, 3)
    assert known.pending.shape == (0, 2)
    assert known.scores.shape == (0,)
    assert (known.n_asked, known.note, len(known.tried)) == (0, None, 0)
    assert repr(history) == "History(0 trials of 3 folds, 0 complete)"


def test_trials_are_numbered_in_order_and_close_with_their_last_fold():
    history = History(2, 1)
    first, second = history.open(proposal(0.1)), history.open(proposal(0.2))
    assert (first.number, second.number) == (0, 1)
    assert first.params == {"a": [0.1]}
    history.record(1, 0, score(0.5))
    assert not second.closed
    history.record(1, 1, score(0.7))
    assert second.closed
    assert not first.closed
    assert repr(history) == "History(2 trials of 2 folds, 1 complete)"
    assert [trial.closed for trial in history] == [False, True]


def test_the_row_of_closed_trials_ends_at_the_first_gap():
    history = filled([[None, None], [1, 1], [1, None], [1, 1]])
    assert history.n_closed_in_row == 0
    history.record(0, 1, score(1))
    assert history.n_closed_in_row == 0
    history.record(0, 0, score(1))
    assert history.n_closed_in_row == 2
    history.record(2, 1, score(1))
    assert history.n_closed_in_row == 4


def test_no_fold_is_recorded_twice():
    history = filled([[1.0, None]])
    with pytest.raises(ValueError, match="Trial 0 has a score on fold 0 already"):
        history.record(0, 0, score(2.0))
    assert history.known(1).fold_scores[0, 0] == 1.0


def test_what_is_known_is_the_mean_over_folds():
    known = filled([[1, 3], [2, 8]]).known()
    np.testing.assert_array_equal(known.fold_scores, [[1, 3], [2, 8]])
    np.testing.assert_array_equal(known.scores, [2, 5])
    np.testing.assert_array_equal(known.units, [[0.0], [0.01]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_a_failure(bad):
    known = filled([[1, bad], [2, 8]]).known()
    np.testing.assert_array_equal(known.scores, [np.nan, 5])


def test_a_failed_fit_is_a_failure_whatever_error_score_says():
    history = filled([[1, None]])
    history.record(0, 1, score(0.99, error="Traceback ..."))
    np.testing.assert_array_equal(history.known().scores, [np.nan])
    assert history.trials[0].scores[1].test == 0.99


def test_scores_near_the_largest_float_have_a_mean():
    np.testing.assert_allclose(filled([[1.7e308] * 5]).known().scores, [1.7e308])
    np.testing.assert_allclose(filled([[-1e308, 1e308]]).known().scores, [0])


def test_the_metric_that_drives_is_the_one_named_or_else_the_first_seen():
    values = [[{"low": 1, "high": 9}], [{"high": 8, "low": 2}]]
    np.testing.assert_array_equal(filled(values, metric="high").known().scores, [9, 8])
    np.testing.assert_array_equal(filled(values, metric="low").known().scores, [1, 2])
    history = filled(values)
    assert history.metric == "low"
    np.testing.assert_array_equal(history.known().scores, [1, 2])


def test_a_metric_that_is_missing_is_a_failure():
    history = filled([[{"a": 1}], [{"b": 1}]])
    np.testing.assert_array_equal(history.known().scores, [1, np.nan])


def test_a_failure_before_the_first_metric_is_seen_names_none():
    history = History(1, 1)
    history.open(proposal(0.1))
    history.record(0, 0, score(np.nan, error="Traceback ..."))
    assert history.metric is None
    history.open(proposal(0.2))
    history.record(1, 0, score({"b": 2}))
    assert history.metric == "b"
    np.testing.assert_array_equal(history.known().scores, [np.nan, 2])


def test_open_trials_are_pending():
    known = filled([[1, 1], [2, None], [3, 3]]).known()
    np.testing.assert_array_equal(known.units, [[0.0], [0.02]])
    np.testing.assert_array_equal(known.pending, [[0.01]])


def test_looking_back_hides_what_came_later():
    history = filled([[1, 1], [2, 2], [3, 3], [4, None]])
    known = history.known(2)
    np.testing.assert_array_equal(known.scores, [1, 2])
    np.testing.assert_array_equal(known.pending, [[0.02], [0.03]])
    assert len(known.tried) == 4
    np.testing.assert_array_equal(history.known(0).pending, [[0.0], [0.01], [0.02], [0.03]])


def test_what_was_known_does_not_change_with_the_record():
    history = filled([[1, 1], [2, None]])
    known = history.known()
    before = copy.deepcopy(known)
    history.record(1, 1, score(2))
    for number in range(2, 40):
        history.open(proposal(number / 100))
    np.testing.assert_array_equal(known.units, before.units)
    np.testing.assert_array_equal(known.fold_scores, before.fold_scores)
    np.testing.assert_array_equal(known.pending, before.pending)
    assert known.n_asked == before.n_asked


def test_only_what_the_method_proposed_counts_as_asked():
    history = History(1, 1)
    for origin in ("default", "initial", "asked", "asked"):
        history.open(proposal(0.1, origin=origin))
    assert history.n_asked == history.known().n_asked == 2


def test_the_last_note_is_kept_until_there_is_another():
    history = History(1, 1)
    history.open(proposal(0.1))
    assert history.known().note is None
    history.open(proposal(0.2, note={"n": 1}))
    history.open(proposal(0.3))
    assert history.known().note == {"n": 1}
    history.open(proposal(0.4, note={"n": 2}))
    assert history.known().note == {"n": 2}


def test_every_proposed_point_is_tried_once_it_is_proposed():
    history = History(1, 2)
    units = [np.array([0.1, np.nan]), np.array([0.1, 0.2])]
    history.open(Proposal(units[0], {}))
    assert history.tried == {units[0].tobytes()}
    history.open(Proposal(units[1], {}))
    assert history.known(0).tried == {unit.tobytes() for unit in units}


@pytest.mark.parametrize("n", [15, 16, 17, 100])
def test_a_long_record_is_as_good_as_a_short_one(n):
    history = History(2, 3)
    units = np.random.default_rng(0).random((n, 3))
    for number, unit in enumerate(units):
        history.open(proposal(*unit))
        history.record(number, 0, score(number))
        history.record(number, 1, score(number + 1))
    known = history.known()
    np.testing.assert_array_equal(known.units, units)
    np.testing.assert_array_equal(known.scores, np.arange(n) + 0.5)
    assert len(known.tried) == len(history) == history.n_closed_in_row == n


def test_a_record_survives_storage():
    history = filled([[1, 2], [3, None]])
    twin = pickle.loads(pickle.dumps(history))
    twin.record(1, 1, score(4))
    np.testing.assert_array_equal(twin.known().scores, [1.5, 3.5])
    np.testing.assert_array_equal(history.known().scores, [1.5])


@pytest.mark.parametrize(("kind", "name"), [(Proposal, "note"), (Score, "test"), (Known, "note")])
def test_what_was_recorded_cannot_be_rebound(kind, name):
    instances = {
        Proposal: proposal(0.1),
        Score: score(1.0),
        Known: filled([[1.0]]).known(),
    }
    with pytest.raises(AttributeError, match="cannot assign to field"):
        setattr(instances[kind], name, None)
