"""Cross-validated losses of generalised linear models, and their gradients by each penalty.

Notation, with shapes (n samples, p features, m groups, K folds, t training and v test rows):

    X : (n, p), y, s : (n,)        features, target, sample weights
    theta : (m,), r : (p,)         log-penalties, and r_j = exp(theta of the group of j)
    w, b                           the minimum of  J = sum_t s l(y, X w + b) + sum_j r_j w_j^2 / 2
    f = X w + b, q = s l'(y, f), D = diag(s l''(y, f))
    V = sum_v s l(y, f) / sum s    what is wanted small, as a function of theta

The penalties are taken into the features, X / sqrt(r), so that all are one; write X for that from
here on. Then w becomes sqrt(r) w, and what is to be solved is never worse conditioned than
one to the largest eigenvalue of X' D X.

The optimum is F = X_t' q + w = 0 and 1' q = 0, with Jacobian H = X_t' D X_t + I, bordered by the
intercept. From V's gradient by the fitted values, g = dV/df on the test rows, one adjoint solve

    H u = X_v' g  (bordered: 1' D (X u + u0) = 1' g)

gives all derivatives at once (Bengio 2000, "Gradient-based optimization of hyperparameters"):
r_j w_j has d(r_j w_j)/d theta_j = r_j w_j in the features' own scale, so

    dV/d theta_j = - u_j w_j           for any number of penalties.

With more features than samples all of it is done in n dimensions. Let G = X X', and c = -q, which
is zero outside the training rows. Then w = X' c, and f = G c + b: Newton's step for c is

    (G_tt + D^-1) c + b = z = f - D^-1 q,    1' c = 0.

For the adjoint, u = X_v' g - X_t' D (X_t u + u0) = X' a with a = g on the test rows and
a_t = -D (X_t u + u0) on the training rows. Multiplying by D^-1,

    (G_tt + D^-1) a_t + u0 = -G_tv g,        1' a_t = -1' g,

the same matrix. Over K folds the gradient is - sum_k (X' a_k) * (X' c_k): G is worked out
once for all folds, and the gradient by two products with n x K matrices.

With absolute values (lasso) J is sum_t s l / sum_t s + sum_j r_j |w_j|, as scikit-learn has it. The
penalties are taken in by X / r, and all of the above holds on the support of w alone, with the
signs of w in its place: F = X_S' q / sum_t s + sign(w_S), H = X_S' D X_S / sum_t s, hence

    dV/d theta_j = - u_j sign(w_j),    zero off the support

(Bertrand et al. 2022, "Implicit differentiation for fast hyperparameter selection in non-smooth
convex learning").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

Array: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.intp]

# Newton's method stops when no fitted value moved by more than this, relative to the largest: the
# next error is of the order of its square.
_TOLERANCE = 1e-8
_MAX_STEPS = 50

# Least curvature of a sample, relative to its weight: one that is classified with certainty would
# have an infinite working response. It changes the way to the optimum, not the optimum.
_LEAST_CURVATURE = 1e-12

# Numbers of the features that are multiplied at once.
_BLOCK = 400_000

# The lasso: how far a feature may violate the optimality conditions, relative to its penalty; how
# many join the working set at first; what keeps more features than samples factorable.
_VIOLATION = 1e-6
_FIRST_WORKING = 50
_JITTER = 1e-12


class Loss(Protocol):
    """A loss of one sample, l(y, f), convex in the fitted value f."""

    n_steps: int
    scale: float

    def value(self, y: Array, f: Array) -> Array:
        """Return l(y, f), elementwise."""
        ...

    def slope(self, y: Array, f: Array) -> Array:
        """Return dl/df."""
        ...

    def curvature(self, y: Array, f: Array) -> Array:
        """Return the second derivative by f, positive."""
        ...


class HalfSquared:
    """(y - f)^2 / 2, of ridge regression; reported without the half."""

    n_steps = 1  # Newton's first step is exact
    scale = 2.0

    def value(self, y: Array, f: Array) -> Array:
        """Return l(y, f), elementwise."""
        return 0.5 * (y - f) ** 2

    def slope(self, y: Array, f: Array) -> Array:
        """Return dl/df."""
        return f - y

    def curvature(self, y: Array, f: Array) -> Array:
        """Return the second derivative by f."""
        return np.ones_like(f)


class Logistic:
    """log(1 + exp(f)) - y f, with y in {0, 1}: the negative log-likelihood."""

    n_steps = _MAX_STEPS
    scale = 1.0

    def value(self, y: Array, f: Array) -> Array:
        """Return l(y, f), elementwise."""
        return np.asarray(np.logaddexp(0, f) - y * f)

    def slope(self, y: Array, f: Array) -> Array:
        """Return dl/df."""
        return np.asarray(expit(f) - y)

    def curvature(self, y: Array, f: Array) -> Array:
        """Return the second derivative by f, bounded away from zero."""
        return np.asarray(np.maximum(expit(f) * expit(-f), _LEAST_CURVATURE))


@dataclass(frozen=True)
class Problem:
    """What is fitted: the data, the loss and which features share a penalty.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    y, s : ndarray of shape (n,)
        Target and sample weights, positive.
    groups : ndarray of shape (p,)
        Number of each feature's group, from 0 to m - 1.
    loss : Loss
    fit_intercept : bool
        Whether there is an intercept, which has no penalty.
    lasso : callable or None
        None for squared coefficients in the penalty. Else they are absolute values, the loss must
        be the squared one, and ``lasso(Z, z)`` returns the w that minimises
        ``sum((z - Z w)^2) / (2 len(z)) + sum(abs(w))``, on some hundreds of features.
    """

    X: Array
    y: Array
    s: Array
    groups: Rows
    loss: Loss
    fit_intercept: bool
    lasso: Callable[[Array, Array], Array] | None = None

    @property
    def power(self) -> float:
        """By which power of its penalty a feature is divided."""
        return 0.5 if self.lasso is None else 1.0

    @property
    def in_samples(self) -> bool:
        """Whether to work in as many dimensions as there are samples, not features.

        From half as many features as samples on: the n x n product is shared by all folds.
        """
        return self.lasso is None and 2 * self.X.shape[1] > len(self.X)


@dataclass(frozen=True)
class Split:
    """Rows to fit on and rows to judge by."""

    train: Rows
    test: Rows


class CVLoss:
    """The loss on held-out rows at one vector of log-penalties, and its gradient.

    Parameters
    ----------
    problem : Problem
    theta : ndarray of shape (m,)
        Log-penalties.
    """

    def __init__(self, problem: Problem, theta: Array) -> None:
        self.problem = problem
        self._scale = np.exp(-problem.power * theta)[problem.groups]
        self._n_groups = len(theta)
        self._gram = _gram(problem.X, self._scale) if problem.in_samples else None

    def losses(self, split: Split) -> Array:
        """Return l(y, f) of the test rows of `split` fitted on its training rows."""
        fit = self._fit(split.train)
        return self.problem.loss.scale * self._test_losses(fit, split.test)

    def mean(self, splits: Sequence[Split]) -> float:
        """Return the weighted mean of `losses` over all `splits`."""
        s = self.problem.s
        total = sum(float(s[split.test] @ self.losses(split)) for split in splits)
        return total / sum(float(s[split.test].sum()) for split in splits)

    def mean_and_gradient(self, splits: Sequence[Split]) -> tuple[float, Array]:
        """Return the weighted mean of `losses` over all `splits`, and its gradient (m,)."""
        y, s, loss = self.problem.y, self.problem.s, self.problem.loss
        scale = loss.scale / sum(float(s[split.test].sum()) for split in splits)
        total, pairs = 0.0, []
        for split in splits:
            fit, test = self._fit(split.train), split.test
            f = fit.predict(test)
            total += float(s[test] @ loss.value(y[test], f))
            pairs.append(fit.adjoint(test, s[test] * loss.slope(y[test], f)))
        if self._gram is None:
            by_feature = -np.sum([u * w for u, w in pairs], axis=0)
        else:
            a, c = (np.stack(columns, axis=1) for columns in zip(*pairs, strict=True))
            X = self.problem.X
            by_feature = -(self._scale**2) * np.einsum("jk,jk->j", X.T @ a, X.T @ c)
        return scale * total, scale * self._by_group(by_feature)

    def _by_group(self, by_feature: Array) -> Array:
        groups = self.problem.groups
        sums = np.bincount(groups, weights=by_feature, minlength=self._n_groups)
        return np.asarray(sums, dtype=np.float64)

    def _test_losses(self, fit: _Fit, test: Rows) -> Array:
        return self.problem.loss.value(self.problem.y[test], fit.predict(test))

    def _fit(self, train: Rows) -> _Fit:
        if self.problem.lasso is not None:
            return _OnSupport(self.problem, self._scale, train, self.problem.lasso)
        if self._gram is None:
            return _InFeatures(self.problem, self._scale, train)
        return _InSamples(self.problem, self._gram, train)


def _gram(X: Array, scale: Array) -> Array:
    """Return the products of the samples, features multiplied by `scale`, of shape (n, n).

    In blocks of features that stay in a processor's cache: a scaled copy of all of them costs more
    than the products.
    """
    gram = np.zeros((len(X), len(X)))
    width = max(16, _BLOCK // len(X))
    for start in range(0, X.shape[1], width):
        block = X[:, start : start + width] * scale[start : start + width]
        gram += block @ block.T
    return gram


class _Fit(Protocol):
    """A model fitted on some rows.

    `adjoint` takes test rows and the loss's gradient by their fitted values; it returns u and w of
    the module's notation, or a and c, or u and the signs of w.
    """

    def predict(self, test: Rows) -> Array: ...

    def adjoint(self, test: Rows, g: Array) -> tuple[Array, Array]: ...


class _InFeatures:
    """Newton's method for w and b, in p + 1 dimensions."""

    def __init__(self, problem: Problem, scale: Array, train: Rows) -> None:
        self._X, self._ridge = problem.X * scale, np.ones(len(scale))
        if problem.fit_intercept:
            self._X = np.column_stack([self._X, np.ones(len(self._X))])
            self._ridge = np.append(self._ridge, 0.0)
        Xt, y, s, loss = self._X[train], problem.y[train], problem.s[train], problem.loss

        def objective(w: Array, f: Array) -> float:
            return float(s @ loss.value(y, f) + 0.5 * (self._ridge * w) @ w)

        w = np.zeros(Xt.shape[1])
        f = np.zeros(len(train))
        for _ in range(loss.n_steps):
            D, q = s * loss.curvature(y, f), s * loss.slope(y, f)
            Z = np.sqrt(D)[:, None] * Xt
            self._factor = cho_factor(Z.T @ Z + np.diag(self._ridge), check_finite=False)
            dw = -cho_solve(self._factor, Xt.T @ q + self._ridge * w, check_finite=False)
            df = Xt @ dw
            step = 1.0 if loss.n_steps == 1 else _step(objective, w, f, dw, df)
            w, f = w + step * dw, f + step * df
            if _is_small(df, f):
                break
        self._w = w

    def predict(self, test: Rows) -> Array:
        return np.asarray(self._X[test] @ self._w)

    def adjoint(self, test: Rows, g: Array) -> tuple[Array, Array]:
        u = cho_solve(self._factor, self._X[test].T @ g, check_finite=False)
        p = int(self._ridge.sum())
        return u[:p], self._w[:p]


