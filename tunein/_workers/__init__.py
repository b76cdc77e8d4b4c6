"""Calls in, results out, as many at a time as joblib's active backend has workers.

The only package that imports joblib. `calls` speaks to any backend, and is all that threads need;
`local` and `clusters` are about processes, here and elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from joblib import Parallel
from joblib._parallel_backends import LokyBackend, MultiprocessingBackend
from joblib._utils import eval_expr

from tunein._evaluation import Evaluator, InProcess
from tunein._workers.calls import Processes, Workers
from tunein._workers.clusters import DaskProcesses, RayProcesses
from tunein._workers.local import ForkedProcesses, LokyProcesses

__all__ = ["Evaluation", "kind_of"]


class Evaluation:
    """Context manager that picks the evaluator for ``n_jobs`` and joblib's active backend.

    Parameters
    ----------
    n_jobs : int or None
        As in scikit-learn.
    pre_dispatch : int or str
        At most so many calls are with the backend at a time, as in scikit-learn.
    if_lost, fit_timeout
        As in `Workers`.

    Attributes
    ----------
    n_workers_asked : int
        The workers that `n_jobs` names, whatever the backend grants: what the candidates of a
        seeded search depend on must not vary with the backend.
    """

    def __init__(
        self,
        n_jobs: int | None,
        pre_dispatch: int | str,
        if_lost: Callable[..., Any],
        fit_timeout: float | None = None,
    ) -> None:
        self._parallel = Parallel(n_jobs=n_jobs, pre_dispatch=pre_dispatch)
        self._if_lost = if_lost
        self._fit_timeout = fit_timeout
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
                self._check_limit(
                    False, f"n_jobs={parallel.n_jobs}: the one worker is this process"
                )
                evaluator: Evaluator = InProcess()
            else:
                evaluator = self._start(stack, granted, capacity)
            self._stack = stack.pop_all()
        return evaluator

    def _check_limit(self, keeps_time: bool, there: str) -> None:
        if self._fit_timeout is not None and not keeps_time:
            raise ValueError(
                f"fit_timeout={self._fit_timeout!r} ends processes, and cannot with {there}. Use "
                f"n_jobs of 2 or more, or -1, on joblib's default backend, loky; or "
                f"fit_timeout=None."
            )

    def _start(self, stack: ExitStack, n_workers: int, capacity: int) -> Workers:
        backend = self._parallel._backend
        if not backend.supports_retrieve_callback:
            raise TypeError(
                f"The joblib backend {type(backend).__name__} cannot hand back results as they "
                f"finish. Use loky, threading, multiprocessing, dask or ray, or n_jobs=1."
            )
        kind = kind_of(backend)
        self._check_limit(kind.keeps_time, f"the joblib backend {type(backend).__name__}")
        if hasattr(backend, "start_call"):
            backend.start_call()
        self._parallel._calling = True  # so that Parallel ends the call when it ends itself
        workers = kind(self._parallel, n_workers, capacity, self._if_lost, self._fit_timeout)
        stack.enter_context(workers)
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


def kind_of(backend: Any) -> type[Workers]:
    """Return the class that speaks to a backend of joblib."""
    if getattr(backend, "uses_threads", False):
        return Workers
    if isinstance(backend, LokyBackend):
        return LokyProcesses
    # These by name: they need not be installed, and importing them takes long.
    name = type(backend).__name__
    if name == "DaskDistributedBackend":
        return DaskProcesses
    if name == "RayBackend":  # derived from that of multiprocessing, without its processes
        return RayProcesses
    return ForkedProcesses if isinstance(backend, MultiprocessingBackend) else Processes


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
