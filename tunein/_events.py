"""What happens in a search, as lines of JSON, and back.

A line is one event: a trial was opened, got a score, or was dropped. Points are written by their
coordinates; parameters are what the space makes of those. Floats are written so that they come
back bit for bit, and lines are believed only as far as they were checked: reading one runs nothing.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tunein._families import HyperGradient
from tunein._history import History, Proposal, Score
from tunein._racing import EveryFold, TooFewCandidates
from tunein._space import Space

# JSON has no words for these.
_NO_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

# Characters of an error that are kept, half of them from each end.
_LONGEST_ERROR = 20_000

# Lists in dicts in lists: a method's note has fewer.
_DEEPEST = 16

# Scores that a stranger's record may have room for: a line that opens a trial sets it aside for all
# folds.
_MOST_SCORES = 10_000_000

# With a factor of two, what goes beyond has no number in 64 bits.
MOST_LEVELS = 64

Event = dict[str, Any]


# What reading a line that no search has written may come to; it may nest as deeply as JSON can.
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)


class Damage(ValueError):
    """A line is not what a search would have written."""


# --------------------------------------------------------------------- writing


def opened(number: int, proposal: Proposal) -> Event:
    """Return the event that a trial was opened."""
    event: Event = {
        "open": number,
        "unit": [None if np.isnan(u) else float(u) for u in proposal.unit],
        "from": proposal.origin,
    }
    if proposal.resource is not None:
        event["level"] = proposal.level
    if proposal.parent is not None:
        event["parent"] = proposal.parent
    if proposal.level:
        event["level"] = proposal.level
    if proposal.note is not None:
        event["note"] = dict(proposal.note)
    return event


def scored(number: int, fold: int, score: Score, seconds: float) -> Event:
    """Return the event that a trial got a score on a fold, after so many seconds of the search."""
    event: Event = {"score": [number, fold], "test": score.test}
    if score.train is not None:
        event["train"] = score.train
    event["times"] = [score.fit_time, score.score_time]
    event["cpu"], event["at"] = round(score.cpu_time, 6), round(seconds, 3)
    event["n"] = score.n_test_samples
    if score.error is not None:
        event["error"] = _cut(score.error)
    if score.hypergradient is not None:
        found = score.hypergradient
        event["slope"] = {"loss": found.loss, "gradient": found.gradient}
        if found.flat:
            event["slope"]["flat"] = found.flat
    if score.no_hypergradient is not None:
        event["no_slope"] = _cut(score.no_hypergradient)
    return event


def dropped(number: int) -> Event:
    """Return the event that a trial was dropped."""
    return {"drop": number}


def to_line(event: Event) -> bytes:
    """Return an event as a line that ends."""
    text = json.dumps(_plain(event), separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def _plain(value: Any) -> Any:
    """Return what JSON has words for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_ERROR:
        return text
    return f"{text[: _LONGEST_ERROR // 2]}\n...\n{text[-_LONGEST_ERROR // 2 :]}"


# --------------------------------------------------------------------- reading


def from_line(line: bytes) -> Event:
    """Return the event that a line holds."""
    try:
        event = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Damage(f"it is no JSON ({type(error).__name__})") from error
    if not isinstance(event, dict):
        raise Damage("it is no JSON object")
    return event


def _refuse(name: str) -> Any:
    raise ValueError(name)


