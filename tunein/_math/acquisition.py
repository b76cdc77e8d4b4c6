"""Log expected improvement, and its maximiser over a mixed cube.

With mean mu, sd s and incumbent f, u = (mu - f) / s:

    EI = s h(u), h(u) = phi(u) + u Phi(u)
    d log EI = (Phi(u) / h(u) d mu + phi(u) / h(u) d s) / s

The logarithm is worked out as such, so that it has a slope where EI itself rounds to zero
(Ament et al. 2023, "Unexpected improvements to expected improvement for Bayesian optimization").
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import erfcx, log_ndtr, ndtr

from tunein._math.design import sobol
from tunein._math.gp import GaussianProcess

Array: TypeAlias = NDArray[np.float64]

_LOG_SQRT_2PI = 0.5 * np.log(2 * np.pi)

# Differences in log that mean nothing: were they looked at, rounding would decide between points
# that are as good, and another machine might decide otherwise.
_RESOLUTION = 1e-6

# Of many points, one in so many, those best by the likeliest set of hyperparameters, are judged by
# all sets.
_JUDGED = 5

# Points scanned, of which the best are climbed from, all at once; and of these the best once more.
_N_SCAN = 512
_N_CLIMBS = (5, 1)

# A climb whose last step gained no more, in log, is over: what is left is less than what the model
# knows.
_CLIMBED = 1e-3

# Widths of its cell by which the next value of a number may be reached, be that in a narrower one.
_BEYOND = 0.6

# Points looked at near the incumbent, and by how much their numbers differ from its: the logarithm
# to base 10 of the standard deviation lies between these.
_N_NEAR = 256
_LOG_STEP = (-2.0, -0.7)

# What more probably fails than not counts less by this power of its probability over one half: an
# improvement that is expected where nothing has succeeded is an extrapolation.
_RELUCTANCE = 10.0
_LOG_HALF = float(np.log(0.5))

# Discrete coordinates swept in a round, at most, so that the cost of a step is bounded.
_N_SWEPT = 24


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


def log_ei(mean: Array, sd: Array, incumbent: float | Array) -> Array:
    """Return the log of the expected improvement over `incumbent`, greater is better."""
    return np.log(sd) + log_h((mean - incumbent) / sd)


def log_ei_gradient(
    gp: Posterior, x: Array, columns: NDArray[np.intp], incumbent: float | Array
) -> tuple[Array, Array]:
    """Return log-EI (m,) and its gradients (m, c) in the numeric `columns` at points x (m, g)."""
    mean, sd, d_mean, d_sd = gp.predict_gradient(x, columns)
    u = (mean - incumbent) / sd
    log_value = log_h(u)
    by_mean = np.exp(log_ndtr(u) - log_value)
    by_sd = np.exp(-0.5 * u * u - _LOG_SQRT_2PI - log_value)
    gradient = (by_mean[..., None] * d_mean + by_sd[..., None] * d_sd) / sd[..., None]
    return np.log(sd) + log_value, gradient


class Posterior(Protocol):
    """What a surrogate believes, for s sets of hyperparameters."""

    def likeliest(self) -> Posterior:
        """Return what it believes for the first set; itself if that is the only one."""

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation (s, m) at features x of shape (m, g)."""

    def predict_gradient(
        self, x: Array, columns: NDArray[np.intp]
    ) -> tuple[Array, Array, Array, Array]:
        """Return both (s, m), and their gradients (s, m, c) in the numeric `columns`."""


class Acquisition(Protocol):
    """What is maximised."""

    @property
    def rough(self) -> Acquisition:
        """About the same, but sooner; itself if there is no such thing."""
        return self

    def __call__(self, x: Array) -> Array:
        """Return the value at features x of shape (m, g)."""

    def gradient(self, x: Array, columns: NDArray[np.intp]) -> tuple[Array, Array]:
        """Return values (m,) and gradients (m, c) in the numeric `columns` at features x (m, g)."""


class LogEI(Acquisition):
    """The log of expected improvement, the expectation over hyperparameters as well.

    That one believes in several sets of hyperparameters is what integrates them out (Snoek,
    Larochelle & Adams 2012, "Practical Bayesian optimization of machine learning algorithms").

    Parameters
    ----------
    gp : Posterior
        With s sets of hyperparameters.
    incumbent : ndarray of shape (s,)
        What is to be improved on, by set.
    """

    def __init__(self, gp: Posterior, incumbent: Array) -> None:
        self.gp, self._incumbent = gp, incumbent[:, None]

    @property
    def rough(self) -> Acquisition:
        """The same by the likeliest set of hyperparameters alone."""
        gp = self.gp.likeliest()
        return self if gp is self.gp else LogEI(gp, self._incumbent[0])

    def __call__(self, x: Array) -> Array:
        """Return the value at features x of shape (m, g)."""
        return _log_mean(log_ei(*self.gp.predict(x), self._incumbent))

    def gradient(self, x: Array, columns: NDArray[np.intp]) -> tuple[Array, Array]:
        """Return values (m,) and gradients (m, c) in the numeric `columns` at features x (m, g)."""
        each, slopes = log_ei_gradient(self.gp, x, columns, self._incumbent)
        total = _log_mean(each)
        shares = np.exp(each - total) / len(each)
        return total, np.einsum("sm,smc->mc", shares, slopes)


