"""Hypergradients of linear models, against differences of their own converged losses."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import sklearn
from scipy import sparse
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LogisticRegression,
    MultiTaskElasticNet,
    MultiTaskLasso,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    TweedieRegressor,
)
from sklearn.utils.fixes import parse_version
from sklearn.utils.validation import has_fit_parameter

from tunein._families import Loss, NoHypergradient, Samples, hypergradient, rule_of
from tunein._math import implicit, softmax
from tunein._math.implicit import Curvature, Factor, Glm, polish

# Where a share of the l1 penalty says all, and how it is said before.
SHARES = parse_version(sklearn.__version__) >= parse_version("1.8")
SPARSE_TASKS = parse_version(sklearn.__version__) >= parse_version("1.9")
NAMES = {0.0: "l2", 1.0: "l1"}


def logistic(l1_ratio=0.0, **params):
    if SHARES:
        return LogisticRegression(l1_ratio=l1_ratio, **params)
    penalty = NAMES.get(l1_ratio, "elasticnet")
    share = {"l1_ratio": l1_ratio} if penalty == "elasticnet" else {}
    return LogisticRegression(penalty=penalty, **share, **params)


# --------------------------------------------------------------------- data


def features(n=75, p=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.linspace(0.5, 2, p) + 0.3
    X[rng.random(X.shape) < 0.3] = 0.0
    return X


def targets(kind, X, seed=1):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(X.shape[1], 3)) * (np.arange(X.shape[1]) % 3 != 1)[:, None]
    eta = X @ w + rng.normal(size=(len(X), 3))
    if kind == "real":
        return eta[:, 0] + rng.standard_t(2, size=len(X))
    if kind == "positive":
        return np.exp(eta[:, 0] / 3) + 0.1
    if kind == "near":  # for an identity link
        return 8 + eta[:, 0] / 3
    if kind == "tasks":
        return eta
    if kind == "two":
        return np.where(eta[:, 0] + rng.normal(size=len(X)) > 0, "yes", "no")
    return np.argmax(eta + 2 * rng.normal(size=eta.shape), axis=1)


WEIGHTS = np.random.default_rng(2).uniform(0.5, 2, size=75)


def fold(kind, *, form=np.asarray, weights=True, X=None):
    X = features() if X is None else X
    y = targets(kind, X)
    s = WEIGHTS if weights else np.ones(len(X))
    test = np.arange(len(X)) % 3 == 0
    return (
        Samples(form(X[~test]), y[~test], s[~test]),
        Samples(form(X[test]), y[test], s[test]),
    )


def fitted(estimator, train, **params):
    estimator = clone(estimator).set_params(**params)
    if sparse.issparse(train.X) and isinstance(estimator, MultiTaskElasticNet) and not SPARSE_TASKS:
        pytest.skip("several tasks took dense features only")
    s = (
        {"sample_weight": train.sample_weight}
        if has_fit_parameter(estimator, "sample_weight")
        else {}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(train.X, train.y, **s)


def ask(estimator, train, test, loss, params):
    return hypergradient(fitted(estimator, train, **params), train, test, Loss(loss), list(params))


def tight(estimator, train, **params):
    """Refit as exactly as the estimator can."""
    own = estimator.get_params()
    closer = {"tol": 1e-13 if own.get("solver") != "saga" else 1e-11} if "tol" in own else {}
    if "max_iter" in own:
        closer["max_iter"] = 100_000 if own.get("solver") != "saga" else 20_000
    return fitted(estimator, train, **params, **closer)


def predicted(estimator, X, loss):
    if loss.output == "target":
        return np.asarray(estimator.predict(X))
    return np.asarray(estimator.decision_function(X))


# --------------------------------------------------------------------- every estimator

ALPHAS = [{"alpha": a} for a in (0.003, 0.1, 1.0, 20.0)]
SPARSE = [{"alpha": a} for a in (0.003, 0.05, 0.3, 0.8)]
RATIOS = [
    {"alpha": a, "l1_ratio": r} for a, r in ((0.003, 0.9), (0.05, 0.5), (0.3, 0.2), (0.8, 0.7))
]
CS = [{"C": c} for c in (0.02, 0.3, 3.0, 50.0)]
SHARED = [{"C": c, "l1_ratio": r} for c, r in ((0.1, 0.2), (0.3, 0.5), (3.0, 0.8), (30.0, 0.4))]
EPSILONS = [
    {"alpha": a, "epsilon": e} for a, e in ((1e-4, 1.35), (0.1, 1.1), (3.0, 1.6), (50.0, 2.5))
]

CASES = {
    "ridge": (Ridge(), "real", "squared_error", ALPHAS),
    "ridge_tasks": (Ridge(), "tasks", "r2", ALPHAS),
    "lasso": (Lasso(), "real", "squared_error", SPARSE),
    "elastic_net": (ElasticNet(), "real", "root_squared_error", RATIOS),
    "ridge_classifier": (RidgeClassifier(), "two", "platt_log_loss", ALPHAS),
    "ridge_classifier_three": (
        RidgeClassifier(class_weight="balanced"), "three", "squared_hinge", ALPHAS
    ),
    "poisson": (PoissonRegressor(), "positive", "poisson_deviance", ALPHAS),
    "poisson_cholesky": (
        PoissonRegressor(solver="newton-cholesky"), "positive", "squared_error", ALPHAS
    ),
    "gamma": (GammaRegressor(), "positive", "gamma_deviance", ALPHAS),
    "tweedie_normal": (TweedieRegressor(power=0), "real", "absolute_error", ALPHAS),
    "tweedie_mixed": (TweedieRegressor(power=1.5), "positive", "r2", ALPHAS),
    "tweedie_inverse": (TweedieRegressor(power=3), "positive", "squared_log_error", ALPHAS),
    "tweedie_identity": (
        TweedieRegressor(power=1.5, link="identity", solver="newton-cholesky"),
        "near", "squared_error", ALPHAS,
    ),
    "huber": (HuberRegressor(), "real", "squared_error", EPSILONS),
    "multi_task_lasso": (MultiTaskLasso(), "tasks", "squared_error", SPARSE),
    "multi_task_elastic_net": (MultiTaskElasticNet(), "tasks", "explained_variance", RATIOS),
    "logistic": (logistic(), "two", "log_loss", CS),
    "logistic_newton": (logistic(solver="newton-cg"), "two", "brier", CS),
    "logistic_cholesky": (
        logistic(solver="newton-cholesky", class_weight="balanced"), "two", "log_loss", CS
    ),
    "logistic_sag": (logistic(solver="sag", random_state=0), "two", "squared_hinge", CS),
    "logistic_liblinear": (
        logistic(solver="liblinear", intercept_scaling=2.0), "two", "log_loss", CS
    ),
    "logistic_liblinear_l1": (
        logistic(1.0, solver="liblinear", random_state=0), "two", "platt_log_loss", CS
    ),
    "logistic_saga_l1": (logistic(1.0, solver="saga", random_state=0), "two", "log_loss", CS),
    "logistic_saga": (logistic(0.5, solver="saga", random_state=0), "two", "log_loss", SHARED),
    "multinomial": (logistic(), "three", "log_loss", CS),
    "multinomial_newton": (
        logistic(solver="newton-cg", class_weight={0: 2.0, 1: 1.0, 2: 0.3}), "three", "brier", CS
    ),
    "multinomial_sag": (logistic(solver="sag", random_state=0), "three", "squared_hinge", CS),
    "multinomial_l1": (
        logistic(1.0, solver="saga", class_weight="balanced", random_state=0),
        "three", "log_loss", CS,
    ),
    "multinomial_saga": (
        logistic(0.5, solver="saga", random_state=0), "three", "platt_log_loss", SHARED
    ),
}  # fmt: skip
if "newton-cholesky" in inspect.getsource(LogisticRegression):
    CASES["multinomial_cholesky"] = (
        logistic(solver="newton-cholesky"), "three", "log_loss", CS
    )  # fmt: skip

FORMS = {
    "dense": (np.asarray, True),
    "sparse": (sparse.csr_array, True),
    "dense_through_origin": (np.asarray, False),
    "sparse_through_origin": (sparse.csc_array, False),
}
every_case = pytest.mark.parametrize("case", CASES)
every_form = pytest.mark.parametrize("form", FORMS)


def case_of(case, form="dense"):
    estimator, kind, loss, points = CASES[case]
    make, intercept = FORMS[form]
    if kind == "near" and not intercept:
        pytest.skip("no positive mean through the origin")
    estimator = clone(estimator).set_params(fit_intercept=intercept)
    weights = has_fit_parameter(estimator, "sample_weight")
    return estimator, *fold(kind, form=make, weights=weights), loss, points


@every_form
@every_case
def test_it_is_the_slope_of_the_converged_loss(case, form):
    estimator, train, test, loss, points = case_of(case, form)
    for point in points:
        found = ask(estimator, train, test, loss, point)
        assert set(found.gradient) == set(point)
        for name, value in point.items():
            h = 1e-5 * value
            up, down = (
                ask(estimator, train, test, loss, {**point, name: value + d}).loss for d in (h, -h)
            )
            slope = (up - down) / (2 * h)
            # Differences themselves are as good as the loss is exact.
            assert found.gradient[name] == pytest.approx(slope, rel=1e-4, abs=1e-10 / h), point


@every_form
@every_case
def test_the_loss_is_that_of_a_tight_fit(case, form):
    estimator, train, test, loss, points = case_of(case, form)
    for point in points[1:3]:  # with nothing in use saga stops before its intercept is found
        found = ask(estimator, train, test, loss, point)
        prediction = predicted(tight(estimator, train, **point), test.X, Loss(loss))
        classes = getattr(fitted(estimator, train), "classes_", None)
        rel = 3e-5 if case == "huber" else 1e-6  # whose own fit ends no closer
        assert found.loss == pytest.approx(Loss(loss)(test, prediction, classes)[0], rel=rel)


@every_case
def test_inputs_have_slopes_too(case):
    estimator, train, test, loss, points = case_of(case)
    point = points[1]
    found = ask(estimator, train, test, loss, point)
    rng = np.random.default_rng(3)
    for side, slope in enumerate(found.in_samples()):
        move = rng.normal(size=slope.shape)

        def moved(h, side=side, move=move):
            sides = [train, test]
            old = sides[side]
            sides[side] = Samples(old.X + h * move, old.y, old.sample_weight)
            return ask(estimator, *sides, loss, point).loss

        h = 1e-6
        difference = (moved(h) - moved(-h)) / (2 * h)
        assert (slope * move).sum() == pytest.approx(difference, rel=1e-4, abs=1e-7)


def test_sparse_features_have_no_slopes_of_inputs():
    estimator, train, test, loss, points = case_of("ridge", "sparse")
    assert ask(estimator, train, test, loss, points[0]).inputs is None


# --------------------------------------------------------------------- empty supports


@pytest.mark.parametrize(
    ("estimator", "kind", "point"),
    [
        (Lasso(), "real", {"alpha": 1e4}),
        (ElasticNet(), "real", {"alpha": 1e4, "l1_ratio": 0.5}),
        (MultiTaskLasso(), "tasks", {"alpha": 1e4}),
        (MultiTaskElasticNet(), "tasks", {"alpha": 1e4, "l1_ratio": 0.5}),
        (logistic(1.0, solver="saga"), "two", {"C": 1e-4}),
        (logistic(1.0, solver="liblinear"), "two", {"C": 1e-4}),
        (logistic(0.5, solver="saga"), "three", {"C": 1e-4, "l1_ratio": 0.5}),
    ],
)
@every_form
def test_nothing_in_use_has_no_slope(estimator, kind, point, form):
    make, intercept = FORMS[form]
    weights = has_fit_parameter(estimator, "sample_weight")
    train, test = fold(kind, form=make, weights=weights)
    loss = "log_loss" if kind in ("two", "three") else "squared_error"
    estimator = clone(estimator).set_params(fit_intercept=intercept)
    found = ask(estimator, train, test, loss, point)
    assert found.gradient == dict.fromkeys(point, 0.0)
    assert np.isfinite(found.loss)


# --------------------------------------------------------------------- forms of data

SOME = ["ridge", "lasso", "logistic", "multinomial_l1", "gamma", "huber", "multi_task_lasso"]
some_cases = pytest.mark.parametrize("case", SOME)


def integers(X):
    return np.round(4 * X).astype(np.int64)


def frame(X):
    return pytest.importorskip("pandas").DataFrame(X, columns=list("abcdef"))


OTHERS = {
    "int": integers,
    "float32": lambda X: X.astype(np.float32),
    "csc": sparse.csc_matrix,
    "coo": sparse.coo_array,
    "int_csr": lambda X: sparse.csr_matrix(integers(X)),
    "float32_csr": lambda X: sparse.csr_array(X.astype(np.float32)),
    "frame": frame,
    "fortran": np.asfortranarray,
}


@pytest.mark.parametrize("other", OTHERS)
@some_cases
def test_other_forms_of_features_say_the_same(case, other):
    estimator, kind, loss, points = CASES[case]
    X = np.round(4 * features()) if "int" in other else features()
    weights = has_fit_parameter(estimator, "sample_weight")
    train, test = fold(kind, weights=weights, X=X)
    point = points[1]
    plain = ask(estimator, train, test, loss, point)

    def turned(side):
        return OTHERS[other](side.X / 4 if "int" in other else side.X)

    train = Samples(turned(train), train.y, train.sample_weight)
    test = Samples(turned(test), test.y, test.sample_weight)
    found = ask(estimator, train, test, loss, point)
    rel = 1e-4 if "float32" in other else 1e-7
    assert found.loss == pytest.approx(plain.loss, rel=rel)
    assert found.gradient == pytest.approx(plain.gradient, rel=rel)


@pytest.mark.parametrize("case", ["ridge", "lasso", "elastic_net", "huber", "poisson"])
@pytest.mark.parametrize("turn", ["column", "integer", "series"])
def test_other_forms_of_targets_say_the_same(case, turn):
    estimator, train, test, loss, points = case_of(case)
    train = Samples(train.X, np.round(train.y), train.sample_weight)
    plain = ask(estimator, train, test, loss, points[1])
    if turn == "column" and case not in ("ridge", "lasso", "elastic_net"):
        pytest.skip("it warns of columns")
    turned = {
        "column": lambda y: y[:, None],
        "integer": lambda y: y.astype(int),
        "series": lambda y: pytest.importorskip("pandas").Series(y, index=range(5, 5 + len(y))),
    }[turn]
    other = Samples(train.X, turned(train.y), train.sample_weight)
    found = ask(estimator, other, test, loss, points[1])
    assert found.loss == pytest.approx(plain.loss, rel=1e-9)
    assert found.gradient == pytest.approx(plain.gradient, rel=1e-8)


@pytest.mark.parametrize("solver", ["lbfgs", "liblinear"])
def test_labels_may_be_anything_and_classes_may_have_weights(solver):
    train, test = fold("two")
    heavy = logistic(solver=solver, class_weight={"yes": 3.0, "no": 0.5})
    weights = np.where(train.y == "yes", 3.0, 0.5)
    one = ask(heavy, train, test, "log_loss", {"C": 0.4})
    weighted = Samples(train.X, train.y, train.sample_weight * weights)
    other = ask(logistic(solver=solver), weighted, test, "log_loss", {"C": 0.4})
    assert one.loss == pytest.approx(other.loss, rel=1e-10)
    assert one.gradient == pytest.approx(other.gradient, rel=1e-8)


def with_columns(samples, make):
    return Samples(make(samples.X), samples.y, samples.sample_weight)


@pytest.mark.parametrize("case", [c for c in CASES if not c.startswith("tweedie_i")])
def test_a_constant_feature_changes_nothing_where_there_is_an_intercept(case):
    if "liblinear" in case:
        pytest.skip("it penalises the intercept")
    estimator, train, test, loss, points = case_of(case)
    plain = ask(estimator, train, test, loss, points[1])

    def constant(X):
        return np.hstack([X, np.full((len(X), 1), 5.0)])

    found = ask(
        estimator, with_columns(train, constant), with_columns(test, constant), loss, points[1]
    )
    assert found.loss == pytest.approx(plain.loss, rel=1e-7)
    assert found.gradient == pytest.approx(plain.gradient, rel=1e-5)


@pytest.mark.parametrize("case", ["ridge", "lasso", "logistic", "poisson", "multinomial", "huber"])
def test_units_of_features_may_be_far_apart(case):
    estimator, kind, loss, points = CASES[case]
    scale = np.array([1e-3, 1, 1e3, 1, 1e4, 1])
    train, test = fold(kind, X=features() * scale)
    if kind == "positive":
        estimator = clone(estimator).set_params(solver="newton-cholesky")
    y = targets(kind, features())
    rows = np.arange(len(y)) % 3 == 0
    train = Samples(train.X, y[~rows], train.sample_weight)
    test = Samples(test.X, y[rows], test.sample_weight)
    name = next(iter(points[1]))
    value = points[1][name]
    point = {name: value}
    found = ask(estimator, train, test, loss, point)
    h = 1e-4 * value
    up, down = (ask(estimator, train, test, loss, {name: value + d}).loss for d in (h, -h))
    assert found.gradient[name] == pytest.approx((up - down) / (2 * h), rel=1e-3, abs=1e-9 / h)


def test_a_feature_that_is_there_twice_is_shared():
    train, test = fold("real")

    def twice(X):
        return np.hstack([X, X[:, :2]])

    for estimator in (Lasso(), ElasticNet()):
        found = ask(
            estimator, with_columns(train, twice), with_columns(test, twice), "r2", {"alpha": 0.1}
        )
        if isinstance(estimator, Lasso):
            plain = ask(estimator, train, test, "r2", {"alpha": 0.1})
            assert found.loss == pytest.approx(plain.loss, rel=1e-7)
            assert found.gradient == pytest.approx(plain.gradient, rel=1e-6)


# --------------------------------------------------------------------- fits that stop early


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if "max_iter" in CASES[c][0].get_params() and "ridge" not in c],
)
@every_form
def test_a_fit_that_stops_early_is_brought_to_its_optimum(case, form):
    estimator, train, test, loss, points = case_of(case, form)
    early = clone(estimator).set_params(max_iter=3 if case == "huber" else 2)
    for point in points[1:3]:
        full = ask(estimator, train, test, loss, point)
        found = ask(early, train, test, loss, point)
        assert found.loss == pytest.approx(full.loss, rel=1e-6)
        assert found.gradient == pytest.approx(full.gradient, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", ["squares", "logistic"])
def test_a_support_is_found_from_afar(kind, intercept, share, seed):
    """With more features than samples, of scales far apart, so that some ways are flat."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(20, 50)) * np.exp(2 * rng.normal(size=50)) + rng.normal()
    y = X @ rng.normal(size=50) + rng.normal(size=20)
    y = y if kind == "squares" else np.sign(y)

    def squares(eta):
        return (eta - y) ** 2 / 40, (eta - y) / 20, np.full(20, 0.05)

    def logistic_loss(eta):
        chance = expit(-y * eta)
        return 30 * np.logaddexp(0, -y * eta), -30 * y * chance, 30 * chance * (1 - chance)

    loss, a = (squares, 0.01) if kind == "squares" else (logistic_loss, 1.0)
    problem = Glm(X, loss, share * a, (1 - share) * a, intercept)
    values = []
    for start in (np.zeros(50), rng.normal(size=50), 1e3 * rng.normal(size=50)):
        at = polish(problem, start, 0.0)
        assert at is not None
        slope = X.T @ at.pull + problem.a2 * at.w
        used = at.w != 0
        assert np.abs(slope[used] + problem.a1 * np.sign(at.w[used])).max() < 1e-5 * problem.a1
        assert np.abs(slope[~used]).max() < problem.a1 * (1 + 1e-5)
        assert not intercept or abs(at.pull.sum()) < 1e-6
        values.append(problem.objective(at.w, at.b))
    assert np.ptp(values) <= 1e-9 * values[0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_multinomial_support_is_found_from_afar(seed, share):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(60, 25)) * np.exp(rng.normal(size=25))
    Y = np.eye(4)[rng.integers(4, size=60)]
    problem = softmax.Softmax(X, Y, np.full(60, 0.5), share, 1 - share, True)
    ends = []
    for start in (np.zeros((26, 4)), 3 * rng.normal(size=(26, 4))):
        start[-1] -= start[-1].mean()
        at = softmax.softmax_optimum(problem, start)
        assert at is not None
        assert np.abs(at.state.distance()).max() < 1e-7
        ends.append(at.state)
    assert ends[0].value == pytest.approx(ends[1].value, rel=1e-10)
    np.testing.assert_allclose(ends[0].P, ends[1].P, atol=1e-6)


