"""Log expected improvement, and its maximiser over a mixed cube.

With mean mu, sd s and incumbent f, u = (mu - f) / s:

    EI = s h(u), h(u) = phi(u) + u Phi(u)
    d log EI = (Phi(u) / h(u) d mu + phi(u) / h(u) d s) / s

The logarithm is worked out as such, so that it has a slope where EI itself rounds to zero
(Ament et al. 2023, "Unexpected improvements to expected improvement for Bayesian optimization").
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import erfcx, log_ndtr, ndtr

from tunein._math.design import sobol
from tunein._math.gp import GaussianProcess

Array: TypeAlias = NDArray[np.float64]

_LOG_SQRT_2PI = 0.5 * np.log(2 * np.pi)

# Points scanned, of which so many are climbed from; more of either changed no result.
_N_SCAN = 512
_N_CLIMBS = 4
_ROUNDS = 3


class Cube(Protocol):
    """What the maximiser needs to know of a search space."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kind of each coordinate."""

    def snap(self, units: Array) -> Array:
        """Move points to those that represent them."""

    def features(self, units: Array) -> Array:
        """Return where a distance-based model sees them."""

    def cells(self, j: int, u: Array) -> tuple[Array, Array]:
        """Return the ends of the cells of discrete coordinate j that hold u."""

    def untried(self, rng: np.random.Generator, n: int, tried: Collection[bytes]) -> Array:
        """Draw points that are not in `tried`."""

    def key(self, unit: Array) -> bytes:
        """Return the identity of a point."""


def log_h(u: Array) -> Array:
    """Return log(phi(u) + u Phi(u)), to full relative precision for all u.

    Notes
    -----
    Three ranges. Above -1 nothing cancels. Below, h = phi(u) (1 - |u| M(u)) with Mills' ratio
    M(u) = sqrt(pi / 2) erfcx(|u| / sqrt 2), which needs no subtraction of small numbers until
    |u| M(u) itself rounds to one; from there on the leading term of its series, 1 / u^2.
    """
    u = np.asarray(u, dtype=float)
    out = np.empty_like(u)
    high, low = u > -1, u < -1e5
    middle = ~high & ~low
    with np.errstate(under="ignore"):
        x = u[high]
        out[high] = np.log(np.exp(-0.5 * x * x - _LOG_SQRT_2PI) + x * ndtr(x))
        x = -u[middle]
        out[middle] = -0.5 * x * x - _LOG_SQRT_2PI + np.log(_one_minus_mills(x))
        x = -u[low]
        out[low] = -0.5 * x * x - _LOG_SQRT_2PI - 2 * np.log(x)
    return out


def _one_minus_mills(x: Array) -> Array:
    """Return 1 - x M(x) for x >= 1."""
    direct = 1 - x * np.sqrt(np.pi / 2) * erfcx(x / np.sqrt(2))
    # At x = 70 the difference has lost 4 digits of 16; the series, cut at 10395 / x^10, has all.
    z = 1 / np.maximum(x, 1.0) ** 2
    series = z * (1 - 3 * z * (1 - 5 * z * (1 - 7 * z * (1 - 9 * z))))
    return np.where(x > 70, series, direct)


def log_ei(mean: Array, sd: Array, incumbent: float) -> Array:
    """Return the log of the expected improvement over `incumbent`, greater is better."""
    return np.log(sd) + log_h((mean - incumbent) / sd)


def log_ei_gradient(
    gp: GaussianProcess, x: Array, columns: NDArray[np.intp], incumbent: float
) -> tuple[float, Array]:
    """Return log-EI and its gradient in the numeric `columns` at one point x of shape (g,)."""
    mean, sd, d_mean, d_sd = gp.predict_gradient(x, columns)
    u = np.array((mean - incumbent) / sd)
    log_value = log_h(u)
    by_mean = np.exp(log_ndtr(u) - log_value)
    by_sd = np.exp(-0.5 * u * u - _LOG_SQRT_2PI - log_value)
    return float(np.log(sd) + log_value), (by_mean * d_mean + by_sd * d_sd) / sd


