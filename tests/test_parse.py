"""The border: every form in which users write a space, and every refusal."""

from __future__ import annotations

import array
import collections
import copy
import fractions

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.gaussian_process.kernels import RBF, Matern
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ParameterSampler
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from toys import Draws, label

from tunein import Categorical, Integer, Real
from tunein._dimensions import Interval, Quantile, Steps
from tunein._parse import parse_dimension
from tunein._space import Space

N_DRAWS = 2000


def parse(spec):
    return parse_dimension(spec, "param_distributions['a']")


def drawn(spec, n=N_DRAWS, seed=0):
    """Return what random draws of the space hold."""
    space = Space.parse({"a": spec})
    return [space.decode(unit)["a"] for unit in space.sample(np.random.default_rng(seed), n)]


def support(spec):
    """Return the values of all points of a finite dimension."""
    dimension = parse(spec)
    return [dimension.decode(u) for u in dimension.points(np.arange(int(dimension.n_levels)))]


# --------------------------------------------------------------------- choices


@pytest.mark.parametrize(
    "choices",
    [
        [3, 1, 2],
        (3, 1, 2),
        range(4),
        range(10, 0, -3),
        np.array([3, 1, 2]),
        np.array([0.5, 0.25], dtype=np.float32),
        np.logspace(-3, 3, 7),
        np.array(["a", "b"]),
        np.array([None, "a", 1], dtype=object),
        np.array([True, False]),
        ["a", None, 1, 2.5, True],
        [True, False],
        [(10,), (10, 5), (100,)],
        [None],
        [{"a": 1}, {"b": 2}, None],
        [np.nan, 1.0],
        [np.inf, 1.0],
        [1 + 2j, 3],
        [fractions.Fraction(1, 3), fractions.Fraction(1, 7)],
        [1, 2.0, np.int64(3)],
        [b"bytes", "text"],
        array.array("d", [1.5, 2.5]),
        collections.deque(["a", "b"]),
        collections.UserList(["a", "b"]),
    ],
    ids=label,
)
def test_choices_are_returned_as_random_search_returns_them(choices):
    mine = sorted(support(choices), key=repr)
    theirs = sorted((choices[i] for i in range(len(choices))), key=repr)
    assert [type(value) for value in mine] == [type(value) for value in theirs]
    assert repr(mine) == repr(theirs)


@pytest.mark.parametrize(
    "choices",
    [
        pd.Series([1, 2, 3]),
        pd.Series(["a", None], dtype=object),
        pd.Series([0.5, 1.5], index=[7, 9]),
    ],
    ids=["whole", "mixed", "own index"],
)
def test_a_series_is_its_values(choices):
    assert sorted(support(choices), key=repr) == sorted(choices.tolist(), key=repr)


def test_an_index_of_pandas_is_its_values():
    # As in RandomizedSearchCV if another parameter has a distribution: it has a length and items.
    list(ParameterSampler({"a": pd.Index([1, 2]), "b": stats.uniform()}, 2, random_state=0))
    assert sorted(support(pd.Index([1, 2]))) == [1, 2]


def test_rows_of_a_matrix_are_choices_as_in_random_search():
    rows = np.eye(2)
    theirs = ParameterSampler({"a": rows, "b": stats.uniform()}, 20, random_state=0)
    assert {tuple(p["a"]) for p in theirs} == {tuple(row) for row in support(rows)}


@pytest.mark.parametrize(
    "choices",
    [
        [LogisticRegression(), SVC(), "passthrough", None],
        [RBF(), Matern(nu=1.5), RBF() + Matern()],
        [np.argmax, len, lambda x: x, SVC],
        [np.arange(3), np.arange(3.0), np.eye(2)],
        [{"a": [1]}, {"a": [1]}],
        [object(), object()],
        [pd.Series([1, 2]), pd.DataFrame({"a": [1]})],
        [stats.norm(), stats.uniform()],
    ],
    ids=["estimators", "kernels", "callables", "arrays", "dicts", "objects", "frames", "frozen"],
)
def test_choices_of_any_type_are_the_users_own_objects(choices):
    mine = drawn(choices, 60)
    assert {id(value) for value in mine} == {id(choice) for choice in choices}