@pytest.mark.parametrize("C", [1e-8, 1e-5, 1e-2])
def test_intercepts_are_found_where_coefficients_are_next_to_nothing(C):
    # Samples count nothing beside the penalty, but intercepts have none.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 20))
    Y = np.eye(3)[rng.choice(3, size=120, p=[0.7, 0.2, 0.1])]
    problem = softmax.Softmax(X, Y, np.full(120, C), 0.0, 1.0, True)
    at = softmax.softmax_optimum(problem, np.zeros((21, 3)))
    assert at is not None
    assert np.abs(at.state.distance()).max() < 1e-7 * problem.c.sum()


# --------------------------------------------------------------------- large problems


@pytest.mark.parametrize("case", ["ridge", "logistic", "poisson", "multinomial", "multinomial_l1"])
def test_without_a_factor_it_says_the_same(case, monkeypatch):
    estimator, train, test, loss, points = case_of(case, "sparse")
    for point in points:
        plain = ask(estimator, train, test, loss, point)
        with monkeypatch.context() as patched:
            patched.setattr(implicit, "_MAX_DENSE", 0)
            patched.setattr(softmax, "_MAX_DENSE", 0)
            patched.setattr(softmax, "_MAX_HARD", 0)
            found = ask(estimator, train, test, loss, point)
        assert found.loss == pytest.approx(plain.loss, rel=1e-8)
        assert found.gradient == pytest.approx(plain.gradient, rel=1e-6)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
