"""What all searches share: scikit-learn's contract, from `fit` to results and refit."""

from __future__ import annotations

import math
import numbers
import os
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state, get_tags, indexable

from tunein._cost import SearchCost
from tunein._dimensions import Array
from tunein._earlier import Earlier, first_candidates
from tunein._evaluation import Evaluator, failed_fold
from tunein._events import Replay
from tunein._fingerprint import Fingerprint, Part
from tunein._fold_files import FoldFiles
from tunein._fronts import MAX_BYTES_IN_ALL, Fronts
from tunein._halving import Halving, Setup, race_of
from tunein._history import Evidence, History, Known, Trial
from tunein._journal import CheckpointError, Journal
from tunein._loop import Job, Loop, Step
from tunein._math.design import sobol
from tunein._math.scores import all_tied
from tunein._racing import Agenda, FoldRace
from tunein._results import blank, fold_results, rank_by_level, with_stand_ins
from tunein._sklearn import (
    BaseSearchCV,
    IntervalConstraint,
    SearchContext,
    _check_method_params,
    _fit_context,
    _warn_or_raise_about_fit_failures,
)
from tunein._space import Space
from tunein._watch import Watch
from tunein._workers import Evaluation


class BaseSequentialSearchCV(BaseSearchCV):  # type: ignore[misc]
    """Base of searches that learn from one candidate for the next.

    A method is two answers: `_n_startup`, how many points it wants spread over the space first,
    and `_ask`, which point to try given what is known. The rest is the same for all, unless it
    asks for slopes beside scores (`_probe`, `_design`, `_next_point`).
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseSearchCV._parameter_constraints,
        "param_distributions": [dict, list],
        "n_iter": [IntervalConstraint(numbers.Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "initial_params": [list, tuple, None],
        "racing": [FoldRace, Halving, None],
        "callbacks": [callable, list, tuple, None],
        "checkpoint": [str, os.PathLike, None],
        "history": [object],  # checked where it is read
        "fit_timeout": [
            # What a thread can wait for at most is 292 years.
            IntervalConstraint(numbers.Real, 0, threading.TIMEOUT_MAX, closed="right"),
            None,
        ],
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
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_distributions = param_distributions
        self.n_iter = n_iter
        self.random_state = random_state
        self.initial_params = initial_params
        self.racing = racing
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.history = history
        self.fit_timeout = fit_timeout

    # ------------------------------------------------------------------ what a method answers

    @abstractmethod
    def _n_startup(self, space: Space) -> int:
        """Return how many spread points to try before the first `_ask`."""

    @abstractmethod
    def _ask(
        self, space: Space, known: Known, rng: np.random.Generator
    ) -> tuple[Array, Mapping[str, Any] | None]:
        """Return the snapped point to try next, and a note to read again at the next trial.

        A pure function of its arguments. At least one of ``known.scores`` is finite, and they are
        not all the same.
        """

    def _probe(self, space: Space, scorers: Any) -> Any:
        """Return what asks each fit for its hypergradient, if the method goes by those."""
        return None

    def _design(self, space: Space, probe: Any, n_given: int, rng: np.random.Generator) -> Array:
        """Return the points that the method tries before the first `_ask`."""
        return space.snap(sobol(self._n_startup(space), len(space.dimensions), rng))

    def _lookback(self, n_workers: int, n_folds: int, probe: Any) -> int:
        """Return how many of the newest trials a seeded search proposes without the scores of.

        Enough trials must be open at once that a slow fold of the oldest leaves no worker idle,
        and no more: what is not looked at cannot be learned from. While the slowest of W folds of
        exponential length runs, which takes about log W mean lengths more, each worker gets
        through as many others. One worker waits for every score.
        """
        if n_workers == 1:
            return 0
        return math.ceil(n_workers * (1 + math.log(n_workers)) / n_folds)

    # ------------------------------------------------------------------ scikit-learn's contract

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.target_tags.multi_output = inner.target_tags.multi_output
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        return tags

    @_fit_context(prefer_skip_nested_validation=False)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Search, then refit the estimator with the best parameters on all data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Training data; square for a precomputed kernel or distance matrix.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Target; None for unsupervised learning.
        **params : dict of str to object
            Passed to ``fit`` of the estimator, to the scorer and to the splitter, as
            ``GridSearchCV`` does: arrays of length n_samples are split with the data, and
            ``groups`` reaches the splitter.

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        TypeError, ValueError
            If a parameter is invalid, naming it, its value and what is accepted; if every fit
            failed, with the failures; or if the file at `checkpoint` is another's, or damaged.
        OSError
            If the file at `checkpoint` cannot be opened, is being written by another process, or
            takes no more; in that case, what had finished is kept as after Ctrl-C.
        KeyboardInterrupt
            After Ctrl-C; what had finished is kept in ``cv_results_``, ``best_params_`` and
            ``history_``, as after an error of one of `callbacks`.
        """
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        context = SearchContext(self, X, y, params.get("sample_weight"))
        data = {"X": X, "y": y, **{f"fit's {name}": value for name, value in params.items()}}
        job = self._prepare(X, y, scorers, routed, context, data)
        history = History(
            len(job.folds),
            len(job.space.dimensions),
            self._driving_metric(scorers),
            job.earlier.evidence,
            job.space,
            tuple(len(rows) for rows in job.setup.trained_on),
            max(len(job.race.levels) - 1, 0),
        )
        history.measured = {name: part.digest for name, part in job.measured.items()}
        watch = Watch(self.callbacks, history)
        with self._written_down(job, history) as job:
            try:
                with history.clock:
                    stop_reason = self._run(job, history, watch)
            except BaseException as error:
                ends = (KeyboardInterrupt, SystemExit, CheckpointError)
                if isinstance(error, ends) or error is watch.raised:
                    self._keep_finished(job, history, scorers, refit_metric, type(error).__name__)
                raise
        self._publish(job, history, stop_reason)
        self._select(job, [trial for trial in history if trial.run], scorers, refit_metric)
        if self.refit:
            self._refit_best(X, y, routed.estimator.fit, context)
        context.end()
        self._conclude(job, history)
        return self

    # ------------------------------------------------------------------ before the first fit

    def _prepare(
        self,
        X: Any,
        y: Any,
        scorers: Any,
        routed: Any,
        context: SearchContext,
        data: dict[str, Any],
    ) -> Job:
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        self._checked_cv_orig = cv
        # Drawn once: a shuffling splitter without a seed would give candidates different data.
        folds = list(cv.split(X, y, **routed.splitter.split))
        self.n_splits_ = cv.get_n_splits(X, y, **routed.splitter.split)
        if len(folds) != self.n_splits_:
            raise ValueError(
                "cv.split and cv.get_n_splits returned inconsistent results. "
                f"Expected {self.n_splits_} splits, got {len(folds)}"
            )
        if not folds:
            raise ValueError("No fits were performed. Was the CV iterator empty?")
        space = Space.parse(self.param_distributions, self.estimator)
        n_candidates = int(min(self.n_iter, space.size))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        probe = self._probe(space, scorers)
        metric = self._driving_metric(scorers)
        n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
        setup = Setup(self.estimator, space.names, folds, n_samples, y, n_candidates, seed)
        race = race_of(self.racing, setup)
        measured = {**data, "scoring": self.scoring, "refit": metric, **race.measured}
        parts = {name: Part.of(value) for name, value in measured.items()}
        earlier = Earlier.read(self.history, space, parts, metric, len(folds))
        given = first_candidates(space, self.estimator, self.initial_params, earlier.starts)
        given = given[:n_candidates]
        return Job(
            fixed={
                "estimator": clone(self.estimator),
                "X": X,
                "y": y,
                "scorer": scorers,
                "fit_params": routed.estimator.fit,
                "score_params": routed.scorer.score,
                "return_train_score": self.return_train_score,
                "error_score": self.error_score,
                "verbose": self.verbose,
            },
            probe=probe,
            folds=folds,
            space=space,
            n_candidates=n_candidates,
            given=given,
            design=self._first_points(space, probe, len(given), seed, earlier.evidence),
            seed=seed,
            is_seeded=self.random_state is not None,
            context=context,
            setup=setup,
            race=race,
            measured=parts,
            earlier=earlier,
        )

    def _first_points(
        self, space: Space, probe: Any, n_given: int, seed: int, evidence: Evidence | None
    ) -> Array:
        """Return the design, less as many points as there is evidence of."""
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        points = self._design(space, probe, n_given, rng)
        n_known = 0 if evidence is None else len(evidence.units)
        return points[n_known:]  # a search with the same seed has tried the first of them

    @contextmanager
    def _written_down(self, job: Job, history: History) -> Iterator[Job]:
        """Resume from the checkpoint, if there is one, and write down what follows."""
        if self.checkpoint is None:
            yield job
            return
        drawn = {
            "seed": job.seed,
            "folds": job.folds,
            "history": job.earlier,
            "levels": job.race.levels,
        }
        fingerprint = Fingerprint.of(self, job.space, drawn, job.measured)
        shape = len(job.folds), history.metric, history.top
        with Journal.open(self.checkpoint, fingerprint, job.seed, shape) as journal:
            if journal.seed != job.seed:
                job = self._reseeded(job, journal.seed)
            trained = self.return_train_score
            journal.replay(Replay(history, job.space, job.given, job.n_trials, trained, job.race))
            if self.verbose > 0 and len(history):
                print(f"{journal.path} holds {history!r}")
            yield job

    def _reseeded(self, job: Job, seed: int) -> Job:
        evidence = job.earlier.evidence
        points = self._first_points(job.space, job.probe, len(job.given), seed, evidence)
        setup = replace(job.setup, seed=seed)
        race = race_of(self.racing, setup)
        return replace(job, seed=seed, design=points, setup=setup, race=race)

    def _driving_metric(self, scorers: Any) -> str | None:
        """Name the metric that the search improves; None for the only, or first, one returned."""
        if isinstance(self.refit, str):
            return self.refit
        return next(iter(scorers._scorers)) if hasattr(scorers, "_scorers") else None

    # ------------------------------------------------------------------ the loop

    def _run(self, job: Job, history: History, watch: Watch) -> str:
        """Keep the workers busy until there is nothing more to try, and say why it ended."""
        n_folds = len(job.folds)
        if self.verbose > 0:
            n_more = job.n_trials - job.n_candidates
            promotions = f" and {n_more} promotion{'s' if n_more > 1 else ''}" if n_more else ""
            print(
                f"Fitting {n_folds} folds for each of {job.n_candidates} candidates{promotions}, "
                f"totalling {n_folds * job.n_trials} fits"
            )
        evaluation = Evaluation(self.n_jobs, self.pre_dispatch, failed_fold, self.fit_timeout)
        job.context.begin_search(n_folds * job.n_trials)
        with evaluation as evaluator:
            n_at_once = job.race.n_at_once(n_folds)
            lookback = self._lookback(evaluation.n_workers_asked, n_at_once, job.probe)
            agenda = Agenda(job.race, history, lookback if job.is_seeded else None)
            watch.check_worker(evaluator.can_abandon)
            params = [*job.fixed["fit_params"].values(), *job.fixed["score_params"].values()]
            if job.probe is not None:
                job = replace(job, fixed={**job.fixed, "fronts": self._fronts(job, evaluator)})
            with FoldFiles(job.fixed["X"], job.folds, evaluator.folder, params) as files:
                Loop(job, history, watch, evaluator, agenda, files, self._next_point).run()
        job.context.end_search()
        if conclusion := watch.conclusion:
            return conclusion
        n_candidates = history.n_candidates
        if n_candidates < self.n_iter or job.space.size == self.n_iter:
            return f"All {n_candidates} points of the search space were tried."
        return f"n_iter={self.n_iter} candidates were tried."

    def _fronts(self, job: Job, evaluator: Evaluator) -> Fronts:
        """Return what keeps transformers that are not tuned: probes would run them once more."""
        n_processes = evaluator.n_workers if evaluator.leaves_process else 1
        names = [name for name in job.space.names if name is not None]
        return Fronts(names, MAX_BYTES_IN_ALL // n_processes)

    def _next_point(self, job: Job, known: Known, rng: np.random.Generator) -> Step:
        if known.n_asked < len(job.design):
            unit = job.design[known.n_asked]
        elif not len(known.scores):
            unit = _spread(job, known.n_asked)
        elif is_telling(known.scores):
            return self._ask(job.space, known, rng)
        else:
            return job.space.untried(rng, 1, known.tried)[0], None
        if Space.key(unit) in known.tried:
            unit = job.space.untried(rng, 1, known.tried)[0]
        return unit, None

    # ------------------------------------------------------------------ after the last fit

    def _publish(self, job: Job, history: History, stop_reason: str) -> None:
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)  # what an earlier fit left does not belong to these results
        self.n_splits_ = len(job.folds)
        self.history_ = history
        self.space_ = job.space
        self.stop_reason_ = stop_reason
        for name, value in job.race.attributes(history).items():
            setattr(self, name, value)
        self.search_cost_ = SearchCost.of(history)

    def _select(self, job: Job, trials: list[Trial], scorers: Any, refit_metric: str) -> None:
        """Set ``cv_results_`` and the best of it, exactly as ``BaseSearchCV`` does."""
        out = fold_results(trials, self.error_score)
        _warn_or_raise_about_fit_failures(out, self.error_score)
        results = self._format_results(
            [trial.params for trial in trials], self.n_splits_, with_stand_ins(trials, out)
        )
        partial = not all(trial.complete for trial in trials)
        if partial:
            blank(results, trials)
        levels = np.array([trial.proposal.level for trial in trials])
        if partial or levels.any():
            rank_by_level(results, levels)
        results.update(job.race.columns(trials))
        if partial:
            results["n_splits_run"] = np.array([len(trial.run) for trial in trials])
        first = out[0]["test_scores"]
        self.multimetric_ = isinstance(first, dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(first)
            refit_metric = self.refit
        if self.refit or not self.multimetric_:
            self.best_index_ = self._select_best_index(self.refit, refit_metric, results)
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]
            self.best_params_ = results["params"][self.best_index_]
        self.scorer_ = getattr(scorers, "_scorers", scorers)
        results.update(self._more_columns(trials))
        self.cv_results_ = results

    def _conclude(self, job: Job, history: History) -> None:
        """Say what there is to say once all is done."""

    def _more_columns(self, trials: list[Trial]) -> dict[str, Any]:
        """Return what the method adds to ``cv_results_``."""
        return {}

    def _refit_best(
        self, X: Any, y: Any, fit_params: dict[str, Any], context: SearchContext
    ) -> None:
        # Parameters may be estimators, which the fit must not change.
        self.best_estimator_ = clone(self.estimator).set_params(
            **clone(self.best_params_, safe=False)
        )
        with context.refit(self.best_estimator_):
            start = time.time()
            if y is None:
                self.best_estimator_.fit(X, **fit_params)
            else:
                self.best_estimator_.fit(X, y, **fit_params)
            self.refit_time_ = time.time() - start
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_

    def _keep_finished(
        self, job: Job, history: History, scorers: Any, refit_metric: str, interrupt: str
    ) -> None:
        n_done = sum(trial.closed for trial in history)
        what = "candidates" if job.n_trials == job.n_candidates else "trials"
        self._publish(
            job,
            history,
            f"{interrupt} after {n_done} of {job.n_trials} {what}; nothing was refitted.",
        )
        closed = [trial for trial in history if trial.closed]
        if any(s is not None and s.error is None for t in closed for s in t.scores):
            self._select(job, closed, scorers, refit_metric)


def _spread(job: Job, i: int) -> Array:
    """Return point `i` of the sequence that the design is the first of, or of one like it.

    Where more trials are open at once than the design has, the others are spread as well: they are
    a large part of what the method learns from, and points drawn at random leave gaps.
    """
    rng = np.random.default_rng(np.random.SeedSequence(job.seed))
    return np.asarray(job.space.snap(sobol(i + 1, len(job.space.dimensions), rng)[i:])[0])


def is_telling(scores: Array) -> bool:
    """Tell whether there is anything to learn: a model of equal scores would only see borders."""
    finite = np.isfinite(scores)
    if not (finite.any() and finite.all()):  # all of none, while the first are still pending
        return bool(finite.any())
    return not all_tied(scores)