class _InSamples:
    """Newton's method for c and b, in n dimensions."""

    def __init__(self, problem: Problem, gram: Array, train: Rows) -> None:
        self._gram, self._train, self._fit_intercept = gram, train, problem.fit_intercept
        y, s, loss = problem.y[train], problem.s[train], problem.loss
        G = gram[np.ix_(train, train)]

        def objective(c: Array, f: Array) -> float:
            return float(s @ loss.value(y, f) + 0.5 * c @ (G @ c))

        c, f, b = np.zeros(len(train)), np.zeros(len(train)), 0.0
        for _ in range(loss.n_steps):
            D, q = s * loss.curvature(y, f), s * loss.slope(y, f)
            self._factorise(G, D)
            new_c, new_b = self._solve(f - q / D, 0.0)
            dc, df = new_c - c, G @ new_c + new_b - f
            step = 1.0 if loss.n_steps == 1 else _step(objective, c, f, dc, df)
            c, f, b = c + step * dc, f + step * df, b + step * (new_b - b)
            if _is_small(df, f):
                break
        self._c, self._b = c, b

    def _factorise(self, G: Array, D: Array) -> None:
        # (G + D^-1)^-1 = D^1/2 B^-1 D^1/2 with B = I + D^1/2 G D^1/2, of eigenvalues at least one
        # (Rasmussen & Williams 2006, 3.26).
        self._root = np.sqrt(D)
        B = self._root[:, None] * G * self._root
        B[np.diag_indices_from(B)] += 1.0
        self._factor = cho_factor(B, overwrite_a=True, check_finite=False)
        if self._fit_intercept:
            self._of_ones = self._without_intercept(np.ones(len(D)))

    def _without_intercept(self, v: Array) -> Array:
        inner = cho_solve(self._factor, self._root * v, check_finite=False)
        return np.asarray(self._root * inner)

    def _solve(self, v: Array, total: float) -> tuple[Array, float]:
        """Return c and b of (G + D^-1) c + b = v, 1' c = total."""
        c = self._without_intercept(v)
        if not self._fit_intercept:
            return c, 0.0
        b = float((c.sum() - total) / self._of_ones.sum())
        return c - b * self._of_ones, b

    def predict(self, test: Rows) -> Array:
        return np.asarray(self._gram[np.ix_(test, self._train)] @ self._c + self._b)

    def adjoint(self, test: Rows, g: Array) -> tuple[Array, Array]:
        a, c = np.zeros(len(self._gram)), np.zeros(len(self._gram))
        across = self._gram[np.ix_(self._train, test)]
        a[self._train] = self._solve(-across @ g, -float(g.sum()))[0]
        a[test] += g  # a row may be on both sides
        c[self._train] = self._c
        return a, c


