"""Parameters to points of the cube and back."""

from __future__ import annotations

import collections
import pickle

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ParameterSampler
from sklearn.svm import SVC
from toys import label

from tunein import Categorical, Integer, Real
from tunein._dimensions import Interval, Levels
from tunein._space import Space

BRANCHES = [
    {"kernel": ["linear"], "C": Real(1e-3, 1e3, log=True)},
    {"kernel": ["rbf"], "C": Real(1e-3, 1e3, log=True), "gamma": [0.1, 1.0]},
    {"kernel": ["poly"], "degree": Integer(2, 4)},
]


def rng(seed=0):
    return np.random.default_rng(seed)


def points_of(space, n=None):
    return space.untried(rng(), int(space.size) if n is None else n, set())


def drawn(space, n=200, seed=0):
    return [space.decode(unit) for unit in space.sample(rng(seed), n)]


# --------------------------------------------------------------------- shape


def test_an_empty_space_is_one_point():
    for space in (Space.parse({}), Space.parse([{}])):
        assert space.size == 1
        assert space.sample(rng(), 3).shape == (3, 0)
        assert drawn(space, 2) == [{}, {}]
        assert space.features(space.sample(rng(), 3)).shape == (3, 0)
        (unit, params) = next(iter(space.encode({})))
        assert unit.shape == (0,)
        assert params == {}


def test_parameters_come_in_alphabetic_order_whatever_the_order_of_writing():
    one = Space.parse({"b": [1, 2], "a": ["x", "y"], "c": Real(0, 1)})
    two = Space.parse({"c": Real(0, 1), "a": ["x", "y"], "b": [1, 2]})
    assert one.names == ["a", "b", "c"]
    assert [list(params) for params in drawn(one, 3)] == [["a", "b", "c"]] * 3
    assert drawn(one) == drawn(two)


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({"a": [1, 2, 3], "b": ["x", "y"]}, 6),
        ({"a": [1, 1, 1]}, 3),
        ({"a": Integer(1, 10), "b": [True, False]}, 20),
        ({"a": Integer(0, 10**9)}, 10**9 + 1),
        ({"a": stats.randint(0, 7), "b": stats.bernoulli(0.5)}, 14),
        ({"a": stats.uniform(), "b": [1, 2]}, np.inf),
        ({"a": stats.poisson(3)}, np.inf),
        ([{"a": [1, 2]}, {"b": [1, 2, 3]}, {}], 6),
        ([{"a": [1, 2]}, {"a": [1, 2]}], 4),
        ([{"a": [1, 2]}, {"b": stats.norm()}], np.inf),
        ({f"x{i:02}": [0, 1] for i in range(20)}, 2**20),
        ({f"x{i:02}": Integer(0, 10**20) for i in range(20)}, np.inf),
    ],
)
def test_a_space_counts_its_points(given, size):
    assert Space.parse(given).size == size


def test_a_space_says_how_large_it_is():
    branches = Space.parse([{"a": [1, 2]}, {"a": [3], "b": [4, 5]}])
    assert repr(branches) == "Space(n_parameters=2, size=4)"
    assert repr(Space.parse({"a": stats.uniform()})) == "Space(n_parameters=1, size=inf)"


def test_a_space_can_be_stored():
    space = Space.parse(BRANCHES)
    points_of(space, 5)
    twin = pickle.loads(pickle.dumps(space))
    assert drawn(twin) == drawn(space)
    finite = Space.parse({"a": [1, 2], "b": list("abc")})
    n_bytes = len(pickle.dumps(finite))
    points_of(finite)
    assert len(pickle.dumps(finite)) == n_bytes


# --------------------------------------------------------------------- branches


def test_a_list_of_one_dict_is_that_dict():
    assert Space.parse([{"a": [1, 2]}]).names == ["a"]


def test_a_point_has_the_parameters_of_its_branch_only():
    space = Space.parse(BRANCHES)
    names = collections.Counter(tuple(params) for params in drawn(space))
    assert set(names) == {("C", "kernel"), ("C", "gamma", "kernel"), ("degree", "kernel")}
    for unit in space.sample(rng(), 50):
        assert list(space.names[1:]).count("C") == 1
        present = sorted(n for n, u in zip(space.names, unit, strict=True) if n and not np.isnan(u))
        assert present == list(space.decode(unit))


