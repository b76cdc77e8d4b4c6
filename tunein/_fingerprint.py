"""What makes a search the same search when it is run again: a digest, and words, for each part.

Digests depend on what things are, not on where they lie in memory: arrays are hashed a block at a
time, without a copy, and objects by class and state. Nothing is pickled.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import platform
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
import sklearn
from numpy.typing import NDArray
from scipy import sparse

from tunein._space import Space

# Bytes of an array that are hashed at a time: what does not lie in a row is copied so much at once.
_BLOCK = 1 << 22

# Objects in objects in objects: beyond this depth only their classes count.
_DEEPEST = 40

# Characters in which a part of a search is put into words.
_LONGEST_TEXT = 160

# Digits of a digest, of 4 bits each. It tells mistakes apart, not forgeries.
_N_DIGITS = 16

# Where functions change with the version of the package only, of which there is a warning.
_LIBRARIES = ("sklearn", "numpy", "scipy", "tunein", "builtins")

# Parameters that change neither candidates nor scores, unless by what is drawn from them; and the
# time that a fit may take, which who resumes may have learned to be too little.
_NO_MATTER = {"callbacks", "checkpoint", "cv", "fit_timeout", "n_iter", "n_jobs", "pre_dispatch"}
_NO_MATTER |= {"refit", "verbose"}

# What scores are measured with, beside parameters of fit.
MEASURED = ("X", "y", "scoring", "refit", "max_resources")

_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


# --------------------------------------------------------------------- a search


@dataclass(frozen=True)
class Part:
    """A part of a search: words for people, and a digest of all of it."""

    text: str
    digest: str

    @classmethod
    def of(cls, value: Any, text: str | None = None) -> Part:
        """Describe a value."""
        return cls(outline(value) if text is None else text, digest(value))


@dataclass(frozen=True)
class Fingerprint:
    """The parts of a search that must be the same if it is to go on.

    Attributes
    ----------
    parts : dict of str to Part
        By the name under which a user knows it.
    """

    parts: Mapping[str, Part]

    @classmethod
    def of(
        cls, search: Any, space: Space, drawn: Mapping[str, Any], measured: Mapping[str, Part]
    ) -> Fingerprint:
        """Describe a search.

        Parameters
        ----------
        search : estimator object
            Its parameters count, but for those that change neither candidates nor scores.
        space : Space
            Where it searches.
        drawn : dict
            Its ``"seed"`` and ``"folds"``, what it makes of its ``"history"``, and the ``"levels"``
            of its race.
        measured : dict of str to Part
            What its scores are measured with.
        """
        own = search.get_params(deep=False)
        is_seeded = own["random_state"] is not None
        parts = {
            "search": Part.of(type(search)),
            "estimator": Part.of(own.pop("estimator")),
            "param_distributions": points_of(space, own.pop("param_distributions")),
            **measured,
            "cv": Part.of(drawn["folds"], f"{len(drawn['folds'])} folds"),
            "random_state": Part.of(
                drawn["seed"] if is_seeded else None, outline(own.pop("random_state"))
            ),
            "history": Part.of(drawn["history"], outline(own.pop("history"))),
            "racing": _race(own.pop("racing"), drawn["levels"]),
        }
        rest = [name for name in own if name not in _NO_MATTER and name not in parts]
        return cls({**parts, **{name: Part.of(own[name]) for name in rest}})

    @property
    def digest(self) -> str:
        """Digest of all parts together."""
        return digest({name: part.digest for name, part in self.parts.items()})

    def explain_difference(self, theirs: Mapping[str, Part]) -> str | None:
        """Say what is different in a fingerprint that was written down; None if nothing is."""
        names = [*self.parts, *(name for name in theirs if name not in self.parts)]
        differing = [
            name
            for name in names
            if name not in theirs
            or name not in self.parts
            or theirs[name].digest != self.parts[name].digest
        ]
        if not differing:
            return None
        name = differing[0]
        was, now = (side[name].text if name in side else None for side in (theirs, self.parts))
        if was == now:
            told = f"{name} ({now}) had other contents"
            if name == "cv":
                told += ", as if a splitter shuffles without an int as random_state"
        else:
            told = f"{name} was {was or 'not given'}, here it is {now or 'not given'}"
        others = f" (and {', '.join(differing[1:])} differed)" if differing[1:] else ""
        return f"{told}{others}. Delete the file, give another path, or restore {name}."


def _race(racing: Any, levels: list[int]) -> Part:
    told = f"{outline(racing)} with the levels {levels}" if levels else outline(racing)
    return Part.of((racing, levels), told)


def points_of(space: Space, given: Any = None) -> Part:
    """Describe what the points of a space mean, as its user gave it."""
    return Part.of((space.names, space.dimensions, space.conditions), outline(given))


def versions() -> dict[str, str]:
    """Return the versions of what scores and candidates depend on."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "tunein": sys.modules["tunein"].__version__,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


# --------------------------------------------------------------------- words


