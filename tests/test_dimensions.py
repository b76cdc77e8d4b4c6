"""One hyperparameter as a coordinate: what users write, and the four kinds of dimension."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ParameterSampler

from tunein import Categorical, Integer, Real
from tunein._dimensions import Interval, Levels, Quantile, Steps, is_number, same_value

SIDE = np.linspace(0, 1, 1001)
INSIDE = (np.arange(500) + 0.5) / 500


def all_values(dimension, u=SIDE):
    return [dimension.decode(float(x)) for x in u]


# --------------------------------------------------------------------- what users write


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (Real(2, 5), float),
        (Real(1e-3, 1e3, log=True), float),
        (Integer(2, 9), int),
        (Integer(1, 100, log=True), int),
        (Integer(1, 100, step=7), int),
    ],
)
def test_draws_of_random_search_lie_in_bounds_and_are_python_numbers(spec, kind):
    drawn = [p["a"] for p in ParameterSampler({"a": spec}, 200, random_state=0)]
    assert {type(value) for value in drawn} == {kind}
    assert spec.low <= min(drawn) <= max(drawn) <= spec.high


def test_draws_of_random_search_are_the_users_objects():
    choices = [LogisticRegression(), None, {"a": 1}, (1, 2), np.arange(3)]
    drawn = [p["a"] for p in ParameterSampler({"a": Categorical(choices)}, 50, random_state=0)]
    assert {id(value) for value in drawn} <= {id(choice) for choice in choices}
    assert len({id(value) for value in drawn}) == len(choices)


@pytest.mark.parametrize(
    "spec", [Real(2, 5), Real(2, 5, log=True), Integer(2, 900), Categorical(range(1000))]
)
def test_the_same_seed_draws_the_same(spec):
    one = [spec.rvs(random_state=np.random.RandomState(3)) for _ in range(3)]
    assert one == [spec.rvs(random_state=np.random.RandomState(3))] * 3
    assert spec.rvs(random_state=3) == spec.rvs(random_state=3)
    assert spec.rvs(random_state=3) != spec.rvs(random_state=4)


def test_draws_follow_the_scale_that_was_asked_for():
    rng = np.random.RandomState(0)
    real = [Real(1e-3, 1e3, log=True).rvs(rng) for _ in range(2000)]
    assert stats.kstest(real, stats.loguniform(1e-3, 1e3).cdf).pvalue > 0.01
    real = [Real(-2, 3).rvs(rng) for _ in range(2000)]
    assert stats.kstest(real, stats.uniform(-2, 5).cdf).pvalue > 0.01
    whole = [Integer(0, 4, step=2).rvs(rng) for _ in range(3000)]
    assert stats.chisquare([whole.count(value) for value in (0, 2, 4)]).pvalue > 0.01


def test_whole_numbers_on_a_log_scale_are_as_likely_as_rounded_reals():
    rng = np.random.RandomState(0)
    drawn = [Integer(3, 40, log=True).rvs(rng) for _ in range(4000)]
    edges = np.log(np.arange(2.5, 41))
    expected = np.diff(edges) / (edges[-1] - edges[0]) * len(drawn)
    assert stats.chisquare([drawn.count(value) for value in range(3, 41)], expected).pvalue > 0.01


@pytest.mark.parametrize("spec", [Real(1, 2), Integer(1, 2, step=1), Categorical(["a"])])
def test_what_users_write_can_be_copied_compared_and_stored(spec):
    for twin in (copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert twin == spec
        assert repr(twin) == repr(spec)
    with pytest.raises(AttributeError, match="cannot assign"):
        spec.low = 3


def test_nothing_is_checked_before_fit():
    for spec in (Real("a", None), Integer(5, 1, step=0), Categorical([])):
        assert type(spec).__name__ in repr(spec)


# --------------------------------------------------------------------- continuous


@pytest.mark.parametrize(("low", "high", "log"), [(-3, 7, False), (1e-5, 1e5, True), (0, 1, False)])
def test_an_interval_reaches_its_bounds_and_not_beyond(low, high, log):
    values = all_values(Interval(low, high, log))
    assert values[0] == pytest.approx(low, rel=1e-12)
    assert values[-1] == pytest.approx(high, rel=1e-12)
    assert low <= min(values) <= max(values) <= high
    assert values == sorted(values)
    assert {type(value) for value in values} == {float}


@pytest.mark.parametrize("power", range(1, 300, 13))
def test_rounding_carries_no_value_past_a_bound(power):
    for dimension in (Interval(10.0**-power, 3.0**power, True), Interval(-(0.1**power), 0.3)):
        for u in (0.0, 5e-324, 1e-17, 1 - 1e-16, 1.0):
            assert dimension.low <= dimension.decode(u) <= dimension.high


def test_an_interval_of_enormous_width_has_values_everywhere():
    values = all_values(Interval(-1e308, 1.5e308))
    assert np.isfinite(values).all()
    assert values == sorted(values)


@pytest.mark.parametrize("log", [False, True])
def test_an_interval_knows_what_lies_outside(log):
    dimension = Interval(1, 10, log)
    for value in (0.999, 10.001, np.nan, np.inf, "5", None, True, 3 + 0j, [5]):
        assert dimension.encode(value) == []
    for value in (1, 10, 1.0, np.float32(3), np.int64(5)):
        assert len(dimension.encode(value)) == 1


@pytest.mark.parametrize(
    ("distribution", "low", "high"),
    [
        (stats.norm(2, 3), 2 - 3 * 3.0902323, 2 + 3 * 3.0902323),
        (stats.expon(), 0, 6.9077553),
        (stats.beta(2, 5), 0, 1),
        (stats.truncnorm(-1, np.inf), -1, 3.1411794),
        (stats.cauchy(), -318.308839, 318.308839),
    ],
)
def test_quantiles_go_no_further_than_one_draw_in_a_thousand(distribution, low, high):
    dimension = Quantile(distribution)
    values = all_values(dimension)
    assert values[0] == pytest.approx(low, rel=1e-6)
    assert values[-1] == pytest.approx(high, rel=1e-6)
    assert values == sorted(values)
    assert {type(value) for value in values} == {float}
    snapped = dimension.snap(SIDE)
    assert all_values(dimension, snapped) == values


def test_quantiles_find_values_beyond_their_own_tails():
    dimension = Quantile(stats.norm())
    assert dimension.encode(50.0) == [pytest.approx(0.999)]
    assert dimension.encode(-50.0) == [pytest.approx(0.001)]
    assert Quantile(stats.expon()).encode(-1e-9) == []
    assert dimension.encode("a") == []


def test_dimensions_of_the_same_distribution_are_the_same():
    same = [
        (stats.norm(1, 2), stats.norm(1, 2)),
        (stats.norm(loc=1), stats.norm(loc=1)),
        (stats.gamma(a=2, scale=3), stats.gamma(a=2, scale=3)),
    ]
    for one, two in same:
        assert Quantile(one).same_as(Quantile(two))
    different = [
        (stats.norm(1, 2), stats.norm(1, 3)),
        (stats.norm(), stats.cauchy()),
        (stats.gamma(2), stats.gamma(3)),
    ]
    for one, two in different:
        assert not Quantile(one).same_as(Quantile(two))
    assert not Quantile(stats.norm()).same_as(Interval(0, 1))


class Triangle(stats.rv_continuous):
    def _cdf(self, x):
        return ((x - self.a) / (self.b - self.a)) ** 2


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (Triangle(a=0, b=1)(), Triangle(a=0, b=9)()),
        (
            stats.rv_histogram(np.histogram([1, 2, 2, 3], bins=3))(),
            stats.rv_histogram(np.histogram([10, 20, 20, 30], bins=3))(),
        ),
        (
            stats.rv_histogram(np.histogram([1, 2, 2, 3], bins=3)),
            stats.rv_histogram(np.histogram([1, 1, 2, 3], bins=3)),
        ),
    ],
    ids=["of one's own", "frozen histogram", "histogram"],
)
def test_distributions_of_one_class_with_other_contents_are_not_the_same(one, two):
    assert not Quantile(one).same_as(Quantile(two))


def test_intervals_are_the_same_if_their_bounds_and_scale_are():
    assert Interval(1, 2).same_as(Interval(1.0, 2.0))
    assert not Interval(1, 2).same_as(Interval(1, 3))
    assert not Interval(1, 2).same_as(Interval(1, 2, log=True))
    assert not Interval(1, 2).same_as(Steps(1, 1, 2))


# --------------------------------------------------------------------- steps


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    ("low", "high", "step"), [(0, 9, 1), (1, 1000, 1), (-5, 5, 1), (2, 11, 4), (7, 8, 1), (3, 5, 9)]
)
def test_steps_hold_every_level_once(low, high, step, log):
    if log and low <= 0:
        low, high = 1, high - low
    dimension = Steps.between(low, high, step, log)
    levels = list(range(low, high + 1, step))
    assert dimension.n_levels == len(levels)
    points = dimension.points(np.arange(len(levels)))
    decoded = [dimension.decode(u) for u in points]
    assert decoded == levels
    assert {type(value) for value in decoded} == {int}
    assert [dimension.encode(level) for level in levels] == [[u] for u in points]
    lower, upper = dimension.cells(points)
    np.testing.assert_allclose(np.append(lower, 1.0), np.append(0.0, upper), atol=1e-12)
    assert (lower < points).all()
    assert (points < upper).all()


@pytest.mark.parametrize(
    ("low", "high", "step", "levels"),
    [
        (0.1, 0.3, 0.1, [0.1, 0.2, 0.3]),
        (0.5, 1.0, 0.25, [0.5, 0.75, 1.0]),
        (0.0, 1.0, 0.1, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        (0.0, 0.95, 0.3, [0.0, 0.3, 0.6, 0.9]),
    ],
)
def test_steps_of_fractions_lose_no_level_to_rounding(low, high, step, levels):
    dimension = Steps.between(low, high, step)
    decoded = [dimension.decode(u) for u in dimension.points(np.arange(dimension.n_levels))]
    assert decoded == pytest.approx(levels, rel=1e-12, abs=1e-12)
    assert all(dimension.encode(level) for level in levels)


def test_steps_of_fractions_do_not_pass_their_bound():
    for low, high, step in ((0.1, 0.3, 0.1), (0.05, 0.6, 0.05), (0.05, 0.95, 0.05)):
        assert Steps.between(low, high, step).decode(1.0) <= high


def test_steps_know_what_lies_between_them():
    dimension = Steps.between(1, 10, 3)
    for value in (0, 2, 13, 4.0, 4.5, "4", None, True, np.nan):
        assert dimension.encode(value) == []
    assert dimension.encode(np.int32(4)) == dimension.encode(4)
    fractions = Steps.between(0.1, 0.5, 0.1)
    assert len(fractions.encode(0.3)) == 1
    assert fractions.encode(0.35) == []
    assert fractions.encode(0.6) == []


@pytest.mark.parametrize("log", [False, True])
def test_steps_stay_inside_however_many(log):
    dimension = Steps.between(1, 2**62, log=log)
    values = all_values(dimension)
    assert 1 <= min(values) <= max(values) <= 2**62
    assert {type(value) for value in values} == {int}
    assert values == sorted(values)


@pytest.mark.parametrize("value", [12345, 2**40 + 1, 123456789012345])
def test_one_whole_number_in_a_million_billion_is_found_again(value):
    dimension = Steps.between(0, 10**15)
    (u,) = dimension.encode(value)
    assert dimension.decode(u) == value


def test_steps_are_the_same_if_all_their_levels_are():
    assert Steps.between(1, 9, 2).same_as(Steps.between(1, 10, 2))
    for other in (Steps.between(1, 9), Steps.between(1, 11, 2), Steps.between(1, 9, 2, log=True)):
        assert not Steps.between(1, 9, 2).same_as(other)
    assert not Steps.between(1, 2).same_as(Levels([1, 2], ordered=True))


# --------------------------------------------------------------------- levels


def test_levels_return_the_users_own_objects():
    values = [LogisticRegression(), None, np.arange(2), {"k": []}, ("x",), [1], len, float("nan")]
    dimension = Levels(values)
    points = dimension.points(np.arange(len(values)))
    assert all(dimension.decode(u) is value for u, value in zip(points, values, strict=True))
    assert [dimension.encode(value)[0] for value in values] == list(points)


def test_a_value_that_stands_twice_has_two_cells():
    dimension = Levels(["a", "b", "a"])
    assert dimension.n_levels == 3
    assert dimension.encode("a") == pytest.approx([1 / 6, 5 / 6])
    assert all_values(dimension, INSIDE).count("a") == pytest.approx(2 * len(INSIDE) / 3, abs=2)


def test_cells_are_as_wide_as_their_weights():
    dimension = Levels(list("abc"), weights=[1, 6, 3])
    lower, upper = dimension.cells(dimension.points(np.arange(3)))
    np.testing.assert_allclose(upper - lower, [0.1, 0.6, 0.3])
    counts = [all_values(dimension, INSIDE).count(value) for value in "abc"]
    assert counts == pytest.approx([50, 300, 150], abs=1)


@pytest.mark.parametrize("weights", [[0.5, 0.5, 0.0], [1.0, 1e-20, 1.0], [1e20, 1.0, 1.0, 1e20]])
def test_points_of_unlikely_values_are_not_those_of_others(weights):
    dimension = Levels(range(len(weights)), weights=weights)
    for value in range(len(weights)):
        assert all(dimension.decode(u) == value for u in dimension.encode(value))
    found = {dimension.decode(u) for u in dimension.points(np.arange(int(dimension.n_levels)))}
    assert len(found) == dimension.n_levels


def test_the_bounds_of_the_interval_belong_to_the_outer_levels():
    dimension = Levels(list("abc"), weights=[1, 6, 3])
    assert dimension.decode(0.0) == "a"
    assert dimension.decode(1.0) == "c"
    assert dimension.snap(np.array([0.0, 1.0])) == pytest.approx([0.05, 0.85])


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([1, 2, 3, 5], [0, 0.25, 0.5, 1]),
        ([0.001, 0.01, 0.1, 1, 10], [0, 0.25, 0.5, 0.75, 1]),
        ([1, 2, 4, 8, 16, 32], [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ([0, 10, 100], [0, 0.1, 1]),
        ([1, 3, 5, 7, 9, 11], [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ([-100, -10, -1], [0, 90 / 99, 1]),
        ([5], [0.5]),
        ([5, 5], [0.5, 0.5]),
        ([1, 1, 10, 100], [0, 0, 0.5, 1]),
    ],
)
def test_a_model_sees_numbers_where_they_lie_on_the_scale_that_they_suggest(values, places):
    dimension = Levels.sorted_numbers(values)
    seen = dimension.features(dimension.points(np.arange(len(values))))
    assert seen == pytest.approx(places, abs=1e-12)


@pytest.mark.parametrize("values", [[1e-200, 1e200], [-1e308, 1e308], [5e-324, 1.0], [-1e-320, 0]])
def test_a_model_sees_numbers_of_any_size(values):
    dimension = Levels.sorted_numbers(values)
    assert list(dimension.features(dimension.points(np.arange(2)))) == [0, 1]


@pytest.mark.parametrize("values", [[1, 2, 3, -1], [10, 5, 1], [3, 1, 2], [0, 1, 2, 0]])
def test_a_model_sees_values_in_the_order_that_the_user_gave(values):
    dimension = Levels(values, ordered=True)
    seen = dimension.features(dimension.points(np.arange(len(values))))
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert (np.diff(seen) > 0).all() or (np.diff(seen) < 0).all()


def test_a_model_sees_ordered_names_at_equal_distances():
    dimension = Levels(["low", "medium", "high"], ordered=True)
    seen = dimension.features(dimension.points(np.arange(3)))
    np.testing.assert_allclose(np.diff(seen), np.diff(seen)[0])


def test_levels_are_the_same_if_values_order_and_weights_are():
    one = Levels([1, "a", LogisticRegression(C=2)])
    assert one.same_as(Levels([1, "a", LogisticRegression(C=2)]))
    assert not one.same_as(Levels([1, "a", LogisticRegression(C=3)]))
    assert not one.same_as(Levels(["a", 1, LogisticRegression(C=2)]))
    assert not one.same_as(Levels([1, "a"]))
    assert not Levels([1, 2]).same_as(Levels([1, 2], ordered=True))
    assert not Levels([1, 2]).same_as(Levels([1, 2], weights=[1, 3]))
    assert not Levels([1, 0]).same_as(Levels([True, False]))


@pytest.mark.parametrize("dimension", [Interval(0, 1), Quantile(stats.norm())])
def test_continuous_dimensions_have_neither_cells_nor_levels(dimension):
    with pytest.raises(NotImplementedError, match="has no cells"):
        dimension.cells(np.array([0.5]))
    with pytest.raises(NotImplementedError, match="has no levels"):
        dimension.points(np.array([0]))


# --------------------------------------------------------------------- values


class Fickle:
    def __eq__(self, other):
        raise RuntimeError("not today")

    __hash__ = None


def test_values_that_mean_the_same_to_an_estimator():
    nan = float("nan")
    fickle = Fickle()
    for one, two in [
        (1, 1.0),
        ("a", "a"),
        (None, None),
        (nan, float("nan")),
        (np.float64(0.5), 0.5),
        (np.arange(3), np.arange(3)),
        ({"a": np.arange(2)}, {"a": np.arange(2)}),
        ([1, (2, None)], [1, (2, None)]),
        (LogisticRegression(C=2), LogisticRegression(C=2)),
        (LogisticRegression, LogisticRegression),
        (fickle, fickle),
    ]:
        assert same_value(one, two), (one, two)
    for one, two in [
        (1, True),
        (0, False),
        (np.bool_(True), 1),
        ("1", 1),
        (None, False),
        ((1, 2), [1, 2]),
        (np.arange(3), [0, 1, 2]),
        (np.arange(3), np.arange(4)),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ((1, 2), (1, 2, 3)),
        (LogisticRegression(), LogisticRegression(C=2)),
        (LogisticRegression, LogisticRegression()),
        (Fickle(), Fickle()),
    ]:
        assert not same_value(one, two), (one, two)
        assert not same_value(two, one), (one, two)


def test_truth_values_infinities_and_texts_are_no_numbers():
    for value in (1, -1.5, np.float32(1), np.int8(3)):
        assert is_number(value)
    for value in (True, np.bool_(False), np.nan, np.inf, "1", None, 1j, np.array(1.0)):
        assert not is_number(value)


def test_a_whole_number_beyond_all_floats_is_a_refusal_or_a_number_but_no_crash():
    assert is_number(10**400) in (True, False)
