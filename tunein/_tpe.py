"""TPESearchCV: go where good candidates are denser than bad ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tunein._dimensions import Array
from tunein._history import Known
from tunein._math.parzen import ParzenMixture
from tunein._search import BaseSequentialSearchCV
from tunein._space import Space

_N_STARTUP = 10
_N_CANDIDATES = 48


class TPESearchCV(BaseSequentialSearchCV):
    """TPE"""

    def _n_startup(self, space: Space) -> int:
        return _N_STARTUP

    def _ask(
        self, space: Space, known: Known, rng: np.random.Generator
    ) -> tuple[Array, Mapping[str, Any] | None]:
        scores = known.scores
        finite = np.isfinite(scores)
        # Worst last; failures after the worst; equal scores in the order of trial.
        order = np.argsort(np.where(finite, -scores, np.inf), kind="stable")
        n_good = min(math.ceil(0.1 * len(scores)) + 2, 25, int(finite.sum()))
        good = self._mixture(space, known.units[order[:n_good]])
        bad = self._mixture(space, np.concatenate([known.units[order[n_good:]], known.pending]))
        points = space.snap(good.sample(rng, _N_CANDIDATES))
        fresh = [i for i, point in enumerate(points) if Space.key(point) not in known.tried]
        points = points[fresh] if fresh else space.untried(rng, _N_CANDIDATES, known.tried)
        gain = good.log_density(points) - bad.log_density(points)
        return points[int(np.argmax(gain))], None

    def _mixture(self, space: Space, centres: Array) -> ParzenMixture:
        n, d = centres.shape
        bandwidths = np.where(
            np.array(space.kinds) == "categorical",
            1 / (1 + max(n, 1)) ** 0.5,
            0.2 * max(n, 1) ** (-1 / (d + 4)),
        )
        return ParzenMixture(centres, np.ones(n + 1), bandwidths, space.kinds, space.cells)
