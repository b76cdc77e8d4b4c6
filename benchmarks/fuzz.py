"""Hostile input: what a search does with garbage, and with files that no search has written.

Each target makes a case of bytes. The bytes come from atheris, which watches the branches they
reach, if it is installed; otherwise from numpy, with seeds that count up. A case passes if it is
taken, or refused as documented: with a TypeError, a ValueError or an OSError whose message is short
and names the parameter. It must end soon, in little memory, run nothing that a file says, and
write to no path but the one it was given.

    python benchmarks/fuzz.py --quick                   # a few seconds a target
    python benchmarks/fuzz.py events --seconds 300      # one target, five minutes

What was counted is appended to ``results/fuzz.csv``.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import csv
import importlib.util
import io
import json
import math
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "fuzz.csv"
COLUMNS = ["target", "engine", "cases", "failures", "python", "numpy", "scikit-learn", "tunein"]

# A case may take so many seconds, all of them so many bytes, and a message so many characters.
LONGEST, MOST_BYTES, LONGEST_MESSAGE = 10.0, 6 << 30, 100_000

# What a file that is read must not bring about, as the interpreter reports it.
FORBIDDEN = ("exec", "pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "socket.bind")


class Defect(AssertionError):
    """A case broke a rule."""


class Hang(BaseException):
    """A case takes too long; not an Exception, so that nothing swallows it."""


# --------------------------------------------------------------------- bytes to values


class Source:
    """Choices that are read off bytes; zeros when those are used up."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def below(self, n: int) -> int:
        width = 1 if n <= 256 else 2 if n <= 1 << 16 else 4
        part = self.data[self.at : self.at + width]
        self.at += width
        return int.from_bytes(part, "little") % n

    def pick(self, options: Any) -> Any:
        return options[self.below(len(options))]

    def number(self) -> Any:
        kind = self.below(6)
        if kind == 0:
            return self.below(20) - 5
        if kind == 1:
            return self.pick(NUMBERS)
        if kind == 2:
            return (self.below(1 << 32) - (1 << 31)) / 1000
        if kind == 3:
            return float.fromhex(f"0x1.{self.below(1 << 32):08x}p{self.below(2096) - 1074}")
        if kind == 4:
            return (self.below(256) + 1) << self.below(400)
        return Fraction(self.below(1000) - 500, self.below(999) + 1)

    def text(self) -> str:
        return self.pick(TEXTS)

    def anything(self, depth: int = 0) -> Any:
        kind = self.below(6 if depth > 3 else 9)
        if kind < 2:
            return self.number()
        if kind == 2:
            return self.text()
        if kind < 6:
            is_dear = self.below(1 << 12) == 7  # they take a second
            return self.pick(DEAR if is_dear else ODDITIES)()
        items = [self.anything(depth + 1) for _ in range(self.below(5))]
        if kind == 6:
            return items
        return tuple(items) if kind == 7 else {self.text(): item for item in items}


NUMBERS = [
    0, -1, 1, 2, True, False, 10**400, -(10**400), 10**308, 2**53 + 1, 2**63, 2**64, 5e-324, 1e-323,
    -0.0, 1e308, -1e308, 1.7e308, math.nan, math.inf, -math.inf, 1 + 2**-52, 1e-300, 10**5000,
]  # fmt: skip
TEXTS = [
    "x", "x", "y", "n", "", "x__y", "\ud800", "\0", "{fingerprint}", "NaN", "auto", "all", "é" * 50,
    "n_samples", "__", "/nowhere/at/all", "../..", "x" * 5000, "%s%n", "__class__", "x.__class__",
]  # fmt: skip


class Contrary:
    """Refuses whatever is asked of it but its name."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")

    __hash__ = None  # type: ignore[assignment]


class Drawer:
    """Only draws."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw

    def rvs(self, random_state: Any = None) -> Any:
        return self.draw()


def _fails() -> Any:
    raise RuntimeError("no draw")


def _own_list() -> list[Any]:
    own: list[Any] = []
    own.append(own)
    return own