class _OnSupport:
    """The lasso, by coordinate descent on a working set, then exactly on the support it has found.

    Parameters
    ----------
    problem : Problem
    scale : ndarray of shape (p,)
        By which the features are multiplied.
    train : ndarray of int
        Rows to fit on.
    lasso : callable
        That of the problem.
    """

    def __init__(
        self, problem: Problem, scale: Array, train: Rows, lasso: Callable[[Array, Array], Array]
    ) -> None:
        X = problem.X
        share = np.zeros(len(X))
        share[train] = problem.s[train] / problem.s[train].sum()
        self._X, self._scale, self._x0, self._y0 = X, scale, np.zeros(X.shape[1]), 0.0
        if problem.fit_intercept:
            self._x0, self._y0 = share @ X, float(share @ problem.y)
        root = np.sqrt(len(train) * share[train])
        z = root * (problem.y[train] - self._y0)

        def columns(chosen: Rows) -> Array:
            return np.asarray(root[:, None] * self._centred(train, chosen))

        def pull(residual: Array) -> Array:
            # Over all rows, which are weighed with zero, rather than over a copy of some.
            v = np.zeros(len(X))
            v[train] = root * residual / len(train)
            return np.asarray(np.abs(v @ X - v.sum() * self._x0) * scale)

        working, w = _on_working_set(columns, pull, z, lasso)
        self._support, w = working[w != 0], w[w != 0]
        self._sign = np.sign(w)
        # On the support the optimum is that of a linear system, free of the solver's tolerance.
        Z = columns(self._support)
        H = Z.T @ Z / len(z)
        H[np.diag_indices_from(H)] += _JITTER * np.diagonal(H)
        self._factor = cho_factor(H) if len(w) else None
        exact = self._solve(Z.T @ z / len(z) - self._sign)
        self._w = exact if np.array_equal(np.sign(exact), self._sign) else w

    def _solve(self, v: Array) -> Array:
        return v if self._factor is None else np.asarray(cho_solve(self._factor, v))

    def _centred(self, rows: Rows, chosen: Rows) -> Array:
        X = self._X[np.ix_(rows, chosen)]
        return np.asarray((X - self._x0[chosen]) * self._scale[chosen])

    def predict(self, test: Rows) -> Array:
        return np.asarray(self._centred(test, self._support) @ self._w + self._y0)

    def adjoint(self, test: Rows, g: Array) -> tuple[Array, Array]:
        u, sign = np.zeros(self._X.shape[1]), np.zeros(self._X.shape[1])
        u[self._support] = self._solve(self._centred(test, self._support).T @ g)
        sign[self._support] = self._sign
        return u, sign


