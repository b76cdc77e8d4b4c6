"""Calls in, results out, as many at a time as joblib's active backend has workers.

The only module that imports joblib. Nothing here knows what the calls compute.
"""

from __future__ import annotations

import itertools
import math
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Self

from joblib import Parallel
from joblib._parallel_backends import LokyBackend, MultiprocessingBackend
from joblib._utils import eval_expr
from joblib.externals.loky import BrokenProcessPool
from joblib.externals.loky.backend import resource_tracker
from joblib.externals.loky.cloudpickle_wrapper import dumps
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import BatchedCalls

from tunein._abroad import Lost, Mark, Parcel, check_travel, how_it_ended, run, run_from_store
from tunein._evaluation import Evaluator, InProcess
from tunein._sklearn import configured

# One in work and one waiting, so that no worker waits while the next trial is thought of. What
# waits longer was proposed with less known.
CALLS_PER_WORKER = 2

# How long loky's manager thread may take to queue a call that was handed in.
_QUEUEING_SECONDS = 1.0

# How long the pool of multiprocessing may take to end.
_ENDING_SECONDS = 5.0

# How often workers are looked at where nobody says that one died (multiprocessing), or that there
# is one again (Dask).
_WATCHING_SECONDS = 0.5

# Where POSIX systems keep large files for a time.
_ON_DISK = "/var/tmp"

# How often data that a Dask cluster has lost is sent there anew for the same call.
_MAX_RESENT = 5

# Bytes from which on joblib sends a value to Dask's workers by itself, not with each call.
_LARGE = 1e3


@dataclass
class Call:
    """What was handed in, and what it went through."""

    label: Any
    function: Callable[..., Any]
    kwargs: dict[str, Any]
    own: Mapping[str, Any]
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
        self._waiting: deque[Call] = deque()
        self._sent: dict[int, Call] = {}
        self._jobs: dict[int, Any] = {}
        self._tickets = itertools.count()
        # What the threads of the backend tell: ticket, result and error.
        self._news: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
        self._done: deque[tuple[Any, Any]] = deque()
        self._pickles: dict[Any, Any] = {}  # joblib pickles what __main__ defines once, into this

    def submit(
        self,
        label: Any,
        function: Callable[..., Any],
        kwargs: dict[str, Any],
        own: Mapping[str, Any],
    ) -> None:
        """Send the call to a worker."""
        self.n_running += 1
        self._waiting.append(Call(label, function, kwargs, own))
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

    def _send(self, call: Call) -> None:
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

    def _task(self, call: Call, ticket: int) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
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

    def _receive(self, call: Call, out: Any, error: BaseException | None) -> None:
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

    def submit(
        self,
        label: Any,
        function: Callable[..., Any],
        kwargs: dict[str, Any],
        own: Mapping[str, Any],
    ) -> None:
        """Send the call to a worker, if it can be sent."""
        if not self._is_checked:
            # Of data, which is large, it is known.
            small = {name: value for name, value in kwargs.items() if not hasattr(value, "shape")}
            check_travel(small, dumps)
            self._is_checked = True
        try:
            check_travel(own, dumps)
        except TypeError as error:
            self.n_running += 1
            self._lose(Call(label, function, kwargs, own), error)
        else:
            super().submit(label, function, kwargs, own)

    def _task(self, call: Call, ticket: int) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        parcel = Parcel(call.function, dumps(dict(call.own)), dumps, call.mark)
        return configured(run), (parcel,), call.kwargs

    def _receive(self, call: Call, out: Any, error: BaseException | None) -> None:
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

    def _receive_loss(self, call: Call, error: BaseException) -> None:
        """Go on without the call if it cost a worker's life; if it cannot travel, none can."""
        if _tells_of_death(error):
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