def load() -> None:
    """Import what is tested, and what cases are made of; late, so that atheris can watch it."""
    for encoding in (
        "utf-8-sig",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "utf-32-le",
        "utf-32-be",
    ):
        codecs.lookup(encoding)  # json guesses them, and imports what it needs
    global np, stats, tunein, Cutoff, ODDITIES, DEAR, X, Y
    import numpy as np
    from scipy import stats
    from sklearn.svm import SVC

    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from fakes import Cutoff

    import tunein
    from tunein import Categorical, Choice, Integer, Real

    X = np.linspace(-1, 1, 24).reshape(12, 2)
    Y = np.array([0, 1] * 6)
    ODDITIES = [
        lambda: None, dict, list, set, object, lambda: object, lambda: Real, lambda: len, Contrary,
        lambda: np.array(3), lambda: np.zeros((2, 2)), lambda: np.array([]), SVC,
        lambda: np.array([1.5, np.nan]), lambda: np.float32(2), lambda: np.int64(-3), bytes,
        lambda: 1j, lambda: iter([1]), lambda: range(3), lambda: range(0), lambda: range(9, -9, -2),
        lambda: range(10**12), lambda: range(10**30), lambda: stats.norm, lambda: stats.norm(0, 1),
        lambda: stats.uniform(0, 0), lambda: stats.uniform(0, -1), lambda: stats.cauchy(),
        lambda: stats.loguniform(1, 2), lambda: stats.beta, lambda: stats.randint(0, 10**30),
        lambda: stats.poisson(3), lambda: stats.lognorm(300), lambda: stats.norm([0, 1], 1),
        _own_list,
        lambda: Choice([]), lambda: Choice(None), lambda: Choice([("a", {"n": Integer(0, 3)})]),
        lambda: Categorical([]), lambda: Categorical("ab"), lambda: Categorical([1], Contrary()),
        lambda: np.array(["a", "b"]), lambda: np.array([1, "a"], dtype=object), frozenset,
        lambda: np.datetime64("2000-01-01"), lambda: memoryview(b"ab"), lambda: bytearray(b"ab"),
    ]  # fmt: skip
    DEAR = [
        lambda: stats.poisson(1e12), lambda: stats.zipf(1.5), lambda: stats.geom(1e-10),
        lambda: stats.poisson(1e6), lambda: Drawer(lambda: 1), lambda: Drawer(_fails),
        lambda: Drawer(list),
    ]  # fmt: skip


# --------------------------------------------------------------------- rules


def refused(error: BaseException, names: list[str]) -> None:
    """Raise a Defect unless an error is one that is documented."""
    if not isinstance(error, TypeError | ValueError | OSError):
        raise Defect(f"{type(error).__name__} is not documented") from error
    message = "\n".join([str(error), *getattr(error, "__notes__", ())])
    if not any(name in message for name in names):
        raise Defect(f"the message names none of {names}: {message[:100]!r}") from error
    if len(message) > LONGEST_MESSAGE:
        raise Defect(f"a message of {len(message)} characters") from error


class Reported:
    """What the interpreter says it does, while that is watched."""

    def __init__(self) -> None:
        self.watched, self.folder, self.found = False, "", ""

    def __call__(self, event: str, args: Any) -> None:
        if not self.watched:
            return
        if event == "open":
            path, mode, flags = args
            writes = (mode and mode[0] in "wax") or (flags or 0) & (os.O_CREAT | os.O_TRUNC)
            if writes and not os.fsdecode(str(path)).startswith(self.folder):
                self.found = f"{path!r} was opened to be written"
        elif event.startswith(FORBIDDEN):
            self.found = f"{event} {args!r:.100}"

    @contextlib.contextmanager
    def watching(self, folder: str) -> Any:
        self.watched, self.folder, self.found = True, folder, ""
        try:
            yield
        finally:
            self.watched = False
        if self.found:
            raise Defect(self.found)


REPORTED = Reported()


# --------------------------------------------------------------------- the parser


def a_dimension(source: Source, depth: int = 0) -> Any:
    from tunein import Categorical, Choice, Integer, Real

    kind = source.below(8)
    if kind == 0:
        return Real(source.number(), source.number(), source.below(2) == 1)
    if kind == 1:
        step = 1 if source.below(2) else source.number()
        return Integer(source.number(), source.number(), source.below(2) == 1, step)
    if kind == 2:
        return [source.number() for _ in range(source.below(6))]
    if kind == 3:
        return Categorical([source.anything(2) for _ in range(source.below(5))], source.below(2))
    if kind == 4:
        return source.pick([Real, Integer])(source.anything(3), source.anything(3), True)
    if kind == 5 and depth < 3:
        return Choice(
            [
                (source.anything(3), a_space(source, depth + 1))
                if source.below(9)
                else source.anything()
                for _ in range(source.below(4))
            ]
        )
    return source.anything()


