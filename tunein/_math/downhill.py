"""Where to go downhill next, from losses and their slopes at the points so far.

Notation: points x in the cube, z = log loss, g = dz/dx. Differences of z are relative ones of the
loss, so one tolerance means the same for every loss.

One coordinate has its order: between two neighbours the cubic that has both values and both
slopes is minimised. Several are seen through a Gaussian process that is told the slopes; its mean
is descended within a trust region around the best point, which grows while what it promises is
kept and shrinks where it is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from tunein._math.losses import Array
from tunein._math.slopes import SlopedGaussianProcess

# Steps from the outermost point, in parts of the cube, where it is still downhill.
_LEAST_STEP, _FIRST_STEP, _MOST_STEP = 0.1, 0.25, 0.4

# So close to an end the end itself is meant.
_END = 0.02

# Part of an interval that a cubic's minimum keeps from both ends, so that no step is wasted; and of
# a wide one, as _WIDE is, where a cubic knows little.
_INSIDE, _INSIDE_WIDE = 0.02, 0.25

# Slopes that keep this part of what they were from one step to the next have hardly changed.
_HARDLY = 0.5

# Part of a line that is looked at before it is left.
_LOOKED_AT = 0.5

# Ends of a valley that are farther apart may hide its bottom.
_WIDE = 0.25

# Radius of the trust region: first, least and most.
_RADIUS, _LEAST_RADIUS, _MOST_RADIUS = 0.25, 0.01, 1.0

# Below this part of what was promised a step was a failure; above, a success.
_KEPT_LITTLE, _KEPT_MUCH = 0.1, 0.5

# Points within the region that are drawn to find one to minimise from, beside its centre.
_N_DRAWN = 64


def has_one_valley(x: Array, g: Array) -> bool:
    """Tell whether slopes g at points x of a line fall to one minimum and rise from it."""
    signs = np.sign(g[np.argsort(x, kind="stable")])
    return bool(np.all(np.diff(signs[signs != 0]) >= 0))


def off_plateau(x: Array, flat: Array, n_before: int = 0) -> Array:
    """Return a point a step beyond the edge of a plateau, half as far as the last time.

    Parameters
    ----------
    x : ndarray of shape (c,)
        A point on the plateau.
    flat : ndarray of shape (c,)
        Where the plateau begins, for each coordinate along which it is one; NaN for others.
    n_before : int
        How many points off the plateau are known, where it is not downhill either.
    """
    way = np.sign(flat - x)
    room = np.where(way < 0, flat, 1 - flat)
    return np.where(np.isnan(flat), x, flat + way * np.minimum(_FIRST_STEP / 2**n_before, room / 2))


@dataclass(frozen=True)
class Step:
    """What to try next.

    Attributes
    ----------
    x : ndarray of shape (c,)
        The point.
    promise : float
        How far z is expected to fall below the best so far; ``inf`` if nobody knows.
    note : dict
        What the next step wants to know of this one.
    """

    x: Array
    promise: float
    note: Mapping[str, Any]


def line_step(points: Array, z: Array, slopes: Array, flats: Array, j: int, tol: float) -> Step:
    """Return the next point on the line along coordinate `j`.

    Parameters
    ----------
    points, slopes : ndarray of shape (n, c)
        Points and slopes.
    z : ndarray of shape (n,)
        Log losses.
    flats : ndarray of shape (n, c)
        Where z is constant from a place on, past the point: that place; NaN elsewhere.
    j : int
        The only coordinate that differs.
    tol : float
        A promise of no more is none.

    Returns
    -------
    step : Step
        Of promise zero if no better point is in sight.
    """
    x, g, flat = points[:, j], slopes[:, j], flats[:, j]
    here = np.where(np.isnan(flat), x, flat)
    order = np.argsort(here, kind="stable")
    order = order[np.append(True, np.diff(here[order]) > 1e-9)]
    x, z, g, here, flat = x[order], z[order], g[order], here[order], flat[order]
    # Beyond a flat point there is nothing to gain: it is an end of the line.
    low = here[0] if flat[0] > x[0] else 0.0
    high = here[-1] if flat[-1] < x[-1] else 1.0
    best = float(z.min())
    is_edge = np.isfinite(flat)
    options = [
        _beside_edge(here[i : i + 2], z[i : i + 2], g[i : i + 2], is_edge[i : i + 2])
        if is_edge[i] != is_edge[i + 1]
        else _cubic(here[i], here[i + 1], z[i : i + 2], g[i : i + 2])
        for i in range(len(here) - 1)
    ]
    is_flat = is_edge | (len(z) == 1)
    options += [_outward(here, z, g, is_flat, low, -1), _outward(here, z, g, is_flat, high, 1)]
    options = [_not_creeping(here, g, option) for option in options]
    sought = [(value, place) for value, place in options if value < best]
    value, place = min(sought, default=(best, float(here[int(z.argmin())])))
    if best - value <= tol:
        i = int(z.argmin())
        is_closed = bool(np.any(g[:i] < 0) and np.any(g[i + 1 :] > 0))
        unseen = None if is_closed else _unseen(x)
        unseen = _doubtful(here, g, i) if unseen is None else unseen
        value, place = (value, place) if unseen is None else (-math.inf, unseen)
    point = points[0].copy()
    point[j] = place
    return Step(point, best - value, {})


def _unseen(x: Array) -> float | None:
    """Return a place that shows enough of the line, if too little of it has been looked at.

    A start in a valley's bottom, one of whose sides has not been seen, would else know of no other.
    """
    low, high = float(x.min()), float(x.max())
    missing = _LOOKED_AT - (high - low)
    if missing <= 1e-9:
        return None
    return min(high + missing, 1.0) if 1 - high > low else max(low - missing, 0.0)


def _doubtful(x: Array, g: Array, best: int) -> float | None:
    """Return the middle of a wide valley that was seen from its ends alone, if the best is one.

    On the plain before a valley the slope is almost nothing, and a cubic believes to be there.
    """
    near, ahead = (best - 1, best + 1) if g[best] < 0 else (best + 1, best - 1)
    if not 0 <= ahead < len(x) or g[ahead] * g[best] >= 0:
        return None
    is_wide = abs(x[ahead] - x[best]) > _WIDE
    is_alone = not 0 <= near < len(x) or abs(x[near] - x[best]) > _WIDE
    return float(x[best] + x[ahead]) / 2 if is_wide and is_alone else None


def _beside_edge(x: Array, z: Array, g: Array, is_edge: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the middle between the edge of a plateau and a point from which it is downhill there.

    How steep it is on this side of the edge nobody knows; a cubic would take it for flat. The value
    is the bound that the slope of the point sets, and if the two are far apart anything.
    """
    h, near = float(x[1] - x[0]), int(is_edge[0])
    fall = float(g[near] if is_edge[0] else -g[near])
    if fall <= 0:
        return math.inf, float(x.mean())
    return -math.inf if h > _WIDE else float(z[near] - fall * h), float(x.mean())


