"""Workers of a cluster, to which large data are sent once."""

from __future__ import annotations

import sys
import time
import weakref
from concurrent.futures import CancelledError
from typing import Any

from tunein._abroad import run_from_store
from tunein._sklearn import configured
from tunein._workers.calls import Processes, Shipment

# How often is looked whether Dask has a worker again.
_WATCHING_SECONDS = 0.5

# How often data that a Dask cluster has lost is sent there anew for the same call.
_MAX_RESENT = 5

# Bytes from which on joblib sends a value to Dask's workers by itself, not with each call.
_LARGE = 1e3


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

    def _task(self, call: Shipment, ticket: int) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
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

    def _send(self, call: Shipment) -> None:
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

    def _receive_loss(self, call: Shipment, error: BaseException) -> None:
        if not _tells_of_cancellation(error):
            super()._receive_loss(call, error)
            return
        if call.edition == self._edition:  # else it has been sent anew for another call
            self._shared.forget()
            self._backend.data_futures.clear()  # what the user had scattered
            self._edition += 1
        self._send_again(call, error)

    def _send_again(self, call: Shipment, error: BaseException) -> None:
        if self._backend.client.status != "running":
            raise _lost_scheduler() from error
        if call.n_resent == _MAX_RESENT:
            raise error
        call.n_resent += 1
        self._waiting.append(call)
        self._rest()


def _lost_scheduler() -> ConnectionError:
    return ConnectionError(
        "The connection to Dask's scheduler was lost. The scores that had come back are in the "
        "file at checkpoint=, if there is one; the same fit resumes from there."
    )


def _is_large(value: Any) -> bool:
    """Tell whether joblib would send a value to Dask's workers by itself."""
    from joblib._dask import is_weakrefable, sizeof  # Dask's, where that is installed

    return bool(is_weakrefable(value) and sizeof(value) > _LARGE)


def _tells_of_cancellation(error: BaseException) -> bool:
    return isinstance(error, CancelledError)  # of which distributed's is one
