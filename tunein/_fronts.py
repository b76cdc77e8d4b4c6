"""Transformers in front of a model that no parameter of the search touches: fitted once for a fold.

Candidates of a search share the folds. Where transformers in front are not tuned and repeat
themselves, what they make of a fold is the same for all, to the last bit. So it is kept in the
process that made it, and handed to the fits of later candidates by the memory that pipelines of
scikit-learn can have. That is put in for one fit, and is out again when the pipeline is scored.
"""

from __future__ import annotations

import copy
import math
import pickle
import threading
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from tunein._families import n_transformers
from tunein._math.matrices import is_sparse
from tunein._repeats import repeats

# What is kept in all processes of a search together may take so many bytes. In folds for which
# there is no room, transformers are fitted for each candidate.
MAX_BYTES_IN_ALL = 2**30


@dataclass
class _Made:
    """What the first transformers of a pipeline have come to in a fold.

    Attributes
    ----------
    steps : list of estimator
        The transformers, fitted.
    samples : array or sparse matrix
        What they made of the training samples while they were fitted: the model's.
    n_bytes : float
        What all that takes.
    sides : tuple of two, or None
        What they make of training and test samples once they are fitted, if anybody has asked. Of
        training samples that may differ from `samples`, by rounding.
    """

    steps: list[Any]
    samples: Any
    n_bytes: float
    sides: tuple[Any, Any] | None = None


class Fronts:
    """What transformers have come to in the folds of one search, in this process.

    In another process it stands for what that process has kept.

    Parameters
    ----------
    names : collection of str
        Parameters that any candidate may have.
    max_bytes : int
        What is kept may take so many bytes in each process.
    """

    def __init__(self, names: Collection[str], max_bytes: int, token: str = "") -> None:
        self._names = frozenset(names)
        self._max_bytes = max_bytes
        self._token = token or uuid.uuid4().hex
        self._made: dict[int, _Made] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _in_this_process, (self._names, self._max_bytes, self._token)

    def enter(self, estimator: Any, fold: int) -> Passage | None:
        """Let the next fit of an estimator go by what is kept; None if nothing can be.

        It may be given values of the search's parameters before.
        """
        pipelines, n = _untouched(estimator, self._names)
        if n == 0:
            return None
        passage = Passage(self, fold, n)
        for pipeline in pipelines:
            pipeline.memory = _Memory(pipeline, passage)
        return passage

    def made(self, fold: int) -> _Made | None:
        """Return what is kept of a fold."""
        return self._made.get(fold)

    def has_room(self, fold: int, n_bytes: float) -> bool:
        """Tell whether so much may be kept of a fold, instead of what is kept of it."""
        others = sum(kept.n_bytes for key, kept in list(self._made.items()) if key != fold)
        return others + n_bytes <= self._max_bytes

    def keep(self, fold: int, made: _Made) -> None:
        """Keep what was made of a fold instead of what was kept of it, if there is room."""
        with self._lock:
            if self.has_room(fold, made.n_bytes):
                self._made[fold] = made


# Of the last search that this process has worked for: a worker is not told when one is over.
_here: list[Fronts] = []


def _in_this_process(names: frozenset[str], max_bytes: int, token: str) -> Fronts:
    if not (_here and _here[0]._token == token):
        _here[:] = [Fronts(names, max_bytes, token)]
    return _here[0]


