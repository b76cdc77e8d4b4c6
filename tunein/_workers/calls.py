"""Calls in, results out, as many at a time as a joblib backend has workers.

Nothing here knows what the calls compute.
"""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Self

from joblib.externals.loky.cloudpickle_wrapper import dumps
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import BatchedCalls

from tunein._abroad import Lost, Mark, Parcel, check_travel, run
from tunein._evaluation import Call
from tunein._sklearn import configured

# One in work and one waiting, so that no worker waits while the next trial is thought of. What
# waits longer was proposed with less known.
CALLS_PER_WORKER = 2


@dataclass
class Shipment(Call):
    """A call that was handed in, and what it went through."""

    mark: Mark | None = None
    is_alone: bool = False  # has it been there when a worker died, and runs without others now?
    edition: int = 0  # of the data that it was sent with
    n_resent: int = 0


class Workers:
    """Streams calls to the workers of a joblib backend, which are threads.

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
    if_lost : callable
        Called with the error and the arguments of a call that a worker did not survive, or that
        could not be sent; returns the result that it is given instead, or raises.
    fit_timeout : float or None
        Seconds that a call may take, if `keeps_time`.
    """

    leaves_process = False
    keeps_time = False
    can_abandon = True
    folder: str | None = None

    def __init__(
        self,
        parallel: Any,
        n_workers: int,
        capacity: int,
        if_lost: Callable[..., Any],
        fit_timeout: float | None,
    ) -> None:
        self._parallel = parallel
        self._backend = parallel._backend
        self._if_lost = if_lost
        self._fit_timeout = fit_timeout
        self.n_workers = n_workers
        self.n_running = 0
        self.capacity = min(capacity, CALLS_PER_WORKER * n_workers)
        self._is_abandoned = False
        self._waiting: deque[Shipment] = deque()
        self._sent: dict[int, Shipment] = {}
        self._jobs: dict[int, Any] = {}
        self._tickets = itertools.count()
        # What the threads of the backend tell: ticket, result and error.
        self._news: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
        self._done: deque[tuple[Any, Any]] = deque()
        self._pickles: dict[Any, Any] = {}  # joblib pickles what __main__ defines once, into this

    def submit(self, call: Call) -> None:
        """Send the call to a worker."""
        self.n_running += 1
        self._waiting.append(Shipment(**vars(call)))
        self._send_waiting()

    def next(self, timeout: float | None = None) -> tuple[Any, Any] | None:
        """Wait for a worker."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        while not self._done:
            self._send_waiting()
            left = until - time.monotonic()
            if not self._hear(max(left, 0.0)) and left <= 0:
                return None
        self.n_running -= 1
        return self._done.popleft()

    def abandon(self) -> None:
        """Drop what is running and waiting, at the end."""
        self._is_abandoned = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: Any) -> None:
        if exc_type is not None or self._is_abandoned:
            self._abort()

    def _abort(self) -> None:
        self._backend.abort_everything(ensure_ready=False)

    def _send_waiting(self) -> None:
        while self._waiting:
            self._send(self._waiting.popleft())

    def _send(self, call: Shipment) -> None:
        ticket = next(self._tickets)
        calls = BatchedCalls(
            [self._task(call, ticket)],
            self._backend.get_nested_backend(),
            self._before_pickling(),
            self._pickles,
        )
        self._sent[ticket] = call
        self._jobs[ticket] = job = self._submit(ticket, calls)
        # Dask calls back only for results: a task that never ran would be waited for for ever.
        if hasattr(job, "add_done_callback"):
            job.add_done_callback(lambda job: self._report_loss(ticket, job))

    def _task(self, call: Shipment, ticket: int) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """Return what a worker runs: function, arguments, keyword arguments."""
        return configured(call.function), (), {**call.kwargs, **call.own}

    def _before_pickling(self) -> Callable[[], None] | None:
        return None

    def _submit(self, ticket: int, calls: BatchedCalls) -> Any:
        return self._backend.submit(calls, callback=lambda out: self._report(ticket, out))

    def _report(self, ticket: int, out: Any) -> None:
        """Tell the waiting thread of a result, from a thread of the backend."""
        self._news.put((ticket, out, None))

    def _report_loss(self, ticket: int, job: Any) -> None:
        error = job.exception()
        if error is not None:
            self._news.put((ticket, None, error))

    def _hear(self, patience: float) -> bool:
        """Take in the next news; tell whether there were any within so many seconds."""
        try:
            ticket, out, error = self._news.get(timeout=min(patience, threading.TIMEOUT_MAX))
        except queue.Empty:
            return False
        if ticket in self._sent:  # not if it was told twice
            del self._jobs[ticket]
            self._receive(self._sent.pop(ticket), out, error)
        return True

    def _receive(self, call: Shipment, out: Any, error: BaseException | None) -> None:
        """Take in what a call came to."""
        if error is not None:
            raise error
        self._done.append((call.label, self._backend.retrieve_result_callback(out)[0]))


class Processes(Workers):
    """Workers that are processes, here or elsewhere."""

    leaves_process = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._n_back = 0
        self._is_checked = False

    def submit(self, call: Call) -> None:
        """Send the call to a worker, if it can be sent."""
        if not self._is_checked:
            # Of data, which is large, it is known.
            items = call.kwargs.items()
            check_travel({k: v for k, v in items if not hasattr(v, "shape")}, dumps)
            self._is_checked = True
        try:
            check_travel(call.own, dumps)
        except TypeError as error:
            self.n_running += 1
            self._lose(call, error)
        else:
            super().submit(call)

    def _task(self, call: Shipment, ticket: int) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        parcel = Parcel(call.function, dumps(dict(call.own)), dumps, call.mark)
        return configured(run), (parcel,), call.kwargs

    def _receive(self, call: Shipment, out: Any, error: BaseException | None) -> None:
        if error is None:
            try:
                out = self._backend.retrieve_result_callback(out)[0]
            except Exception as failure:  # whatever the backend makes of it
                error = failure
        if error is not None:
            self._receive_loss(call, error)
        else:
            self._n_back += 1
            try:
                self._done.append((call.label, out.unpack()))
            except Lost as lost:
                self._lose(call, lost)

    def _receive_loss(self, call: Shipment, error: BaseException) -> None:
        """Go on without the call if it cost a worker's life; if it cannot travel, none can."""
        if tells_of_death(error):
            self._lose(call, error)
        elif self._n_back:
            raise error
        else:
            self._give_up(error)

    def _give_up(self, cause: BaseException | None) -> NoReturn:
        raise RuntimeError(
            "Nothing could be run in the worker processes: they cannot start, or what every fit "
            "needs cannot be imported there. Use n_jobs=1, or joblib.parallel_config('threading')."
        ) from cause

    def _lose(self, call: Call, error: BaseException) -> None:
        self._done.append((call.label, self._if_lost(error, **call.kwargs)))


def tells_of_death(error: BaseException) -> bool:
    # Distributed's error goes by its name: it need not be installed.
    return isinstance(error, TerminatedWorkerError) or type(error).__name__ == "KilledWorker"
