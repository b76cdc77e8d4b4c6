"""The search space as a unit cube: parameters in, points out, and back.

A point is a row of the cube. Each coordinate belongs to one parameter, and may exist only where
another, its *fork*, has certain values: options of a `Choice` bring parameters of their own, and a
list of dicts is a fork without a name, which says which dict. Coordinates that a point lacks are
NaN. A fork stands before what hangs on it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunein._dimensions import Array, Dimension, Interval, Kind, Levels
from tunein._parse import Fork, Tree, parse_space

# Spaces of at most so many points are enumerated when untried ones are wanted.
_SMALL_SPACE = 4096

# Draws from a larger space after which none new means that none is likely.
_TRIES = 20

# Points drawn at each try but the first.
_N_MORE = 256

# Sets of parameters that an error lists at most, and ways to take the forks that it looks at.
_MOST_LISTED, _MOST_LOOKED_AT = 10, 1000


@dataclass(frozen=True)
class Condition:
    """Where a coordinate exists.

    Attributes
    ----------
    fork : int
        The coordinate that decides.
    levels : frozenset of int
        At which of its values.
    """

    fork: int
    levels: frozenset[int]


class Space:
    """What a search may propose.

    Use `Space.parse` to build one from ``param_distributions``.

    Attributes
    ----------
    names : list of str or None
        The parameter of each coordinate; None for one that chooses among dicts.
    dimensions : list of Dimension
        One a coordinate.
    conditions : list of Condition or None
        Where each coordinate exists; None for everywhere.
    forks : dict of int to Levels
        The coordinates on which others hang.
    size : float
        Number of distinct points, ``inf`` if no number bounds them.
    """

    def __init__(
        self,
        names: list[str | None],
        dimensions: list[Dimension],
        conditions: list[Condition | None],
    ) -> None:
        self.names = names
        self.dimensions = dimensions
        self.conditions = conditions
        forks = {condition.fork for condition in conditions if condition}
        self.forks = {
            j: dimension
            for j, dimension in enumerate(dimensions)
            if j in forks and isinstance(dimension, Levels)
        }
        # How many points there are of each coordinate and what hangs on it; by level, of forks.
        self._level_sizes: dict[int, list[float]] = {}
        self._sizes = [float(dimension.n_levels) for dimension in dimensions]
        for j in sorted(self.forks, reverse=True):
            self._level_sizes[j] = [
                math.prod((self._sizes[i] for i in self._below(j, level)), start=1.0)
                for level in range(len(self.forks[j]))
            ]
            self._sizes[j] = sum(self._level_sizes[j])
        self.size = math.prod((self._sizes[i] for i in self._below(None)), start=1.0)

    def __repr__(self) -> str:
        n_parameters = len(self._named(range(len(self.names))))
        return f"Space(n_parameters={n_parameters}, size={self.size:g})"

    def _below(self, fork: int | None, level: int = 0) -> list[int]:
        """Return the coordinates that hang on a level of a fork; of none, those everywhere."""
        if fork is None:
            return [i for i, condition in enumerate(self.conditions) if condition is None]
        return [
            i for i, c in enumerate(self.conditions) if c and c.fork == fork and level in c.levels
        ]

    @classmethod
    def parse(cls, param_distributions: Any, estimator: Any = None) -> Space:
        """Read whatever ``RandomizedSearchCV`` accepts, and the dimensions of this package.

        Parameters
        ----------
        param_distributions : dict or list of dict
            Parameter names to choices or distributions. A list of dicts is a choice of branches:
            those given by choices alone weigh as many as their combinations, as in
            ``RandomizedSearchCV``; otherwise all dicts are equally likely.
        estimator : estimator object or None
            If given, names are checked against it.

        Raises
        ------
        TypeError, ValueError
            Naming the parameter and the remedy.
        """
        grown = cls([], [], [])
        grown._grow(parse_space(param_distributions, estimator), None)
        return cls(grown.names, grown.dimensions, grown.conditions)

    def _grow(self, tree: Tree, condition: Condition | None) -> None:
        """Append the coordinates of a tree of parameters that exist on a condition."""
        for name, node in tree.items():
            if condition is not None and self._joins_twin(name, node, condition):
                continue
            here = len(self.names)
            self.names.append(name)
            self.dimensions.append(node.choice if isinstance(node, Fork) else node)
            self.conditions.append(condition)
            if isinstance(node, Fork):
                for level, branch in enumerate(node.branches):
                    self._grow(branch, Condition(here, frozenset([level])))

    def _joins_twin(self, name: str | None, node: Dimension | Fork, condition: Condition) -> bool:
        """Share the coordinate of another option of the same fork that means the same, if any.

        On neither must anything hang.
        """
        if isinstance(node, Fork):
            return False
        forks = {other.fork for other in self.conditions if other}
        for i, other in enumerate(self.conditions):
            if (
                other
                and other.fork == condition.fork
                and self.names[i] == name
                and i not in forks
                and node.same_as(self.dimensions[i])
            ):
                self.conditions[i] = Condition(other.fork, other.levels | condition.levels)
                return True
        return False

    @property
    def kinds(self) -> list[Kind]:
        """The kind of each coordinate."""
        return [dimension.kind for dimension in self.dimensions]

    @property
    def n_levels(self) -> list[float]:
        """The number of values of each coordinate, ``inf`` if no number bounds them."""
        return [dimension.n_levels for dimension in self.dimensions]

    def snap(self, units: Array) -> Array:
        """Move points of shape (n, n_coordinates) to their representatives; NaN where absent."""
        # A coordinate that a point of another branch lacks enters as the middle.
        snapped = np.where(np.isnan(units), 0.5, units)
        np.minimum(np.maximum(snapped, 0.0, out=snapped), 1.0, out=snapped)
        for j, (dimension, condition) in enumerate(
            zip(self.dimensions, self.conditions, strict=True)
        ):
            if not isinstance(dimension, Interval):  # of which all points represent themselves
                snapped[:, j] = dimension.snap(snapped[:, j])
            if condition is not None:
                snapped[~self._holds(condition, snapped), j] = np.nan
        return snapped

    def _holds(self, condition: Condition, units: Array) -> NDArray[np.bool_]:
        """Tell which points, whose forks are snapped, meet a condition."""
        fork = self.forks[condition.fork]
        u = units[:, condition.fork]
        allowed = np.isin(np.arange(len(fork)), sorted(condition.levels))
        return ~np.isnan(u) & allowed[fork.level(np.where(np.isnan(u), 0.5, u))]

    def decode(self, unit: Array) -> dict[str, Any]:
        """Return the parameters of a snapped point, sorted by name."""
        named = [
            (name, dimension.decode(u))
            for name, dimension, u in zip(self.names, self.dimensions, unit.tolist(), strict=True)
            if name is not None and not math.isnan(u)
        ]
        return dict(sorted(named))

    def encode(self, params: Mapping[str, Any]) -> Iterator[tuple[Array, dict[str, Any]]]:
        """Yield the points that hold `params`, with their parameters; none if outside the space.

        Continuous values are kept as they were given; discrete ones become the space's own.
        """
        for start, columns in self._patterns(params):
            leaves = [j for j in columns if j not in self.forks]
            if self._named(columns) != set(params):
                continue
            options = [self._where(j, params) for j in leaves]
            for choice in itertools.product(*options):
                unit = start.copy()
                unit[leaves] = choice
                unit = self.snap(unit[None])[0]
                decoded = self.decode(unit)
                for j in leaves:
                    name = self.names[j]
                    if name is not None and self.dimensions[j].kind == "continuous":
                        decoded[name] = params[name]
                yield unit, decoded

    def _where(self, j: int, params: Mapping[str, Any] | None) -> list[float]:
        """Return where coordinate j holds the value of `params`; all its places if it has no name.

        All as well if `params` is None; none if it lacks the parameter.
        """
        name, dimension = self.names[j], self.dimensions[j]
        if name is None or params is None:
            return list(map(float, dimension.points(np.arange(int(dimension.n_levels)))))
        return dimension.encode(params[name]) if name in params else []

    def _patterns(self, params: Mapping[str, Any] | None) -> Iterator[tuple[Array, list[int]]]:
        """Yield ways to take the forks: a point with their coordinates only, and all it has.

        Those that have the values of `params`; all, if that is None.
        """
        forks = list(self.forks)

        def walk(unit: Array, i: int) -> Iterator[Array]:
            if i == len(forks):
                yield unit
                return
            j, condition = forks[i], self.conditions[forks[i]]
            absent = condition is not None and not self._holds(condition, unit[None])[0]
            for u in [np.nan] if absent else self._where(j, params):
                if params is not None and not np.isnan(u) and not self._brings(j, u) <= set(params):
                    continue
                moved = unit.copy()
                moved[j] = u
                yield from walk(moved, i + 1)

        for unit in walk(np.full(len(self.dimensions), np.nan), 0):
            yield (
                unit,
                [
                    j
                    for j, condition in enumerate(self.conditions)
                    if condition is None or self._holds(condition, unit[None])[0]
                ],
            )

    def _brings(self, fork: int, u: float) -> set[str]:
        """Return the parameters that a candidate has if a fork lies at `u`, whatever the others."""
        level = int(self.forks[fork].level(np.array([u]))[0])
        return self._named(self._below(fork, level))

    def _named(self, columns: Iterable[int]) -> set[str]:
        """Return the parameters of some coordinates."""
        return {name for j in columns if (name := self.names[j]) is not None}

    def parts(self, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield, of more parameters than the space has, those of each branch that they name."""
        for _, columns in self._patterns(params):
            names = sorted(self._named(columns))
            if all(name in params for name in names):
                yield {name: params[name] for name in names}

    def explain_absence(self, params: Mapping[str, Any]) -> str:
        """Say why no point holds `params`."""
        branches = {
            tuple(sorted(self._named(columns))): None
            for _, columns in itertools.islice(self._patterns(None), _MOST_LOOKED_AT)
        }
        if tuple(sorted(params)) not in branches:
            listed = [str(list(names)) for names in itertools.islice(branches, _MOST_LISTED)]
            more = ["..."] if len(branches) > _MOST_LISTED else []
            return (
                f"has the parameters {sorted(params)}; the search space has "
                f"{' or '.join(listed + more)}."
            )
        outside = sorted(
            name
            for name in params
            if not any(
                dimension.encode(params[name])
                for other, dimension in zip(self.names, self.dimensions, strict=True)
                if other == name
            )
        )
        return f"is outside the search space{f' in {outside}' if outside else ''}."

    def features(self, units: Array) -> Array:
        """Return where a distance-based model should see snapped points; NaN where absent."""
        columns = [
            dimension.features(u) for dimension, u in zip(self.dimensions, units.T, strict=True)
        ]
        return np.stack(columns, axis=1) if columns else units

    def slopes(self, unit: Array, gradient: Mapping[str, float]) -> Array:
        """Turn derivatives by parameters at a snapped point into those by features.

        NaN where a coordinate is absent, no number, or has no derivative.
        """
        return np.array(
            [
                math.nan
                if np.isnan(u)
                else dimension.slope(float(u)) * gradient.get(name or "", math.nan)
                for name, dimension, u in zip(self.names, self.dimensions, unit, strict=True)
            ]
        )

    def cells(self, j: int, u: Array) -> tuple[Array, Array]:
        """Return the ends of the cells of the discrete coordinate j that hold `u`."""
        return self.dimensions[j].cells(u)

    def widths(self, j: int, u: Array) -> Array:
        """Return the widths of the cells of the discrete coordinate j that hold `u`."""
        return self.dimensions[j].widths(u)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Draw `n` points as random search would."""
        return self.snap(rng.random((n, len(self.dimensions))))

    def untried(self, rng: np.random.Generator, n: int, tried: Collection[bytes]) -> Array:
        """Draw up to `n` points that are not in `tried`.

        Random ones, but in a small space nothing is overlooked. An object that only draws may
        hide a finite space from us; when that seems exhausted, points repeat, as in random search.
        """
        if self.size <= _SMALL_SPACE:
            points = self._grid[rng.permutation(len(self._grid))]
            return self.fresh(points, tried)[:n]
        for i in range(_TRIES):
            # What is endless may hang on an option that is rarely drawn.
            drawn = self.sample(rng, n if i == 0 else max(n, _N_MORE))
            fresh = self.fresh(drawn, tried)[:n]
            if len(fresh):
                return fresh
        return drawn[:n] if math.isinf(self.size) else self._next_untried(rng, tried)

    def fresh(self, points: Array, tried: Collection[bytes]) -> Array:
        """Return those of snapped points that are not in `tried`."""
        are_new = [self.key(point) not in tried for point in points]
        return points if all(are_new) else points[are_new]

    def _next_untried(self, rng: np.random.Generator, tried: Collection[bytes]) -> Array:
        """Walk through a finite space that is almost exhausted, from a random point on."""
        start, size = int(rng.random() * self.size), int(self.size)
        walk = (self._point((start + step) % size) for step in range(size))
        found = [next((point for point in walk if self.key(point) not in tried), None)]
        return np.array([point for point in found if point is not None]).reshape(
            -1, len(self.dimensions)
        )

    def _point(self, index: int) -> Array:
        """Return the point with number `index` of a finite space."""
        unit = np.full((1, len(self.dimensions)), np.nan)
        self._set(unit, self._below(None), index)
        return np.asarray(self.snap(unit)[0])

    def _set(self, unit: Array, columns: list[int], index: int) -> None:
        """Set some coordinates, and what hangs on them, to their combination number `index`."""
        for j in columns:
            index, level = divmod(index, int(self._sizes[j]))
            if j in self.forks:
                inside, level = level, 0
                while inside >= self._level_sizes[j][level]:
                    inside -= int(self._level_sizes[j][level])
                    level += 1
                self._set(unit, self._below(j, level), inside)
            unit[:, j] = self.dimensions[j].points(np.array([level]))

    @cached_property
    def _grid(self) -> Array:
        """All points of a small space."""
        return np.array([self._point(index) for index in range(int(self.size))])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_grid"}

    @staticmethod
    def key(unit: Array) -> bytes:
        """Return an identity of a snapped point, to tell whether it was tried."""
        return unit.tobytes()
