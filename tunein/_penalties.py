"""PerFeaturePenalty: one penalty for each feature, or each group of features."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.model_selection import check_cv
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from tunein._math.descent import descend, guarded_descent, shared_log_penalty
from tunein._math.penalties import HalfSquared, Logistic, Loss, Problem, Split
from tunein._sklearn import _check_sample_weight

Array: TypeAlias = NDArray[np.float64]

# The descents inside the folds need two folds besides the one that is kept out.
_LEAST_FOLDS = 3


@dataclass(frozen=True)
class _Model:
    """How an estimator writes its penalty, and what it must be like for ours to be its own loss.

    `level` turns a penalty into the value of `parameter`; `accepted` maps other parameters to the
    values with which the penalised loss is the one we differentiate.
    """

    loss: Loss
    lasso: Callable[[Array, Array], Array] | None
    parameter: str
    level: Callable[[float], float]
    accepted: Mapping[str, tuple[Any, ...]]


def _coordinate_descent(Z: Array, z: Array) -> Array:
    solver = Lasso(alpha=1.0, fit_intercept=False, tol=1e-8, max_iter=20_000)
    with warnings.catch_warnings():
        # With little penalty it may take long to the last digit, which is not needed: signs are.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(solver.fit(Z, z).coef_)


_MODELS: dict[type, _Model] = {
    Ridge: _Model(HalfSquared(), None, "alpha", float, {"positive": (False,)}),
    Lasso: _Model(HalfSquared(), _coordinate_descent, "alpha", float, {"positive": (False,)}),
    LogisticRegression: _Model(
        Logistic(),
        None,
        "C",
        lambda penalty: 1 / penalty,
        {
            "penalty": ("l2", "deprecated"),  # the latter from scikit-learn 1.8 on
            "l1_ratio": (0, None),
            "class_weight": (None,),
            # liblinear penalises the intercept, newton-cholesky and the others do not
            "solver": ("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga"),
        },
    ),
}


def _estimator_has(name: str) -> Callable[[Any], bool]:
    def check(self: PerFeaturePenalty) -> bool:
        getattr(getattr(self, "estimator_", self.estimator), name)  # its own error says more
        return True

    return check


class PerFeaturePenalty(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge, lasso or logistic regression with a penalty for each feature, by cross-validation.

    Of thousands of features mostly a few matter. One penalty for all must be a compromise: too
    much for those, too little for the others. Here each feature, or each group of features, has a
    penalty of its own. All are found together, by descending on the cross-validated loss along its
    exact gradient, which costs no more for ten thousand penalties than for one. A guard against
    overfitting the folds is on by default.

    Parameters
    ----------
    estimator : Ridge, Lasso or LogisticRegression
        What is fitted in the end. Its ``alpha``, or ``C``, is not used: the best penalty that all
        features share is found first. Features are penalised in the scale they come in, so they
        should be standardised, as for the estimator alone. Logistic regression is of two classes,
        with an L2 penalty and neither ``class_weight`` nor the solver liblinear.

    feature_groups : array-like of shape (n_features,), default=None
        A label for each feature; those with the same label share a penalty. None gives each
        feature its own. Groups must be known beforehand; made from `y` they would fit it.

    cv : int, cross-validation generator or iterable, default=None
        The folds whose loss is lowered, as in scikit-learn's ``GridSearchCV``: None means 5,
        stratified for classification and not shuffled. The guard needs at least 3 folds, and uses
        the same ones, so that whatever they respect is respected by it.

    guard : bool, default=True
        Whether to stop as early as rows that were kept out tell to. Without it the
        cross-validated loss is lowered as far as it goes, which is to fit the folds as soon as
        penalties are as many as a tenth of the samples; for comparison.

    max_iter : int, default=100
        Most steps of a descent. With the guard, some ten are the rule.

    Attributes
    ----------
    estimator_ : estimator object
        The fitted estimator, on all data with `penalties_`; it predicts from features in the scale
        they came in. Its ``alpha``, or ``C``, is the shared penalty.

    coef_, intercept_ : ndarray
        Those of `estimator_`.

    penalties_ : ndarray of shape (n_features,)
        The ``alpha`` of each feature, for ``Ridge`` and ``Lasso``; ``1 / C`` for
        ``LogisticRegression``.

    shared_penalty_ : float
        The best penalty that all features share.

    n_steps_ : int
        How many steps away from the shared penalty `penalties_` are. 0 means that the guard found
        no reason to leave it, and `estimator_` is the plain estimator at ``shared_penalty_``.

    stop_reason_ : str
        Why there, in a sentence.

    held_out_loss_path_ : ndarray of shape (n_iter_ + 1,) or None
        Loss on the rows that were kept out of the descents, after each step: mean squared error,
        or negative log-likelihood. At `n_steps_` it is an estimate of the loss on new data, only
        that the step was chosen by it. None without the guard.

    cv_loss_path_ : ndarray of shape (n_iter_ + 1,)
        The cross-validated loss that was lowered. After many steps it is no estimate of anything.

    n_iter_ : int
        Steps of the longest descent.

    classes_ : ndarray of shape (2,)
        Class labels; for classification only.

    n_features_in_ : int
        Number of features seen in ``fit``.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen in ``fit``, if it was given a dataframe with names that are strings.

    See Also
    --------
    sklearn.linear_model.RidgeCV : One penalty for all features.
    sklearn.linear_model.LassoCV : Leaves features out altogether.

    Notes
    -----
    The gradient comes from one adjoint solve a fold [1]_, in as many dimensions as there are
    features or samples, whichever is less. The descent is L-BFGS-B on the logarithms of the
    penalties. The guard [2]_: for each fold a descent on the other folds alone, watched on that
    fold; all stop at the step at which the loss on the rows kept out is lowest over all folds, and
    the penalties are the geometric means over the descents. A term pulls the log-penalties towards
    the shared one. If the loss kept out falls by less than its standard error, the shared penalty
    stays.

    References
    ----------
    .. [1] Y. Bengio, "Gradient-based optimization of hyperparameters", Neural Computation 12, 2000.
    .. [2] L. Prechelt, "Early stopping - but when?", in Neural Networks: Tricks of the Trade, 1998.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.model_selection import train_test_split
    >>> from tunein import PerFeaturePenalty
    >>> X, y = make_regression(300, 500, n_informative=10, noise=10, random_state=0)
    >>> X, X_new, y, y_new = train_test_split(X, y, random_state=0)
    >>> model = PerFeaturePenalty(Ridge()).fit(X, y)
    >>> shared = Ridge(alpha=model.shared_penalty_).fit(X, y)
    >>> bool(model.score(X_new, y_new) > 0.9 > 0.6 > shared.score(X_new, y_new))
    True
    """

    def __init__(
        self,
        estimator: Any,
        *,
        feature_groups: Any = None,
        cv: Any = None,
        guard: bool = True,
        max_iter: int = 100,
    ) -> None:
        self.estimator = estimator
        self.feature_groups = feature_groups
        self.cv = cv
        self.guard = guard
        self.max_iter = max_iter

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.estimator_type, tags.regressor_tags = inner.estimator_type, inner.regressor_tags
        tags.target_tags = replace(inner.target_tags, multi_output=False, single_output=True)
        if inner.classifier_tags is not None:
            tags.classifier_tags = replace(inner.classifier_tags, multi_class=False)
        tags.input_tags.sparse = False
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> PerFeaturePenalty:
        """Find the penalties, then fit the estimator with them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features; dense.
        y : array-like of shape (n_samples,)
            Target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, in the fits and in the loss. None weighs all alike.

        Returns
        -------
        self : PerFeaturePenalty
            The fitted meta-estimator.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data cannot be used; the message says what can.
        """
        model = self._check_parameters()
        is_classification = isinstance(model.loss, Logistic)
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=not is_classification)
        s = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        target = self._encode(y, s) if is_classification else y.astype(np.float64)
        folds = self._folds(X, y, s)
        problem = Problem(
            X=X - np.average(X, axis=0, weights=s) if self.estimator.fit_intercept else X,
            y=target,
            s=s,
            groups=self._groups(X.shape[1]),
            loss=model.loss,
            fit_intercept=bool(self.estimator.fit_intercept),
            lasso=model.lasso,
        )
        penalties = self._find(problem, folds)
        self._refit(model, X, y, sample_weight, penalties)
        return self

    # ------------------------------------------------------------------ what is given

    def _check_parameters(self) -> _Model:
        model = _MODELS.get(type(self.estimator))
        if model is None:
            names = " or ".join(kind.__name__ for kind in _MODELS)
            raise TypeError(
                f"estimator must be an instance of {names}, not of a subclass, got "
                f"{self.estimator!r} of type {type(self.estimator).__name__}."
            )
        for name, accepted in model.accepted.items():
            value = getattr(self.estimator, name, accepted[0])
            if value not in accepted:
                allowed = " or ".join(map(repr, accepted))
                raise ValueError(
                    f"estimator has {name}={value!r}, of which there is no gradient; accepted is "
                    f"{allowed}."
                )
        if not isinstance(self.guard, bool | np.bool_):
            raise TypeError(f"guard must be True or False, got {self.guard!r}.")
        if not isinstance(self.max_iter, Integral) or isinstance(self.max_iter, bool):
            raise TypeError(f"max_iter must be an integer of at least 1, got {self.max_iter!r}.")
        if self.max_iter < 1:
            raise ValueError(f"max_iter must be an integer of at least 1, got {self.max_iter!r}.")
        return model

    def _encode(self, y: NDArray[Any], s: Array) -> Array:
        """Set `classes_`, and return which samples are of the second one."""
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        self.classes_ = np.unique(y)
        if len(self.classes_) > 2:
            # scikit-learn's own words, by which its checks know it
            raise ValueError(
                f"Only binary classification is supported. The type of the target is {kind}: y "
                f"has {len(self.classes_)} classes."
            )
        weighed = np.unique(y[s > 0])
        if len(weighed) < 2:
            raise ValueError(
                f"y must have samples of 2 classes with a positive weight, got {len(weighed)} "
                f"class: {weighed.tolist()}."
            )
        return np.asarray(y == self.classes_[1], dtype=np.float64)

    def _groups(self, n_features: int) -> NDArray[np.intp]:
        if self.feature_groups is None:
            return np.arange(n_features)
        labels = np.asarray(self.feature_groups)
        if labels.shape != (n_features,):
            raise ValueError(
                f"feature_groups must have one label for each of the {n_features} features, got "
                f"an array of shape {labels.shape}."
            )
        return np.unique(labels, return_inverse=True)[1].reshape(n_features)

    def _folds(self, X: Array, y: NDArray[Any], s: Array) -> list[Split]:
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        rows = np.arange(len(X))

        def weighed(chosen: Any) -> NDArray[np.intp]:  # a sample without weight is no sample
            return np.asarray(rows[chosen][s[chosen] > 0])

        folds = [Split(weighed(train), weighed(test)) for train, test in splitter.split(X, y)]
        folds = [fold for fold in folds if len(fold.train) and len(fold.test)]
        least = _LEAST_FOLDS if self.guard else 1
        if len(folds) < least:
            raise ValueError(
                f"cv={self.cv!r} gives {len(folds)} folds with samples on both sides; with "
                f"guard={self.guard} at least {least} are needed."
            )
        return folds

    # ------------------------------------------------------------------ what is found

    def _find(self, problem: Problem, folds: list[Split]) -> Array:
        """Set all that tells how the penalties were found, and return them."""
        shared = shared_log_penalty(problem, folds)
        method = guarded_descent if self.guard else descend
        found = method(problem, folds, shared, int(self.max_iter))
        self.shared_penalty_ = float(np.exp(shared))
        self.n_steps_, self.stop_reason_ = found.n_steps, found.reason
        self.cv_loss_path_, self.held_out_loss_path_ = found.cv_losses, found.held_losses
        self.n_iter_ = len(found.cv_losses) - 1
        return np.asarray(np.exp(found.theta)[problem.groups])

    def _refit(
        self, model: _Model, X: Array, y: NDArray[Any], sample_weight: Any, penalties: Array
    ) -> None:
        # With features multiplied by a_j and one penalty r, coefficients are w_j / a_j, and cost
        # r w_j^2 / a_j^2: what penalties r / a_j^2 cost in the features' own scale. Of absolute
        # values it is r / a_j.
        scales = (self.shared_penalty_ / penalties) ** (0.5 if model.lasso is None else 1.0)
        estimator = clone(self.estimator)
        estimator.set_params(**{model.parameter: model.level(self.shared_penalty_)})
        estimator.fit(X * scales, y, sample_weight=sample_weight)
        estimator.coef_ = estimator.coef_ * scales
        self.estimator_, self.penalties_ = estimator, penalties
        self.coef_, self.intercept_ = estimator.coef_, estimator.intercept_

    # ------------------------------------------------------------------ what it then does

    def _checked(self, X: Any) -> Array:
        check_is_fitted(self, "estimator_")
        return np.asarray(validate_data(self, X, reset=False, dtype=np.float64))

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the target, or the class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Predictions of `estimator_`.
        """
        return self._call("predict", X)

    def _call(self, method: str, X: Any) -> NDArray[Any]:
        X = self._checked(X)
        return np.asarray(getattr(self.estimator_, method)(X))

    @available_if(_estimator_has("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, 2)
            In the order of `classes_`.
        """
        return self._call("predict_proba", X)

    @available_if(_estimator_has("predict_log_proba"))  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Predict the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, 2)
            In the order of `classes_`.
        """
        return self._call("predict_log_proba", X)

    @available_if(_estimator_has("decision_function"))  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> NDArray[Any]:
        """Return log-odds of the second class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        decisions : ndarray of shape (n_samples,)
            Positive where the second class is predicted.
        """
        return self._call("decision_function", X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R^2, or accuracy, on given data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            True target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        score : float
            That of `estimator_`.
        """
        X = self._checked(X)
        return float(self.estimator_.score(X, y, sample_weight=sample_weight))