def test_branches_share_a_coordinate_where_they_mean_the_same():
    space = Space.parse(BRANCHES)
    assert space.names.count("C") == 1
    assert space.names.count("kernel") == 3
    same = [{"a": stats.norm(0, 1), "b": [1, 2]}, {"a": stats.norm(0, 1), "b": [2, 1]}]
    assert Space.parse(same).names == [None, "a", "b"]
    other = [{"a": stats.norm(0, 1), "b": [1, 2]}, {"a": stats.norm(0, 2), "b": ["x"]}]
    assert Space.parse(other).names == [None, "a", "b", "a", "b"]


def test_branches_keep_each_its_own_distribution():
    low, high = (
        stats.rv_histogram(np.histogram(np.array([1, 2, 2, 3]) * scale, bins=3))()
        for scale in (1, 100)
    )
    values = [params["a"] for params in drawn(Space.parse([{"a": low}, {"a": high}]))]
    assert min(values) < 3
    assert max(values) > 100


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([{"a": [1]}, {"b": [1, 2, 3]}], [0.25, 0.75]),
        (
            [{"a": [1]}, {"b": list(range(10)), "c": list(range(10))}, {}],
            [1 / 102, 100 / 102, 1 / 102],
        ),
        ([{"a": stats.norm()}, {"b": [1, 2, 3]}], [0.5, 0.5]),
        ([{"a": stats.randint(0, 99)}, {"b": [1, 2, 3]}], [0.5, 0.5]),
        ([{"a": stats.norm()}, {"b": [1]}, {"b": [2]}], [1 / 3] * 3),
    ],
)
def test_branches_are_as_likely_as_in_random_search(given, expected):
    n = 2000
    branch = Space.parse(given).forks[0].level(rng().random(n))
    counts = np.bincount(branch, minlength=len(given))
    assert stats.chisquare(counts, np.array(expected) * n).pvalue > 0.01
    if any(hasattr(value, "rvs") for one in given for value in one.values()):
        theirs = list(ParameterSampler(given, 300, random_state=0))
        shares = [sum(set(p) == set(one) for p in theirs) / 300 for one in given]
        if len({frozenset(one) for one in given}) == len(given):
            assert np.abs(np.array(shares) - expected).max() < 0.1


def test_a_branch_that_is_unlikely_beyond_rounding_is_itself():
    many = {f"x{i:02}": list(range(10)) for i in range(17)}
    space = Space.parse([many, {"a": [1, 2]}, {"b": ["x"]}, many])
    for params in ({"a": 2}, {"b": "x"}):
        found = [own for _, own in space.encode(params)]
        assert found == [params]


def test_wide_branches_beside_narrow_ones():
    space = Space.parse([{"a": Integer(0, 10**6)}, {"b": [1]}])
    assert any(unit is not None for unit, _ in space.encode({"b": 1}))
    assert [own for _, own in space.encode({"b": 1})] == [{"b": 1}]


# --------------------------------------------------------------------- back and forth


def test_a_point_is_found_by_its_parameters():
    for given in (BRANCHES, {"a": stats.norm(), "b": stats.poisson(3), "c": list("abc")}):
        space = Space.parse(given)
        for unit in space.sample(rng(), 50):
            params = space.decode(unit)
            ((again, own),) = space.encode(params)
            np.testing.assert_allclose(again, unit, atol=1e-9)
            assert own == params


def test_parameters_that_stand_twice_are_two_points():
    space = Space.parse({"a": [1, 2, 1], "b": ["x", "x"]})
    found = list(space.encode({"a": 1, "b": "x"}))
    assert [own for _, own in found] == [{"a": 1, "b": "x"}] * 4
    assert len({Space.key(unit) for unit, _ in found}) == 4
    twice = Space.parse([{"a": [1, 2]}, {"a": [1, 2]}])
    assert len({Space.key(unit) for unit, _ in twice.encode({"a": 1})}) == 2


