"""Hypergradients of support vector machines against differences of their own converged loss."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification, make_friedman1
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR

from tunein._families._registry import Loss, NoHypergradient, Samples, rule_of
from tunein._families.chain import hypergradient
from tunein._math import support
from tunein._math.support import Bordered, Borders, Dual, Gram, Kernel, NotSettled, settle

BOTH = pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])

# liblinear warns where it stops at max_iter, as its l1 solver does when told to be exact.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def two_classes():
    X, y = make_classification(120, 6, flip_y=0.1, weights=[0.6], random_state=0)
    return X, np.array(["no", "yes"])[y]


def three_classes():
    X, y = load_iris(return_X_y=True)
    return X + np.random.default_rng(0).normal(size=X.shape) * 0.4, y


def targets():
    X, y = make_friedman1(120, 6, noise=1.0, random_state=0)
    return X, (y - y.mean()) / y.std()


def fold(X, y, *, kind=np.asarray, weights=True):
    rng = np.random.default_rng(1)
    s = rng.uniform(0.5, 2, len(y)) if weights else np.ones(len(y))
    test = np.arange(len(y)) % 3 == 0
    return (
        Samples(kind(X[~test]), y[~test], s[~test]),
        Samples(kind(X[test]), y[test], s[test]),
    )


def fitted(estimator, train, **params):
    estimator = clone(estimator).set_params(**params)
    return estimator.fit(train.X, train.y, sample_weight=train.sample_weight)


def loss_name(estimator):
    return rule_of(estimator).proxy


def of(estimator, train, test, names, **params):
    fit = fitted(estimator, train, **params)
    return hypergradient(fit, train, test, Loss(loss_name(estimator)), names)


def difference(estimator, train, test, point, name, h=1e-5):
    """Return the central difference, of a step small enough to rarely cross a kink."""
    up, down = (
        of(estimator, train, test, [], **{**point, name: point[name] * (1 + d)}).loss
        for d in (h, -h)
    )
    return (up - down) / (2 * h * point[name])


def check(estimator, data, points, kind=np.asarray, rtol=1e-4):
    train, test = fold(*data, kind=kind)
    for point in points:
        found = of(estimator, train, test, list(point), **point)
        assert set(found.gradient) == set(point)
        for name, slope in found.gradient.items():
            expected = difference(estimator, train, test, point, name)
            # What rounding leaves of a loss, over the step.
            noise = 1e-7 * found.loss / point[name]
            np.testing.assert_allclose(slope, expected, rtol=rtol, atol=noise, err_msg=str(point))
        tight = refitted_loss(estimator, train, test, point)
        # libsvm rounds its kernels to single precision however closely it is asked to fit.
        np.testing.assert_allclose(found.loss, tight, rtol=5e-5)


def refitted_loss(estimator, train, test, point):
    """Return the loss of scikit-learn's own values after a fit of tight tolerance."""
    limit = 10_000_000 if isinstance(estimator, (SVC, SVR)) else 100_000
    exact = fitted(estimator, train, **point, tol=1e-10, max_iter=limit)
    loss = Loss(loss_name(estimator))
    if not hasattr(exact, "classes_"):
        return loss(test, exact.predict(test.X))[0]
    pairs = isinstance(exact, SVC) and len(exact.classes_) > 2
    if pairs:
        exact.set_params(decision_function_shape="ovo")
    return loss(test, exact.decision_function(test.X), exact.classes_, pairs=pairs)[0]


COSTS = [{"C": C} for C in (0.003, 0.1, 2.0, 30.0)]
IN_THE_DUAL = [{"C": C} for C in (0.003, 0.1, 0.5, 2.0)]  # where libsvm ends soon
WITH_GAMMA = [
    {"C": C, "gamma": gamma} for C, gamma in ((0.05, 0.3), (1.0, 0.1), (10.0, 0.5), (100.0, 0.02))
]
WITH_COEF0 = [
    {"C": C, "gamma": gamma, "coef0": coef0}
    for C, gamma, coef0 in ((0.05, 0.3, 1.0), (1.0, 0.1, 0.5), (0.3, 0.2, 1.5), (5.0, 0.02, 0.2))
]


# --------------------------------------------------------------------- linear machines


@BOTH
@pytest.mark.parametrize(
    "estimator",
    [
        LinearSVC(),
        LinearSVC(class_weight="balanced", intercept_scaling=3.0),
        LinearSVC(fit_intercept=False),
    ],
)
def test_linear_svc_of_two_classes(estimator, kind):
    check(estimator, two_classes(), COSTS, kind)