def test_numbers_are_ordered_and_all_else_is_not():
    for spec in ([3, 1, 2], (0.1, 10.0), range(4), np.array([1, 2]), pd.Series([2, 1]), [5]):
        assert parse(spec).kind == "ordinal"
        values = support(spec)
        assert values == sorted(values)
    for spec in ([1, "a"], [1, None], [True, False], [1, np.nan], [1, np.inf], [(1,), (2,)], ["1"]):
        assert parse(spec).kind == "categorical"


def test_two_numbers_in_a_tuple_are_two_choices():
    assert set(drawn((1, 10), 50)) == {1, 10}


def test_a_choice_that_stands_twice_is_twice_as_likely_and_two_points():
    for spec in (["a", "b", "a"], [1, 2, 1]):
        assert parse(spec).n_levels == 3
        counts = collections.Counter(drawn(spec, 3000))
        assert counts[spec[0]] == pytest.approx(2000, rel=0.1)


@pytest.mark.parametrize("spec", [list("abcde"), [5, 1, 100, 7], Categorical([None, 1, "a"])])
def test_choices_are_equally_likely(spec):
    counts = collections.Counter(drawn(spec))
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_the_users_objects_are_not_changed():
    step, table = LogisticRegression(), np.array([3, 1, 2])
    space = {"clf": [step, SVC()], "b": table, "c": [[3, 1], [2]], "d": stats.norm(1)}
    before = copy.deepcopy({name: str(value) for name, value in space.items()})
    parsed = Space.parse(space)
    for unit in parsed.sample(np.random.default_rng(0), 20):
        parsed.decode(unit)
    assert {name: str(value) for name, value in space.items()} == before
    assert list(space) == ["clf", "b", "c", "d"]
    assert vars(step) == vars(LogisticRegression())
    assert list(table) == [3, 1, 2]


# --------------------------------------------------------------------- distributions

CONTINUOUS = {
    "uniform": stats.uniform(-2, 5),
    "uniform by keyword": stats.uniform(loc=3, scale=2),
    "uniform, not frozen": stats.uniform,
    "loguniform": stats.loguniform(1e-4, 1e2),
    "loguniform, scaled": stats.loguniform(1, 10, scale=3),
    "loguniform, shifted": stats.loguniform(1, 10, loc=5),
    "reciprocal": stats.reciprocal(1, 100),
    "loguniform, tiny": stats.loguniform(1e-200, 1e-150),
    "norm": stats.norm(3, 2),
    "expon": stats.expon(scale=0.1),
    "truncnorm": stats.truncnorm(-1, 2, loc=5),
    "half-open truncnorm": stats.truncnorm(-1, np.inf),
    "beta": stats.beta(2, 5),
    "cauchy": stats.cauchy(),
    "gamma": stats.gamma(2, scale=3),
    "lognorm": stats.lognorm(1),
    "halfcauchy": stats.halfcauchy(),
    "triang": stats.triang(0.3),
    "t": stats.t(3),
    "levy": stats.levy(),
    "histogram": stats.rv_histogram(np.histogram([1, 2, 2, 3, 3, 3, 9], bins=5)),
}


@pytest.mark.parametrize("kind", CONTINUOUS)
def test_draws_of_a_continuous_distribution_follow_it(kind):
    distribution = CONTINUOUS[kind]
    values = drawn(distribution)
    assert {type(value) for value in values} == {float}
    assert np.isfinite(values).all()
    assert stats.kstest(values, distribution.cdf).pvalue > 0.01
    low, high = distribution.support()
    assert low <= min(values) <= max(values) <= high


DISCRETE = {
    "randint": stats.randint(2, 9),
    "randint, shifted": stats.randint(2, 9, loc=-4),
    "randint, one value": stats.randint(5, 6),
    "binom": stats.binom(10, 0.3),
    "binom, unlikely tail": stats.binom(60, 0.1),
    "poisson": stats.poisson(3),
    "poisson, large": stats.poisson(1000),
    "poisson, shifted": stats.poisson(3, loc=2),
    "poisson, rare": stats.poisson(0.01),
    "geom": stats.geom(0.4),
    "nbinom": stats.nbinom(5, 0.5),
    "hypergeom": stats.hypergeom(20, 7, 12),
    "bernoulli": stats.bernoulli(0.3),
    "skellam": stats.skellam(3, 5),
    "dlaplace": stats.dlaplace(0.5),
    "boltzmann": stats.boltzmann(0.4, 19),
    "zipf": stats.zipf(3),
    "table": stats.rv_discrete(values=([1, 2, 7], [0.2, 0.3, 0.5])),
    "table, frozen": stats.rv_discrete(values=([1, 2, 7], [0.2, 0.3, 0.5]))(),
    "table, shifted": stats.rv_discrete(values=([1, 2, 7], [0.2, 0.3, 0.5]))(loc=5),
    "table with a zero": stats.rv_discrete(values=([1, 2, 7], [0.5, 0.0, 0.5])),
    "table of negative numbers": stats.rv_discrete(values=([-9, 0, 4], [0.1, 0.1, 0.8])),
}


