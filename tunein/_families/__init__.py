"""Hypergradients of estimators: importing this package registers the rules of scikit-learn's."""

from tunein._families import glm, huber, kernels, linear, multitask, svm
from tunein._families._registry import (
    LOSSES,
    HyperGradient,
    Loss,
    NoHypergradient,
    Rule,
    Samples,
    rule_of,
)
from tunein._families.chain import (
    Chain,
    active_names,
    final_rule,
    hypergradient,
    n_transformers,
)
from tunein._families.check import check_hypergradient, register_hypergradient

__all__ = [
    "LOSSES",
    "Chain",
    "HyperGradient",
    "Loss",
    "NoHypergradient",
    "Rule",
    "Samples",
    "active_names",
    "check_hypergradient",
    "final_rule",
    "glm",
    "huber",
    "hypergradient",
    "kernels",
    "linear",
    "multitask",
    "n_transformers",
    "register_hypergradient",
    "rule_of",
    "svm",
]
