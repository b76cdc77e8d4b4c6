"""HyperGradSearchCV: what it descends, what it says of it, and where it ends."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import loguniform, uniform
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
)
from sklearn.metrics import log_loss, make_scorer, mean_squared_error
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeRegressor

from tunein import Choice, HyperGradSearchCV, Integer
from tunein._families import Loss
from tunein._hypergrad import HypergradientWarning
from tunein._probe import FoldProbe

X, y = load_diabetes(return_X_y=True)
X, y = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
XC, yc = load_breast_cancer(return_X_y=True)
XC = StandardScaler().fit_transform(XC)
WIDE = loguniform(1e-4, 1e4)


def search(estimator, space, **options):
    return HyperGradSearchCV(estimator, space, **{"random_state": 0, "cv": 3, **options})


# ---------------------------------------------------------------------- what is descended


@pytest.mark.parametrize(
    ("estimator", "space", "data"),
    [
        (Ridge(), {"alpha": WIDE}, (X, y)),
        (Ridge(), {"alpha": WIDE}, (sparse.csr_array(X), y)),
        (Lasso(), {"alpha": loguniform(1e-3, 1e1)}, (X, y)),
        (ElasticNet(), {"alpha": loguniform(1e-3, 1e1), "l1_ratio": uniform(0.05, 0.9)}, (X, y)),
        (make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": WIDE}, (X, y)),
    ],
)
def test_the_best_of_a_grid_is_found_by_few(estimator, space, data):
    found = search(estimator, space, scoring="neg_mean_squared_error").fit(*data)
    grid = {name: list(d.ppf(np.linspace(0.001, 0.999, 40))) for name, d in space.items()}
    best = GridSearchCV(estimator, grid, scoring="neg_mean_squared_error", cv=3).fit(*data)
    assert found.best_score_ >= best.best_score_ * (1 + 1e-3)  # scores are negative
    assert len(found.cv_results_["params"]) <= 14
    assert (found.gradient_, found.loss_, found.loss_is_proxy_) == ("exact", "squared_error", False)
    assert found.stop_reason_ == "Nothing promises to lower the loss by 0.0001 of it."


@pytest.mark.parametrize(
    ("estimator", "space", "loss"),
    [
        (Ridge(), {"alpha": WIDE}, "squared_error"),
        (LogisticRegression(max_iter=1000), {"C": WIDE}, "log_loss"),
        (SVC(), {"C": loguniform(1e-1, 1e2), "gamma": loguniform(1e-3, 1)}, "platt_log_loss"),
        (
            make_pipeline(Nystroem(n_components=20, random_state=0), Ridge()),
            {"nystroem__gamma": loguniform(1e-3, 1), "ridge__alpha": WIDE},
            "squared_error",
        ),
    ],
)
def test_recorded_gradients_are_those_of_differences(estimator, space, loss):
    data = (X, y) if loss == "squared_error" else (XC, yc)
    folds = list(KFold(3, shuffle=True, random_state=0).split(*data))
    found = search(estimator, space, cv=folds, n_iter=4, loss=loss).fit(*data)
    probe = FoldProbe(Loss(loss), False, tuple(space), True)

    def loss_at(params):
        values = []
        for train, test in folds:
            fitted = clone(estimator).set_params(**params).fit(data[0][train], data[1][train])
            got, why = probe(fitted, *data, train=train, test=test, fit_params={}, score_params={})
            assert got is not None, why
            values.append(got.loss)
        return np.mean(values)

    descended = [trial for trial in found.history_ if trial.hypergradient]
    assert len(descended) >= 3
    for trial in descended:
        np.testing.assert_allclose(trial.hypergradient.loss, loss_at(trial.params), rtol=1e-5)
        for name, slope in trial.hypergradient.gradient.items():
            value = trial.params[name]
            h = 1e-3 * value
            above, below = (loss_at({**trial.params, name: value + d}) for d in (h, -h))
            scale = abs(trial.hypergradient.loss / value)
            assert slope == pytest.approx((above - below) / (2 * h), rel=2e-2, abs=1e-5 * scale)


def test_gradients_are_of_the_unit_cube_in_the_results():
    found = search(Ridge(), {"alpha": WIDE}).fit(X, y)
    for trial, norm, loss in zip(
        found.history_, found.cv_results_["grad_norm"], found.cv_results_["loss"], strict=True
    ):
        slope = trial.hypergradient.gradient["alpha"] * trial.params["alpha"] * np.log(1e8)
        assert norm == pytest.approx(abs(slope))
        assert loss == trial.hypergradient.loss


@pytest.mark.parametrize(
    ("estimator", "scoring", "loss", "is_proxy"),
    [
        (Ridge(), None, "r2", False),
        (Ridge(), "r2", "r2", False),
        (Ridge(), "neg_root_mean_squared_error", "root_squared_error", False),
        (Ridge(), "neg_mean_absolute_error", "absolute_error", False),
        (Ridge(), "neg_median_absolute_error", "squared_error", True),
        (Ridge(), lambda estimator, X, y: 1.0, "squared_error", True),
        (RidgeClassifier(), "accuracy", "platt_log_loss", True),
        (LogisticRegression(), "neg_log_loss", "log_loss", False),
        (LogisticRegression(), "neg_brier_score", "brier", False),
        (LogisticRegression(), None, "log_loss", True),
        (LogisticRegression(), "roc_auc", "log_loss", True),
    ],
)
def test_the_loss_is_the_scorer_or_a_named_proxy(estimator, scoring, loss, is_proxy):
    name = "C" if isinstance(estimator, LogisticRegression) else "alpha"
    data = (XC, yc) if isinstance(estimator, RidgeClassifier | LogisticRegression) else (X, y)
    found = search(estimator, {name: WIDE}, scoring=scoring, n_iter=3).fit(*data)
    assert (found.loss_, found.loss_is_proxy_) == (loss, is_proxy)


def test_the_deviance_of_a_generalised_linear_model_is_its_score():
    found = search(PoissonRegressor(), {"alpha": WIDE}).fit(X, np.exp(y))
    assert (found.loss_, found.loss_is_proxy_) == ("d2_deviance", False)
    np.testing.assert_allclose(
        1 - found.cv_results_["loss"], found.cv_results_["mean_test_score"], atol=1e-3
    )


@pytest.mark.parametrize("model", [Ridge(), PoissonRegressor()])
def test_the_score_of_a_nested_pipeline_is_that_of_its_model(model):
    nested = make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), model))
    name = f"pipeline__{type(model).__name__.lower()}__alpha"
    found, flat = (
        search(estimator, {name: WIDE}, n_iter=4).fit(X, np.exp(y))
        for estimator, name in [(nested, name), (model, "alpha")]
    )
    assert (found.loss_, found.loss_is_proxy_) == (flat.loss_, False)
    np.testing.assert_allclose(
        1 - found.cv_results_["loss"], found.cv_results_["mean_test_score"], atol=1e-3
    )


def test_the_loss_is_the_score_of_converged_fits():
    found = search(Ridge(), {"alpha": WIDE}).fit(X, y)
    np.testing.assert_allclose(1 - found.cv_results_["loss"], found.cv_results_["mean_test_score"])


def test_what_a_proxy_leaves_goes_to_the_scores():
    found = search(LogisticRegression(), {"C": WIDE}, n_iter=14).fit(XC, yc)
    assert found.stop_reason_ == "n_iter=14 candidates were tried."
    notes = [trial.proposal.note or {} for trial in found.history_]
    assert "descended" in notes[-1]
    assert "descended" not in notes[1]
    has_slopes = [trial.hypergradient is not None for trial in found.history_]
    assert has_slopes == ["descended" not in note for note in notes]
    np.testing.assert_array_equal(np.isfinite(found.cv_results_["loss"]), has_slopes)
    assert (found.gradient_, found.loss_is_proxy_) == ("exact", True)


def test_after_a_proxy_it_ends_where_no_better_score_is_promised():
    found = search(LogisticRegression(), {"C": WIDE}, n_iter=60).fit(XC, yc)
    assert "promised no better score" in found.stop_reason_
    notes = [trial.proposal.note or {} for trial in found.history_]
    assert [note["idle"] for note in notes[-10:]] == list(range(1, 11))
    assert len(notes) < 60


def test_several_metrics_are_driven_by_the_one_of_refit():
    scoring = {"a": "r2", "b": "neg_mean_squared_error"}
    found = search(Ridge(), {"alpha": WIDE}, scoring=scoring, refit="b").fit(X, y)
    assert found.loss_ == "squared_error"


# ---------------------------------------------------------------------- exact, mixed, surrogate


def test_mixed_spaces_say_so():
    space = {"pca__n_components": Integer(1, 10), "ridge__alpha": WIDE}
    found = search(make_pipeline(PCA(), Ridge()), space, n_iter=20).fit(X, y)
    assert found.gradient_ == "mixed"
    assert found.best_score_ > cross_val_score(Ridge(), X, y, cv=3).mean() - 1e-3


def test_lists_of_numbers_have_slopes():
    found = search(Ridge(), {"alpha": np.logspace(-4, 4, 50)}).fit(X, y)
    assert found.gradient_ == "exact"
    assert len(found.history_) < 20
    grid = GridSearchCV(Ridge(), {"alpha": np.logspace(-4, 4, 50)}, cv=3).fit(X, y)
    assert found.best_score_ >= grid.best_score_ - 1e-3


def test_what_has_no_rule_is_searched_by_its_scores():
    space = {"max_depth": Integer(1, 20), "max_features": uniform(0.1, 0.9)}
    forest = RandomForestRegressor(10, random_state=0)
    found = search(forest, space, n_iter=12).fit(X, y)
    assert (found.gradient_, found.loss_, found.loss_is_proxy_) == ("surrogate", None, False)
    assert "loss" not in found.cv_results_
    assert len(found.history_) == 12


def test_a_branch_without_a_rule_is_no_loss():
    space = {
        "model": Choice(
            [
                (Ridge(), {"model__alpha": WIDE}),
                (DecisionTreeRegressor(random_state=0), {"model__max_depth": Integer(1, 9)}),
            ]
        )
    }
    pipeline = make_pipeline(StandardScaler(), Ridge())
    pipeline.steps[-1] = ("model", Ridge())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = search(pipeline, space, n_iter=12).fit(X, y)
    assert found.gradient_ == "mixed"
    assert isinstance(found.best_params_["model"], Ridge)


def test_surrogate_can_be_asked_for():
    found = search(Ridge(), {"alpha": WIDE}, gradient="surrogate", n_iter=6).fit(X, y)
    assert found.gradient_ == "surrogate"
    assert len(found.history_) == 6


@pytest.mark.parametrize(
    ("estimator", "space", "options", "message"),
    [
        (
            RandomForestRegressor(),
            {"max_depth": Integer(1, 9)},
            {"gradient": "exact"},
            r"gradient='exact' needs .* RandomForestRegressor has none for \['max_depth'\].*auto",
        ),
        (
            make_pipeline(PCA(), Ridge()),
            {"pca__n_components": Integer(1, 9), "ridge__alpha": WIDE},
            {"gradient": "exact"},
            r"\['pca__n_components'\] of Ridge have none",
        ),
        (Ridge(), {"alpha": WIDE}, {"loss": "log_loss"}, "loss='log_loss' is not of what"),
        (
            RandomForestRegressor(),
            {"max_depth": Integer(1, 9)},
            {"loss": "r2"},
            "loss='r2' cannot be descended",
        ),
        (Ridge(), {"alpha": WIDE}, {"loss": "best"}, "The 'loss' parameter of"),
        (Ridge(), {"alpha": WIDE}, {"gradient": True}, "The 'gradient' parameter of"),
        (Ridge(), {"alpha": WIDE}, {"tol": -1}, "The 'tol' parameter of"),
    ],
)
def test_what_cannot_be_done_is_refused(estimator, space, options, message):
    with pytest.raises(ValueError, match=message):
        search(estimator, space, **options).fit(X, y)


# ---------------------------------------------------------------------- faults


class Own(Ridge):
    """A ridge regression whose fit is another."""

    def fit(self, X, y, sample_weight=None):
        return super().fit(X, 2 * y, sample_weight)


class Halved(Ridge):
    """A ridge regression that predicts half of it."""

    def predict(self, X):
        return super().predict(X) / 2


@pytest.mark.parametrize("estimator", [Own(), Halved()])
def test_a_subclass_that_fits_or_predicts_in_its_own_way_has_no_rule(estimator):
    assert search(estimator, {"alpha": WIDE}, n_iter=5).fit(X, y).gradient_ == "surrogate"


@pytest.mark.parametrize(
    "scorer", [make_scorer(mean_squared_error), make_scorer(log_loss, greater_is_better=False)]
)
def test_a_metric_upside_down_or_of_other_answers_is_no_loss(scorer):
    is_log = scorer._score_func is log_loss
    model, name = (LogisticRegression(), "C") if is_log else (Ridge(), "alpha")
    found = search(model, {name: WIDE}, scoring=scorer, n_iter=3).fit(
        *((XC, yc) if is_log else (X, y))
    )
    assert found.loss_is_proxy_


STARTS = [1e-5, 1e-2, 1.0, 1e3, 1e5]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Ridge(), "alpha"),
        (Lasso(), "alpha"),
        (KernelRidge(kernel="rbf"), "gamma"),
        (SVR(), "gamma"),
        (LogisticRegression(solver="liblinear", l1_ratio=1.0, random_state=0), "C"),
    ],
)
def test_a_valley_in_a_wide_plain_is_found_from_everywhere(model, name, start):
    if isinstance(model, LogisticRegression) and start > 1e3:
        pytest.skip("a fit of minutes")
    is_class = isinstance(model, LogisticRegression)
    data = (XC[::4], yc[::4]) if is_class else (X[:150], y[:150])
    scoring = "neg_log_loss" if is_class else "neg_mean_squared_error"
    space = {name: loguniform(1e-6, 1e4 if is_class else 1e6)}
    model = clone(model).set_params(**{name: start})
    found = search(model, space, scoring=scoring).fit(*data)
    grid = {name: np.logspace(-3, 2, 26)}
    best = GridSearchCV(model, grid, scoring=scoring, cv=3).fit(*data).best_score_
    assert found.best_score_ >= best * 1.02  # scores are negative, and liblinear's are rough
    assert len(found.history_) <= 20


@pytest.mark.parametrize("start", [0, 12, 24])
def test_a_list_is_descended_to_its_best(start):
    values = np.logspace(-4, 4, 25)
    found = search(Lasso(alpha=values[start]), {"alpha": values}).fit(X[:150], y[:150])
    best = GridSearchCV(Lasso(), {"alpha": values}, cv=3).fit(X[:150], y[:150])
    assert found.best_score_ >= best.best_score_ - 0.005
    assert len(found.history_) < 20


def test_more_workers_than_folds_start_elsewhere_and_descend():
    found = search(Ridge(), {"alpha": WIDE}, n_jobs=4, n_iter=20).fit(X, y)
    assert len(found.history_) < 15
    alone = search(Ridge(), {"alpha": WIDE}).fit(X, y)
    assert found.best_score_ == pytest.approx(alone.best_score_, abs=1e-3)


def test_slopes_that_are_lost_are_counted_and_nothing_else_is(monkeypatch):
    def fail(self, estimator, *args, **kwargs):
        return (None, "ValueError: no luck") if estimator.alpha > 100 else kept(
            self, estimator, *args, **kwargs
        )  # fmt: skip

    kept = FoldProbe.__call__
    monkeypatch.setattr(FoldProbe, "__call__", fail)
    with pytest.warns(HypergradientWarning, match="of .* have no hypergradient.*no luck"):
        found = search(Ridge(alpha=1000), {"alpha": WIDE}, n_iter=8).fit(X, y)
    assert np.isfinite(found.cv_results_["mean_test_score"]).all()
    assert np.isnan(found.cv_results_["loss"]).any()


def test_a_plateau_is_no_end():
    for start in (0.9, 5.0, 9.0):  # beyond which all coefficients are zero
        found = search(Lasso(alpha=start), {"alpha": loguniform(1e-3, 1e1)}).fit(X, y)
        assert found.best_score_ > 0.4


def test_a_pocket_is_no_end():
    # Steps lead from there into a dent of its own, some way from the middle and 40 % too high.
    space = {"C": loguniform(1e-2, 1e3), "gamma": loguniform(1e-4, 1e1)}
    folds = list(KFold(5, shuffle=True, random_state=0).split(X, y))
    losses = [
        search(
            SVR(), space, scoring="neg_mean_squared_error", cv=folds, initial_params=start
        ).fit(X, y).best_score_
        for start in (None, [{"C": 100.0, "gamma": 1.0}])
    ]  # fmt: skip
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


def test_weights_reach_the_loss():
    weights = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    folds = [(np.arange(0, 300), np.arange(300, 442))]
    repeated = np.repeat(np.arange(300), weights[:300].astype(int))
    together = np.concatenate([repeated, np.arange(300, 442)])
    other = [(np.arange(len(repeated)), len(repeated) + np.arange(142))]
    pipeline = make_pipeline(Ridge())
    one = search(pipeline, {"ridge__alpha": WIDE}, cv=folds, refit=False)
    one.fit(X, y, ridge__sample_weight=weights)
    two = search(pipeline, {"ridge__alpha": WIDE}, cv=other, refit=False)
    two.fit(X[together], y[together])
    np.testing.assert_allclose(one.cv_results_["loss"], two.cv_results_["loss"], rtol=1e-8)


def test_weights_of_transformers_behind_a_tuned_one_are_not_overlooked():
    model = make_pipeline(Nystroem(n_components=10, random_state=0), StandardScaler(), Ridge())
    space = {"nystroem__gamma": loguniform(1e-3, 1), "ridge__alpha": WIDE}
    weights = np.random.default_rng(0).random(len(y))
    with pytest.warns(HypergradientWarning, match="parameters of fit"):
        found = search(model, space, n_iter=4).fit(X, y, standardscaler__sample_weight=weights)
    assert found.gradient_ == "surrogate"
    assert search(model, space, n_iter=4).fit(X, y, ridge__sample_weight=weights).loss_ == "r2"


# ---------------------------------------------------------------------- in parallel


@pytest.mark.parametrize("n_jobs", [2, 8])
def test_workers_share_the_folds_of_a_step(n_jobs):
    space = {"alpha": loguniform(1e-3, 1e1), "l1_ratio": uniform(0.05, 0.9)}
    found = [search(ElasticNet(), space, n_jobs=n_jobs, n_iter=8).fit(X, y) for _ in range(2)]
    params = [one.cv_results_["params"] for one in found]
    assert params[0] == params[1]
    if n_jobs == 2:
        assert params[0] == search(ElasticNet(), space, n_iter=8).fit(X, y).cv_results_["params"]


def test_a_narrow_valley_beside_a_plateau_is_not_stepped_over():
    # Of weak signals the best is just beyond the edge, and further on there is no relief either.
    X = np.random.default_rng(7).normal(size=(100, 10))
    y = 0.15 * X[:, :3].sum(axis=1) + np.random.default_rng(9).normal(size=100)
    X = StandardScaler().fit_transform(X)
    space = {"alpha": loguniform(1e-6, 1e6), "l1_ratio": uniform(0.01, 0.99)}
    cv = KFold(3, shuffle=True, random_state=0)
    found = [
        HyperGradSearchCV(ElasticNet(), space, n_iter=30, cv=cv, random_state=seed).fit(X, y)
        for seed in range(3)
    ]
    plateau = cross_val_score(ElasticNet(alpha=1e6), X, y, cv=cv).mean()
    assert min(search.best_score_ for search in found) > plateau + 0.02
