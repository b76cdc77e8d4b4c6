"""Hypergradients of whatever is tuned: a model, or a pipeline that ends in one.

The last step's rule answers for its own parameters. For a parameter theta of a transformer in
front, with T the samples that it makes::

    dL/dtheta = sum dL/dT_train dT_train/dtheta + sum dL/dT_test dT_test/dtheta

where the rule tells dL/dT, and dT/dtheta is a difference of transformers alone, fitted again on
either side of theta. The model is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from tunein._families._registry import (
    HyperGradient,
    Loss,
    NoHypergradient,
    Rule,
    Samples,
    plain,
    rule_of,
)
from tunein._families.transformers import is_smooth, of_two_minds
from tunein._math.losses import Array
from tunein._math.matrices import inner_product, squares

# Steps of differences, relative to the parameter. The first serves where transformers are smooth
# and their rounding is felt; the others where they bend fast, or jump not far off.
_STEPS = (1e-2, 1e-3, 1e-4, 1e-5)

# A difference is believed if half the step changes no more of it; where it happens to be zero, of
# what it could be at most; and of the samples, over the step, where it is rounding only.
_AGREEMENT, _OF_MOST, _ROUNDING = 1e-3, 1e-6, 1e-14


@dataclass(frozen=True)
class Chain:
    """An estimator as a row of transformers and a model.

    Attributes
    ----------
    front : tuple of (str, estimator)
        Transformers, each with the prefix of the names of its parameters.
    prefix : str
        That of the model; empty if there is no pipeline.
    last : estimator
        The model.
    """

    front: tuple[tuple[str, Any], ...]
    prefix: str
    last: Any

    @classmethod
    def of(cls, estimator: Any) -> Chain:
        """Lay pipelines out, those inside of pipelines too."""
        *front, (prefix, last) = _steps(estimator, "")
        return cls(tuple((name, step) for name, step in front if not _passes(step)), prefix, last)

    def rule(self) -> Rule:
        """Return the rule of the model; raise `NoHypergradient` if there is none."""
        if _passes(self.last):
            raise NoHypergradient("a model as the last step of the pipeline")
        rule = rule_of(self.last)
        if rule is None:
            raise NoHypergradient(f"a hypergradient of {type(self.last).__name__}")
        for _, step in self.front:
            if name := of_two_minds(step):
                raise NoHypergradient(f"a transformer whose fit_transform is transform; got {name}")
        return rule

    def active(self, rule: Rule) -> set[str]:
        """Return the parameters of the model that have a derivative, with their prefix."""
        return {self.prefix + name for name in rule.active(self.last)}

    def smooth(self, rule: Rule, names: Iterable[str]) -> Iterator[tuple[str, int, str]]:
        """Yield those of transformers in front: each name, which transformer, its name for it."""
        if not rule.inputs:
            return
        for name in names:
            for position, (prefix, step) in enumerate(self.front):
                if name.startswith(prefix) and is_smooth(step, name.removeprefix(prefix)):
                    yield name, position, name.removeprefix(prefix)


def _steps(estimator: Any, prefix: str) -> list[tuple[str, Any]]:
    # A subclass may do more than pass samples on, as one that draws other samples to fit to.
    if not isinstance(estimator, Pipeline) or type(estimator).fit is not Pipeline.fit:
        return [(prefix, estimator)]
    return [inner for name, step in estimator.steps for inner in _steps(step, f"{prefix}{name}__")]


def _passes(step: Any) -> bool:
    """Tell whether a step of a pipeline hands on what it gets."""
    return step is None or (isinstance(step, str) and step == "passthrough")


def final_rule(estimator: Any) -> Rule | None:
    """Return the rule of an estimator, or of the last step of a pipeline; None if it has none.

    Also where the rule does not hold with the estimator as it is set. Nothing needs to be fitted.
    """
    try:
        chain = Chain.of(estimator)
        rule = chain.rule()
        rule.active(chain.last)
    except NoHypergradient:
        return None
    return rule


def active_names(estimator: Any, names: Iterable[str]) -> set[str]:
    """Return which of `names` have a derivative with the estimator as it is set.

    Nothing needs to be fitted.
    """
    rule = final_rule(estimator)
    if rule is None:
        return set()
    chain, names = Chain.of(estimator), set(names)
    return (names & chain.active(rule)) | {name for name, _, _ in chain.smooth(rule, names)}


def n_transformers(step: Any) -> int:
    """Return how many transformers of a chain a step in front of its model comes to."""
    return sum(not _passes(inner) for _, inner in _steps(step, ""))


def hypergradient(
    estimator: Any,
    train: Samples,
    test: Samples,
    loss: Loss,
    names: Sequence[str],
    done: tuple[int, Any, Any] | None = None,
) -> HyperGradient:
    """Return the loss of a fitted estimator and its derivative in those of `names` that have one.

    What some of the transformers make of training and test samples may be known: `done` is their
    number, from the first on, and the samples.

    Raises
    ------
    NoHypergradient
        If the estimator has no rule, or a transformer in front jumps where it should be smooth.
    """
    chain = Chain.of(estimator)
    rule = chain.rule()
    active = chain.active(rule)
    own = {name: name.removeprefix(chain.prefix) for name in names if name in active}
    n, *known = done or (0, train.X, test.X)
    stages = [(known[0], known[1])] * (n + 1)  # nobody asks for what is in between
    for _, step in chain.front[n:]:
        X, Z = stages[-1]
        stages.append((step.transform(X), step.transform(Z)))
    found = _ask(chain.last, rule, stages[-1], (train, test), loss, list(own.values()))
    if missing := set(own.values()) - set(found.gradient):
        raise ValueError(f"The rule of {type(chain.last).__name__} returned no slope in {missing}.")
    gradient = {name: found.gradient[inner] for name, inner in own.items()}
    smooth = list(chain.smooth(rule, names))
    inputs = found.in_samples() if smooth else None
    for name, position, inner in smooth:
        if inputs is None:
            raise NoHypergradient(f"slopes of {type(chain.last).__name__} in samples, for {name}")
        front = [step for _, step in chain.front[position:]]
        moved = _Moved(front, inner, stages[position], train.y, inputs)
        gradient[name] = moved.slope(name)
    return HyperGradient(
        found.loss,
        gradient,
        None if chain.front else found.inputs,
        {chain.prefix + name: flat for name, flat in found.flat.items()},
    )


def _ask(
    model: Any,
    rule: Rule,
    Xs: tuple[Any, Any],
    sides: tuple[Samples, Samples],
    loss: Loss,
    names: list[str],
) -> HyperGradient:
    """Ask the rule of a model, with other samples X than the sides of the fold have."""
    train, test = (
        Samples(plain(X), np.asarray(side.y), np.asarray(side.sample_weight, dtype=np.float64))
        for X, side in zip(Xs, sides, strict=True)
    )
    try:
        return rule.function(model, train, test, loss, names)
    except np.linalg.LinAlgError as error:
        raise NoHypergradient(f"a unique inner optimum: {error}") from error


@dataclass(frozen=True)
class _Moved:
    """Transformers whose first one's parameter is moved.

    Attributes
    ----------
    front : list of estimator
        From the one that is moved on to the last.
    inner : str
        Its name for the parameter.
    samples : tuple of two
        Training and test samples as they reach it.
    y : ndarray
        Targets of the training samples.
    slopes : tuple of two ndarrays
        Slopes of the loss in the training and test samples that leave the last.
    """

    front: list[Any]
    inner: str
    samples: tuple[Any, Any]
    y: Any
    slopes: tuple[Array, Array]

    def slope(self, name: str) -> float:
        """Return the slope of the loss in the parameter."""
        value = float(self.front[0].get_params()[self.inner])
        for step in _STEPS:
            h = step * (abs(value) or 1.0)
            coarse, _ = self._difference(value, h)
            fine, most = self._difference(value, h / 2)
            if abs(coarse - fine) <= _AGREEMENT * abs(fine) + most:
                # The error of either is in h^2; this combination of both has none of that order.
                return (4 * fine - coarse) / 3
        raise NoHypergradient(f"a smooth transformer: what it makes of samples jumps with {name}")

    def _difference(self, value: float, h: float) -> tuple[float, float]:
        """Return the central difference of the loss, and how much of it tells nothing.

        That is a small part of what it could be at most, by the inequality of Cauchy; and what
        rounding of the samples makes of it.
        """
        total, moved_by, size = 0.0, 0.0, 0.0
        sides = zip(self._at(value + h), self._at(value - h), self.slopes, strict=True)
        for above, below, slope in sides:
            if above.shape != below.shape:
                raise NoHypergradient(
                    f"a smooth transformer: the number of features changes with {self.inner}"
                )
            moved = (above - below) / (2 * h)
            total += inner_product(moved, slope)
            moved_by += float(squares(moved).sum())
            size += float(squares(above).sum())
        pull = math.sqrt(sum(float(squares(slope).sum()) for slope in self.slopes))
        return total, pull * (_OF_MOST * math.sqrt(moved_by) + _ROUNDING / h * math.sqrt(size))

    def _at(self, value: float) -> tuple[Any, Any]:
        """Fit the transformers with another value, and transform the samples of both sides."""
        X, Z = self.samples
        for position, step in enumerate(self.front):
            twin = clone(step)
            if position == 0:
                twin.set_params(**{self.inner: value})
            twin.fit(X, self.y)
            X, Z = twin.transform(X), twin.transform(Z)
        return plain(X), plain(Z)
