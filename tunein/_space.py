"""The search space as a unit cube: parameters in, points out, and back.

A point is a row of the cube. Each coordinate belongs to one parameter; a list of dicts adds a first
coordinate that says which dict, the *branch*, the point lies in. Coordinates of parameters that the
branch does not have are NaN.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunein._dimensions import Array, Dimension, Kind, Levels
from tunein._parse import check_names, parse_branches, parse_dimension

# Spaces of at most so many points are enumerated when untried ones are wanted.
_SMALL_SPACE = 4096

# Draws from a larger space after which none new means that none is likely.
_TRIES = 20


class Space:
    """What a search may propose.

    Use `Space.parse` to build one from ``param_distributions``.

    Attributes
    ----------
    names : list of str or None
        The parameter of each coordinate; None for the coordinate that chooses the branch.
    dimensions : list of Dimension
        One a coordinate.
    active : ndarray of bool, shape (n_branches, n_coordinates)
        Which coordinates each branch has.
    size : float
        Number of distinct points, ``inf`` if no number bounds them.
    """

    def __init__(
        self, names: list[str | None], dimensions: list[Dimension], active: NDArray[np.bool_]
    ) -> None:
        self.names = names
        self.dimensions = dimensions
        self.active = active
        levels = np.array(self.n_levels, dtype=float)
        first = 1 if len(active) > 1 else 0
        self._branch_sizes = [math.prod(levels[first:][mask[first:]].tolist()) for mask in active]
        self.size = float(sum(self._branch_sizes))

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
        branches = []
        for where, entries in parse_branches(param_distributions):
            branch = {
                name: parse_dimension(value, f"{where}[{name!r}]")
                for name, value in entries.items()
            }
            if estimator is not None:
                check_names(branch, where, estimator)
            branches.append(branch)
        return cls._join(branches, _branch_weights(param_distributions, branches))

    @classmethod
    def _join(cls, branches: list[dict[str, Dimension]], weights: list[float]) -> Space:
        """Lay branches side by side; equal dimensions of one parameter share a coordinate."""
        columns: list[tuple[str | None, Dimension]] = []
        if len(branches) > 1:
            columns.append((None, Levels(range(len(branches)), weights=weights)))
        members: list[set[int]] = []
        for branch in branches:
            mine = {0} if len(branches) > 1 else set()
            for name, dimension in branch.items():
                shared = (
                    i
                    for i, (other, twin) in enumerate(columns)
                    if other == name and dimension.same_as(twin)
                )
                index = next(shared, len(columns))
                if index == len(columns):
                    columns.append((name, dimension))
                mine.add(index)
            members.append(mine)
        active = np.zeros((len(branches), len(columns)), dtype=bool)
        for row, mine in zip(active, members, strict=True):
            row[sorted(mine)] = True
        return cls([name for name, _ in columns], [dim for _, dim in columns], active)

    @property
    def kinds(self) -> list[Kind]:
        """The kind of each coordinate."""
        return [dimension.kind for dimension in self.dimensions]

    @property
    def n_levels(self) -> list[float]:
        """The number of values of each coordinate, ``inf`` if no number bounds them."""
        return [dimension.n_levels for dimension in self.dimensions]

    def branch(self, units: Array) -> NDArray[np.intp]:
        """Return the branch in which each point of shape (n, n_coordinates) lies."""
        choice = self.dimensions[0] if len(self.active) > 1 else None
        if not isinstance(choice, Levels):
            return np.zeros(len(units), dtype=np.intp)
        return choice.level(units[:, 0])

    def snap(self, units: Array) -> Array:
        """Move points of shape (n, n_coordinates) to their representatives; NaN where absent."""
        snapped = np.full(units.shape, np.nan)
        mask = self.active[self.branch(units)]
        for j, dimension in enumerate(self.dimensions):
            rows = mask[:, j]
            # A coordinate that a point of another branch lacks enters as the middle.
            here = units[rows, j]
            snapped[rows, j] = dimension.snap(np.where(np.isnan(here), 0.5, here))
        return snapped

    def decode(self, unit: Array) -> dict[str, Any]:
        """Return the parameters of a snapped point, sorted by name."""
        named = [
            (name, dimension.decode(float(u)))
            for name, dimension, u in zip(self.names, self.dimensions, unit, strict=True)
            if name is not None and not np.isnan(u)
        ]
        return dict(sorted(named))

    def encode(self, params: Mapping[str, Any]) -> Iterator[tuple[Array, dict[str, Any]]]:
        """Yield the points that hold `params`, with their parameters; none if outside the space.

        Continuous values are kept as they were given; discrete ones become the space's own.
        """
        for b, mask in enumerate(self.active):
            columns = np.flatnonzero(mask)
            names = [self.names[j] for j in columns]
            if {name for name in names if name is not None} != set(params):
                continue
            options = [
                self.dimensions[j].encode(b if name is None else params[name])
                for j, name in zip(columns, names, strict=True)
            ]
            for choice in itertools.product(*options):
                unit = np.full(len(self.dimensions), np.nan)
                unit[columns] = choice
                unit = self.snap(unit[None])[0]
                decoded = self.decode(unit)
                for j, name in zip(columns, names, strict=True):
                    if name is not None and self.dimensions[j].kind == "continuous":
                        decoded[name] = params[name]
                yield unit, decoded

    @property
    def branch_names(self) -> list[list[str]]:
        """The parameters of each branch."""
        return [
            [name for name, here in zip(self.names, mask, strict=True) if here and name is not None]
            for mask in self.active
        ]

    def explain_absence(self, params: Mapping[str, Any]) -> str:
        """Say why no point holds `params`."""
        fitting = [names for names in self.branch_names if set(names) == set(params)]
        if not fitting:
            options = " or ".join(str(sorted(names)) for names in self.branch_names)
            return f"has the parameters {sorted(params)}; the search space has {options}."
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
            np.where(np.isnan(u), np.nan, dimension.features(np.where(np.isnan(u), 0.5, u)))
            for dimension, u in zip(self.dimensions, units.T, strict=True)
        ]
        return np.stack(columns, axis=1) if columns else units

    def cells(self, j: int, u: Array) -> tuple[Array, Array]:
        """Return the ends of the cells of the discrete coordinate j that hold `u`."""
        return self.dimensions[j].cells(u)

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
            return points[self._fresh(points, tried)[:n]]
        for _ in range(_TRIES):
            drawn = self.sample(rng, n)
            fresh = self._fresh(drawn, tried)
            if len(fresh):
                return drawn[fresh]
        return drawn if math.isinf(self.size) else self._next_untried(rng, tried)

    def _fresh(self, points: Array, tried: Collection[bytes]) -> NDArray[np.intp]:
        return np.flatnonzero([self.key(point) not in tried for point in points])

    def _next_untried(self, rng: np.random.Generator, tried: Collection[bytes]) -> Array:
        """Walk through a finite space that is almost exhausted, from a random point on."""
        start, size = int(rng.random() * self.size), int(self.size)
        walk = (self._point((start + step) % size) for step in range(size))
        found = [next((point for point in walk if self.key(point) not in tried), None)]
        return np.array([point for point in found if point is not None]).reshape(
            -1, len(self.dimensions)
        )

    def _point(self, index: int) -> Array:
        """Return the point with number `index` of a finite space, branch by branch."""
        b = 0
        while index >= self._branch_sizes[b]:
            index -= int(self._branch_sizes[b])
            b += 1
        unit = np.full((1, len(self.dimensions)), np.nan)
        for j in np.flatnonzero(self.active[b]):
            level = b
            if self.names[j] is not None:
                index, level = divmod(index, int(self.dimensions[j].n_levels))
            unit[:, j] = self.dimensions[j].points(np.array([level]))
        return np.asarray(self.snap(unit)[0])

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


class Branch(Space):
    """One branch of a space that has several; its points are points of the whole space.

    Parameters
    ----------
    whole : Space
    b : int
    """

    def __init__(self, whole: Space, b: int) -> None:
        super().__init__(whole.names, whole.dimensions, whole.active)
        self._whole = whole
        self._place = whole.dimensions[0].points(np.array([b]))[0]

    def snap(self, units: Array) -> Array:
        """Move points to their representatives in this branch."""
        moved = np.array(units)
        moved[:, 0] = self._place
        return super().snap(moved)

    def untried(self, rng: np.random.Generator, n: int, tried: Collection[bytes]) -> Array:
        """Draw points from anywhere: this branch may be exhausted."""
        return self._whole.untried(rng, n, tried)


def _branch_weights(param_distributions: Any, branches: list[dict[str, Dimension]]) -> list[float]:
    spaces = param_distributions if isinstance(param_distributions, list) else [{}]
    only_lists = not any(hasattr(v, "rvs") for space in spaces for v in space.values())
    sizes = [math.prod((float(d.n_levels) for d in b.values()), start=1.0) for b in branches]
    if only_lists and all(math.isfinite(size) for size in sizes):
        return [float(size) for size in sizes]
    return [1.0] * len(branches)