@pytest.mark.parametrize("columns", [(), (2,)])
def test_a_curvature_is_solved_for(make, intercept, shape, columns, monkeypatch):
    rng = np.random.default_rng(0)
    X, D = rng.normal(size=shape) + 2, rng.uniform(0.1, 1, size=shape[0])
    A = np.hstack([X, np.ones((len(X), 1))]) if intercept else X
    H = (A.T * D) @ A + np.diag([0.3] * shape[1] + [0.0] * intercept)
    v = rng.normal(size=(len(H), *columns))
    expected = np.linalg.solve(H, v)
    for limit in (implicit._MAX_DENSE, 0):
        monkeypatch.setattr(implicit, "_MAX_DENSE", limit)
        curvature = Curvature(make(X), D, 0.3, intercept=intercept)
        if intercept:
            u, u0 = curvature.solve(v[:-1], v[-1], strict=True)
            np.testing.assert_allclose(u0, expected[-1], rtol=1e-7)
        else:
            u, _ = curvature.solve(v, strict=True)
        np.testing.assert_allclose(u, expected[: shape[1]], rtol=1e-7, atol=1e-10)


def test_a_singular_matrix_maps_to_what_it_spans():
    A = np.random.default_rng(0).normal(size=(5, 3))
    factor = Factor(A @ A.T)
    v = A @ np.ones(3)
    np.testing.assert_allclose(A @ (A.T @ factor.solve(v, strict=True)), v, rtol=1e-8)
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        factor.solve(np.ones(5), strict=True)
    with pytest.raises(np.linalg.LinAlgError, match="negative"):
        Factor(np.array([[1.0, 2.0], [2.0, 1.0]]))


