"""The additive model of fold scores, against truths known beforehand and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from tunein._math.folds import FoldModel

EFFECTS = np.array([0.3, -0.1, -0.4, 0.2, 0.0])


def additive(n, noise, seed=0, levels=None):
    rng = np.random.default_rng(seed)
    levels = rng.normal(size=n) if levels is None else levels
    return levels[:, None] + EFFECTS + noise * rng.normal(size=(n, len(EFFECTS)))


def test_effects_are_exact_without_noise():
    model = FoldModel.of(additive(4, 0.0))
    np.testing.assert_allclose(model.effects, EFFECTS, atol=1e-12)
    assert model.noise == pytest.approx(0, abs=1e-12)
    assert model.dof == 3 * 4


def test_what_was_not_run_is_completed_exactly_without_noise():
    s = additive(6, 0.0)
    run = np.ones_like(s, dtype=bool)
    run[4, 1:] = run[5, [0, 2]] = False
    seen = np.where(run, s, np.nan)
    np.testing.assert_allclose(FoldModel.of(s[:4]).complete(seen, run), s, atol=1e-12)


def test_a_failure_among_the_folds_run_leaves_nothing_to_expect():
    s = additive(3, 0.1)
    run = np.ones_like(s, dtype=bool)
    run[2, 2:] = False
    s[2, 0] = np.nan
    completed = FoldModel.of(s[:2]).complete(s, run)
    assert np.isnan(completed[2, 2:]).all()
    np.testing.assert_array_equal(completed[:2], s[:2])


def test_noise_is_found():
    found = [FoldModel.of(additive(40, 0.2, seed)).noise for seed in range(50)]
    assert np.mean(found) == pytest.approx(0.2, rel=0.1)


def test_candidates_that_diverged_do_not_blur_it():
    s = additive(30, 0.1)
    wild = np.random.default_rng(1).normal(scale=1e6, size=(10, 5))
    model = FoldModel.of(np.concatenate([s, wild]))
    np.testing.assert_allclose(model.effects, EFFECTS, atol=0.15)
    assert model.noise < 0.3


def test_too_little_tells_nothing():
    one = additive(1, 0.1)
    run = np.array([True, False, False, False, False])
    for model in (FoldModel.of(one), FoldModel.of(one[:0])):
        assert model.dof == 0
        assert model.chance_to_beat(one[0], one[0] - 100, run) == 1.0


def test_the_chance_is_that_of_the_t_distribution():
    s = additive(10, 0.3)
    model = FoldModel.of(s)
    own = s[0] - 0.2
    run = np.array([True, True, False, False, False])
    error = model.noise * np.sqrt(2 * 3 / (5 * 2))
    expected = student.cdf(-0.2 / error, model.dof)
    assert model.chance_to_beat(s[0], own, run) == pytest.approx(expected, rel=1e-9)


def test_the_chance_comes_true():
    """Of candidates whose chance was said to be p, about p are better in the end."""
    rng = np.random.default_rng(0)
    model = FoldModel.of(additive(200, 0.3))
    said, came = [], []
    for _ in range(4000):
        rival, own = additive(2, 0.3, rng.integers(2**31), levels=rng.normal(0, 5, size=2) * 0.1)
        run = np.arange(5) < rng.integers(1, 5)
        said.append(model.chance_to_beat(rival, own, run))
        came.append(own.mean() > rival.mean())
    said, came = np.array(said), np.array(came)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        here = (said >= low) & (said <= low + 0.2)
        # Levels were drawn around each other, which the flat prior does not know: no more than
        # that is expected of the agreement.
        assert abs(said[here].mean() - came[here].mean()) < 0.1, low


def test_without_noise_who_is_level_may_go_on():
    s = additive(5, 0.0)
    model = FoldModel.of(np.round(s, 6))
    run = np.arange(5) < 2
    exact = FoldModel(model.effects, 0.0, model.dof)
    assert exact.chance_to_beat(s[0], s[0], run) == 1.0
    assert exact.chance_to_beat(s[0], s[0] - 1e-9, run) == 0.0


def test_of_many_candidates_the_best_tell():
    good, bad = additive(300, 0.1, levels=np.ones(300)), additive(5000, 9.0, 1, np.zeros(5000))
    assert FoldModel.of(np.concatenate([bad, good])).dof == 199 * 4