def _on_working_set(
    columns: Callable[[Rows], Array],
    pull: Callable[[Array], Array],
    z: Array,
    lasso: Callable[[Array, Array], Array],
) -> tuple[Rows, Array]:
    """Return features, and the coefficients of the lasso on them; all others are zero.

    Features join while they violate the optimality conditions, `pull` of the residual at most one,
    the worst first, at most so many as there are already: most the solver never has to look at.
    """
    working, w, residual = np.empty(0, dtype=np.intp), np.empty(0), z
    while True:
        violation = pull(residual) - 1
        violation[working] = 0.0
        n_violators = int(np.count_nonzero(violation > _VIOLATION))
        if not n_violators:
            return working, w
        joining = min(n_violators, max(_FIRST_WORKING, len(working)))
        worst = np.argpartition(-violation, joining - 1)[:joining]
        working = np.sort(np.append(working, worst))
        Z = columns(working)
        w = lasso(Z, z)
        residual = z - Z @ w


def _step(
    objective: Callable[[Array, Array], float], at: Array, f: Array, d_at: Array, df: Array
) -> float:
    """Return the first of 1, 1/2, 1/4, ... at which a convex objective does not rise."""
    start, step = objective(at, f), 1.0
    # Close to the optimum rises are rounding errors, and a full step is right.
    allowed = start + 1e-10 * abs(start)
    while step > 1e-6 and not objective(at + step * d_at, f + step * df) <= allowed:
        step /= 2
    return step


def _is_small(df: Array, f: Array) -> bool:
    return bool(np.abs(df).max() <= _TOLERANCE * max(1.0, np.abs(f).max()))
