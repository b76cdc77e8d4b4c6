"""The record of a search on disk: a header that says which search, then a line for each event.

What was computed is on disk before the search goes on, so that one that was cut short, by whatever
and wherever, is resumed by reading its events again. Whole lines are appended, and nothing before
the end is ever changed; a line that was cut off is not believed.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
import sys
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, Self

from tunein._events import (
    MOST_LEVELS,
    Damage,
    Event,
    Replay,
    dropped,
    from_line,
    opened,
    scored,
    to_line,
    whole,
)
from tunein._fingerprint import MEASURED, Fingerprint, Part, points_of, versions
from tunein._history import History, Score, Trial
from tunein._racing import TooFewCandidates
from tunein._space import Space

_FORMAT = 1

# With what every journal begins: no other file is written into.
_MAGIC = b'{"tunein":"journal",'

# Bytes of a line, as a bound for what is read at once: slopes of thousands of parameters are less.
_LONGEST_LINE = 1 << 25


# Folds of a search, as a bound for what is set aside for a file that says it has more.
_MOST_FOLDS = 100_000


class CheckpointError(OSError):
    """The disk does not take more of a journal."""


class Journal:
    """A journal that is open, and locked against other processes.

    Use `Journal.open`, then `replay`; from then on the record that follows is written down.

    Attributes
    ----------
    path : str
        Where it is.
    seed : int
        That of the search that began it.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.seed = 0
        self._history: History | None = None
        self._file = descriptor
        self._end = 0  # of the last whole line
        _OPEN.add(self)

    @classmethod
    def open(
        cls,
        checkpoint: str | os.PathLike[str],
        fingerprint: Fingerprint,
        seed: int,
        shape: tuple[int, str | None, int],
    ) -> Self:
        """Open the journal of a search, or begin one.

        Parameters
        ----------
        checkpoint : str or os.PathLike
            Its path, in which ``{fingerprint}`` is replaced.
        fingerprint : Fingerprint
            Of the search.
        seed : int
            With which the search goes on, unless the journal has another.
        shape : (int, str or None, int)
            Number of folds, which of several metrics drives the search, and its highest level.

        Raises
        ------
        ValueError
            If the file is of something else.
        OSError
            If it cannot be opened, or is being written by another process.
        """
        path = os.fsdecode(checkpoint).replace("{fingerprint}", fingerprint.digest)
        journal = cls(path, _opened(path))
        try:
            _lock(journal._file, path)
            if not journal._resume(fingerprint):
                journal._begin(fingerprint, seed, shape)
        except BaseException:
            journal.close()
            raise
        return journal

    # ------------------------------------------------------------------ the header

    def _begin(
        self, fingerprint: Fingerprint, seed: int, shape: tuple[int, str | None, int]
    ) -> None:
        header = {
            "tunein": "journal",
            "format": _FORMAT,
            "versions": versions(),
            "seed": seed,
            "folds": shape[0],
            "metric": shape[1],
            "top": shape[2],
            "search": {name: [part.text, part.digest] for name, part in fingerprint.parts.items()},
        }
        self.seed = seed
        self._cut_back()
        self._append(header, sync=True)

    def _resume(self, fingerprint: Fingerprint) -> bool:
        """Check that the journal is of this search; False if it has not been begun."""
        line = next(self._lines(), b"")
        header = _Header.read(line, self.path)
        if header is None:
            return False
        if told := fingerprint.explain_difference(header.parts):
            raise ValueError(
                f"{self.path} was written by another search: {told} "
                f"With {{fingerprint}} in the path each search has a file of its own."
            )
        self.seed, self._end = header.seed, len(line)
        self._warn_of_versions(header.versions)
        return True

    def _warn_of_versions(self, written: dict[str, Any]) -> None:
        ours = versions()
        differing = [name for name in ours if written.get(name) != ours[name]]
        if differing:
            were, are = (
                ", ".join(f"{name} {of.get(name)}" for name in differing) for of in (written, ours)
            )
            warnings.warn(
                f"{self.path} was written with {were}; here it is {are}. Scores of both are "
                f"compared with each other.",
                UserWarning,
                stacklevel=2,
            )

    # ------------------------------------------------------------------ reading

    def _lines(self) -> Iterator[bytes]:
        """Yield the lines, the last one perhaps without an end."""
        with open(self._file, "rb", closefd=False) as file:
            file.seek(0)
            yield from _lines(file)

    def replay(self, replay: Replay) -> None:
        """Bring all events into a record, and write down what happens to it from now on.

        The file is not touched before all of it has been read.
        """
        self._end = _replay(self._lines(), replay, self.path)
        self._cut_back()
        self._history = replay.history
        self._history.read_from = self.path
        self._history.follow(self)

    # ------------------------------------------------------------------ writing

    def opened(self, trial: Trial) -> None:
        """Write that a trial was opened."""
        self._append(opened(trial.number, trial.proposal))

    def recorded(self, trial: Trial, fold: int, score: Score) -> None:
        """Write what a trial got on a fold."""
        seconds = self._history.seconds if self._history is not None else 0.0
        self._append(scored(trial.number, fold, score, seconds), sync=trial.closed)

    def dropped(self, trial: Trial) -> None:
        """Write that a trial was dropped."""
        self._append(dropped(trial.number), sync=True)

    def _append(self, event: Event, *, sync: bool = False) -> None:
        line = to_line(event)
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            if sync:
                os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):  # what is left there has no end, and is not believed
                self._cut_back()
            raise CheckpointError(
                error.errno,
                f"checkpoint cannot be written to: {error.strerror}. Make room, or give another "
                f"path; fit goes on from what the file holds",
                self.path,
            ) from error
        self._end += len(line)

    def _cut_back(self) -> None:
        """Cut off what follows the last whole line, and stand there."""
        os.ftruncate(self._file, self._end)
        os.lseek(self._file, self._end, os.SEEK_SET)

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """Close the file, which unlocks it."""
        if self._history is not None:
            self._history.follow(None)
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