def a_space(source: Source, depth: int = 0) -> Any:
    return {source.text(): a_dimension(source, depth) for _ in range(source.below(4))}


def parser(data: bytes) -> None:
    """Parse a space, then go to values and back."""
    from tunein._space import Space

    source = Source(data)
    given = a_space(source) if source.below(10) else source.anything()
    if not source.below(8):
        given = [given, a_space(source)]
    estimator = Cutoff() if not source.below(8) else None
    try:
        space = Space.parse(given, estimator)
    except Exception as error:
        refused(error, ["param_distributions"])
        return
    for unit in space.sample(np.random.default_rng(source.below(256)), 3):
        there_and_back(space, unit)


def there_and_back(space: Any, unit: Any) -> None:
    """Check that a point's parameters are those of a point, and of the same one."""
    from tunein._dimensions import Quantile, same_value

    decoded = space.decode(unit)
    exact = all(d.n_levels < 2**50 or d.kind == "continuous" for d in space.dimensions)
    if not exact or any(isinstance(d, Quantile) for d in space.dimensions):
        list(zip(range(3), space.encode(decoded), strict=False))
        return
    if any(isinstance(value, Contrary) for value in decoded.values()):
        return
    back = next(space.encode(decoded), None)
    if back is None:
        raise Defect(f"{decoded!r:.200} is not found in the space it is from")
    if not same_value(back[1], decoded):
        raise Defect(f"{decoded!r:.200} comes back as {back[1]!r:.200}")
    again = space.decode(space.snap(back[0][None])[0])
    if again.keys() != decoded.keys():
        raise Defect(f"{decoded!r:.200} is another point, {again!r:.200}")


# --------------------------------------------------------------------- the reader


