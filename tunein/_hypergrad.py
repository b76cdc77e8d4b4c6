"""HyperGradSearchCV: go downhill in the hyperparameters."""

from __future__ import annotations

import math
import numbers
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tunein._dimensions import Array
from tunein._docstrings import with_common_sections
from tunein._families import LOSSES, HyperGradient
from tunein._halving import Halving
from tunein._history import History, Known, Trial
from tunein._loop import Job, Step
from tunein._math.acquisition import LogEI, maximise
from tunein._math.design import sobol
from tunein._math.downhill import has_one_valley, line_step, off_plateau, region_step
from tunein._math.gp import squared_distances
from tunein._math.slopes import SlopedGaussianProcess
from tunein._probe import Differentiable, FoldProbe, descended
from tunein._racing import FoldRace
from tunein._search import BaseSequentialSearchCV, is_telling
from tunein._sklearn import IntervalConstraint, OptionsConstraint, on_one_blas_thread
from tunein._space import Space
from tunein._surrogate import Belief

# Points spread over the cube before a model without slopes means something; with slopes of some
# coordinates; and with slopes of all, where one is enough to go downhill from.
_N_STARTUP, _N_STARTUP_MIXED = 10, 4

# Best observed points around which to look closely.
_N_BEST = 5

# What the mean of scores must promise, in their standard deviations, to be gone after.
_WORTHWHILE = 0.03

# After the descent of a proxy, the expected improvement of a score, in the standard deviations of
# the scores, that is next to nothing; and candidates in a row that may promise no more. One alone
# may be mistaken.
_NEXT_TO_NOTHING, _N_IDLE = 0.02, 10

# Part of the loss that must be expected elsewhere for another descent to start there, the first
# time; a model that was wrong is believed less, and the second time it is twice as much.
_WORTH_A_JOURNEY = 0.02

# A point of a box that differs by more in one coordinate from all that were tried is news.
_FAR = 0.15

# A log loss so far above the best is far away from where the descent has got to.
_CLIFF = 1.0

# Slopes of the log loss on the unit cube below which there is no relief, as on a plateau; then
# points are spread, each the farthest of so many from those before.
_RELIEF, _N_DRAWN = 0.05, 128

# Losses less than this part of the usual one are as good as none: their logarithm says nothing.
_LEAST_LOSS = 1e-9


class HypergradientWarning(UserWarning):
    """Candidates have no hypergradient that their estimator should have."""


