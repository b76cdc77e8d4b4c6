"""Hypergradients of estimators: importing this package registers the rules of scikit-learn's."""

from tunein._families import kernels, linear
from tunein._families._registry import (
    LOSSES,
    HyperGradient,
    Loss,
    NoHypergradient,
    Rule,
    Samples,
    rule_of,
)
from tunein._families.chain import active_names, final_rule, hypergradient
from tunein._families.check import check_hypergradient, register_hypergradient

__all__ = [
    "LOSSES",
    "HyperGradient",
    "Loss",
    "NoHypergradient",
    "Rule",
    "Samples",
    "active_names",
    "check_hypergradient",
    "final_rule",
    "hypergradient",
    "kernels",
    "linear",
    "register_hypergradient",
    "rule_of",
]