# --------------------------------------------------------------------- reading


@dataclass(frozen=True)
class _Header:
    """What the first line says."""

    seed: int
    folds: int
    metric: str | None
    top: int
    versions: dict[str, Any]
    parts: dict[str, Part]

    @classmethod
    def read(cls, line: bytes, path: str) -> _Header | None:
        """Read it; None if it was not written to its end."""
        if not (_MAGIC.startswith(line[: len(_MAGIC)]) or line.startswith(_MAGIC)):
            raise ValueError(f"{path} is not a journal of a search. Give another path.")
        if not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
            return None
        try:
            found = from_line(line)
            if found["format"] != _FORMAT:
                raise NotImplementedError(f"{found['format']!r:.20}")
            return cls(
                whole(found["seed"], "'seed'", 2**32 - 1),
                whole(found["folds"], "'folds'", _MOST_FOLDS),
                None if found["metric"] is None else str(found["metric"]),
                whole(found["top"], "'top'", MOST_LEVELS - 1),
                dict(found["versions"]),
                {name: Part(*map(str, part)) for name, part in found["search"].items()},
            )
        except NotImplementedError as error:
            raise ValueError(
                f"{path} has format {error}; this version of tunein reads format {_FORMAT}. "
                f"Update tunein, or give another path."
            ) from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise _explained(path, 1, f"{type(error).__name__}: {error}") from error


