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

from tunein._math import losses
from tunein._math.losses import Array, Valued
from tunein._math.matrices import is_sparse

Output: TypeAlias = Literal["target", "decision"]
InSamples: TypeAlias = tuple[Array, Array]


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

    Parameters
    ----------
    loss : float
        The loss at the inner optimum.
    gradient : dict of str to float
        Its derivative in each parameter, in the parameter's own units.
    inputs : tuple of two ndarrays of the shapes of X, or callable, default=None
        Its derivative in the training and the test samples, for transformers in front, or what
        computes that when it is called: few searches ask. None if the rule does not say.
    flat : dict of str to (float, int), default=<factory>
        Where the loss does not change with a parameter, as with a penalty beyond which all
        coefficients are zero: the value from which on that is so, and 1 for upwards from there,
        -1 for downwards. Empty unless given.

    See Also
    --------
    register_hypergradient : What the rule of an estimator returns this to.

    Examples
    --------
    >>> from tunein import HyperGradient
    >>> HyperGradient(0.25, {"alpha": -0.5}).gradient
    {'alpha': -0.5}
    """

    loss: float
    gradient: dict[str, float]
    inputs: InSamples | Callable[[], InSamples] | None = None
    flat: dict[str, tuple[float, int]] = field(default_factory=dict)

    def in_samples(self) -> InSamples | None:
        """Return the derivative in the training and the test samples.

        Returns
        -------
        inputs : tuple of two ndarrays of the shapes of X, or None
            Computed now, if it has not been.
        """
        return self.inputs() if callable(self.inputs) else self.inputs

    @classmethod
    def mean(cls, folds: Sequence[HyperGradient]) -> HyperGradient:
        """Average over folds; flat is what is so on all of them.

        Parameters
        ----------
        folds : sequence of HyperGradient
            One for each fold.

        Returns
        -------
        mean : HyperGradient
            Without slopes in samples; with those parameters that all folds have.
        """
        flat: dict[str, tuple[float, int]] = {}
        for name in set.intersection(*(set(fold.flat) for fold in folds)):
            ends = [fold.flat[name][0] for fold in folds]
            way = folds[0].flat[name][1]
            flat[name] = (max(ends) if way > 0 else min(ends), way)
        return cls(
            float(np.mean([fold.loss for fold in folds], dtype=np.float64)),
            {
                name: float(np.mean([fold.gradient[name] for fold in folds], dtype=np.float64))
                for name in folds[0].gradient
                if all(name in fold.gradient for fold in folds)
            },
            flat=flat,
        )


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
Params: TypeAlias = tuple[str, ...] | Callable[[Any], set[str]]


@dataclass(frozen=True)
class Rule:
    """How an estimator class answers.

    Attributes
    ----------
    function : callable
        ``(estimator, train, test, loss, names) -> HyperGradient``.
    params : tuple of str or callable
        Parameters that it differentiates by; ``(estimator) -> set of str`` where their names
        depend on the estimator, as those of nested kernels do.
    output : {"target", "decision"}
        What kind of loss it takes.
    proxy : str
        The loss that stands in where the scorer itself cannot be descended.
    lacks : callable or None
        ``(estimator) -> set of str``: of `params`, those that do not count with the estimator as
        it is set. Raises `NoHypergradient` where the rule does not hold at all.
    inputs : bool
        Whether it tells slopes in samples too, for parameters of transformers in front.
    """

    function: RuleFunction
    params: Params
    output: Output
    proxy: str
    lacks: Callable[[Any], set[str]] | None = None
    inputs: bool = True

    def active(self, estimator: Any) -> set[str]:
        """Return the parameters that have a derivative for the estimator as it is set."""
        params = self.params(estimator) if callable(self.params) else set(self.params)
        return params - (self.lacks(estimator) if self.lacks else set())


_RULES: dict[type, Rule] = {}


def register(
    *classes: type,
    params: Sequence[str] | Callable[[Any], set[str]],
    output: Output,
    proxy: str,
    lacks: Callable[[Any], set[str]] | None = None,
    inputs: bool = True,
) -> Callable[[RuleFunction], RuleFunction]:
    """Make the decorated function the rule of some estimator classes."""
    names: Params = params if callable(params) else tuple(params)

    def keep(function: RuleFunction) -> RuleFunction:
        for cls in classes:
            _RULES[cls] = Rule(function, names, output, proxy, lacks, inputs)
        return function

    return keep


def rule_of(estimator: Any) -> Rule | None:
    """Return the rule of an estimator's class, or of one that it fits and predicts like.

    A subclass with a fit of its own may have another optimum: a wrong gradient would say nothing.
    """
    cls: Any = type(estimator)
    for base in cls.__mro__:
        if base in _RULES:
            same = cls is base or all(
                _defined(cls, name) is _defined(base, name) for name in _ANSWERS
            )
            return _RULES[base] if same else None
    return None


# What a rule speaks for.
_ANSWERS = ("fit", "predict", "predict_proba", "decision_function")


def _defined(cls: type, name: str) -> Any:
    """Return an attribute of a class as it was written, without the code that reading it runs."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def plain(X: Any) -> Any:
    """Return samples as an ndarray, or a sparse array of rows, of double precision.

    Numbers of another type are taken for what they say: a fit in single precision has its optimum
    to within rounding. What is no number stays as it is, as kernels of strings need it.
    """
    if is_sparse(X):
        return sparse.csr_array(X, dtype=np.float64)
    try:
        return np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError):
        return np.asarray(X)