@BOTH
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 1.0, 1: 3.0, 2: 0.5}])
def test_linear_svc_of_one_class_against_the_rest(class_weight, kind):
    check(LinearSVC(class_weight=class_weight), three_classes(), COSTS, kind)


@pytest.mark.parametrize("data", [two_classes, three_classes])
def test_linear_svc_of_absolute_values(data):
    # The same tolerance: within a step no coefficient joins or leaves the support.
    check(LinearSVC(penalty="l1", dual=False), data(), COSTS[1:3])


@BOTH
@pytest.mark.parametrize("intercept", [True, False])
def test_linear_svr(intercept, kind):
    points = [
        {"C": C, "epsilon": e} for C, e in ((0.001, 0.3), (0.1, 0.1), (3.0, 0.5), (30.0, 1.0))
    ]
    estimator = LinearSVR(loss="squared_epsilon_insensitive", fit_intercept=intercept)
    check(estimator, targets(), points, kind)


# --------------------------------------------------------------------- machines with kernels


@BOTH
@pytest.mark.parametrize("data", [two_classes, three_classes])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_svc_with_rbf(data, class_weight, kind):
    check(SVC(class_weight=class_weight), data(), WITH_GAMMA, kind)


@BOTH
@pytest.mark.parametrize("data", [two_classes, three_classes])
def test_linear_svc_in_the_dual(data, kind):
    check(SVC(kernel="linear"), data(), IN_THE_DUAL, kind)


@BOTH
@pytest.mark.parametrize("data", [two_classes, three_classes])
@pytest.mark.parametrize("degree", [2, 3])
def test_svc_with_polynomials(data, degree, kind):
    check(SVC(kernel="poly", degree=degree), data(), WITH_COEF0, kind)


@BOTH
def test_svc_with_sigmoid(kind):
    # Not positive definite: of large C there is more than one optimum.
    points = [
        {"C": C, "gamma": g, "coef0": c}
        for C, g, c in ((0.01, 0.1, 0.1), (0.3, 0.05, 0.2), (1.0, 0.02, 0.1), (3.0, 0.01, 0.3))
    ]
    check(SVC(kernel="sigmoid"), two_classes(), points, kind)


@BOTH
@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly"])
def test_svr(kernel, kind):
    points = {"linear": IN_THE_DUAL, "rbf": WITH_GAMMA, "poly": WITH_COEF0}[kernel]
    points = [
        {**point, "epsilon": e} for point, e in zip(points, (0.5, 0.1, 0.3, 0.02), strict=False)
    ]
    check(SVR(kernel=kernel, degree=2), targets(), points, kind)


@pytest.mark.parametrize("C", [1e-4, 1e-3])
def test_no_sample_is_free(C):
    """With as many samples of both classes and a small C all are at the cap."""
    X, y = make_classification(90, 4, random_state=0)
    y[np.argsort(y, kind="stable")[:45]], y[np.argsort(y, kind="stable")[45:]] = 0, 1
    train, test = Samples(X[::2], y[::2], np.ones(45)), Samples(X[1::2], y[1::2], np.ones(45))
    train = Samples(*(a[np.r_[:44]] for a in (train.X, np.arange(45) % 2, train.sample_weight)))
    estimator = SVC()
    point = {"C": C, "gamma": 0.1}
    found = hypergradient(
        fitted(estimator, train, **point), train, test, Loss("squared_hinge"), list(point)
    )

    def at(**params):
        fit = fitted(estimator, train, **params)
        return hypergradient(fit, train, test, Loss("squared_hinge"), []).loss

    for name, slope in found.gradient.items():
        h = 1e-4 * point[name]
        up, down = (at(**{**point, name: point[name] + d}) for d in (h, -h))
        np.testing.assert_allclose(slope, (up - down) / (2 * h), rtol=1e-5)


def test_one_sample_at_both_ends_of_the_intercept():
    """Regression with far-off samples and a small C: all at a cap but the one in the middle."""
    X, y = targets()
    X, y = 10 * X[:76], y[:76]
    check(SVR(), (X, y), [{"C": 0.01, "gamma": 1.0, "epsilon": 1e-3}])


# --------------------------------------------------------------------- what may go wrong


def test_a_rough_fit_is_brought_to_the_same_optimum():
    train, test = fold(*two_classes())
    point = {"C": 3.0, "gamma": 0.1}
    exact = of(SVC(tol=1e-6), train, test, ["C", "gamma"], **point)
    rough = of(SVC(tol=1.5), train, test, ["C", "gamma"], **point)
    np.testing.assert_allclose(rough.loss, exact.loss, rtol=1e-9)
    assert rough.gradient == pytest.approx(exact.gradient, rel=1e-6)


