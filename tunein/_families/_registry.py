"""Who has a hypergradient, and how to ask for it.

A *rule* belongs to an estimator class. Given a fitted estimator and the samples of a fold, it
returns the loss on the test samples and that loss's derivative in some of the estimator's
parameters. It may polish the fit first: a hypergradient is right only at the inner optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import sparse
from sklearn.pipeline import Pipeline

from tunein._math import losses
from tunein._math.implicit import is_sparse
from tunein._math.losses import Array, Valued

Output: TypeAlias = Literal["target", "decision"]


class NoHypergradient(Exception):
    """A rule does not hold for this estimator as it is; the message says what is missing."""


@dataclass(frozen=True)
class Samples:
    """Samples of one side of a fold.

    Attributes
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        As the last step of a pipeline sees them.
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Targets.
    sample_weight : ndarray of shape (n_samples,)
        Weights, ones if none were given.
    """

    X: Any
    y: Any
    sample_weight: Array


@dataclass(frozen=True)
class HyperGradient:
    """A loss on test samples, and its derivative in hyperparameters.

    Attributes
    ----------
    loss : float
        The loss at the inner optimum.
    gradient : dict of str to float
        Its derivative in each parameter, in the parameter's own units.
    inputs : tuple of two ndarrays of the shapes of X, or None
        Its derivative in the training and the test samples, for transformers in front; None if
        the rule does not say.
    """

    loss: float
    gradient: dict[str, float]
    inputs: tuple[Array, Array] | None = None


# Each loss of this package: whether it takes targets or decisions, and how to compute it.
LOSSES: dict[str, tuple[Output, Callable[..., Valued]]] = {
    "squared_error": ("target", losses.squared_error),
    "root_squared_error": ("target", losses.root_squared_error),
    "r2": ("target", losses.one_minus_r2),
    "explained_variance": ("target", losses.unexplained_variance),
    "absolute_error": ("target", losses.absolute_error),
    "squared_log_error": ("target", losses.squared_log_error),
    "poisson_deviance": ("target", losses.poisson_deviance),
    "gamma_deviance": ("target", losses.gamma_deviance),
    "log_loss": ("decision", losses.log_loss),
    "brier": ("decision", losses.brier),
    "squared_hinge": ("decision", losses.squared_hinge),
    "platt_log_loss": ("decision", losses.platt_log_loss),
}


@dataclass(frozen=True)
class Loss:
    """What is descended: the loss of predictions for test samples, and its slope in them.

    Attributes
    ----------
    name : str
        A key of `LOSSES`, or ``"d2_deviance"``: one minus the D^2 of a Tweedie `power`.
    power : float or None
        Of ``"d2_deviance"``.
    """

    name: str
    power: float | None = None

    @property
    def output(self) -> Output:
        """Whether it takes predicted targets or decision values."""
        return "target" if self.name == "d2_deviance" else LOSSES[self.name][0]

    def __call__(
        self, test: Samples, prediction: Array, classes: Any = None, *, pairs: bool = False
    ) -> Valued:
        """Return the loss and its derivative in each prediction.

        Parameters
        ----------
        test : Samples
            Whose targets are predicted.
        prediction : ndarray of shape (n_samples,) or (n_samples, n_columns)
            Predicted targets; or decision values: one column less than two classes need, else one
            for each class.
        classes : ndarray of shape (n_classes,) or None
            Labels in the order of columns; needed for decision values.
        pairs : bool
            Whether columns are of pairs of classes rather than of classes.
        """
        s = test.sample_weight / test.sample_weight.sum()
        if self.output == "target":
            y = np.asarray(test.y, dtype=np.float64).reshape(prediction.shape)
            if self.power is not None:
                return losses.unexplained_deviance(y, prediction, s, self.power)
            return LOSSES[self.name][1](y, prediction, s)
        positions = np.searchsorted(classes, test.y)
        if not np.array_equal(np.take(classes, positions, mode="clip"), test.y):
            raise NoHypergradient("a test fold has classes that its training samples lack")
        if pairs:
            if self.name != "platt_log_loss":
                raise NoHypergradient(f"the loss {self.name} needs a decision for each class")
            return losses.platt_log_loss(positions, prediction, s, pairs=True)
        return LOSSES[self.name][1](positions, prediction, s)


RuleFunction: TypeAlias = Callable[..., HyperGradient]


@dataclass(frozen=True)
class Rule:
    """How an estimator class answers.

    Attributes
    ----------
    function : callable
        ``(estimator, train, test, loss, names) -> HyperGradient``.
    params : tuple of str
        Parameters that it differentiates by.
    output : {"target", "decision"}
        What kind of loss it takes.
    proxy : str
        The loss that stands in where the scorer itself cannot be descended.
    lacks : callable or None
        ``(estimator) -> set of str``: of `params`, those that do not count with the estimator as
        it is set. Raises `NoHypergradient` where the rule does not hold at all.
    """

    function: RuleFunction
    params: tuple[str, ...]
    output: Output
    proxy: str
    lacks: Callable[[Any], set[str]] | None = None

    def active(self, estimator: Any) -> set[str]:
        """Return the parameters that have a derivative for the estimator as it is set."""
        return set(self.params) - (self.lacks(estimator) if self.lacks else set())


_RULES: dict[type, Rule] = {}


def register(
    *classes: type,
    params: Sequence[str],
    output: Output,
    proxy: str,
    lacks: Callable[[Any], set[str]] | None = None,
) -> Callable[[RuleFunction], RuleFunction]:
    """Make the decorated function the rule of some estimator classes."""

    def keep(function: RuleFunction) -> RuleFunction:
        for cls in classes:
            _RULES[cls] = Rule(function, tuple(params), output, proxy, lacks)
        return function

    return keep


def rule_of(estimator: Any) -> Rule | None:
    """Return the rule of an estimator's class, or of one that it inherits ``fit`` from.

    A subclass with a fit of its own may have another optimum: a wrong gradient would say nothing.
    """
    cls = type(estimator)
    for base in cls.__mro__:
        if base in _RULES:
            return _RULES[base] if cls.fit is base.fit else None
    return None


@dataclass(frozen=True)
class Smooth:
    """Parameters of a transformer whose output is a smooth function of them."""

    params: tuple[str, ...]
    holds: Callable[[Any], bool] = field(default=lambda transformer: True)


_TRANSFORMERS: dict[type, Smooth] = {}


def _plain(samples: Samples) -> Samples:
    """Return samples with X an ndarray, or a sparse matrix of rows, of float64, and y an ndarray.

    Numbers of another type are taken for what they say: a fit in single precision has its optimum
    to within rounding.
    """
    if is_sparse(samples.X):
        X: Any = sparse.csr_array(samples.X, dtype=np.float64)
    else:
        X = np.asarray(samples.X)
        X = X.astype(np.float64) if X.dtype != np.float64 else X
    s = np.asarray(samples.sample_weight, dtype=np.float64)
    return Samples(X, np.asarray(samples.y), s)


def hypergradient(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Return the loss of a fitted estimator and its derivative in some of `names`.

    In those that have one. Raises `NoHypergradient` if the estimator has no rule.
    """
    if isinstance(estimator, Pipeline):
        from tunein._families.chain import through_pipeline

        return through_pipeline(estimator, train, test, loss, names)
    rule = rule_of(estimator)
    if rule is None:
        raise NoHypergradient(f"a hypergradient of {type(estimator).__name__}")
    wanted = [name for name in names if name in rule.active(estimator)]
    try:
        found = rule.function(estimator, _plain(train), _plain(test), loss, wanted)
    except np.linalg.LinAlgError as error:
        raise NoHypergradient(f"a unique inner optimum: {error}") from error
    gradient = {name: found.gradient[name] for name in wanted}
    return HyperGradient(found.loss, gradient, found.inputs)