def _cubic(a: float, b: float, z: Array, g: Array) -> tuple[float, float]:
    """Return the least value between a and b of the cubic through both points, and its place."""
    h = b - a
    # p(t) = z0 + h g0 t + c2 t^2 + c3 t^3
    rise = z[1] - z[0]
    c2 = 3 * rise - h * (2 * g[0] + g[1])
    c3 = h * (g[0] + g[1]) - 2 * rise
    if not math.isfinite(abs(c2) + abs(c3)):  # slopes so steep tell nothing of what is between
        return math.inf, a
    roots = np.roots([3 * c3, 2 * c2, h * g[0]]) if abs(c3) + abs(c2) > 0 else np.empty(0)
    t = np.real(roots[np.abs(np.imag(roots)) < 1e-12])
    t = t[(t > 0) & (t < 1)]
    if (g[1] == 0 and g[0] >= 0) or not len(t):
        return math.inf, a
    values = z[0] + h * g[0] * t + c2 * t**2 + c3 * t**3
    i = int(values.argmin())
    inside = _INSIDE_WIDE if h > _WIDE else _INSIDE
    return float(values[i]), a + h * float(np.clip(t[i], inside, 1 - inside))


def _not_creeping(x: Array, g: Array, option: tuple[float, float]) -> tuple[float, float]:
    """Step at least twice as far as before, where slopes have hardly changed since.

    Where the loss bends sharply, as where coefficients leave zero, cubics promise to be there at
    once and come closer by ever smaller steps.
    """
    value, place = option
    i = int(np.searchsorted(x, place))
    if not 0 < i < len(x):
        return option
    for near, before, far in ((i - 1, i - 2, i), (i, i + 1, i - 1)):
        if 0 <= before < len(x) and g[near] * g[before] > 0:
            step = x[near] - x[before]
            is_downhill = g[near] * step < 0
            if is_downhill and abs(g[near]) > _HARDLY * abs(g[before]):
                least = min(2 * abs(step), abs(x[far] - x[near]) / 2)
                if abs(place - x[near]) < least:
                    return value, float(x[near] + np.sign(step) * least)
    return option