@pytest.mark.parametrize("estimator", [SVC(C=2.0), SVC(C=0.1, kernel="linear"), SVR(C=2.0)])
def test_one_state_at_a_time_ends_at_the_same_optimum(estimator, monkeypatch):
    train, test = fold(*(targets() if isinstance(estimator, SVR) else three_classes()))
    estimator = clone(estimator).set_params(tol=0.3)
    at_once = of(estimator, train, test, ["C"])
    monkeypatch.setattr(support, "_SWEEPS", 0)
    one_by_one = of(estimator, train, test, ["C"])
    np.testing.assert_allclose(one_by_one.loss, at_once.loss, rtol=1e-9)
    assert one_by_one.gradient == pytest.approx(at_once.gradient, rel=1e-6)


def test_samples_that_are_there_twice():
    X, y = two_classes()
    for kernel in ("linear", "rbf"):
        train, test = fold(X, y, weights=False)
        twice = Samples(np.vstack([train.X] * 2), np.append(train.y, train.y), np.ones(160))
        estimator = SVC(kernel=kernel, gamma=0.2)
        once = of(estimator, train, test, ["C", "gamma"], C=2.0)
        both = of(estimator, twice, test, ["C", "gamma"], C=1.0)
        np.testing.assert_allclose(both.loss, once.loss, rtol=1e-7)
        np.testing.assert_allclose(both.gradient["C"] / 2, once.gradient["C"], 1e-4, 1e-8)


@BOTH
@pytest.mark.parametrize("estimator", [SVC(gamma=0.2), SVR(gamma=0.2), LinearSVC()])
def test_samples_without_weight_do_not_count(estimator, kind):
    X, y = targets() if isinstance(estimator, SVR) else two_classes()
    train, test = fold(X, y, kind=kind)
    kept = np.arange(80) % 7 != 0
    light = Samples(train.X, train.y, train.sample_weight * kept)
    fewer = Samples(train.X[kept], train.y[kept], train.sample_weight[kept])
    found, expected = (of(estimator, samples, test, ["C"]) for samples in (light, fewer))
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-9)
    assert found.gradient == pytest.approx(expected.gradient, rel=1e-6)


def test_parameters_that_do_not_count_have_no_derivative():
    assert rule_of(SVC()).active(SVC()) == {"C"}
    assert rule_of(SVC()).active(SVC(gamma=0.1)) == {"C", "gamma"}
    assert rule_of(SVC()).active(SVC(kernel="linear", gamma=0.1)) == {"C"}
    assert rule_of(SVC()).active(SVC(kernel="poly", gamma="auto")) == {"C", "coef0"}
    assert rule_of(SVR()).active(SVR(kernel="sigmoid", gamma=0.1)) == {
        "C", "epsilon", "gamma", "coef0",
    }  # fmt: skip


@pytest.mark.parametrize(
    "estimator",
    [
        LinearSVC(loss="hinge"),
        LinearSVC(multi_class="crammer_singer"),
        LinearSVR(),
        SVC(kernel="precomputed"),
        SVC(kernel=rbf_kernel),
        SVR(kernel="precomputed"),
    ],
)
def test_what_has_no_rule_says_so(estimator):
    with pytest.raises(NoHypergradient):
        rule_of(estimator).active(estimator)


def test_an_optimum_that_is_not_found_is_told(monkeypatch):
    monkeypatch.setattr("tunein._families.svm.settle", lambda *_: (_ for _ in ()).throw(NotSettled))
    train, test = fold(*two_classes())
    with pytest.raises(NoHypergradient, match="an inner optimum"):
        of(SVC(), train, test, ["C"])


@BOTH
def test_a_band_with_all_targets_in_it(kind):
    """No support vectors: the machine says the middle of the extreme targets."""
    X, y = targets()
    train, test = fold(X, y, kind=kind)
    estimator = SVR(gamma=0.1)
    found = of(estimator, train, test, ["C", "gamma", "epsilon"], epsilon=10.0)
    middle = (train.y.min() + train.y.max()) / 2
    expected = Loss("squared_error")(test, np.full(len(test.y), middle))[0]
    np.testing.assert_allclose(found.loss, expected)
    assert found.gradient == {"C": 0, "gamma": 0, "epsilon": 0}


