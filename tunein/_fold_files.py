"""The rows of each fold of large data in a file, which the workers map into memory.

scikit-learn cuts training and test rows out of X for each fit, in each worker: two workers need
three times X. Here they are cut once for each fold, on disk. What a worker reads of a file that it
maps the system can take away again, and read anew; it does not run out of memory for it.

A mapping is private: an estimator that writes into its X changes its own pages and no others.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import IO, Any, Self

import numpy as np

from tunein._sklearn import _check_method_params, _safe_indexing

# Bytes of X from which on its folds are written down; smaller ones are cut faster than written.
MIN_BYTES = 2**28

# Bytes that are cut at a time.
_CHUNK = 2**26

# How much of what is free on the disk all folds together may take.
_SHARE = 0.5


class _Table(np.ndarray[Any, Any]):
    """An array that takes rows which follow each other as a slice does, without a copy."""

    def __getitem__(self, key: Any) -> Any:
        rows = key[0] if isinstance(key, tuple) and len(key) == 2 and key[1] is ... else key
        if isinstance(rows, np.ndarray) and rows.dtype.kind == "i" and _follow_each_other(rows):
            return self.view(np.ndarray)[rows[0] : rows[-1] + 1]
        return self.view(np.ndarray)[key]


@dataclass(frozen=True)
class FoldFile:
    """Stands for X in the call of a worker: a table of the training rows, then the test rows.

    Parameters
    ----------
    path : str
        On a disk that the worker sees.
    dtype : numpy.dtype
        Of X.
    n_train, n_test, n_features : int
        The shape of the table.
    n_samples : int
        How many rows X has.
    """

    path: str
    dtype: np.dtype[Any]
    n_train: int
    n_test: int
    n_features: int
    n_samples: int

    def cut(
        self, y: Any, *, train: Any, test: Any, fit_params: Any, score_params: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Return the arguments of ``_fit_and_score`` for these rows instead of all.

        Of the table they are cut without a copy; of everything else they are the very same rows.
        """
        shape = (self.n_train + self.n_test, self.n_features)
        table = np.memmap(self.path, self.dtype, "c", shape=shape).view(_Table)
        rows = np.concatenate([_numbers(train, self.n_samples), _numbers(test, self.n_samples)])
        all_rows = range(self.n_samples)  # of which only the length is looked at
        return {
            "X": table,
            "y": None if y is None else _safe_indexing(y, rows),
            "train": np.arange(self.n_train),
            "test": np.arange(self.n_train, len(table)),
            "fit_params": _check_method_params(all_rows, fit_params, rows),
            "score_params": _check_method_params(all_rows, score_params, rows),
            **kwargs,
        }


class FoldFiles:
    """Context manager that writes the rows of a fold down when they are wanted first.

    Parameters
    ----------
    X : array-like
        All rows.
    folds : sequence of (train, test)
        Rows of each.
    folder : str or None
        Where the files may be; None if workers see no disk of this process.
    params : iterable
        What else goes to fits and scorers.
    """

    def __init__(
        self,
        X: Any,
        folds: Sequence[tuple[Any, Any]],
        folder: str | None,
        params: Iterable[Any] = (),
    ) -> None:
        self._X = X
        self._folds = folds
        self._files: dict[int, FoldFile] = {}
        self._open = ExitStack()
        self._folder = None
        if folder and _pays(X):
            sizes = _sizes(X, folds)
            if all(sizes) and not _mistakes_for_rows(params, sizes, len(X)):
                self._folder = folder if _has_room(X, sum(sizes), folder) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def stand_in(self, fold: int, train: Any) -> Any:
        """Return what a worker is sent for X: X itself, if not all training rows are asked for."""
        if self._folder is None or train is not self._folds[fold][0]:
            return self._X
        if fold not in self._files:
            try:
                self._files[fold] = self._write(fold, *self._opened(fold))
            except OSError as error:
                warnings.warn(
                    f"The rows of a fold could not be written to {self._folder} ({error}). Each "
                    f"worker cuts its own out of X now, which takes more memory. The variable "
                    f"JOBLIB_TEMP_FOLDER of the environment names another folder.",
                    stacklevel=2,
                )
                self._folder = None
                return self._X
        return self._files[fold]

    def _opened(self, fold: int) -> tuple[IO[bytes], str]:
        """Open a file, and return it with the path by which workers find it.

        Where there is /proc it has no name, and so is gone with this process even if that is killed
        and its workers are not.
        """
        folder = str(self._folder)
        if os.path.isdir("/proc/self/fd"):
            file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with the others
            self._open.enter_context(file)
            return file, f"/proc/{os.getpid()}/fd/{file.fileno()}"
        path = os.path.join(folder, f"fold-{fold}")
        return self._open.enter_context(open(path, "wb")), path

    def _write(self, fold: int, file: IO[bytes], path: str) -> FoldFile:
        X, (train, test) = self._X, (_numbers(rows, len(self._X)) for rows in self._folds[fold])
        try:
            for rows in (train, test):
                for chunk in _chunks(rows, X):
                    # As bytes: not all types, as dates, can be written themselves.
                    file.write(np.ascontiguousarray(X[chunk]).view(np.uint8).data)
            file.flush()
        except OSError:
            with suppress(OSError):  # the part that was written takes room from all others
                file.close()
            with suppress(OSError):
                os.remove(path)
            raise
        return FoldFile(path, X.dtype, len(train), len(test), X.shape[1], len(X))


def _follow_each_other(rows: np.ndarray[Any, Any]) -> bool:
    return rows.ndim == 1 and len(rows) > 0 and bool(np.all(np.diff(rows) == 1))


def _numbers(rows: Any, n_samples: int) -> Any:
    """Return the numbers of rows that a splitter gave in any form that scikit-learn takes."""
    return _safe_indexing(np.arange(n_samples), rows)


def _chunks(rows: Any, X: Any) -> Iterator[Any]:
    step = max(1, _CHUNK // max(X[:1].nbytes, 1))
    return (rows[i : i + step] for i in range(0, len(rows), step))


def _pays(X: Any) -> bool:
    """Tell whether X is large, and of the kind that a file can hold as it is.

    A square one may be a kernel, of which columns are cut as well.
    """
    is_table = type(X) in (np.ndarray, np.memmap) and X.ndim == 2 and not X.dtype.hasobject
    return bool(is_table and X.nbytes >= MIN_BYTES and X.shape[0] != X.shape[1])


def _sizes(X: Any, folds: Sequence[tuple[Any, Any]]) -> list[int]:
    """Return how many rows each fold has; 0 where they cannot be written down.

    If X has no such rows a worker says so, as without files.
    """
    try:
        numbers = [[_numbers(rows, len(X)) for rows in fold] for fold in folds]
    except (IndexError, TypeError, ValueError):
        return [0]
    are_lists = all(rows.ndim == 1 for fold in numbers for rows in fold)
    return [sum(map(len, fold)) for fold in numbers] if are_lists else [0]


def _mistakes_for_rows(params: Iterable[Any], sizes: list[int], n_samples: int) -> bool:
    """Tell whether a parameter that has no entry for each row is as long as a fold by chance.

    To scikit-learn all has that is as long as the table that it cuts.
    """
    lengths = {_length(value) for value in params} - {n_samples}
    return not lengths.isdisjoint(sizes)


def _length(value: Any) -> int:
    shape = getattr(value, "shape", None)
    if shape:
        return int(shape[0])
    return len(value) if hasattr(value, "__len__") else -1


def _has_room(X: Any, n_rows: int, folder: str) -> bool:
    return bool(n_rows * X[:1].nbytes <= _SHARE * shutil.disk_usage(folder).free)