class MarkedProcesses(Processes):
    """Processes on this machine, any of which may die without an end of the search.

    A call whose process died is tried once more, with no other beside it. It is lost if its
    process dies again, or if it died because the time was over.
    """

    keeps_time = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.folder: str = _make_folder(self._parallel._backend_kwargs["temp_folder"])
        self._suspects: deque[Call] = deque()

    def __exit__(self, exc_type: type[BaseException] | None, *_: Any) -> None:
        super().__exit__(exc_type)
        shutil.rmtree(self.folder, ignore_errors=True)
        resource_tracker.unregister(self.folder, "folder")

    def _send_waiting(self) -> None:
        if any(call.is_alone for call in self._sent.values()):
            return
        if not self._suspects:
            super()._send_waiting()
        elif not self._sent:
            self._send(self._suspects.popleft())

    def _task(self, call: Call, ticket: int) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        call.mark = Mark(os.path.join(self.folder, str(ticket)), self._fit_timeout)
        return super()._task(call, ticket)

    def _judge(self, call: Call, exit_code: int | None, cause: BaseException | None) -> None:
        """Decide on a call that was, or may have been, with a process that died."""
        trace = call.mark.read() if call.mark else None
        where = f" It was here:\n{trace.where}" if trace and trace.where else ""
        if trace and trace.time_was_over:
            text = f"fit_timeout={self._fit_timeout} seconds were over.{where}"
            self._lose(call, TimeoutError(text))
        elif call.is_alone and not trace and not self._n_back:
            self._give_up(cause)
        elif call.is_alone:
            when = "while fitting" if trace else "before it began to fit"
            text = f"The worker process died {when}, twice ({how_it_ended(exit_code)}).{where}"
            error = RuntimeError(text)
            error.__cause__ = cause
            self._lose(call, error)
        else:
            call.is_alone = True
            self._suspects.append(call)


class LokyProcesses(MarkedProcesses):
    """Loky's workers, which all end when one of them does."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._broken: list[Call] = []
        self._cause: BaseException | None = None
        self._processes: dict[int, Any] = {}
        self._exit_codes: dict[int, int] = {}

    def _abort(self) -> None:
        # Loky's manager thread dies noisily if it meets a call that it has not queued by now.
        deadline = time.monotonic() + _QUEUEING_SECONDS
        while time.monotonic() < deadline and not self._all_queued():
            time.sleep(0.001)
        if self._backend._workers is not None:  # not while the pool is being replaced
            super()._abort()

    def _all_queued(self) -> bool:
        return all(job.running() or job.done() for job in self._jobs.values())

    def _before_pickling(self) -> Callable[[], None]:
        return self._use_own_folder

    def _use_own_folder(self) -> None:
        # Loky's workers outlive this search; large arrays go to the folder that ends with it.
        manager = self._backend._workers._temp_folder_manager
        manager.set_current_context(self._parallel._id)

    def _send_waiting(self) -> None:
        if not self._broken:
            super()._send_waiting()

    def _submit(self, ticket: int, calls: BatchedCalls) -> Any:
        self._processes = self._backend._workers._processes
        try:
            return super()._submit(ticket, calls)
        except BrokenProcessPool as error:  # a worker died since the last call
            job: Future[Any] = Future()
            job.set_exception(error)
            return job

    def _report(self, ticket: int, out: Any) -> None:
        if isinstance(out.exception(), BrokenProcessPool):
            # Who is dead now died first: loky ends the others after it has told of this.
            codes = {pid: process.exitcode for pid, process in list(self._processes.items())}
            self._exit_codes |= {pid: code for pid, code in codes.items() if code is not None}
        super()._report(ticket, out)

    def _receive_loss(self, call: Call, error: BaseException) -> None:
        is_broken = isinstance(error, BrokenProcessPool)
        if not is_broken or not (self._n_back or _tells_of_death(error)):
            super()._receive_loss(call, error)
            return
        self._broken.append(call)
        self._cause = None if _tells_of_death(error) else error
        if not self._sent:  # all have been told of; some may have ended before
            self._restart()

    def _restart(self) -> None:
        """Replace the pool, and send again what was with it."""
        calls, self._broken = self._broken, []
        codes, self._exit_codes = self._exit_codes, {}
        self._backend.abort_everything(ensure_ready=False)  # waits until the last process is gone
        self._parallel._initialize_backend()
        traces = [call.mark.read() if call.mark else None for call in calls]
        blamed = [bool(trace and (trace.pid in codes or trace.time_was_over)) for trace in traces]
        any_code = next(iter(codes.values()), None)
        for call, trace, is_blamed in zip(calls, traces, blamed, strict=True):
            if is_blamed or not any(blamed):
                self._judge(call, codes.get(trace.pid if trace else 0, any_code), self._cause)
            else:
                self._waiting.append(call)


class ForkedProcesses(MarkedProcesses):
    """Workers of multiprocessing, which replaces one that died and tells nobody.

    So they are looked at from time to time. That shows who died at a call; one that dies between
    two calls takes the next with it unseen, or the lock that the others wait for.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._processes: dict[int, Any] = {}
        self._unseen: set[int] = set()

    def _abort(self) -> None:
        # Where Ctrl-C reached the workers as well, as in a terminal, one may have ended with a lock
        # that the pool then waits for, for ever.
        processes = list(self._backend._pool._pool)
        ending = threading.Thread(target=super()._abort, daemon=True)
        ending.start()
        ending.join(_ENDING_SECONDS)
        if ending.is_alive():
            for process in processes:
                process.kill()

    def _hear(self, patience: float) -> bool:
        self._processes |= {process.pid: process for process in list(self._backend._pool._pool)}
        has_heard = super()._hear(min(patience, _WATCHING_SECONDS))
        if not has_heard:
            self._look_for_dead()
        return has_heard

    def _look_for_dead(self) -> None:
        unseen, self._unseen = self._unseen, set()
        for ticket, call in list(self._sent.items()):
            trace = call.mark.read() if call.mark else None
            if trace is None:
                continue
            process = self._processes.get(trace.pid)
            if process is None and trace.pid not in unseen:
                self._unseen.add(trace.pid)  # born and gone between two looks, or born just now
            elif process is None or process.exitcode is not None:
                del self._jobs[ticket], self._sent[ticket]
                self._judge(call, process and process.exitcode, None)


