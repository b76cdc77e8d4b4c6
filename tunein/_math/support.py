"""Exact optima of support vector machines with kernels, and the adjoint solve at them.

The dual problem of a machine f(x) = sum_j beta_j k(x_j, x) + b, for targets y, with K the kernel
matrix of training samples::

    min over beta of  beta' K beta / 2 - y' beta + sum_i above_i beta_i^+ + below_i beta_i^-
    with sum_i beta_i = 0 and |beta_i| <= cap_i

where v^+ and v^- are the positive and the negative part. Regression has above = below = epsilon;
classification has y = +-1, zero on the side of the sample's class and infinity on the other.

At its optimum every sample is in one of five states: beta_i is zero, at a cap, or *free* on one
side, where f(x_i) = t_i := y_i - above_i, or y_i + below_i. Given the states, the free F are

    [K_FF 1; 1' 0] [beta_F; b] = [t_F - K_FB beta_B; -sum beta_B]                              (1)

with B the samples at a cap. The residuals y - f then say whether the states were right: an active
set method. The matrix of (1) is also that of the adjoint. For a loss L of values f_v = K_v beta + b
of test samples, of slope g, solve

    [K_FF 1; 1' 0] [u; u0] = [K_vF' g; sum g]                                                  (2)

and then (Keerthi, Sindhwani and Chapelle 2006, "An efficient method for gradient-based adaptation
of hyperparameters in SVM models")

    dL/dtheta = g' dK_v beta - u' dK_F beta                       of a parameter of the kernel
    C dL/dC = g' K_vB beta_B - u' K_FB beta_B - u0 sum beta_B     of the scale of all caps
    dL/depsilon = -u' sign(beta_F)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from tunein._math.kernels import Kernel, through_kernel
from tunein._math.losses import Array
from tunein._math.matrices import squares

Rows = NDArray[np.intp]
States = NDArray[np.int8]

# Part of the mean of the diagonal of K that is added to it. Kernel matrices are often singular in
# floating point, as are those of a linear kernel, or of a sample that is there twice: beta is
# then not unique, though f is, and this makes it so. A loss shows none of it.
_RIDGE = 1e-12

# By what part of the scale of targets a residual, or of a cap a coefficient, may be wrong.
_SLACK = 1e-9

# Attempts to set all states at once, and steps of one state at a time for each that is free at
# the start.
_SWEEPS, _WALKS = 30, 10

# What they may cost: multiplications, and factors of a matrix of all samples.
_MOST_WORK, _FACTORS = 1e9, 10

# How many times more samples than changes to them there must be for factors to be used again.
_REUSE = 12

# Least ratio of pivots of factors that are used again: what they are used for squares it.
_SOUND = 1e-4

# Rounds of refinement with them.
_REFINED = 2

# States.
_LOW, _FREE_LOW, _ZERO, _FREE_HIGH, _HIGH = -2, -1, 0, 1, 2


class NotSettled(ArithmeticError):
    """No states were found that are those of an optimum."""


class Gram:
    """Columns of the kernel matrix of training samples, each computed when first asked for.

    Parameters
    ----------
    kernel : Kernel
        Of which.
    X : {ndarray, sparse matrix} of shape (n, p)
        Samples.
    first : ndarray of int
        Columns that are sure to be asked for.

    Attributes
    ----------
    scale : float
        Mean of the absolute values of its diagonal.
    """

    def __init__(self, kernel: Kernel, X: Any, first: Rows) -> None:
        self.kernel, self.X = kernel, X
        of_same = kernel.value(np.zeros(X.shape[0]) if kernel.name == "rbf" else squares(X))
        self.scale = float(np.abs(of_same).mean()) or 1.0
        self._where = np.full(X.shape[0], -1)
        # Columns are rows here, K being symmetric, with space for a few more to come.
        self._known = len(first)
        self._rows = np.empty((len(first) + len(first) // 8 + 8, X.shape[0]))
        self._rows[: self._known] = kernel(X[first], X)
        self._where[first] = np.arange(self._known)

    def __call__(self, rows: Rows, columns: Rows) -> Array:
        """Return a block of the matrix."""
        self._learn(columns)
        return np.asarray(self._rows[np.ix_(self._where[columns], rows)].T)

    def times(self, rows: Rows, beta: Array) -> Array:
        """Return K beta, of some samples and the coefficients of the same ones."""
        J = np.flatnonzero(beta)
        if len(rows) < self.X.shape[0]:
            return np.asarray(self(rows, rows[J]) @ beta[J])
        self._learn(rows[J])  # to multiply all columns copies none
        coefficients = np.zeros(self._known)
        coefficients[self._where[rows[J]]] = beta[J]
        return np.asarray(coefficients @ self._rows[: self._known])

    def _learn(self, columns: Rows) -> None:
        new = columns[self._where[columns] < 0]
        if not len(new):
            return
        known = self._known + len(new)
        if known > len(self._rows):
            more = np.empty((max(known, 3 * len(self._rows) // 2), self._rows.shape[1]))
            more[: self._known] = self._rows[: self._known]
            self._rows = more
        self._rows[self._known : known] = self.kernel(self.X[new], self.X)
        self._where[new] = np.arange(self._known, known)
        self._known = known


# --------------------------------------------------------------------- the bordered system


class Bordered:
    """A factorised ``[[K, 1], [1', 0]]``.

    Adding c 1 1' to K changes u0 only, by -c v0, and gives a positive definite matrix where K is
    so on vectors of sum zero. A kernel that is not positive definite needs the whole matrix.

    Parameters
    ----------
    K : ndarray of shape (n, n)
        Symmetric, n > 0.

    Attributes
    ----------
    definite : bool
        Whether K is positive definite on vectors of sum zero.
    sound : bool
        Whether it is far from singular there too.
    """

    def __init__(self, K: Array) -> None:
        n = len(K)
        self._shift = float(np.abs(np.diagonal(K)).mean()) or 1.0
        self._lu: Any = None
        try:
            shifted = K + self._shift
            self._factor = linalg.cho_factor(
                shifted, lower=True, overwrite_a=True, check_finite=False
            )
            self.definite = True
            pivots = np.diagonal(self._factor[0])
            self.sound = bool(pivots.min() > _SOUND * pivots.max())
        except np.linalg.LinAlgError:
            self.definite = self.sound = False
            P = np.ones((n + 1, n + 1))
            P[:n, :n], P[n, n] = K, 0.0
            self._lu = linalg.lu_factor(P, check_finite=False)
            return
        self._ones = self._solve(np.ones(n))

    def _solve(self, v: Array) -> Array:
        return np.asarray(linalg.cho_solve(self._factor, v, check_finite=False))

    def solve(self, v: Array, v0: Any) -> tuple[Array, Any]:
        """Return the u, u0 that it maps to v, v0: (n,) and a number, or (n, k) and (k,)."""
        if self._lu is not None:
            u = linalg.lu_solve(self._lu, np.concatenate([v, [v0]]), check_finite=False)
            return u[:-1], u[-1]
        u = self._solve(v)
        shifted = (u.sum(axis=0) - v0) / self._ones.sum()
        return u - np.multiply.outer(self._ones, shifted), shifted + self._shift * v0


class Changed:
    """The bordered matrix of other samples, through the factors of that of some at the start.

    With P of the samples at the start, those that are added, A, border it once more; of those that
    are removed, R, the coefficient is held at zero by a force, which takes their equation away::

        [P     E_A   E_R] [x     ]   [v  ]
        [E_A'  K_AA  0  ] [beta_A] = [v_A]    E_A = [K_.A; 1'], E_R = columns of the identity
        [E_R'  0     0  ] [force ]   [0  ]

    Parameters
    ----------
    K : ndarray of shape (n - r + a, n - r + a)
        Of the samples of now.
    base : Bordered
        P.
    cross : ndarray of shape (n, a)
        K of the samples at the start and the added ones.
    corner : ndarray of shape (a, a)
        K of the added ones.
    removed : ndarray of int of shape (r,)
        Places of those removed among the n.
    order : ndarray of int of shape (n - r + a,)
        Which of the n, then the a, are the samples of now, in their order.
    """

    definite = True

    def __init__(
        self, K: Array, base: Bordered, cross: Array, corner: Array, removed: Rows, order: Rows
    ) -> None:
        self._K, self._base, self._order = K, base, order
        self._n, self._added = cross.shape
        k = self._added + len(removed)
        self._V = np.zeros((self._n, k))
        self._V[:, : self._added] = cross
        self._V[removed, np.arange(self._added, k)] = 1.0
        self._V0 = np.where(np.arange(k) < self._added, 1.0, 0.0)
        self._W, self._W0 = base.solve(self._V, self._V0)
        S = -(self._V.T @ self._W + np.multiply.outer(self._V0, self._W0))
        S[: self._added, : self._added] += corner
        self._lu = linalg.lu_factor(S, check_finite=False)

    def solve(self, v: Array, v0: float) -> tuple[Array, float]:
        """Return the u, u0 that it maps to v, v0, with what factors at one remove lose made up."""
        u, u0 = self._once(v, v0)
        for _ in range(_REFINED):
            more, more0 = self._once(v - self._K @ u - u0, v0 - float(u.sum()))
            u, u0 = u + more, u0 + more0
        return u, u0

    def _once(self, v: Array, v0: float) -> tuple[Array, float]:
        every = np.zeros(self._n + self._added)
        every[self._order] = v
        x, x0 = self._base.solve(every[: self._n], v0)
        short = -(self._V.T @ x + self._V0 * x0)
        short[: self._added] += every[self._n :]
        new = linalg.lu_solve(self._lu, short, check_finite=False)
        every[: self._n] = x - self._W @ new
        every[self._n :] = new[: self._added]
        return every[self._order], float(x0 - self._W0 @ new)


# --------------------------------------------------------------------- the optimum


@dataclass(frozen=True)
class Dual:
    """The dual problem of some of the samples.

    Attributes
    ----------
    gram : Gram
        Of all samples.
    rows : ndarray of int of shape (n,)
        Which of them are in the problem.
    y, above, below, cap : ndarray of shape (n,)
        Targets, widths of the band in which there is no loss, and bounds, which are positive.
    """

    gram: Gram
    rows: Rows
    y: Array
    above: Array
    below: Array
    cap: Array

    @property
    def ridge(self) -> float:
        """What is added to the diagonal of K."""
        return _RIDGE * self.gram.scale

    def slack(self, beta: Array) -> float:
        """By how much a residual may be wrong, where K beta is rounded."""
        rounded = float(np.finfo(np.float64).eps * self.gram.scale * np.abs(beta).sum())
        return _SLACK * float(np.ptp(self.y) or 1.0) + rounded

    def free_targets(self, F: Rows, states: States) -> Array:
        """Return t: what the machine says of free samples."""
        return np.where(states[F] > 0, self.y[F] - self.above[F], self.y[F] + self.below[F])

    def at_bounds(self, states: States) -> Array:
        """Return beta of the samples that are not free, and zero of the others."""
        return np.where(np.abs(states) == _HIGH, np.sign(states) * self.cap, 0.0)

    def image(self, beta: Array) -> Array:
        """Return K beta."""
        return self.gram.times(self.rows, beta) + self.ridge * beta

    def states(self, beta: Array) -> States:
        """Return the states that coefficients are in."""
        size = np.abs(beta)
        capped, zero = size >= self.cap * (1 - 1e-7), size <= self.cap * 1e-9
        free = np.where(capped, _HIGH, np.where(zero, _ZERO, _FREE_HIGH))
        return np.asarray(np.sign(beta) * free, dtype=np.int8)


class Borders:
    """Bordered matrices of sets of free samples that differ little: few need factors of their own.

    Parameters
    ----------
    dual : Dual
        Whose.

    Attributes
    ----------
    work : float
        Multiplications so far, about.
    """

    def __init__(self, dual: Dual) -> None:
        self._dual = dual
        self._F: Rows = np.empty(0, dtype=np.intp)
        self._base: Bordered | None = None
        self.work = 0.0

    def __call__(self, F: Rows) -> Bordered | Changed:
        """Return that of some samples."""
        gram, rows = self._dual.gram, self._dual.rows
        added = np.setdiff1d(F, self._F, assume_unique=True)
        removed = np.flatnonzero(~np.isin(self._F, F, assume_unique=True))
        if self._base is None or not self._base.sound or (
            _REUSE * (len(added) + len(removed)) > len(self._F)
        ):  # fmt: skip
            self.work += len(F) ** 3 / 3
            self._F, self._base = F, Bordered(self._ridged(gram(rows[F], rows[F])))
            return self._base
        if not len(added) and not len(removed):
            return self._base
        self.work += 2 * len(F) ** 2 * (len(added) + len(removed))
        every = np.concatenate([self._F, added])
        place = np.argsort(every)
        order = place[np.isin(every[place], F, assume_unique=True)]
        cross = gram(rows[self._F], rows[added])
        corner = self._ridged(gram(rows[added], rows[added]))
        K = self._ridged(gram(rows[F], rows[F]))
        return Changed(K, self._base, cross, corner, removed, order)

    def _ridged(self, K: Array) -> Array:
        K[np.diag_indices_from(K)] += self._dual.ridge
        return K


@dataclass(frozen=True)
class Settled:
    """The optimum of a `Dual`.

    Attributes
    ----------
    dual : Dual
        The problem.
    beta : ndarray of shape (n,)
        Coefficients.
    b : float
        Intercept.
    states : ndarray of int8 of shape (n,)
        Of the samples.
    ends : ndarray of int of shape (0,) or (2,)
        With no sample free, b may be anything in an interval, whose middle is taken; these two
        samples are its ends.
    bordered : Bordered, Changed or None
        The matrix of the free samples, if there are any.
    """

    dual: Dual
    beta: Array
    b: float
    states: States
    ends: Rows
    bordered: Bordered | Changed | None

    @property
    def free(self) -> Rows:
        """Samples between their bounds."""
        return _free(self.states)

    @property
    def capped(self) -> Array:
        """Coefficients of samples at a cap, and zero of the others."""
        return self.dual.at_bounds(self.states)

    def adjoint(self, pull: Array, total: float) -> tuple[Array, float]:
        """Return u (n,) and u0 for the slopes K_v' g (n,) and sum g of a loss.

        With no sample free, b is the mean of t_i - (K beta)_i of the two ends of its interval, so
        u is half of sum g at each.
        """
        u, u0 = np.zeros_like(self.beta), 0.0
        if self.bordered is None:
            np.add.at(u, self.ends, total / 2)  # they may be the same sample
        else:
            u[self.free], u0 = self.bordered.solve(pull[self.free], total)
        return u, u0

    def by_epsilon(self, u: Array) -> float:
        """Return dL/depsilon, epsilon being the width of the band on both sides."""
        if self.bordered is not None:
            return -float(u @ np.sign(self.states))
        low, high = self.ends
        sides = _side_of_end(self.states[low], 1.0) + _side_of_end(self.states[high], -1.0)
        return -float(u.sum() / 2 * sides)


def _side_of_end(state: int, side: float) -> float:
    """Return the side of the band that an end of the interval of b touches."""
    return side if state == _ZERO else float(np.sign(state))


def _free(states: States) -> Rows:
    return np.flatnonzero(np.abs(states) == _FREE_HIGH)


def _interval(dual: Dual, states: States, rest: Array) -> tuple[float, float, Rows]:
    """Return between what b is with no sample free, and the samples at the ends.

    `rest` is y - K beta. A coefficient that could rise bounds b from below, as its residual
    rest - b may not be above the band; one that could fall bounds b from above.
    """
    up = np.where(
        states == _ZERO, rest - dual.above, np.where(states == _LOW, rest + dual.below, -np.inf)
    )
    down = np.where(
        states == _ZERO, rest + dual.below, np.where(states == _HIGH, rest - dual.above, np.inf)
    )
    ends = np.array([np.argmax(up), np.argmin(down)])
    return float(up[ends[0]]), float(down[ends[1]]), ends


def _wrong(dual: Dual, states: States, r: Array) -> Array:
    """Return by how much each residual r is not as the state of a bound has it."""
    over, under = r - dual.above, -r - dual.below
    return np.select(
        [states == _ZERO, states == _HIGH, states == _LOW],
        [np.maximum(over, under), -over, -under],
        default=0.0,
    )


def _released(dual: Dual, states: States, r: Array, which: Rows) -> States:
    """Free some samples at bounds, on the side that their residual pulls them to."""
    side = np.where(states[which] == _ZERO, r[which] > dual.above[which], states[which] > 0)
    new = states.copy()
    new[which] = np.where(side, _FREE_HIGH, _FREE_LOW)
    return new


def settle(dual: Dual, beta: Array) -> Settled:
    """Go from coefficients near the optimum to it.

    All states are set at once as the solution of (1) has them, which is Newton's method and
    takes a few sweeps if it ends. Where it does not, states change one at a time so that the
    objective never rises. With a kernel that is not positive definite, what is found is a
    stationary point near the coefficients, of which there may be several.

    Raises
    ------
    NotSettled
        If neither ends: with kernels that are not positive definite, or by rounding.
    """
    states = dual.states(beta)
    borders = Borders(dual)
    return _sweep(dual, borders, states) or _walk(dual, borders, beta.copy(), states)


def _sweep(dual: Dual, borders: Borders, states: States) -> Settled | None:
    seen = set()
    for _ in range(_SWEEPS):
        if states.tobytes() in seen:
            return None
        seen.add(states.tobytes())
        F = _free(states)
        if not len(F):
            beta = dual.at_bounds(states)
            if abs(beta.sum()) > _SLACK * dual.cap.max():
                return None
            found, states = _without_free(dual, beta, states)
            if found is not None:
                return found
            continue
        beta, b, bordered = _solved(dual, borders, F, states)
        r = dual.y - dual.image(beta) - b
        new = _released(dual, states, r, np.flatnonzero(_wrong(dual, states, r) > dual.slack(beta)))
        signed, small = beta[F] * np.sign(states[F]), _SLACK * dual.cap[F]
        new[F[signed < -small]] = _ZERO
        full = F[signed > dual.cap[F] + small]
        new[full] = 2 * states[full]
        if np.array_equal(new, states):
            return Settled(dual, beta, b, states, F[:0], bordered)
        states = new
    return None


def _solved(
    dual: Dual, borders: Borders, F: Rows, states: States
) -> tuple[Array, float, Bordered | Changed]:
    """Return the coefficients and the intercept of (1)."""
    beta = dual.at_bounds(states)
    B = np.flatnonzero(beta)
    bordered = borders(F)
    held = dual.gram(dual.rows[F], dual.rows[B]) @ beta[B]
    beta[F], b = bordered.solve(dual.free_targets(F, states) - held, -beta.sum())
    return beta, b, bordered


def _without_free(dual: Dual, beta: Array, states: States) -> tuple[Settled | None, States]:
    """Return the optimum if the states are its, else states with the two worst samples free."""
    rest = dual.y - dual.image(beta)
    low, high, ends = _interval(dual, states, rest)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise NotSettled("nothing bounds the intercept")
    if low <= high + dual.slack(beta):
        return Settled(dual, beta, (low + high) / 2, states, ends, None), states
    return None, _released(dual, states, rest - (low + high) / 2, ends)


def _walk(dual: Dual, borders: Borders, beta: Array, states: States) -> Settled:
    """Change one state at a time.

    A step towards the solution of (1) ends at the first bound, which its sample joins. At the
    solution, the sample whose residual is the furthest from what its bound asks for is freed.
    """
    low_high = {_FREE_HIGH: (0.0, 1.0), _FREE_LOW: (-1.0, 0.0)}
    F = _free(states)
    budget = borders.work + _MOST_WORK + _FACTORS * len(dual.y) ** 3 / 3
    for _ in range(_WALKS * (50 + len(F))):
        if borders.work > budget:
            raise NotSettled("the fit is too far from it")
        F = _free(states)
        if not len(F):
            found, states = _without_free(dual, beta, states)
            if found is not None:
                return found
            continue
        goal, b, bordered = _solved(dual, borders, F, states)
        if not bordered.definite:
            break
        step = goal[F] - beta[F]
        ends = np.array([low_high[int(s)] for s in states[F]]) * dual.cap[F, None]
        room = np.where(step > 0, ends[:, 1] - beta[F], beta[F] - ends[:, 0])
        with np.errstate(over="ignore"):  # infinitely often is often enough
            room = np.maximum(room, 0.0) / np.maximum(np.abs(step), 1e-300)
        first = int(np.argmin(room))
        if room[first] < 1 - 1e-12:
            beta[F] += room[first] * step
            bound = ends[first, 1 if step[first] > 0 else 0]
            beta[F[first]] = bound
            states[F[first]] = np.sign(bound) * _HIGH
            continue
        beta = goal
        r = dual.y - dual.image(beta) - b
        wrong = _wrong(dual, states, r)
        worst = np.array([np.argmax(wrong)])
        if wrong[worst[0]] <= dual.slack(beta):
            return Settled(dual, beta, b, states, F[:0], bordered)
        states = _released(dual, states, r, worst)
    raise NotSettled("the states of samples cycle")


# --------------------------------------------------------------------- machines of one kernel


@dataclass(frozen=True)
class Slopes:
    """Derivatives of a loss.

    Attributes
    ----------
    loss : float
        The loss.
    by_scale : float
        In the logarithm of the scale of all caps.
    by_epsilon : float
        In the width of the band.
    by_gamma, by_coef0 : float
        In parameters of the kernel.
    inputs : callable, or None
        Computes those in training and test samples, if they are dense.
    """

    loss: float
    by_scale: float
    by_epsilon: float
    by_gamma: float
    by_coef0: float
    inputs: Callable[[], tuple[Array, Array]] | None


def differentiate(
    gram: Gram, settled: list[Settled], Z: Any, loss: Callable[[Array], tuple[float, Array]]
) -> Slopes:
    """Return a loss of machines that share a kernel, and its derivatives.

    With the kernel matrices K_v of test and K_F of training samples, dL = sum (g beta') dK_v -
    sum (u beta') dK_F. Machines add up in both weights, so each dK is computed once for all.

    Parameters
    ----------
    gram : Gram
        Of the samples of all machines.
    settled : list of Settled
        The machines: one, or one for each pair of classes.
    Z : {ndarray, sparse matrix} of shape (m, p)
        Test samples.
    loss : callable
        Of the values (m, number of machines) for them; returns also its slope in them.
    """
    kernel, X = gram.kernel, gram.X
    beta = _scattered(settled, [s.beta for s in settled], X.shape[0])
    S = np.flatnonzero(np.any(beta != 0, axis=1))
    qv = kernel.base(Z, X[S])
    Kv = kernel.value(qv)
    value, g = loss(Kv @ beta[S] + np.array([s.b for s in settled]))
    pull = np.zeros_like(beta)
    pull[S] = Kv.T @ g
    us, by_scale, by_epsilon = [], 0.0, 0.0
    for j, s in enumerate(settled):
        mine = pull[s.dual.rows, j]
        u, u0 = s.adjoint(mine, float(g[:, j].sum()))
        us.append(u)
        capped = s.capped
        by_scale += float(mine @ capped - s.dual.image(u) @ capped - u0 * capped.sum())
        by_epsilon += s.by_epsilon(u)
    u = _scattered(settled, us, X.shape[0])
    U = np.flatnonzero(np.any(u != 0, axis=1))
    q = kernel.base(X[U], X[S])
    test = through_kernel(kernel, qv, Kv, g @ beta[S].T, Z, X[S])
    train = through_kernel(kernel, q, gram(U, S), -u[U] @ beta[S].T, X[U], X[S])
    by_gamma, by_coef0 = test.by_gamma + train.by_gamma, test.by_coef0 + train.by_coef0
    of_test, of_train = test.inputs, train.inputs
    if of_test is None or of_train is None:
        return Slopes(value, by_scale, by_epsilon, by_gamma, by_coef0, None)

    def inputs() -> tuple[Array, Array]:
        (in_test, by_S), (by_U, more_by_S) = of_test(), of_train()
        in_train = np.zeros(X.shape)
        in_train[U] = by_U
        in_train[S] += by_S + more_by_S
        return in_train, in_test

    return Slopes(value, by_scale, by_epsilon, by_gamma, by_coef0, inputs)


def _scattered(settled: list[Settled], each: list[Array], n: int) -> Array:
    """Return values of each machine's samples as a column of all samples."""
    out = np.zeros((n, len(settled)))
    for j, (s, values) in enumerate(zip(settled, each, strict=True)):
        out[s.dual.rows, j] = values
    return out
