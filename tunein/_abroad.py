"""A call in another process: what it takes along, what it sends back, what it leaves behind.

What only this call has travels as bytes, and so does what it comes to. What cannot be packed or
unpacked then fails this call alone; joblib's backends answer that in ways of their own, some by
waiting for ever. While it runs there is a mark on disk, for those who ask what became of it when
its process is gone.
"""

from __future__ import annotations

import faulthandler
import itertools
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Trace:
    """What a mark shows of a call that has begun and not ended.

    Attributes
    ----------
    pid : int
        The process that it was given to.
    where : str
        The lines of code that the call was at when its process ended, innermost first; empty if
        nobody could write them down.
    time_was_over : bool
        Whether the process ended because the call had taken too long.
    """

    pid: int
    where: str
    time_was_over: bool


@dataclass(frozen=True)
class Mark:
    """A file that is there from the beginning of a call to its end.

    A process that is gone cannot be asked; the mark tells which process the call was with, and
    where in the code it was when its time was over or when it crashed.

    Parameters
    ----------
    path : str
        On a disk that is the same for this process and for the one that runs the call.
    limit : float or None
        Seconds after which the process ends.
    """

    path: str
    limit: float | None = None

    def run(self, function: Callable[[], T]) -> T:
        """Call `function`, marked.

        The limit is kept by a thread that needs no interpreter, so it holds in compiled code that
        never gives the interpreter back. It cannot interrupt; all it can do is end the process.
        There is one such timer in a process: a function that sets its own takes the place of this,
        and a process that was forked while there was one cannot have another.
        """
        try:
            with open(self.path, "w") as file:
                file.write(f"{os.getpid()}\n")
                file.flush()
                with self._reports_to(file):
                    return function()
        finally:
            with suppress(OSError):
                os.unlink(self.path)

    @contextmanager
    def _reports_to(self, file: TextIO) -> Iterator[None]:
        was_enabled = faulthandler.is_enabled()
        faulthandler.enable(file)
        if self.limit is not None:
            faulthandler.dump_traceback_later(self.limit, exit=True, file=file)
        try:
            yield
        finally:
            if self.limit is not None:
                faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()
            if was_enabled:
                faulthandler.enable(2)  # standard error, as by default

    def read(self) -> Trace | None:
        """Return what there is to see; None if the call has not begun, or has ended."""
        try:
            first, _, report = Path(self.path).read_text(errors="replace").partition("\n")
        except FileNotFoundError:
            return None
        if not first:
            return None
        return Trace(int(first), _own_lines(report), report.startswith("Timeout ("))


def _own_lines(report: str) -> str:
    """Return the lines of the call itself from faulthandler's report on all threads."""
    threads = report.split("\n\n")
    ours = next((thread for thread in threads if __file__ in thread), report)
    lines = [line for line in ours.splitlines() if line.startswith("  File ")]
    return "\n".join(itertools.takewhile(lambda line: __file__ not in line, lines))


def how_it_ended(exit_code: int | None) -> str:
    """Put the exit code of a process into words."""
    if exit_code is None:
        return "exit code unknown"
    if exit_code == -9:  # Windows has no signal.SIGKILL to compare with
        return "exit code -9: out of memory, or killed"
    try:
        return f"exit code {exit_code}: {signal.Signals(-exit_code).name}"
    except ValueError:  # it ended itself, or the system did in a way of its own
        return f"exit code {exit_code}"


def check_travel(arguments: Mapping[str, Any], dumps: Callable[[Any], bytes]) -> None:
    """Raise a TypeError that names the argument which cannot be pickled, and back."""
    for name, value in arguments.items():
        try:
            pickle.loads(dumps(value))
        except Exception as error:  # whatever an object's own reduction raises
            raise TypeError(
                f"{name}, a {type(value).__name__}, cannot be sent to a worker process: {error!r}. "
                f"Use n_jobs=1, or joblib.parallel_config('threading')."
            ) from error


@dataclass(frozen=True)
class Parcel:
    """A call that can be pickled whatever it takes along.

    Parameters
    ----------
    function : callable
        What to call.
    content : bytes
        The pickled arguments that are its own.
    dumps : callable
        Pickles what it comes to.
    mark : Mark or None
        Where to leave a mark.
    """

    function: Callable[..., Any]
    content: bytes
    dumps: Callable[[Any], bytes]
    mark: Mark | None


class Lost(Exception):
    """What a call took along, or came to, could not be packed or unpacked."""


class _InWorker(Exception):
    """A traceback from another process."""


@dataclass(frozen=True)
class Outcome:
    """What became of a call, in bytes and text, which always arrive.

    Attributes
    ----------
    kind : {"returned", "raised", "lost"}
        Lost is what could not be packed or unpacked.
    content : bytes
        The pickled result or error.
    text : str
        The traceback.
    """

    kind: Literal["returned", "raised", "lost"]
    content: bytes = b""
    text: str = ""

    @classmethod
    def of(cls, parcel: Parcel, kwargs: dict[str, Any]) -> Outcome:
        """Call the function, and keep what it does."""
        try:
            own = pickle.loads(parcel.content)
        except Exception:  # whatever an object's own constructor raises
            return cls("lost", text=traceback.format_exc())
        try:
            result = parcel.function(**kwargs, **own)
        except BaseException as error:
            text = traceback.format_exc()
            with suppress(Exception):  # whatever its own reduction raises
                return cls("raised", parcel.dumps(error), text)
            return cls("raised", text=text)
        try:
            return cls("returned", parcel.dumps(result))
        except Exception:  # whatever an object's own reduction raises
            return cls("lost", text=traceback.format_exc())

    def unpack(self) -> Any:
        """Return what the call returned, or raise what it raised; raise `Lost` if that is lost."""
        if self.kind == "lost":
            raise Lost(f"A call or its result could not be sent:\n{self.text}")
        try:
            content = pickle.loads(self.content)
        except Exception as error:  # whatever an object's own constructor raises
            if self.kind == "returned":
                raise Lost("The result of a call could not be unpickled.") from error
            content = RuntimeError(self.text)
        if self.kind == "raised":
            raise content from _InWorker(f"\n{self.text}")
        return content


def run_from_store(parcel: Parcel, /, **kwargs: Any) -> Outcome:
    """As `run`; arguments may be references to what is in the object store of Ray."""
    ray: Any = sys.modules["ray"]
    there = {
        name: ray.get(value) if isinstance(value, ray.ObjectRef) else value
        for name, value in kwargs.items()
    }
    return run(parcel, **there)


def run(parcel: Parcel, /, **kwargs: Any) -> Outcome:
    """Call what is in the parcel with its own arguments and these; never raise."""
    outcome = partial(Outcome.of, parcel, kwargs)
    return parcel.mark.run(outcome) if parcel.mark else outcome()