class Mean(Acquisition):
    """What is expected of a point, the mean over hyperparameters.

    Parameters
    ----------
    gp : Posterior
        With s sets of hyperparameters.
    """

    def __init__(self, gp: Posterior) -> None:
        self._gp = gp

    def __call__(self, x: Array) -> Array:
        """Return the value at features x of shape (m, g)."""
        return np.asarray(self._gp.predict(x)[0].mean(axis=0))

    def gradient(self, x: Array, columns: NDArray[np.intp]) -> tuple[Array, Array]:
        """Return values (m,) and gradients (m, c) in the numeric `columns` at features x (m, g)."""
        mean, _, slope, _ = self._gp.predict_gradient(x, columns)
        return np.asarray(mean.mean(axis=0)), np.asarray(slope.mean(axis=0))


class UpperBound(Acquisition):
    """What a point is worth at most, with confidence; the mean over hyperparameters.

    Parameters
    ----------
    gp : Posterior
        With s sets of hyperparameters.
    width : float
        How many standard deviations above the mean.
    """

    def __init__(self, gp: Posterior, width: float) -> None:
        self._gp, self._width = gp, width

    def __call__(self, x: Array) -> Array:
        """Return the value at features x of shape (m, g)."""
        mean, sd = self._gp.predict(x)
        return np.asarray((mean + self._width * sd).mean(axis=0))

    def gradient(self, x: Array, columns: NDArray[np.intp]) -> tuple[Array, Array]:
        """Return values (m,) and gradients (m, c) in the numeric `columns` at features x (m, g)."""
        mean, sd, d_mean, d_sd = self._gp.predict_gradient(x, columns)
        value, slope = mean + self._width * sd, d_mean + self._width * d_sd
        return np.asarray(value.mean(axis=0)), np.asarray(slope.mean(axis=0))


def _log_mean(logs: Array) -> Array:
    top = logs.max(axis=0)
    return np.asarray(top + np.log(np.exp(logs - top).mean(axis=0)))


class Feasible(Acquisition):
    """An acquisition where fits may fail: the log probability that one succeeds is added.

    Gardner, Kusner, Xu, Weinberger & Cunningham 2014, "Bayesian optimization with inequality
    constraints". What fails has no score that a model of scores could make sense of, so beyond a
    border it goes on as before, and may promise more than any probability could offset. Hence
    points that more probably fail are left until little else is to be gained.

    Parameters
    ----------
    acquisition : Acquisition
        For successful fits.
    gp : GaussianProcess
        Of successes and failures as two numbers, with one set of hyperparameters.
    middle : float
        Halfway between the two; success is above.
    """

    def __init__(self, acquisition: Acquisition, gp: GaussianProcess, middle: float) -> None:
        self._acquisition, self._gp, self._middle = acquisition, gp, middle
        self._noise = float(np.exp(gp.theta[-1]))

    @property
    def rough(self) -> Acquisition:
        """The same of a rough acquisition, if there is one."""
        rough = self._acquisition.rough
        return self if rough is self._acquisition else Feasible(rough, self._gp, self._middle)

    def __call__(self, x: Array) -> Array:
        """Return the value at features x of shape (m, g)."""
        mean, sd = self._gp.predict(x)
        log_p = log_ndtr((mean - self._middle) / np.sqrt(sd**2 + self._noise))
        return np.asarray(self._acquisition(x) + self._weight(log_p))

    def gradient(self, x: Array, columns: NDArray[np.intp]) -> tuple[Array, Array]:
        """Return values (m,) and gradients (m, c) in the numeric `columns` at features x (m, g)."""
        value, slope = self._acquisition.gradient(x, columns)
        mean, sd, d_mean, d_sd = self._gp.predict_gradient(x, columns)
        spread = np.sqrt(sd**2 + self._noise)
        odds = (mean - self._middle) / spread
        d_odds = (d_mean - (odds * sd / spread)[:, None] * d_sd) / spread[:, None]
        log_p = log_ndtr(odds)
        by_odds = np.exp(-0.5 * odds**2 - _LOG_SQRT_2PI - log_p)
        by_odds = np.where(log_p < _LOG_HALF, 1 + _RELUCTANCE, 1) * by_odds
        return np.asarray(value + self._weight(log_p)), slope + by_odds[:, None] * d_odds

    @staticmethod
    def _weight(log_p: Array) -> Array:
        return np.asarray(log_p + _RELUCTANCE * np.minimum(log_p - _LOG_HALF, 0))


