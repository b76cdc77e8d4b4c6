"""What holds for all spaces, points and scores that hypothesis can think of."""

from __future__ import annotations

import math
from string import ascii_lowercase

import numpy as np
import pytest
import toys
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from tunein import BayesSearchCV, Categorical, Integer, Real, TPESearchCV
from tunein._dimensions import Interval
from tunein._history import Known
from tunein._math import gp
from tunein._math.acquisition import log_ei, log_h
from tunein._math.parzen import ParzenMixture
from tunein._math.scores import observe
from tunein._parse import parse_dimension
from tunein._space import Space

settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")
many, some, few = (settings(max_examples=n) for n in (150, 60, 25))

# --------------------------------------------------------------------- what users may write

sizes = st.floats(1e-9, 1e9)
ratios = st.floats(1e-3, 1e9)
places = st.floats(-1e9, 1e9)


@st.composite
def bounds(draw):
    """Two numbers that have enough others between them to tell apart."""
    low, width = draw(places), draw(sizes)
    assume(width > 1e-6 * abs(low))
    return low, low + width


@st.composite
def reals(draw):
    if draw(st.booleans()):
        low = draw(sizes)
        return Real(low, low * (1 + draw(ratios)), log=True)
    return Real(*draw(bounds()))


@st.composite
def integers(draw):
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -(10**6), 10**6))
    width = draw(
        st.integers(1, 10**6) if log else st.one_of(st.integers(1, 20), st.integers(1, 10**9))
    )
    return Integer(low, low + width, log=log, step=draw(st.integers(1, width)))


numbers = st.one_of(st.integers(-(10**12), 10**12), st.floats(-1e12, 1e12))
anything = st.one_of(
    numbers,
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.just(math.nan),
    st.tuples(st.integers(0, 3), st.text(max_size=1)),
    st.dictionaries(st.sampled_from("ab"), st.integers(0, 3)),
    st.lists(st.integers(0, 3), max_size=2),
    st.builds(np.arange, st.integers(0, 3)),
)
choices = st.one_of(
    st.lists(numbers, min_size=1, max_size=8),
    st.lists(anything, min_size=1, max_size=8),
    st.builds(range, st.integers(1, 9)),
    st.lists(numbers, min_size=1, max_size=8).map(lambda values: np.array(values, dtype=float)),
    st.builds(Categorical, st.lists(anything, min_size=1, max_size=6), st.booleans()),
    st.builds(Categorical, st.lists(numbers, min_size=1, max_size=6), st.just(True)),
)
shares = st.floats(0.01, 0.99)
discrete = st.one_of(
    st.builds(stats.binom, st.integers(1, 60), shares),
    st.builds(stats.poisson, st.floats(0.01, 50)),
    st.builds(stats.geom, shares),
    st.builds(lambda low, n: stats.randint(low, low + n), st.integers(-99, 99), st.integers(1, 99)),
)
continuous = st.one_of(
    bounds().map(lambda ends: stats.uniform(ends[0], ends[1] - ends[0])),
    st.builds(lambda low, ratio: stats.loguniform(low, low * (1 + ratio)), sizes, ratios),
    st.builds(stats.norm, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3)),
    st.builds(stats.expon, scale=st.floats(1e-6, 1e6)),
    st.builds(stats.beta, st.floats(0.5, 9), st.floats(0.5, 9)),
    st.builds(stats.cauchy),
)
specs = st.one_of(reals(), integers(), choices, discrete, continuous)
finite_specs = st.one_of(
    st.lists(anything, min_size=1, max_size=4),
    st.builds(lambda low, n: Integer(low, low + n), st.integers(-9, 9), st.integers(1, 4)),
    st.builds(stats.binom, st.integers(1, 5), shares),
    st.builds(stats.binom, st.integers(6, 40), shares),
)
names = st.sampled_from("abc")


def spaces(values, max_branches=3):
    branch = st.dictionaries(names, values, max_size=3)
    return st.one_of(branch, st.lists(branch, min_size=1, max_size=max_branches))


# No generator of random numbers comes closer to zero, and scipy's quantiles break down there.
coordinates = st.one_of(st.floats(1e-16, 1), st.sampled_from([0.0, 1.0, 0.5, 1e-12, 1 - 1e-12]))