def maximise(
    gp: GaussianProcess,
    cube: Cube,
    incumbent: float,
    best: Array,
    tried: Collection[bytes],
    rng: np.random.Generator,
) -> Array:
    """Return an untried point of large expected improvement.

    A Sobol' scan of the cube and a cloud around the `best` observed points give starts; from each,
    gradient steps on continuous coordinates and sweeps over discrete ones take turns.

    Parameters
    ----------
    gp : GaussianProcess
    cube : Cube
    incumbent : float
        Best posterior mean at an observed point.
    best : ndarray of shape (k, g)
        The best observed points, snapped.
    tried : collection of bytes
        Keys of points not to return.
    rng : numpy Generator

    Returns
    -------
    point : ndarray of shape (g,)
        Snapped.
    """

    def value(points: Array) -> Array:
        if not len(points):
            return np.empty(0)
        return log_ei(*gp.predict(cube.features(points)), incumbent)

    def is_fresh(point: Array) -> bool:
        return cube.key(point) not in tried

    g = best.shape[1]
    cloud = cube.snap(np.concatenate([sobol(_N_SCAN, g, rng), _around(best, cube.kinds, rng)]))
    points = _only(is_fresh, cloud)
    if not len(points):
        points = cube.untried(rng, _N_SCAN, tried)
    values = value(points)
    order = np.argsort(-values, kind="stable")[:_N_CLIMBS]
    top, top_value = points[order[0]], values[order[0]]
    for start, start_value in zip(points[order], values[order], strict=True):
        here, height = start, start_value
        for _ in range(_ROUNDS):
            before = height
            for move in (_climb(gp, cube, incumbent, here), _neighbours(cube, here)):
                moves = _only(is_fresh, move)
                heights = value(moves)
                if len(moves) and heights.max() > height:
                    here, height = moves[int(np.argmax(heights))], heights.max()
            if height <= before + 1e-6:
                break
        if height > top_value:
            top, top_value = here, height
    return np.asarray(top)


def _only(is_fresh: Callable[[Array], bool], points: Array) -> Array:
    fresh = np.array([is_fresh(point) for point in points], dtype=bool)
    return np.asarray(points[fresh])


def _around(best: Array, kinds: Sequence[str], rng: np.random.Generator) -> Array:
    """Return points near the best ones: some coordinates moved, a little or afresh."""
    per_point = 32
    base = np.repeat(best, per_point, axis=0)
    scale = 10.0 ** -rng.uniform(0.5, 2.5, size=(len(base), 1))
    moved = np.clip(base + scale * rng.standard_normal(base.shape), 0, 1)
    afresh = rng.random(base.shape)
    categorical = np.array(kinds) == "categorical"
    moved = np.where(categorical, afresh, moved)
    chance = np.where(categorical, 0.2, max(0.3, 1 / max(base.shape[1], 1)))
    return np.where(rng.random(base.shape) < chance, moved, base)


def _climb(gp: GaussianProcess, cube: Cube, incumbent: float, point: Array) -> Array:
    """Return the point after gradient ascent on its continuous coordinates, shape (1, g)."""
    continuous = np.array([kind == "continuous" for kind in cube.kinds], dtype=bool)
    columns = np.flatnonzero(continuous & ~np.isnan(point))
    if not len(columns):
        return np.empty((0, len(point)))
    x = cube.features(point[None])[0]

    def loss(u: Array) -> tuple[float, Array]:
        x[columns] = u
        height, gradient = log_ei_gradient(gp, x, columns, incumbent)
        return -height, -gradient

    found: Any = minimize(
        loss, point[columns], jac=True, bounds=[(0, 1)] * len(columns), method="L-BFGS-B",
        options={"maxiter": 20},
    )  # fmt: skip
    climbed = point.copy()
    climbed[columns] = found.x
    return cube.snap(climbed[None])


def _neighbours(cube: Cube, point: Array) -> Array:
    """Return the points that differ from `point` in one discrete coordinate."""
    rows = [np.empty((0, len(point)))]
    for j, kind in enumerate(cube.kinds):
        if kind == "continuous" or np.isnan(point[j]):
            continue
        lower, upper = cube.cells(j, point[j : j + 1])
        width = float(upper[0] - lower[0])
        grid = (np.arange(16) + 0.5) / 16
        steps = point[j] + width * np.array([-3, -2, -1, 1, 2, 3]) if kind == "ordinal" else grid
        block = np.repeat(point[None], len(grid) + len(steps), axis=0)
        block[:, j] = np.clip(np.concatenate([grid, steps]), 0, 1)
        rows.append(block)
    block = cube.snap(np.concatenate(rows))
    return np.asarray(np.unique(block, axis=0))