class PerCost(Acquisition):
    """An acquisition per cost: a multiple of the logarithm that is expected of it is taken away.

    Of EI / cost^a the logarithm is log EI - a log cost (Lee, Perrone, Archambeau & Seeger 2020,
    "Cost-aware Bayesian optimization").

    Parameters
    ----------
    acquisition : Acquisition
        A logarithm.
    gp : GaussianProcess
        Of log costs, in any unit, with one set of hyperparameters.
    exponent : float
        a, times that unit.
    """

    def __init__(self, acquisition: Acquisition, gp: GaussianProcess, exponent: float) -> None:
        self._acquisition, self._gp, self._exponent = acquisition, gp, exponent

    @property
    def rough(self) -> Acquisition:
        """The same of a rough acquisition, if there is one."""
        rough = self._acquisition.rough
        return self if rough is self._acquisition else PerCost(rough, self._gp, self._exponent)

    def __call__(self, x: Array) -> Array:
        """Return the value at features x of shape (m, g)."""
        return np.asarray(self._acquisition(x) - self._exponent * self._gp.predict(x)[0])

    def gradient(self, x: Array, columns: NDArray[np.intp]) -> tuple[Array, Array]:
        """Return values (m,) and gradients (m, c) in the numeric `columns` at features x (m, g)."""
        value, slope = self._acquisition.gradient(x, columns)
        cost, _, d_cost, _ = self._gp.predict_gradient(x, columns)
        return np.asarray(value - self._exponent * cost), slope - self._exponent * d_cost