@pytest.mark.parametrize("kind", DISCRETE)
def test_draws_of_a_discrete_distribution_follow_it(kind):
    distribution = DISCRETE[kind]
    values = drawn(distribution)
    assert {type(value) for value in values} == {int}
    counts = collections.Counter(values)
    expected = {value: distribution.pmf(value) * N_DRAWS for value in counts}
    likely = [value for value in counts if expected[value] > 5]
    observed = [counts[value] for value in likely]
    rest = N_DRAWS - sum(observed)
    expected_rest = N_DRAWS - sum(expected[value] for value in likely)
    table = np.array([[*observed, rest], [*(expected[v] for v in likely), expected_rest]])
    table = table[:, table[1] > 1]
    assert all(expected[value] > 0 for value in counts)
    if table.shape[1] > 1:
        ratio = table[0].sum() / table[1].sum()
        assert stats.chisquare(table[0], table[1] * ratio).pvalue > 0.01


def test_a_table_of_fractions_gives_fractions():
    table = stats.rv_discrete(values=([0.25, 0.5, 1.0], [0.2, 0.3, 0.5]))
    assert support(table) == [0.25, 0.5, 1.0]
    assert {type(value) for value in support(table)} == {float}


def test_what_is_impossible_is_no_point():
    assert support(DISCRETE["table with a zero"]) == [1, 7]
    assert support(stats.bernoulli(1)) == [1]
    assert parse(stats.hypergeom(20, 7, 19)).n_levels == 2  # 6 or 7 of 7 are among 19 of 20


@pytest.mark.parametrize(
    "distribution",
    [stats.binom(30, 0.1), stats.binom(200, 0.3), stats.binom(1000, 0.01), stats.poisson(1000)],
    ids=["binom 30", "binom 200", "binom 1000", "poisson"],
)
def test_points_of_an_unlikely_tail_are_not_those_of_others(distribution):
    dimension = parse(distribution)
    n = len(dimension)
    points = dimension.points(np.arange(n))
    assert len({dimension.decode(u) for u in points}) == n
    for value in distribution.support()[0] + np.arange(200):
        assert all(dimension.decode(u) == value for u in dimension.encode(int(value)))


def test_wide_whole_numbers_cost_nothing():
    assert isinstance(parse(stats.randint(0, 10**12)), Steps)
    values = drawn(stats.randint(0, 10**12), 100)
    assert {type(value) for value in values} == {int}
    assert max(values) > 10**11
    distribution = stats.poisson(1e6)
    values = drawn(distribution, 200)
    assert {type(value) for value in values} == {int}
    mean, sd = distribution.mean(), distribution.std()
    assert mean - 3.5 * sd < min(values) < mean < max(values) < mean + 3.5 * sd


class Unfathomable(stats.rv_discrete):
    """As scipy's zipf(1.5): it can be drawn from, but its tail is too long to be found."""

    def _rvs(self, size=None, random_state=None):
        return random_state.geometric(0.5, size)

    def _ppf(self, q):
        raise RuntimeError("updating stopped, endless loop")


def test_a_distribution_whose_tail_cannot_be_found_is_drawn_from_or_refused_by_name():
    spec = Unfathomable(a=1)()
    list(ParameterSampler({"a": spec}, 5, random_state=0))
    try:
        answer = min(drawn(spec, 100))
    except ValueError as error:
        answer = str(error)
    assert answer == 1 or "param_distributions['a']" in answer


def test_the_closed_forms_are_recognised_where_they_hold_only():
    for spec in (stats.uniform(1, 2), stats.loguniform(1, 10), stats.loguniform(1, 10, scale=2)):
        assert isinstance(parse(spec), Interval)
    for spec in (stats.loguniform(1, 10, loc=5), stats.norm(), stats.beta(1, 1)):
        assert isinstance(parse(spec), Quantile)


