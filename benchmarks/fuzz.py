"""Hostile input: garbage for the space parser, and journals that somebody has tampered with.

Every case must end well or in an error that is documented: TypeError or ValueError (OSError too,
for files) with a message, within two seconds, and a file that is refused must be left as it was.

- ``space``    dimensions, choices and distributions made of odd values, parsed and sampled
- ``journal``  journals of a plain, a raced and a halved search, with bytes, lines and fields
  changed, read as ``history``; each tenth is resumed instead

Run from the root of the repository::

    python benchmarks/fuzz.py --seconds 60 --seed 1    # prints a row for docs/reliability.md
    python benchmarks/fuzz.py --quick
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from tunein import Categorical, Choice, FoldRace, Halving, Integer, Real, TPESearchCV
from tunein._journal import read_journal
from tunein._space import Space

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from fakes import Levelled, Steps

MOST_SECONDS = 2.0
ODD = [
    0, 1, -1, 0.5, 1e-300, 1e300, float("nan"), float("inf"), -float("inf"), True, None, "a", b"",
    10**400, 2**63, -(2**63), 1e-5, 3, 7, np.float32(0.1), np.int64(5), 1j, [], {},
]  # fmt: skip
JUNK = [
    b"", b"null", b"-1", b"1e999", b'"a"', b"[]", b"{}", b"NaN", b'"NaN"', b"9" * 20, b"true",
    b"1.5", b"[" * 50 + b"]" * 50, b"\x00", b"\xff", b"\n",
]  # fmt: skip
FIELDS = [None, -1, 1e300, "a", [], {}, True, [1], [0, 0], 2**70, "NaN", {"a": {}}]
Check = Callable[[], None]


def odd_node(rng: random.Random, depth: int = 0) -> Any:
    """Return what might stand for a parameter; making it may already be refused."""

    def odd() -> Any:
        return rng.choice(ODD)

    makers: list[Callable[[], Any]] = [
        lambda: [odd() for _ in range(rng.randrange(5))],
        lambda: tuple(odd() for _ in range(rng.randrange(4))),
        lambda: np.array([rng.random() for _ in range(rng.randrange(5))]),
        lambda: Real(odd(), odd(), log=odd()),
        lambda: Integer(odd(), odd(), log=odd(), step=odd()),
        lambda: Categorical([odd() for _ in range(rng.randrange(4))], ordered=odd()),
        lambda: rng.choice([stats.loguniform, stats.uniform, stats.randint])(odd(), odd()),
        lambda: rng.choice([stats.norm, stats.beta])(odd(), odd()),
        odd,
        lambda: range(rng.randrange(-3, 5)),
        lambda: {1, 2},
        lambda: iter([1]),
        lambda: np.array([[1, 2], [3, 4]]),
    ]
    if depth < 4:
        makers.append(
            lambda: Choice(
                [
                    (odd(), {rng.choice("abc"): odd_node(rng, depth + 1)})
                    for _ in range(rng.randrange(4))
                ]
            )
        )
    return rng.choice(makers)()


def space_case(rng: random.Random) -> Check:
    def check() -> None:
        given = {rng.choice(["a", "b", 1, None, ""]): odd_node(rng) for _ in range(3)}
        space = Space.parse(rng.choice([given, [given], [given, {"z": [1]}]]))
        points = space.sample(np.random.default_rng(0), 3)
        for point in points:
            for unit, _ in space.encode(space.decode(point)):
                space.snap(unit[None])
        space.untried(np.random.default_rng(0), 2, set())

    return check


def searches() -> dict[str, Callable[[Path], TPESearchCV]]:
    common: dict[str, Any] = {"n_iter": 6, "random_state": 0, "refit": False}
    level, a = {"level": stats.uniform(0, 1)}, {"a": stats.uniform(0, 1)}
    ladder = Halving("n_steps", min_resources=1, max_resources=4)
    return {
        "plain": lambda path: TPESearchCV(Levelled(), level, cv=2, checkpoint=path, **common),
        "raced": lambda path: TPESearchCV(
            Levelled(noise=0.1), level, cv=4, checkpoint=path, racing=FoldRace(), **common
        ),
        "halved": lambda path: TPESearchCV(
            Steps(), a, cv=2, checkpoint=path, racing=ladder, **common
        ),
    }


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change bytes, pieces, lines or fields, one to three times."""
    for _ in range(rng.randrange(1, 4)):
        i, lines = rng.randrange(len(data) + 1), data.splitlines(keepends=True)
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:i] + bytes([rng.randrange(256)]) + data[i + 1 :]
        elif kind == 1:
            data = data[:i] + data[i + rng.randrange(1, 30) :]
        elif kind == 2:
            data = data[:i] + rng.choice(JUNK) + data[i:]
        elif kind == 3 and lines:
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
            data = b"".join(lines)
        elif kind == 4 and lines:
            j = rng.randrange(len(lines))
            lines[j] = changed_field(lines[j], rng)
            data = b"".join(lines)
        else:
            data = data[:i]
    return data


def changed_field(line: bytes, rng: random.Random) -> bytes:
    try:
        event = json.loads(line)
        event[rng.choice(list(event))] = rng.choice(FIELDS)
    except (ValueError, TypeError, IndexError, AttributeError):  # no line of its own any more
        return line
    return json.dumps(event).encode() + b"\n"


class Journals:
    """Makes cases of tampered journals."""

    def __init__(self, folder: Path) -> None:
        self._path, self._n = folder / "tampered", 0
        self._X, self._searches, self._whole = np.arange(8.0)[:, None], searches(), {}
        for name, search in self._searches.items():
            fitted = search(folder / name).fit(self._X)
            self._whole[name] = (folder / name).read_bytes(), fitted.space_

    def __call__(self, rng: random.Random) -> Check:
        name, self._n = rng.choice(list(self._searches)), self._n + 1
        data, space = mutated(self._whole[name][0], rng), self._whole[name][1]
        self._path.write_bytes(data)
        if self._n % 10:
            return lambda: read_journal(self._path, space, "history") and None
        return lambda: self._resume(name, data)

    def _resume(self, name: str, data: bytes) -> None:
        try:
            self._searches[name](self._path).fit(self._X)
        except (ValueError, OSError):
            assert self._path.read_bytes() == data, "a file that was refused was changed"
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of constant scores, and the like
    with tempfile.TemporaryDirectory() as folder:
        targets = {"space": space_case, "journal": Journals(Path(folder))}
        for name, case in targets.items():
            rng = random.Random(arguments.seed)
            until = time.monotonic() + (2 if arguments.quick else arguments.seconds)
            n = n_refused = 0
            failures: list[str] = []
            while time.monotonic() < until:
                check, start = case(rng), time.monotonic()
                n += 1
                try:
                    check()
                except (TypeError, ValueError, OSError) as error:
                    n_refused += 1
                    if not str(error):
                        failures.append(f"no message: {type(error).__name__}")
                except Exception as error:  # whatever it is, it is what we look for
                    failures.append(f"{type(error).__name__}: {error!s:.100}")
                if time.monotonic() - start > MOST_SECONDS:
                    failures.append("slow")
            print(f"| {name} | {n:,} | {n_refused:,} | {len(failures)} |", *failures[:5], sep="\n")


if __name__ == "__main__":
    main()
