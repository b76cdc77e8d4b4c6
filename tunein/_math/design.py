"""The first points, before a model has anything to go by."""

from __future__ import annotations

import warnings

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
    # Scipy scrambles by the generator that it is given; the keyword was renamed in 1.15.
    with warnings.catch_warnings():
        # A prefix of a balanced sequence is what we want, whatever its length.
        warnings.filterwarnings("ignore", message="The balance properties", category=UserWarning)
        return np.asarray(qmc.Sobol(dim, scramble=True, seed=rng).random(n))
