"""Choices whose options bring parameters of their own, to any depth."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC

from tunein import BayesSearchCV, Choice, HyperGradSearchCV, Integer, Real, TPESearchCV
from tunein._space import Space

WIDE = Real(1e-3, 1e3, log=True)
KERNEL = Choice(
    [
        ("linear", {}),
        ("rbf", {"clf__gamma": WIDE}),
        ("poly", {"clf__gamma": WIDE, "clf__degree": [2, 3]}),
    ]
)
NESTED = {
    "clf": Choice(
        [
            (SVC(), {"clf__C": WIDE, "clf__kernel": KERNEL}),
            (RandomForestClassifier(n_estimators=5), {"clf__max_depth": Integer(1, 5)}),
            (LogisticRegression(max_iter=10_000), {"clf__C": WIDE}),
        ]
    ),
    "scale": [StandardScaler(), "passthrough"],
}
SHAPES = {
    ("clf", "clf__C", "clf__kernel", "scale"),
    ("clf", "clf__C", "clf__gamma", "clf__kernel", "scale"),
    ("clf", "clf__C", "clf__degree", "clf__gamma", "clf__kernel", "scale"),
    ("clf", "clf__max_depth", "scale"),
    ("clf", "clf__C", "scale"),
}
FINITE = {
    "a": Choice([(0, {"b": [1, 2, 3]}), (1, {"c": Choice([("x", {}), ("y", {"d": [4, 5]})])})]),
    "e": Choice([(None, {}), (0, {"f": [1, 2]})]),
}


def pipeline():
    return Pipeline([("scale", StandardScaler()), ("clf", SVC())])


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_candidate_has_what_its_options_bring():
    space = Space.parse(NESTED, pipeline())
    drawn = [space.decode(unit) for unit in space.sample(rng(), 300)]
    assert {tuple(params) for params in drawn} == SHAPES
    for params in drawn:
        pipeline().set_params(**clone(params, safe=False))


def test_options_are_equally_likely_at_every_depth():
    space = Space.parse(NESTED)
    drawn = [space.decode(unit) for unit in space.sample(rng(), 3000)]
    outer = collections.Counter(type(params["clf"]) for params in drawn)
    assert stats.chisquare(list(outer.values())).pvalue > 0.01
    inner = collections.Counter(p["clf__kernel"] for p in drawn if "clf__kernel" in p)
    assert stats.chisquare(list(inner.values())).pvalue > 0.01


def test_options_of_one_choice_share_what_means_the_same():
    space = Space.parse(NESTED)
    assert space.names.count("clf__C") == 1
    assert space.names.count("clf__gamma") == 1
    other = Choice([("a", {"x": Real(0, 1)}), ("b", {"x": Real(0, 2)})])
    assert Space.parse({"kind": other}).names == ["kind", "x", "x"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_list_shares_nothing_with_a_choice_of_the_same_values(order):
    kind = Choice([("l", {}), ("r", {"b": [1, 2]})])
    options = [(0, {"c": kind}), (1, {"c": ["l", "r"]}), (2, {"c": kind})][::order]
    dicts = [{"a": [a], **rest} for a, rest in options]
    for given in ({"a": Choice(options)}, dicts):
        space = Space.parse(given)
        assert space.size == 3 + 2 + 3
        points = [space.decode(unit) for unit in space.untried(rng(), 9, set())]
        assert all(("b" in p) == (p["a"] != 1 and p["c"] == "r") for p in points)
        assert len(list(space.encode({"a": 1, "c": "r"}))) == 1


def test_dicts_without_parameters_are_points_too():
    for given, size in (([{}, {}], 2), ([{}, {"a": [1, 2]}], 3), ({"a": Choice([(0, {})])}, 1)):
        space = Space.parse(given)
        assert space.size == size
        units = space.untried(rng(), 9, set())
        assert len(units) == size
        for unit in units:
            keys = {Space.key(found) for found, _ in space.encode(space.decode(unit))}
            assert Space.key(unit) in keys


def test_many_choices_side_by_side_are_explained_at_once():
    given = {f"c{i:02}": Choice([(0, {f"x{i:02}": [1, 2]}), (1, {})]) for i in range(60)}
    space = Space.parse(given)
    assert "the search space has" in space.explain_absence({"c00": 5})
    params = space.decode(space.sample(rng(), 1)[0])
    assert len(list(space.encode(params))) == 1


def test_what_is_endless_is_found_on_a_rare_option():
    rare = {"b": Real(0, 1)}
    for name in "hgfedc":
        rare = {name: Choice([(0, {}), (1, rare)])}
    space = Space.parse(rare)
    tried = set()
    for i in range(40):
        (unit,) = space.untried(rng(i), 1, tried)
        assert Space.key(unit) not in tried
        tried.add(Space.key(unit))


def test_every_point_of_nested_choices_is_visited_once():
    space = Space.parse(FINITE)
    assert space.size == (3 + 1 + 2) * (1 + 2)
    units = space.untried(rng(), 100, set())
    points = [space.decode(unit) for unit in units]
    assert len({tuple(params.items()) for params in points}) == len(points) == 18
    np.testing.assert_array_equal(space.snap(units), units)


def test_a_point_is_found_by_its_parameters():
    for given in (NESTED, FINITE, [FINITE, {"b": [1, 2]}]):
        space = Space.parse(given)
        for unit in space.sample(rng(), 60):
            params = space.decode(unit)
            found = list(space.encode(params))
            assert len(found) == 1
            np.testing.assert_allclose(found[0][0], unit, atol=1e-9)
            assert found[0][1] == params


@pytest.mark.parametrize(
    "params",
    [
        {"a": 0, "e": None},
        {"a": 0, "b": 1, "c": "x", "e": None},
        {"a": 1, "c": "x", "d": 4, "e": None},
        {"a": 0, "b": 9, "e": None},
        {"a": 0, "b": 1, "e": None, "f": 1},
    ],
)
def test_what_options_do_not_bring_is_no_point(params):
    space = Space.parse(FINITE)
    assert not list(space.encode(params))
    assert "the search space" in space.explain_absence(params)


@pytest.mark.parametrize("search_class", [BayesSearchCV, HyperGradSearchCV, TPESearchCV])
def test_a_search_over_nested_choices(search_class):
    X, y = load_iris(return_X_y=True)
    given = {
        "clf": RandomForestClassifier(n_estimators=5),
        "clf__max_depth": 3,
        "scale": "passthrough",
    }
    search = search_class(
        pipeline(), NESTED, n_iter=30, cv=3, random_state=0, error_score="raise",
        initial_params=[given],
    ).fit(X, y)  # fmt: skip
    results = search.cv_results_
    assert search.best_score_ > 0.95
    gamma = results["param_clf__gamma"]
    assert gamma.mask.any()
    assert not gamma.mask.all()
    for i, params in enumerate(results["params"]):
        assert tuple(params) in SHAPES
        assert gamma.mask[i] == ("clf__gamma" not in params)
    assert results["params"][0]["clf__max_depth"] == 3


def test_the_estimators_own_values_are_tried_first():
    model = Pipeline([("poly", PolynomialFeatures()), ("svc", SVC(kernel="poly", gamma=0.1))])
    kernel = [("rbf", {}), ("poly", {"svc__degree": [2, 3], "svc__gamma": WIDE})]
    X, y = load_iris(return_X_y=True)
    search = TPESearchCV(model, {"svc__kernel": Choice(kernel)}, n_iter=2, random_state=0)
    first = search.fit(X, y).cv_results_["params"][0]
    assert first == {"svc__degree": 3, "svc__gamma": 0.1, "svc__kernel": "poly"}


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"a": Choice([])}, ValueError, r"\['a'\]: no choices"),
        ({"a": Choice(3)}, TypeError, r"\['a'\]: expected a list"),
        (
            {"a": Choice({"x": {}, "y": {"b": [1]}})},
            TypeError,
            r"\['a'\]: the options of a Choice are a list of pairs, .* Its .items\(\) will do",
        ),
        ({"a": Choice(["x", "y"])}, TypeError, r"option 0 of a Choice must be a pair.*got 'x'"),
        ({"a": Choice([("x", {}), ("y", 3)])}, TypeError, r"option 1 of a Choice must be a pair"),
        (
            {"a": Choice([("x", {"b": 3})])},
            TypeError,
            r"param_distributions\['a'\]\.options\[0\]\[1\]\['b'\]: expected a list",
        ),
        ({"a": [1, Choice([("x", {})])]}, TypeError, r"\['a'\]: a Choice among the values"),
        ({"a": Choice([(KERNEL, {})])}, TypeError, r"\['a'\]: a Choice among the values"),
        ({"a": Choice([("x", {3: [1]})])}, TypeError, r"options\[0\]\[1\] has the key 3"),
        (
            {"a": Choice([("x", {"b": [1]})]), "b": [1]},
            ValueError,
            r"'b' is a parameter of the dict",
        ),
        ({"a": Choice([("x", {"a": [1]})])}, ValueError, r"'a' is a parameter of the dict around"),
        (
            {"a": Choice([("x", {"c": [1]})]), "b": Choice([("x", {"c": [1]})])},
            ValueError,
            r"both 'a' and 'b' have options with the parameter 'c'",
        ),
    ],
)
def test_a_wrong_choice_is_refused(given, error, match):
    with pytest.raises(error, match=match):
        Space.parse(given)


def test_a_misspelt_parameter_of_an_option_is_refused():
    space = {"clf": Choice([(SVC(), {"clf__gama": WIDE}), (LogisticRegression(), {})])}
    with pytest.raises(ValueError, match=r"options\[0\]\[1\]\['clf__gama'\]: Invalid parameter"):
        Space.parse(space, pipeline())
    space = {"clf": Choice([(SVC(), {}), (LogisticRegression(), {"clf__gamma": WIDE})])}
    for own in (LogisticRegression(), SVC()):
        with pytest.raises(ValueError, match=r"options\[1\]\[1\]\['clf__gamma'\]: Invalid") as info:
            Space.parse(space, Pipeline([("clf", own)]))
        assert "'clf__l1_ratio'" in str(info.value)
