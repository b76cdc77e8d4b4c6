"""What a call leaves on disk, for those who ask what became of it when its process is gone."""

from __future__ import annotations

import faulthandler
import itertools
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

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
        """
        with open(self.path, "w") as file:
            file.write(f"{os.getpid()}\n")
            file.flush()
            was_enabled = faulthandler.is_enabled()
            faulthandler.enable(file)
            if self.limit is not None:
                faulthandler.dump_traceback_later(self.limit, exit=True, file=file)
            try:
                return function()
            finally:
                faulthandler.cancel_dump_traceback_later()
                faulthandler.disable()
                if was_enabled:
                    faulthandler.enable()
                with suppress(OSError):
                    os.unlink(self.path)

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
    if exit_code >= 0:
        return f"exit code {exit_code}: it ended itself"
    if exit_code == -9:  # Windows has no signal.SIGKILL to compare with
        return "exit code -9: out of memory, or killed"
    try:
        return f"exit code {exit_code}: {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"exit code {exit_code}"
