"""Teach another estimator's hypergradient, and check any against finite differences."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import indexable
from sklearn.utils.validation import has_fit_parameter

from tunein._families._registry import (
    LOSSES,
    HyperGradient,
    Loss,
    NoHypergradient,
    Output,
    RuleFunction,
    Samples,
    register,
)
from tunein._families.chain import Chain, active_names, hypergradient
from tunein._math.losses import Array
from tunein._sklearn import _safe_split

# How far the loss that a rule states may be from that of the fit as it is, relatively. Fits stop
# at their own tolerance and a rule goes on to the optimum: a few percent are usual.
_LOSS_AGREES = 0.1

# Rounding of a loss, relatively. A difference over a step is no more exact than this over the step.
_ROUNDING = 1e-14


# --------------------------------------------------------------------- teaching


def register_hypergradient(
    estimator_class: type,
    *,
    params: Sequence[str] | Callable[[Any], set[str]],
    output: Output,
    proxy: str,
    lacks: Callable[[Any], set[str]] | None = None,
    inputs: bool = False,
) -> Callable[[RuleFunction], RuleFunction]:
    """Teach the searches the hypergradient of an estimator class.

    Decorates the rule, a function ``rule(estimator, train, test, loss, names)`` that returns the
    loss on the test samples of a fold and its derivative in the hyperparameters `names`:

    - `estimator` is fitted to the training samples.
    - `train` and `test` have ``X`` (an array, or a sparse array in rows, of double precision),
      ``y``, and ``sample_weight`` (ones if none were given).
    - ``loss(test, predictions)`` returns the loss and its slope in each prediction, an array of
      the shape of the predictions. With ``output="decision"`` it is
      ``loss(test, decisions, classes)``.
    - The rule returns ``HyperGradient(value, {name: derivative})``, with a derivative for each of
      `names` at least.

    A hypergradient is right only at the optimum of the fit. If the estimator stops short of it,
    let the rule go on to the optimum, and state the loss from there.

    Parameters
    ----------
    estimator_class : type
        The estimator class. Subclasses inherit the rule unless they have a ``fit`` of their own.
    params : sequence of str, or callable
        Hyperparameters that the rule differentiates by; or ``params(estimator)``, which returns a
        set of them, if they depend on how the estimator is set.
    output : {"target", "decision"}
        Whether losses take predicted targets or decision values.
    proxy : str
        The loss to descend where the scorer itself cannot be: ``"squared_error"`` for most
        regressors; ``"log_loss"`` for classifiers that minimise that, ``"platt_log_loss"`` for
        other classifiers.
    lacks : callable, default=None
        ``lacks(estimator)`` returns the set of `params` that have no derivative as the estimator
        is set, and raises an exception if the rule does not hold for it at all
        (``NoHypergradient``, from the module of ``HyperGradient``). None if all always have one.
    inputs : bool, default=False
        Whether the rule returns slopes in samples too, ``HyperGradient(..., inputs=(of_train,
        of_test))`` of the shapes of ``train.X`` and ``test.X``. With them, parameters of smooth
        transformers in front have a hypergradient, such as the gamma of ``Nystroem``.

    Returns
    -------
    decorator : callable
        Registers the function and returns it as it is.

    Raises
    ------
    TypeError
        If `estimator_class` is none, or an argument is of the wrong type.
    ValueError
        If the class has not the `params`, or there is no such `output` or `proxy`.

    See Also
    --------
    check_hypergradient : Compare what a rule says with finite differences.

    Notes
    -----
    Registering a class again replaces its rule. Worker processes know a rule if the module that
    they import the class from registers it.

    Examples
    --------
    A regressor that predicts the mean of the targets, shrunken, from the optimum of
    ``sum (y - m)^2 + alpha n m^2``, which is ``m = mean / (1 + alpha)``:

    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator, RegressorMixin
    >>> from tunein import HyperGradient, check_hypergradient, register_hypergradient
    >>> class ShrunkenMean(RegressorMixin, BaseEstimator):
    ...     def __init__(self, alpha=1.0):
    ...         self.alpha = alpha
    ...     def fit(self, X, y):
    ...         self.mean_ = np.mean(y) / (1 + self.alpha)
    ...         return self
    ...     def predict(self, X):
    ...         return np.full(len(X), self.mean_)

    By the chain rule, the slopes of the loss in the predictions times those of m in alpha:

    >>> @register_hypergradient(
    ...     ShrunkenMean, params=["alpha"], output="target", proxy="squared_error"
    ... )
    ... def shrunken_mean(estimator, train, test, loss, names):
    ...     value, slopes = loss(test, estimator.predict(test.X))
    ...     by_alpha = -estimator.mean_ / (1 + estimator.alpha)
    ...     return HyperGradient(value, {"alpha": slopes.sum() * by_alpha})

    >>> X, y = np.zeros((20, 1)), np.arange(20.0)
    >>> check_hypergradient(ShrunkenMean(alpha=0.5), X, y).ok
    True
    """
    _check_class(estimator_class, params)
    if output not in ("target", "decision"):
        raise ValueError(f"output must be 'target' or 'decision'; got {output!r}.")
    accepted = sorted(name for name, (of, _) in LOSSES.items() if of == output)
    if proxy not in accepted:
        raise ValueError(
            f"proxy must be a loss of output={output!r}, one of {accepted}; got {proxy!r}."
        )
    if lacks is not None and not callable(lacks):
        raise TypeError(f"lacks must be callable or None; got {lacks!r}.")

    def keep(rule: RuleFunction) -> RuleFunction:
        _check_signature(rule)
        taught = register(
            estimator_class,
            params=params,
            output=output,
            proxy=proxy,
            lacks=lacks,
            inputs=inputs,
        )
        return taught(rule)

    return keep


def _check_class(cls: Any, params: Any) -> None:
    if not isinstance(cls, type):
        raise TypeError(f"estimator_class must be a class; got {cls!r}.")
    missing = [name for name in ("fit", "get_params") if not callable(getattr(cls, name, None))]
    if missing:
        raise TypeError(
            f"estimator_class must be that of an estimator; {cls.__name__} is missing {missing}."
        )
    if callable(params):
        return
    if isinstance(params, str) or not isinstance(params, Iterable):
        raise TypeError(f"params must be a sequence of str or callable; got {params!r}.")
    params = list(params)
    if not params:
        raise ValueError("params must name a parameter at least; got none.")
    try:
        known = cls().get_params()
    except TypeError:  # it cannot be made without arguments: the names show when it is used
        return
    if unknown := [name for name in params if name not in known]:
        raise ValueError(f"{cls.__name__} has no parameters {unknown}; it has {sorted(known)}.")


def _check_signature(rule: Any) -> None:
    arguments = ("estimator", "train", "test", "loss", "names")
    try:
        inspect.signature(rule).bind(*arguments)
    except TypeError as error:
        raise TypeError(
            f"A rule must take the arguments {arguments}; {rule!r} does not: {error}."
        ) from None


# --------------------------------------------------------------------- checking


@dataclass(frozen=True)
class Comparison:
    """A derivative, twice.

    Attributes
    ----------
    parameter : str
        In what.
    value : float
        Where.
    hypergradient : float
        As the rule has it.
    finite_difference : float
        As refits on either side have it.
    relative_error : float
        Their distance, over the larger of them.
    ok : bool
        Whether that is within the tolerance, or their distance within rounding.
    """

    parameter: str
    value: float
    hypergradient: float
    finite_difference: float
    relative_error: float
    ok: bool


@dataclass(frozen=True, repr=False)
class Report:
    """What `check_hypergradient` found.

    Attributes
    ----------
    estimator : str
        Class of the estimator, of a pipeline's last step.
    loss_name : str
        What was differentiated.
    loss : float
        Its mean over folds, as the rule states it.
    fitted_loss : float
        The same, of what the fits predict as they are; nan if that could not be told.
    comparisons : tuple of Comparison
        One for each parameter.
    """

    estimator: str
    loss_name: str
    loss: float
    fitted_loss: float
    comparisons: tuple[Comparison, ...]

    @property
    def loss_ok(self) -> bool:
        """Whether the loss that the rule states is about that of the fits."""
        if np.isnan(self.fitted_loss):
            return True
        return abs(self.loss - self.fitted_loss) <= _LOSS_AGREES * abs(self.fitted_loss)

    @property
    def ok(self) -> bool:
        """Whether everything agrees."""
        return self.loss_ok and all(each.ok for each in self.comparisons)

    def __repr__(self) -> str:
        verdict = "ok" if self.loss_ok else "NOT that of the fits"
        lines = [
            f"Hypergradients of {self.estimator}: {'ok' if self.ok else 'NOT ok'}",
            f"{self.loss_name} {self.loss:.6g}, of the fits {self.fitted_loss:.6g}: {verdict}",
        ]
        rows: list[tuple[str, ...]]
        rows = [("parameter", "value", "hypergradient", "difference", "rel. error", "")]
        for each in self.comparisons:
            both = (each.value, each.hypergradient, each.finite_difference)
            texts = [f"{number:.6g}" for number in both]
            error = f"{each.relative_error:.1e}"
            rows.append((each.parameter, *texts, error, "ok" if each.ok else "NOT ok"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = zip(row, widths, strict=True)
            lines.append("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
        return "\n".join(lines)


def check_hypergradient(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    params: Sequence[str] | None = None,
    cv: Any = None,
    loss: str | None = None,
    sample_weight: Any = None,
    rtol: float = 1e-4,
    step: float = 1e-4,
) -> Report:
    """Compare hypergradients of the cross-validated loss with central finite differences.

    At the parameters that the estimator has, its rule says how the mean loss of the test folds
    changes with each of them. Clones with the parameter a little higher and a little lower are
    fitted too, and the difference of their losses says it as well; at an end of what is allowed,
    clones on the other side only. The loss that the rule states
    is also compared with that of what the fits predict.

    Parameters
    ----------
    estimator : estimator object
        An estimator that has a rule, or a pipeline that ends in one; it is cloned.
    X : array-like of shape (n_samples, n_features)
        Samples.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets.
    params : sequence of str, default=None
        Names of the parameters to check. None for all that have a derivative as the estimator is
        set.
    cv : int, cross-validation generator or iterable, default=None
        As in ``GridSearchCV``; None for five folds.
    loss : str, default=None
        Name of the loss. None for that which the rule has as its proxy.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of samples in the fit, of a pipeline's last step, and in the loss.
    rtol : float, default=0.0001
        How much of the larger of the two a hypergradient and a difference may be apart.
    step : float, default=0.0001
        Of the differences, relative to the parameter's value.

    Returns
    -------
    report : Report
        ``report.ok`` tells whether all agree, ``report.comparisons`` each comparison, and
        ``print(report)`` shows them as a table.

    Raises
    ------
    TypeError
        If the estimator has no rule, or its ``fit`` takes no `sample_weight`.
    ValueError
        If a parameter has no derivative, or the loss is not of what the estimator predicts. The
        message says what is missing.

    See Also
    --------
    register_hypergradient : Teach the searches another estimator.

    Notes
    -----
    A difference is wrong where the loss has a kink between the two refits, as where a coefficient
    of ``Lasso`` becomes zero. Try another value or a smaller step before doubting the rule.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from sklearn.linear_model import Ridge
    >>> from tunein import check_hypergradient
    >>> X, y = make_regression(n_samples=60, n_features=5, noise=20.0, random_state=0)
    >>> report = check_hypergradient(Ridge(alpha=2.0), X, y, cv=3)
    >>> report.ok
    True
    >>> report.comparisons[0].parameter
    'alpha'
    """
    chain = Chain.of(estimator)
    descended = _loss_to_check(chain, loss)
    names = _names_to_check(estimator, params)
    X, y = indexable(X, y)
    y = np.asarray(y)
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight is not None and not has_fit_parameter(chain.last, "sample_weight"):
        raise TypeError(f"{type(chain.last).__name__}.fit takes no sample_weight.")
    splits = check_cv(cv, y, classifier=is_classifier(estimator)).split(X, y)
    folds = _Folds(estimator, X, y, weight, descended, list(splits))

    found, fitted = folds.at({}, names)
    comparisons = []
    for name in names:
        value = float(estimator.get_params()[name])
        h = step * (abs(value) or 1.0)
        slope = _difference(folds, name, value, h, found.loss)
        rounding = _ROUNDING * abs(found.loss) / h
        comparisons.append(_compare(name, value, found.gradient[name], slope, rtol, rounding))
    label = type(chain.last).__name__
    return Report(label, descended.name, found.loss, fitted, tuple(comparisons))


def _difference(folds: _Folds, name: str, value: float, h: float, here: float) -> float:
    """Return the central difference of the loss; at an end of what is allowed, that inwards.

    The latter takes two points on one side, and is in error by h^2 as the central one is.
    """

    def loss(at: float) -> float | Exception:
        try:
            return folds.at({name: at}, ())[0].loss
        except (ValueError, TypeError) as error:  # as fits raise for what they do not allow
            error.add_note(f"While refitting with {name}={at:.6g}; it is {value:.6g}.")
            return error

    above, below = loss(value + h), loss(value - h)
    if isinstance(above, float) and isinstance(below, float):
        return (above - below) / (2 * h)
    if isinstance(above, Exception) and isinstance(below, Exception):
        raise above
    way, near = (1, above) if isinstance(above, float) else (-1, below)
    far = loss(value + 2 * way * h)
    if isinstance(far, Exception):
        raise far
    assert isinstance(near, float)
    return way * (4 * near - far - 3 * here) / (2 * h)


def _compare(
    name: str, value: float, ours: float, theirs: float, rtol: float, rounding: float
) -> Comparison:
    distance, size = abs(ours - theirs), max(abs(ours), abs(theirs))
    error = distance / size if size > 0 else 0.0
    return Comparison(name, value, ours, theirs, error, distance <= rtol * size + rounding)


def _loss_to_check(chain: Chain, name: str | None) -> Loss:
    """Return the loss, or say why the estimator has none."""
    label = type(chain.last).__name__
    try:
        rule = chain.rule()
    except NoHypergradient as error:
        raise TypeError(
            f"There is no hypergradient for {label}, for want of {error}. "
            f"register_hypergradient teaches one."
        ) from None
    try:
        rule.active(chain.last)
    except NoHypergradient as error:
        raise ValueError(f"The hypergradient of {label} is missing {error}.") from None
    accepted = sorted(known for known, (output, _) in LOSSES.items() if output == rule.output)
    if name is not None and name not in accepted:
        raise ValueError(f"loss must be one of {accepted} for {label}; got {name!r}.")
    return Loss(name or rule.proxy)


def _names_to_check(estimator: Any, params: Sequence[str] | None) -> list[str]:
    known = estimator.get_params()
    active = active_names(estimator, known)
    wanted = sorted(active) if params is None else list(params)
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"{type(estimator).__name__} has no parameters {unknown}.")
    if missing := [name for name in wanted if name not in active]:
        raise ValueError(
            f"There is no hypergradient in {missing} with the estimator as it is set; there is in "
            f"{sorted(active)}."
        )
    if odd := [name for name in wanted if not isinstance(known[name], numbers.Real)]:
        raise ValueError(f"The values of {odd} are no numbers: {[known[name] for name in odd]}.")
    if not wanted:
        raise ValueError("No parameter has a hypergradient with the estimator as it is set.")
    return wanted


@dataclass(frozen=True)
class _Folds:
    """Fits and asks on the same folds whenever it is asked."""

    estimator: Any
    X: Any
    y: Any
    weight: Array | None
    loss: Loss
    splits: list[tuple[Any, Any]]

    def at(self, params: dict[str, float], names: Sequence[str]) -> tuple[HyperGradient, float]:
        """Return the mean hypergradient, and the mean loss of the fits as they are."""
        asked = [self._ask(params, names, *split) for split in self.splits]
        mean = HyperGradient.mean([found for found, _ in asked])
        return mean, float(np.mean([fitted for _, fitted in asked]))

    def _ask(
        self, params: dict[str, float], names: Sequence[str], train: Any, test: Any
    ) -> tuple[HyperGradient, float]:
        estimator = clone(self.estimator).set_params(**params)
        own, other = self._samples(estimator, train, None), self._samples(estimator, test, train)
        chain = Chain.of(estimator)
        weights = {f"{chain.prefix}sample_weight": own.sample_weight}
        try:
            estimator.fit(own.X, own.y, **({} if self.weight is None else weights))
            found = hypergradient(estimator, own, other, self.loss, names)
        except NoHypergradient as error:
            raise ValueError(
                f"The hypergradient of {type(chain.last).__name__} is missing {error}."
            ) from error
        return found, self._fitted(estimator, other)

    def _samples(self, estimator: Any, rows: Any, train: Any) -> Samples:
        X, y = _safe_split(estimator, self.X, self.y, rows, train)
        return Samples(X, y, np.ones(len(rows)) if self.weight is None else self.weight[rows])

    def _fitted(self, estimator: Any, test: Samples) -> float:
        """Return the loss of what the estimator predicts; nan if its decisions are not the rule's.

        Support vector machines compare classes in pairs, whatever decisions they show.
        """
        if self.loss.output == "target":
            return self.loss(test, np.asarray(estimator.predict(test.X), dtype=np.float64))[0]
        last = Chain.of(estimator).last
        many = len(last.classes_) > 2 and hasattr(last, "decision_function_shape")
        if many or not hasattr(estimator, "decision_function"):
            return float("nan")
        return self.loss(test, estimator.decision_function(test.X), estimator.classes_)[0]