def test_decisions_that_are_all_alike_have_no_slope():
    """Where every sample is alone all decisions on others are the intercept and rounding."""
    X, y = two_classes()
    train, test = fold(30 * X, y)
    found = of(SVC(), train, test, ["C", "gamma"], C=2.0, gamma=0.5)
    assert found.gradient == {"C": 0, "gamma": 0}


def test_a_fit_too_far_from_the_optimum_is_given_up(monkeypatch):
    train, test = fold(*two_classes())
    monkeypatch.setattr(support, "_SWEEPS", 0)
    monkeypatch.setattr(support, "_MOST_WORK", -1)
    monkeypatch.setattr(support, "_FACTORS", 0)
    with pytest.raises(NoHypergradient, match="too far"):
        of(SVC(tol=1.0), train, test, ["C"])


# --------------------------------------------------------------------- slopes in samples


@pytest.mark.parametrize(
    ("estimator", "data"),
    [
        (LinearSVC(), three_classes),
        (LinearSVR(loss="squared_epsilon_insensitive", epsilon=0.2), targets),
        (SVC(kernel="linear"), two_classes),
        (SVC(), three_classes),
        (SVC(gamma=0.2, C=10), two_classes),
        (SVC(kernel="poly", coef0=1.0), two_classes),
        (SVR(), targets),
        (SVR(kernel="sigmoid", gamma=0.05, C=0.1), targets),
    ],
)
def test_slopes_in_samples(estimator, data):
    train, test = fold(*data())
    found = of(estimator, train, test, [])
    rng = np.random.default_rng(0)
    for side, slope in enumerate(found.in_samples()):
        sides = [train, test]
        way = rng.normal(size=slope.shape)

        def moved(step, side=side, sides=sides, way=way):
            now = list(sides)
            now[side] = Samples(now[side].X + step * way, now[side].y, now[side].sample_weight)
            return of(estimator, *now, []).loss

        h = 1e-6
        expected = (moved(h) - moved(-h)) / (2 * h)
        np.testing.assert_allclose((slope * way).sum(), expected, rtol=1e-4)


def test_sparse_samples_have_no_slopes():
    train, test = fold(*two_classes(), kind=sparse.csr_array)
    assert of(SVC(), train, test, ["C"]).inputs is None
    assert of(LinearSVC(), train, test, ["C"]).inputs is None


# --------------------------------------------------------------------- the mathematics


@pytest.mark.parametrize("change", [(0, 3), (2, 0), (2, 3)])
def test_factors_used_again_solve_the_new_system(change):
    removed, added = change
    rng = np.random.default_rng(0)
    X, n = rng.normal(size=(90, 5)), 90
    gram = Gram(Kernel("rbf", 0.5), X, np.arange(4))
    dual = Dual(gram, np.arange(n), np.ones(n), np.zeros(n), np.zeros(n), np.ones(n))
    some = rng.permutation(n)
    start, now = np.sort(some[:80]), np.sort(some[removed : 80 + added])
    borders = Borders(dual)
    borders(start)
    v = rng.normal(size=len(now))
    changed = borders(now)
    assert not isinstance(changed, Bordered)
    for got, expected in zip(changed.solve(v, 0.3), Borders(dual)(now).solve(v, 0.3), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11)


def test_an_indefinite_matrix_is_solved_as_well():
    rng = np.random.default_rng(0)
    K = rng.normal(size=(12, 12))
    K += K.T
    u, u0 = Bordered(K).solve(np.arange(12.0), 2.0)
    np.testing.assert_allclose(K @ u + u0, np.arange(12.0), atol=1e-10)
    np.testing.assert_allclose(u.sum(), 2.0)


def test_the_optimum_is_one():
    """No direction that keeps the sum and the bounds lowers the objective."""
    X, y = targets()
    n, cap, epsilon = len(y), 0.7, 0.2
    band = np.full(n, epsilon)
    gram = Gram(Kernel("rbf", 0.3), X, np.arange(3))
    settled = settle(Dual(gram, np.arange(n), y, band, band, np.full(n, cap)), np.zeros(n))
    K = Kernel("rbf", 0.3)(X, X)
    r = y - K @ settled.beta - settled.b
    assert abs(settled.beta.sum()) < 1e-9
    assert np.all(np.abs(settled.beta) <= cap)
    inside, free = settled.states == 0, np.abs(settled.states) == 1
    assert np.all(np.abs(r[inside]) <= epsilon + 1e-8)
    np.testing.assert_allclose(np.abs(r[free]), epsilon, atol=1e-8)
    assert np.all(r[~inside] * settled.beta[~inside] > 0)
    assert np.all(np.abs(r[~inside & ~free]) >= epsilon - 1e-8)