def outline(value: Any) -> str:
    """Return a few words that tell a person what `value` is."""
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    if isinstance(shape, tuple) and shape:
        dtype = getattr(value, "dtype", None)
        kind = "array" if kind in ("ndarray", "memmap") else kind
        return f"{kind} of shape {shape}" if dtype is None else f"{dtype} {kind} of shape {shape}"
    if isinstance(value, list | tuple) and len(value) > 20:
        return f"{kind} of length {len(value)}"
    if isinstance(value, dict):
        return shortened(", ".join(f"{key}: {outline(item)}" for key, item in value.items()))
    if all(hasattr(value, name) for name in ("dist", "args", "kwds")):
        given = [*map(repr, value.args), *(f"{key}={item!r}" for key, item in value.kwds.items())]
        return f"{value.dist.name}({', '.join(given)})"
    if isinstance(value, type | types.FunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    return shortened(" ".join(_plain_repr(value).split()))


def shortened(text: str) -> str:
    """Return a text with its end left out, if it is long."""
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."


def _plain_repr(value: Any) -> str:
    try:
        return _ADDRESS.sub("", repr(value))
    except Exception:  # a stranger's __repr__ may raise anything
        return type(value).__name__


# --------------------------------------------------------------------- digests


def digest(value: Any) -> str:
    """Return a digest of a value of any kind, the same in every process."""
    walk = _Walk()
    walk.feed(value)
    return walk.digest


class _Walk:
    """Feeds a value into a hash, part by part.

    Every part is preceded by a tag of known length, so that no two structures feed the same bytes.
    """

    def __init__(self, above: tuple[int, ...] = ()) -> None:
        self._hash = hashlib.sha256()
        self._above = above  # what the value lies in: a loop ends where it began

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()[:_N_DIGITS]

    def feed(self, value: Any) -> None:
        """Feed a value of any kind."""
        if isinstance(value, np.generic) and not isinstance(value, np.void):
            value = value.item()
        for kinds, feed_scalar in _SCALARS:
            if isinstance(value, kinds):
                self._tag(kinds.__name__, feed_scalar(value))
                return
        if id(value) in self._above or len(self._above) > _DEEPEST:
            self._tag("again", _name(type(value)))
            return
        self._above = (*self._above, id(value))
        next(feed for is_kind, feed in _KINDS if is_kind(value))(self, value)
        self._above = self._above[:-1]

    def _tag(self, *texts: str) -> None:
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            self._hash.update(b"%d:" % len(data))
            self._hash.update(data)

    def _apart(self, value: Any) -> str:
        """Return the digest of a value that lies in what is being fed."""
        walk = _Walk(self._above)
        walk.feed(value)
        return walk.digest

    def _items(self, values: Iterable[Any]) -> None:
        for value in values:
            self.feed(value)

    # ------------------------------------------------------------------ data

    def array(self, value: NDArray[Any]) -> None:
        """Feed an array; how it lies in memory makes no difference."""
        self._tag("array", str(value.dtype.descr), str(value.shape))
        if isinstance(value, np.ma.MaskedArray):
            self.array(np.ma.getmaskarray(value))
            value = np.ma.getdata(value)
        if value.dtype.hasobject:
            self._items(value.ravel().tolist())
            return
        value = np.asarray(value).reshape(1) if value.ndim == 0 else np.asarray(value)
        if value.size == 0:
            return
        n_rows = max(_BLOCK * len(value) // value.nbytes, 1)
        for start in range(0, len(value), n_rows):
            block = np.ascontiguousarray(value[start : start + n_rows])
            self._hash.update(block.reshape(-1).view(np.uint8).data)

    def array_like(self, value: Any) -> None:
        """Feed what can be made an array; if it refuses, as on another device, any object."""
        try:
            found = np.asarray(value)
        except (TypeError, ValueError, RuntimeError):
            self.other(value)
        else:
            self.array(found)

    def sparse(self, value: Any) -> None:
        """Feed a sparse array or matrix."""
        self._tag(_name(type(value)))
        compressed = value if value.format in ("csr", "csc") else value.tocsr()
        self._tag(str(value.shape))
        for part in (compressed.data, compressed.indices, compressed.indptr):
            self.array(part)

    def frame(self, value: Any) -> None:
        """Feed a pandas dataframe."""
        self._tag("frame", str(value.shape))
        self._items(value.columns.tolist())
        self.column(value.index)
        for j in range(value.shape[1]):
            self.column(value.iloc[:, j])

    def polars(self, value: Any) -> None:
        """Feed a polars dataframe."""
        self._tag("polars", str(value.shape))
        for column in value.get_columns():
            self._tag(column.name)
            self.column(column)

    def column(self, value: Any) -> None:
        """Feed a series, or an index, of pandas or polars."""
        self._tag("column", str(value.dtype), str(getattr(value, "name", None)))
        index = getattr(value, "index", None)
        if index is not None and not callable(index) and len(self._above) < 2:
            self.column(index)
        self.array(np.asarray(value))

    # ------------------------------------------------------------------ containers

    def mapping(self, value: Mapping[Any, Any]) -> None:
        """Feed a dict, in whatever order."""
        self._tag("dict", str(len(value)))
        self._tag(*sorted(self._apart(key) + self._apart(item) for key, item in value.items()))

    def sequence(self, value: Any) -> None:
        """Feed a list or tuple."""
        self._tag(_name(type(value)), str(len(value)))
        self._items(value)

    def collection(self, value: Any) -> None:
        """Feed a set."""
        self._tag(_name(type(value)), str(len(value)))
        self._tag(*sorted(map(self._apart, value)))

    # ------------------------------------------------------------------ what computes

    def named(self, value: Any) -> None:
        """Feed what is known by its name: a class, a module, a function in C."""
        self._tag("name", _name(value))

    def function(self, value: types.FunctionType) -> None:
        """Feed a function: its name, and unless it is a library's, its code and what that holds."""
        self._tag("function", _name(value))
        if value.__module__ is None or value.__module__.partition(".")[0] in _LIBRARIES:
            return
        self.code(value.__code__)
        self._items([value.__defaults__, value.__kwdefaults__])
        for cell in value.__closure__ or ():
            try:
                self.feed(cell.cell_contents)
            except ValueError:  # it is empty
                self._tag("empty")

    def code(self, value: types.CodeType) -> None:
        """Feed byte code."""
        self._tag("code", value.co_code.hex(), *value.co_names)
        self._items(value.co_consts)

    def bound(self, value: types.MethodType) -> None:
        """Feed a method of an object."""
        self._items([value.__func__, value.__self__])

    def partial(self, value: functools.partial[Any]) -> None:
        """Feed a call to be."""
        self._items([value.func, value.args, value.keywords])

    def estimator(self, value: Any) -> None:
        """Feed an estimator: its class, and its parameters where they are not the defaults.

        So a parameter that a later version of its package adds makes no difference.
        """
        self._tag("estimator", _name(type(value)))
        known = inspect.signature(type(value).__init__).parameters
        for name, own in sorted(value.get_params(deep=False).items()):
            default = known[name].default if name in known else inspect.Parameter.empty
            if type(own) is type(default) and self._apart(own) == self._apart(default):
                continue
            self._tag(name)
            self.feed(own)

    def distribution(self, value: Any) -> None:
        """Feed a distribution: its parameters, or what it does with the unit interval."""
        kind = getattr(value, "dist", value)
        self._tag("distribution", _name(type(kind)))
        self._items([getattr(value, "args", None), getattr(value, "kwds", None)])
        # Rounded, as the last digits are a matter of versions.
        quantiles = np.asarray(value.ppf(np.linspace(0.02, 0.98, 17)), dtype=float)
        self._tag(*(f"{q:.6g}" for q in quantiles))

    def generator(self, value: Any) -> None:
        """Feed a source of randomness, as it stands."""
        self._tag(_name(type(value)))
        is_old = isinstance(value, np.random.RandomState)
        self.feed(value.get_state() if is_old else value.bit_generator.state)

    def other(self, value: Any) -> None:
        """Feed any other object: its class and state; its words if it shows no state."""
        self._tag("object", _name(type(value)))
        try:
            state = value.__getstate__()
        except Exception:  # what cannot be stored is known by its words
            state = None
        if state is None or state == ():
            self._tag(_plain_repr(value))
        else:
            self.feed(state)


def _name(value: Any) -> str:
    own = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return f"{getattr(value, '__module__', None)}.{own}"


def _is(*kinds: Any) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(hasattr(value, name) for name in names)


_SCALARS: list[tuple[type, Callable[[Any], str]]] = [
    (type(None), str),
    (bool, str),
    (int, int.__repr__),
    (float, float.__repr__),
    (complex, complex.__repr__),
    (str, str.__str__),
    (bytes, bytes.hex),
]

# The first kind that a value is of decides. Classes come before what their instances have.
_KINDS: list[tuple[Callable[[Any], bool], Callable[[_Walk, Any], None]]] = [
    (_is(np.ndarray), _Walk.array),
    (_is(list, tuple), _Walk.sequence),
    (_is(Mapping), _Walk.mapping),
    (_is(set, frozenset), _Walk.collection),
    (_is(type, types.ModuleType, types.BuiltinFunctionType, np.ufunc), _Walk.named),
    (_is(types.FunctionType), _Walk.function),
    (_is(types.CodeType), _Walk.code),
    (_is(types.MethodType), _Walk.bound),
    (_is(functools.partial), _Walk.partial),
    (_is(np.random.RandomState, np.random.Generator), _Walk.generator),
    (sparse.issparse, _Walk.sparse),
    (_has("iloc", "columns"), _Walk.frame),
    (_has("get_columns", "shape"), _Walk.polars),
    (_has("dtype", "to_numpy"), _Walk.column),
    (_has("get_params"), _Walk.estimator),
    (_has("ppf", "cdf"), _Walk.distribution),
    (_has("__array__"), _Walk.array_like),
    (lambda value: True, _Walk.other),
]
