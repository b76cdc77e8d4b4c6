"""The way down from one shared penalty to one for each group, and where to stop on it.

A descent on the cross-validated loss by as many penalties as there are features fits the folds: it
ends at a loss far below any that new data will see. Three measures guard against that:

1.  Each fold is kept out of a descent of its own, on the other folds alone. The loss on the rows
    kept out, over all folds, tells after how many steps to stop, and is an honest estimate but for
    the choice of that step (Prechelt 1998, "Early stopping - but when?").
2.  A term pulls the log-penalties towards the shared one. It makes the steps finer as much as it
    bounds where they lead.
3.  Only if the loss on the rows kept out falls by more than its own standard error is the shared
    penalty given up at all.

The penalties are then the geometric means over these descents, which averages out what each of them
has learned of its folds alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeResult, minimize, minimize_scalar

from tunein._math.penalties import Array, CVLoss, Problem, Split

# Factor by which a penalty may differ from the shared one: beyond it, a coefficient is as good as
# zero, or as good as free.
_FURTHEST = np.log(1e6)

# What a mean square of one of the differences of log-penalties to the shared one costs, as a share
# of the loss of the shared one. Measured: 0.3 to 1 alike on sparse problems, 0 and 3 worse.
_SHRINKAGE = 1.0

# Steps without a lower loss on the rows kept out after which a descent ends.
_PATIENCE = 5

# Relative fall of the loss in a step below which a descent has converged.
_FLAT = 1e-7

# Decades, around the mean curvature of the loss by a coefficient, in which a shared penalty is
# sought; more at the upper end for more features than samples. Then to so much of its logarithm.
_DECADES = (-6, 4)
_FINE = 0.05

# The same for the lasso, downwards from the least penalty with which all coefficients are zero, in
# steps. With little penalty a lasso takes long: after so many without a lower loss it is enough.
_LASSO_DECADES = (0, -3.01, -1 / 3)
_LASSO_PATIENCE = 2


@dataclass(frozen=True)
class Found:
    """What a descent has found.

    Parameters
    ----------
    theta : ndarray of shape (m,)
        Log-penalties.
    n_steps : int
        How many steps away from the shared penalty they are.
    cv_losses : ndarray of shape (n_steps_tried + 1,)
        The loss that was descended on, step by step, from the shared penalty on.
    held_losses : ndarray of shape (n_steps_tried + 1,) or None
        The loss on the rows kept out of it.
    reason : str
        Why it ended there, in a sentence.
    """

    theta: Array
    n_steps: int
    cv_losses: Array
    held_losses: Array | None
    reason: str


@dataclass
class _Path:
    """The iterates of one descent: log-penalties, loss, losses of each row kept out."""

    thetas: list[Array]
    losses: list[float]
    held: list[Array]

    def extend_to(self, length: int) -> None:
        """Repeat the last iterate: a descent that has ended stays where it is."""
        missing = length - len(self.thetas)
        self.thetas += self.thetas[-1:] * missing
        self.losses += self.losses[-1:] * missing
        self.held += self.held[-1:] * missing


def shared_log_penalty(problem: Problem, folds: Sequence[Split]) -> float:
    """Return the logarithm of the best penalty that all features share.

    First widely apart over all that could matter, since the loss may have several minima, then by
    Brent's method between the neighbours of the best.
    """
    m = int(problem.groups.max()) + 1
    candidates = _candidates(problem)

    def loss(theta: float) -> float:
        return CVLoss(problem, np.full(m, theta)).mean(folds)

    losses: list[float] = []
    for theta in candidates:
        losses.append(loss(theta))
        if problem.lasso is not None and len(losses) - np.argmin(losses) > _LASSO_PATIENCE:
            break
    best = int(np.argmin(losses))
    ends = candidates[[max(best - 1, 0), min(best + 1, len(candidates) - 1)]]
    around = (float(ends.min()), float(ends.max()))
    finer = minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": _FINE})
    return float(finer.x if finer.fun < losses[best] else candidates[best])


def _candidates(problem: Problem) -> Array:
    n, p = problem.X.shape
    if problem.lasso is not None:
        y = problem.y - np.average(problem.y, weights=problem.s) * problem.fit_intercept
        largest = np.abs((problem.s * y) @ problem.X).max() / problem.s.sum()
        return np.asarray(np.log(largest or 1.0) + np.log(10) * np.arange(*_LASSO_DECADES))
    curvature = problem.s @ np.mean(problem.X**2, axis=1)
    middle = np.log(curvature) if curvature > 0 else 0.0
    low, high = _DECADES
    decades = np.arange(low, high + max(0, int(np.log10(p / n))) + 1)
    return np.asarray(middle + np.log(10) * decades)


def descend(problem: Problem, folds: Sequence[Split], shared: float, max_iter: int) -> Found:
    """Descend on the cross-validated loss until it is flat, with nothing against fitting the folds.

    Parameters
    ----------
    problem : Problem
    folds : sequence of Split
    shared : float
        Log-penalty from which all groups start.
    max_iter : int
        Most steps of L-BFGS-B.

    Returns
    -------
    found : Found
    """
    path = _descent(problem, folds, shared, max_iter, None, shrinkage=0.0)
    n_steps = len(path.thetas) - 1
    ending = "max_iter was reached" if n_steps == max_iter else "the cross-validated loss was flat"
    reason = f"Without a guard: {ending} after {n_steps} steps."
    return Found(path.thetas[-1], n_steps, np.array(path.losses), None, reason)


def guarded_descent(
    problem: Problem,
    folds: Sequence[Split],
    shared: float,
    max_iter: int,
    shrinkage: float = _SHRINKAGE,
) -> Found:
    """Descend as far as rows that were kept out tell to.

    Parameters
    ----------
    problem, folds, shared, max_iter
        As in `descend`.
    shrinkage : float
        Weight of the pull towards the shared penalty.

    Returns
    -------
    found : Found
        `theta` equals `shared` throughout if no step is worth it.
    """
    paths, weights = [], []
    for number, held in enumerate(folds):
        inner = _without(folds, number)
        if inner:
            paths.append(_descent(problem, inner, shared, max_iter, held, shrinkage))
            weights.append(problem.s[held.test])
    length = max(len(path.thetas) for path in paths)
    for path in paths:
        path.extend_to(length)
    s = np.concatenate(weights)
    steps = zip(*(path.held for path in paths), strict=True)
    held_losses = np.array([np.concatenate(rows) for rows in steps])
    means = held_losses @ s / s.sum()
    step = int(np.argmin(means))
    reason = "Held-out loss was lowest with the shared penalty."
    if step > 0:
        fall, error = means[0] - means[step], _standard_error(held_losses[0] - held_losses[step], s)
        reason = (
            f"Held-out loss was lowest after {step} steps: {means[step]:.4g}, from {means[0]:.4g} "
            f"with the shared penalty; standard error of the difference {error:.2g}."
        )
        if fall <= error:
            step, reason = 0, f"{reason} That is too little to give up the shared penalty."
    theta = np.mean([path.thetas[step] for path in paths], axis=0)
    cv_losses = np.mean([path.losses for path in paths], axis=0)
    return Found(theta, step, cv_losses, means, reason)


def _standard_error(differences: Array, s: Array) -> float:
    """Return the standard error of the weighted mean; a weight of two is a sample twice."""
    spread = differences - s @ differences / s.sum()
    return float(np.sqrt(s @ spread**2) / s.sum())


def _without(folds: Sequence[Split], number: int) -> list[Split]:
    """Return the other folds, restricted to what this one trains on.

    So whatever the folds respect, groups or time, the descents inside respect as well.
    """
    known = folds[number].train
    inner = [
        Split(np.intersect1d(fold.train, known), np.intersect1d(fold.test, known))
        for i, fold in enumerate(folds)
        if i != number
    ]
    return [split for split in inner if len(split.train) and len(split.test)]


def _descent(
    problem: Problem,
    folds: Sequence[Split],
    shared: float,
    max_iter: int,
    held: Split | None,
    shrinkage: float,
) -> _Path:
    """Descend by L-BFGS-B from the shared penalty, on the loss relative to the shared one's."""
    start = np.full(int(problem.groups.max()) + 1, shared)
    path = _Path([], [], [])
    seen: dict[bytes, tuple[float, Array]] = {}  # since the last accepted step

    def evaluate(theta: Array) -> tuple[float, Array]:
        at = CVLoss(problem, theta)
        loss, gradient = at.mean_and_gradient(folds)
        seen[theta.tobytes()] = loss, np.empty(0) if held is None else at.losses(held)
        return loss, gradient

    def accept(theta: Array) -> None:
        loss, losses = seen[theta.tobytes()]
        seen.clear()
        path.thetas.append(theta.copy())
        path.losses.append(loss)
        path.held.append(losses)

    def objective(theta: Array) -> tuple[float, Array]:
        loss, gradient = evaluate(theta)
        away = theta - start
        pull = shrinkage * float(np.mean(away**2))
        return loss / unit + pull, gradient / unit + 2 * shrinkage / len(away) * away

    def after_step(intermediate_result: OptimizeResult) -> None:
        accept(intermediate_result.x)
        if held is not None and _has_risen(path.held, problem.s[held.test]):
            raise StopIteration

    unit = evaluate(start)[0] or 1.0  # a loss of zero stays where it is
    accept(start)
    minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(shared - _FURTHEST, shared + _FURTHEST)] * len(start),
        callback=after_step,
        options={"maxiter": max_iter, "ftol": _FLAT, "gtol": 1e-9},
    )
    return path


def _has_risen(held: Sequence[Array], s: Array) -> bool:
    means = np.array(held) @ s
    return len(means) - 1 - int(np.argmin(means)) >= _PATIENCE
