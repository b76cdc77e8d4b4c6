"""Hypergradients of estimators: importing this package registers the rules of scikit-learn's."""

from tunein._families import linear, svm
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
    "hypergradient",
    "linear",
    "rule_of",
    "svm",
]
