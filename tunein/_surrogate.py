"""What the surrogate believes of the scores so far, for all searches that have one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunein._dimensions import Array
from tunein._history import Known
from tunein._math import gp as gaussian
from tunein._math.acquisition import Acquisition, Feasible, LogEI, Mean, UpperBound, maximise
from tunein._math.scores import Observations, draw_in, merge_ties, observe
from tunein._space import Space

# More observations than this are thinned: the cost of a step stays bounded.
_MAX_OBSERVATIONS = 300

# An improvement on what the model believes is the best must be worth so much, in standard
# deviations of the scores: a hill that has been climbed is left.
_WORTHWHILE = 0.03

# Share of the variance of success and failure that may be noise. With more, a border between the
# two is explained as noise, and never learned.
_MOST_LABEL_NOISE = 0.1

# Sets of hyperparameters that are believed in at once, the likeliest and draws around it, up to so
# many observations; beyond, the likeliest alone is quicker, and there is less doubt to integrate.
_N_MODELS = 6
_N_INTEGRATED = 100

# Coordinates up to which that is done: the curvature at the mode costs twice as many evidences.
_MAX_INTEGRATED_DIMENSIONS = 40

# Of the confidence bounds of the regret: the chance that one is exceeded, and by what the square of
# their width is divided (both of Makarova et al.); best observed points to look around.
_DOUBT, _TIGHTENING = 0.1, 5.0
_N_BEST = 5

# Observations up to which hyperparameters are fitted at every step; then, when 5 % more are there.
_N_EVERY = 50


@dataclass(frozen=True)
class Belief:
    """What there is to go by.

    Attributes
    ----------
    best : ndarray of shape (k, c)
        The successful candidates that the model was told of, the best first.
    expected : Mean
        What the model expects of a point, in standard deviations of warped scores.
    acquisition : Acquisition
        What is to be gained by trying a point; where fits failed, weighed by their chance.
    note : mapping
        What the next belief starts from.
    """

    best: Array
    expected: Mean
    acquisition: Acquisition
    note: Mapping[str, Any]

    @classmethod
    def of(cls, space: Space, known: Known, rng: np.random.Generator) -> Belief:
        """Fit the model to what is known."""
        succeeded = np.isfinite(known.scores)
        n_run = None if known.n_run is None else known.n_run[succeeded]
        seen = observe(known.scores[succeeded], known.fold_scores[succeeded], n_run)
        kept = _thin(seen.y, rng)
        seen = Observations(seen.y[kept], seen.weights[kept])
        units = known.units[succeeded][kept]
        note = _believe(space, units, seen, known.note, len(known.units), rng)
        improvement = _improvement(space, units, seen, known.pending, note)
        acquisition: Acquisition = improvement
        if not succeeded.all():
            stale = note is not known.note or "success" not in note
            theta = None if stale else np.array(note["success"])
            model, middle = _success(space, known.units, succeeded, theta, rng)
            note = {**note, "success": model.theta.tolist()}
            acquisition = Feasible(improvement, model, middle)
        order = np.argsort(-seen.y, kind="stable")
        return cls(units[order], Mean(improvement.gp), acquisition, note)


def most_to_gain(space: Space, known: Known, rng: np.random.Generator) -> float:
    """Return what the best score may at most be exceeded by, with confidence, in its own unit.

    The upper bound of the regret of Makarova et al. 2022: the highest upper confidence bound of the
    space less the highest lower one of what was tried. The model is told scores as they are, since
    a difference of warped ones would mean another at every score; but for the worse half of them,
    without which one cliff would be taken for the height of all hills. A failure is the worst seen:
    nothing is to be gained near it.

    Infinite while all scores are the same.
    """
    succeeded = np.isfinite(known.scores)
    worst = known.scores[succeeded].min(initial=math.inf)
    v = merge_ties(np.where(succeeded, known.scores, worst))
    if v.min() == v.max():
        return math.inf
    kept = _thin(v, rng)
    v, units = v[kept], known.units[kept]
    drawn = draw_in(v)
    spread = float(drawn.std())
    seen = Observations((drawn - drawn.mean()) / spread, np.ones(len(v)))
    note = _believe(space, units, seen, None, len(v), rng)
    model = _posterior(space, units, seen.y, np.array(note["theta"]))
    # Theirs: a width that holds for all points at all times, less what experience lets it shrink.
    bounds = len(space.dimensions) * len(known.units) ** 2 * math.pi**2 / (6 * _DOUBT)
    width = math.sqrt(2 * math.log(bounds) / _TIGHTENING)
    upper = UpperBound(model, width)
    best = units[np.argsort(-v, kind="stable")[:_N_BEST]]
    top = maximise(upper, space, best, frozenset(), rng)
    highest = upper(space.features(np.concatenate([top[None], units]))).max()
    assured = UpperBound(model, -width)(model.x).max()
    return float(highest - assured) * spread


def _believe(
    space: Space,
    units: Array,
    seen: Observations,
    note: Mapping[str, Any] | None,
    n: int,
    rng: np.random.Generator,
) -> Mapping[str, Any]:
    """Return a note of the likeliest hyperparameters, and some that are about as likely.

    The last one, if it is of nearly as many trials as the `n` there are.
    """
    if note is not None and "theta" not in note:
        note = None  # of another model
    if note is not None and n > _N_EVERY and note["n"] <= n < 1.05 * note["n"] + 1:
        return note
    start = None if note is None else np.array(note["theta"][0])
    x = space.features(units)
    log_posterior = gaussian.LogPosterior.of(x, seen.y, space.kinds, space.n_levels, seen.weights)
    rows = gaussian.fit(log_posterior, start)[None]
    if len(units) <= _N_INTEGRATED and log_posterior.g <= _MAX_INTEGRATED_DIMENSIONS:
        draws = gaussian.draw(rows[0], log_posterior, rng, _N_MODELS - 1)
        rows = np.concatenate([rows, draws])
    return {"theta": rows.tolist(), "n": n}


def _posterior(
    space: Space, units: Array, y: Array, theta: Array, weights: Array | None = None
) -> gaussian.GaussianProcess:
    """Return a Gaussian process of points of the space."""
    x = space.features(units)
    return gaussian.GaussianProcess(x, y, theta, space.kinds, space.n_levels, weights)


def _improvement(
    space: Space, units: Array, seen: Observations, pending: Array, note: Mapping[str, Any]
) -> LogEI:
    """Return the log expected improvement over the best so far."""
    theta = np.array(note["theta"])
    model = _posterior(space, units, seen.y, theta, seen.weights)
    # The best score seen is what `best_index_` will go by. Where scores are noisy it lies far above
    # what is believed, and any greater one counts; elsewhere the improvement must be worth it.
    believed = model.fitted.max(axis=1)
    incumbent = np.maximum(seen.y.max(), believed + _WORTHWHILE)
    if len(pending):
        # What is being tried is believed to come out as expected; so it attracts no twin.
        expected = model.predict(space.features(pending))[0]
        y = np.concatenate([np.tile(seen.y, (len(theta), 1)), expected], axis=1)
        weights = np.concatenate([seen.weights, np.ones(len(pending))])
        model = _posterior(space, np.concatenate([units, pending]), y, theta, weights)
    return LogEI(model, incumbent)


def _success(
    space: Space,
    units: Array,
    succeeded: NDArray[np.bool_],
    theta: Array | None,
    rng: np.random.Generator,
) -> tuple[gaussian.GaussianProcess, float]:
    """Return a Gaussian process of which fits succeed, and where between both it says neither.

    Its hyperparameters are those of an earlier one, `theta`, or fitted if that is None.
    """
    # Of many trials, all of the rarer kind are kept, up to a third of what a model is told of.
    rare = succeeded.mean() < 0.5
    kept = _thin((succeeded == rare).astype(float), rng)
    units, labels = units[kept], succeeded[kept].astype(float)
    mean, spread = labels.mean(), labels.std()
    y, middle = (labels - mean) / spread, float((0.5 - mean) / spread)
    if theta is None:
        x = space.features(units)
        log_posterior = gaussian.LogPosterior.of(
            x, y, space.kinds, space.n_levels, most_noise=_MOST_LABEL_NOISE
        )
        theta = gaussian.fit(log_posterior)
    return _posterior(space, units, y, theta), middle


def _thin(y: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return which observations the model is told of: the best third, and a sample of the rest."""
    if len(y) <= _MAX_OBSERVATIONS:
        return np.arange(len(y))
    order = np.argsort(-y, kind="stable")
    third = _MAX_OBSERVATIONS // 3
    rest = rng.choice(order[third:], _MAX_OBSERVATIONS - third, replace=False)
    return np.sort(np.concatenate([order[:third], rest]))
