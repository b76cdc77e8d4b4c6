"""One penalty for each feature: gradients, descents, and what the meta-estimator promises."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.datasets import make_classification, make_regression
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, KFold, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.fixes import parse_version

from tunein import PerFeaturePenalty
from tunein._math.descent import descend, guarded_descent, shared_log_penalty
from tunein._math.penalties import CVLoss, HalfSquared, Logistic, Problem, Split

LOSSES = {"squared": HalfSquared(), "lasso": HalfSquared(), "logistic": Logistic()}


def folds_of(n, k=4, seed=0):
    return [
        Split(train, test)
        for train, test in KFold(k, shuffle=True, random_state=seed).split(np.zeros(n))
    ]


def problem(n, p, loss="squared", *, fit_intercept=True, weighted=False, n_groups=None, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + 0.3
    y = 2 * X[:, :3].sum(axis=1) + rng.standard_normal(n)
    if loss == "logistic":
        y = (y > np.median(y)).astype(float)
    s = rng.uniform(0.2, 2, n) if weighted else np.ones(n)
    groups = np.arange(p) if n_groups is None else np.arange(p) % n_groups
    solver = coordinate_descent if loss == "lasso" else None
    return Problem(X, y, s, groups, LOSSES[loss], fit_intercept, solver)


def coordinate_descent(Z, z):
    return Lasso(alpha=1.0, fit_intercept=False, tol=1e-8, max_iter=100_000).fit(Z, z).coef_


# --------------------------------------------------------------------- the gradient


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("n", "p"), [(60, 15), (30, 50), (40, 25)])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("n_groups", [None, 4])
def test_the_gradient_is_that_of_central_differences(loss, n, p, fit_intercept, weighted, n_groups):
    given = problem(n, p, loss, fit_intercept=fit_intercept, weighted=weighted, n_groups=n_groups)
    folds = folds_of(n)
    theta = np.random.default_rng(1).normal(-1, 0.5, int(given.groups.max()) + 1)
    value, gradient = CVLoss(given, theta).mean_and_gradient(folds)
    assert value == pytest.approx(CVLoss(given, theta).mean(folds), rel=1e-12)

    def at(shift):
        return CVLoss(given, theta + shift).mean(folds)

    steps = 1e-5 * np.eye(len(theta))
    differences = np.array([(at(h) - at(-h)) / 2e-5 for h in steps])
    assert np.abs(gradient - differences).max() < 1e-6 * np.abs(differences).max()


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_both_forms_say_the_same(loss, fit_intercept, monkeypatch):
    given, folds = problem(30, 25, loss, fit_intercept=fit_intercept, weighted=True), folds_of(30)
    theta = np.random.default_rng(2).normal(0, 2, 25)
    answers = []
    for in_samples in (True, False):
        monkeypatch.setattr(Problem, "in_samples", in_samples)
        answers.append(CVLoss(given, theta).mean_and_gradient(folds))
    assert answers[0][0] == pytest.approx(answers[1][0], rel=1e-9)
    np.testing.assert_allclose(answers[0][1], answers[1][1], rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(("n", "p"), [(60, 10), (30, 50)])
def test_the_loss_is_that_of_scikit_learns_ridge(n, p):
    given, folds = problem(n, p), folds_of(n)
    scores = cross_val_score(
        Ridge(alpha=3.0),
        given.X,
        given.y,
        scoring="neg_mean_squared_error",
        cv=[(fold.train, fold.test) for fold in folds],
    )
    sizes = [len(fold.test) for fold in folds]
    at = CVLoss(given, np.full(p, np.log(3.0))).mean(folds)
    assert at == pytest.approx(-np.average(scores, weights=sizes), rel=1e-9)


@pytest.mark.parametrize(("n", "p"), [(60, 10), (30, 200)])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_loss_is_that_of_scikit_learns_lasso(n, p, fit_intercept):
    given, folds = problem(n, p, "lasso", fit_intercept=fit_intercept), folds_of(n)
    scores = cross_val_score(
        Lasso(alpha=0.2, fit_intercept=fit_intercept, tol=1e-10, max_iter=100_000),
        given.X,
        given.y,
        scoring="neg_mean_squared_error",
        cv=[(fold.train, fold.test) for fold in folds],
    )
    sizes = [len(fold.test) for fold in folds]
    at = CVLoss(given, np.full(p, np.log(0.2))).mean(folds)
    assert at == pytest.approx(-np.average(scores, weights=sizes), rel=1e-6)


def test_a_lasso_with_all_coefficients_zero_predicts_the_mean_and_has_no_slope():
    given, folds = problem(30, 10, "lasso"), folds_of(30)
    value, gradient = CVLoss(given, np.full(10, 20.0)).mean_and_gradient(folds)
    means = [np.mean((given.y[f.test] - given.y[f.train].mean()) ** 2) for f in folds]
    assert value == pytest.approx(np.average(means, weights=[len(f.test) for f in folds]))
    assert not gradient.any()


@pytest.mark.parametrize(("n", "p"), [(60, 10), (40, 50)])
def test_the_loss_is_that_of_scikit_learns_logistic_regression(n, p):
    given, folds = problem(n, p, "logistic"), folds_of(n)
    scores = cross_val_score(
        LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000),
        given.X,
        given.y,
        scoring="neg_log_loss",
        cv=[(fold.train, fold.test) for fold in folds],
    )
    sizes = [len(fold.test) for fold in folds]
    at = CVLoss(given, np.full(p, np.log(2.0))).mean(folds)
    assert at == pytest.approx(-np.average(scores, weights=sizes), rel=1e-6)


@pytest.mark.parametrize("p", [5, 60])
def test_separable_classes_and_one_class_alone_leave_numbers_finite(p):
    given, folds = problem(30, p, "logistic"), folds_of(30)
    for y in ((given.X[:, 0] > 0).astype(float), np.ones(30)):
        separable = Problem(given.X, y, given.s, given.groups, given.loss, True)
        for level in (-12.0, 12.0):
            value, gradient = CVLoss(separable, np.full(p, level)).mean_and_gradient(folds)
            assert np.isfinite(value)
            assert np.isfinite(gradient).all()


# --------------------------------------------------------------------- descents


def test_the_shared_penalty_is_best_among_many():
    given, folds = problem(60, 80), folds_of(60)
    shared = shared_log_penalty(given, folds)
    least = CVLoss(given, np.full(80, shared)).mean(folds)
    for level in np.linspace(-8, 12, 81):
        assert least <= CVLoss(given, np.full(80, level)).mean(folds) * (1 + 1e-3)


def test_a_descent_goes_down_and_ends():
    given, folds = problem(60, 30), folds_of(60)
    found = descend(given, folds, 0.0, 40)
    assert (np.diff(found.cv_losses) <= 0).all()
    assert found.n_steps == len(found.cv_losses) - 1 <= 40
    assert found.cv_losses[-1] == pytest.approx(CVLoss(given, found.theta).mean(folds))
    assert found.held_losses is None


def test_the_guard_stops_where_the_loss_kept_out_is_lowest():
    given, folds = problem(80, 100), folds_of(80)
    found = guarded_descent(given, folds, shared_log_penalty(given, folds), 40)
    assert found.n_steps == np.argmin(found.held_losses) > 0
    assert len(found.held_losses) == len(found.cv_losses)
    assert str(found.n_steps) in found.reason


def test_pure_noise_keeps_the_shared_penalty():
    rng = np.random.default_rng(0)
    given = problem(60, 100)
    noise = Problem(
        given.X, rng.standard_normal(60), given.s, given.groups, given.loss, given.fit_intercept
    )
    found = guarded_descent(noise, folds_of(60), 3.0, 40)
    if found.n_steps == 0:
        np.testing.assert_allclose(found.theta, 3.0)
    assert found.n_steps == 0


# --------------------------------------------------------------------- the meta-estimator


# The check of sample weights asks for more digits than the lasso has by default.
INNER = [Ridge(), Lasso(tol=1e-12, max_iter=100_000), LogisticRegression()]


# Some checks have fewer samples of a class than there are folds.
@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
@pytest.mark.parametrize("inner", INNER, ids=lambda inner: type(inner).__name__)
def test_scikit_learns_checks_pass(inner):
    checks = check_estimator(PerFeaturePenalty(inner, max_iter=5), on_fail=None, on_skip=None)
    failed = {c["check_name"]: c["exception"] for c in checks if c["status"] == "failed"}
    if parse_version(sklearn.__version__) < parse_version("1.9"):
        # 1.6 gives the two data sets of this check different labels if there are only two classes
        failed.pop("check_sample_weight_equivalence_on_dense_data", None)
    assert failed == {}
    assert sum(check["status"] == "passed" for check in checks) > 40


def sparse_regression(seed=0, n=200, p=300):
    X, y = make_regression(2 * n, p, n_informative=8, noise=20, shuffle=True, random_state=seed)
    return X[:n], y[:n], X[n:], y[n:]


def sparse_classification(seed=0):
    X, y = make_classification(
        600, 200, n_informative=5, n_redundant=0, n_clusters_per_class=1, random_state=seed
    )
    return X[:200], y[:200], X[200:], y[200:]


def test_with_few_relevant_features_it_beats_the_shared_penalty():
    X, y, X_new, y_new = sparse_regression()
    model = PerFeaturePenalty(Ridge()).fit(X, y)
    shared = Ridge(alpha=model.shared_penalty_).fit(X, y)
    assert 1 - model.score(X_new, y_new) < 0.5 * (1 - shared.score(X_new, y_new))
    assert is_regressor(model)
    assert not hasattr(model, "predict_proba")


def test_so_it_does_in_classification():
    X, y, X_new, y_new = sparse_classification()
    labels = np.array(["no", "yes"])[y]
    model = PerFeaturePenalty(LogisticRegression()).fit(X, labels)
    shared = LogisticRegression(C=1 / model.shared_penalty_).fit(X, labels)
    rows = np.arange(len(y_new))
    ours, theirs = (-np.log(m.predict_proba(X_new)[rows, y_new]).mean() for m in (model, shared))
    assert ours < theirs
    assert is_classifier(model)
    assert model.classes_.tolist() == ["no", "yes"]
    assert set(model.predict(X_new)) == {"no", "yes"}
    np.testing.assert_array_equal(model.decision_function(X_new) > 0, model.predict(X_new) == "yes")
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X_new)), model.predict_proba(X_new))


def test_coefficients_are_optimal_for_the_penalties_in_the_scale_of_the_features():
    X, y, X_new, _ = sparse_regression()
    model = PerFeaturePenalty(Ridge()).fit(X, y)
    residual = y - model.predict(X)
    np.testing.assert_allclose(X.T @ residual, model.penalties_ * model.coef_, atol=1e-5)
    assert residual.sum() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(model.predict(X_new), X_new @ model.coef_ + model.intercept_)
    assert np.ptp(model.penalties_) > 0


def test_so_are_those_of_logistic_regression():
    X, y, *_ = sparse_classification()
    model = PerFeaturePenalty(LogisticRegression(tol=1e-8, max_iter=10_000)).fit(X, y)
    residual = y - model.predict_proba(X)[:, 1]
    np.testing.assert_allclose(X.T @ residual, model.penalties_ * model.coef_[0], atol=1e-4)


def test_a_lasso_is_optimal_for_its_penalties_too():
    X, y, *_ = sparse_regression(n=100, p=400)
    model = PerFeaturePenalty(Lasso(tol=1e-8, max_iter=10_000)).fit(X, y)
    pull = X.T @ (y - model.predict(X)) / len(y)
    active = model.coef_ != 0
    signs = np.sign(model.coef_[active])
    assert 0 < active.sum() < 100
    np.testing.assert_allclose(pull[active], model.penalties_[active] * signs, rtol=1e-4)
    assert (np.abs(pull) <= model.penalties_ * (1 + 1e-4)).all()


def test_when_the_guard_finds_nothing_it_is_the_plain_estimator():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((80, 20)), rng.standard_normal(80)
    model = PerFeaturePenalty(Ridge()).fit(X, y)
    assert model.n_steps_ == 0
    assert "shared penalty" in model.stop_reason_
    np.testing.assert_allclose(model.penalties_, model.shared_penalty_)
    plain = Ridge(alpha=model.shared_penalty_).fit(X, y)
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-9)


def test_features_of_a_group_share_a_penalty():
    X, y, *_ = sparse_regression()
    labels = np.array(["left", "right", "middle"])[np.arange(X.shape[1]) % 3]
    model = PerFeaturePenalty(Ridge(), feature_groups=labels, guard=False).fit(X, y)
    for label in np.unique(labels):
        assert len(np.unique(model.penalties_[labels == label])) == 1
    assert len(np.unique(model.penalties_)) == 3


def test_without_the_guard_it_fits_the_folds():
    X, y, *_ = sparse_regression()
    guarded = PerFeaturePenalty(Ridge()).fit(X, y)
    free = PerFeaturePenalty(Ridge(), guard=False).fit(X, y)
    assert free.held_out_loss_path_ is None
    assert free.cv_loss_path_[-1] < 0.5 * guarded.held_out_loss_path_.min()
    assert "Without a guard" in free.stop_reason_


def test_a_weight_of_two_is_a_sample_twice():
    X, y, *_ = sparse_regression(n=60, p=20)
    weights = np.where(np.arange(60) % 4 == 0, 2, 1)
    rows = np.repeat(np.arange(60), weights)
    splits = [
        (np.flatnonzero(np.arange(60) % 3 != k), np.flatnonzero(np.arange(60) % 3 == k))
        for k in range(3)
    ]
    repeated = [(np.flatnonzero(rows % 3 != k), np.flatnonzero(rows % 3 == k)) for k in range(3)]
    model = PerFeaturePenalty(Ridge(), cv=splits).fit(X, y, sample_weight=weights)
    twice = PerFeaturePenalty(Ridge(), cv=repeated).fit(X[rows], y[rows])
    np.testing.assert_allclose(model.coef_, twice.coef_, rtol=1e-4, atol=1e-6)


def test_a_weight_of_zero_is_no_sample():
    X, y, *_ = sparse_regression(n=60, p=90)
    weights = np.ones(60)
    weights[40:] = 0
    splits = [
        (np.flatnonzero(np.arange(60) % 3 != k), np.flatnonzero(np.arange(60) % 3 == k))
        for k in range(3)
    ]
    fewer = [(train[train < 40], test[test < 40]) for train, test in splits]
    model = PerFeaturePenalty(Ridge(), cv=splits).fit(X, y, sample_weight=weights)
    without = PerFeaturePenalty(Ridge(), cv=fewer).fit(X[:40], y[:40])
    np.testing.assert_allclose(model.coef_, without.coef_, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "cv",
    [
        4,
        KFold(3, shuffle=True, random_state=0),
        TimeSeriesSplit(5),
        list(GroupKFold(4).split(np.zeros(200), groups=np.arange(200) // 10)),
    ],
    ids=["int", "KFold", "TimeSeriesSplit", "iterable"],
)
def test_any_folds_do(cv):
    X, y, *_ = sparse_regression()
    model = PerFeaturePenalty(Ridge(), cv=cv).fit(X, y)
    assert model.n_iter_ == len(model.held_out_loss_path_) - 1
    assert np.isfinite(model.held_out_loss_path_).all()


def test_it_works_in_a_pipeline_and_leaves_what_it_was_given():
    X, y, *_ = sparse_regression()
    inner, before = Ridge(alpha=7.0), X.copy()
    pipeline = make_pipeline(StandardScaler(), PerFeaturePenalty(inner)).fit(X, y)
    assert pipeline.score(X, y) > 0.9
    assert inner.alpha == 7.0
    assert not hasattr(inner, "coef_")
    np.testing.assert_array_equal(X, before)
    other = clone(pipeline).set_params(perfeaturepenalty__estimator__alpha=1.0).fit(X, y)
    np.testing.assert_array_equal(other.predict(X), pipeline.predict(X))


def test_features_that_are_constant_or_in_odd_units_do_no_harm():
    X, y, X_new, y_new = sparse_regression()
    X, X_new = (
        np.column_stack([X * 1e3, np.ones(200)]),
        np.column_stack([X_new * 1e3, np.ones(200)]),
    )
    assert PerFeaturePenalty(Ridge()).fit(X, y).score(X_new, y_new) > 0.9


# --------------------------------------------------------------------- bad input


class OwnRidge(Ridge):
    pass


@pytest.mark.parametrize("estimator", [ElasticNet(), OwnRidge(), BaseEstimator(), Ridge])
def test_other_estimators_are_refused(estimator):
    with pytest.raises(TypeError, match="estimator must be an instance of Ridge or"):
        PerFeaturePenalty(estimator).fit(np.eye(9), np.arange(9))


@pytest.mark.parametrize(
    ("estimator", "match"),
    [
        (Ridge(positive=True), "positive=True, of which there is no gradient; accepted is False"),
        (LogisticRegression(solver="liblinear"), "solver='liblinear'"),
        (LogisticRegression(class_weight="balanced"), "class_weight='balanced'"),
        (LogisticRegression(l1_ratio=1, solver="saga"), "l1_ratio=1"),
    ],
)
def test_settings_with_another_loss_are_refused(estimator, match):
    with pytest.raises(ValueError, match=match):
        PerFeaturePenalty(estimator).fit(np.eye(10), np.arange(10) % 2)


@pytest.mark.parametrize(
    ("parameters", "error", "match"),
    [
        ({"feature_groups": [0, 1]}, ValueError, r"feature_groups must have one label for each of"),
        ({"cv": 2}, ValueError, r"cv=2 gives 2 folds .* at least 3 are needed"),
        ({"cv": []}, ValueError, r"cv=\[\] gives 0 folds"),
        ({"max_iter": 0}, ValueError, r"max_iter must be an integer of at least 1, got 0"),
        ({"max_iter": 2.5}, TypeError, r"max_iter must be an integer of at least 1, got 2.5"),
        ({"max_iter": True}, TypeError, r"max_iter must be an integer of at least 1, got True"),
        ({"guard": "no"}, TypeError, r"guard must be True or False, got 'no'"),
    ],
)
def test_bad_parameters_are_named_with_what_would_do(parameters, error, match):
    model = PerFeaturePenalty(Ridge(), **parameters)
    with pytest.raises(error, match=match):
        model.fit(np.eye(12), np.arange(12))


def test_more_classes_than_two_are_refused():
    with pytest.raises(ValueError, match="Only binary classification is supported"):
        PerFeaturePenalty(LogisticRegression()).fit(np.eye(12), np.arange(12) % 3)


def test_a_class_without_weight_is_no_class():
    y = np.arange(12) % 2
    with pytest.raises(ValueError, match=r"2 classes with a positive weight, got 1 class: \[1\]"):
        PerFeaturePenalty(LogisticRegression()).fit(np.eye(12), y, sample_weight=y)
