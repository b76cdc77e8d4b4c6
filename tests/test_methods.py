"""Every search on every kind of space: what it may propose, and what it must survive."""

from __future__ import annotations

import copy
import math
import warnings

import numpy as np
import pytest
import toys
from joblib import parallel_config
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV
from toys import Anything, Draws, X

from tunein import BayesSearchCV, Categorical, HyperGradSearchCV, Integer, Real, TPESearchCV
from tunein._history import Known
from tunein._space import Space
from tunein._tpe import _split

every_search = pytest.mark.parametrize(
    "search_class", [TPESearchCV, BayesSearchCV, HyperGradSearchCV]
)


def number(kind, low, high):
    return lambda value: type(value) is kind and low <= value <= high


def one_of(*choices):
    return lambda value: any(value is c or (type(value) is type(c) and value == c) for c in choices)


STEP = LogisticRegression()

# A space, and what a value of each parameter must be.
SPACES = {
    "reals": (
        {"a": Real(0, 1), "b": Real(1e-3, 1e3, log=True)},
        {"a": number(float, 0, 1), "b": number(float, 1e-3, 1e3)},
    ),
    "integers": (
        {"a": Integer(-3, 9), "b": Integer(1, 1000, log=True), "c": Integer(0, 100, step=5)},
        {
            "a": number(int, -3, 9),
            "b": number(int, 1, 1000),
            "c": lambda value: type(value) is int and value in range(0, 101, 5),
        },
    ),
    "all-categorical": (
        {"a": list("abcd"), "b": [True, False], "c": [None, "x", ("t", 1), STEP]},
        {
            "a": one_of(*"abcd"),
            "b": one_of(True, False),
            "c": one_of(None, "x", ("t", 1), STEP),
        },
    ),
    "lists of numbers": (
        {"a": [10, 1, 5, 2], "b": np.logspace(-3, 3, 13), "c": range(5), "d": (0.5, 1)},
        {
            "a": one_of(1, 2, 5, 10),
            "b": number(np.float64, 1e-3, 1e3),
            "c": number(int, 0, 4),
            "d": one_of(0.5, 1),
        },
    ),
    "distributions": (
        {
            "a": stats.norm(),
            "b": stats.poisson(3),
            "c": stats.beta(2, 5),
            "d": stats.binom(5, 0.3),
            "e": stats.randint(2, 9),
            "f": stats.loguniform(1e-3, 1),
        },
        {
            "a": number(float, -3.1, 3.1),
            "b": number(int, 0, 20),
            "c": number(float, 0, 1),
            "d": number(int, 0, 5),
            "e": number(int, 2, 8),
            "f": number(float, 1e-3, 1),
        },
    ),
    "draws": (
        {
            "a": Draws(lambda rng: float(rng.uniform())),
            "b": Draws(lambda rng: str(rng.choice(["u", "v"]))),
        },
        {"a": number(float, 0, 1), "b": one_of("u", "v")},
    ),
    "ordered": (
        {"a": Categorical(["low", "medium", "high"], ordered=True), "b": Real(-1, 1)},
        {"a": one_of("low", "medium", "high"), "b": number(float, -1, 1)},
    ),
    "one real": ({"a": Real(-5, 5)}, {"a": number(float, -5, 5)}),
    "one integer": ({"a": Integer(0, 10**6)}, {"a": number(int, 0, 10**6)}),
    "one category": (
        {"a": Categorical([*range(60)])},
        {"a": number(int, 0, 59)},
    ),
    "branches": (
        [
            {"kind": ["p"], "a": Real(0, 1)},
            {"kind": ["q"], "a": Real(0, 1), "b": [1, 2, 3]},
            {"kind": ["r"], "c": stats.norm(), "d": list("xyz")},
            {"e": Integer(0, 9)},
        ],
        {
            "kind": one_of(*"pqr"),
            "a": number(float, 0, 1),
            "b": one_of(1, 2, 3),
            "c": number(float, -3.1, 3.1),
            "d": one_of(*"xyz"),
            "e": number(int, 0, 9),
        },
    ),
    "twenty": (
        {f"x{i:02}": Real(0, 1) if i % 3 else Integer(0, 9) for i in range(20)},
        {f"x{i:02}": number(float if i % 3 else int, 0, 1 if i % 3 else 9) for i in range(20)},
    ),
}
every_space = pytest.mark.parametrize("kind", SPACES)
# Spaces that are as different as a few can be, for what is tested in several ways.
some_spaces = pytest.mark.parametrize("kind", ["reals", "all-categorical", "branches"])