def _outward(
    x: Array, z: Array, g: Array, is_flat: NDArray[np.bool_], end: float, way: int
) -> tuple[float, float]:
    """Return what may be gained beyond the outermost point on one side, and where to look.

    The value is the bound that the slope sets, if the slope only becomes gentler, and as far as it
    lasts if it goes on as it did; beyond the edge of a plateau nothing is known.
    """
    i, j = (0, 1) if way < 0 else (-1, -2)
    room = (end - x[i]) * way
    fall = -g[i] * way
    if room <= 1e-9 or fall < 0 or (fall == 0 and not is_flat[i]):
        return math.inf, end
    step, lasts = _FIRST_STEP, room
    if len(x) > 1 and -g[j] * way > fall > 0:  # slopes meet zero where the secant does
        step = fall / (-g[j] * way - fall) * abs(x[i] - x[j])
        lasts = min(room, max(step, _LEAST_STEP))
    step = min(max(step, _LEAST_STEP), _MOST_STEP)
    place = x[i] + way * step
    if step > room - _END:
        # the middle of what is left is sooner right than the end, unless it is close
        place = end if room < _LEAST_STEP or len(x) > 1 else x[i] + way * room / 2
    return float(z[i] - fall * lasts) if fall else -math.inf, float(place)


def region_step(
    model: SlopedGaussianProcess,
    x: Array,
    z: Array,
    slopes: Array,
    note: Mapping[str, Any] | None,
    rng: np.random.Generator,
) -> Step:
    """Return the least point of the model's mean in the trust region around the best point.

    Parameters
    ----------
    model : SlopedGaussianProcess
        Of ``-z``.
    x, z, slopes : ndarray of shape (n, c), (n,), (n, c)
        The points so far, in the order of trial.
    note : mapping or None
        Of the last step.
    rng : numpy Generator
        Draws starts.
    """
    radius = _next_radius(z, note)
    best = int(z.argmin())
    centre, free = x[best], model.free
    low, high = np.maximum(centre[free] - radius, 0), np.minimum(centre[free] + radius, 1)

    def mean(u: Array) -> tuple[float, Array]:
        at = centre.copy()
        at[free] = u
        value, slope = model.mean_and_slope(at)
        return -value, -slope

    starts = np.tile(centre, (1 + _N_DRAWN, 1))
    starts[1:, free] = low + (high - low) * rng.random((_N_DRAWN, len(free)))
    start = starts[int(model.predict(starts)[0][0].argmax()), free]
    bounds = list(zip(low, high, strict=True))
    least = minimize(mean, start, jac=True, method="L-BFGS-B", bounds=bounds)
    promise = float(z[best] - least.fun)
    move = np.clip(least.x, low, high) - centre[free]
    move *= _stretch(move, x[:, free], z, slopes[:, free])
    point = centre.copy()
    point[free] = np.clip(centre[free] + move, low, high)
    reached = bool(np.any(np.abs(point[free] - centre[free]) > 0.99 * radius))
    record = {"radius": radius, "promise": promise, "best": float(z[best]), "reached": reached}
    return Step(point, promise, {"step": record, "n": len(z)})


def _stretch(move: Array, x: Array, z: Array, g: Array) -> float:
    """Return how many times as far to go, where slopes have hardly changed since the last step.

    The model expects every slope to level off soon. In a long valley that makes steps ever shorter.
    """
    best = int(z.argmin())
    if best == 0:
        return 1.0
    before = int(z[:best].argmin())
    last = x[best] - x[before]
    fell, falls = float(g[before] @ last), float(g[best] @ last)
    ahead = float(g[best] @ move)
    if not (falls < _HARDLY * fell < 0 and ahead < 0):
        return 1.0
    return max(1.0, 2 * float(np.linalg.norm(last)) / max(float(np.linalg.norm(move)), 1e-12))


def _next_radius(z: Array, note: Mapping[str, Any] | None) -> float:
    """Return how far the model is trusted, from what the last step promised and kept."""
    if note is None or "step" not in note or len(z) <= note["n"]:
        return _RADIUS if note is None or "step" not in note else float(note["step"]["radius"])
    last = note["step"]
    kept = (last["best"] - z[note["n"]]) / max(last["promise"], 1e-12)
    radius = float(last["radius"])
    if kept < _KEPT_LITTLE:
        return max(radius * 0.4, _LEAST_RADIUS)
    if kept > _KEPT_MUCH and last["reached"]:
        return min(radius * 2, _MOST_RADIUS)
    return radius
