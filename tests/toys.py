"""A fake estimator of any parameters, and objects that only draw; importable by workers."""

from __future__ import annotations

import math
import re
import zlib

import numpy as np
from fakes import Refusal
from sklearn.base import BaseEstimator

X = np.zeros((6, 1))  # nothing to learn from: what matters is the candidates


class Anything(BaseEstimator):
    """Takes any parameters, and scores what `objective` says of them; costs nothing to fit."""

    def __init__(self, objective=None, **params):
        self.objective = objective
        self._params = params

    def get_params(self, deep=True):
        return {"objective": self.objective, **self._params}

    def set_params(self, **params):
        self.objective = params.pop("objective", self.objective)
        self._params = {**self._params, **params}
        return self

    def fit(self, X, y=None):
        if self.objective is unfit and _is_unlucky(self._params):
            raise Refusal("cannot fit on purpose")
        return self

    def score(self, X, y=None):
        return self.objective(self._params)


def smooth(params):
    """A score of anything: best where all parameters hash low, and smooth in the numbers."""
    return -sum(_height(value) for value in params.values())


def _height(value):
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return abs(math.atan(value) - 0.5)
    return (zlib.crc32(repr(value).encode()) % 7) / 7


def flat(params):
    return 0.25


def _is_unlucky(params):
    return zlib.crc32(repr(params).encode()) % 3 == 0


def unfit(params):
    """Every third candidate cannot be fitted, see `Anything.fit`."""
    return smooth(params)


def not_a_number(params):
    return math.nan if _is_unlucky(params) else smooth(params)


def infinite(params):
    return -math.inf if _is_unlucky(params) else smooth(params)


def a_cliff(params):
    return -1e30 if _is_unlucky(params) else smooth(params)


def label(case):
    """Name a test case the same in every process: without the addresses of objects."""
    text = case.__name__ if isinstance(case, type) else " ".join(repr(case).split())
    return re.sub(" at 0x[0-9A-Fa-f]+", "", text)[:60]


class Draws:
    """Has ``rvs`` and nothing else, as ``RandomizedSearchCV`` asks for."""

    def __init__(self, draw):
        self.draw = draw

    def rvs(self, random_state=None):
        return self.draw(random_state)