def test_continuous_values_are_kept_as_given_and_choices_become_the_users_own():
    logistic = LogisticRegression(C=3)
    space = Space.parse({"a": Real(1e-3, 1e3, log=True), "b": [logistic, SVC()], "c": [1, 2]})
    ((_, own),) = space.encode({"a": 0.1 + 0.2, "b": LogisticRegression(C=3), "c": np.int64(2)})
    assert own["a"] == 0.1 + 0.2
    assert own["b"] is logistic
    assert type(own["c"]) is int


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"C": 1.0}, r"has the parameters \['C'\]; the search space has \['C', 'kernel'\] or \["),
        ({}, r"has the parameters \[\]"),
        ({"C": 1.0, "kernel": "rbf"}, r"is outside the search space\.|outside .* in \['kernel'\]"),
        ({"C": 1e9, "kernel": "linear"}, r"^is outside the search space in \['C'\]\."),
        ({"degree": 2.0, "kernel": "poly"}, r"^is outside the search space in \['degree'\]\."),
        ({"degree": "2", "kernel": 3}, r"^is outside the search space in \['degree', 'kernel'\]\."),
    ],
)
def test_absence_is_explained(params, match):
    space = Space.parse(BRANCHES)
    assert list(space.encode(params)) == []
    with pytest.raises(ValueError, match=match):
        raise ValueError(space.explain_absence(params))


def test_finding_parameters_among_many_equal_ones_takes_no_search():
    space = Space.parse({f"x{i:02}": [0, 0, 0, 0] for i in range(20)})
    unit, _ = next(iter(space.encode({f"x{i:02}": 0 for i in range(20)})))
    assert unit.shape == (20,)


# --------------------------------------------------------------------- snapping


def test_a_snapped_point_stays_where_it_is():
    for given in (BRANCHES, {"a": stats.norm(), "b": Integer(1, 99, log=True), "c": [1, 5, 2]}):
        space = Space.parse(given)
        once = space.snap(rng().random((100, len(space.dimensions))))
        np.testing.assert_array_equal(space.snap(once), once)


def test_corners_of_the_cube_are_points():
    space = Space.parse({"a": stats.norm(), "b": Integer(1, 9), "c": list("xyz"), "d": Real(0, 1)})
    low, high = (space.decode(u) for u in space.snap(np.array([[0.0] * 4, [1.0] * 4])))
    assert low == {"a": pytest.approx(-3.09, abs=1e-2), "b": 1, "c": "x", "d": 0.0}
    assert high == {"a": pytest.approx(3.09, abs=1e-2), "b": 9, "c": "z", "d": 1.0}


def test_a_coordinate_that_another_branch_lacks_enters_in_the_middle():
    space = Space.parse([{"a": ["x"]}, {"b": Real(0, 10)}])
    (one,) = space.snap(np.array([[0.1, np.nan, np.nan]]))
    moved = one.copy()
    moved[0] = 0.9
    assert space.decode(space.snap(moved[None])[0]) == {"b": 5.0}


def test_snapping_leaves_its_argument_alone():
    space = Space.parse(BRANCHES)
    units = rng().random((20, len(space.dimensions)))
    before = units.copy()
    space.snap(units)
    space.features(space.snap(units))
    np.testing.assert_array_equal(units, before)


def test_features_lie_in_the_cube_and_lack_what_the_point_lacks():
    given = [
        {"a": Categorical([1, 2, 3, -1], ordered=True), "b": [0.001, 0.1, 10]},
        {"c": stats.poisson(3), "d": stats.norm()},
    ]
    space = Space.parse(given)
    units = space.sample(rng(), 100)
    features = space.features(units)
    np.testing.assert_array_equal(np.isnan(features), np.isnan(units))
    assert np.nanmin(features) >= 0
    assert np.nanmax(features) <= 1


# --------------------------------------------------------------------- untried points

FINITE = [
    {"a": [1, 2, 3], "b": ["x", "y"]},
    {"a": [1, 1, 2], "b": [None]},
    {"a": Integer(1, 9, log=True), "b": Integer(0, 9, step=3)},
    {"a": stats.binom(6, 0.4), "b": stats.randint(0, 3)},
    [{"a": [1, 2]}, {"b": list("abc"), "a": [1, 2]}, {}],
    [{"a": [1]}, {"a": [1]}],
    {},
]