def search_of(search_class, space, objective=toys.smooth, *, own=None, **options):
    options = {"n_iter": 16, "cv": 2, "random_state": 0, "refit": False, **options}
    return search_class(Anything(objective, **(own or {})), space, **options)


def candidates(search):
    return [trial.params for trial in search.history_]


def fitted(search_class, space, objective=toys.smooth, **options):
    return search_of(search_class, space, objective, **options).fit(X)


def assert_inside(search, kind):
    _, allowed = SPACES[kind]
    for params in candidates(search):
        for name, value in params.items():
            assert allowed[name](value), (name, value)


def assert_no_point_twice(search):
    keys = [Space.key(trial.proposal.unit) for trial in search.history_]
    assert len(set(keys)) == len(keys)


# --------------------------------------------------------------------- what is proposed


@every_space
@every_search
def test_proposals_lie_in_the_space_and_are_of_the_users_types(search_class, kind):
    space, allowed = SPACES[kind]
    search = fitted(search_class, space)
    assert len(search.history_) == 16
    assert search.stop_reason_ == "n_iter=16 candidates were tried."
    assert_inside(search, kind)
    branches = space if isinstance(space, list) else [space]
    names = {tuple(sorted(branch)) for branch in branches}
    assert {tuple(params) for params in candidates(search)} <= names
    assert set().union(*names) == set(allowed)


@every_space
@every_search
def test_no_point_is_tried_twice(search_class, kind):
    if kind == "draws":
        pytest.skip("what only draws may hide a small space")
    assert_no_point_twice(fitted(search_class, SPACES[kind][0]))


@some_spaces
@every_search
def test_the_same_seed_gives_the_same_candidates(search_class, kind):
    space = SPACES[kind][0]
    one, two, other = (fitted(search_class, space, random_state=seed) for seed in (7, 7, 8))
    assert repr(candidates(one)) == repr(candidates(two))
    assert repr(candidates(one)) != repr(candidates(other))


@every_search
def test_the_order_in_which_parameters_are_written_changes_nothing(search_class):
    space = SPACES["distributions"][0]
    turned = dict(reversed(space.items()))
    one, two = fitted(search_class, space), fitted(search_class, turned)
    assert candidates(one) == candidates(two)


@every_search
def test_without_a_seed_each_fit_is_another(search_class):
    search = search_of(search_class, {"a": Real(0, 1)}, random_state=None, n_iter=3)
    assert candidates(search.fit(X)) != candidates(search.fit(X))


@every_search
def test_a_search_learns(search_class):
    def near(params):
        return -abs(params["a"] - 0.3) - abs(math.log10(params["b"]))

    search = fitted(search_class, SPACES["reals"][0], near, n_iter=40)
    late = [np.mean(trial.scores[0].test) for trial in search.history_][25:]
    at_random = RandomizedSearchCV(
        Anything(near), SPACES["reals"][0], n_iter=100, cv=2, refit=False, random_state=0
    ).fit(X)
    # Some look where little is known: by seed, half of them are above the 0.82 to 0.99 quantile.
    assert np.median(late) > np.quantile(at_random.cv_results_["mean_test_score"], 0.8)
    assert search.best_score_ > np.quantile(at_random.cv_results_["mean_test_score"], 0.97)


