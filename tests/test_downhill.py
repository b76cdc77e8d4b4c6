"""Steps downhill: to the minimum, over edges and plateaus, and no further."""

from __future__ import annotations

import numpy as np
import pytest

from tunein._math.downhill import has_one_valley, line_step, off_plateau, region_step
from tunein._math.slopes import SlopedGaussianProcess

TOL = 1e-4


def descend_line(loss, start, *, flat=None, most=30):
    """Return the places tried until nothing is promised any more."""
    x = [start]
    while len(x) < most:
        points = np.array(x)[:, None]
        z, g = np.array([loss(one) for one in x]), np.array([slope(loss, one) for one in x])
        flats = np.array([np.nan if flat is None else flat(one) for one in x])
        step = line_step(
            points, z, np.where(np.isnan(flats), g, 0.0)[:, None], flats[:, None], 0, TOL
        )
        if step.promise <= TOL:
            return x
        x.append(float(step.x[0]))
    raise AssertionError(x)


def slope(loss, x, h=1e-7):
    return (loss(min(x + h, 1)) - loss(max(x - h, 0))) / (min(x + h, 1) - max(x - h, 0))


LINES = {
    "bowl": lambda x: (x - 0.37) ** 2,
    "steep and flat": lambda x: np.log(1e-3 + np.exp(20 * (x - 0.7)) + np.exp(-3 * x)),
    "sigmoid": lambda x: -np.tanh(8 * (x - 0.3)),
    "kinked": lambda x: abs(x - 0.62) + 0.3 * x,
    "at the low end": lambda x: x**2 + x,
    "at the high end": lambda x: -np.sqrt(0.1 + x),
}


@pytest.mark.parametrize("start", [0.02, 0.2, 0.5, 0.8, 0.98])
@pytest.mark.parametrize("name", LINES)
def test_a_valley_is_found_from_everywhere(name, start):
    loss = LINES[name]
    tried = descend_line(loss, start)
    least = min(loss(x) for x in np.linspace(0, 1, 10_001))
    assert min(loss(x) for x in tried) < least + 1e-3
    assert len(tried) <= 16
    assert all(0 <= x <= 1 for x in tried)


def test_a_smooth_valley_needs_a_handful():
    counts = [len(descend_line(LINES["bowl"], start)) for start in (0.02, 0.2, 0.5, 0.8, 0.98)]
    assert max(counts) <= 6


@pytest.mark.parametrize("start", [0.61, 0.8, 1.0])
def test_a_plateau_is_left_on_its_known_side(start):
    def loss(x):  # constant from 0.6 on
        return (min(x, 0.6) - 0.3) ** 2

    tried = descend_line(loss, start, flat=lambda x: 0.6 if x > 0.6 else np.nan)
    assert min(map(loss, tried)) < 1e-3
    assert all(x <= 0.6 for x in tried[1:])


def test_a_start_without_a_slope_is_no_end():
    tried = descend_line(lambda x: min(abs(x - 0.5), 0.2) - x / 10, 0.5)
    assert len(tried) > 1


def test_half_of_the_line_is_looked_at():
    for start in (0.0, 0.3, 0.5, 1.0):
        tried = descend_line(lambda x, start=start: (x - start) ** 2, start)
        assert max(tried) - min(tried) >= 0.5


def test_valleys_are_counted():
    x = np.array([0.9, 0.1, 0.5])
    assert has_one_valley(x, np.array([1.0, -1.0, 0.0]))
    assert has_one_valley(x, np.array([1.0, 1.0, 1.0]))
    assert not has_one_valley(x, np.array([-1.0, -1.0, 1.0]))


def valley(x):
    a, b = 4 * x[..., 0] - 2, 4 * x[..., 1] - 1
    return np.log(0.1 + (1 - a) ** 2 + 5 * (b - a**2) ** 2)


def valley_slope(x, h=1e-6):
    return np.stack([(valley(x + h * e) - valley(x - h * e)) / (2 * h) for e in np.eye(2)], axis=-1)


@pytest.mark.parametrize("start", [(0.5, 0.5), (0.2, 0.8), (0.1, 0.1), (0.9, 0.2)])
def test_a_bent_valley_is_followed_within_the_region(start):
    x, note = np.array([start]), None
    rng = np.random.default_rng(0)
    while len(x) < 40:
        z = valley(x)
        gp = SlopedGaussianProcess(x, -z, -valley_slope(x), ["continuous"] * 2, [np.inf] * 2)
        step = region_step(gp, x, z, valley_slope(x), note, rng)
        centre = x[z.argmin()]
        assert np.abs(step.x - centre).max() <= step.note["step"]["radius"] + 1e-9
        if step.promise <= TOL:
            break
        x, note = np.concatenate([x, step.x[None]]), step.note
    assert valley(x).min() < np.log(0.1) + 0.02
    assert len(x) <= 35


@pytest.mark.parametrize(("start", "most"), [(0.65, 5), (0.95, 5), (0.02, 7)])
def test_beyond_a_plateau_no_step_creeps(start, most):
    """It is steep right beyond the edge, and far from it a plain."""

    def loss(x):
        return -2 * np.exp(-(((min(x, 0.6) - 0.4) / 0.1) ** 2)) - 0.1 * min(x, 0.6)

    tried = descend_line(loss, start, flat=lambda x: 0.6 if x > 0.6 else np.nan)
    assert min(map(loss, tried)) < loss(0.4) + 0.02
    assert len(tried) <= most


@pytest.mark.parametrize("start", [0.1, 0.5, 0.9])
def test_a_plateau_that_is_the_best_is_an_end(start):
    tried = descend_line(
        lambda x: -min(x, 0.63), start, flat=lambda x: 0.63 if x > 0.63 else np.nan
    )
    assert max(tried) >= 0.6
    assert len(tried) <= 6


def test_a_valley_seen_from_both_sides_is_not_looked_around():
    def loss(x):
        return 5 * (x - 0.55) ** 2

    tried = descend_line(loss, 0.45)
    assert min(map(loss, tried)) < 1e-3
    assert max(tried) - min(tried) < 0.5


def test_a_step_is_twice_the_last_one_where_the_slope_has_hardly_changed():
    x = np.array([[0.1, 0.5], [0.15, 0.5]])
    z, slopes = -x[:, 0], np.array([[-1.0, 0.0], [-0.9, 0.0]])
    kinds, levels, rng = ["continuous"] * 2, [np.inf] * 2, np.random.default_rng(0)

    def step(slopes):
        told = np.array([[-1.0, 0.0], [-0.1, 0.0]])  # that it levels off: a short step
        gp = SlopedGaussianProcess(x, -z, -told, kinds, levels)
        return region_step(gp, x, z, slopes, {"step": {"radius": 0.3}, "n": 2}, rng).x

    assert step(slopes)[0] >= 0.15 + 0.1 - 1e-9
    assert step(np.array([[-1.0, 0.0], [-0.1, 0.0]]))[0] < 0.25


def test_a_plateau_is_left_beyond_its_edge():
    nan = np.nan
    np.testing.assert_allclose(
        off_plateau(np.array([0.8, 0.5]), np.array([0.6, nan])), [0.35, 0.5], rtol=1e-12
    )
    np.testing.assert_allclose(off_plateau(np.array([0.0]), np.array([0.7])), [0.85], rtol=1e-12)
    # The valley was stepped over: next time half as far.
    for n_before, place in ((1, 0.475), (2, 0.5375)):
        found = off_plateau(np.array([0.8]), np.array([0.6]), n_before)
        np.testing.assert_allclose(found, [place], rtol=1e-12)