@dataclass(frozen=True)
class Replay:
    """Brings events into a record.

    Attributes
    ----------
    history : History
        Where to.
    space : Space
        What points mean.
    given : sequence of Proposal or None
        The first trials, which keep their parameters as their users gave them; None if that is not
        known, and those of their points are good enough.
    n_trials : float
        Events of trials beyond so many are left out.
    with_train : bool or None
        Whether there are scores on training sets; None if that makes no difference.
    race : EveryFold
        At which level trials begin, and go on. One without levels believes what is written.
    """

    history: History
    space: Space
    given: Sequence[Proposal] | None
    n_trials: float
    with_train: bool | None = None
    race: EveryFold = field(default_factory=EveryFold)

    def apply(self, event: Event) -> None:
        """Bring in one event."""
        for kind, bring_in in (("score", self._score), ("open", self._open), ("drop", self._drop)):
            if kind in event:
                try:
                    bring_in(event)
                except (Damage, TooFewCandidates):
                    raise
                except _UNREADABLE as error:
                    raise Damage(f"{type(error).__name__}: {error}") from error
                return
        raise Damage(f"it has none of 'open', 'score' and 'drop', but {_short(sorted(event)[:5])}")

    def _open(self, event: Event) -> None:
        number = whole(event["open"], "the number of a trial")
        if number >= self.n_trials:
            return
        if number != len(self.history):
            raise Damage(f"it opens trial {number} where trial {len(self.history)} is next")
        is_unbounded = math.isinf(self.n_trials)  # where no search says how many there will be
        if is_unbounded and (number + 1) * self.history.n_folds > _MOST_SCORES:
            raise Damage(f"trials of {self.history.n_folds} folds are more than can be believed")
        unit = self._unit(event["unit"])
        level = whole(event.get("level", 0), "a level", self.history.top)
        if event["from"] == "promoted":
            proposal = self._promoted(event, unit, level)
        else:
            i = self.history.n_candidates
            proposal = replace(self._proposal(event, i, unit), level=level, bracket=level)
            proposal = self.race.admit(proposal, i)
            if proposal.level != level:
                raise Damage(f"trial {number} begins at level {level}, not {proposal.level}")
        self.history.open(proposal)

    def _promoted(self, event: Event, unit: Any, level: int) -> Proposal:
        """Return a trial of a candidate that was tried before."""
        number, parent = event["open"], whole(self._trial(event["parent"]), "a trial")
        proposal = self.race.promoted(self.history, parent, level)
        below = self.history.trials[parent].proposal.level
        if level <= below:
            raise Damage(f"trial {number} is at level {level}, and trial {parent} at {below}")
        if Space.key(proposal.unit) != Space.key(unit):
            raise Damage(f"trial {number} is at another point than trial {parent}")
        return proposal

    def _proposal(self, event: Event, i: int, unit: Any) -> Proposal:
        """Return what was proposed as the i-th candidate."""
        origin, note = event["from"], event.get("note")
        if origin not in ("default", "initial", "asked"):
            raise Damage(f"it says that trial {event['open']} is from {_short(origin)}")
        if note is not None:
            note = _note(note)
        if origin == "asked" or self.given is None:
            return Proposal(unit, self.space.decode(unit), origin, note)
        if i >= len(self.given) or Space.key(self.given[i].unit) != Space.key(unit):
            raise Damage(f"trial {event['open']} is none of the candidates to be tried first")
        return self.given[i]

    def _unit(self, value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(self.space.dimensions):
            raise Damage(f"a point has {len(self.space.dimensions)} coordinates")
        numbers = [math.nan if u is None else _number(u, "a coordinate") for u in value]
        unit = np.array(numbers, dtype=float)
        if not np.all((unit >= 0) & (unit <= 1) | np.isnan(unit)):
            raise Damage("a coordinate is not between 0 and 1")
        if not np.array_equal(self.space.snap(unit[None])[0], unit, equal_nan=True):
            raise Damage("it holds a point that the search space does not have")
        return unit

    def _trial(self, value: Any) -> int | None:
        number = whole(value, "the number of a trial")
        if number >= self.n_trials:
            return None
        if number >= len(self.history):
            raise Damage(f"trial {number} was not opened before")
        return number

    def _score(self, event: Event) -> None:
        place = event["score"]
        if not isinstance(place, list) or len(place) != 2:
            raise Damage("'score' must be a trial and a fold")
        number, fold = self._trial(place[0]), whole(place[1], "the number of a fold")
        if fold >= self.history.n_folds:
            raise Damage(f"fold {fold} is none of {self.history.n_folds}")
        if self.with_train not in (None, "train" in event):
            raise Damage(f"it has {'a' if 'train' in event else 'no'} score on the training set")
        if number is not None:
            if self.history.trials[number].dropped:
                raise Damage(f"trial {number} was dropped before")
            score = _read_score(event)
            if isinstance(score.test, dict) and self.history.metric not in (None, *score.test):
                raise Damage(f"it has no score of {_short(self.history.metric)}")
            self.history.record(number, fold, score)
            self.history.clock.before = _seconds(event.get("at", 0.0), "'at'")

    def _drop(self, event: Event) -> None:
        number = self._trial(event["drop"])
        if number is not None:
            if not self.history.trials[number].run:
                raise Damage(f"trial {number} is dropped before it has a score")
            self.history.drop(number)


def _read_score(event: Event) -> Score:
    times = event["times"]
    if not isinstance(times, list) or len(times) != 2:
        raise Damage("'times' must be two numbers")
    slope = event.get("slope")
    test, train = _scores(event["test"]), None
    if "train" in event:
        train = _scores(event["train"])
        if _metrics(train) != _metrics(test):
            raise Damage("its scores on the training set are of other metrics")
    return Score(
        test=test,
        train=train,
        fit_time=_number(times[0], "a time"),
        score_time=_number(times[1], "a time"),
        n_test_samples=whole(event["n"], "'n'", sys.maxsize),
        error=_text(event.get("error")),
        hypergradient=None if slope is None else _slope(slope),
        no_hypergradient=_text(event.get("no_slope")),
        cpu_time=_seconds(event.get("cpu", 0.0), "'cpu'"),
    )


def _slope(value: Any) -> HyperGradient:
    flat = {name: (_number(at, "flat"), whole(way + 1, "a way") - 1)
            for name, (at, way) in value.get("flat", {}).items()}  # fmt: skip
    gradient = {name: _number(x, "a slope") for name, x in value["gradient"].items()}
    loss = _number(value["loss"], "a loss")
    if not all(map(math.isfinite, (loss, *gradient.values()))):  # a search keeps no others
        raise Damage("a loss or a slope is not finite")
    return HyperGradient(loss, gradient, None, flat)


def _scores(value: Any) -> Any:
    if isinstance(value, dict) and value:
        return {name: _number(one, "a score") for name, one in value.items()}
    return _number(value, "a score")


def _metrics(scores: Any) -> set[str] | None:
    return set(scores) if isinstance(scores, dict) else None


def _number(value: Any, what: str) -> Any:
    """Return a number as it was: whole ones and truth values stay what they are."""
    if isinstance(value, str) and value in _NO_NUMBERS:
        return _NO_NUMBERS[value]
    is_beyond = isinstance(value, int) and abs(value) > sys.float_info.max
    if not isinstance(value, int | float) or is_beyond:
        raise Damage(f"{what} is no number, but {_short(value)}")
    return value


def _seconds(value: Any, what: str) -> float:
    seconds = float(_number(value, what))
    if not 0 <= seconds < math.inf:
        raise Damage(f"{what} is no time, but {_short(value)}")
    return seconds


def whole(value: Any, what: str, most: float = math.inf) -> int:
    """Return a number that counts something; `what` is for the error."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Damage(f"{what} is no whole number from 0 on, but {_short(value)}")
    if value > most:
        raise Damage(f"{what} is {value}, more than {most}")
    return value


def _short(value: Any) -> str:
    return f"{value!r:.40}"


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise Damage(f"an error is no text, but {_short(value)}")
    return value


def _note(value: Any, depth: int = 0) -> Any:
    """Return a method's note: plain numbers, texts, lists and dicts."""
    if depth == 0 and not isinstance(value, dict):
        raise Damage("'note' must be an object")
    if depth > _DEEPEST:
        raise Damage(f"'note' is deeper than {_DEEPEST}")
    if isinstance(value, dict):
        return {key: _note(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_note(item, depth + 1) for item in value]
    return _NO_NUMBERS.get(value, value) if isinstance(value, str) else value
