"""One hyperparameter as a coordinate of the unit interval.

Users write `Real`, `Integer`, `Categorical`, lists or scipy distributions; inside there are four
kinds of `Dimension`. The coordinate is uniform under the user's prior: equal lengths of [0, 1] are
equally likely under random search. A discrete value owns a *cell* of the interval and is
represented by the middle of its cell.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

Array: TypeAlias = NDArray[np.float64]
Kind: TypeAlias = Literal["continuous", "ordinal", "categorical"]

# Quantiles that stand for the ends of an unbounded distribution: 50 random draws would go beyond
# them in one search of ten, and a model must not be drawn to infinity.
_TAIL = 1e-3

# Step of differences of quantiles.
_STEP = 1e-6

# Logarithm of the ratio of largest to smallest from which positive numbers may be log-spaced.
_LOG_RATIO = math.log(10)

# No cell is narrower: its middle must fall into it after rounding.
_MIN_CELL = 1e-12


# --------------------------------------------------------------------- what users write


class _Drawable(ABC):
    """What lets scikit-learn's ``RandomizedSearchCV`` take the same space."""

    @abstractmethod
    def _dimension(self) -> Dimension:
        """Return the map to the unit interval."""

    def rvs(self, random_state: Any = None) -> Any:
        """Draw one value, so that scikit-learn's ``RandomizedSearchCV`` takes the same space.

        Parameters
        ----------
        random_state : int, RandomState instance or None, default=None
            Source of randomness.

        Returns
        -------
        value : object
            A value of the hyperparameter.
        """
        return self._dimension().decode(float(check_random_state(random_state).uniform()))


@dataclass(frozen=True)
class Real(_Drawable):
    """A continuous hyperparameter between two bounds.

    Parameters
    ----------
    low, high : float
        Bounds, both included; ``low < high``.
    log : bool, default=False
        Whether equal ratios, rather than equal differences, are equally likely. Needs ``low > 0``.

    Notes
    -----
    Nothing is checked here: a search checks its space in ``fit``, where an error can name the
    parameter. ``scipy.stats.uniform(low, high - low)`` and ``scipy.stats.loguniform(low, high)``
    say the same.

    Examples
    --------
    >>> from tunein import Real
    >>> Real(1e-3, 1e3, log=True)
    Real(low=0.001, high=1000.0, log=True)
    """

    low: float
    high: float
    log: bool = False

    def _dimension(self) -> Dimension:
        return Interval(self.low, self.high, self.log)


@dataclass(frozen=True)
class Integer(_Drawable):
    """A whole-numbered hyperparameter between two bounds.

    Parameters
    ----------
    low, high : int
        Bounds, both included; ``low < high``.
    log : bool, default=False
        Whether equal ratios are equally likely. Needs ``low > 0``.
    step : int, default=1
        Distance between neighbours: ``low, low + step, ...`` up to `high`.

    Examples
    --------
    >>> from tunein import Integer
    >>> Integer(2, 64, log=True)
    Integer(low=2, high=64, log=True, step=1)
    """

    low: int
    high: int
    log: bool = False
    step: int = 1

    def _dimension(self) -> Dimension:
        return Steps.between(self.low, self.high, self.step, self.log)


@dataclass(frozen=True)
class Categorical(_Drawable):
    """A choice among values.

    Parameters
    ----------
    choices : sequence
        The values, of any type; returned as they are.
    ordered : bool, default=False
        Whether the values stand in an order that matters, as in ``("low", "medium", "high")``.

    Examples
    --------
    >>> from tunein import Categorical
    >>> Categorical(["sqrt", "log2", None])
    Categorical(choices=['sqrt', 'log2', None], ordered=False)
    """

    choices: Sequence[Any]
    ordered: bool = False

    def _dimension(self) -> Dimension:
        return Levels(list(self.choices), ordered=self.ordered)


@dataclass(frozen=True)
class Choice:
    """A choice among values that bring hyperparameters of their own, to any depth.

    Parameters
    ----------
    options : list of (value, dict)
        Each value with the parameters that a candidate has if it has this value: full names, as
        everywhere in scikit-learn, to what ``param_distributions`` takes, further choices
        included; an empty dict if there are none. All options are equally likely.

    See Also
    --------
    Categorical : A choice without further parameters, which a plain list says as well.

    Notes
    -----
    A list of dicts, as ``RandomizedSearchCV`` takes, says the same for one choice, and takes as
    many dicts as there are combinations for several. Options share a parameter of the same name
    and values that is no `Choice` itself; what is learned in one counts in the others. In
    ``cv_results_`` parameters that a candidate lacks are masked. ``RandomizedSearchCV`` does not
    take a `Choice`.

    Examples
    --------
    >>> from scipy.stats import loguniform, randint
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.svm import SVC
    >>> from tunein import Choice
    >>> kernel = Choice([
    ...     ("linear", {}),
    ...     ("rbf", {"clf__gamma": loguniform(1e-4, 1e1)}),
    ...     ("poly", {"clf__gamma": loguniform(1e-4, 1e1), "clf__degree": [2, 3, 4]}),
    ... ])
    >>> space = {
    ...     "clf": Choice([
    ...         (SVC(), {"clf__C": loguniform(1e-2, 1e3), "clf__kernel": kernel}),
    ...         (RandomForestClassifier(), {"clf__max_depth": randint(2, 20)}),
    ...     ]),
    ... }
    """

    options: Sequence[tuple[Any, Mapping[str, Any]]]