def test_no_branch_is_given_up_for_a_few_bad_points():
    def narrow_or_plain(params):
        if params["kind"] == "plain":
            return 0.9 + 0.01 * params["a"]
        return math.exp(-(((params["a"] - 0.3) / 0.05) ** 2))

    kinds = ("plain", "narrow", "narrower")
    space = [{"kind": [kind], "a": Real(0, 1)} for kind in kinds]
    late = []
    for seed in range(3):
        search = fitted(BayesSearchCV, space, narrow_or_plain, n_iter=50, random_state=seed)
        late += [params["kind"] for params in candidates(search)[20:]]
    assert min(late.count(kind) for kind in kinds) >= 3


# --------------------------------------------------------------------- failing candidates


@pytest.mark.filterwarnings("ignore:One or more of the test scores")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # sd of inf scores
@pytest.mark.parametrize("objective", [toys.not_a_number, toys.infinite, toys.a_cliff])
@some_spaces
@every_search
def test_candidates_of_terrible_score_do_not_end_a_search(search_class, kind, objective):
    search = fitted(search_class, SPACES[kind][0], objective)
    assert len(search.history_) == 16
    assert_inside(search, kind)
    assert math.isfinite(search.best_score_)
    assert search.best_score_ > -100


@pytest.mark.filterwarnings("ignore:One or more of the test scores")
@some_spaces
@every_search
def test_candidates_that_cannot_be_fitted_do_not_end_a_search(search_class, kind):
    search = search_of(search_class, SPACES[kind][0], toys.unfit)
    with pytest.warns(FitFailedWarning, match="fits failed out of a total of 32"):
        search.fit(X)
    assert len(search.history_) == 16
    assert_inside(search, kind)
    assert math.isfinite(search.best_score_)


@pytest.mark.filterwarnings("ignore:One or more of the test scores")
@every_search
def test_failed_candidates_are_not_sought(search_class):
    def good_or_broken(params):
        return -abs(params["a"] - 0.2) if params["a"] < 0.5 else math.nan

    late = []
    for seed in range(3):
        space = {"a": Real(0, 1), "b": Real(0, 1)}
        search = fitted(search_class, space, good_or_broken, n_iter=40, random_state=seed)
        late.extend(params["a"] for params in candidates(search)[20:])
    assert np.mean(np.array(late) < 0.5) > 0.65


@pytest.mark.parametrize("n_failed", [1, 339])
def test_a_rare_kind_of_outcome_among_many_is_not_lost(n_failed):
    space = Space.parse({"a": Real(0, 1), "b": list("xyz")})
    generator = np.random.default_rng(0)
    units = space.untried(generator, 340, set())
    scores = units[:, 0].copy()
    scores[generator.permutation(340)[:n_failed]] = np.nan
    tried = {Space.key(unit) for unit in units}
    for seed in range(5):
        known = Known(units, scores[:, None], units[:0], tried, 340, None)
        point, note = BayesSearchCV(None, {})._ask(space, known, np.random.default_rng(seed))
        assert Space.key(point) not in tried
        assert note is None or np.isfinite(note["success"]).all()


