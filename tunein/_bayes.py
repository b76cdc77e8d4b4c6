"""BayesSearchCV: fit a Gaussian process, go where log expected improvement is largest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tunein._dimensions import Array
from tunein._history import Known
from tunein._math import gp as gaussian
from tunein._math.acquisition import maximise
from tunein._search import BaseSequentialSearchCV
from tunein._space import Space

# More observations than this are thinned: the cost of a step stays bounded.
_MAX_OBSERVATIONS = 300

# Best observed points around which to look closely.
_N_BEST = 5


class BayesSearchCV(BaseSequentialSearchCV):
    """Bayes."""

    def _n_startup(self, space: Space) -> int:
        return min(10, max(4, len(space.dimensions) + 2))

    def _ask(
        self, space: Space, known: Known, rng: np.random.Generator
    ) -> tuple[Array, Mapping[str, Any] | None]:
        y = _standardise(known.scores)
        units, y = _thin(known.units, y, rng)
        x = space.features(units)
        kinds, n_levels = space.kinds, [d.n_levels for d in space.dimensions]
        theta, note = self._hyperparameters(x, y, kinds, n_levels, known.note)
        model = gaussian.GaussianProcess(x, y, theta, kinds, n_levels)
        incumbent = float(model.predict(x)[0].max())
        if len(known.pending):
            # What is being tried is believed to come out as expected; so it attracts no twin.
            pending = space.features(known.pending)
            believed = np.concatenate([y, model.predict(pending)[0]])
            model = gaussian.GaussianProcess(
                np.concatenate([x, pending]), believed, theta, kinds, n_levels
            )
        best = units[np.argsort(-y, kind="stable")[:_N_BEST]]
        return maximise(model, space, incumbent, best, known.tried, rng), note

    def _hyperparameters(
        self, x: Array, y: Array, kinds: Any, n_levels: Any, note: Mapping[str, Any] | None
    ) -> tuple[Array, Mapping[str, Any]]:
        if note is not None and len(y) > 50 and len(y) < 1.05 * note["n"] + 1:
            return np.array(note["theta"]), note
        D = gaussian.squared_distances(x, x, kinds, n_levels)
        start = None if note is None else np.array(note["theta"])
        theta = gaussian.fit(D, y, gaussian.Prior.of_dimension(x.shape[1]), start)
        return theta, {"theta": theta.tolist(), "n": len(y)}


def _standardise(scores: Array) -> Array:
    """Return scores with mean 0 and sd 1; failures as the worst seen, far outliers drawn in."""
    y = np.where(np.isfinite(scores), scores, np.nanmin(scores[np.isfinite(scores)]))
    scale = np.ptp(y)
    if not scale > 0:
        return np.zeros_like(y)
    y = (y - y.max()) / scale
    q1, q2, q3 = np.quantile(y, [0.25, 0.5, 0.75])
    spread = max(q3 - q1, 1e-12)
    z = (y - q2) / spread
    z = np.where(z < 0, -np.log1p(-z), z)
    return (z - z.mean()) / (z.std() or 1.0)


def _thin(units: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    if len(y) <= _MAX_OBSERVATIONS:
        return units, y
    order = np.argsort(-y, kind="stable")
    third = _MAX_OBSERVATIONS // 3
    kept = np.concatenate(
        [order[:third], rng.choice(order[third:], _MAX_OBSERVATIONS - third, replace=False)]
    )
    return units[np.sort(kept)], y[np.sort(kept)]