def parsed(spec):
    return parse_dimension(spec, "param_distributions['a']")


# --------------------------------------------------------------------- one dimension


@many
@given(specs, coordinates)
@example(stats.binom(60, 0.1), 1.0)
@example(stats.binom(30, 0.01), 1.0)
@example(Real(1e-9, 1e9, log=True), 1.0)
@example(Categorical([1, 2, 1], ordered=True), 0.9)
def test_what_is_decoded_is_encoded_to_the_same_point(spec, u):
    dimension = parsed(spec)
    (snapped,) = dimension.snap(np.array([u]))
    assert 0 <= snapped <= 1
    value = dimension.decode(snapped)
    found = dimension.encode(value)
    if dimension.kind == "continuous":
        (again,) = found
        assert again == pytest.approx(snapped, abs=1e-6)
        if isinstance(dimension, Interval):  # scipy's quantiles have a few digits less
            assert dimension.decode(again) == pytest.approx(value, rel=1e-9)
    else:
        assert snapped in found
        assert all(0 <= point <= 1 for point in found)
        same = [dimension.decode(point) for point in found]
        assert all(repr(one) == repr(value) or one == value for one in same)


@many
@given(specs, coordinates)
def test_a_snapped_coordinate_stays_and_holds_the_same_value(spec, u):
    dimension = parsed(spec)
    once = dimension.snap(np.array([u]))
    assert list(dimension.snap(once)) == list(once)
    one, two = dimension.decode(u), dimension.decode(once[0])
    assert type(one) is type(two)
    assert repr(one) == repr(two)


@many
@given(specs, st.lists(coordinates, min_size=1, max_size=20))
def test_models_see_the_cube_in_its_order(spec, us):
    dimension = parsed(spec)
    snapped = np.unique(dimension.snap(np.array(us)))
    features = dimension.features(snapped)
    assert ((features >= 0) & (features <= 1)).all()
    if dimension.kind != "categorical":
        assert (np.diff(features) >= 0).all() or (np.diff(features) <= 0).all()


@many
@given(st.one_of(reals(), integers(), discrete, continuous), st.lists(coordinates, min_size=2))
def test_larger_coordinates_are_larger_numbers(spec, us):
    dimension = parsed(spec)
    values = [dimension.decode(u) for u in sorted(us)]
    assert values == sorted(values)
    assert {type(value) for value in values} <= {int, float}
    assert len({type(value) for value in values}) == 1


@many
@given(st.one_of(reals(), integers()), coordinates)
def test_bounds_are_kept(spec, u):
    value = parsed(spec).decode(u)
    assert spec.low <= value <= spec.high
    if isinstance(spec, Integer):
        assert (value - spec.low) % spec.step == 0


@many
@given(st.one_of(integers(), choices, discrete), coordinates)
@example(stats.binom(60, 0.1), 1.0)
def test_a_cell_holds_its_point_and_its_value_and_no_other(spec, u):
    dimension = parsed(spec)
    (point,) = dimension.snap(np.array([u]))
    (lower,), (upper,) = dimension.cells(np.array([point]))
    assert 0 <= lower < point < upper <= 1
    assert list(dimension.widths(np.array([point]))) == [upper - lower]
    inside = dimension.snap(lower + (upper - lower) * np.array([0.01, 0.5, 0.99]))
    assert list(inside) == [point] * 3


@some
@given(st.one_of(choices, discrete, integers().filter(lambda s: s.high - s.low < 100)))
@example(stats.binom(60, 0.1))
def test_points_are_numbered_without_repetition(spec):
    dimension = parsed(spec)
    if not math.isfinite(dimension.n_levels):
        return
    points = dimension.points(np.arange(int(dimension.n_levels)))
    assert (np.diff(points) > 0).all()
    assert list(dimension.snap(points)) == list(points)


@many
@given(specs, anything)
def test_any_value_is_found_or_not_found(spec, value):
    dimension = parsed(spec)
    for point in dimension.encode(value):
        assert 0 <= point <= 1
        found = dimension.decode(point)
        if dimension.kind != "continuous":
            assert repr(found) == repr(value) or found == value