class Written:
    """A journal that a search wrote, and the search."""

    def __init__(self, search: Any, folder: str, name: str) -> None:
        self.path = os.path.join(folder, name)
        self.search = search.set_params(checkpoint=self.path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.search.fit(X, Y)
        self.content = Path(self.path).read_bytes()
        self.lines = self.content.splitlines(keepends=True)


def write_journals(folder: str) -> None:
    """Let searches of all kinds write the journals that are then damaged."""
    global JOURNALS, FOLDER
    from sklearn.linear_model import Ridge

    from tunein import BayesSearchCV, Choice, FoldRace, Halving, HyperGradSearchCV, TPESearchCV

    FOLDER = folder
    settings: dict[str, Any] = {"n_iter": 6, "cv": 2, "random_state": 0}
    cut = {"cut": stats.uniform(-1, 2)}
    forked = Choice([(None, {"cut": stats.uniform(-1, 2)}), ("fit", {}), ("predict", {})])
    searches = [
        TPESearchCV(Cutoff(), cut, racing=FoldRace(0.9), **settings),
        BayesSearchCV(Cutoff(), {"fail": forked}, **settings),
        TPESearchCV(Cutoff(), cut, racing=Halving(min_resources=8, factor=1.2), **settings),
        TPESearchCV(
            Cutoff(), cut, scoring=["accuracy", "f1"], refit="f1", return_train_score=True,
            **settings,
        ),
        HyperGradSearchCV(Ridge(), {"alpha": stats.loguniform(1e-3, 10)}, **settings),
    ]  # fmt: skip
    JOURNALS = [Written(search, folder, f"{i}.jsonl") for i, search in enumerate(searches)]


def hostile_json(source: Source, depth: int = 0) -> str:
    """Return JSON, or what is nearly JSON."""
    kind = source.below(10)
    if kind < 5:
        return source.pick(JSONS)
    if kind == 5:
        return json.dumps(source.text())
    if kind == 6 and depth < 3:
        return "[" + ",".join(hostile_json(source, depth + 1) for _ in range(source.below(4))) + "]"
    if kind == 7 and depth < 3:
        items = (f'"{source.pick(KEYS)}":{hostile_json(source, depth + 1)}' for _ in range(2))
        return "{" + ",".join(items) + "}"
    n = source.pick([5, 17, 100, 900, 960, 975, 990, 5000, 100_000])
    return "[" * n + "]" * n if kind == 8 else '{"a":' * n + "1" + "}" * n


JSONS = [
    "null", "true", "-1", "0", "1", "2", "3", "0.5", "1e999", "1e308", "-0.0", "NaN", '"NaN"', "[]",
    '"Infinity"', "9" * 400, "9" * 4000, "9" * 5000, "{}", '"asked"', '"promoted"', '"initial"',
    '"\\ud800"', '"' + "a" * 30_000 + '"', "[0,0]", "[1,0]", "[0.5]", "[null]", "[0,1]", "[5,1]",
]  # fmt: skip
KEYS = [
    "open", "score", "drop", "unit", "from", "parent", "level", "note", "test", "train", "times",
    "cpu", "at", "n", "error", "slope", "no_slope", "loss", "gradient", "flat", "format", "seed",
    "folds", "metric", "versions", "search", "slopes", "descended", "alpha", "__reduce__",
]  # fmt: skip


def damaged_line(source: Source, line: bytes) -> bytes:
    """Return a line with a value, a key or some bytes exchanged."""
    kind = source.below(5)
    if kind == 0:
        return damaged_bytes(source, line)
    try:
        event = json.loads(line)
    except ValueError:
        return line
    marker = "\x07here"
    inner: Any = event
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = source.pick(keys) if keys and source.below(12) else source.pick(KEYS)
        if isinstance(inner, list) and isinstance(key, str):
            inner.append(marker)
            break
        if kind == 1 and isinstance(inner, dict) and key in inner:
            del inner[key]
            return json.dumps(event).encode() + b"\n"
        below = inner[key] if not isinstance(key, str) or key in inner else None
        if isinstance(below, dict | list) and below and source.below(3):
            inner = below
            continue
        inner[key] = marker
        break
    text = json.dumps(event, separators=(",", ":"))
    return text.replace(json.dumps(marker), hostile_json(source)).encode() + b"\n"


def damaged_bytes(source: Source, content: bytes) -> bytes:
    """Return bytes with some of them flipped, taken out, doubled or put in."""
    out = bytearray(content)
    for _ in range(1 + source.below(4)):
        at, n = source.below(len(out) + 1), source.below(40)
        kind = source.below(5)
        if kind == 0 and at < len(out):
            out[at] ^= 1 + source.below(255)
        elif kind == 1:
            del out[at : at + n]
        elif kind == 2:
            out[at:at] = out[at : at + n]
        elif kind == 3:
            out[at:at] = bytes(source.below(256) for _ in range(n % 8))
        elif source.below(4) == 0:
            del out[at:]
    return bytes(out)


def events(data: bytes) -> None:
    """Read damaged lines after whole ones."""
    from tunein._events import Damage, Replay, from_line
    from tunein._history import History

    source = Source(data)
    written = source.pick(JOURNALS)
    search = written.search
    space = search.space_
    history = History(search.n_splits_, len(space.dimensions), search.history_.metric)
    replay = Replay(history, space, None, math.inf)
    n_whole = source.below(len(written.lines))
    with REPORTED.watching(FOLDER):
        with contextlib.suppress(Damage):  # promotions need the race of the search
            for line in written.lines[1 : 1 + n_whole]:
                replay.apply(from_line(line))
        for _ in range(3):
            try:
                replay.apply(from_line(damaged_line(source, source.pick(written.lines))))
            except Damage as damage:
                refused(damage, [""])
        look_at(history)


def look_at(history: Any) -> None:
    """Ask a record that was believed for all that a method would."""
    known = history.known()
    repr(history), history.means, history.has_result, known.scores, known.tried


def journals(data: bytes) -> None:
    """Read a damaged file as an earlier search, and open it to go on with it."""
    from tunein._journal import read_journal

    source = Source(data)
    written = source.pick(JOURNALS)
    lines = list(written.lines)
    if source.below(8):
        at = source.below(len(lines)) if source.below(3) else 0
        lines[at] = damaged_line(source, lines[at])
        if not source.below(4):
            lines.insert(source.below(len(lines)), source.pick(source.pick(JOURNALS).lines))
        content = b"".join(lines)
    else:
        content = damaged_bytes(source, written.content if source.below(4) else b"")
    path = os.path.join(FOLDER, "damaged")
    Path(path).write_bytes(content)
    with REPORTED.watching(FOLDER):
        try:
            history = read_journal(path, written.search.space_, "history")
        except Exception as error:
            refused(error, [path])
            return
        look_at(history)


def resumes(data: bytes) -> None:
    """Let a search go on with a damaged file; what it refuses it must leave as it is."""
    from sklearn.base import clone

    source = Source(data)
    written = source.pick(JOURNALS)
    lines = list(written.lines)
    at = 0 if not source.below(6) else source.below(len(lines))
    lines[at] = damaged_line(source, lines[at])
    if not source.below(4):
        del lines[at + 1 + source.below(len(lines)) :]
    content = b"".join(lines)
    path = Path(FOLDER) / "damaged"
    path.write_bytes(content)
    search = clone(written.search).set_params(checkpoint=path)
    try:
        search.fit(X, Y)
    except Exception as error:
        refused(error, [str(path)])
        if path.read_bytes() != content:
            raise Defect("a file that was refused was changed") from error


# --------------------------------------------------------------------- the settings


# What scikit-learn checks, in its own words.
THEIRS = {"estimator", "scoring", "refit", "cv", "error_score", "pre_dispatch", "random_state"}


def a_setting(source: Source, name: str) -> Any:
    value = source.number() if not source.below(3) else source.anything()
    # Numbers of workers that can be meant, and words that are run, are not what is asked here.
    is_meant = name in ("n_jobs", "verbose") and isinstance(value, int | float | np.number)
    if is_meant or name == "pre_dispatch":
        return source.pick([0, None, "x", [], 0.5])
    if name == "history" and source.below(2):
        columns = ["params", "mean_test_score", "split0_test_score", "n_splits_run"]
        return {column: source.anything() for column in columns[: 1 + source.below(4)]}
    if name == "initial_params" and source.below(2):
        return [{source.pick(["cut", 1]): source.anything() for _ in range(source.below(3))}]
    if name == "checkpoint" and isinstance(value, str) and "\0" not in value:
        return os.path.join(FOLDER, value[:300])
    return value


def settings(data: bytes) -> None:
    """Fit with garbage for one or two parameters of a search, a race or a callback."""
    from tunein import (
        BayesSearchCV,
        EarlyStop,
        FoldRace,
        Halving,
        HyperGradSearchCV,
        RegretBound,
        TargetScore,
        TimeLimit,
        TPESearchCV,
    )  # fmt: skip

    source = Source(data)
    kind = source.pick([TPESearchCV, BayesSearchCV, HyperGradSearchCV])
    values: dict[str, Any] = {
        "param_distributions": {"cut": [0.0, 0.1, -0.5]}, "n_iter": 2, "cv": 2, "random_state": 0,
    }  # fmt: skip
    part = source.pick([FoldRace, Halving, EarlyStop, TargetScore, RegretBound, TimeLimit, None])
    if part is not None and source.below(2):
        names = list(part.__dataclass_fields__)
        garbled = {source.pick(names): None for _ in range(1 + source.below(2))}
        needed = {"score": 1.0, "seconds": 100.0}
        given = {name: needed[name] for name in names if name in needed}
        given |= {name: a_setting(source, name) for name in garbled}
        name = "racing" if part in (FoldRace, Halving) else "callbacks"
        try:
            values[name] = part(**given)
        except Exception as error:
            refused(error, list(garbled))
            return
        values["n_iter"] = 3
    else:
        names = [name for name in kind(Cutoff(), {}).get_params(deep=False) if name != "estimator"]
        garbled = {source.pick(names): None for _ in range(1 + source.below(2))}
        values |= {name: a_setting(source, name) for name in garbled}
    own = [] if THEIRS & set(garbled) else list(garbled)
    if own and kind is HyperGradSearchCV:
        own.append("Cutoff")  # has no slopes
    with REPORTED.watching(FOLDER) if "n_jobs" not in garbled else contextlib.nullcontext():
        REPORTED.watched = False  # fits may do what they like; only paths are of interest
        try:
            kind(Cutoff(), **values).fit(X, Y)
        except Exception as error:
            files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
            if any(file.endswith("_param_validation.py") for file in files):
                refused(error, [""])
            elif own or f"{os.sep}tunein{os.sep}" in files[-1]:
                refused(error, [*own, FOLDER] if own else [""])


TARGETS = {
    "parser": parser,
    "events": events,
    "journals": journals,
    "resumes": resumes,
    "settings": settings,
}


# --------------------------------------------------------------------- running


class Count:
    """Runs cases and counts them, and keeps the first of each way to fail."""

    def __init__(self, target: str) -> None:
        self.case, self.n, self.failures = TARGETS[target], 0, dict[str, str]()
        self.output = io.StringIO()

    def __call__(self, data: bytes) -> None:
        self.n += 1
        signal.setitimer(signal.ITIMER_REAL, LONGEST)
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(self.output):
                warnings.simplefilter("ignore")
                self.case(bytes(data))
        except (Exception, Hang) as error:
            self._keep(error, data)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.output.truncate(0)

    def _keep(self, error: BaseException, data: bytes) -> None:
        cause = error.__cause__ or error
        where = [
            f"{Path(frame.filename).name}:{frame.lineno}"
            for frame in traceback.extract_tb(cause.__traceback__)
            if "tunein" in frame.filename or "benchmarks" in frame.filename
        ]
        way = f"{type(error).__name__} {type(cause).__name__} {where[-1:]}"
        self.failures.setdefault(way, f"{error!s:.300}\n  {cause!r:.300}\n  {data[:400].hex()}")


def _hang(*_: Any) -> None:
    raise Hang(f"a case took more than {LONGEST} seconds")


def run(target: str, engine: str, seconds: float, report: str, first_seed: int) -> None:
    """Run one target in this process, and write what was counted to a file."""
    signal.signal(signal.SIGALRM, _hang)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 44 if engine == "atheris" else MOST_BYTES,) * 2)
    if engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=["tunein"]):
            load()
    else:
        load()
    sys.addaudithook(REPORTED)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if target != "parser":
            write_journals(folder)
        count, end = Count(target), time.monotonic() + seconds

        def conclude() -> None:
            Path(report).write_text(json.dumps([count.n, count.failures]))

        if engine == "atheris":

            def one(data: bytes) -> None:
                count(data)
                if time.monotonic() > end:
                    conclude()
                    os._exit(0)

            flags = ["-max_len=400", "-len_control=0", "-timeout=60", "-rss_limit_mb=6000"]
            atheris.Setup([sys.argv[0], *flags, "-verbosity=0"], one)
            atheris.Fuzz()
        seed = first_seed
        while time.monotonic() < end:
            count(np.random.default_rng(seed).bytes(40 + seed % 300))
            seed += 1
        conclude()