def test_a_distribution_of_ones_own_is_searched_by_its_quantiles():
    class Squared(stats.rv_continuous):
        def _cdf(self, x):
            return x**2

    values = drawn(Squared(a=0, b=1)(), 300)
    assert stats.kstest(values, lambda x: np.asarray(x) ** 2).pvalue > 0.01


# --------------------------------------------------------------------- what only draws


@pytest.mark.parametrize(
    ("draw", "kind", "expected"),
    [
        (lambda rng: rng.uniform(), float, None),
        (lambda rng: int(rng.randint(5)), int, {0, 1, 2, 3, 4}),
        (lambda rng: rng.randint(5), int, {0, 1, 2, 3, 4}),
        (lambda rng: rng.choice(["a", "b"]), str, {"a", "b"}),
        (lambda rng: bool(rng.randint(2)), bool, {True, False}),
        (lambda rng: (int(rng.randint(2)), "x"), tuple, {(0, "x"), (1, "x")}),
        (lambda rng: None, type(None), {None}),
    ],
    ids=["float", "int", "numpy int", "text", "bool", "tuple", "None"],
)
def test_an_object_that_only_draws(draw, kind, expected):
    values = drawn(Draws(draw), 300)
    assert all(isinstance(value, kind) for value in values)
    if expected is not None:
        assert set(values) == expected
    else:
        assert stats.kstest(values, stats.uniform.cdf).pvalue > 0.001


def test_draws_of_whole_and_other_numbers_keep_their_types():
    values = drawn(Draws(lambda rng: 1 if rng.uniform() < 0.5 else 0.5), 100)
    assert {(value, type(value)) for value in values} == {(1, int), (0.5, float)}


def test_equal_draws_are_one_point_that_a_model_can_learn_from():
    for draw in (lambda rng: rng.choice(["a", "b"]), lambda rng: bool(rng.randint(2))):
        space = Space.parse({"a": Draws(draw)})
        keys = {Space.key(unit) for unit in space.sample(np.random.default_rng(0), 200)}
        assert len(keys) == 2


def test_draws_that_only_print_alike_are_different_choices():
    def mask(rng):
        return rng.uniform(size=2000) < 0.5  # of which numpy prints the ends

    drawn_once = {np.packbits(value).tobytes() for value in drawn(Draws(mask), 500)}
    assert len(drawn_once) > 300


def test_draws_stand_for_their_own_frequencies():
    values = drawn(Draws(lambda rng: int(rng.binomial(3, 0.5))), 2000)
    counts = [values.count(value) for value in range(4)]
    assert np.abs(np.array(counts) / 2000 - np.array([1, 3, 3, 1]) / 8).max() < 0.06


def test_a_space_that_is_drawn_is_the_same_each_time():
    draws = Draws(lambda rng: rng.uniform())
    assert drawn(draws, 20) == drawn(draws, 20)


def test_a_multivariate_distribution_is_drawn_from():
    values = drawn(stats.multivariate_normal([0, 10]), 20)
    assert all(value.shape == (2,) for value in values)


# --------------------------------------------------------------------- dimensions of this package


def test_real_is_uniform_or_log_uniform():
    assert stats.kstest(drawn(Real(-2, 3)), stats.uniform(-2, 5).cdf).pvalue > 0.01
    values = drawn(Real(1e-3, 10, log=True))
    assert stats.kstest(values, stats.loguniform(1e-3, 10).cdf).pvalue > 0.01
    assert {type(value) for value in drawn(Real(np.float32(1), np.int64(5)), 20)} == {float}


def test_integer_holds_its_bounds_and_steps():
    assert support(Integer(2, 6)) == [2, 3, 4, 5, 6]
    assert support(Integer(2, 11, step=4)) == [2, 6, 10]
    assert support(Integer(np.int64(1), 3.0)) == [1, 2, 3]
    assert {type(value) for value in support(Integer(np.int64(1), 3.0))} == {int}
    counts = collections.Counter(drawn(Integer(2, 6)))
    assert stats.chisquare(list(counts.values())).pvalue > 0.01
    assert np.median(drawn(Integer(1, 1000, log=True))) == pytest.approx(30, rel=0.3)