def read_journal(checkpoint: str | os.PathLike[str], space: Space, name: str) -> History:
    """Return the record that a journal holds, of a search of the same space.

    `name` is for the error if it is of another one.
    """
    path = os.fsdecode(checkpoint)
    with _to_read(path, name) as file:
        header = _Header.read(next(_lines(file), b""), path)
        if header is None:
            return History(1, len(space.dimensions))
        theirs = header.parts.get("param_distributions", Part("none", ""))
        if theirs.digest != points_of(space).digest:
            raise ValueError(
                f"{name}: {path} holds points of another search space, {theirs.text}. "
                f"Load it with a search of that space, whose fit runs nothing anew, and give its "
                f"history_."
            )
        history = History(header.folds, len(space.dimensions), header.metric, top=header.top)
        history.measured = {
            part: header.parts[part].digest
            for part in header.parts
            if part in MEASURED or part.startswith("fit's ")
        }
        file.seek(0)
        _replay(_lines(file), Replay(history, space, None, math.inf), path)
    return history


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_LONGEST_LINE):
        yield line


def _replay(lines: Iterator[bytes], replay: Replay, path: str) -> int:
    """Bring the events of all whole lines into a record; return where the last of them ends."""
    end = len(next(lines))
    for number, line in enumerate(lines, start=2):
        if not line.endswith(b"\n"):
            if len(line) == _LONGEST_LINE:
                raise _explained(path, number, "it is too long")
            break
        try:
            replay.apply(from_line(line))
        except Damage as damage:
            raise _explained(path, number, str(damage)) from damage
        except TooFewCandidates as error:
            raise ValueError(f"{path} {error}") from error
        end += len(line)
    return end


def _explained(path: str, number: int, reason: str) -> ValueError:
    way = f"keep the {number - 1} lines before it, " if number > 1 else ""
    return ValueError(
        f"{path} is damaged in line {number}: {reason}. Restore the file from a copy, {way}or "
        f"delete it."
    )


# --------------------------------------------------------------------- the file system


def _to_read(path: str, name: str) -> BinaryIO:
    """Open a journal that is only read."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode) or os.path.isdir(path):
            return open(path, "rb")
        raise ValueError("it is no regular file")  # to open a pipe is to wait for its writer
    except OSError as error:
        raise type(error)(
            error.errno, f"{name} cannot be opened: {error.strerror}", path
        ) from error
    except ValueError as error:
        raise _no_path(name, path, error) from error


def _no_path(name: str, path: str, error: ValueError) -> ValueError:
    return ValueError(f"{name}={path!r} cannot be the path of a file: {error}.")


def _opened(path: str) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        remedies = {
            errno.ENOENT: "Make its folder first",
            errno.EISDIR: "It is a folder; give the path of a file in it",
        }
        remedy = remedies.get(error.errno or 0, "Give a path that can be written to")
        raise type(error)(
            error.errno, f"checkpoint cannot be opened: {error.strerror}. {remedy}", path
        ) from error
    except ValueError as error:  # a character that no path has
        raise _no_path("checkpoint", path, error) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise ValueError(f"checkpoint={path!r} is no regular file. Give the path of one.")
    return file


def _lock(file: int, path: str) -> None:
    """Lock a file against other processes, and other searches of this one, until it is closed."""
    try:
        _lock_now(file)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise BlockingIOError(
                error.errno,
                "checkpoint is being written by a search that is still running. Wait for its "
                "end, stop it, or give another path",
                path,
            ) from error
        warnings.warn(
            f"{path} cannot be locked here ({error.strerror}): see to it that no two searches "
            f"write to it at the same time.",
            UserWarning,
            stacklevel=2,
        )


if sys.platform == "win32":
    import msvcrt

    def _lock_now(file: int) -> None:
        # Locked bytes cannot be read, so one far beyond the end is.
        os.lseek(file, 2**30, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock_now(file: int) -> None:
        # Not lockf, whose lock is lost as soon as anything in the process closes the file.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_OPEN: weakref.WeakSet[Journal] = weakref.WeakSet()


def _close_all() -> None:
    for journal in list(_OPEN):
        journal.close()


if hasattr(os, "register_at_fork"):
    # A worker that was forked shares the lock, and may outlive a search that was killed.
    os.register_at_fork(after_in_child=_close_all)