@pytest.mark.parametrize("given", FINITE, ids=label)
def test_every_point_of_a_finite_space_is_visited_once(given):
    space = Space.parse(given)
    tried = set()
    for i in range(int(space.size)):
        (unit,) = space.untried(rng(i), 1, tried)
        assert Space.key(unit) not in tried
        np.testing.assert_array_equal(space.snap(unit[None])[0], unit)
        tried.add(Space.key(unit))
    assert len(space.untried(rng(), 1, tried)) == 0
    assert {Space.key(unit) for unit in points_of(space)} == tried


def test_an_untried_point_of_a_small_space_is_as_likely_as_any_other():
    space = Space.parse({"a": list("abcd")})
    tried = {Space.key(unit) for unit, _ in space.encode({"a": "b"})}
    found = collections.Counter(
        space.decode(space.untried(rng(i), 1, tried)[0])["a"] for i in range(600)
    )
    assert set(found) == set("acd")
    assert stats.chisquare(list(found.values())).pvalue > 0.01


@pytest.mark.parametrize("size", [4096, 4097, 20_000])
def test_the_last_point_of_a_larger_space_is_found(size):
    space = Space.parse({"a": Integer(1, size)})
    points = space.dimensions[0].points(np.arange(size))
    tried = {Space.key(point) for point in points[:, None]} - {Space.key(points[7:8])}
    assert [space.decode(unit) for unit in space.untried(rng(), 1, tried)] == [{"a": 8}]
    assert [space.decode(unit) for unit in space.untried(rng(), 24, tried)] == [{"a": 8}]


@pytest.mark.parametrize("size", [50, 5000])
def test_in_an_exhausted_space_nothing_is_untried(size):
    space = Space.parse({"a": Integer(1, size)})
    tried = {Space.key(point) for point in space.dimensions[0].points(np.arange(size))[:, None]}
    assert len(space.untried(rng(), 3, tried)) == 0


def test_unlikely_points_of_a_larger_space_are_found():
    given = {"a": stats.binom(12, 0.02), "b": Integer(1, 1000)}
    space = Space.parse(given)
    grid = [d.points(np.arange(int(d.n_levels))) for d in space.dimensions]
    points = np.stack(np.meshgrid(*grid), axis=-1).reshape(-1, 2)
    assert len(points) == space.size
    last = next(space.encode({"a": 5, "b": 500}))[0]
    tried = {Space.key(point) for point in points} - {Space.key(last)}
    assert [space.decode(unit) for unit in space.untried(rng(), 1, tried)] == [{"a": 5, "b": 500}]


def test_untried_points_of_an_endless_space_are_new():
    space = Space.parse({"a": stats.poisson(3), "b": Real(0, 1)})
    units = space.untried(rng(), 50, set())
    tried = {Space.key(unit) for unit in units}
    assert len(tried) == 50
    assert not tried & {Space.key(unit) for unit in space.untried(rng(), 50, tried)}


def test_a_space_that_only_seems_endless_repeats_itself():
    space = Space.parse({"a": stats.poisson(0.001)})
    tried = {Space.key(unit) for unit in space.sample(rng(), 100)}
    (unit,) = space.untried(rng(), 1, tried)
    assert space.decode(unit)["a"] >= 0


def test_asking_for_untried_points_changes_neither_space_nor_tried():
    space = Space.parse({"a": [1, 2, 3]})
    tried = {Space.key(points_of(space)[0])}
    before = set(tried)
    one = space.untried(rng(1), 2, tried)
    np.testing.assert_array_equal(one, space.untried(rng(1), 2, frozenset(tried)))
    assert tried == before


def test_dimensions_can_be_handed_in_as_they_are():
    space = Space.parse({"a": Interval(0, 1), "b": Levels(list("ab"), weights=[1, 9])})
    assert collections.Counter(p["b"] for p in drawn(space)).most_common(1)[0][0] == "b"


# --------------------------------------------------------------------- one branch