def test_categorical_is_ordered_only_if_it_says_so():
    assert parse(Categorical([1, 2, 3])).kind == "categorical"
    assert parse(Categorical(["low", "high"], ordered=True)).kind == "ordinal"
    assert support(Categorical(["low", 3, None], ordered=True)) == ["low", 3, None]
    assert support(Categorical(np.array([3, 1]))) == [3, 1]
    assert support(Categorical(range(2))) == [0, 1]


# --------------------------------------------------------------------- from other packages


def test_dimensions_of_scikit_optimize():
    dimensions = pytest.importorskip("skopt.space")
    real = drawn(dimensions.Real(2, 5))
    assert stats.kstest(real, stats.uniform(2, 3).cdf).pvalue > 0.01
    for base in (2, 10):
        real = drawn(dimensions.Real(1e-3, 10, prior="log-uniform", base=base))
        assert stats.kstest(real, stats.loguniform(1e-3, 10).cdf).pvalue > 0.01
    assert support(dimensions.Integer(1, 4)) == [1, 2, 3, 4]
    whole = drawn(dimensions.Integer(1, 1000, prior="log-uniform"))
    assert {type(value) for value in real + whole} == {float, int}
    assert np.median(whole) == pytest.approx(30, rel=0.3)
    assert support(dimensions.Categorical(["a", None, 3])) == ["a", None, 3]


def test_prior_weights_of_scikit_optimize():
    dimensions = pytest.importorskip("skopt.space")
    values = drawn(dimensions.Categorical(["a", "b", "c"], prior=[0.1, 0.7, 0.2]))
    counts = [values.count(value) for value in "abc"]
    assert stats.chisquare(counts, np.array([0.1, 0.7, 0.2]) * N_DRAWS).pvalue > 0.01
    assert support(dimensions.Categorical(["a", "b", "c"], prior=[0.5, 0.0, 0.5])) == ["a", "c"]
    assert support(dimensions.Categorical(["a", "b", "c"], prior=[0.5, 0.5, 0.0])) == ["a", "b"]


def test_a_dimension_derived_from_one_of_scikit_optimize():
    dimensions = pytest.importorskip("skopt.space")

    class Mine(dimensions.Real):
        pass

    values = drawn(Mine(2, 5), 50)
    assert all(isinstance(value, float) for value in values)
    assert len(set(values)) == 50


def test_distributions_of_optuna():
    theirs = pytest.importorskip("optuna.distributions")
    real = drawn(theirs.FloatDistribution(2, 5))
    assert stats.kstest(real, stats.uniform(2, 3).cdf).pvalue > 0.01
    real = drawn(theirs.FloatDistribution(1e-3, 10, log=True))
    assert stats.kstest(real, stats.loguniform(1e-3, 10).cdf).pvalue > 0.01
    stepped = support(theirs.FloatDistribution(0.1, 0.5, step=0.1))
    assert stepped == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert support(theirs.IntDistribution(1, 4)) == [1, 2, 3, 4]
    assert support(theirs.IntDistribution(1, 7, step=3)) == [1, 4, 7]
    whole = drawn(theirs.IntDistribution(1, 1000, log=True))
    assert {type(value) for value in real + whole} == {float, int}
    assert np.median(whole) == pytest.approx(30, rel=0.3)
    assert support(theirs.CategoricalDistribution(["a", None, 3])) == ["a", None, 3]
    assert parse(theirs.CategoricalDistribution([1, 2])).kind == "categorical"


@pytest.mark.filterwarnings("ignore::FutureWarning")  # by Optuna
@pytest.mark.parametrize(
    ("name", "arguments", "low", "high"),
    [
        ("UniformDistribution", (0.5, 2.0), 0.5, 2.0),
        ("LogUniformDistribution", (0.5, 2.0), 0.5, 2.0),
        ("DiscreteUniformDistribution", (0.5, 2.0, 0.5), 0.5, 2.0),
        ("IntUniformDistribution", (1, 5), 1, 5),
        ("IntLogUniformDistribution", (1, 5), 1, 5),
    ],
)
def test_the_older_distributions_of_optuna(name, arguments, low, high):
    theirs = pytest.importorskip("optuna.distributions")
    if not hasattr(theirs, name):
        pytest.skip("gone from this Optuna")
    dimension = parse(getattr(theirs, name)(*arguments))
    assert dimension.decode(0.0) == pytest.approx(low)
    assert dimension.decode(1.0) == pytest.approx(high)
    assert type(dimension.decode(0.4)) is type(low)


