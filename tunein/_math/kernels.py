"""Kernel matrices with their slopes, and ridge regression in its dual coefficients.

Notation: A (n, p) and B (m, p) samples, dense or sparse; K (n, m) the kernel of their pairs; for a
loss that depends on K by G = dL/dK, a parameter theta of the kernel has
dL/dtheta = sum G dK/dtheta.

Dual coefficients c (n, k) of targets Y (n, k) with weights s (n,) and a penalty alpha solve, in
r = sqrt(s)::

    M c' = r Y,    M = r K r' + alpha I,    c = r c'

Predictions of test samples are P = K_v c. With g = dL/dP and one more solve by the same factor,
M u' = r K_v' g and u = r u'::

    dL/dalpha = -u' . c',    dL/dK_v = g c',    dL/dK = -u c'

(the last two are products of columns, summed over targets). Weights of zero do no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg
from scipy.spatial.distance import cdist

from tunein._math.losses import Array
from tunein._math.matrices import dense, squares

# Parameters that each kernel has.
KERNELS: dict[str, tuple[str, ...]] = {
    "linear": (),
    "rbf": ("gamma",),
    "laplacian": ("gamma",),
    "polynomial": ("gamma", "coef0"),
    "poly": ("gamma", "coef0"),
    "sigmoid": ("gamma", "coef0"),
}

# Ratio of the pivots of a factorisation below which its solution has no correct digit.
_MIN_PIVOT = 1e-7


@dataclass(frozen=True)
class Kernel:
    """A kernel by name, as scikit-learn names them, and its parameters."""

    name: str
    gamma: float
    coef0: float
    degree: float

    def __call__(self, A: Any, B: Any) -> KernelMatrix:
        """Evaluate all pairs of samples."""
        if self.name == "rbf":
            return self._rbf(A, B)
        if self.name == "laplacian":
            return self._laplacian(dense(A), dense(B))
        return self._of_products(A, B)

    def _rbf(self, A: Any, B: Any) -> KernelMatrix:
        """``exp(-gamma |a - b|^2)``."""
        D = _squared_distances(A, B)
        K = np.exp(-self.gamma * D)

        def pull(G: Array) -> tuple[Array, Array]:
            # Each pair pulls along a - b, with W = -2 gamma G K.
            W = -2 * self.gamma * G * K
            rows, columns = W.sum(axis=1)[:, None], W.sum(axis=0)[:, None]
            return rows * dense(A) - W @ B, columns * dense(B) - W.T @ A

        return KernelMatrix(K, {"gamma": -D * K}, pull)

    def _laplacian(self, A: Array, B: Array) -> KernelMatrix:
        """``exp(-gamma |a - b|_1)``."""
        D = cdist(A, B, "cityblock")
        K = np.exp(-self.gamma * D)

        def pull(G: Array) -> tuple[Array, Array]:
            W = -self.gamma * G * K
            dA, dB = np.empty_like(A), np.empty_like(B)
            for j in range(A.shape[1]):  # not at once: n m p numbers may be too many
                towards = W * np.sign(A[:, j, None] - B[:, j])
                dA[:, j], dB[:, j] = towards.sum(axis=1), -towards.sum(axis=0)
            return dA, dB

        return KernelMatrix(K, {"gamma": -D * K}, pull)

    def _of_products(self, A: Any, B: Any) -> KernelMatrix:
        """Of ``z = a . b``: z, ``(gamma z + coef0)^degree`` or ``tanh(gamma z + coef0)``."""
        Z = dense(A @ B.T)
        inner = self.gamma * Z + self.coef0
        if self.name == "linear":
            K, bend, scale = Z, np.ones_like(Z), 1.0
        elif self.name == "sigmoid":
            K, scale = np.tanh(inner), self.gamma
            bend = 1 - K**2
        else:
            K, scale = inner**self.degree, self.gamma
            # At degree 0, 0^-1 must not become 0 times infinity.
            bend = self.degree * inner ** (self.degree - 1) if self.degree else np.zeros_like(K)

        def pull(G: Array) -> tuple[Array, Array]:
            W = scale * G * bend
            return W @ B, W.T @ A

        slopes = {} if self.name == "linear" else {"gamma": bend * Z, "coef0": bend}
        return KernelMatrix(K, slopes, pull)


@dataclass(frozen=True)
class KernelMatrix:
    """The kernel of pairs of samples.

    Attributes
    ----------
    K : ndarray of shape (n, m)
        Its values.
    slopes : dict of str to ndarray of shape (n, m)
        Its derivative in each parameter of the kernel.
    pull : callable
        ``G (n, m) -> dL/dA (n, p), dL/dB (m, p)``, for G = dL/dK.
    """

    K: Array
    slopes: dict[str, Array]
    pull: Callable[[Array], tuple[Array, Array]]


def _squared_distances(A: Any, B: Any) -> Array:
    D = dense(A @ B.T)
    D *= -2
    D += squares(A)[:, None]
    D += squares(B)
    np.maximum(D, 0, out=D)
    if A is B:  # exactly, where rounding left a remainder
        np.fill_diagonal(D, 0)
    return D


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
        M = self._root * K * self._root.T
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