def test_combinations_that_fail_are_learned():
    good = {"a": "x", "b": "y", "c": "z"}

    def one_partner_each(params):
        return params["u"] if good[params["one"]] == params["other"] else math.nan

    space = {"one": list("abc"), "other": list("xyz"), "u": Real(0, 1)}
    failed = []
    for seed in range(3):
        search = search_of(BayesSearchCV, space, one_partner_each, n_iter=50, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search.fit(X)
        failed.append(np.isnan(search.cv_results_["mean_test_score"][30:]).mean())
        assert search.best_score_ > 0.95
    # Two in three of random candidates fail.
    assert np.mean(failed) < 0.4


@pytest.mark.filterwarnings("ignore:One or more of the test scores")
def test_the_best_scores_are_found_where_fits_fail_beside_them():
    def rising_to_a_cliff(params):
        return math.nan if params["a"] > 0.7 else params["a"] - (params["b"] - 0.5) ** 2

    def good_inside(params):
        a, b = params["a"], params["b"]
        return math.nan if a > 0.8 or b < 0.2 else -((a - 0.6) ** 2) - (b - 0.4) ** 2

    space, failed = {"a": Real(0, 1), "b": Real(0, 1)}, {}
    for objective, best in ((rising_to_a_cliff, 0.7), (good_inside, 0.0)):
        failed[objective] = []
        for seed in range(3):
            search = fitted(BayesSearchCV, space, objective, n_iter=40, random_state=seed)
            assert search.best_score_ > best - 0.01
            failed[objective].append(np.isnan(search.cv_results_["mean_test_score"][20:]).mean())
    # Close to the cliff every other one fails, at the least.
    assert np.mean(failed[rising_to_a_cliff]) < 0.85
    assert np.mean(failed[good_inside]) < 0.6


@pytest.mark.filterwarnings("ignore:One or more of the test scores")
@every_search
def test_a_fold_that_fails_fails_its_candidate(search_class):
    search = search_of(search_class, {"a": Real(0, 1)}, half_a_number, n_iter=14)
    search.fit(X)
    assert np.isnan(search.history_.known().scores).sum() == 7


N_CALLS = iter(range(10**9))


def half_a_number(params):
    return math.nan if next(N_CALLS) % 4 == 1 else 0.5


@pytest.mark.filterwarnings("ignore:One or more of the test scores")
@every_search
def test_scores_that_are_never_numbers_end_in_a_full_search(search_class):
    search = fitted(search_class, {"a": Real(0, 1), "b": list("xyz")}, lambda params: math.nan)
    assert len(search.history_) == 16
    assert_no_point_twice(search)


@every_space
@every_search
def test_a_constant_score_spreads_the_candidates(search_class, kind):
    search = fitted(search_class, SPACES[kind][0], toys.flat, n_iter=24)
    assert len(search.history_) == 24
    assert_inside(search, kind)
    if kind == "one real":
        low, high = np.percentile([params["a"] for params in candidates(search)], [20, 80])
        assert low < -1
        assert high > 1


@every_search
def test_scores_that_differ_by_rounding_alone_teach_nothing(search_class):
    space = {"a": Real(0, 1), "b": Real(0, 1)}
    equal = fitted(search_class, space, lambda params: 0.3, n_iter=25, random_state=0)
    rounded = fitted(
        search_class,
        space,
        lambda params: 0.1 + 0.2 if params["a"] > 0.5 else 0.3,
        n_iter=25,
        random_state=0,
    )
    assert candidates(rounded) == candidates(equal)


@every_search
def test_equal_scores_but_one_failure_teach_something_without_a_warning(search_class):
    def flat_or_broken(params):
        return math.nan if params["a"] > 0.9 else 0.25

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One or more of the test scores")
        search = fitted(search_class, {"a": Real(0, 1), "b": [1, 2, 3]}, flat_or_broken)
    assert len(search.history_) == 16


@pytest.mark.parametrize("scale", [1e-150, 1e-12, 1e12, 1e150])
@every_search
def test_scores_of_any_size_are_learned_from(search_class, scale):
    def scaled(params):
        return scale * toys.smooth(params)

    search = fitted(search_class, SPACES["reals"][0], scaled, n_iter=14)
    assert_inside(search, "reals")
    assert len(search.history_) == 14


# --------------------------------------------------------------------- budgets


@pytest.mark.parametrize("n_iter", [1, 2, 3, 5, 11])
@some_spaces
@every_search
def test_the_budget_is_kept(search_class, kind, n_iter):
    search = fitted(search_class, SPACES[kind][0], n_iter=n_iter)
    assert len(search.history_) == len(search.cv_results_["params"]) == n_iter
    assert search.stop_reason_ == f"n_iter={n_iter} candidates were tried."


@every_search
def test_a_space_of_one_point_is_tried_once(search_class):
    for space in ({}, {"a": [3]}, {"a": ["x"], "b": stats.randint(4, 5)}, [{"a": [3]}]):
        search = fitted(search_class, space)
        assert len(search.history_) == 1
        assert search.stop_reason_ == "All 1 points of the search space were tried."


FINITE = {
    "choices": ({"a": list("abc"), "b": [1, 2, 3, 4]}, 12),
    "repeated choices": ({"a": ["x", "x", "y"], "b": [1, 1]}, 6),
    "integers": ({"a": Integer(1, 20, log=True)}, 20),
    "a likely and an unlikely tail": ({"a": stats.binom(9, 0.2)}, 10),
    "branches": ([{"a": [1, 2], "b": list("xyz")}, {"a": [1, 2]}, {"c": Integer(0, 4)}, {}], 14),
    "branches of equal parameters": ([{"a": [1, 2, 3]}, {"a": [1, 2, 3]}], 6),
}


@pytest.mark.parametrize("objective", [toys.smooth, toys.flat])
@pytest.mark.parametrize("kind", FINITE)
@every_search
def test_a_finite_space_is_tried_whole_and_no_point_twice(search_class, kind, objective):
    space, size = FINITE[kind]
    search = fitted(search_class, space, objective, n_iter=50)
    assert len(search.history_) == size
    assert search.stop_reason_ == f"All {size} points of the search space were tried."
    assert_no_point_twice(search)
    search = fitted(search_class, space, objective, n_iter=size)
    assert search.stop_reason_ == f"All {size} points of the search space were tried."
    search = fitted(search_class, space, objective, n_iter=size - 1)
    assert search.stop_reason_ == f"n_iter={size - 1} candidates were tried."
    assert_no_point_twice(search)


@every_search
def test_a_finite_space_is_tried_whole_by_workers(search_class):
    space, size = FINITE["branches"]
    with parallel_config("threading", n_jobs=2):
        search = fitted(search_class, space, n_iter=50)
    assert len(search.history_) == size
    assert_no_point_twice(search)


@pytest.mark.parametrize("distribution", [stats.binom(30, 0.1), stats.binom(60, 0.3)])
@every_search
def test_a_space_with_hardly_possible_points_is_tried_to_its_end(search_class, distribution):
    search = fitted(search_class, {"a": distribution}, n_iter=100)
    assert len(search.history_) == search.space_.size <= 61
    values = [params["a"] for params in candidates(search)]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("high", [2**31, 2**53, 10**18])
@every_search
def test_whole_numbers_of_any_range_are_searched(search_class, high):
    for space in ({"a": Integer(0, high)}, {"a": Integer(1, high, log=True), "b": [1, 2]}):
        search = fitted(search_class, space, n_iter=30)
        assert all(number(int, 0, high)(params["a"]) for params in candidates(search))


@every_search
def test_a_thousand_switches_are_a_space(search_class):
    space = {f"x{i:04}": [False, True] for i in range(1100)}
    search = fitted(search_class, space, n_iter=3)
    assert len(search.history_) == 3


@every_search
def test_an_endless_table_of_few_values_is_repeated_rather_than_missed(search_class):
    search = fitted(search_class, {"a": stats.poisson(0.01)}, n_iter=15)
    assert len(search.history_) == 15


# --------------------------------------------------------------------- first candidates


@every_search
def test_the_estimators_own_values_come_first_if_the_space_holds_them(search_class):
    search = fitted(
        search_class, {"a": Real(0, 1), "b": list("xyz")}, own={"a": 0.125, "b": "y"}, n_iter=4
    )
    assert candidates(search)[0] == {"a": 0.125, "b": "y"}
    assert [trial.proposal.origin for trial in search.history_] == ["default"] + ["asked"] * 3


@pytest.mark.parametrize(
    "own", [{"a": 2.0, "b": "y"}, {"a": 0.5, "b": "w"}, {"a": 0.5}, {"a": None, "b": "x"}, {}]
)
@every_search
def test_own_values_outside_the_space_are_not_tried(search_class, own):
    search = fitted(search_class, {"a": Real(0, 1), "b": list("xyz")}, own=own, n_iter=3)
    assert {trial.proposal.origin for trial in search.history_} == {"asked"}


@every_search
def test_own_values_are_tried_in_the_branch_that_holds_them(search_class):
    space = [{"a": [1, 2]}, {"a": [5, 7], "b": ["x"]}, {"b": ["y"]}]
    search = fitted(search_class, space, own={"a": 7, "b": "x"}, n_iter=3)
    assert candidates(search)[0] == {"a": 7, "b": "x"}


@every_search
def test_a_number_in_a_list_is_found_whatever_its_type(search_class):
    search = fitted(search_class, {"a": [1, 2, 3], "b": Real(0, 1)}, own={"a": 1.0, "b": 0.5})
    first = search.history_.trials[0]
    assert first.proposal.origin == "default"
    assert type(first.params["a"]) is int  # the user's own object


@every_search
def test_initial_params_follow_in_their_order(search_class):
    initial = [{"a": 0.75, "b": "z"}, {"a": 1, "b": "x"}, {"a": 0.0, "b": "y"}]
    search = fitted(
        search_class,
        {"a": Real(0, 1), "b": list("xyz")},
        own={"a": 0.5, "b": "x"},
        initial_params=initial,
        n_iter=6,
    )
    assert candidates(search)[:4] == [{"a": 0.5, "b": "x"}, *initial]
    origins = [trial.proposal.origin for trial in search.history_]
    assert origins == ["default", "initial", "initial", "initial", "asked", "asked"]
    for kind in (tuple, list):
        search.set_params(initial_params=kind(initial), n_iter=2)
        assert candidates(search.fit(X)) == [{"a": 0.5, "b": "x"}, initial[0]]


@every_search
def test_initial_params_that_are_the_own_values_are_tried_once(search_class):
    space = {"a": Real(0, 1), "b": list("xyz")}
    same = {"a": 0.5, "b": "x"}
    search = fitted(search_class, space, own=same, initial_params=[same, same], n_iter=4)
    assert candidates(search).count(same) == 1
    search = fitted(search_class, {"a": [1, 1, 2]}, own={"a": 1}, initial_params=[{"a": 1}])
    assert [params["a"] for params in candidates(search)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("distribution", "values"),
    [
        (stats.expon(), [10.0, 100.0, 1000.0]),
        (stats.norm(), [5.0, 6.0]),
        (stats.binom(200, 0.3), [120, 150]),
        (stats.binom(60, 0.1), [55, 56, 57]),
    ],
    ids=["expon", "norm", "binom 200", "binom 60"],
)
@every_search
def test_initial_params_far_in_a_tail_are_tried_as_given_or_refused(
    search_class, distribution, values
):
    initial = [{"a": value} for value in values]
    search = search_of(search_class, {"a": distribution}, initial_params=initial, n_iter=14)
    try:
        answer = candidates(search.fit(X))[: len(values)]
    except ValueError as error:
        answer = str(error)
    assert answer == initial or "is outside the search space" in answer


@every_search
def test_the_users_own_objects_reach_the_results(search_class):
    one, two = LogisticRegression(C=2), LogisticRegression(C=3)
    search = fitted(
        search_class,
        {"clf": [one, two, None]},
        own={"clf": LogisticRegression(C=3)},
        initial_params=[{"clf": LogisticRegression(C=2)}],
    )
    assert candidates(search)[0]["clf"] is two
    assert candidates(search)[1]["clf"] is one


@pytest.mark.parametrize(
    ("initial", "error", "match"),
    [
        ([{"a": 5, "b": "x"}], ValueError, r"^initial_params\[0\]=.* is outside .* in \['a'\]"),
        (
            [{"a": 0.5, "b": "x"}, {"a": 1}],
            ValueError,
            r"^initial_params\[1\]=.*\['a'\]; the search",
        ),
        ([{"a": 0.5, "b": "x", "c": 1}], ValueError, r"has the parameters \['a', 'b', 'c'\]"),
        ([{}], ValueError, r"^initial_params\[0\]=\{\} has the parameters \[\]"),
        (["a"], TypeError, r"^initial_params\[0\] must be a dict, got 'a' of type str"),
        ([None], TypeError, r"^initial_params\[0\] must be a dict, got None"),
        ({"a": 1, "b": "x"}, ValueError, "The 'initial_params' parameter of"),
    ],
)
@every_search
def test_bad_initial_params_are_refused(search_class, initial, error, match):
    search = search_of(search_class, {"a": Real(0, 1), "b": list("xyz")}, initial_params=initial)
    with pytest.raises(error, match=match):
        search.fit(X)


@pytest.mark.parametrize("given", [{"a": "abc"}, {"a": []}, [], {"a": Real(2, 1)}, {1: [2]}])
@every_search
def test_a_bad_space_is_refused_before_anything_is_fitted(search_class, given):
    def never(params):
        raise AssertionError("fitted")

    search = search_of(search_class, given, never)
    with pytest.raises((TypeError, ValueError), match="param_distributions"):
        search.fit(X)
    assert not hasattr(search, "cv_results_")


@every_search
def test_a_parameter_unknown_to_the_estimator_is_refused_with_its_name(search_class):
    search = search_class(DummyClassifier(), {"strateg": ["prior"]}, cv=2)
    with pytest.raises(ValueError, match=r"'strateg'.*Did you mean 'strategy'"):
        search.fit(X, [0, 1] * 3)


# --------------------------------------------------------------------- asking


def known_of(space, n, seed=0, n_pending=2):
    rng = np.random.default_rng(seed)
    units = space.sample(rng, n + n_pending)
    scores = rng.standard_normal((n, 2))
    scores[:: max(n // 3, 2)] = np.nan
    return Known(
        units=units[:n],
        fold_scores=scores,
        pending=units[n:],
        tried={Space.key(unit) for unit in units},
        n_asked=n,
        note=None,
    )


@every_space
@every_search
def test_asking_changes_nothing_and_the_same_question_has_the_same_answer(search_class, kind):
    space = Space.parse(SPACES[kind][0])
    search = search_of(search_class, SPACES[kind][0])
    known = known_of(space, 20)
    before, state = copy.deepcopy(known), copy.deepcopy(vars(search))
    dimensions = [[repr(value) for value in vars(d).values()] for d in space.dimensions]
    first, note = search._ask(space, known, np.random.default_rng(5))
    for name in ("units", "fold_scores", "pending"):
        np.testing.assert_array_equal(getattr(known, name), getattr(before, name))
    assert known.tried == before.tried
    assert dimensions == [[repr(value) for value in vars(d).values()] for d in space.dimensions]
    assert vars(search).keys() == state.keys()
    again, same_note = search._ask(space, known, np.random.default_rng(5))
    np.testing.assert_array_equal(first, again)
    assert note == same_note
    np.testing.assert_array_equal(space.snap(first[None])[0], first)
    assert Space.key(first) not in known.tried or kind == "draws"


@every_search
def test_all_that_is_tried_with_nothing_known_is_spread(search_class, monkeypatch):
    monkeypatch.setattr(search_class, "_lookback", lambda self, n_workers, n_folds, probe: 31)
    search = search_of(search_class, {"a": Real(0, 1), "b": Real(0, 1)}, n_iter=32).fit(X)
    assert search._n_startup(search.space_) < 32
    # As in a Sobol' sequence, each value has a strip of its own.
    tried = np.array([list(params.values()) for params in candidates(search)])
    strips = np.sort(np.floor(32 * tried), axis=0)
    np.testing.assert_array_equal(strips, np.arange(32)[:, None] * [1, 1])


@every_search
def test_a_proposal_avoids_what_is_pending(search_class):
    space = Space.parse({"a": Real(0, 1)})
    units = np.linspace(0.05, 0.95, 10)[:, None]
    scores = -np.abs(units - 0.5)
    asked = []
    for pending in (np.empty((0, 1)), np.full((1, 1), 0.52)):
        known = Known(units, scores, pending, set(), 10, None)
        search = search_of(search_class, {"a": Real(0, 1)})
        asked.append([search._ask(space, known, np.random.default_rng(i))[0][0] for i in range(12)])
    near = [np.mean(np.abs(np.array(found) - 0.52) < 0.01) for found in asked]
    assert near[1] <= near[0]


@every_search
def test_a_note_is_of_plain_numbers_and_may_be_read_back(search_class):
    space = Space.parse(SPACES["branches"][0])
    search = search_of(search_class, SPACES["branches"][0])
    known = known_of(space, 30)
    notes = [search._ask(space, known, np.random.default_rng(i))[1] for i in range(5)]
    for note in filter(None, notes):
        assert note == eval(repr(note))
        noted = copy.copy(known)
        object.__setattr__(noted, "note", note)
        unit, _ = search._ask(space, noted, np.random.default_rng(9))
        np.testing.assert_array_equal(space.snap(unit[None])[0], unit)


def test_hyperparameters_are_fitted_anew_however_long_the_record():
    space = Space.parse(SPACES["reals"][0])
    search = search_of(BayesSearchCV, SPACES["reals"][0])
    known = known_of(space, 500)
    noted = []
    for seen in (470, 490):
        object.__setattr__(known, "note", {"theta": [[0.0] * 4], "n": seen})
        asked = (search._ask(space, known, np.random.default_rng(i))[1] for i in range(3))
        noted.append(max(note["n"] for note in asked))
    assert noted == [500, 490]


@pytest.mark.parametrize("n", [60, 310])
def test_a_long_record_is_learned_from_without_end(n):
    space = Space.parse(SPACES["reals"][0])
    search = search_of(BayesSearchCV, SPACES["reals"][0])
    known = known_of(space, n)
    note = None
    for i in (1, 2):
        object.__setattr__(known, "note", note)
        unit, note = search._ask(space, known, np.random.default_rng(i))
        assert ((unit >= 0) & (unit <= 1)).all()
        assert note["n"] == n


# --------------------------------------------------------------------- workers


@pytest.mark.parametrize("kind", ["distributions", "branches"])
@every_search
def test_workers_give_the_same_candidates_on_every_run_and_backend(search_class, kind):
    space = {name: value for name, value in SPACES["distributions"][0].items() if name != "a"}
    space = space if kind == "distributions" else SPACES[kind][0]
    found = []
    for backend in ("threading", "loky", "threading"):
        with parallel_config(backend):
            search = fitted(search_class, space, n_jobs=2, n_iter=18)
        found.append(repr(candidates(search)))
        assert len(search.history_) == 18
    assert found[0] == found[1] == found[2]


@every_search
def test_workers_without_a_seed_try_as_many(search_class):
    with parallel_config("threading"):
        search = fitted(search_class, SPACES["reals"][0], n_jobs=2, random_state=None)
    assert len(search.history_) == 16
    assert_inside(search, "reals")
    assert_no_point_twice(search)


@pytest.mark.parametrize("n", [30, 1025, 1026, 3000])
@pytest.mark.parametrize("n_values", [2, 40, 10**6])
def test_the_good_ones_are_those_that_a_stable_sort_puts_first(n, n_values):
    rng = np.random.default_rng(0)
    losses = rng.integers(n_values, size=n).astype(float)
    losses[rng.random(n) < 0.1] = np.inf
    order = np.argsort(losses, kind="stable")
    good, rest = _split(losses, 25)
    assert good.tolist() == order[:25].tolist()
    assert sorted(rest) == sorted(order[25:])