def test_a_step_of_optuna_does_not_pass_its_bound():
    theirs = pytest.importorskip("optuna.distributions")
    assert max(support(theirs.FloatDistribution(0.1, 0.3, step=0.1))) <= 0.3


def test_a_single_value_of_optuna_is_a_single_point():
    theirs = pytest.importorskip("optuna.distributions")
    assert support(theirs.IntDistribution(3, 3)) == [3]
    assert support(theirs.CategoricalDistribution(["a"])) == ["a"]
    assert set(drawn(theirs.FloatDistribution(0.5, 0.5), 5)) == {0.5}


# --------------------------------------------------------------------- refusals

NEEDS_CHOICES = r"expected a list, tuple or array of choices, or a distribution, got .* of type {}"
INVALID_SPECS = [
    ("abc", TypeError, NEEDS_CHOICES.format("str") + r".*goes into a list, \['abc'\]"),
    (b"abc", TypeError, NEEDS_CHOICES.format("bytes")),
    (3, TypeError, NEEDS_CHOICES.format("int") + r".*goes into a list, \[3\]"),
    (0.5, TypeError, NEEDS_CHOICES.format("float")),
    (None, TypeError, NEEDS_CHOICES.format("NoneType")),
    (True, TypeError, NEEDS_CHOICES.format("bool")),
    ({1, 2}, TypeError, NEEDS_CHOICES.format("set") + r"\. Use list\(\.\.\.\)\.$"),
    ({"low": 1}, TypeError, NEEDS_CHOICES.format("dict")),
    ({"a": 1}.keys(), TypeError, NEEDS_CHOICES.format("dict_keys")),
    (iter([1, 2]), TypeError, NEEDS_CHOICES.format("list_iterator") + r"\. Use list"),
    (np.array(3), TypeError, NEEDS_CHOICES.format("ndarray")),
    (np.float64(3), TypeError, NEEDS_CHOICES.format("float64")),
    (LogisticRegression(), TypeError, NEEDS_CHOICES.format("LogisticRegression")),
    (np.argmax, TypeError, NEEDS_CHOICES.format("_ArrayFunctionDispatcher")),
    (pd.DataFrame({"x": [1]}), TypeError, "DataFrame"),
    ([], ValueError, r"no choices in \[\]\. Give at least one value"),
    ((), ValueError, r"no choices in \(\)"),
    (np.array([]), ValueError, "no choices in"),
    (range(0), ValueError, "no choices in"),
    (pd.Series([], dtype=float), ValueError, "no choices in"),
    (Categorical([]), ValueError, "no choices in"),
    (Categorical("abc"), TypeError, r"\['abc'\]"),
    (Categorical({1, 2}), TypeError, NEEDS_CHOICES.format("set")),
    (Categorical(3), TypeError, NEEDS_CHOICES.format("int")),
    (Real(1, 1), ValueError, r"needs low < high, got low=1 and high=1.*use a list, \[1\]"),
    (Real(2, 1), ValueError, "needs low < high, got low=2 and high=1"),
    (Real(0, 1, log=True), ValueError, "needs low > 0, got low=0. Use low=1e-3, or log=False"),
    (Real(-1, 1, log=True), ValueError, "needs low > 0, got low=-1"),
    (Real("0", 1), TypeError, "needs finite numbers, got low='0' of type str"),
    (Real(0, None), TypeError, "needs finite numbers, got high=None of type NoneType"),
    (Real(0, np.inf), TypeError, "needs finite numbers, got high=inf"),
    (Real(np.nan, 1), TypeError, "needs finite numbers, got low=nan"),
    (Real(False, True), TypeError, "needs finite numbers, got low=False of type bool"),
    (Integer(3, 3), ValueError, r"needs low < high.*use a list, \[3\]"),
    (Integer(3, 1), ValueError, "needs low < high"),
    (Integer(0, 9, log=True), ValueError, "needs low > 0, got low=0. Use low=1, or log=False"),
    (Integer(0.5, 2), ValueError, "needs whole numbers, got low=0.5. Use Real"),
    (Integer(0, 2.5), ValueError, "needs whole numbers, got high=2.5"),
    (Integer(0, 9, step=0.5), ValueError, "needs whole numbers, got step=0.5"),
    (Integer(0, 9, step=0), ValueError, "needs step >= 1, got step=0"),
    (Integer(0, 9, step=10), ValueError, r"got step=10, which leaves one value. .*a list, \[0\]"),
    (Integer(0, 9, step=-1), ValueError, "needs step >= 1, got step=-1"),
    (Integer(0, 9, step=None), TypeError, "needs finite numbers, got step=None"),
    (Integer("1", 9), TypeError, "needs finite numbers, got low='1'"),
    (stats.loguniform(0, 1), ValueError, "its arguments are invalid. Check shape, loc and scale"),
    (stats.loguniform(5, 1), ValueError, "its arguments are invalid"),
    (stats.uniform(0, -1), ValueError, "its arguments are invalid"),
    (stats.norm(0, -1), ValueError, "its arguments are invalid"),
    (stats.randint(5, 5), ValueError, "its arguments are invalid"),
    (stats.randint(5, 2), ValueError, "its arguments are invalid"),
    (stats.binom(10, 1.5), ValueError, "its arguments are invalid"),
    (stats.poisson(-1), ValueError, "its arguments are invalid"),
    (stats.beta(-1, 1), ValueError, "its arguments are invalid"),
    (stats.uniform(np.nan, 1), ValueError, "its arguments are invalid|no finite quantiles"),
]