# --------------------------------------------------------------------- what engines see


class Dimension(ABC):
    """A map between values of one hyperparameter and the unit interval.

    Attributes
    ----------
    kind : {"continuous", "ordinal", "categorical"}
        Whether coordinates are all of [0, 1], ordered cells, or cells without an order.
    n_levels : float
        How many distinct points there are; ``inf`` if no count bounds them.
    """

    kind: Kind
    n_levels: float = math.inf

    @abstractmethod
    def decode(self, u: float) -> Any:
        """Return the value at coordinate `u`."""

    @abstractmethod
    def encode(self, value: Any) -> list[float]:
        """Return the coordinates of all points that hold `value`; none if outside the space."""

    @abstractmethod
    def snap(self, u: Array) -> Array:
        """Move coordinates of shape (n,) to the points that represent them."""

    def cells(self, u: Array) -> tuple[Array, Array]:
        """Return the lower and upper ends of the cells that hold `u`; discrete dimensions only."""
        raise NotImplementedError(f"{type(self).__name__} has no cells.")

    def widths(self, u: Array) -> Array:
        """Return the widths of the cells that hold `u`; discrete dimensions only."""
        lower, upper = self.cells(u)
        return upper - lower

    def features(self, u: Array) -> Array:
        """Return where a distance-based model should see the points `u`, in [0, 1]; NaN as NaN."""
        return u

    def slope(self, u: float) -> float:
        """Return the derivative of the value by the feature at `u`; NaN if it is no number."""
        return math.nan

    def points(self, levels: NDArray[np.intp]) -> Array:
        """Return the coordinates of the points with these numbers; finite dimensions only."""
        raise NotImplementedError(f"{type(self).__name__} has no levels.")

    @abstractmethod
    def same_as(self, other: Dimension) -> bool:
        """Tell whether both map every coordinate to the same value."""


class Interval(Dimension):
    """A continuous dimension, uniform or log-uniform between its bounds."""

    kind: Kind = "continuous"

    def __init__(self, low: float, high: float, log: bool = False) -> None:
        self.low, self.high, self.log = float(low), float(high), bool(log)
        self._ends = (math.log(self.low), math.log(self.high)) if log else (self.low, self.high)

    def decode(self, u: float) -> float:
        start, end = self._ends
        x = start * (1 - float(u)) + end * float(u)  # no difference that could overflow
        # Rounding must not carry a value past a bound.
        return min(max(math.exp(x) if self.log else x, self.low), self.high)

    def encode(self, value: Any) -> list[float]:
        if not is_number(value) or not self.low <= value <= self.high:
            return []
        x = math.log(value) if self.log else float(value)
        start, end = self._ends
        return [min(max((x / 2 - start / 2) / (end / 2 - start / 2), 0.0), 1.0)]

    def snap(self, u: Array) -> Array:
        return np.minimum(np.maximum(u, 0.0), 1.0)

    def slope(self, u: float) -> float:
        start, end = self._ends
        return (end - start) * (self.decode(u) if self.log else 1.0)

    def same_as(self, other: Dimension) -> bool:
        return isinstance(other, Interval) and (self.low, self.high, self.log) == (
            other.low,
            other.high,
            other.log,
        )


class Quantile(Dimension):
    """A continuous dimension given by a frozen scipy distribution, through its quantiles."""

    kind: Kind = "continuous"

    def __init__(self, distribution: Any) -> None:
        self.distribution = distribution
        low, high = (float(end) for end in distribution.support())
        self._clip = (_TAIL if math.isinf(low) else 0.0, 1 - _TAIL if math.isinf(high) else 1.0)
        self._support = (low, high)

    def decode(self, u: float) -> float:
        return float(self.distribution.ppf(min(max(u, self._clip[0]), self._clip[1])))

    def encode(self, value: Any) -> list[float]:
        if not is_number(value) or not self._support[0] <= value <= self._support[1]:
            return []
        return [min(max(float(self.distribution.cdf(float(value))), self._clip[0]), self._clip[1])]

    def snap(self, u: Array) -> Array:
        return np.clip(u, *self._clip)

    def slope(self, u: float) -> float:
        # By central differences: the reciprocal of the density says the same less exactly where
        # quantiles are found numerically.
        low, high = max(u - _STEP, self._clip[0]), min(u + _STEP, self._clip[1])
        return (self.decode(high) - self.decode(low)) / (high - low)

    def same_as(self, other: Dimension) -> bool:
        if not isinstance(other, Quantile) or self._support != other._support:
            return False
        one, two = self.distribution, other.distribution
        probes = np.linspace(*self._clip, 65)
        return one is two or np.array_equal(one.ppf(probes), two.ppf(probes))


