"""What running costs: wall time, CPU time and memory of a process."""

from __future__ import annotations

import functools
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# What Linux tells a process of itself.
_STATUS = Path("/proc/self/status")

# Two counts of the same peak differ by less.
_INHERITED = 0.95

P = ParamSpec("P")
T = TypeVar("T")


class Clock:
    """The time that a search takes; runs while it is entered as a context.

    Attributes
    ----------
    before : float
        Wall seconds that count from before: those of a search that this one goes on with.
    waited : float
        Seconds of this run in which the search waited for folds.
    cpu_of_folds : float
        CPU seconds of folds that ran in this process.
    """

    def __init__(self) -> None:
        self.before = 0.0
        self.waited = 0.0
        self.cpu_of_folds = 0.0
        self._wall, self._cpu = 0.0, 0.0
        self._start: tuple[float, float] | None = None

    def __enter__(self) -> Self:
        self._start = time.monotonic(), time.process_time()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._wall, self._cpu = self.this_run, self.cpu
        self._start = None

    @property
    def this_run(self) -> float:
        """Wall seconds since it was entered."""
        return self._wall if self._start is None else time.monotonic() - self._start[0]

    @property
    def cpu(self) -> float:
        """CPU seconds of this process since it was entered."""
        return self._cpu if self._start is None else time.process_time() - self._start[1]

    @property
    def seconds(self) -> float:
        """Wall seconds in all."""
        return self.before + self.this_run

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.waited += time.monotonic() - start


def metered(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function that returns a dataclass fill in its `cpu_time` and `peak_memory`."""

    @functools.wraps(function)
    def measured(*args: P.args, **kwargs: P.kwargs) -> T:
        clock = _cpu_clock()
        start = clock()
        result: Any = function(*args, **kwargs)
        return replace(result, cpu_time=clock() - start, peak_memory=peak_memory())  # type: ignore[no-any-return]

    return measured


def _cpu_clock() -> Callable[[], float]:
    """Return what counts the CPU seconds of what runs here, and of nothing else.

    Workers that are processes run in their main thread, and threads that they start are theirs.
    Next to other workers that are threads, a thread can be told from those only by itself.
    """
    alone = threading.current_thread() is threading.main_thread()
    return time.process_time if alone else time.thread_time


def peak_memory() -> int | None:
    """Return the most bytes of memory this process has had; None where the system cannot tell."""
    if resource is None:
        return None
    peak = _peak_by_usage()
    # To ask the other way takes a tenth of a millisecond.
    return peak if peak > _inherited() else _peak_by_status() or peak


@functools.cache
def _inherited() -> int:
    """Return the peak that this process was started with; 0 if it has had more since.

    On Linux a process inherits what getrusage says of the one that started it.
    """
    peak, own = _peak_by_usage(), _peak_by_status()
    return peak if own is not None and own < _INHERITED * peak else 0


def _peak_by_usage() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _peak_by_status() -> int | None:
    if not _STATUS.exists():
        return None
    found = re.search(r"^VmHWM:\s*(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else None
