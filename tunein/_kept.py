"""What was fitted, as long as its candidate may go up and go on from there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tunein._history import History, Proposal, Score
from tunein._racing import EveryFold

# All that is kept may take so many bytes; what does not fit in is fitted again when it goes up.
MAX_BYTES_IN_ALL = 2**30


class KeptFits:
    """Fitted estimators of trials that may still be promoted, by trial and fold.

    They are no part of the record: a search that is gone on with begins without.

    Parameters
    ----------
    race : EveryFold
        Who goes up.
    history : History
        The record.
    """

    def __init__(self, race: EveryFold, history: History) -> None:
        self._race = race
        self._history = history
        self._kept: dict[tuple[int, int], bytes] = {}
        self.n_bytes = 0

    def grows(self, proposal: Proposal) -> str | None:
        """Return the parameter that a later fit may have more of; None if none goes on."""
        return None if proposal.level == self._history.top else self._race.grown

    def keep(self, number: int, fold: int, score: Score) -> Score:
        """Take what was fitted out of a score."""
        content = score.fitted
        if content is None:
            return score
        if self.n_bytes + len(content) <= MAX_BYTES_IN_ALL:
            self._kept[number, fold] = content
            self.n_bytes += len(content)
        return replace(score, fitted=None)

    def take(self, proposal: Proposal, fold: int) -> bytes | None:
        """Return what a trial goes on from, which is needed once; None if there is nothing."""
        if proposal.parent is None:
            return None
        return self._pop(proposal.parent, fold)

    def drop_needless(self) -> None:
        """Drop the fits of trials that cannot go up any more."""
        if not self._kept:
            return
        is_open = np.flatnonzero(~self._history.visible()).tolist()
        parents = {self._history.trials[number].proposal.parent for number in is_open}
        needed = self._race.contenders(self._history).union(is_open, parents)
        for number, fold in list(self._kept):
            if number not in needed:
                self._pop(number, fold)

    def _pop(self, number: int, fold: int) -> bytes | None:
        content = self._kept.pop((number, fold), None)
        self.n_bytes -= len(content or b"")
        return content
