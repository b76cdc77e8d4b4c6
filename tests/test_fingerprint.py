"""Digests: the same for what is the same, wherever it lies; another for what is not."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import Memory
from scipy import sparse
from scipy.stats import loguniform, rv_histogram, uniform
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import Ridge
from sklearn.metrics import f1_score, make_scorer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from tunein import Choice, Real
from tunein._fingerprint import Fingerprint, Part, digest, outline, points_of, versions
from tunein._space import Space

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")


class Opaque:
    """Has a state, and words with an address."""

    def __init__(self, value):
        self.value = value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


@dataclass
class Pair:
    one: object
    two: object


class Elsewhere:
    """Data that cannot be brought here."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("on another device")


def loop():
    ring = [1]
    ring.append(ring)
    return ring


def closure(value):
    return lambda x: x + value


def frame(kind=pandas, **changes):
    return kind.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, float("nan")], **changes})


def masked(*mask):
    return np.ma.array([1.0, 2.0], mask=mask)


def random_state(n):
    rng = np.random.RandomState(0)
    rng.random(n)
    return rng


# Different from one another, each made anew at every call.
DIFFERENT = {
    "one": lambda: 1,
    "one point": lambda: 1.0,
    "minus zero": lambda: -0.0,
    "zero": lambda: 0.0,
    "true": lambda: True,
    "text": lambda: "1",
    "bytes": lambda: b"1",
    "none": lambda: None,
    "nan": lambda: float("nan"),
    "list": lambda: [1, 2],
    "tuple": lambda: (1, 2),
    "nested": lambda: [[1], 2],
    "other nesting": lambda: [[1, 2]],
    "texts": lambda: ["ab", "c"],
    "other texts": lambda: ["a", "bc"],
    "set": lambda: {"a", "b", "c"},
    "dict": lambda: {"a": 1, "b": [2]},
    "other dict": lambda: {"a": [2], "b": 1},
    "loop": loop,
    "array": lambda: np.arange(6.0).reshape(2, 3),
    "flat": lambda: np.arange(6.0),
    "transposed": lambda: np.arange(6.0).reshape(3, 2),
    "float32": lambda: np.arange(6, dtype=np.float32),
    "whole": lambda: np.arange(6),
    "empty": lambda: np.zeros((0, 3)),
    "point": lambda: np.array(1.0),
    "dates": lambda: np.array(["2020-01-01"], dtype="M8[D]"),
    "objects": lambda: np.array(["a", None, 1.5], dtype=object),
    "fields": lambda: np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
    "masked": lambda: masked(0, 1),
    "masked otherwise": lambda: masked(1, 0),
    "csr": lambda: sparse.csr_matrix(np.eye(3)),
    "csr array": lambda: sparse.csr_array(np.eye(3)),
    "coo": lambda: sparse.coo_array(np.eye(3)),
    "csr of others": lambda: sparse.csr_matrix(2 * np.eye(3)),
    "frame": frame,
    "frame of others": lambda: frame(a=[1, 3]),
    "frame of another order": lambda: frame()[["b", "a", "c"]],
    "frame with an index": lambda: frame().set_axis([5, 6]),
    "categories": lambda: frame(b=pandas.Categorical(["x", "y"])),
    "missing whole numbers": lambda: frame(b=pandas.array([1, None], dtype="Int64")),
    "moments": lambda: frame(b=pandas.to_datetime(["2020", "2021"]).tz_localize("CET")),
    "series": lambda: frame()["a"],
    "polars": lambda: frame(polars),
    "polars of others": lambda: frame(polars, a=[1, 3]),
    "polars series": lambda: frame(polars)["a"],
    "estimator": lambda: SVC(),
    "estimator with C": lambda: SVC(C=2),
    "pipeline": lambda: make_pipeline(StandardScaler(), Ridge()),
    "pipeline with alpha": lambda: make_pipeline(StandardScaler(), Ridge(alpha=2)),
    "pipeline with memory": lambda: make_pipeline(Ridge(), memory=Memory("/tmp/nowhere")),
    "seeded": lambda: SVC(random_state=random_state(0)),
    "seeded and drawn from": lambda: SVC(random_state=random_state(1)),
    "generator": lambda: np.random.default_rng(0),
    "class": lambda: SVC,
    "uniform": lambda: uniform(0, 1),
    "wider uniform": lambda: uniform(0, 2),
    "loguniform": lambda: loguniform(1e-3, 1),
    "histogram": lambda: rv_histogram(np.histogram([1, 2, 2, 3])),
    "other histogram": lambda: rv_histogram(np.histogram([1, 2, 3, 3])),
    "function": lambda: closure,
    "closure": lambda: closure(1),
    "other closure": lambda: closure(2),
    "lambda": lambda: lambda x: x + 1,
    "other lambda": lambda: lambda x: x + 2,
    "partial": lambda: functools.partial(closure, 1),
    "other partial": lambda: functools.partial(closure, 2),
    "method": lambda: Opaque(1).__eq__,
    "ufunc": lambda: np.log,
    "other ufunc": lambda: np.exp,
    "transformer of a function": lambda: FunctionTransformer(np.log1p),
    "scorer": lambda: make_scorer(f1_score, average="macro"),
    "other scorer": lambda: make_scorer(f1_score, average="micro"),
    "object": lambda: Opaque(1),
    "object of another state": lambda: Opaque(2),
    "slots": lambda: Slotted(1),
    "other slots": lambda: Slotted(2),
    "dataclass": lambda: Pair(1, [2]),
    "other dataclass": lambda: Pair(1, [3]),
    "real": lambda: Real(0, 1),
    "choice": lambda: Choice([("a", {"x": Real(0, 1)})]),
    "path": lambda: Path("a"),
    "other path": lambda: Path("b"),
    "range": lambda: range(3),
    "slice": lambda: slice(1, 3),
    "elsewhere": Elsewhere,
}


