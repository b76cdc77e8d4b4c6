"""Hostile input is taken, or refused with a short message that names the parameter."""

from __future__ import annotations

import json
import math
import os
import pickle
import time
import warnings
from fractions import Fraction

import numpy as np
import pytest
from fakes import Cutoff
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from tunein import (
    BayesSearchCV,
    Categorical,
    Choice,
    EarlyStop,
    FoldRace,
    Halving,
    HyperGradSearchCV,
    Integer,
    Real,
    RegretBound,
    TargetScore,
    TimeLimit,
    TPESearchCV,
)
from tunein._events import Damage, Replay, from_line
from tunein._history import History
from tunein._journal import read_journal
from tunein._math.downhill import _cubic
from tunein._parse import parse_dimension
from tunein._space import Space

hostile = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
X = np.linspace(-1, 1, 24).reshape(12, 2)
Y = np.array([0, 1] * 6)
WIDE = np.random.default_rng(0).normal(size=(12, 3))
REFUSALS = (TypeError, ValueError, OSError)
BEYOND = 10**5000  # has more digits than Python writes


class Contrary:
    """Has no truth value, equals nothing and has no words."""

    def __bool__(self):
        raise RuntimeError("no truth")

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    def __repr__(self):
        raise RuntimeError("no words")

    __hash__ = None


class Failing:
    def rvs(self, random_state=None):
        raise RuntimeError("no draw")


def of_itself():
    own = []
    own.append(own)
    return own


def nested(depth):
    inner = {"x": [1]}
    for i in range(depth):
        inner = {f"p{i}": Choice([("a", inner)])}
    return inner


def check_message(error, name):
    assert name in str(error)
    assert len(str(error)) < 5000


def words_only(value):
    """Name a case by its words: not all values have some."""
    return value if isinstance(value, str) else "-"


def search(space=None, **options):
    space = {"cut": [0.0, 0.1, -0.5]} if space is None else space
    return TPESearchCV(Cutoff(), space, **{"n_iter": 2, "cv": 2, "random_state": 0, **options})


# --------------------------------------------------------------------- spaces

numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.fractions(),
    st.none().map(lambda _: BEYOND),
    st.sampled_from([10**400, 10**308, 5e-324, 1.7e308, -1.7e308, 2**63, True, 10**17 + 1]),
)
scalars = st.one_of(
    numbers, st.none(), st.text(max_size=3), st.builds(Contrary), st.complex_numbers()
)
garbage = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
        st.builds(Real, inner, inner, inner),
        st.builds(Integer, inner, inner, inner, inner),
        st.builds(Categorical, inner, inner),
        st.builds(Choice, inner),
    ),
    max_leaves=8,
)
dimensions = st.one_of(
    st.builds(Real, numbers, numbers, st.booleans()),
    st.builds(Integer, numbers, numbers, st.booleans(), st.one_of(st.just(1), numbers)),
    st.lists(numbers, max_size=5),
    garbage,
)


@hostile
@given(st.dictionaries(st.sampled_from(["x", "y", "\ud800", ""]), dimensions, max_size=3))
def test_any_space_is_taken_or_refused_by_name(given_space):
    try:
        with np.errstate(all="ignore"):
            space = Space.parse(given_space)
    except REFUSALS as error:
        check_message(error, "param_distributions")
        return
    for unit in space.sample(np.random.default_rng(0), 3):
        decoded = space.decode(unit)
        if all(d.n_levels < 2**50 or math.isinf(d.n_levels) for d in space.dimensions):
            assert next(space.encode(decoded))[1].keys() == decoded.keys()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Real(0, 5e-324), "differ by rounding alone"),
        (Real(1e300, math.nextafter(1e300, math.inf), log=True), "differ by rounding alone"),
        (Integer(10**200, 10**200 + 1, log=True), "differ by rounding alone"),
        (Real(0, BEYOND), "finite numbers, got high=an object of type int"),
        (Integer(-(10**308), 10**308), r"up to 1e\+300"),
        (Real(1, 2, log=np.array([1, 2])), "log=True or log=False"),
        (Real(1, 2, log=Contrary()), "got an object of type Contrary"),
        (Categorical(["a", "b"], ordered="no"), "ordered=True or ordered=False"),
        (Failing(), "RuntimeError: no draw"),
        (BEYOND, "a list, tuple or array"),
        (Contrary(), "a list, tuple or array"),
        (range(10**12, 0), "no choices"),
    ],
    ids=words_only,
)
def test_a_value_that_cannot_be_meant_is_named(value, message):
    with pytest.raises((TypeError, ValueError), match=f"^P: .*{message}"):
        parse_dimension(value, "P")


