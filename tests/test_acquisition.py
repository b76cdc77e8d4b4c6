"""Log expected improvement and its maximiser; the exact values are in test_reductions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunein import Categorical, Integer, Real
from tunein._math import acquisition, gp
from tunein._space import Space


def rng(seed=0):
    return np.random.default_rng(seed)


def model_of(space, n, objective, seed=0, noise=1e-4):
    """Return a Gaussian process of n points, the best of them, and its incumbent."""
    units = space.sample(rng(seed), n)
    y = np.array([objective(space.decode(unit)) for unit in units], dtype=float)
    y = (y - y.mean()) / (y.std() or 1)
    levels = [dimension.n_levels for dimension in space.dimensions]
    n_free = sum(n > 1 for n in levels)
    theta = np.append(np.full(n_free, np.log(0.5)), [0.0, np.log(noise)])
    x = space.features(units)
    model = gp.GaussianProcess(x, y, theta, space.kinds, levels)
    incumbent = float(model.predict(x)[0].max())
    return model, incumbent, units[np.argsort(-y, kind="stable")[:5]], units


def log_ei_of(model, incumbent):
    return acquisition.LogEI(model, np.array([incumbent]))


def value_of(model, space, incumbent, point):
    return acquisition.log_ei(*model.predict(space.features(point[None])), incumbent)[0]


# --------------------------------------------------------------------- the value


def test_log_h_has_no_steps_where_its_formulas_meet():
    for border in (-1.0, -70.0, -1e5):
        below, above = acquisition.log_h(
            np.array([np.nextafter(border, -np.inf), border * (1 - 1e-15)])
        )
        assert below == pytest.approx(above, rel=1e-12)


def test_log_h_at_known_places():
    u = np.array([0.0, 50.0, 1e10])
    truth = [np.log(stats.norm.pdf(0)), np.log(50.0), np.log(1e10)]
    np.testing.assert_allclose(acquisition.log_h(u), truth, rtol=1e-12)
    assert acquisition.log_h(np.empty(0)).shape == (0,)
    assert acquisition.log_h(np.zeros((2, 3))).shape == (2, 3)
    assert acquisition.log_h(np.float64(0.0)).shape == ()


def test_improvement_rises_with_the_mean_and_with_the_uncertainty():
    means = np.linspace(-5, 5, 101)
    assert (np.diff(acquisition.log_ei(means, np.full(101, 0.3), 0.7)) > 0).all()
    sds = np.logspace(-6, 3, 101)
    for mean in (-1.0, 0.0, 0.5):
        assert (np.diff(acquisition.log_ei(np.full(101, mean), sds, 0.7)) > 0).all()


def test_improvement_has_a_slope_where_it_rounds_to_zero():
    values = acquisition.log_ei(np.array([-50.0, -40.0, -30.0]), np.full(3, 0.1), 0.0)
    assert (np.exp(values) == 0).all()
    assert (np.diff(values) > 1).all()


def test_without_doubt_improvement_is_the_difference():
    assert np.exp(acquisition.log_ei(np.array([3.0]), np.array([1e-9]), 1.0)) == pytest.approx([2])


def test_improvement_scales_with_the_scores():
    mean, sd = np.array([-0.3, 0.2]), np.array([0.1, 0.7])
    one = acquisition.log_ei(mean, sd, 0.4)
    for scale in (1e-150, 1e-9, 1e9, 1e150):
        moved = acquisition.log_ei(mean * scale, sd * scale, 0.4 * scale)
        np.testing.assert_allclose(moved, one + np.log(scale), rtol=1e-9)


# --------------------------------------------------------------------- the maximiser

SPACES = {
    "reals": {"a": Real(0, 1), "b": Real(1e-3, 1e3, log=True)},
    "integers": {"a": Integer(0, 20), "b": Integer(1, 1000, log=True)},
    "categories": {"a": list("abcdefgh"), "b": [True, False], "c": list("uvw")},
    "ordered": {"a": [1, 2, 5, 10], "b": Categorical(["l", "m", "h"], ordered=True)},
    "mixed": {"a": Real(0, 1), "b": Integer(1, 9), "c": list("xyz"), "d": stats.norm()},
    "branches": [
        {"k": ["p"], "a": Real(0, 1)},
        {"k": ["q"], "a": Real(0, 1), "b": [1, 2, 3]},
        {"c": list("xy")},
    ],
    "one real": {"a": stats.expon()},
    "one category": {"a": list("abcdefgh")},
}


def anything_goes(params):
    return sum(hash_of(value) for value in params.values())


def hash_of(value):
    return float(value) % 1 if isinstance(value, float) else len(repr(value)) % 3


@pytest.mark.parametrize("kind", SPACES)
def test_the_maximiser_returns_a_new_point_no_worse_than_any_of_many(kind):
    space = Space.parse(SPACES[kind])
    model, incumbent, best, units = model_of(space, 9, anything_goes)
    tried = {Space.key(unit) for unit in units}
    found = acquisition.maximise(log_ei_of(model, incumbent), space, best, tried, rng())
    assert found.shape == (len(space.dimensions),)
    assert Space.key(found) not in tried
    np.testing.assert_array_equal(space.snap(found[None])[0], found)
    others = [p for p in space.sample(rng(7), 300) if Space.key(p) not in tried]
    at_random = max(value_of(model, space, incumbent, point) for point in others)
    assert value_of(model, space, incumbent, found) >= at_random - 1e-3


@pytest.mark.parametrize("kind", ["categories", "integers", "ordered"])
def test_in_a_small_space_the_maximum_is_found(kind):
    space = Space.parse(SPACES[kind] if kind != "integers" else {"a": Integer(0, 30)})
    model, incumbent, best, units = model_of(space, 6, anything_goes)
    tried = {Space.key(unit) for unit in units}
    found = acquisition.maximise(log_ei_of(model, incumbent), space, best, tried, rng())
    rest = space.untried(rng(), int(space.size), tried)
    truth = max(value_of(model, space, incumbent, point) for point in rest)
    assert value_of(model, space, incumbent, found) == pytest.approx(truth, abs=1e-9)


def test_a_steep_narrow_maximum_is_climbed():
    space = Space.parse({f"x{i}": Real(0, 1) for i in range(5)})
    model, incumbent, best, units = model_of(
        space, 40, lambda params: -sum((value - 0.3) ** 2 for value in params.values())
    )
    tried = {Space.key(unit) for unit in units}
    found = acquisition.maximise(log_ei_of(model, incumbent), space, best, tried, rng())
    scan = space.sample(rng(5), 5000)
    values = acquisition.log_ei(*model.predict(scan), incumbent)
    assert value_of(model, space, incumbent, found) > values.max()


@pytest.mark.parametrize("kind", SPACES)
def test_the_maximiser_is_a_function_of_its_arguments(kind):
    space = Space.parse(SPACES[kind])
    model, incumbent, best, units = model_of(space, 7, anything_goes)
    tried = {Space.key(unit) for unit in units}
    kept = best.copy(), set(tried), model.x.copy()
    value = log_ei_of(model, incumbent)
    one, two = (acquisition.maximise(value, space, best, tried, rng(3)) for _ in "ab")
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(best, kept[0])
    np.testing.assert_array_equal(model.x, kept[2])
    assert tried == kept[1]


@pytest.mark.parametrize("kind", ["categories", "ordered", "one category"])
def test_the_last_point_of_a_space_is_returned(kind):
    space = Space.parse(SPACES[kind])
    model, incumbent, best, _ = model_of(space, 6, anything_goes)
    points = space.untried(rng(), int(space.size), set())
    for last in points[:3]:
        tried = {Space.key(point) for point in points} - {Space.key(last)}
        found = acquisition.maximise(log_ei_of(model, incumbent), space, best, tried, rng())
        np.testing.assert_array_equal(found, last)


def test_a_space_that_only_seems_endless_is_answered_when_nothing_is_new():
    space = Space.parse({"a": stats.poisson(0.01)})
    model, incumbent, best, _ = model_of(space, 3, lambda params: params["a"])
    n = len(space.dimensions[0])
    tried = {Space.key(p) for p in space.dimensions[0].points(np.arange(n))[:, None]}
    found = acquisition.maximise(log_ei_of(model, incumbent), space, best, tried, rng())
    assert space.decode(found)["a"] >= 0


def test_one_observation_is_enough():
    space = Space.parse(SPACES["mixed"])
    model, incumbent, best, units = model_of(space, 1, anything_goes)
    found = acquisition.maximise(
        log_ei_of(model, incumbent), space, best, {Space.key(units[0])}, rng()
    )
    assert Space.key(found) != Space.key(units[0])


@pytest.mark.parametrize("incumbent", [-1e6, 0.0, 1e6])
def test_any_incumbent_is_answered(incumbent):
    space = Space.parse(SPACES["mixed"])
    model, _, best, units = model_of(space, 9, anything_goes)
    tried = {Space.key(unit) for unit in units}
    found = acquisition.maximise(log_ei_of(model, incumbent), space, best, tried, rng())
    assert np.isfinite(value_of(model, space, incumbent, found))


@pytest.mark.parametrize("kind", SPACES)
def test_a_point_nearby_is_new_and_differs_little_from_the_incumbent(kind):
    space = Space.parse(SPACES[kind])
    model, incumbent, best, units = model_of(space, 9, anything_goes)
    tried = {Space.key(unit) for unit in units}
    found = acquisition.nearby(log_ei_of(model, incumbent), space, best[0], tried, rng())
    assert found.shape == (1, len(space.dimensions))
    assert Space.key(found[0]) not in tried
    np.testing.assert_array_equal(space.snap(found)[0], found[0])
    numeric = np.array(space.kinds) == "continuous"
    assert np.nanmax(np.abs(found[0] - best[0])[numeric], initial=0) < 0.8


def test_of_the_points_nearby_the_most_promising_one_is_returned():
    space = Space.parse({"a": Real(0, 1)})
    model, _, _, _ = model_of(space, 9, lambda params: -((params["a"] - 0.4) ** 2))
    # From either side it is towards the maximum that one goes.
    for at, sign in ((0.2, 1), (0.6, -1)):
        found = acquisition.nearby(log_ei_of(model, 0.5), space, np.array([at]), set(), rng())
        assert 0 < sign * (found[0, 0] - at) < 0.5


def test_the_next_value_is_nearby_where_values_lie_closer_and_closer():
    space = Space.parse({"n": Integer(1, 10_000, log=True)})
    model, _, _, _ = model_of(space, 9, lambda params: -abs(params["n"] - 2))
    one = next(space.encode({"n": 1}))[0]
    found = acquisition.nearby(log_ei_of(model, 0.0), space, one, {Space.key(one)}, rng())
    swept = acquisition._neighbours(space, one[None], rng())[1]
    assert 2 in {space.decode(point)["n"] for point in swept}
    assert space.decode(found[0])["n"] in (2, 3)
    clouds = [
        acquisition.nearby(log_ei_of(model, 0.0), space, one, {Space.key(one)}, rng(seed))
        for seed in range(10)
    ]
    assert 2 in {space.decode(cloud[0])["n"] for cloud in clouds}


def test_nothing_nearby_is_left_of_a_space_that_was_tried_whole():
    space = Space.parse(SPACES["ordered"])
    model, incumbent, best, _ = model_of(space, 6, anything_goes)
    tried = {Space.key(point) for point in space.untried(rng(), int(space.size), set())}
    found = acquisition.nearby(log_ei_of(model, incumbent), space, best[0], tried, rng())
    assert found.shape == (0, len(space.dimensions))


def test_the_cloud_around_the_best_points_stays_in_the_cube_and_close():
    best = np.array([[0.0, 0.5, 1.0], [0.3, 0.3, 0.3]])
    cloud = acquisition._around(best, ["continuous", "ordinal", "categorical"], rng())
    assert ((cloud >= 0) & (cloud <= 1)).all()
    assert np.mean(cloud[:, 2] == np.repeat(best[:, 2], len(cloud) // 2)) > 0.6
    moved = cloud[:, :2] != np.repeat(best[:, :2], len(cloud) // 2, axis=0)
    assert 0.1 < moved.mean() < 0.9


def test_neighbours_differ_in_one_discrete_coordinate():
    space = Space.parse({"a": Integer(1, 40), "b": list("xyz"), "c": Real(0, 1)})
    point = space.sample(rng(), 1)[0]
    owner, neighbours = acquisition._neighbours(space, point[None], rng())
    assert not owner.any()
    np.testing.assert_array_equal(space.snap(neighbours), neighbours)
    assert ((neighbours != point).sum(axis=1) <= 1).all()
    assert (neighbours[:, 2] == point[2]).all()
    values = {space.decode(p)["a"] for p in neighbours}
    here = space.decode(point)["a"]
    assert {here - 1, here + 1} & set(range(1, 41)) <= values
    assert {space.decode(p)["b"] for p in neighbours} == set("xyz")


def test_a_neighbour_in_another_branch_has_its_parameters():
    space = Space.parse([{"a": ["u", "v"]}, {"b": [1, 2, 3]}])
    point = space.snap(np.array([[0.1, 0.3, np.nan]]))[0]
    found = [space.decode(p) for p in acquisition._neighbours(space, point[None], rng())[1]]
    assert {"a": "v"} in found
    assert any(set(params) == {"b"} for params in found)


def test_where_nothing_is_discrete_there_are_no_neighbours():
    space = Space.parse(SPACES["reals"])
    owner, moves = acquisition._neighbours(space, space.sample(rng(), 3), rng())
    assert owner.shape == (0,)
    assert moves.shape == (0, 2)


def test_neighbours_of_several_points_know_whose_they_are():
    space = Space.parse(SPACES["mixed"])
    points = space.sample(rng(), 4)
    owner, moves = acquisition._neighbours(space, points, rng())
    assert set(owner) == set(range(4))
    assert ((moves != points[owner]).sum(axis=1) <= 1).all()


def test_a_space_of_many_switches_is_swept_in_part():
    space = Space.parse({f"s{i:03d}": [True, False] for i in range(500)})
    points = space.sample(rng(), 2)
    owner, moves = acquisition._neighbours(space, points, rng())
    changed = {
        j for i, move in zip(owner, moves, strict=True) for j in np.flatnonzero(move != points[i])
    }
    assert len(changed) == acquisition._N_SWEPT


def test_a_point_never_ends_lower_than_it_began():
    space = Space.parse(SPACES["mixed"])
    model, incumbent, _, _ = model_of(space, 12, anything_goes)
    value = log_ei_of(model, incumbent)
    here = space.sample(rng(3), 6)
    height = value(space.features(here))
    before = height.copy()
    for owner, moves in (
        acquisition._climb(value, space, here, height),
        acquisition._neighbours(space, here, rng()),
    ):
        acquisition._take_better(here, height, owner, moves, value, space, set())
    assert (height >= before).all()
    assert (height > before).any()
    np.testing.assert_allclose(height, value(space.features(here)), rtol=1e-9)


def test_climbs_and_sweeps_take_turns(monkeypatch):
    space = Space.parse(SPACES["mixed"])
    model, incumbent, best, _ = model_of(space, 12, anything_goes)
    value, began = log_ei_of(model, incumbent), []

    def watched(step):
        def taken(*arguments):
            points = next(a for a in arguments if isinstance(a, np.ndarray))
            began.append(value(space.features(points)))
            return step(*arguments)

        return taken

    for name in ("_climb", "_neighbours"):
        monkeypatch.setattr(acquisition, name, watched(getattr(acquisition, name)))
    found = acquisition.maximise(value, space, best, set(), rng())
    # The sweep starts where the climb has ended, and the best of both goes on alone.
    assert [len(heights) for heights in began] == [5, 5, 1, 1]
    assert (began[1] >= began[0]).all()
    assert (began[1] > began[0] + 1e-3).any()
    assert began[2][0] >= began[1].max()
    assert value(space.features(found[None]))[0] >= began[3][0] >= began[2][0]


def test_several_sets_of_hyperparameters_are_averaged():
    space = Space.parse(SPACES["mixed"])
    model, _, _, units = model_of(space, 12, anything_goes)
    levels = [dimension.n_levels for dimension in space.dimensions]
    x, y = space.features(units), np.sin(np.arange(12.0))
    thetas = model.theta + np.array([[0.0], [0.4], [-0.6]])
    together = gp.GaussianProcess(x, y, thetas, space.kinds, levels)
    alone = [gp.GaussianProcess(x, y, theta, space.kinds, levels) for theta in thetas]
    incumbents = np.array([0.9, 1.0, 1.1])
    new = space.features(space.sample(rng(5), 20))
    each = [
        np.exp(acquisition.log_ei(*one.predict(new), incumbent))
        for one, incumbent in zip(alone, incumbents, strict=True)
    ]
    value = acquisition.LogEI(together, incumbents)
    np.testing.assert_allclose(value(new), np.log(np.mean(each, axis=0)), rtol=1e-9)


def test_a_rough_acquisition_goes_by_the_likeliest_hyperparameters():
    space = Space.parse(SPACES["mixed"])
    model, _, _, _ = model_of(space, 12, anything_goes)
    thetas = model.theta + np.array([[0.0], [0.4], [-0.6]])
    levels = [dimension.n_levels for dimension in space.dimensions]
    y = np.sin(np.arange(12.0))
    together = gp.GaussianProcess(model.x, y, thetas, space.kinds, levels)
    alone = gp.GaussianProcess(model.x, y, thetas[:1], space.kinds, levels)
    several = acquisition.LogEI(together, np.array([0.9, 1.0, 1.1]))
    one = acquisition.LogEI(alone, np.array([0.9]))
    assert one.rough is one
    new = space.features(space.sample(rng(5), 20))
    assert abs(several(new) - one(new)).max() > 1e-3
    np.testing.assert_allclose(several.rough(new), one(new), rtol=1e-9)
    for outer in (
        lambda inner: acquisition.Feasible(inner, model, 0.1),
        lambda inner: acquisition.PerCost(inner, model, 0.7),
    ):
        np.testing.assert_allclose(outer(several).rough(new), outer(one)(new), rtol=1e-9)
        weighed = outer(one)
        assert weighed.rough is weighed
    for plain in (acquisition.Mean(together), acquisition.UpperBound(together, 1.0)):
        assert plain.rough is plain


def test_the_best_of_many_points_is_judged_by_all_hyperparameters():
    space = Space.parse(SPACES["mixed"])
    model, _, _, _ = model_of(space, 12, anything_goes)
    thetas = model.theta + np.array([[0.0], [0.4], [-0.6]])
    levels = [dimension.n_levels for dimension in space.dimensions]
    together = gp.GaussianProcess(model.x, np.sin(np.arange(12.0)), thetas, space.kinds, levels)
    value = acquisition.LogEI(together, np.array([0.9, 1.0, 1.1]))
    points = space.sample(rng(5), 200)
    judged, values = acquisition._judged(value, space, points)
    assert len(judged) == 40
    np.testing.assert_allclose(values, value(space.features(judged)), rtol=1e-9)
    assert values.max() == pytest.approx(value(space.features(points)).max())
    assert len(acquisition._judged(value, space, points[:1])[0]) == 1