# --------------------------------------------------------------------- refusals and bounds


def test_without_a_penalty_models_still_have_a_slope():
    """At alpha = 0, towards more."""
    for estimator, kind, loss in (
        (Ridge(), "real", "r2"),
        (PoissonRegressor(), "positive", "poisson_deviance"),
        (HuberRegressor(), "real", "squared_error"),
    ):
        train, test = fold(kind)
        at, near = (ask(estimator, train, test, loss, {"alpha": a}) for a in (0.0, 1e-5))
        assert at.gradient["alpha"] == pytest.approx(
            (near.loss - at.loss) / 1e-5, rel=1e-2, abs=1e-6
        )


def unpenalised():
    if SHARES:
        return LogisticRegression(C=np.inf)
    return LogisticRegression(penalty=None)


@pytest.mark.parametrize(
    ("estimator", "kind", "what"),
    [
        (unpenalised(), "two", "penalty"),
        (unpenalised(), "three", "penalty"),
        (Ridge(positive=True), "real", "positive"),
        (Lasso(positive=True), "real", "positive"),
        (Ridge(alpha=np.array([1.0, 2.0, 3.0])), "tasks", "each target"),
        (Lasso(), "tasks", "several targets"),
    ],
)
def test_refusals(estimator, kind, what):
    train, test = fold(kind)
    loss = "log_loss" if kind in ("two", "three") else "squared_error"
    names = ["C" if loss == "log_loss" else "alpha"]
    with pytest.raises(NoHypergradient, match=what):
        hypergradient(fitted(estimator, train), train, test, Loss(loss), names)


