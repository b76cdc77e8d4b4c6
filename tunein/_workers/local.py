"""Workers that are processes on this machine, any of which may die without an end of the search."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib.externals.loky import BrokenProcessPool
from joblib.parallel import BatchedCalls

from tunein._abroad import Mark, how_it_ended
from tunein._workers.calls import Processes, Shipment, tells_of_death

# How long loky's manager thread may take to queue a call that was handed in.
_QUEUEING_SECONDS = 1.0

# How long the pool of multiprocessing may take to end.
_ENDING_SECONDS = 5.0

# How often workers are looked at, as multiprocessing does not say that one died.
_WATCHING_SECONDS = 0.5

# Where POSIX systems keep large files for a time.
_ON_DISK = "/var/tmp"


class MarkedProcesses(Processes):
    """Processes on this machine, any of which may die without an end of the search.

    A call whose process died is tried once more, with no other beside it. It is lost if its
    process dies again, or if it died because the time was over.
    """

    keeps_time = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        parent = _place_on_disk(self._parallel._backend_kwargs["temp_folder"])
        self._folder = tempfile.TemporaryDirectory(
            prefix="tunein-", dir=parent, ignore_cleanup_errors=True
        )
        self.folder: str = self._folder.name
        self._suspects: deque[Shipment] = deque()

    def __exit__(self, exc_type: type[BaseException] | None, *_: Any) -> None:
        super().__exit__(exc_type)
        self._folder.cleanup()

    def _send_waiting(self) -> None:
        if any(call.is_alone for call in self._sent.values()):
            return
        if not self._suspects:
            super()._send_waiting()
        elif not self._sent:
            self._send(self._suspects.popleft())

    def _task(self, call: Shipment, ticket: int) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        call.mark = Mark(os.path.join(self.folder, str(ticket)), self._fit_timeout)
        return super()._task(call, ticket)

    def _judge(self, call: Shipment, exit_code: int | None, cause: BaseException | None) -> None:
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
        self._broken: list[Shipment] = []
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

    def _receive_loss(self, call: Shipment, error: BaseException) -> None:
        is_broken = isinstance(error, BrokenProcessPool)
        if not is_broken or not (self._n_back or tells_of_death(error)):
            super()._receive_loss(call, error)
            return
        self._broken.append(call)
        self._cause = None if tells_of_death(error) else error
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


def _place_on_disk(wanted: str | None) -> str | None:
    """Return where temporary files go; where nothing else is said not /tmp, often in memory."""
    place = wanted or os.environ.get("JOBLIB_TEMP_FOLDER")
    if place:
        os.makedirs(place, exist_ok=True)
    elif "TMPDIR" not in os.environ and os.access(_ON_DISK, os.W_OK):
        place = _ON_DISK
    return place
