"""Kernels, and the slopes of what depends on their values.

Notation: X (n, p) and Z (m, p) samples, dense or sparse; k (n, m) the kernel of their pairs. A loss
that depends on k by G = dL/dk has dL/dtheta = sum G dk/dtheta in a parameter theta of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from tunein._math.losses import Array
from tunein._math.matrices import dense, is_sparse, squares

# Numbers of a kernel matrix that are worked on at a time.
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Kernel:
    """A function of pairs of samples.

    ``x'z``, ``exp(-gamma |x - z|^2)``, ``exp(-gamma |x - z|_1)``, ``(gamma x'z + coef0)^degree`` or
    ``tanh(gamma x'z + coef0)``: each is k(a) of an argument a = gamma q + coef0, where q is a
    product, for rbf minus a squared distance, and for laplacian minus a distance.

    Attributes
    ----------
    name : {"linear", "rbf", "laplacian", "poly", "sigmoid"}
        Which.
    gamma, coef0, degree : float
        Its parameters, as far as it has them.
    """

    name: str
    gamma: float = 1.0
    coef0: float = 0.0
    degree: float = 3.0

    @property
    def has_gamma(self) -> bool:
        """Whether gamma counts."""
        return self.name != "linear"

    @property
    def has_coef0(self) -> bool:
        """Whether coef0 counts."""
        return self.name in ("poly", "sigmoid")

    def base(self, X: Any, Z: Any) -> Array:
        """Return q of every pair, (n, m); X and Z are both dense or both sparse."""
        if self.name == "laplacian":
            return np.asarray(-cdist(dense(X), dense(Z), "cityblock"))
        q = dense(X @ Z.T)
        if self.name == "rbf":
            q *= 2
            q -= squares(X)[:, None]
            q -= squares(Z)
            np.minimum(q, 0.0, out=q)
        return q

    def value(self, q: Array) -> Array:
        """Return k."""
        if self.name == "linear":
            return q
        if self.name in ("rbf", "laplacian"):
            k = self.gamma * q
            return np.exp(k, out=k)
        a = self.gamma * q + self.coef0
        return np.asarray(np.tanh(a) if self.name == "sigmoid" else a**self.degree)

    def slope(self, q: Array, k: Array) -> Array:
        """Return dk/da, given q and k there."""
        if self.name == "linear":
            return np.ones_like(q)
        if self.name in ("rbf", "laplacian"):
            return k
        if self.name == "sigmoid":
            return np.asarray(1 - k**2)
        if self.degree == 0:
            return np.zeros_like(q)
        a = self.gamma * q + self.coef0
        return np.asarray(self.degree * a ** (self.degree - 1))

    def __call__(self, X: Any, Z: Any) -> Array:
        """Return k of every pair, (n, m)."""
        k = np.empty((X.shape[0], Z.shape[0]))
        for rows in _blocks(*k.shape):
            k[rows] = self.value(self.base(X[rows], Z))
        return k


def _blocks(n: int, m: int) -> Iterator[slice]:
    """Cut n rows of m numbers into blocks that a cache holds."""
    size = max(8, _BLOCK // max(m, 1))
    return (slice(start, start + size) for start in range(0, n, size))


@dataclass(frozen=True)
class ThroughKernel:
    """Slopes of a loss that depends on the values of a kernel.

    Attributes
    ----------
    by_gamma, by_coef0 : float
        In parameters of the kernel.
    inputs : callable, or None
        Computes those in both sets of samples; None if they are sparse, since these would be
        dense.
    """

    by_gamma: float
    by_coef0: float
    inputs: Callable[[], tuple[Array, Array]] | None


def through_kernel(
    kernel: Kernel, q: Array, k: Array, weights: Array, X: Any, Z: Any
) -> ThroughKernel:
    """Return the derivatives of ``sum(weights * k)``; overwrites and keeps `weights`.

    With M = gamma weights dk/da: in samples, those of products x'z are M Z and M' X; those of
    -|x - z|^2 are twice that, less 2 x_i sum_j M_ij and 2 z_j sum_i M_ij.
    """
    if kernel.name != "linear":
        weights *= kernel.slope(q, k)
    by_gamma = float(np.einsum("ij,ij->", weights, q))
    by_coef0 = float(weights.sum()) if kernel.has_coef0 else 0.0
    if is_sparse(X):
        return ThroughKernel(by_gamma, by_coef0, None)
    return ThroughKernel(by_gamma, by_coef0, lambda: _in_samples(kernel, weights, X, Z))


def _in_samples(kernel: Kernel, weights: Array, X: Array, Z: Array) -> tuple[Array, Array]:
    gamma = kernel.gamma if kernel.has_gamma else 1.0
    if kernel.name == "laplacian":
        in_X, in_Z = _apart(weights, X, Z)
        return gamma * in_X, gamma * in_Z
    in_X, in_Z = weights @ Z, weights.T @ X
    if kernel.name == "rbf":
        gamma *= 2
        in_X -= weights.sum(axis=1)[:, None] * X
        in_Z -= weights.sum(axis=0)[:, None] * Z
    return gamma * in_X, gamma * in_Z


def _apart(weights: Array, X: Array, Z: Array) -> tuple[Array, Array]:
    """Return the slopes of ``-sum(weights * |x - z|_1)`` in X and Z."""
    in_X, in_Z = np.empty_like(X), np.empty_like(Z)
    for j in range(X.shape[1]):  # not at once: n m p numbers may be too many
        towards = weights * np.sign(X[:, j, None] - Z[:, j])
        in_X[:, j], in_Z[:, j] = -towards.sum(axis=1), towards.sum(axis=0)
    return in_X, in_Z