@pytest.mark.parametrize(("spec", "error", "match"), INVALID_SPECS, ids=label)
def test_a_bad_space_is_an_error_that_names_parameter_and_remedy(spec, error, match):
    with pytest.raises(error, match=f"(?s)^param_distributions\\['a'\\]: .*{match}") as refused:
        Space.parse({"b": [1], "a": spec})
    assert refused.type is error  # and no class of ours that nobody could import
    with pytest.raises(error, match=r"^param_distributions\[1\]\['a'\]: "):
        Space.parse([{"a": [1]}, {"a": spec}])


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        (stats.loguniform, "loguniform|reciprocal|arguments"),
        (stats.randint, "randint|arguments"),
        (stats.uniform([0, 1], [1, 2]), "one number|scalar|arguments"),
    ],
    ids=["loguniform without bounds", "randint without bounds", "two uniforms at once"],
)
def test_a_distribution_that_is_not_one_is_an_error_that_names_the_parameter(spec, match):
    with pytest.raises((TypeError, ValueError), match=rf"param_distributions\['a'\]: .*({match})"):
        Space.parse({"a": spec})


@pytest.mark.parametrize("spec", [[10**400, 1], Integer(0, 10**400)], ids=["list", "Integer"])
def test_whole_numbers_beyond_all_floats_are_taken_or_refused_by_name(spec):
    try:
        answer = Space.parse({"a": spec})
    except (TypeError, ValueError) as error:
        answer = str(error)
    assert isinstance(answer, Space) or "param_distributions['a']" in answer


def test_an_object_whose_draws_take_no_generator_is_refused():
    class Bare:
        def rvs(self):
            return 1

    with pytest.raises(
        TypeError, match=r"\['a'\]: .*Bare could not be drawn from with rvs\(random"
    ):
        Space.parse({"a": Bare()})


@pytest.mark.parametrize(
    ("space", "error", "match"),
    [
        (
            [],
            ValueError,
            r"^param_distributions=\[\] holds no search space. Give at least one dict",
        ),
        (None, TypeError, "^param_distributions must be a dict or a list of dicts, got None"),
        (
            "C",
            TypeError,
            "^param_distributions must be a dict or a list of dicts, got 'C' of type str",
        ),
        (({"a": [1]},), TypeError, "^param_distributions must be a dict or a list of dicts.*tuple"),
        ([{"a": [1]}, ["a"]], TypeError, r"^param_distributions\[1\] must be a dict, got \['a'\]"),
        ([None], TypeError, r"^param_distributions\[0\] must be a dict, got None of type NoneType"),
        ({1: [1]}, TypeError, "^param_distributions has the key 1; parameter names are strings"),
        ({"a": [1], None: [2]}, TypeError, "^param_distributions has the key None"),
        ([{}, {("a",): [2]}], TypeError, r"^param_distributions\[1\] has the key \('a',\)"),
    ],
)
def test_a_space_of_the_wrong_form_is_an_error(space, error, match):
    with pytest.raises(error, match=match):
        Space.parse(space)