def test_what_is_different_has_another_digest():
    found = {}
    for name, make in DIFFERENT.items():
        found.setdefault(digest(make()), []).append(name)
    assert [names for names in found.values() if len(names) > 1] == []


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_is_the_same_has_the_same_digest_and_words_without_addresses(name):
    one, two = DIFFERENT[name](), DIFFERENT[name]()
    assert digest(one) == digest(two)
    assert outline(one) == outline(two)
    assert " at 0x" not in outline(one)
    assert len(outline(one)) <= 160


def test_another_process_finds_the_same():
    code = (
        "from test_fingerprint import DIFFERENT, digest\n"
        "print({name: digest(make()) for name, make in DIFFERENT.items()})"
    )
    outs = set()
    for seed in ("1", "2"):
        paths = [str(Path(__file__).parent), *sys.path]
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
        )
        outs.add(done.stdout)
    assert len(outs) == 1


def test_where_data_lie_makes_no_difference(tmp_path):
    data = np.random.default_rng(0).random((300, 50))
    np.save(tmp_path / "data.npy", data)
    wide = np.repeat(data, 2, axis=1)
    alike = [
        np.asfortranarray(data),
        data[::-1][::-1],
        wide[:, ::2],
        np.load(tmp_path / "data.npy", mmap_mode="r"),
        data.copy(),
    ]
    assert {digest(one) for one in alike} == {digest(data)}
    assert digest(np.load(tmp_path / "data.npy", mmap_mode="r")[:299]) != digest(data)


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_data_are_hashed_without_a_copy(order):
    data = np.ones((400, 20_000), order=order)
    data[-1, -1] = 2
    tracemalloc.start()
    found = digest(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < data.nbytes / 5
    data[-1, -1] = 3
    assert digest(data) != found


def test_estimators_are_their_parameters():
    assert digest(clone(SVC(C=3))) == digest(SVC(C=3)) == digest(SVC(C=3, gamma="scale"))
    fitted = SVC().fit([[0.0], [1.0]], [0, 1])
    assert digest(fitted) == digest(SVC())

    class Wordless(BaseEstimator):
        def __repr__(self):
            raise RuntimeError("no words")

    assert outline(Wordless()) == "Wordless"


def test_depth_has_an_end():
    deep = []
    for _ in range(500):
        deep = [deep]
    assert digest(deep) == digest(deep)


def test_a_space_is_what_its_points_mean():
    spaces = [
        {"C": loguniform(1e-3, 1)},
        {"C": loguniform(1e-3, 2)},
        {"C": [1, 2, 3]},
        {"C": [1, 2, 4]},
        [{"C": [1, 2]}, {"C": [1], "gamma": [2]}],
    ]
    found = [points_of(Space.parse(space), space) for space in spaces]
    assert len({part.digest for part in found}) == len(spaces)
    assert found[0] == points_of(Space.parse(spaces[0]), spaces[0])
    assert found[0].text == "C: loguniform(0.001, 1)"


def test_differences_are_told_in_words():
    ours = Fingerprint({"cv": Part.of([1], "5 folds"), "X": Part.of(np.ones(3))})
    assert ours.explain_difference(ours.parts) is None
    theirs = {"cv": Part.of([2], "3 folds"), "X": ours.parts["X"]}
    expected = (
        "cv was 3 folds, here it is 5 folds. Delete the file, give another path, or restore cv."
    )
    assert ours.explain_difference(theirs) == expected
    assert ours.explain_difference({"cv": ours.parts["cv"]}).startswith(
        "X was not given, here it is float64 array of shape (3,)."
    )
    more = {**ours.parts, "fit's weight": Part.of(1)}
    assert ours.explain_difference(more).startswith("fit's weight was 1, here it is not given.")
    assert ours.digest == Fingerprint(dict(reversed(ours.parts.items()))).digest
    assert ours.digest != Fingerprint(theirs).digest


def test_versions_are_those_of_what_scores_depend_on():
    assert list(versions()) == ["python", "tunein", "scikit-learn", "numpy", "scipy"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(plain, plain)
def test_digests_are_equal_where_values_are(one, two):
    assert (digest(one) == digest(two)) == (repr(one) == repr(two) or _alike(one, two))


def _alike(one, two):
    """Dicts that differ in their order only, at any depth."""
    if type(one) is not type(two):
        return False
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(_alike(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(_alike, one, two))
    return repr(one) == repr(two)
