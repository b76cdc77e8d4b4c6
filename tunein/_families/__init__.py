"""Hypergradients of estimators: importing this package registers the rules of scikit-learn's."""

from tunein._families import glm, huber, linear, multitask
from tunein._families._registry import (
    HyperGradient,
    Loss,
    NoHypergradient,
    Rule,
    Samples,
    hypergradient,
    rule_of,
)

__all__ = [
    "HyperGradient",
    "Loss",
    "NoHypergradient",
    "Rule",
    "Samples",
    "glm",
    "huber",
    "hypergradient",
    "linear",
    "multitask",
    "rule_of",
]
