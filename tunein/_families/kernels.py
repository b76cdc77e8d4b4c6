"""Hypergradients of kernel ridge regression and of Gaussian processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.kernel_ridge import KernelRidge

from tunein._families._registry import HyperGradient, Loss, NoHypergradient, Samples, register
from tunein._math.kernels import KERNELS, DualRidge, Kernel, adjoint
from tunein._math.losses import Array, Valued
from tunein._math.matrices import is_sparse

# --------------------------------------------------------------------- kernel ridge


def _lacks_kernel(estimator: Any) -> set[str]:
    kernel = estimator.kernel
    if not isinstance(kernel, str) or kernel not in KERNELS:
        raise NoHypergradient(f"a kernel of {sorted(KERNELS)}; got kernel={kernel!r}")
    if np.ndim(estimator.alpha) > 0:
        raise NoHypergradient("one alpha for all targets")
    lacks = {"gamma", "coef0"} - set(KERNELS[kernel])
    return lacks | ({"gamma"} if estimator.gamma is None else set())


@register(
    KernelRidge,
    params=["alpha", "gamma", "coef0"],
    output="target",
    proxy="squared_error",
    lacks=_lacks_kernel,
)
def kernel_ridge(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Solve for dual coefficients, and with the same factor for their adjoint."""
    X, Z = train.X, test.X
    gamma = 1 / X.shape[1] if estimator.gamma is None else estimator.gamma
    kernel = Kernel(estimator.kernel, float(gamma), float(estimator.coef0), estimator.degree)
    own, cross = kernel(X, X), kernel(Z, X)
    Y, of_columns = _columns(train.y, lambda p: loss(test, p))
    ridge = DualRidge(own.K, float(estimator.alpha), train.sample_weight)
    back = adjoint(ridge, cross.K, Y, of_columns)
    gradient = {
        name: float((back.own * own.slopes[name]).sum() + (back.cross * cross.slopes[name]).sum())
        for name in own.slopes
    }
    gradient["alpha"] = back.alpha
    if is_sparse(X):  # slopes would be dense; no transformer that needs them is sparse
        return HyperGradient(back.loss, gradient)
    left, right = own.pull(back.own)
    by_test, by_train = cross.pull(back.cross)
    return HyperGradient(back.loss, gradient, (left + right + by_train, by_test))


def _columns(y: Any, loss: Callable[[Array], Valued]) -> tuple[Array, Callable[[Array], Valued]]:
    """Return targets as columns, and a loss that takes predictions as columns."""
    y = np.asarray(y, dtype=np.float64)
    if y.ndim > 1:
        return y, loss

    def of_columns(P: Array) -> Valued:
        value, slope = loss(P[:, 0])
        return value, slope[:, None]

    return y[:, None], of_columns


# --------------------------------------------------------------------- Gaussian process


def _free(kernel: Any) -> Any:
    """Return the kernel with no parameter fixed: derivatives by fixed ones are wanted too."""
    kernel = clone(kernel)
    fixed = {
        name: (1e-5, 1e5)
        for name, value in kernel.get_params().items()
        if name.endswith("_bounds") and isinstance(value, str) and value == "fixed"
    }
    return kernel.set_params(**fixed)


def _places(kernel: Any) -> dict[str, int]:
    """Return the names of the scalar parameters of a free kernel, and their places in theta."""
    params = kernel.get_params()
    places: dict[str, int] = {}
    place = 0
    for each in kernel.hyperparameters:
        if each.fixed:
            continue
        # theta is logarithmic: at zero it has no slope
        if np.ndim(params[each.name]) == 0 and params[each.name] > 0:
            places[each.name] = place
        place += each.n_elements
    return places


def _of_process(estimator: Any) -> set[str]:
    kernel = estimator.kernel
    if estimator.optimizer is not None and (kernel is None or kernel.n_dims > 0):
        raise NoHypergradient("optimizer=None: its fit chooses the parameters of the kernel itself")
    found = {"alpha"} if np.ndim(estimator.alpha) == 0 else set()
    if kernel is not None:
        found |= {f"kernel__{name}" for name in _places(_free(kernel))}
    return found


@register(
    GaussianProcessRegressor,
    params=_of_process,
    output="target",
    proxy="squared_error",
    inputs=False,
)
def gaussian_process(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Kernel ridge regression of the normalised targets: the mean is what is scored."""
    X, Z = train.X, test.X
    kernel = _free(estimator.kernel_)
    y = np.asarray(train.y, dtype=np.float64)
    mean, scale = np.zeros(y.shape[1:]), np.ones(y.shape[1:])
    if estimator.normalize_y:
        mean, scale = y.mean(axis=0), y.std(axis=0)
        scale = np.where(scale > 10 * np.finfo(np.float64).eps, scale, 1.0)

    def of_normalised(p: Array) -> Valued:
        value, slope = loss(test, scale * p + mean)
        return value, scale * slope

    Y, of_columns = _columns((y - mean) / scale, of_normalised)
    ridge = DualRidge(kernel(X), estimator.alpha, np.ones(len(y)))
    back = adjoint(ridge, kernel(Z, X), Y, of_columns)
    gradient = {"alpha": back.alpha}
    places = _places(kernel)
    if wanted := [name for name in places if f"kernel__{name}" in names]:
        # Kernels tell slopes of the pairs of one set only, so of training and test samples in one.
        _, slopes = kernel(np.concatenate([X, Z]), eval_gradient=True)
        params, n = kernel.get_params(), len(X)
        for name in wanted:
            D = slopes[:, :n, places[name]]
            by_log = (back.own * D[:n]).sum() + (back.cross * D[n:]).sum()
            gradient[f"kernel__{name}"] = float(by_log / params[name])
    return HyperGradient(back.loss, gradient)