class Shared:
    """Where values are that many calls share, for as long as these live.

    Parameters
    ----------
    places : dict of int to object
        By the identity of the value.
    """

    def __init__(self, places: dict[int, Any]) -> None:
        self.places = places
        self._alive: dict[int, weakref.ref[Any]] = {}

    def add(self, value: Any, place: Any) -> None:
        """Say where a value is."""
        key, places, alive = id(value), self.places, self._alive

        def release(_: weakref.ref[Any]) -> None:
            """Forget a value that is gone, before another has its identity."""
            places.pop(key, None)
            alive.pop(key, None)

        places[key] = place
        alive[key] = weakref.ref(value, release)

    def forget(self) -> None:
        """Forget all that were added: what is changed in place later is not what is there."""
        for key in list(self._alive):
            self.places.pop(key, None)
        self._alive.clear()


class RayProcesses(Processes):
    """Workers of Ray's pool.

    Its joblib backend means to put what calls share into Ray's object store, once, but does not
    recognise the calls of the present joblib, and sends all with each. So data are put there here.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._stored = Shared({})

    def __exit__(self, exc_type: type[BaseException] | None, *_: Any) -> None:
        super().__exit__(exc_type)
        self._stored.forget()

    def _task(self, call: Call, ticket: int) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        _, parcel, kwargs = super()._task(call, ticket)
        return configured(run_from_store), parcel, {k: self._store(v) for k, v in kwargs.items()}

    def _store(self, value: Any) -> Any:
        if not hasattr(value, "shape"):
            return value
        if id(value) not in self._stored.places:
            self._stored.add(value, sys.modules["ray"].put(value))
        return self._stored.places[id(value)]


class DaskProcesses(Processes):
    """Workers of a Dask cluster, which may come and go.

    What is large, as X, is sent to one worker only, once; the others get it from there, and fits
    name it. If all workers that have it die, fits that need it are cancelled, those to come as
    well. Then it is sent anew, and so are they, as soon as there is a worker to send it to.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._edition = 0
        self._shared = Shared(self._backend.data_futures)
        self._rests_until = 0.0  # while workers may be gone, nothing is sent

    def __exit__(self, exc_type: type[BaseException] | None, *_: Any) -> None:
        super().__exit__(exc_type)
        self._shared.forget()

    def _send_waiting(self) -> None:
        if self._rests_until and time.monotonic() >= self._rests_until:
            self._rests_until = 0.0
            if not self._has_workers():
                self._rest()
        while self._waiting and not self._rests_until:
            self._send(self._waiting.popleft())

    def _rest(self) -> None:
        self._rests_until = time.monotonic() + _WATCHING_SECONDS

    def _has_workers(self) -> bool:
        try:
            return bool(self._backend.client.nthreads())
        except OSError as error:  # of the connection
            raise _lost_scheduler() from error

    def _hear(self, patience: float) -> bool:
        return super()._hear(min(patience, _WATCHING_SECONDS) if self._rests_until else patience)

    def _send(self, call: Call) -> None:
        call.edition = self._edition
        try:
            for value in call.kwargs.values():
                self._share(value)
        except OSError as error:  # the worker chosen is dead, which is not known everywhere yet
            self._send_again(call, error)
        else:
            super()._send(call)

    def _share(self, value: Any) -> None:
        """Send a value to the cluster, if it is large and not there.

        Joblib would do so, but where that fails the call is never heard of again.
        """
        if id(value) not in self._shared.places and _is_large(value):
            self._shared.add(value, self._backend.client.scatter(value, hash=False))

    def _receive_loss(self, call: Call, error: BaseException) -> None:
        if not _tells_of_cancellation(error):
            super()._receive_loss(call, error)
            return
        if call.edition == self._edition:  # else it has been sent anew for another call
            self._shared.forget()
            self._backend.data_futures.clear()  # what the user had scattered
            self._edition += 1
        self._send_again(call, error)

    def _send_again(self, call: Call, error: BaseException) -> None:
        if self._backend.client.status != "running":
            raise _lost_scheduler() from error
        if call.n_resent == _MAX_RESENT:
            raise error
        call.n_resent += 1
        self._waiting.append(call)
        self._rest()


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
        kind = _kind_of(backend)
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