class Passage:
    """The way of one candidate through the transformers in front, in one fold.

    Parameters
    ----------
    fronts : Fronts
        What is kept.
    fold : int
        Number of the fold.
    n : int
        How many steps are not touched, from the first on.
    """

    def __init__(self, fronts: Fronts, fold: int, n: int) -> None:
        self._fronts = fronts
        self._fold = fold
        self._n = n
        self._n_passed = 0
        self._made = fronts.made(fold)
        self._steps: list[Any] = []

    def fit_transform(
        self, function: Callable[..., tuple[Any, Any]], step: Any, X: Any, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Return what a step makes of X, and the step fitted: what is kept, or by `function`.

        Of steps that are kept only what leaves the last is looked at; those before hand on X.
        """
        i, self._n_passed = self._n_passed, self._n_passed + 1
        if self._made is not None and i < len(self._made.steps):
            is_last = i == len(self._made.steps) - 1
            # Of the step a copy, too: what a scorer sets on it stays with this candidate.
            return _twin(self._made.samples) if is_last else X, _own(self._made.steps[i])
        made, fitted = function(step, X, *args, **kwargs)
        may = self._made is None and i == len(self._steps) < self._n and _may_be_kept(fitted)
        # Who writes into what was handed on would write into the training samples themselves.
        if may and not _share_memory(X, made):
            self._steps.append(_own(fitted))
            self._keep(made)
        return made, fitted

    def _keep(self, X: Any) -> None:
        # At each step, as the next one may write into its samples.
        if not _has_twins(X):
            return
        n_bytes = _n_bytes(self._steps) + _n_bytes(X)
        if self._fronts.has_room(self._fold, n_bytes):  # asked before there are two of X
            self._fronts.keep(self._fold, _Made(list(self._steps), _twin(X), n_bytes))

    def sides(self, X: Any, Z: Any) -> tuple[int, Any, Any] | None:
        """Return how many transformers are kept, and what they make of training and test samples.

        None if nothing is kept.
        """
        made = self._fronts.made(self._fold)
        if made is None:
            return None
        n = sum(map(n_transformers, made.steps))
        if made.sides is None:
            for step in made.steps:
                X, Z = step.transform(X), step.transform(Z)
            self._keep_sides(made, X, Z)
            return n, X, Z
        return n, *map(_twin, made.sides)

    def _keep_sides(self, made: _Made, X: Any, Z: Any) -> None:
        if not (_has_twins(X) and _has_twins(Z)):
            return
        is_same = _are_same(X, made.samples)
        n_bytes = made.n_bytes + _n_bytes(Z) + (0 if is_same else _n_bytes(X))
        if self._fronts.has_room(self._fold, n_bytes):
            sides = made.samples if is_same else _twin(X), _twin(Z)
            self._fronts.keep(self._fold, _Made(made.steps, made.samples, n_bytes, sides))


class _Memory:
    """Stands for a ``joblib.Memory`` in the next fit of a pipeline."""

    location = None  # tells a pipeline to fit its steps themselves, and no clones of them

    def __init__(self, pipeline: Pipeline, passage: Passage) -> None:
        self._pipeline = pipeline
        self._passage = passage

    def cache(self, function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        """Return what a pipeline calls for its steps, and go out of it: the fit has begun."""
        self._pipeline.memory = None
        return partial(self._passage.fit_transform, function)


def _untouched(
    estimator: Any, names: frozenset[str], prefix: str = ""
) -> tuple[list[Pipeline], int]:
    """Return how many of the first steps no parameter touches, and the pipelines they are of.

    These are the estimator and what is its last step, and so on; none that has a memory of its own.
    """
    settings = {f"{prefix}{name}" for name in ("steps", "memory", "transform_input")}
    if type(estimator) is not Pipeline or estimator.memory is not None or settings & names:
        return [], 0
    n = 0
    *front, (last_name, last) = estimator.steps
    for name, step in front:
        if _touch(names, f"{prefix}{name}"):
            return [estimator], n
        n += step is not None and not isinstance(step, str)
    inside: list[Pipeline] = []
    if f"{prefix}{last_name}" not in names:
        inside, m = _untouched(last, names, f"{prefix}{last_name}__")
        n += m
    return [estimator, *inside], n


def _may_be_kept(fitted: Any) -> bool:
    """Tell whether a step does the same each time, and nothing to its samples beside."""
    params = fitted.get_params(deep=True) if hasattr(fitted, "get_params") else {}
    writes = any(name.split("__")[-1].startswith("copy") and not params[name] for name in params)
    return repeats(fitted) and not writes


def _own(fitted: Any) -> Any:
    """Return a copy of a step that can be set and fitted without a change to this one."""
    params = fitted.get_params(deep=False).values() if hasattr(fitted, "get_params") else ()
    # Inside may be steps of a pipeline or of a union, which are fitted where they are.
    is_flat = not any(isinstance(value, list) or hasattr(value, "fit") for value in params)
    return copy.copy(fitted) if is_flat else copy.deepcopy(fitted)


def _touch(names: frozenset[str], step: str) -> bool:
    return any(name == step or name.startswith(f"{step}__") for name in names)


# ------------------------------------------------------------------ copies to the last bit


def _share_memory(X: Any, Z: Any) -> bool:
    """Tell whether to write into samples Z may be to write into X."""
    if is_sparse(X) and is_sparse(Z):
        arrays = [[a for a in vars(A).values() if isinstance(a, np.ndarray)] for A in (X, Z)]
        return any(np.may_share_memory(a, b) for a in arrays[0] for b in arrays[1])
    return X is Z or (hasattr(X, "__array__") and np.may_share_memory(X, Z))


def _has_twins(X: Any) -> bool:
    """Tell whether samples can be copied so."""
    is_plain = type(X) is np.ndarray and not X.dtype.hasobject
    return is_sparse(X) or (is_plain and min(X.strides, default=1) > 0)


def _twin(X: Any) -> Any:
    """Return a copy of samples that sums and products come out the same of.

    In which order numpy adds up depends on how an array lies in memory, gaps included.
    """
    if is_sparse(X):
        return copy.deepcopy(X)
    twin: Any = np.ndarray(X.shape, X.dtype, np.empty(_span(X), np.uint8), 0, X.strides)
    twin[...] = X
    return twin


def _are_same(X: Any, Z: Any) -> bool:
    """Tell whether one may stand for the other."""
    if type(X) is not type(Z) or X.dtype != Z.dtype or X.shape != Z.shape:
        return False
    if is_sparse(X):
        parts = ("data", "indices", "indptr") if X.format in ("csr", "csc") else ()
        return bool(parts) and all(np.array_equal(getattr(X, p), getattr(Z, p)) for p in parts)
    return X.strides == Z.strides and np.array_equal(X, Z, equal_nan=X.dtype.kind == "f")


def _span(X: Any) -> int:
    """Return the bytes from the first number of an array to the last."""
    steps = zip(X.shape, X.strides, strict=True)
    return int(X.itemsize + sum((n - 1) * stride for n, stride in steps)) if X.size else 0


def _n_bytes(value: Any) -> float:
    """Return how much memory a value takes; infinity if that cannot be told, or changes.

    A transformer may draw from a generator that it holds whenever it transforms samples, as one
    that imputes from a posterior does. What comes next depends on what came before.
    """
    if type(value) is np.ndarray:
        return _span(value)
    counter = _Counter()
    arrays: list[pickle.PickleBuffer] = []
    pickler = _Pickler(counter, pickle.HIGHEST_PROTOCOL, buffer_callback=arrays.append)
    try:
        pickler.dump(value)
    except Exception:  # whatever is in a transformer: a function of the user, for one
        return math.inf
    return counter.n_bytes + sum(array.raw().nbytes for array in arrays)


class _Pickler(pickle.Pickler):
    """One that refuses generators of random numbers."""

    def reducer_override(self, value: Any) -> Any:
        """Leave all else to the usual way."""
        if isinstance(value, np.random.RandomState | np.random.Generator):
            raise pickle.PicklingError(f"A generator of random numbers: {value!r}.")
        return NotImplemented


class _Counter:
    """A file that holds nothing and knows how long it is."""

    n_bytes = 0

    def write(self, content: Any) -> int:
        self.n_bytes += len(content)
        return len(content)
