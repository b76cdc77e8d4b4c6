"""The first points, before a model has anything to go by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc


def sobol(n: int, dim: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return `n` points of the unit cube from a scrambled Sobol' sequence (Owen 1998).

    Parameters
    ----------
    n, dim : int
        Number of points and of coordinates.
    rng : numpy Generator
        Decides the scrambling.

    Returns
    -------
    points : ndarray of shape (n, dim)
        In [0, 1).
    """
    if dim == 0 or n == 0:
        return np.empty((n, dim))
    if dim > qmc.Sobol.MAXDIM:
        return rng.random((n, dim))
    # A whole power of two is drawn, as the sequence is balanced then; a prefix of it is what we
    # want, whatever its length.
    engine = qmc.Sobol(dim, scramble=True, seed=rng)
    return np.asarray(engine.random_base2(max(n - 1, 0).bit_length())[:n])