def versions() -> list[str]:
    import numpy
    import sklearn

    import tunein

    return [platform.python_version(), numpy.__version__, sklearn.__version__, tunein.__version__]


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all by default")
    given.add_argument("--seconds", type=float, default=60, help="for each target")
    given.add_argument("--quick", action="store_true", help="three seconds each, nothing recorded")
    given.add_argument("--engine", choices=["atheris", "random"])
    given.add_argument("--seed", type=int, default=0, help="the first one of the random engine")
    given.add_argument("--report", help=argparse.SUPPRESS)
    options = given.parse_args()
    engine = options.engine or ("atheris" if importlib.util.find_spec("atheris") else "random")
    seconds = 3 if options.quick else options.seconds
    if options.report:
        run(options.targets[0], engine, seconds, options.report, options.seed)
        return
    print(f"{'target':10} {'engine':8} {'cases':>9} {'failures':>9}")
    rows = []
    for target in options.targets or TARGETS:
        with tempfile.NamedTemporaryFile() as report:
            flags = ["--engine", engine, "--seconds", f"{seconds}", "--seed", f"{options.seed}"]
            command = [sys.executable, __file__, target, *flags, "--report", report.name]
            subprocess.run(
                command, check=True, stderr=None if options.quick else subprocess.DEVNULL
            )
            n, failures = json.loads(Path(report.name).read_text())
        print(f"{target:10} {engine:8} {n:9} {len(failures):9}", flush=True)
        for way, told in failures.items():
            print(f"  {way}\n  {told}")
        rows.append([target, engine, n, len(failures), *versions()])
    if not options.quick:
        is_new = not RESULTS.exists()
        with RESULTS.open("a", newline="") as file:
            csv.writer(file).writerows([COLUMNS] * is_new + rows)


if __name__ == "__main__":
    main()