# --------------------------------------------------------------------- names

PIPE = Pipeline([("scale", StandardScaler()), ("clf", SVC())])
NESTED = Pipeline([("clf", BaggingClassifier(LogisticRegression()))])


@pytest.mark.parametrize(
    ("estimator", "space", "match"),
    [
        (SVC(), {"c": [1]}, r"\['c'\]: Invalid parameter 'c' for estimator SVC\(\)"),
        (SVC(), {"gama": [1]}, "Did you mean 'gamma'.*Valid parameters are: .*'C'"),
        (SVC(), {"C": [1], "svc__C": [1]}, "Invalid parameter 'svc__C'"),
        (PIPE, {"clf__Cs": [1]}, "Invalid parameter 'clf__Cs'.*Did you mean 'clf__C'"),
        (PIPE, {"svc__C": [1]}, "Invalid parameter 'svc__C'"),
        (PIPE, {"clf__C__x": [1]}, "Invalid parameter 'clf__C__x'"),
        (PIPE, {"clf": [SVC(), LogisticRegression()], "clf__n_x": [1]}, "'clf__n_x'"),
        (NESTED, {"clf__estimator__D": [1]}, "Invalid parameter 'clf__estimator__D'"),
        (NESTED, {"clf__base__C": [1]}, "Invalid parameter 'clf__base__C'"),
    ],
)
def test_a_parameter_that_the_estimator_would_not_take_is_an_error(estimator, space, match):
    with pytest.raises(ValueError, match=f"(?s)^param_distributions.*{match}"):
        Space.parse(space, estimator)
    with pytest.raises(ValueError, match=rf"(?s)^param_distributions\[0\].*{match}"):
        Space.parse([space, {}], estimator)


@pytest.mark.parametrize(
    ("estimator", "space"),
    [
        (SVC(), {"C": [1], "gamma": ["scale"]}),
        (PIPE, {"clf__C": [1], "scale__with_mean": [True], "scale": ["passthrough"]}),
        (NESTED, {"clf__estimator__C": [1.0, 2.0], "clf__n_estimators": [5]}),
        (PIPE, {"clf": [LogisticRegression(), SVC()], "clf__l1_ratio": [0.5]}),
        (PIPE, {"clf": [SVC(), LogisticRegression()], "clf__l1_ratio": stats.uniform()}),
        (PIPE, {"clf": Categorical([RandomForestClassifier()]), "clf__max_depth": Integer(1, 9)}),
        (
            PIPE,
            {
                "clf": [BaggingClassifier(DecisionTreeClassifier())],
                "clf__estimator__max_depth": [1],
            },
        ),
        (
            PIPE,
            [
                {"clf": [LogisticRegression()], "clf__l1_ratio": [0.5]},
                {"clf": [RandomForestClassifier()], "clf__max_depth": [2]},
            ],
        ),
        (PIPE, {"scale": [MinMaxScaler(), None], "scale__feature_range": [(0, 1), (-1, 1)]}),
    ],
    ids=label,
)
def test_a_parameter_that_some_choice_of_its_parents_brings_is_taken(estimator, space):
    before = repr(estimator.get_params())
    Space.parse(space, estimator)
    assert repr(estimator.get_params()) == before


def test_parents_of_parents_are_set_too():
    space = {
        "clf": [BaggingClassifier()],
        "clf__estimator": [LogisticRegression(), DecisionTreeClassifier()],
        "clf__estimator__C": [1.0, 2.0],
    }
    for params in ParameterSampler({**space, "clf__estimator": [LogisticRegression()]}, 2):
        Pipeline(PIPE.steps).set_params(**params)  # scikit-learn takes it
    assert Space.parse(space, PIPE).size == 4


class Kwargs(BaseEstimator):
    """Takes parameters that it does not list, as xgboost does."""

    def __init__(self, a=0):
        self.a = a

    def set_params(self, **params):
        self.extra = params
        return self


def test_an_estimator_that_takes_more_than_it_lists_is_believed():
    assert Space.parse({"a": [1], "zeta": [2, 3]}, Kwargs()).size == 2


def test_checking_names_sets_nothing_on_the_users_choices():
    logistic = LogisticRegression()
    Space.parse({"clf": [logistic], "clf__l1_ratio": [0.25]}, PIPE)
    assert logistic.l1_ratio == LogisticRegression().l1_ratio