@with_common_sections
class HyperGradSearchCV(BaseSequentialSearchCV):
    """Search with cross-validation by descent in the hyperparameters.

    For estimators whose fit is the optimum of a smooth enough problem, the derivative of the
    cross-validation loss in all hyperparameters costs one linear solve a fold. The search goes
    down those slopes: a handful of candidates for one or two hyperparameters. Where no such
    derivative exists, it goes down the slopes of a model of the scores instead, and `gradient_`
    says which it was.

    Parameters
    ----------
    {parameters}

    gradient : {'auto', 'exact', 'surrogate'}, default='auto'
        ``'exact'`` goes by hypergradients and raises where a parameter of the space has none;
        ``'surrogate'`` goes by the model of scores alone; ``'auto'`` takes what there is.

    loss : str, default='auto'
        The loss that is descended: ``'squared_error'``, ``'root_squared_error'``, ``'r2'``,
        ``'explained_variance'``, ``'absolute_error'``, ``'squared_log_error'``,
        ``'poisson_deviance'`` or ``'gamma_deviance'`` of predicted targets; ``'log_loss'``,
        ``'brier'``, ``'squared_hinge'`` or ``'platt_log_loss'`` of decision values. ``'auto'`` is
        that of `scoring`, or a proxy if `scoring` has no slope.

    tol : float, default=0.0001
        The descent ends where it promises less than this part of the loss.

    Attributes
    ----------
    {attributes}

    gradient_ : {'exact', 'mixed', 'surrogate'}
        Whether hypergradients of all parameters were descended, of some parameters or candidates
        only (a model tells the slopes of others), or none.

    loss_ : str or None
        The loss that was descended; None if only the model of scores was.

    loss_is_proxy_ : bool
        Whether `loss_` stands in for a score without a slope.

    See Also
    --------
    BayesSearchCV : For estimators without hypergradients it needs about as many candidates.
    register_hypergradient : Teach this search another estimator.

    Notes
    -----
    Hypergradients come from implicit differentiation [1]_ [2]_: at the inner optimum w of
    F(w, theta) = 0, with H = dF/dw, solve H u = dL/dw on the active set; then
    dL/dtheta = -u . dF/dtheta. Fits are polished to their optimum before, as at usual tolerances a
    derivative may be far off; so ``loss`` in `cv_results_` is that of converged fits. The scores
    are those of the estimator as it is.

    One continuous parameter is descended by cubic interpolation, several by a Gaussian process
    that is told slopes beside values, within a trust region. Where that promises less than `tol`,
    and nowhere else more is to be expected, the search ends; if the loss is a proxy, it goes on by
    the scores themselves, until ten candidates in a row have promised next to nothing, or `n_iter`.
    If not all parameters have slopes, every other candidate goes by them, and the search does not
    end before `n_iter`. Where there are hypergradients, `cv_results_` has two more columns:
    ``loss``, and ``grad_norm``, the length of its gradient on the unit cube; NaN for candidates
    without, as are those after the descent.

    Where no parameter has a hypergradient, the point of the best mean of the Gaussian process of
    `BayesSearchCV` is tried, and if that promises nothing, the one of the largest expected
    improvement.

    References
    ----------
    .. [1] F. Pedregosa, "Hyperparameter optimization with approximate gradient", ICML 2016.
    .. [2] Q. Bertrand et al., "Implicit differentiation for fast hyperparameter selection in
       non-smooth convex learning", Journal of Machine Learning Research 23, 2022.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from tunein import HyperGradSearchCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> search = HyperGradSearchCV(Ridge(), {"alpha": loguniform(1e-4, 1e4)}).fit(X, y)
    >>> search.gradient_, search.loss_
    ('exact', 'r2')
    >>> len(search.cv_results_["params"]) < 10
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseSequentialSearchCV._parameter_constraints,
        "gradient": [OptionsConstraint(str, {"auto", "exact", "surrogate"})],
        "loss": [OptionsConstraint(str, {"auto", *LOSSES})],
        "tol": [IntervalConstraint(numbers.Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 50,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        initial_params: list[dict[str, Any]] | None = None,
        racing: FoldRace | Halving | None = None,
        callbacks: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        history: Any = None,
        fit_timeout: float | None = None,
        gradient: str = "auto",
        loss: str = "auto",
        tol: float = 1e-4,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
            initial_params=initial_params,
            racing=racing,
            callbacks=callbacks,
            checkpoint=checkpoint,
            history=history,
            fit_timeout=fit_timeout,
        )
        self.gradient = gradient
        self.loss = loss
        self.tol = tol

    # ------------------------------------------------------------------ what has slopes

    def _probe(self, space: Space, scorers: Any) -> FoldProbe | None:
        if self.gradient == "surrogate":
            if self.loss != "auto":
                raise ValueError(
                    f"loss={self.loss!r} is not descended with gradient='surrogate', which goes by "
                    f"the scores. Use loss='auto', or another gradient."
                )
            return None
        view = Differentiable.of(space, self.estimator)
        if self.gradient == "exact" and not view.all_exact:
            raise ValueError(
                f"gradient='exact' needs a hypergradient of every parameter; "
                f"{view.describe_missing(self.estimator)} Use gradient='auto', or "
                f"register_hypergradient."
            )
        if not view.rules:
            if self.loss != "auto":
                raise ValueError(
                    f"loss={self.loss!r} cannot be descended: "
                    f"{view.describe_missing(self.estimator)} Use loss='auto'."
                )
            return None
        if isinstance(self.racing, Halving):
            raise ValueError(
                f"racing={self.racing!r} is not possible with hypergradients, which are those of "
                f"one loss: with less of a resource it is another. Use gradient='surrogate', or "
                f"racing=None."
            )
        driving = scorers
        if hasattr(scorers, "_scorers"):
            driving = scorers._scorers[self._driving_metric(scorers)]
        loss, is_proxy = descended(self.loss, driving, self.estimator, view.rules)
        return FoldProbe(loss, is_proxy, tuple(sorted(view.exact)), view.all_exact)

    def _n_startup(self, space: Space) -> int:
        return _N_STARTUP

    def _design(self, space: Space, probe: Any, n_given: int, rng: np.random.Generator) -> Array:
        if probe is None:
            return super()._design(space, probe, n_given, rng)
        if not probe.is_complete:
            return space.snap(sobol(_N_STARTUP_MIXED, len(space.dimensions), rng))
        return _middle(space)[None][n_given:]  # one start is enough, whoever gives it

    def _lookback(self, n_workers: int, n_folds: int, probe: Any) -> int:
        if probe is None:
            return super()._lookback(n_workers, n_folds, probe)
        # A step is worth little that does not know the last one: the workers share its folds.
        return math.ceil(n_workers / n_folds) - 1

    # ------------------------------------------------------------------ steps

    def _next_point(self, job: Job, known: Known, rng: np.random.Generator) -> Step:
        if job.probe is None or not known.hypergradients or known.n_asked < len(job.design):
            return super()._next_point(job, known, rng)
        if known.note is None or "descended" not in known.note:
            lost = len(known.units) - 1 not in known.hypergradients
            hedges = not job.probe.is_complete and known.n_asked % 2 == 1
            if (lost or hedges) and is_telling(known.scores):
                # If the last candidate told no slope, to go on by slopes would be to repeat it; and
                # where slopes tell a part of the story only, every other step goes by the scores.
                point, note = self._ask(job.space, known, rng)
                return point, note
            step: tuple[Array, Mapping[str, Any] | None] | None
            step = self._descend(job.space, known, rng)
            if step is not None:
                return step
        if job.probe.is_complete and not job.probe.is_proxy:
            return f"Nothing promises to lower the loss by {self.tol:g} of it."
        point, note = self._ask(job.space, known, rng)
        note = {**(note or {}), "descended": True}
        if job.probe.is_complete:
            note["idle"] = _n_idle(known.note, note["promise"])
            if note["idle"] > _N_IDLE:
                return f"The last {_N_IDLE} candidates promised no better score, nor does another."
        return point, note

    @on_one_blas_thread  # type: ignore[untyped-decorator]
    def _descend(
        self, space: Space, known: Known, rng: np.random.Generator
    ) -> tuple[Array, Mapping[str, Any] | None] | None:
        """Return the next point downhill; None if nothing promises to be lower by `tol`."""
        seen = _Slopes.of(space, known)
        if not seen.has_relief and len(known.units) < _N_STARTUP:
            return _into_relief(space, known, seen, rng), known.note
        found = self._downhill(space, known, seen, rng)
        if found is None or Space.key(found[0]) not in known.tried:
            return found
        # The step is being tried: a start of another descent, while the workers have room.
        return (_farthest(space, known, rng), known.note) if len(known.pending) else None

    def _downhill(
        self, space: Space, known: Known, seen: _Slopes, rng: np.random.Generator
    ) -> tuple[Array, Mapping[str, Any] | None] | None:
        if seen.on_line:
            j = seen.free[0]
            step = line_step(seen.x, seen.z, seen.slopes, seen.flat, j, self.tol)
            if step.promise > self.tol:
                return space.snap(step.x[None])[0], step.note
            if has_one_valley(seen.x[:, j], seen.slopes[:, j]):
                return None
        if seen.in_box and not seen.on_line:
            model = seen.model(space, seen.near_best)
            step = region_step(model, seen.x, seen.z, seen.slopes, known.note, rng)
            if step.promise > self.tol:
                return space.snap(step.x[None])[0], {**step.note, "journeys": _n_journeys(known)}
        return self._elsewhere(space, known, seen, rng)

    def _elsewhere(
        self,
        space: Space,
        known: Known,
        seen: _Slopes,
        rng: np.random.Generator,
    ) -> tuple[Array, Mapping[str, Any] | None] | None:
        """Return the point of the largest expected improvement, if that is worth it."""
        if len(seen.z) < _N_STARTUP:
            # Of what is just beyond the edge of a plateau nobody knows before it was looked at.
            off = _off(space, known, seen, int(seen.z.argmin()))
            if off is not None:
                return off, {"journeys": _n_journeys(known)}
        model = seen.model(space, np.ones(len(seen.z), dtype=bool))
        acquisition = LogEI(model, np.array([-seen.z.min()]))
        units = known.units[seen.rows]
        best = units[np.argsort(seen.z, kind="stable")[:_N_BEST]]
        point = maximise(acquisition, space, best, known.tried, rng)
        if seen.in_box and len(seen.z) < 2 * len(seen.free) + 1:
            # Too little was seen to expect nothing.
            return _unseen(space, known, rng), {"journeys": _n_journeys(known)}
        promise = float(np.exp(acquisition(space.features(point[None]))[0]))
        n_before = _n_journeys(known)
        enough = max(self.tol, _WORTH_A_JOURNEY * (1 + n_before)) if seen.in_box else self.tol
        if promise <= enough or Space.key(point) in known.tried:
            # Of a pocket, too, a model believes that it is all there is.
            point = _middle(space)
            if not (seen.in_box and _is_far(space, known, point)):
                return None
        return point, {"journeys": n_before + 1}

    @on_one_blas_thread  # type: ignore[untyped-decorator]
    def _ask(
        self, space: Space, known: Known, rng: np.random.Generator
    ) -> tuple[Array, Mapping[str, Any] | None]:
        belief = Belief.of(space, known, rng)
        best = belief.best[:_N_BEST]
        point = maximise(belief.expected, space, best, known.tried, rng)
        tops = belief.expected(space.features(np.concatenate([point[None], belief.best])))
        if tops[0] <= tops[1:].max() + _WORTHWHILE:
            point = maximise(belief.acquisition, space, best, known.tried, rng)
        promise = float(np.exp(belief.acquisition(space.features(point[None]))[0]))
        return point, {**belief.note, "promise": promise}

    # ------------------------------------------------------------------ results

    def _publish(self, job: Job, history: History, stop_reason: str) -> None:
        super()._publish(job, history, stop_reason)
        used = job.probe if any(trial.hypergradient for trial in history) else None
        lost = any(
            trial.complete and not trial.hypergradient and job.probe_of(trial.proposal)
            for trial in history
        )
        kind = "exact" if used is not None and used.is_complete and not lost else "mixed"
        self.gradient_ = "surrogate" if used is None else kind
        self.loss_ = None if used is None else used.loss.name
        self.loss_is_proxy_ = used is not None and used.is_proxy

    def _conclude(self, job: Job, history: History) -> None:
        _warn_of_lost(job, history)

    def _more_columns(self, trials: list[Trial]) -> dict[str, Any]:
        found = [trial.hypergradient for trial in trials]
        if not any(found):
            return {}
        norms = [
            math.nan if h is None else _norm(self.space_, trial, h)
            for h, trial in zip(found, trials, strict=True)
        ]
        losses = [math.nan if h is None else h.loss for h in found]
        return {"loss": np.array(losses), "grad_norm": np.array(norms)}


@dataclass(frozen=True)
class _Slopes:
    """The candidates that have a hypergradient, as the descent sees them.

    Attributes
    ----------
    rows : ndarray of shape (n,)
        Which of the closed trials.
    x : ndarray of shape (n, c)
        Features.
    z : ndarray of shape (n,)
        Log losses.
    slopes : ndarray of shape (n, c)
        Derivatives of z by features; NaN where unknown.
    flat : ndarray of shape (n, c)
        Where z is constant from `flat` on, past x: that place; NaN elsewhere.
    free : ndarray of int
        Coordinates that have more than one value.
    in_box : bool
        Whether all free coordinates are continuous and have slopes.
    """

    rows: list[int]
    x: Array
    z: Array
    slopes: Array
    flat: Array
    free: NDArray[np.intp]
    in_box: bool

    @classmethod
    def of(cls, space: Space, known: Known) -> _Slopes:
        """Read them from the record."""
        rows = sorted(known.hypergradients)
        found = [known.hypergradients[row] for row in rows]
        units = known.units[rows]
        loss = np.array([one.loss for one in found])
        least = _LEAST_LOSS * max(float(np.median(loss)), np.finfo(float).tiny)
        loss = np.maximum(loss, least)
        slopes = np.stack([space.slopes(u, h.gradient) for u, h in zip(units, found, strict=True)])
        free = np.flatnonzero(np.array(space.n_levels) > 1)
        kinds = {space.kinds[j] for j in free}
        return cls(
            rows,
            space.features(units),
            np.log(loss),
            slopes / loss[:, None],
            np.stack([_flat(space, u, h) for u, h in zip(units, found, strict=True)]),
            free,
            kinds == {"continuous"} and bool(np.isfinite(slopes[:, free]).all()),
        )

    @property
    def has_relief(self) -> bool:
        """Whether it is downhill anywhere, as far as is known."""
        return bool(np.nanmax(np.abs(self.slopes), initial=0.0) > _RELIEF)

    @property
    def on_line(self) -> bool:
        """Whether there is one free coordinate, and it is continuous and has slopes."""
        return self.in_box and len(self.free) == 1

    @property
    def near_best(self) -> NDArray[np.bool_]:
        """Which points are not far above the best, or among the few best.

        A model that is told of a cliff expects any slope to level off at once.
        """
        few = np.sort(self.z)[: 2 * len(self.free) + 1]
        return self.z <= max(float(few[-1]), float(few[0]) + _CLIFF)

    def model(self, space: Space, rows: NDArray[np.bool_]) -> SlopedGaussianProcess:
        """Return a Gaussian process of minus the log losses of some of the points."""
        return SlopedGaussianProcess(
            self.x[rows], -self.z[rows], -self.slopes[rows], space.kinds, space.n_levels
        )


def _flat(space: Space, unit: Array, found: HyperGradient) -> Array:
    """Return, for each coordinate, where its flat part that `unit` lies in begins."""
    out = np.full(len(unit), np.nan)
    for j, (name, dimension) in enumerate(zip(space.names, space.dimensions, strict=True)):
        if name in found.flat and dimension.kind == "continuous":
            value, way = found.flat[name]
            inside = dimension.encode(value)
            out[j] = inside[0] if inside else (0.0 if way > 0 else 1.0)
    return out


def _n_journeys(known: Known) -> int:
    """Return how many times something was expected elsewhere."""
    return 0 if known.note is None else int(known.note.get("journeys", 0))


def _n_idle(note: Mapping[str, Any] | None, promise: float) -> int:
    """Return how many candidates in a row have promised next to nothing, with one of `promise`."""
    before = 0 if note is None else int(note.get("idle", 0))
    return before + 1 if promise < _NEXT_TO_NOTHING else 0


def _into_relief(space: Space, known: Known, seen: _Slopes, rng: np.random.Generator) -> Array:
    """Return where it may be downhill: off the plateau, if its edge is known, or else far away."""
    point = _off(space, known, seen, -1)
    return _farthest(space, known, rng) if point is None else point


def _off(space: Space, known: Known, seen: _Slopes, row: int) -> Array | None:
    """Return a point off the plateau that a point is on; None if there is no such, or none new."""
    if not (seen.in_box and np.isfinite(seen.flat[row]).any()):
        return None
    # A line is halved by its own steps, as soon as there is relief.
    n_off = 0 if seen.on_line else int(np.isnan(seen.flat).all(axis=1).sum())
    point = space.snap(off_plateau(seen.x[row], seen.flat[row], n_off)[None])[0]
    return None if Space.key(point) in known.tried else np.asarray(point)


def _unseen(space: Space, known: Known, rng: np.random.Generator) -> Array:
    """Return where nobody has looked: the middle of the box, or else what is farthest from all."""
    middle = _middle(space)
    return middle if _is_far(space, known, middle) else _farthest(space, known, rng)


def _middle(space: Space) -> Array:
    return np.asarray(space.snap(np.full((1, len(space.dimensions)), 0.5))[0])


def _is_far(space: Space, known: Known, point: Array) -> bool:
    """Tell whether some coordinate parts a point of a box from each that was tried."""
    units = np.concatenate([known.units, known.pending])
    return bool(np.abs(units - point).max(axis=1).min() > _FAR)


def _farthest(space: Space, known: Known, rng: np.random.Generator) -> Array:
    """Return, of points drawn at random, the one that is farthest from all that were tried."""
    points = space.untried(rng, _N_DRAWN, known.tried)
    units = np.concatenate([known.units, known.pending])
    x, z = space.features(points), space.features(units)
    gaps = squared_distances(x, z, space.kinds, space.n_levels).sum(axis=0).min(axis=1)
    return np.asarray(points[int(gaps.argmax())])


def _norm(space: Space, trial: Trial, found: HyperGradient) -> float:
    slopes = space.slopes(trial.proposal.unit, found.gradient)
    return float(np.sqrt(np.nansum(slopes**2)))


def _warn_of_lost(job: Job, history: History) -> None:
    """Say how many candidates went without a hypergradient that was asked for, and why."""
    if job.probe is None:
        return
    reasons = [
        next((s.no_hypergradient for s in trial.scores if s and s.no_hypergradient), None)
        for trial in history
        if trial.complete and trial.hypergradient is None
    ]
    told = [reason for reason in reasons if reason]
    if told:
        warnings.warn(
            f"{len(told)} of {len(history)} candidates have no hypergradient; their scores count "
            f"all the same. The first lacks {told[0]}",
            HypergradientWarning,
            stacklevel=4,
        )