def maximise(
    acquisition: Acquisition,
    cube: Cube,
    best: Array,
    tried: Collection[bytes],
    rng: np.random.Generator,
) -> Array:
    """Return an untried point of large acquisition.

    A Sobol' scan of the cube and a cloud around the `best` observed points give starts; from them
    gradient steps on continuous coordinates, of all at once, and sweeps over discrete ones take
    turns.

    Parameters
    ----------
    acquisition : Acquisition
    cube : Cube
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
    scan = sobol(_N_SCAN, best.shape[1], rng)
    points = cube.snap(np.concatenate([scan, _around(best, cube.kinds, rng)]))
    points = points[_fresh(cube, points, tried)]
    if not len(points):
        points = cube.untried(rng, _N_SCAN, tried)
    points, values = _judged(acquisition, cube, points)
    for n in _N_CLIMBS:
        order = _ranking(values)[:n]
        points, values = points[order], values[order]
        before = values.max()
        moves = _climb(acquisition, cube, points, values)
        _take_better(points, values, *moves, acquisition, cube, tried)
        moves = _neighbours(cube, points, rng)
        _take_better(points, values, *moves, acquisition, cube, tried)
        if values.max() <= before + _RESOLUTION:
            break
    return np.asarray(points[_ranking(values)[0]])


def nearby(
    acquisition: Acquisition,
    cube: Cube,
    incumbent: Array,
    tried: Collection[bytes],
    rng: np.random.Generator,
) -> Array:
    """Return untried points that differ a little from the incumbent, the best one only.

    About half of the numbers are moved a little, at least to their next value, and every other time
    about one category is drawn anew.

    Parameters
    ----------
    acquisition, cube, tried, rng
        As in `maximise`.
    incumbent : ndarray of shape (g,)
        Snapped.

    Returns
    -------
    points : ndarray of shape (1, g) or (0, g)
        Snapped; none if all that were looked at have been tried.
    """
    base = np.tile(incumbent, (_N_NEAR, 1))
    kinds = np.array(cube.kinds)
    categorical = kinds == "categorical"
    steps = 10.0 ** rng.uniform(*_LOG_STEP, (_N_NEAR, 1)) * rng.standard_normal(base.shape)
    for j in np.flatnonzero((kinds == "ordinal") & ~np.isnan(incumbent)):
        lower, upper = cube.cells(int(j), incumbent[[j]])
        least = _BEYOND * (upper - lower)
        steps[:, j] = np.copysign(np.maximum(np.abs(steps[:, j]), least), steps[:, j])
    target = np.where(categorical, rng.random(base.shape), np.clip(base + steps, 0, 1))
    chance = np.where(categorical, 0.5 / max(categorical.sum(), 1), 0.5)
    points = cube.snap(np.where(rng.random(base.shape) < chance, target, base))
    points = points[_fresh(cube, points, tried)]
    if not len(points):
        return points
    points, values = _judged(acquisition, cube, points)
    return points[_ranking(values)[:1]]


def _judged(acquisition: Acquisition, cube: Cube, points: Array) -> tuple[Array, Array]:
    """Return those of many points among which the best is, and their acquisition."""
    rough = acquisition.rough
    if rough is not acquisition:
        order = _ranking(rough(cube.features(points)))
        points = points[order[: -(-len(order) // _JUDGED)]]
    return points, acquisition(cube.features(points))


def _ranking(values: Array) -> NDArray[np.intp]:
    """Return the order of falling acquisition, the first first where values are about equal."""
    return np.argsort(-np.round(values / _RESOLUTION), kind="stable")


def _take_better(
    here: Array,
    height: Array,
    owner: NDArray[np.intp],
    moves: Array,
    acquisition: Acquisition,
    cube: Cube,
    tried: Collection[bytes],
) -> None:
    """Move each point `here`, of this `height`, to the best of its own moves that is higher."""
    fresh = _fresh(cube, moves, tried)
    if not len(fresh):
        return
    owner, moves = owner[fresh], moves[fresh]
    heights = acquisition(cube.features(moves))
    for i in _ranking(heights):
        if heights[i] > height[owner[i]] + _RESOLUTION:
            here[owner[i]], height[owner[i]] = moves[i], heights[i]


def _fresh(cube: Cube, points: Array, tried: Collection[bytes]) -> NDArray[np.intp]:
    return np.flatnonzero([cube.key(point) not in tried for point in points])


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


def _climb(
    acquisition: Acquisition, cube: Cube, points: Array, heights: Array
) -> tuple[NDArray[np.intp], Array]:
    """Return which point each move is of, and the moves: up along continuous coordinates.

    All points, of these `heights`, climb together, as one sum of as many variables: few calls with
    many points each.
    """
    columns = np.flatnonzero([kind == "continuous" for kind in cube.kinds])
    if not len(columns):
        return np.empty(0, dtype=np.intp), points[:0]
    x = cube.features(points)
    absent = np.isnan(points[:, columns])

    def loss(u: Array) -> tuple[float, Array]:
        x[:, columns] = np.where(absent, np.nan, u.reshape(absent.shape))
        height, gradient = acquisition.gradient(x, columns)
        # What was gained, since the precision that is asked for is relative to it.
        gain = height - heights
        return -float(gain.sum()), -np.where(absent, 0.0, gradient).ravel()

    start = np.where(absent, 0.5, points[:, columns]).ravel()
    found: Any = minimize(
        loss, start, jac=True, bounds=[(0.0, 1.0)] * len(start), method="L-BFGS-B",
        options={"maxiter": 20, "maxfun": 30, "ftol": _CLIMBED},
    )  # fmt: skip
    climbed = points.copy()
    climbed[:, columns] = np.where(absent, np.nan, found.x.reshape(absent.shape))
    return np.arange(len(points)), cube.snap(climbed)


def _neighbours(
    cube: Cube, points: Array, rng: np.random.Generator
) -> tuple[NDArray[np.intp], Array]:
    """Return which point each move is of, and the moves: to another value of one coordinate."""
    discrete = np.flatnonzero([kind != "continuous" for kind in cube.kinds])
    if len(discrete) > _N_SWEPT:
        discrete = rng.choice(discrete, _N_SWEPT, replace=False)
    rows, owners = [points[:0]], [np.empty(0, dtype=np.intp)]
    for j in discrete.tolist():
        here = np.flatnonzero(~np.isnan(points[:, j]))
        if not len(here):
            continue
        # One place in each sixteenth: all of few values, some of many.
        values = (np.arange(16) + rng.random((len(here), 16))) / 16
        if cube.kinds[j] == "ordinal":
            lower, upper = cube.cells(j, points[here, j])
            steps = (upper - lower)[:, None] * np.array([-3, -2, -1, -_BEYOND, _BEYOND, 1, 2, 3])
            values = np.concatenate([values, points[here, j, None] + steps], axis=1)
        block = np.repeat(points[here], values.shape[1], axis=0)
        block[:, j] = np.clip(values, 0, 1).ravel()
        rows.append(block)
        owners.append(np.repeat(here, values.shape[1]))
    moves = np.column_stack([np.concatenate(owners), cube.snap(np.concatenate(rows))])
    moves = np.unique(moves, axis=0)
    return moves[:, 0].astype(np.intp), moves[:, 1:]
