"""A fold in, a score out, as many at a time as joblib's active backend has workers.

The only module that imports joblib. Nothing here knows about search spaces or methods.
"""

from __future__ import annotations

import itertools
import pickle
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from joblib import Parallel
from joblib._parallel_backends import LokyBackend
from joblib._utils import eval_expr
from joblib.parallel import BatchedCalls
from sklearn.base import clone

from tunein._clock import metered
from tunein._families import HyperGradient
from tunein._history import Score
from tunein._sklearn import _fit_and_score, configured, error_scores, is_from_callback


@metered
def evaluate_fold(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    parameters: Mapping[str, Any],
    scorer: Any,
    error_score: Any,
    return_train_score: bool,
    probe: Probe | None = None,
    **kwargs: Any,
) -> Score:
    """Fit a clone of `estimator` with `parameters` on one fold and score it.

    A `probe` is asked for the hypergradient of what was fitted.

    Whatever goes wrong with the candidate is its score, with the traceback. What gets through is
    ``KeyboardInterrupt``, ``SystemExit``, errors of callbacks, and all if ``error_score="raise"``.
    """
    try:
        result = _fit_and_score(
            clone(estimator),
            X,
            y,
            parameters=parameters,
            scorer=scorer,
            error_score=error_score,
            return_train_score=return_train_score,
            return_n_test_samples=True,
            return_times=True,
            return_estimator=probe is not None,
            **kwargs,
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # parameters that cannot be set, scores that are no numbers, ...
        if error_score == "raise" or is_from_callback(error):
            raise
        failed = error_scores(scorer, error_score)
        train = failed if return_train_score else None
        return Score(failed, train, 0.0, 0.0, len(kwargs["test"]), traceback.format_exc())
    found: tuple[HyperGradient | None, str | None] = (None, None)
    if probe is not None and result["fit_error"] is None:
        found = probe(result["estimator"], X, y, **kwargs)
    return Score(
        test=result["test_scores"],
        train=result.get("train_scores"),
        fit_time=result["fit_time"],
        score_time=result["score_time"],
        n_test_samples=result["n_test_samples"],
        error=result["fit_error"],
        hypergradient=found[0],
        no_hypergradient=found[1],
    )


def n_trained_on(folds: list[tuple[Any, Any]]) -> tuple[int, ...]:
    """Return how many samples each fold is trained on; a splitter may give places, or a mask."""
    chosen = [np.asarray(train) for train, _ in folds]
    return tuple(int(c.sum()) if c.dtype == bool else len(c) for c in chosen)


class Probe(Protocol):
    """Asks a fitted estimator for a hypergradient."""

    def __call__(
        self, estimator: Any, X: Any, y: Any, **kwargs: Any
    ) -> tuple[HyperGradient | None, str | None]:
        """Return it, or why there is none; `kwargs` are those of ``_fit_and_score``."""


# One in work and one waiting, so that no worker waits while the next trial is thought of. What
# waits longer was proposed with less known.
CALLS_PER_WORKER = 2

# How long loky's manager thread may take to queue a call that was handed in.
_QUEUEING_SECONDS = 1.0


class Evaluator(Protocol):
    """Runs calls, each with a label, and hands results back as they finish.

    Attributes
    ----------
    n_workers : int
        How many calls run at the same time.
    leaves_process : bool
        Whether calls are pickled.
    n_running : int
        Calls handed in and not handed back.
    capacity : int
        How many calls may be handed in before one is handed back.
    can_abandon : bool
        Whether calls that run can be left to themselves.
    """

    n_workers: int
    leaves_process: bool
    n_running: int
    capacity: int
    can_abandon: bool

    def submit(self, label: Any, function: Callable[..., Any], kwargs: dict[str, Any]) -> None:
        """Hand in a call."""

    def next(self, timeout: float | None = None) -> tuple[Any, Any] | None:
        """Wait for a call to finish; return its label and result, or raise its error.

        None if none has after `timeout` seconds, of those that can be abandoned.
        """

    def abandon(self) -> None:
        """Drop what is running and waiting, at the end."""


class InProcess:
    """Runs one call after the other, here: no threads, no copies."""

    n_workers = 1
    leaves_process = False
    capacity = 1
    can_abandon = False

    def __init__(self) -> None:
        self.n_running = 0
        self._waiting: tuple[Any, Callable[..., Any], dict[str, Any]] | None = None

    def submit(self, label: Any, function: Callable[..., Any], kwargs: dict[str, Any]) -> None:
        """Keep the call until `next`."""
        self._waiting = (label, function, kwargs)
        self.n_running = 1

    def next(self, timeout: float | None = None) -> tuple[Any, Any]:
        """Run the call."""
        if self._waiting is None:
            raise RuntimeError("Nothing was handed in.")
        label, function, kwargs = self._waiting
        self._waiting, self.n_running = None, 0
        return label, function(**kwargs)

    def abandon(self) -> None:
        """Refuse: what runs here has the only thread there is."""
        raise RuntimeError("What runs in this process cannot be abandoned.")


class Workers:
    """Streams calls to the workers of a joblib backend.

    ``Parallel`` itself takes a list of calls, or reads ahead of a generator; a search learns what
    to submit next only from what has finished. So this speaks to the backend directly, with the
    interface that joblib documents for those who write backends.

    Parameters
    ----------
    parallel : joblib.Parallel
        Entered as a context manager.
    n_workers : int
        How many calls run at the same time.
    capacity : int
        How many calls may be with the backend at most.
    """

    leaves_process: bool
    n_running: int
    can_abandon = True

    def __init__(self, parallel: Any, n_workers: int, capacity: int) -> None:
        self._parallel = parallel
        self._backend = parallel._backend
        self.n_workers = n_workers
        self.leaves_process = not getattr(self._backend, "uses_threads", False)
        self.n_running = 0
        self.capacity = min(capacity, CALLS_PER_WORKER * n_workers)
        self._is_abandoned = False
        self._labels: dict[int, Any] = {}
        self._jobs: dict[int, Any] = {}
        self._tickets = itertools.count()
        self._finished: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = (
            queue.SimpleQueue()
        )
        self._pickles: dict[Any, Any] = {}  # joblib pickles what __main__ defines once, into this

    def submit(self, label: Any, function: Callable[..., Any], kwargs: dict[str, Any]) -> None:
        """Send the call to a worker."""
        calls = BatchedCalls(
            [(configured(_run_elsewhere), (function,), kwargs)],
            self._backend.get_nested_backend(),
            self._use_own_folder if isinstance(self._backend, LokyBackend) else None,
            self._pickles,
        )
        ticket = next(self._tickets)
        self._labels[ticket] = label
        self.n_running += 1
        job = self._backend.submit(
            calls, callback=lambda out: self._finished.put((ticket, out, None))
        )
        self._jobs[ticket] = job
        # Dask calls back only for results: a task that never ran would be waited for for ever.
        if hasattr(job, "add_done_callback"):
            job.add_done_callback(lambda job: self._report_loss(ticket, job))

    def _report_loss(self, ticket: int, job: Any) -> None:
        error = job.exception()
        if error is not None:
            self._finished.put((ticket, None, error))

    def next(self, timeout: float | None = None) -> tuple[Any, Any] | None:
        """Wait for a worker."""
        if timeout is not None:
            timeout = min(timeout, threading.TIMEOUT_MAX)
        try:
            ticket, out, error = self._finished.get(timeout=timeout)
            while ticket not in self._labels:  # a loss that was reported twice
                ticket, out, error = self._finished.get(timeout=timeout)
        except queue.Empty:
            return None
        self.n_running -= 1
        label = self._labels.pop(ticket)
        del self._jobs[ticket]
        if error is not None:
            raise error
        return label, self._backend.retrieve_result_callback(out)[0]

    def abandon(self) -> None:
        """Drop what is running and waiting, at the end."""
        self._is_abandoned = True

    def abort_after(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: Any
    ) -> None:
        """Drop what is running and waiting, if there was an error or it is abandoned."""
        if exc is None and not self._is_abandoned:
            return
        if isinstance(self._backend, LokyBackend):
            # Loky's manager thread dies noisily if it meets a call that it has not queued by now.
            deadline = time.monotonic() + _QUEUEING_SECONDS
            while time.monotonic() < deadline and not all(map(_is_queued, self._jobs.values())):
                time.sleep(0.001)
        self._backend.abort_everything(ensure_ready=False)

    def _use_own_folder(self) -> None:
        # Loky's workers outlive this search; large arrays go to the folder that ends with it.
        manager = self._backend._workers._temp_folder_manager
        manager.set_current_context(self._parallel._id)


class Evaluation:
    """Context manager that picks the evaluator for ``n_jobs`` and joblib's active backend.

    Parameters
    ----------
    n_jobs : int or None
        As in scikit-learn.
    pre_dispatch : int or str
        At most so many calls are with the backend at a time, as in scikit-learn.

    Attributes
    ----------
    n_workers_asked : int
        The workers that `n_jobs` names, whatever the backend grants: what the candidates of a
        seeded search depend on must not vary with the backend.
    """

    def __init__(self, n_jobs: int | None, pre_dispatch: int | str) -> None:
        self._parallel = Parallel(n_jobs=n_jobs, pre_dispatch=pre_dispatch)
        self._stack = ExitStack()
        self.n_workers_asked = 1

    def __enter__(self) -> Evaluator:
        parallel = self._parallel
        with ExitStack() as stack:  # a refusal leaves no pool behind
            stack.enter_context(parallel)
            granted = parallel._effective_n_jobs()
            self.n_workers_asked = parallel.n_jobs if parallel.n_jobs > 0 else granted
            capacity = _capacity(parallel.pre_dispatch, granted)
            if granted == 1:
                evaluator: Evaluator = InProcess()
            else:
                evaluator = self._start(stack, granted, capacity)
            self._stack = stack.pop_all()
        return evaluator

    def _start(self, stack: ExitStack, n_workers: int, capacity: int) -> Workers:
        backend = self._parallel._backend
        if not backend.supports_retrieve_callback:
            raise TypeError(
                f"The joblib backend {type(backend).__name__} cannot hand back results as they "
                f"finish. Use loky, threading, multiprocessing, dask or ray, or n_jobs=1."
            )
        if hasattr(backend, "start_call"):
            backend.start_call()
        self._parallel._calling = True  # so that Parallel ends the call when it ends itself
        workers = Workers(self._parallel, n_workers, capacity)
        stack.push(workers.abort_after)
        # A search in a worker gives its place away while it waits for other workers.
        stack.enter_context(backend.retrieval_context())
        return workers

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._stack.__exit__(exc_type, exc, tb)


def _run_elsewhere(function: Callable[..., Any], **kwargs: Any) -> Any:
    """Call `function` in a worker; an error that could not be sent back goes back as its text.

    Backends answer such an error in ways of their own, some by waiting for ever.
    """
    try:
        return function(**kwargs)
    except BaseException as error:
        if _can_travel(error):
            raise
        text = "".join(traceback.format_exception(error))
    raise RuntimeError(text)  # out here it has no context that would have to travel with it


def _can_travel(error: BaseException) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its own constructor raises
        return False
    return True


def _is_queued(job: Any) -> bool:
    return bool(job.running() or job.done())


def _capacity(pre_dispatch: int | str, n_workers: int) -> int:
    """Read ``pre_dispatch`` as joblib does."""
    if pre_dispatch == "all":
        return 2**31
    try:
        n_calls = int(eval_expr(str(pre_dispatch).replace("n_jobs", str(n_workers))))
    except Exception as error:
        raise ValueError(
            f"pre_dispatch={pre_dispatch!r} cannot be read. Use an int, 'all', or an expression "
            f"of n_jobs as '2*n_jobs'."
        ) from error
    if n_calls < 1:
        raise ValueError(
            f"pre_dispatch={pre_dispatch!r} comes to {n_calls} for {n_workers} workers; at least "
            f"one task must be dispatched."
        )
    return n_calls
