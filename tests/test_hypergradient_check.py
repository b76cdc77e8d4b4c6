"""Teaching hypergradients, and checking them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import RandomForestRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from tunein import HyperGradient, check_hypergradient, register_hypergradient
from tunein._families import NoHypergradient, _registry, active_names, rule_of

X, y = make_regression(n_samples=60, n_features=4, noise=20.0, random_state=0)
A, labels = make_classification(n_samples=80, n_features=5, random_state=0)
WEIGHTS = np.random.default_rng(0).uniform(0.5, 2.0, size=80)


@pytest.fixture(autouse=True)
def rules_of_before(monkeypatch):
    """Leave no rule of a test behind."""
    monkeypatch.setattr(_registry, "_RULES", dict(_registry._RULES))


class Shrunken(RegressorMixin, BaseEstimator):
    """Predicts the mean over one plus alpha."""

    def __init__(self, alpha=1.0, beta=2.0, kind="mean"):
        self.alpha = alpha
        self.beta = beta
        self.kind = kind

    def fit(self, X, y, sample_weight=None):
        self.mean_ = np.average(y, weights=sample_weight) / (1 + self.alpha)
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_)


def teach(cls=Shrunken, *, factor=1.0, shift=0.0, raises=None, **kwargs):
    kwargs = {"params": ["alpha"], "output": "target", "proxy": "squared_error"} | kwargs

    @register_hypergradient(cls, **kwargs)
    def rule(estimator, train, test, loss, names):
        if raises:
            raise raises
        value, slope = loss(test, estimator.predict(test.X))
        by_alpha = -estimator.mean_ / (1 + estimator.alpha) * slope.sum()
        return HyperGradient(value + shift, {"alpha": factor * by_alpha})

    return rule


# --------------------------------------------------------------------- teaching


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("loss", [None, "root_squared_error", "r2", "absolute_error"])
def test_what_is_taught_is_used(alpha, loss):
    assert rule_of(Shrunken()) is None
    rule = teach()
    assert rule_of(Shrunken()).function is rule
    target = y + 100
    report = check_hypergradient(Shrunken(alpha), X, target, loss=loss)
    assert report.ok, report
    weighted = check_hypergradient(
        Shrunken(alpha), X, target, loss=loss, sample_weight=WEIGHTS[:60]
    )
    assert weighted.ok, weighted
    assert weighted.loss != report.loss


def test_teaching_again_replaces_what_was_taught():
    teach(factor=2.0)
    assert not check_hypergradient(Shrunken(), X, y + 100).ok
    teach()
    assert check_hypergradient(Shrunken(), X, y + 100).ok


def test_a_subclass_inherits_the_rule_with_the_fit():
    class Same(Shrunken):
        pass

    class Other(Shrunken):
        def fit(self, X, y, sample_weight=None):
            return super().fit(X, y**3, sample_weight)

    teach()
    assert rule_of(Same()) is rule_of(Shrunken())
    assert rule_of(Other()) is None


def test_parameters_that_depend_on_the_estimator():
    teach(params=lambda estimator: {"alpha"} if estimator.kind == "mean" else set())
    assert active_names(Shrunken(), ["alpha", "beta"]) == {"alpha"}
    assert active_names(Shrunken(kind="median"), ["alpha", "beta"]) == set()


def test_parameters_that_do_not_count_as_the_estimator_is_set():
    teach(lacks=lambda estimator: {"alpha"} if estimator.kind == "none" else set())
    assert active_names(Shrunken(), ["alpha"]) == {"alpha"}
    assert active_names(Shrunken(kind="none"), ["alpha"]) == set()
    with pytest.raises(ValueError, match="No parameter has a hypergradient"):
        check_hypergradient(Shrunken(kind="none"), X, y)


def test_an_estimator_that_needs_arguments_can_be_taught():
    class Needy(Shrunken):
        def __init__(self, alpha):
            self.alpha = alpha

    teach(Needy, params=["alpha"])
    assert check_hypergradient(Needy(0.5), X, y + 100).ok


class NoParams:
    def fit(self, X, y):
        return self


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cls": Shrunken()}, TypeError, r"must be a class; got Shrunken\(\)"),
        ({"cls": int}, TypeError, r"int is missing \['fit', 'get_params'\]"),
        ({"cls": NoParams}, TypeError, r"NoParams is missing \['get_params'\]"),
        ({"params": "alpha"}, TypeError, "sequence of str or callable; got 'alpha'"),
        ({"params": 3}, TypeError, "sequence of str or callable; got 3"),
        ({"params": []}, ValueError, "got none"),
        (
            {"params": ["alpha", "gamma"]},
            ValueError,
            r"no parameters \['gamma'\]; it has \['alpha'",
        ),
        ({"output": "proba"}, ValueError, "'target' or 'decision'; got 'proba'"),
        ({"proxy": "mse"}, ValueError, "output='target'.*'squared_error'.*got 'mse'"),
        ({"proxy": "log_loss"}, ValueError, "output='target'.*got 'log_loss'"),
        ({"output": "decision"}, ValueError, "output='decision'.*got 'squared_error'"),
        ({"lacks": {"alpha"}}, TypeError, "lacks must be callable or None; got {'alpha'}"),
    ],
)
def test_what_cannot_be_taught(arguments, error, message):
    with pytest.raises(error, match=message):
        teach(**arguments)


def test_a_rule_that_cannot_be_called():
    decorator = register_hypergradient(
        Shrunken, params=["alpha"], output="target", proxy="squared_error"
    )
    with pytest.raises(TypeError, match=r"must take the arguments.*'loss', 'names'"):
        decorator(lambda estimator, train, test: None)
    with pytest.raises(TypeError, match="does not"):
        decorator("rule")
    assert rule_of(Shrunken()) is None


# --------------------------------------------------------------------- checking


@pytest.mark.parametrize("factor", [1.001, 0.5, -1.0, 0.0])
def test_a_wrong_derivative_is_noticed(factor):
    teach(factor=factor)
    report = check_hypergradient(Shrunken(), X, y + 100)
    (found,) = report.comparisons
    assert not report.ok
    assert report.loss_ok
    assert not found.ok
    assert found.hypergradient == pytest.approx(factor * found.finite_difference, rel=1e-6)
    assert "NOT ok" in repr(report)


def test_the_right_derivative_of_another_loss_is_noticed():
    teach(shift=1e5)
    report = check_hypergradient(Shrunken(), X, y + 100)
    assert report.comparisons[0].ok
    assert not report.loss_ok
    assert not report.ok
    assert "NOT that of the fits" in repr(report)


def test_the_report():
    report = check_hypergradient(KernelRidge(kernel="rbf", gamma=0.1, alpha=2), X, y, cv=3)
    assert report.estimator == "KernelRidge"
    assert report.loss_name == "squared_error"
    assert [each.parameter for each in report.comparisons] == ["alpha", "gamma"]
    assert [each.value for each in report.comparisons] == [2.0, 0.1]
    lines = repr(report).splitlines()
    assert lines[0] == "Hypergradients of KernelRidge: ok"
    assert lines[1].startswith("squared_error ")
    assert lines[2].split() == [
        "parameter",
        "value",
        "hypergradient",
        "difference",
        "rel.",
        "error",
    ]
    assert [line.split()[0] for line in lines[3:]] == ["alpha", "gamma"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.loss = 0.0


def test_parameters_are_chosen():
    estimator = KernelRidge(kernel="rbf", gamma=0.1)
    report = check_hypergradient(estimator, X, y, params=["gamma"])
    assert [each.parameter for each in report.comparisons] == ["gamma"]


def test_folds_are_chosen_and_stay_the_same():
    splitters = [KFold(4), KFold(4).split(X), list(KFold(4).split(X)), 4]
    losses = [check_hypergradient(Ridge(), X, y, cv=cv).loss for cv in splitters]
    assert len(set(losses)) == 1
    assert check_hypergradient(Ridge(), X, y, cv=ShuffleSplit(3)).ok


def test_lists_will_do():
    report = check_hypergradient(Ridge(), X.tolist(), y.tolist())
    assert report.loss == check_hypergradient(Ridge(), X, y).loss


@pytest.mark.parametrize("loss", [None, "brier", "squared_hinge", "platt_log_loss"])
def test_classifiers(loss):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5))
    names = ["logisticregression__C"]
    report = check_hypergradient(model, A, labels, params=names, loss=loss, sample_weight=WEIGHTS)
    assert report.ok, report
    assert report.loss_name == (loss or "log_loss")
    assert report.loss == pytest.approx(report.fitted_loss, rel=1e-2)


def test_decisions_of_pairs_are_not_compared():
    three = labels + (A[:, 0] > 1)
    report = check_hypergradient(SVC(gamma=0.1), A, three, cv=3, params=["C"], rtol=1e-2)
    assert np.isnan(report.fitted_loss)
    assert report.loss_ok


def test_a_classifier_without_decisions_is_not_compared():
    class Silent(ClassifierMixin, BaseEstimator):
        def __init__(self, alpha=1.0):
            self.alpha = alpha

        def fit(self, X, y):
            self.classes_ = np.unique(y)
            return self

    @register_hypergradient(Silent, params=["alpha"], output="decision", proxy="log_loss")
    def rule(estimator, train, test, loss, names):
        value, slope = loss(test, estimator.alpha * test.X[:, 0], estimator.classes_)
        return HyperGradient(value, {"alpha": slope @ test.X[:, 0]})

    report = check_hypergradient(Silent(), A, labels)
    assert report.ok, report
    assert np.isnan(report.fitted_loss)


def test_a_derivative_of_nothing_is_zero():
    teach()
    report = check_hypergradient(Shrunken(), X, np.tile([-1.0, 1.0], 30), cv=KFold(5))
    assert report.comparisons[0].hypergradient == 0.0
    assert report.ok


# --------------------------------------------------------------------- what cannot be checked


def test_estimators_without_a_rule():
    with pytest.raises(TypeError, match=r"RandomForestRegressor.*register_hypergradient"):
        check_hypergradient(RandomForestRegressor(), X, y)
    with pytest.raises(TypeError, match="RandomForestRegressor"):
        check_hypergradient(make_pipeline(StandardScaler(), RandomForestRegressor()), X, y)


def test_estimators_whose_rule_does_not_hold():
    with pytest.raises(ValueError, match=r"KernelRidge is missing a kernel.*got kernel='cosine'"):
        check_hypergradient(KernelRidge(kernel="cosine"), X, y)


def test_a_rule_that_gives_up():
    teach(raises=NoHypergradient("the weather"))
    with pytest.raises(ValueError, match="Shrunken is missing the weather"):
        check_hypergradient(Shrunken(), X, y)


def test_a_rule_that_forgets_a_parameter():
    @register_hypergradient(
        Shrunken, params=["alpha", "beta"], output="target", proxy="squared_error"
    )
    def rule(estimator, train, test, loss, names):
        return HyperGradient(1.0, {"alpha": 0.0})

    with pytest.raises(ValueError, match=r"Shrunken returned no slope in \{'beta'\}"):
        check_hypergradient(Shrunken(), X, y)


def test_parameters_without_a_derivative():
    with pytest.raises(ValueError, match=r"no hypergradient in \['solver'\].*\['alpha'\]"):
        check_hypergradient(Ridge(), X, y, params=["alpha", "solver"])
    with pytest.raises(ValueError, match=r"no hypergradient in \['gamma'\]"):
        check_hypergradient(KernelRidge(kernel="rbf"), X, y, params=["gamma"])
    with pytest.raises(ValueError, match=r"Ridge has no parameters \['aplha'\]"):
        check_hypergradient(Ridge(), X, y, params=["aplha"])


def test_values_that_are_no_numbers():
    teach(params=["alpha", "kind"])
    with pytest.raises(ValueError, match=r"\['kind'\] are no numbers: \['mean'\]"):
        check_hypergradient(Shrunken(), X, y)


def test_losses_of_something_else():
    with pytest.raises(ValueError, match=r"'squared_error'.*for Ridge; got 'log_loss'"):
        check_hypergradient(Ridge(), X, y, loss="log_loss")


def test_weights_that_nothing_takes():
    class Unweighted(Shrunken):
        def fit(self, X, y):
            return super().fit(X, y)

    teach(Unweighted)
    with pytest.raises(TypeError, match=r"Unweighted.fit takes no sample_weight"):
        check_hypergradient(Unweighted(), X, y, sample_weight=WEIGHTS[:60])


def test_at_an_end_of_what_is_allowed_refits_are_on_one_side():
    for estimator in (Ridge(alpha=0.0), ElasticNet(alpha=0.5, l1_ratio=1.0)):
        report = check_hypergradient(estimator, X, y)
        assert report.ok, report


def test_a_value_without_neighbours_says_so():
    class Picky(Shrunken):
        def fit(self, X, y):
            if self.alpha != 1:
                raise ValueError("alpha must be one.")
            return super().fit(X, y)

    teach(Picky)
    with pytest.raises(ValueError, match="alpha must be one") as caught:
        check_hypergradient(Picky(), X, y)
    assert caught.value.__notes__ == ["While refitting with alpha=1.0001; it is 1."]


def test_a_solver_of_one_penalty_has_no_slope_in_its_mixture():
    assert active_names(LogisticRegression(), ["C", "l1_ratio"]) == {"C"}
    assert "C" in active_names(LogisticRegression(solver="saga"), ["C", "l1_ratio"])