def test_a_range_of_any_length_costs_nothing():
    for values in (range(10**12), range(10**30), range(10**12, 0, -7)):
        dimension = parse_dimension(values, "P")
        for u in (0.0, 0.3, 1.0):
            assert dimension.decode(u) in values
    short, long = range(5, 99_000, 3), range(5, 400_000, 3)
    assert parse_dimension(short, "P").decode(0.0) == parse_dimension(long, "P").decode(0.0) == 5


def test_a_wide_discrete_distribution_is_read_at_few_quantiles():
    start = time.perf_counter()
    dimension = parse_dimension(stats.poisson(1e12), "P")
    assert dimension.decode(0.5) == pytest.approx(1e12, rel=1e-5)
    assert time.perf_counter() - start < 10


def test_whole_numbers_beyond_floats_are_told_apart():
    low = 10**17
    dimension = parse_dimension(Integer(low, low + 9), "P")
    for value in range(low, low + 10):
        assert dimension.decode(dimension.encode(value)[0]) == value
    assert dimension.encode(low + 10) == dimension.encode(low - 1) == []


def test_choices_without_end_are_refused():
    options = []
    own = Choice(options)
    options.append(("a", {"y": own}))
    with pytest.raises(ValueError, match=r"param_distributions\['x'\].* around this choice"):
        Space.parse({"x": own})
    with pytest.raises(ValueError, match=r"param_distributions: .*nested too deeply"):
        Space.parse(nested(5000))
    Space.parse(nested(20))


def test_values_that_hold_themselves_are_the_same_only_if_identical():
    own = of_itself()
    dimension = parse_dimension([own, 1], "P")
    assert len(dimension.encode(own)) == 1
    assert dimension.encode(of_itself()) == []


# --------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"callbacks": TargetScore(-(10**400))}, "score="),
        ({"callbacks": TargetScore(BEYOND)}, "score="),
        ({"callbacks": EarlyStop(patience=-BEYOND)}, "patience="),
        ({"callbacks": RegretBound(tol=Contrary())}, "tol="),
        ({"callbacks": TimeLimit(9, abandon=np.array([]))}, "abandon="),
        ({"callbacks": [Contrary()]}, r"callbacks\[0\]="),
        ({"racing": FoldRace(BEYOND)}, "risk="),
        ({"racing": Halving(["cut"])}, "resource="),
        ({"racing": Halving(np.array(["a", "b"]))}, "resource="),
        ({"racing": Halving(brackets=np.arange(2))}, "brackets="),
        ({"racing": Halving(factor=1 + 2**-52)}, "factor="),
        ({"racing": Halving(max_resources=BEYOND)}, "max_resources="),
        ({"initial_params": [{"cut": 0.0, 1: 2}]}, r"initial_params\[0\].* names are strings"),
        ({"initial_params": [{"cut": BEYOND}]}, r"initial_params\[0\]"),
        ({"initial_params": [Contrary()]}, r"initial_params\[0\]"),
        ({"history": "/nowhere/at/all"}, "history cannot be opened"),
        ({"history": "a\0b"}, "history=.* cannot be the path of a file"),
        ({"checkpoint": "a\0b"}, "checkpoint=.* cannot be the path of a file"),
        ({"checkpoint": "a\ud800b"}, "checkpoint=.* cannot be the path of a file"),
        ({"history": {"params": 3, "mean_test_score": [1]}}, "history must be a cv_results_"),
        ({"history": {"params": [{}], "mean_test_score": "x"}}, "history must be a cv_results_"),
        (
            {"history": {"params": [(1, 2)], "mean_test_score": [1]}},
            "history must be a cv_results_",
        ),
    ],
    ids=words_only,
)
def test_a_setting_that_cannot_be_meant_is_named(options, message):
    with pytest.raises(REFUSALS, match=message):
        search(**options).fit(X, Y)


