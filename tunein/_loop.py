"""The one loop of all searches: propose, hand in, record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from tunein._dimensions import Array
from tunein._earlier import Earlier
from tunein._evaluation import Call, Evaluator, evaluate_fold
from tunein._fingerprint import Part
from tunein._fold_files import FoldFiles
from tunein._halving import Setup
from tunein._history import History, Known, Proposal
from tunein._kept import KeptFits
from tunein._racing import Agenda, EveryFold
from tunein._sklearn import SearchContext
from tunein._space import Space
from tunein._watch import Watch

# A point to try, and a note to read again at the next; or why there should be no more.
Step: TypeAlias = tuple[Array, Mapping[str, Any] | None] | str

# What a method may come to with a note that it has not written.
_UNUSABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Job:
    """All that stays the same from the first fold of a search to the last."""

    fixed: dict[str, Any]  # arguments of evaluate_fold that all folds share
    probe: Any  # what asks fits for their hypergradients; None if nobody wants to know
    folds: list[tuple[Any, Any]]
    space: Space
    n_candidates: int
    given: list[Proposal]  # tried before the method is asked
    design: Array  # the method's own first points
    seed: int
    is_seeded: bool
    context: SearchContext
    setup: Setup
    race: EveryFold
    measured: dict[str, Part]  # what scores depend on beside candidates and folds
    earlier: Earlier

    @cached_property
    def n_trials(self) -> int:
        """How many trials there will be at most."""
        return self.race.n_trials(self.n_candidates)

    def probe_of(self, proposal: Proposal) -> Any:
        """Return what asks those of one trial."""
        return self.probe.of_trial(proposal.note) if self.probe is not None else None


class Loop:
    """Keeps the workers busy until there is nothing more to try, or somebody wants to stop.

    Parameters
    ----------
    job : Job
        What stays the same.
    history : History
        The record, which may have begun.
    watch : Watch
        Who may want to stop.
    evaluator : Evaluator
        The workers.
    agenda : Agenda
        The folds that are to be run.
    files : FoldFiles
        What stands for X in the workers.
    next_point : callable
        The method: called with the job, what is known, and a generator, it returns a `Step`.
    """

    def __init__(
        self,
        job: Job,
        history: History,
        watch: Watch,
        evaluator: Evaluator,
        agenda: Agenda,
        files: FoldFiles,
        next_point: Callable[[Job, Known, np.random.Generator], Step],
    ) -> None:
        self._job = job
        self._history = history
        self._watch = watch
        self._evaluator = evaluator
        self._agenda = agenda
        self._next_point = next_point
        self._kept = KeptFits(job.race, history)
        self._files = files

    def run(self) -> None:
        """Go on until nothing is in work, or what is in work is given up."""
        history, watch = self._history, self._watch
        if history.closed:  # of a search that is gone on with
            watch.ask()
        while self._hand_in():
            with history.clock.waiting():
                landed = self._evaluator.next(watch.patience())
            if landed is None:
                watch.give_up()
                self._evaluator.abandon()
                break
            (number, fold), score = landed
            if not self._evaluator.leaves_process:
                history.clock.cpu_of_folds += score.cpu_time
            self._agenda.record(number, fold, self._kept.keep(number, fold, score))
            if history.trials[number].closed:
                self._kept.drop_needless()
                watch.ask()

    def _hand_in(self) -> bool:
        """Hand in all that there is room for; tell whether anything is in work."""
        history, watch, agenda, evaluator = (
            self._history,
            self._watch,
            self._agenda,
            self._evaluator,
        )
        while evaluator.n_running < evaluator.capacity:
            opens = not agenda.waiting and self._may_open()
            if agenda.waiting or opens:
                watch.look_at_clock()
            if watch.halted:
                agenda.keep_only(history.first_to_finish)
            # Time may be over before it began, and there is a first candidate all the same.
            if opens and not (watch.halted and len(history)) and self._open():
                continue  # thinking takes time, too
            if not agenda.waiting:
                break
            self._submit(*agenda.waiting.popleft())
        return evaluator.n_running > 0

    def _may_open(self) -> bool:
        """Tell whether a trial may be proposed, or more must be known before."""
        n = len(self._history)
        if n >= self._job.n_trials:
            return False
        if self._is_ending:
            return not self._watch.halted and self._job.race.finale(self._history) is not None
        upto = self._agenda.upto(n)
        return upto is None or self._history.n_closed_in_row >= upto

    @property
    def _is_ending(self) -> bool:
        """Whether somebody wants no more candidates, of which there is one at least."""
        return self._watch.reason is not None and len(self._history) > 0

    def _open(self) -> bool:
        """Open a trial, or take down why there are no more; tell whether there was either."""
        proposal = self._next_trial()
        if isinstance(proposal, str):
            self._watch.stop(proposal)
        elif proposal is not None:
            self._agenda.grant(self._history.open(proposal))
        return proposal is not None

    def _next_trial(self) -> Proposal | str | None:
        """Return a candidate that goes on, or else a new one; None if neither is due for now."""
        if self._is_ending:
            return self._job.race.finale(self._history)
        i = self._history.n_candidates
        are_all_in = i >= self._job.n_candidates
        promoted = self._agenda.promotion(are_all_in=are_all_in)
        if promoted is not None or are_all_in:
            return promoted
        proposal = self._propose()
        return proposal if isinstance(proposal, str) else self._job.race.admit(proposal, i)

    def _propose(self) -> Proposal | str:
        """Return the next candidate, or a sentence that says why there should be no more."""
        job, history = self._job, self._history
        number = len(history)
        if history.n_candidates < len(job.given):
            return job.given[history.n_candidates]
        rng = np.random.default_rng(np.random.SeedSequence(job.seed, spawn_key=(number,)))
        known = history.known(self._agenda.upto(number))
        try:
            found = self._next_point(job, known, rng)
        except _UNUSABLE as error:
            if known.note is None or history.read_from is None:
                raise
            raise ValueError(
                f"{history.read_from}: no candidate can be proposed with what the file holds of "
                f"the method ({type(error).__name__}: {error}). If nobody has changed it, this is "
                f"a defect of tunein; with another path the search begins anew."
            ) from error
        if isinstance(found, str):
            return found
        unit, note = found
        return Proposal(unit, job.space.decode(unit), "asked", note)

    def _submit(self, number: int, fold: int) -> None:
        job, evaluator, n_folds = self._job, self._evaluator, len(self._job.folds)
        train, test = job.folds[fold]
        proposal = self._history.trials[number].proposal
        rows = job.race.rows(proposal, fold, train)
        call = Call(
            (number, fold),
            evaluate_fold,
            {
                **job.fixed,
                "X": self._files.stand_in(fold, rows),
                "train": rows,
                "test": test,
                "split_progress": (fold, n_folds),
                "candidate_progress": (number, job.n_trials),
                "grows": self._kept.grows(proposal),
                **job.context.task_arguments(
                    number * n_folds + fold, leaves_process=evaluator.leaves_process
                ),
            },
            {
                "parameters": proposal.params,
                "probe": job.probe_of(proposal),
                "grown_from": self._kept.take(proposal, fold),
            },
        )
        evaluator.submit(call)