def _kind_of(backend: Any) -> type[Workers]:
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


def _lost_scheduler() -> ConnectionError:
    return ConnectionError(
        "The connection to Dask's scheduler was lost. The scores that had come back are in the "
        "file at checkpoint=, if there is one; the same fit resumes from there."
    )


def _make_folder(wanted: str | None) -> str:
    """Make a folder that is gone with this process, however that ends.

    It is to be on a disk: where nothing else is said not in /tmp, which is often in memory.
    """
    parent = wanted or os.environ.get("JOBLIB_TEMP_FOLDER")
    if parent:
        os.makedirs(parent, exist_ok=True)
    elif "TMPDIR" not in os.environ and os.access(_ON_DISK, os.W_OK):
        parent = _ON_DISK
    folder = tempfile.mkdtemp(prefix="tunein-", dir=parent)
    resource_tracker.register(folder, "folder")
    return folder


def _tells_of_death(error: BaseException) -> bool:
    # Distributed's error goes by its name: it need not be installed.
    return isinstance(error, TerminatedWorkerError) or type(error).__name__ == "KilledWorker"


def _is_large(value: Any) -> bool:
    """Tell whether joblib would send a value to Dask's workers by itself."""
    from joblib._dask import is_weakrefable, sizeof  # Dask's, where that is installed

    return bool(is_weakrefable(value) and sizeof(value) > _LARGE)


def _tells_of_cancellation(error: BaseException) -> bool:
    return isinstance(error, CancelledError)  # of which distributed's is one


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