def test_fractions_are_numbers():
    half = Fraction(1, 2)
    for callback in (TargetScore(Fraction(0)), EarlyStop(1, half), TimeLimit(half + 99)):
        assert search(callbacks=callback).fit(X, Y).stop_reason_
    assert parse_dimension(stats.norm(), "P").encode(half) == [stats.norm().cdf(0.5)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("history", "checkpoint"):
        with pytest.raises(ValueError, match=f"{name}=.* no regular file"):
            search(**{name: str(tmp_path / "pipe")}).fit(X, Y)


# --------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A search, and the lines of its journal."""
    path = tmp_path_factory.mktemp("hostile") / "run.jsonl"
    fitted = search(checkpoint=path, n_iter=3, racing=FoldRace()).fit(X, Y)
    return fitted, path.read_bytes().splitlines(keepends=True)


def deep(text, n):
    return text * n + {"[": "]", '{"a":': "1}"}[text] * n


json_values = st.one_of(
    st.sampled_from(
        ["null", "true", "-1", "1e999", "NaN", '"NaN"', "9" * 400, "9" * 5000, '"\\ud800"', "[]"]
    ),
    st.builds(deep, st.sampled_from(["[", '{"a":']), st.sampled_from([1, 900, 960, 980, 10**5])),
    st.recursive(
        st.one_of(st.integers(), st.floats(), st.text(max_size=3)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=3)
        ),
        max_leaves=6,
    ).map(json.dumps),
)


@st.composite
def damaged(draw, lines):
    """Lines of which one has another value, fewer bytes, or other ones."""
    lines, at = list(lines), draw(st.integers(0, len(lines) - 1))
    line = lines[at]
    kind = draw(st.integers(0, 3))
    if kind == 0:
        cut = draw(st.integers(0, len(line)))
        line = line[:cut] + draw(st.binary(max_size=9)) + line[cut + draw(st.integers(0, 9)) :]
    elif kind == 1:
        lines.insert(draw(st.integers(0, len(lines))), draw(st.binary(max_size=99)) + b"\n")
    else:
        event = json.loads(line)
        inner = event["search"] if "search" in event and draw(st.booleans()) else event
        inner[draw(st.sampled_from(sorted(inner)))] = "\x07"
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        line = line.replace(b'"\\u0007"', draw(json_values).encode())
    lines[at] = line
    return b"".join(lines)


@hostile
@given(data=st.data())
def test_any_file_is_believed_or_refused_by_name(data, written, tmp_path):
    fitted, lines = written
    path = tmp_path / "damaged.jsonl"
    path.write_bytes(data.draw(st.one_of(st.binary(max_size=200), damaged(lines))))
    try:
        history = read_journal(path, fitted.space_, "history")
    except REFUSALS as error:
        check_message(error, str(path))
        return
    assert len(history.known().scores) == len(history.closed)
    assert os.listdir(tmp_path) == ["damaged.jsonl"]


@settings(hostile, max_examples=40)
@given(data=st.data())
def test_a_file_that_is_refused_is_left_as_it_is(data, written, tmp_path):
    lines = written[1]
    path = tmp_path / "damaged.jsonl"
    content = data.draw(damaged(lines))
    path.write_bytes(content)
    again = search(checkpoint=path, n_iter=3, racing=FoldRace())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions
            again.fit(X, Y)
    except REFUSALS as error:
        check_message(error, str(path))
        assert path.read_bytes() == content
    else:
        assert len(again.cv_results_["params"]) == 3


@pytest.mark.parametrize("depth", range(880, 1000, 3))
@pytest.mark.parametrize("text", ['{"open":%s}', '{"score":[0,%s]}', '{"open":0,"unit":[%s]}'])
def test_no_depth_is_too_much(text, depth):
    space = Space.parse({"cut": [1, 2]})
    replay = Replay(History(2, 1), space, None, math.inf)
    with pytest.raises(Damage):
        replay.apply(from_line((text % deep("[", depth)).encode()))


@pytest.mark.parametrize(
    ("name", "value"), [("n", 10**400), ("seed", 10**400), ("seed", 2**32), ("n", 2**63)]
)
def test_counts_beyond_all_sense_are_damage(written, tmp_path, name, value):
    fitted, lines = written
    at = 0 if name == "seed" else next(i for i, line in enumerate(lines) if b'"n"' in line)
    changed = json.dumps({**json.loads(lines[at]), name: value}, separators=(",", ":")).encode()
    path = tmp_path / "damaged.jsonl"
    path.write_bytes(b"".join([*lines[:at], changed + b"\n", *lines[at + 1 :]]))
    with pytest.raises(ValueError, match=f"damaged in line {at + 1}: .*'{name}' is"):
        read_journal(path, fitted.space_, "history")