class Steps(Dimension):
    """An arithmetic sequence, of any length without cost, uniform or log-uniform."""

    kind: Kind = "ordinal"

    def __init__(
        self, low: float, step: float, n_levels: int, log: bool = False, high: float = math.inf
    ) -> None:
        self.low, self.step, self.log, self.high = low, step, log, high
        self.n_levels = n_levels
        # A level owns the values within half a step; below the lowest, at least half of it.
        self._bottom = max(low - step / 2, low / 2) if log else low - step / 2
        self._top = low + (n_levels - 0.5) * step

    @classmethod
    def between(cls, low: float, high: float, step: float = 1, log: bool = False) -> Steps:
        """Count the steps that fit between two bounds, both included."""
        if all(isinstance(number, int) for number in (low, high, step)):
            return cls(low, step, int((high - low) // step) + 1, log, high)
        # The tolerance keeps 0.1, 0.2, 0.3 whole: (0.3 - 0.1) / 0.1 is a little below 2.
        return cls(low, step, math.floor((high - low) / step + 1e-9) + 1, log, high)

    def decode(self, u: float) -> Any:
        return self._value(int(self._level(np.array([u]))[0]))

    def _value(self, level: int) -> Any:
        return min(self.low + level * self.step, self.high)  # rounding must not pass the bound

    def encode(self, value: Any) -> list[float]:
        # One feature (1) and all features (1.0) are not the same to an estimator.
        whole = isinstance(self.low, int) and isinstance(self.step, int)
        if not is_number(value) or (whole and not isinstance(value, numbers.Integral)):
            return []
        level = (
            int((value - self.low) // self.step)
            if whole
            else (round((float(value) - self.low) / self.step))
        )
        if not 0 <= level < self.n_levels:
            return []
        own = self._value(level)
        near = math.isclose(own, value, rel_tol=1e-12, abs_tol=1e-12 * self.step)
        if own != value if whole else not near:
            return []
        return [float(self.points(np.array([level]))[0])]

    def _level(self, u: Array) -> Array:
        if self.log:
            x = self._bottom * (self._top / self._bottom) ** u
            level = np.floor((x - (self.low - self.step / 2)) / self.step)
        else:
            level = np.floor(u * self.n_levels)
        return np.minimum(np.maximum(level, 0.0), self.n_levels - 1.0)

    def _edge(self, level: Array) -> Array:
        if not self.log:
            return np.asarray(level / self.n_levels)
        x = np.maximum(self.low + (level - 0.5) * self.step, self._bottom)
        return np.asarray(np.log(x / self._bottom) / math.log(self._top / self._bottom))

    def cells(self, u: Array) -> tuple[Array, Array]:
        level = self._level(u)
        return self._edge(level), self._edge(level + 1)

    def snap(self, u: Array) -> Array:
        return self.points(self._level(u))

    def points(self, levels: NDArray[np.intp] | Array) -> Array:
        whole = levels.astype(np.float64)
        return np.asarray((self._edge(whole) + self._edge(whole + 1)) / 2)

    def same_as(self, other: Dimension) -> bool:
        return isinstance(other, Steps) and (self.low, self.step, self.n_levels, self.log) == (
            other.low,
            other.step,
            other.n_levels,
            other.log,
        )


class Levels(Dimension):
    """A table of values of any type, each a cell as wide as it is likely.

    Parameters
    ----------
    values : list
        The user's objects. Positions are points: a value that stands twice owns two cells.
    ordered : bool
        Whether neighbours in the table are alike.
    weights : array of shape (n_values,) or None
        Widths of the cells, of any sum; equal if None. Values of weight zero are left out.
    finite : bool
        Whether the table holds all that there is, rather than a sample of it.
    """

    def __init__(
        self,
        values: Sequence[Any],
        *,
        ordered: bool = False,
        weights: Any = None,
        finite: bool = True,
    ) -> None:
        widths = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
        self.values = [v for v, width in zip(values, widths, strict=True) if width > 0]
        self.kind: Kind = "ordinal" if ordered else "categorical"
        self.n_levels = len(self.values) if finite else math.inf
        widths = np.maximum(widths[widths > 0] / widths.sum(), _MIN_CELL)
        self._edges = np.concatenate([[0.0], np.cumsum(widths / widths.sum())])
        self._edges[-1] = 1.0
        self._middles = (self._edges[:-1] + self._edges[1:]) / 2
        self._widths = np.diff(self._edges)
        numeric = ordered and all(is_number(value) for value in self.values)
        placed = _places(np.asarray(self.values, dtype=float)) if numeric else None
        self._places: Array | None = placed[0] if placed else None
        self._log = placed is not None and placed[1]

    @classmethod
    def sorted_numbers(cls, values: Sequence[Any]) -> Levels:
        """Order a list of numbers by size, equal ones by position."""
        return cls(sorted(values), ordered=True)

    def __len__(self) -> int:
        return len(self.values)

    def level(self, u: Array) -> NDArray[np.intp]:
        """Return which entry of the table each coordinate falls on."""
        return self._edges[1:-1].searchsorted(u, side="right")

    def decode(self, u: float) -> Any:
        return self.values[int(self.level(np.array([u]))[0])]

    def encode(self, value: Any) -> list[float]:
        matches = [level for level, mine in enumerate(self.values) if same_value(mine, value)]
        matches.sort(key=lambda level: type(self.values[level]) is not type(value))
        return [float(u) for u in self.points(np.array(matches, dtype=np.intp))]

    def cells(self, u: Array) -> tuple[Array, Array]:
        level = self.level(u)
        return self._edges[level], self._edges[level + 1]

    def widths(self, u: Array) -> Array:
        return self._widths.take(self.level(u))

    def snap(self, u: Array) -> Array:
        return self.points(self.level(u))

    def features(self, u: Array) -> Array:
        if self._places is None:
            return u
        return np.where(np.isnan(u), np.nan, self._places[self.level(u)])

    def slope(self, u: float) -> float:
        if self._places is None:
            return math.nan
        low, high = float(self.values[0]), float(self.values[-1])
        return float(self.decode(u)) * math.log(high / low) if self._log else high - low

    def points(self, levels: NDArray[np.intp]) -> Array:
        return np.asarray(self._middles.take(levels))

    def same_as(self, other: Dimension) -> bool:
        return (
            isinstance(other, Levels)
            and self.kind == other.kind
            and len(self) == len(other)
            and np.array_equal(self._edges, other._edges)
            and all(map(same_value, self.values, other.values))
        )


def _places(values: Array) -> tuple[Array, bool] | None:
    """Return positions in [0, 1] of rising numbers, and whether they are on a log scale.

    They are if they look log-spaced. None if the numbers do not rise: then their order is the
    user's, and all that is known.
    """
    if np.any(values[1:] < values[:-1]):
        return None
    if values[0] == values[-1]:
        return np.full(len(values), 0.5), False
    scale, is_log = values / np.abs(values).max(), False  # so that no difference overflows
    if values[0] > 0 and math.log(values[-1]) - math.log(values[0]) >= _LOG_RATIO:
        linear, log = np.diff(np.unique(scale)), np.diff(np.log(np.unique(values)))
        # The more even spacing is the one the user had in mind.
        if log.std() / log.mean() <= linear.std() / linear.mean():
            scale, is_log = np.log(values), True
    return np.asarray((scale - scale[0]) / (scale[-1] - scale[0])), is_log


def is_number(value: Any) -> bool:
    """Tell whether `value` is a finite real number, and no truth value."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool | np.bool_):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def same_value(one: Any, two: Any) -> bool:
    """Tell whether two hyperparameter values mean the same to an estimator.

    Estimators are the same if class and parameters are; truth values are no numbers.
    """
    try:
        return _are_same(one, two)
    except RecursionError:  # what holds itself is the same only if identical
        return False


def _are_same(one: Any, two: Any) -> bool:
    if one is two:
        return True
    if isinstance(one, bool | np.bool_) != isinstance(two, bool | np.bool_):
        return False
    if hasattr(one, "get_params") and not isinstance(one, type):
        return type(one) is type(two) and _are_same(
            one.get_params(deep=False), two.get_params(deep=False)
        )
    if isinstance(one, np.ndarray) or isinstance(two, np.ndarray):
        return type(one) is type(two) and np.array_equal(one, two)
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_are_same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple) and type(one) is type(two):
        return len(one) == len(two) and all(map(_are_same, one, two))
    try:
        return bool(one == two) or bool(one != one and two != two)  # NaN is the same as NaN
    except (
        Exception
    ):  # a foreign __eq__ may raise anything; such values are the same only if identical
        return False
