"""placeholder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
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


def final_rule(estimator: Any) -> Rule | None:
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    rule = rule_of(last)
    if rule is None:
        return None
    try:
        rule.active(last)
    except NoHypergradient:
        return None
    return rule


def active_names(estimator: Any, names: Iterable[str]) -> set[str]:
    rule = final_rule(estimator)
    if rule is None:
        return set()
    prefix = ""
    last = estimator
    if isinstance(estimator, Pipeline):
        prefix, last = estimator.steps[-1][0] + "__", estimator.steps[-1][1]
    return {prefix + name for name in rule.active(last)} & set(names)


def hypergradient(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Return the loss of a fitted estimator and its derivative in those of `names` that have one.

    Raises `NoHypergradient` if the estimator has no rule.
    """
    prefix, last = "", estimator
    Xs = [train.X, test.X]
    if isinstance(estimator, Pipeline):
        prefix, last = estimator.steps[-1][0] + "__", estimator.steps[-1][1]
        if len(estimator.steps) > 1:
            Xs = [estimator[:-1].transform(X) for X in Xs]
    rule = rule_of(last)
    if rule is None:
        raise NoHypergradient(f"a hypergradient of {type(last).__name__}")
    active = rule.active(last)
    wanted = [
        n.removeprefix(prefix)
        for n in names
        if n.startswith(prefix) and n.removeprefix(prefix) in active
    ]
    tr, te = (
        plain(Samples(X, s.y, s.sample_weight)) for X, s in zip(Xs, (train, test), strict=True)
    )
    try:
        found = rule.function(last, tr, te, loss, wanted)
    except np.linalg.LinAlgError as error:
        raise NoHypergradient(f"a unique inner optimum: {error}") from error
    return HyperGradient(
        found.loss,
        {prefix + n: found.gradient[n] for n in wanted},
        found.inputs,
        {prefix + n: v for n, v in found.flat.items()},
    )
