"""Hyperparameter searches for scikit-learn that learn from what they have tried."""

from tunein._bayes import BayesSearchCV
from tunein._callbacks import EarlyStop, RegretBound, TargetScore, TimeLimit
from tunein._dimensions import Categorical, Choice, Integer, Real
from tunein._families import HyperGradient, check_hypergradient, register_hypergradient
from tunein._halving import Halving
from tunein._hypergrad import HyperGradSearchCV
from tunein._penalties import PerFeaturePenalty
from tunein._racing import FoldRace
from tunein._tpe import TPESearchCV

__all__ = [
    "BayesSearchCV",
    "Categorical",
    "Choice",
    "EarlyStop",
    "FoldRace",
    "Halving",
    "HyperGradSearchCV",
    "HyperGradient",
    "Integer",
    "PerFeaturePenalty",
    "Real",
    "RegretBound",
    "TPESearchCV",
    "TargetScore",
    "TimeLimit",
    "check_hypergradient",
    "register_hypergradient",
]
__version__ = "0.1.0.dev0"