def test_no_unique_optimum_is_refused():
    train, test = fold("real")
    ridge = Ridge(alpha=1e-300, solver="svd")
    estimator = fitted(ridge, with_columns(train, lambda X: X[:, [0, 0]]))
    sides = (with_columns(train, lambda X: X[:, [0, 0]]), with_columns(test, lambda X: X[:, :2]))
    with pytest.raises(NoHypergradient, match="unique"):
        hypergradient(estimator, *sides, Loss("r2"), ["alpha"])


def test_a_deviance_that_a_fit_has_left_is_refused():
    train, test = fold("near")
    estimator = fitted(TweedieRegressor(power=1.5, link="identity"), train)
    estimator.coef_ = estimator.coef_ - 100.0
    with pytest.raises(NoHypergradient, match="did not converge"):
        hypergradient(estimator, train, test, Loss("r2"), ["alpha"])


def test_an_exact_fit_has_no_scale():
    train, test = fold("real")
    exact = Samples(train.X, train.X @ np.arange(6.0), train.sample_weight)
    with pytest.raises(NoHypergradient):
        ask(HuberRegressor(alpha=0.0), exact, test, "r2", {"alpha": 0.0})


@pytest.mark.skipif(SHARES, reason="it fits two classes alone")
def test_one_class_against_the_rest_is_refused():
    train, test = fold("three")
    for params in ({"solver": "liblinear"}, {"multi_class": "ovr"}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            estimator = LogisticRegression(**params).fit(train.X, train.y)
        with pytest.raises(NoHypergradient, match="against the rest"):
            hypergradient(estimator, train, test, Loss("log_loss"), ["C"])


def test_a_share_counts_only_where_it_is_a_parameter():
    assert rule_of(Lasso()).active(Lasso()) == {"alpha"}
    assert rule_of(MultiTaskLasso()).active(MultiTaskLasso()) == {"alpha"}
    assert rule_of(ElasticNet()).active(ElasticNet()) == {"alpha", "l1_ratio"}
    l1 = logistic(1.0, solver="saga")
    assert rule_of(l1).active(l1) == ({"C", "l1_ratio"} if SHARES else {"C"})
    both = logistic(0.5, solver="saga")
    assert rule_of(both).active(both) == {"C", "l1_ratio"}