@pytest.mark.parametrize(
    "slope", ['{"loss":"Infinity","gradient":{}}', '{"loss":1,"gradient":{"a":"NaN"}}']
)
def test_slopes_that_no_search_keeps_are_damage(written, slope):
    fitted, lines = written
    replay = Replay(History(2, 1), fitted.space_, None, math.inf)
    replay.apply(from_line(lines[1]))
    event = from_line(next(line for line in lines if line.startswith(b'{"score":[0,0]')))
    with pytest.raises(Damage, match="is not finite"):
        replay.apply({**event, "slope": json.loads(slope)})


@pytest.fixture(scope="module", params=["bayes", "per_second", "descent", "mixed"])
def noted(request, tmp_path_factory):
    """A search whose method keeps notes, and the lines of its journal."""
    path = tmp_path_factory.mktemp("noted") / "run.jsonl"
    options = {"n_iter": 14, "cv": 2, "random_state": 0, "refit": False}
    space = {"alpha": stats.loguniform(1e-3, 1e3)}
    made = {
        "bayes": BayesSearchCV(Ridge(), space, **options),
        "per_second": BayesSearchCV(Ridge(), space, acquisition="per_second", **options),
        "descent": HyperGradSearchCV(Ridge(), space, tol=0.0, **options),
        "mixed": HyperGradSearchCV(
            make_pipeline(PCA(), Ridge()),
            {"pca__n_components": [1, 2], "ridge__alpha": space["alpha"]},
            **options,
        ),
    }[request.param]
    made.set_params(checkpoint=path).fit(WIDE, Y)
    return made, path.read_bytes().splitlines(keepends=True)


@settings(hostile, max_examples=50)
@given(data=st.data())
def test_a_note_of_nobody_is_refused_with_the_file(data, noted, tmp_path):
    made, lines = noted
    at = max(i for i, line in enumerate(lines) if b'"note"' in line)
    event = json.loads(lines[at])
    key = data.draw(st.sampled_from([None, *sorted(event["note"])]))
    (event if key is None else event["note"])[key or "note"] = "\x07"
    forged = json.dumps(event, separators=(",", ":")).encode() + b"\n"
    forged = forged.replace(b'"\\u0007"', data.draw(json_values).encode())
    path = tmp_path / "forged.jsonl"
    path.write_bytes(b"".join([*lines[:at], forged]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clone(made).set_params(checkpoint=path, n_iter=17).fit(WIDE, Y)
        except REFUSALS as error:
            check_message(error, str(path))


def test_folds_without_end_are_not_set_aside(written, tmp_path):
    fitted, lines = written
    header = {**json.loads(lines[0]), "folds": 100_000}
    opened = b"".join(
        line.replace(b'"open":0', b'"open":%d' % i) for i in range(200) for line in lines[1:2]
    )
    path = tmp_path / "wide.jsonl"
    path.write_bytes(json.dumps(header, separators=(",", ":")).encode() + b"\n" + opened)
    with pytest.raises(ValueError, match=r"damaged in line 102: .*more than can be believed"):
        read_journal(path, fitted.space_, "history")


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"test": 1.0, "train": {"r2": 1.0}}, "of other metrics"),
        ({"test": {"r2": 1.0}, "train": {"r2": 1.0, "f1": 1.0}}, "of other metrics"),
        ({"test": {"f1": 1.0}}, "no score of 'r2'"),
    ],
)
def test_scores_of_metrics_that_the_search_does_not_have_are_damage(written, scores, message):
    fitted, lines = written
    replay = Replay(History(2, 1, "r2"), fitted.space_, None, math.inf)
    replay.apply(from_line(lines[1]))
    event = from_line(next(line for line in lines if line.startswith(b'{"score":[0,0]')))
    with pytest.raises(Damage, match=message):
        replay.apply({**event, **scores})


def test_slopes_too_steep_for_floats_end_no_descent():
    steep = np.array([-1e308, -1e308])
    with np.errstate(over="ignore", invalid="ignore"):
        assert _cubic(0.0, 1.0, np.zeros(2), steep)[0] == math.inf


def test_a_pickle_is_not_loaded(tmp_path, written):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "run.jsonl"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="is not a journal"):
        search(checkpoint=path).fit(X, Y)
    with pytest.raises(ValueError, match="is not a journal"):
        search(history=path).fit(X, Y)
    assert os.listdir(tmp_path) == ["run.jsonl"]