# --------------------------------------------------------------------- whole spaces


@many
@given(spaces(specs), st.integers(0, 99))
def test_a_point_of_any_space_is_found_by_its_parameters(written, seed):
    space = Space.parse(written)
    for unit in space.sample(np.random.default_rng(seed), 3):
        params = space.decode(unit)
        assert list(params) == sorted(params)
        branches = written if isinstance(written, list) else [written]
        assert set(params) in [set(branch) for branch in branches]
        found = [again for again, _ in space.encode(params)]
        assert any(np.allclose(again, unit, atol=1e-6, equal_nan=True) for again in found)
        exact = [
            again
            for again in found
            if all(
                kind == "continuous" or again[j] == unit[j] or np.isnan(unit[j])
                for j, kind in enumerate(space.kinds)
            )
        ]
        assert exact


@many
@given(spaces(specs), st.integers(0, 99))
def test_snapping_any_point_twice_is_snapping_it_once(written, seed):
    space = Space.parse(written)
    units = space.sample(np.random.default_rng(seed), 5)
    np.testing.assert_array_equal(space.snap(units), units)
    features = space.features(units)
    np.testing.assert_array_equal(np.isnan(features), np.isnan(units))
    assert ((features >= 0) & (features <= 1) | np.isnan(features)).all()


@some
@given(spaces(finite_specs))
@example({"a": stats.binom(40, 0.05)})
def test_keys_tell_all_points_of_a_finite_space_apart(written):
    space = Space.parse(written)
    if space.size > 4096:
        return
    points = space.untried(np.random.default_rng(0), int(space.size), set())
    keys = {Space.key(point) for point in points}
    assert len(keys) == len(points) == space.size
    np.testing.assert_array_equal(space.snap(points), points)
    assert len(space.untried(np.random.default_rng(0), 5, keys)) == 0
    drawn = space.sample(np.random.default_rng(1), 20)
    assert {Space.key(point) for point in drawn} <= keys


# --------------------------------------------------------------------- what methods are told


