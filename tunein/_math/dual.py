"""Ridge regression in its dual coefficients, and the adjoint solve.

Dual coefficients c (n, k) of targets Y (n, k), with the kernel K (n, n) of the training samples,
their weights s (n,) and a penalty alpha, solve, in r = sqrt(s)::

    M c' = r Y,    M = r K r' + alpha I,    c = r c'

Predictions of test samples are P = K_v c. With g = dL/dP and one more solve by the same factor,
M u' = r K_v' g and u = r u'::

    dL/dalpha = -u' . c',    dL/dK_v = g c',    dL/dK = -u c'

(the last two are products of columns, summed over targets). Weights of zero do no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from tunein._math.losses import Array

# Ratio of the pivots of a factorisation below which its solution has no correct digit.
_MIN_PIVOT = 1e-7


class DualRidge:
    """Ridge regression in dual coefficients, factorised once.

    Parameters
    ----------
    K : ndarray of shape (n, n)
        Kernel of the training samples.
    alpha : float or ndarray of shape (n,)
        Added to the diagonal.
    s : ndarray of shape (n,)
        Weights of samples.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the system is singular or nearly so.
    """

    def __init__(self, K: Array, alpha: float | Array, s: Array) -> None:
        self._root = np.sqrt(s)[:, None]
        M = K.copy() if np.all(s == 1) else self._root * K * self._root.T
        M[np.diag_indices_from(M)] += alpha
        self._solve = _solver(M)

    def solve(self, V: Array) -> tuple[Array, Array]:
        """Return v' with M v' = r V, and r v', both of shape (n, k)."""
        half = self._solve(self._root * V)
        return half, self._root * half


def _solver(M: Array) -> Callable[[Array], Array]:
    """Factorise a symmetric matrix, which is seldom indefinite (a sigmoid is no true kernel)."""
    try:
        factor = linalg.cho_factor(M, lower=True)
    except np.linalg.LinAlgError:
        values, V = linalg.eigh(M)
        size = np.abs(values)
        if size.min() < _MIN_PIVOT**2 * size.max():
            raise np.linalg.LinAlgError("the kernel matrix is nearly singular") from None
        return lambda b: np.asarray(V @ ((V.T @ b) / values[:, None]))
    pivots = np.diagonal(factor[0])
    if pivots.min() < _MIN_PIVOT * pivots.max():
        raise np.linalg.LinAlgError("the kernel matrix is nearly singular")
    return lambda b: np.asarray(linalg.cho_solve(factor, b))


@dataclass(frozen=True)
class Adjoint:
    """What a loss of kernel predictions depends on.

    Attributes
    ----------
    loss : float
        Its value.
    alpha : float
        Its derivative in the penalty.
    own, cross : ndarray of shape (n, n) and (m, n)
        Its derivatives in the kernels of training pairs, and of test with training samples.
    """

    loss: float
    alpha: float
    own: Array
    cross: Array


def adjoint(
    ridge: DualRidge, cross: Array, Y: Array, loss: Callable[[Array], tuple[float, Array]]
) -> Adjoint:
    """Fit, predict and go back.

    Parameters
    ----------
    ridge : DualRidge
        Of the training samples.
    cross : ndarray of shape (m, n)
        Kernel of test with training samples.
    Y : ndarray of shape (n, k)
        Targets.
    loss : callable
        Predictions (m, k) to the loss and its slope in them.
    """
    c_half, c = ridge.solve(Y)
    value, g = loss(cross @ c)
    u_half, u = ridge.solve(cross.T @ g)
    return Adjoint(value, -float((u_half * c_half).sum()), -u @ c.T, g @ c.T)
