"""Real tuning tasks on data that scikit-learn brings along, 5 to 60 ms a candidate.

Spaces are written as users write them: scipy distributions, lists of numbers, strings, None and
estimators, lists of dicts. Estimators, data and folds are fixed, so a candidate always has the same
score. Add tasks at the end: the seeds of a task follow from its position.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import loguniform, randint, uniform
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    make_classification,
    make_friedman1,
)
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import ElasticNet, LogisticRegression, SGDClassifier
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier


@dataclass(frozen=True)
class Task:
    """What is tuned, on what, and how a candidate is judged."""

    name: str
    scoring: str
    n_splits: int
    build: Callable[[], tuple[Any, Any, tuple[Any, Any]]]

    group = "real"

    def load(self, seed: int) -> tuple[dict[str, Any], tuple[Any, Any]]:
        """Return the arguments that all searches share, and the data; the same for all seeds."""
        estimator, space, (X, y) = self.build()
        splitter = StratifiedKFold if y.dtype.kind == "i" else KFold
        shared = {
            "estimator": estimator,
            "param_distributions": space,
            "scoring": self.scoring,
            "cv": splitter(self.n_splits, shuffle=True, random_state=0),
            "refit": False,
            "n_jobs": 1,
        }
        return shared, (X, y)


TASKS: dict[str, Task] = {}


def task(scoring: str, n_splits: int) -> Callable[[Callable], Callable]:
    def register(build: Callable) -> Callable:
        TASKS[build.__name__] = Task(build.__name__, scoring, n_splits, build)
        return build

    return register


def subsample(data: tuple[Any, Any], n: int) -> tuple[Any, Any]:
    X, y = data
    chosen = np.random.RandomState(0).permutation(len(y))[:n]
    return X[chosen], y[chosen]


def noisy_classes(n: int, n_features: int, **more: Any) -> tuple[Any, Any]:
    settings = {"n_informative": n_features // 3, "flip_y": 0.05, "class_sep": 0.7, **more}
    return make_classification(n, n_features, random_state=0, **settings)


@task("accuracy", 5)
def svc_kernels():
    model = Pipeline([("scale", StandardScaler()), ("svc", SVC(max_iter=20_000))])
    C = loguniform(1e-3, 1e3)
    gamma = loguniform(1e-4, 1e1)
    space = [
        {"svc__kernel": ["linear"], "svc__C": C},
        {"svc__kernel": ["rbf"], "svc__C": C, "svc__gamma": gamma},
        {
            "svc__kernel": ["poly"],
            "svc__C": C,
            "svc__gamma": gamma,
            "svc__degree": [2, 3, 4],
            "svc__coef0": uniform(0, 2),
        },
    ]
    return model, space, noisy_classes(250, 12)


@task("neg_log_loss", 3)
def logistic_elastic_net():
    model = LogisticRegression(solver="saga", max_iter=100, random_state=0)
    space = {
        "C": loguniform(1e-4, 1e2),
        "l1_ratio": uniform(0, 1),
        "class_weight": [None, "balanced"],
        "fit_intercept": [True, False],
    }
    return model, space, noisy_classes(240, 30, n_informative=5, weights=[0.7])


@task("accuracy", 3)
def pca_neighbors():
    model = Pipeline(
        [
            ("scale", StandardScaler()),
            ("reduce", PCA(random_state=0)),
            ("knn", KNeighborsClassifier()),
        ]
    )
    space = {
        "scale": [StandardScaler(), MinMaxScaler(), RobustScaler(), "passthrough"],
        "reduce__n_components": randint(2, 50),
        "reduce__whiten": [True, False],
        "knn__n_neighbors": randint(1, 40),
        "knn__weights": ["uniform", "distance"],
        "knn__metric": ["euclidean", "manhattan", "chebyshev", "cosine"],
    }
    return model, space, subsample(load_digits(return_X_y=True), 500)


@task("roc_auc", 5)
def decision_tree():
    space = {
        "criterion": ["gini", "entropy", "log_loss"],
        "max_depth": [None, 2, 3, 4, 6, 8, 12],
        "min_samples_leaf": randint(1, 60),
        "min_samples_split": randint(2, 40),
        "max_features": ["sqrt", "log2", None, 0.5],
        "ccp_alpha": loguniform(1e-5, 1e-1),
    }
    model = DecisionTreeClassifier(random_state=0)
    return model, space, noisy_classes(500, 15)


@task("neg_log_loss", 3)
def random_forest():
    space = {
        "criterion": ["gini", "entropy"],
        "max_depth": [None, 2, 4, 8],
        "max_features": uniform(0.05, 0.95),
        "min_samples_leaf": randint(1, 20),
        "bootstrap": [True, False],
        "class_weight": [None, "balanced"],
    }
    model = RandomForestClassifier(10, random_state=0)
    return model, space, load_breast_cancer(return_X_y=True)


@task("r2", 3)
def gradient_boosting():
    space = {
        "loss": ["squared_error", "absolute_error", "huber"],
        "learning_rate": loguniform(1e-2, 1e0),
        "n_estimators": randint(5, 30),
        "max_depth": [1, 2, 3, 4, 5],
        "subsample": uniform(0.3, 0.7),
        "max_features": ["sqrt", 0.5, None],
    }
    model = GradientBoostingRegressor(random_state=0)
    return model, space, make_friedman1(200, noise=1.0, random_state=0)


@task("neg_log_loss", 3)
def mlp():
    model = MLPClassifier(max_iter=10, random_state=0)
    pipeline = Pipeline([("scale", MinMaxScaler()), ("mlp", model)])
    space = {
        "mlp__hidden_layer_sizes": [(8,), (16,), (32,), (16, 16), (32, 16)],
        "mlp__activation": ["relu", "tanh", "logistic"],
        "mlp__learning_rate_init": loguniform(1e-4, 1e-1),
        "mlp__alpha": loguniform(1e-6, 1e1),
        "mlp__batch_size": [16, 32, 64],
        "mlp__beta_1": uniform(0.5, 0.49),
    }
    return pipeline, space, subsample(load_digits(return_X_y=True), 250)


@task("r2", 5)
def polynomial_elastic_net():
    model = Pipeline(
        [
            ("expand", PolynomialFeatures(include_bias=False)),
            ("scale", StandardScaler()),
            ("model", ElasticNet(max_iter=200, random_state=0)),
        ]
    )
    space = {
        "expand__degree": [1, 2, 3],
        "expand__interaction_only": [True, False],
        "scale": [StandardScaler(), RobustScaler(), "passthrough"],
        "model__alpha": loguniform(1e-4, 1e2),
        "model__l1_ratio": uniform(0, 1),
        "model__selection": ["cyclic", "random"],
    }
    return model, space, subsample(load_diabetes(return_X_y=True), 250)


@task("neg_mean_squared_error", 5)
def kernel_ridge_kernels():
    model = Pipeline([("scale", StandardScaler()), ("krr", KernelRidge())])
    alpha = loguniform(1e-4, 1e2)
    gamma = loguniform(1e-3, 1e1)
    space = [
        {"krr__kernel": ["rbf", "laplacian"], "krr__alpha": alpha, "krr__gamma": gamma},
        {
            "krr__kernel": ["poly"],
            "krr__alpha": alpha,
            "krr__gamma": gamma,
            "krr__degree": [2, 3, 4, 5],
            "krr__coef0": uniform(0, 3),
        },
        {"krr__kernel": ["linear"], "krr__alpha": alpha},
    ]
    X, y = make_friedman1(250, noise=0.5, random_state=0)
    return model, space, (X, y - y.mean())  # there is no intercept


@task("neg_mean_absolute_error", 3)
def svr():
    model = Pipeline([("scale", StandardScaler()), ("svr", SVR())])
    space = {
        "scale": [StandardScaler(), MinMaxScaler(), "passthrough"],
        "svr__C": loguniform(1e-1, 1e4),
        "svr__epsilon": loguniform(1e-3, 1e2),
        "svr__gamma": loguniform(1e-4, 1e1),
        "svr__kernel": ["rbf", "sigmoid"],
    }
    return model, space, subsample(load_diabetes(return_X_y=True), 350)


@task("roc_auc", 5)
def sgd():
    model = SGDClassifier(max_iter=30, random_state=0)
    pipeline = Pipeline([("scale", StandardScaler()), ("sgd", model)])
    space = {
        "sgd__loss": ["hinge", "log_loss", "modified_huber", "squared_hinge"],
        "sgd__penalty": ["l2", "l1", "elasticnet"],
        "sgd__alpha": loguniform(1e-6, 1e0),
        "sgd__learning_rate": ["constant", "optimal", "invscaling", "adaptive"],
        "sgd__eta0": loguniform(1e-4, 1e0),
        "sgd__average": [True, False],
    }
    return pipeline, space, noisy_classes(400, 25, n_informative=6)


@task("accuracy", 3)
def classifier_choice():
    model = Pipeline([("scale", StandardScaler()), ("clf", SVC())])
    scale = [StandardScaler(), MinMaxScaler(), "passthrough"]
    space = [
        {
            "scale": scale,
            "clf": [SVC()],
            "clf__C": loguniform(1e-2, 1e3),
            "clf__gamma": loguniform(1e-5, 1e1),
        },
        {
            "scale": scale,
            "clf": [RandomForestClassifier(10, random_state=0)],
            "clf__max_depth": [None, 2, 4, 8],
            "clf__max_features": uniform(0.05, 0.95),
            "clf__min_samples_leaf": randint(1, 20),
        },
        {
            "scale": scale,
            "clf": [KNeighborsClassifier()],
            "clf__n_neighbors": randint(1, 40),
            "clf__weights": ["uniform", "distance"],
        },
        {
            "scale": scale,
            "clf": [LogisticRegression(max_iter=50)],
            "clf__C": loguniform(1e-4, 1e3),
        },
    ]
    data = noisy_classes(300, 16, n_informative=8, n_classes=4, n_clusters_per_class=1)
    return model, space, data