@st.composite
def records(draw, written=None, scores=None, min_trials=1, max_trials=14):
    """Draw a space and what is known of it, among it repeated points and failures."""
    space = Space.parse(draw(spaces(specs)) if written is None else written)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    n, n_pending = draw(st.integers(min_trials, max_trials)), draw(st.integers(0, 4))
    units = space.sample(rng, n + n_pending)
    if draw(st.booleans()):
        units = units[rng.integers(0, max(len(units) // 2, 1), size=len(units))]
    values = draw(st.lists(scores, min_size=n, max_size=n))
    return space, _known(space, units, n, values)


def _known(space, units, n, values):
    tried = {Space.key(unit) for unit in units}
    return Known(units[:n], np.array(values, dtype=float)[:, None], units[n:], tried, n, None)


def _with_scores(known, scores):
    return Known(known.units, scores, known.pending, known.tried, known.n_asked, known.note)


def _ask(search_class, space, known, seed=0):
    search = search_class(toys.Anything(), {})
    return search._ask(space, known, np.random.default_rng(seed))[0]


def _is_answerable(space, known):
    """Tell whether a search would ask: something is known, and something is left to try."""
    scores = known.scores
    finite = np.isfinite(scores)
    is_telling = finite.any() and not (finite.all() and np.ptp(scores) == 0)
    return is_telling and len(known.tried) < space.size


def assert_a_point_of(space, unit):
    np.testing.assert_array_equal(space.snap(unit[None])[0], unit)
    assert np.isfinite(unit[~np.isnan(unit)]).all()
    space.decode(unit)


failing = st.one_of(st.floats(-100, 100), st.just(math.nan), st.sampled_from([0.0, 0.5, -1e30]))


@some
@given(records(scores=failing))
def test_tpe_answers_whatever_is_known(record):
    space, known = record
    assume(_is_answerable(space, known))
    unit = _ask(TPESearchCV, space, known)
    assert_a_point_of(space, unit)
    if math.isfinite(space.size):
        assert Space.key(unit) not in known.tried


@few
@given(records(scores=failing))
def test_bayes_answers_whatever_is_known(record):
    space, known = record
    assume(_is_answerable(space, known))
    for seed in (0, 1):
        unit = _ask(BayesSearchCV, space, known, seed)
        assert_a_point_of(space, unit)
        if math.isfinite(space.size):
            assert Space.key(unit) not in known.tried


MIXED = {"a": Real(0, 1), "b": [1, 2, 3, 10], "c": list("xyz")}
ranks = st.one_of(st.integers(0, 6), st.just(math.nan))
rising = st.lists(st.floats(-1e300, 1e300), min_size=7, max_size=7, unique=True).map(sorted)


@some
@given(records(written=MIXED, scores=ranks, max_trials=20), rising)
def test_tpe_sees_scores_through_their_ranks_only(record, table):
    space, known = record
    assume(_is_answerable(space, known))
    levels = known.fold_scores
    risen = np.where(np.isnan(levels), np.nan, np.array(table)[np.nan_to_num(levels).astype(int)])
    for seed in range(3):
        np.testing.assert_array_equal(
            _ask(TPESearchCV, space, known, seed),
            _ask(TPESearchCV, space, _with_scores(known, risen), seed),
        )


sixteenths = st.one_of(st.integers(-64, 64).map(lambda k: k / 16), st.just(math.nan))


@few
@given(
    records(written=MIXED, scores=sixteenths, min_trials=3),
    st.integers(-40, 40),
    st.integers(-100, 100),
)
def test_bayes_sees_neither_scale_nor_origin_of_the_scores(record, exponent, shift):
    space, known = record
    assume(_is_answerable(space, known))
    for moved in (known.fold_scores * 2.0**exponent, known.fold_scores + shift):
        for seed in (1, 3):  # the seeds 1 and 3 ask the model
            here = _ask(BayesSearchCV, space, known, seed)
            there = _ask(BayesSearchCV, space, _with_scores(known, moved), seed)
            there_value = space.decode(there)
            here_value = space.decode(here)
            assert there_value.pop("a") == pytest.approx(here_value.pop("a"), abs=1e-3)
            assert there_value == here_value


def _standardise(scores):
    return observe(scores, np.column_stack([scores, scores])).y


finite_scores = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20)


@many
@given(finite_scores, st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_standardised_scores_have_no_scale_and_no_origin(values, shift, scale):
    scores = np.array(values)
    spread = np.ptp(scores)
    assume(spread > 1e-3 * max(abs(shift), np.abs(scores).max(), 1e-6))
    # Differences that a shift would round away are no part of the promise.
    scores = np.round((scores - scores.min()) / spread, 3) * spread + scores.min()
    # The best score's distance from the median is what standardising divides by.
    assume(scores.max() - np.median(scores) > 1e-3 * spread)
    mine = _standardise(scores)
    assert mine.mean() == pytest.approx(0, abs=1e-9)
    assert mine.std() == pytest.approx(1)
    np.testing.assert_allclose(_standardise(scores * scale), mine, atol=1e-6)
    np.testing.assert_allclose(_standardise(scores + shift), mine, atol=1e-4)


any_scores = st.lists(
    st.one_of(st.floats(-1e150, 1e150), st.sampled_from([0.0, 1.0])),
    min_size=1,
    max_size=30,
)


@many
@given(any_scores)
@example([0.0, -1e-320, -1.0])
@example([1e308, -1e308, 0.0])
@example([1e-320, 0.0])
@example([1.0, 1.0])
@example([-1e30, 0.1, 0.2])
def test_standardised_scores_keep_the_order_and_are_finite(values):
    scores = np.array(values)
    before = scores.copy()
    mine = _standardise(scores)
    np.testing.assert_array_equal(scores, before)
    assert np.isfinite(mine).all()
    assert (np.diff(mine[np.argsort(scores)]) >= -1e-12).all()


# --------------------------------------------------------------------- the numerics


kinds = st.lists(st.sampled_from(["continuous", "ordinal", "categorical"]), min_size=1, max_size=4)
scales = st.sampled_from([1.0, 1e-150, 1e150, 1e-8, 0.0])


@st.composite
def observations(draw, max_points=5):
    columns = draw(kinds)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    n = draw(st.integers(1, max_points))
    x = rng.random((n, len(columns)))
    for j, kind in enumerate(columns):
        if kind != "continuous":
            x[:, j] = (np.floor(x[:, j] * 3) + 0.5) / 3
    if draw(st.booleans()):
        x[rng.random(x.shape) < 0.3] = np.nan
    if draw(st.booleans()):
        x = x[rng.integers(0, n, size=n)]
    y = draw(st.lists(st.floats(-3, 3), min_size=n, max_size=n))
    return x, np.array(y), columns


@some
@given(observations(), scales)
def test_a_gaussian_process_is_fitted_to_any_few_points(data, scale):
    x, y, columns = data
    scores = y * scale
    if np.ptp(scores) > 0:
        y = _standardise(scores)
    n_levels = [3.0] * len(columns)
    D = gp.squared_distances(x, x, columns, n_levels)
    theta = gp.fit(gp.LogPosterior(D, y, gp.Prior.of_dimension(len(columns))))
    bounds = gp.Prior.of_dimension(len(columns)).bounds(len(columns))
    assert ((theta >= bounds[:, 0]) & (theta <= bounds[:, 1])).all()
    model = gp.GaussianProcess(x, y, theta, columns, n_levels)
    new = np.vstack([x, np.full_like(x[:1], np.nan), np.zeros_like(x[:1]), np.ones_like(x[:1])])
    mean, sd = model.predict(new)
    assert np.isfinite(mean).all()
    assert (sd > 0).all()
    assert (sd <= np.exp(theta[-2] / 2) * (1 + 1e-9)).all()
    for incumbent in (y.max(), y.max() + 1e3, -1e3):
        assert np.isfinite(log_ei(mean, sd, float(incumbent))).all()


@few
@given(observations(), st.floats(-10, 3), st.floats(-30, 3))
def test_a_gaussian_process_of_any_hyperparameters_answers(data, log_length, log_noise):
    x, y, columns = data
    n_levels = [3.0] * len(columns)
    theta = np.array([log_length] * len(columns) + [0.0, log_noise])
    theta = np.clip(theta, *gp.Prior.of_dimension(len(columns)).bounds(len(columns)).T)
    model = gp.GaussianProcess(x, y, theta, columns, n_levels)
    mean, sd = model.predict(np.vstack([x, np.full_like(x, 0.5)]))
    assert np.isfinite(mean).all()
    assert (sd > 0).all()


@many
@given(st.lists(st.floats(-1e150, 1e150), min_size=1, max_size=50))
@example([-1.0, -1e5, -70.0, -np.nextafter(1.0, 2.0), 0.0, 1e150, -1e150])
def test_log_h_rises_and_is_finite_everywhere(us):
    u = np.unique(np.array(us))
    h = log_h(u)
    assert np.isfinite(h).all()
    assert (np.diff(h) >= -1e-9 * np.abs(h[1:])).all()


@many
@given(
    spaces(specs),
    st.integers(0, 12),
    st.integers(0, 99),
    st.one_of(st.floats(1e-3, 0.5), st.sampled_from([1e-4, 0.15])),
)
def test_a_density_is_finite_and_its_samples_lie_in_the_cube(written, n, seed, bandwidth):
    space = Space.parse(written)
    rng = np.random.default_rng(seed)
    units = space.sample(rng, n)
    d = len(space.dimensions)
    mixture = ParzenMixture(
        units, rng.random(n + 1) + 1e-3, np.full(d, bandwidth), space.kinds, space.widths
    )
    drawn = mixture.sample(rng, 10)
    assert drawn.shape == (10, d)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    points = np.concatenate([space.snap(drawn), units, space.sample(rng, 5)])
    density = mixture.log_density(points)
    assert np.isfinite(density).all()
    # The prior alone gives as much.
    assert (density >= np.log(mixture.weights[-1]) - 1e-9).all()


@some
@given(spaces(specs), st.text(ascii_lowercase, min_size=1, max_size=3), anything)
def test_parameters_of_any_kind_are_found_or_explained(written, name, value):
    space = Space.parse(written)
    found = list(space.encode({name: value}))
    for unit, own in found:
        assert_a_point_of(space, unit)
        assert set(own) == {name}
    if not found:
        assert "the search space" in space.explain_absence({name: value})
