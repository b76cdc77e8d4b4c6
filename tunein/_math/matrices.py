"""Matrices that are dense or sparse."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from tunein._math.losses import Array


def is_sparse(A: Any) -> bool:
    """Tell whether a matrix is one of scipy's sparse ones, and leave its type open."""
    return bool(sparse.issparse(A))


def dense(A: Any) -> Array:
    """Return a dense matrix of double precision."""
    return np.asarray(A.toarray() if is_sparse(A) else A, dtype=np.float64)


def inner_product(A: Any, B: Array) -> float:
    """Return the sum of products of the elements of A, dense or sparse, and of B."""
    return float(A.multiply(B).sum() if is_sparse(A) else (A * B).sum())


def squares(A: Any) -> Array:
    """Return the squared length of each row."""
    if is_sparse(A):
        return np.asarray(A.multiply(A).sum(axis=1), dtype=np.float64).ravel()
    return np.asarray(np.einsum("ij,ij->i", A, A), dtype=np.float64)
