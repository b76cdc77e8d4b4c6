"""Hypergradients through pipelines, against refits of all of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.kernel_approximation import (
    AdditiveChi2Sampler,
    Nystroem,
    PolynomialCountSketch,
    RBFSampler,
    SkewedChi2Sampler,
)
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler, TargetEncoder

from tunein import check_hypergradient
from tunein._families import (
    Loss,
    NoHypergradient,
    Samples,
    active_names,
    final_rule,
    hypergradient,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4)) * [1.0, 2.0, 0.5, 1.0] + 1
y = np.sin(X[:, 0]) + 0.3 * X[:, 1] ** 2 + 0.1 * RNG.normal(size=90) + 2
labels = (y > np.median(y)).astype(int)
WEIGHTS = RNG.uniform(0.5, 2.0, size=90)
THIN = np.where(np.abs(X - 1) > 0.5, X, 0.0)


def agrees(estimator, names, A=X, target=y, **kwargs):
    report = check_hypergradient(estimator, A, target, cv=3, **kwargs)
    assert {each.parameter for each in report.comparisons} == names
    assert report.ok, report
    return report


def ask(estimator, names, A=X, target=y):
    sides = [Samples(A[rows], target[rows], np.ones(45)) for rows in (slice(45), slice(45, 90))]
    estimator.fit(sides[0].X, sides[0].y)
    rule = final_rule(estimator)
    return hypergradient(estimator, *sides, Loss(rule.proxy if rule else "squared_error"), names)


# --------------------------------------------------------------------- what is in front stays


@pytest.mark.parametrize("alpha", [0.01, 0.3, 3.0, 100.0])
@pytest.mark.parametrize("front", [StandardScaler(), PCA(2), None, "passthrough"], ids=str)
def test_parameters_of_the_last_step(front, alpha):
    model = Pipeline([("front", front), ("ridge", Ridge(alpha=alpha))])
    agrees(model, {"ridge__alpha"})
    agrees(model, {"ridge__alpha"}, sample_weight=WEIGHTS)


def test_a_pipeline_of_one_step_is_that_step():
    inside, outside = Ridge(alpha=0.7), Pipeline([("only", Ridge(alpha=0.7))])
    a, b = ask(inside, ["alpha"]), ask(outside, ["only__alpha"])
    assert (a.loss, a.gradient["alpha"]) == (b.loss, b.gradient["only__alpha"])
    np.testing.assert_array_equal(a.in_samples()[0], b.in_samples()[0])
    assert ask(make_pipeline(StandardScaler(), Ridge()), []).inputs is None


def test_pipelines_in_pipelines():
    features = make_pipeline(StandardScaler(), Nystroem(gamma=0.2, n_components=12, random_state=0))
    nested = make_pipeline(MinMaxScaler(), make_pipeline(features, Ridge(alpha=0.1)))
    flat = make_pipeline(MinMaxScaler(), *(step for _, step in features.steps), Ridge(alpha=0.1))
    names = {
        "pipeline__pipeline__nystroem__gamma": "nystroem__gamma",
        "pipeline__ridge__alpha": "ridge__alpha",
    }
    agrees(nested, set(names))
    deep, shallow = ask(nested, list(names)), ask(flat, list(names.values()))
    for name, other in names.items():
        assert deep.gradient[name] == pytest.approx(shallow.gradient[other], rel=1e-12)


def test_where_a_loss_is_flat_is_told_by_the_names_of_the_pipeline():
    found = ask(make_pipeline(StandardScaler(), Lasso(alpha=100.0)), ["lasso__alpha"])
    assert set(found.flat) <= {"lasso__alpha"}
    assert found.gradient == {"lasso__alpha": 0.0}


def test_names_that_have_no_slope_are_absent():
    model = make_pipeline(PCA(2), Ridge())
    names = ["pca__n_components", "pca__tol", "ridge__tol", "ridge__alpha", "memory", "pca"]
    assert set(ask(model, names).gradient) == {"ridge__alpha"}
    assert active_names(model, names) == {"ridge__alpha"}


# --------------------------------------------------------------------- what is in front moves


GAMMAS = [0.02, 0.1, 0.4, 1.5]


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("kernel", ["rbf", "laplacian", "poly", "polynomial"])
def test_nystroem_and_ridge(kernel, gamma):
    smooth = {"nystroem__gamma", "ridge__alpha"}
    front = Nystroem(kernel=kernel, gamma=gamma, degree=2, n_components=10, random_state=1)
    if "poly" in kernel:
        front.set_params(coef0=0.5 + gamma)
        smooth |= {"nystroem__coef0"}
    model = make_pipeline(StandardScaler(), front, Ridge(alpha=0.5))
    agrees(model, smooth)
    agrees(model, smooth, sample_weight=WEIGHTS)


def test_nystroem_with_a_sigmoid():
    for gamma in (0.005, 0.01, 0.02, 0.03):
        front = Nystroem(kernel="sigmoid", gamma=gamma, coef0=0.3, n_components=4, random_state=1)
        model = make_pipeline(StandardScaler(), front, Ridge(alpha=0.5))
        agrees(model, {"nystroem__gamma", "nystroem__coef0", "ridge__alpha"})


@pytest.mark.parametrize("gamma", GAMMAS)
def test_rbf_sampler_and_logistic_regression(gamma):
    front = RBFSampler(gamma=gamma, n_components=20, random_state=1)
    model = make_pipeline(StandardScaler(), front, LogisticRegression(C=2.0))
    names = {"rbfsampler__gamma", "logisticregression__C"}
    params = sorted(names)
    agrees(model, names, target=labels, params=params)
    agrees(model, names, target=labels, params=params, sample_weight=WEIGHTS)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_polynomial_count_sketch_and_kernel_ridge(gamma):
    front = PolynomialCountSketch(gamma=gamma, coef0=0.5, n_components=16, random_state=1)
    model = make_pipeline(StandardScaler(), front, KernelRidge(alpha=0.5, kernel="rbf", gamma=0.1))
    model.set_params(kernelridge__gamma=0.05)
    agrees(
        model,
        {
            "polynomialcountsketch__gamma",
            "polynomialcountsketch__coef0",
            "kernelridge__alpha",
            "kernelridge__gamma",
        },
    )


@pytest.mark.parametrize("value", [0.1, 0.3, 1.0, 3.0])
def test_chi_squared_samplers(value):
    skewed = SkewedChi2Sampler(skewedness=value, n_components=20, random_state=1)
    agrees(
        make_pipeline(MinMaxScaler(clip=True), skewed, Ridge()),
        {"skewedchi2sampler__skewedness", "ridge__alpha"},
    )
    additive = AdditiveChi2Sampler(sample_steps=2, sample_interval=value)
    agrees(
        make_pipeline(MinMaxScaler(clip=True), additive, Ridge()),
        {"additivechi2sampler__sample_interval", "ridge__alpha"},
        A=np.abs(X),
    )


def test_steps_after_the_one_that_moves_are_fitted_again():
    front = Nystroem(gamma=0.2, n_components=15, random_state=1)
    for last in (StandardScaler(), PCA(3)):
        model = make_pipeline(StandardScaler(), front, last, Ridge(alpha=0.5))
        agrees(model, {"nystroem__gamma", "ridge__alpha"})


def test_a_kernel_so_narrow_that_nothing_moves():
    for gamma in (1e4, 1e6):
        front = Nystroem(gamma=gamma, n_components=20, random_state=0)
        found = ask(make_pipeline(StandardScaler(), front, Ridge()), ["nystroem__gamma"])
        assert abs(found.gradient["nystroem__gamma"]) * gamma < 1e-9 * found.loss


def test_features_of_great_size_make_samplers_bend_fast():
    front = RBFSampler(gamma=0.01, n_components=15, random_state=1)
    model = make_pipeline(front, Ridge())
    agrees(model, {"rbfsampler__gamma"}, A=300 * X, params=["rbfsampler__gamma"], step=1e-6)


def test_two_that_move():
    names = {"nystroem__gamma", "rbfsampler__gamma", "ridge__alpha"}
    model = make_pipeline(
        Nystroem(gamma=0.1, n_components=8, random_state=1),
        RBFSampler(gamma=0.3, n_components=15, random_state=2),
        Ridge(alpha=0.2),
    )
    agrees(model, names)


def test_inside_of_unions():
    draw = {"n_components": 8, "random_state": 1}
    union = FeatureUnion(
        [("as_is", StandardScaler()), ("more", make_pipeline(PCA(2), Nystroem(gamma=0.2, **draw)))]
    )
    agrees(Pipeline([("u", union), ("r", Ridge())]), {"u__more__nystroem__gamma", "r__alpha"})
    columns = ColumnTransformer(
        [("one", RBFSampler(gamma=0.2, **draw), [0, 1]), ("other", StandardScaler(), [2, 3])]
    )
    agrees(Pipeline([("c", columns), ("r", Ridge())]), {"c__one__gamma", "r__alpha"})


# --------------------------------------------------------------------- containers


def test_data_frames_in_and_between():
    frame = pd.DataFrame(X, columns=list("abcd"))
    front = Nystroem(gamma=0.2, n_components=10, random_state=1)
    model = make_pipeline(StandardScaler(), front, Ridge()).set_output(transform="pandas")
    names = {"nystroem__gamma", "ridge__alpha"}
    arrays = agrees(make_pipeline(StandardScaler(), front, Ridge()), names)
    frames = agrees(model, names, A=frame, target=pd.Series(y))
    for a, b in zip(arrays.comparisons, frames.comparisons, strict=True):
        assert a.hypergradient == pytest.approx(b.hypergradient, rel=1e-9)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csr_array])
@pytest.mark.parametrize(
    "front",
    [
        Nystroem(gamma=0.2, n_components=10, random_state=1),
        RBFSampler(gamma=0.2, n_components=10, random_state=1),
        PolynomialCountSketch(gamma=0.5, coef0=0.2, n_components=10, random_state=1),
    ],
    ids=lambda front: type(front).__name__,
)
def test_sparse_samples(form, front):
    model = Pipeline([("scale", StandardScaler(with_mean=False)), ("f", front), ("r", Ridge())])
    names = {"f__gamma", "r__alpha"} | ({"f__coef0"} if "Count" in str(front) else set())
    agrees(model, names, A=form(THIN), sample_weight=WEIGHTS)


def test_sparse_samples_that_reach_the_model():
    model = make_pipeline(StandardScaler(with_mean=False), Ridge(alpha=0.3))
    agrees(model, {"ridge__alpha"}, A=sparse.csr_array(THIN))


# --------------------------------------------------------------------- what is refused


class Jumping(TransformerMixin, BaseEstimator):
    """Smooth by its name only."""

    def __init__(self, gamma=1.0):
        self.gamma = gamma

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X * np.floor(1e9 * self.gamma)


def test_a_transformer_that_is_not_smooth_is_not_asked():
    model = make_pipeline(Jumping(), Ridge())
    assert active_names(model, ["jumping__gamma", "ridge__alpha"]) == {"ridge__alpha"}


def test_a_selection_that_jumps_is_noticed():
    """Which random features are kept depends on gamma; the difference sees the jump."""

    class Shaken(SelectKBest):
        def fit(self, X, y):
            self.rng = np.random.default_rng(int(1e12 * abs(X[0, 0])))
            return self

        def transform(self, X):
            return X[:, self.rng.permutation(X.shape[1])[:5]]

    front = RBFSampler(gamma=0.2, n_components=20, random_state=1)
    with pytest.raises(NoHypergradient, match="jumps with rbfsampler__gamma"):
        ask(make_pipeline(front, Shaken(), Ridge()), ["rbfsampler__gamma"])


def test_a_number_of_features_that_changes_is_noticed():
    front = RBFSampler(gamma=1e-3, n_components=20, random_state=1)
    variances = front.fit(X[:45]).transform(X[:45]).var(axis=0)
    model = make_pipeline(front, VarianceThreshold(np.sort(variances)[10] * (1 + 1e-12)), Ridge())
    with pytest.raises(NoHypergradient, match="number of features changes"):
        ask(model, ["rbfsampler__gamma"])


@pytest.mark.parametrize(
    "front",
    [
        RBFSampler(gamma=0.2),
        RBFSampler(gamma=0.2, random_state=np.random.RandomState(0)),
        RBFSampler(gamma="scale", random_state=0),
        Nystroem(random_state=0),
        Nystroem(gamma=0.2),
        Nystroem(kernel="cosine", gamma=0.2, random_state=0),
        PolynomialCountSketch(gamma=0.0, random_state=0),
        AdditiveChi2Sampler(),
    ],
    ids=lambda front: str(front).partition(" at 0x")[0],
)
def test_what_is_drawn_anew_or_left_to_the_data_has_no_slope(front):
    model = Pipeline([("f", front), ("r", Ridge())])
    names = ["f__gamma", "f__coef0", "f__sample_interval", "r__alpha"]
    assert active_names(model, names) == {"r__alpha"}


def test_meta_estimators_have_no_rule():
    model = make_pipeline(StandardScaler(), TransformedTargetRegressor(Ridge()))
    assert final_rule(model) is None
    with pytest.raises(NoHypergradient, match="of TransformedTargetRegressor"):
        ask(model, ["transformedtargetregressor__regressor__alpha"])


def test_a_pipeline_without_a_model_has_none():
    for last in ("passthrough", None):
        model = Pipeline([("scale", StandardScaler()), ("last", last)])
        assert final_rule(model) is None
        assert active_names(model, ["last"]) == set()
        sides = Samples(X, y, np.ones(90))
        with pytest.raises(NoHypergradient, match="a model as the last step"):
            hypergradient(model.fit(X), sides, sides, Loss("squared_error"), [])


def test_a_transformer_of_two_minds_is_refused():
    for front in (TargetEncoder(), ColumnTransformer([("t", TargetEncoder(), [0])])):
        model = make_pipeline(front, Ridge())
        assert final_rule(model) is None
        with pytest.raises(NoHypergradient, match="TargetEncoder"):
            ask(model, ["ridge__alpha"], A=np.round(X))


def test_a_pipeline_with_a_fit_of_its_own_is_refused():
    class Resampling(Pipeline):
        def fit(self, X, y=None, **params):
            return super().fit(X[::2], y[::2], **params)

    model = Resampling([("scale", StandardScaler()), ("ridge", Ridge())])
    assert final_rule(model) is None
    with pytest.raises(NoHypergradient, match="of Resampling"):
        ask(model, ["ridge__alpha"])


def test_a_model_that_tells_no_slopes_in_samples_moves_nothing_in_front():
    model = make_pipeline(
        Nystroem(gamma=0.2, n_components=10, random_state=0),
        GaussianProcessRegressor(alpha=0.1, optimizer=None),
    )
    agrees(model, {"gaussianprocessregressor__alpha"})
    assert active_names(model, ["nystroem__gamma"]) == set()


def test_questions_need_no_fit_and_leave_no_trace():
    model = make_pipeline(StandardScaler(), Nystroem(gamma=0.2, random_state=0), Ridge(alpha=0.1))
    before = str(model.get_params())
    assert final_rule(model) is final_rule(Ridge())
    assert active_names(model, model.get_params()) == {"nystroem__gamma", "ridge__alpha"}
    assert str(model.get_params()) == before
    assert not hasattr(model[0], "mean_")
    ask(model.set_params(nystroem__n_components=5), ["nystroem__gamma"])
    assert model.get_params()["nystroem__gamma"] == 0.2
