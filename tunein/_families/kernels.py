"""Hypergradients of kernel ridge regression and of Gaussian processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.kernel_ridge import KernelRidge

from tunein._families._registry import HyperGradient, Loss, NoHypergradient, Samples, register
from tunein._math.dual import DualRidge, adjoint
from tunein._math.kernels import Kernel, through_kernel
from tunein._math.losses import Array, Valued

# --------------------------------------------------------------------- kernel ridge

_NAMES = ("linear", "rbf", "laplacian", "poly", "polynomial", "sigmoid")


def _kernel(estimator: Any, n_features: int = 1) -> Kernel:
    name, gamma = estimator.kernel, estimator.gamma
    if not isinstance(name, str) or name not in _NAMES:
        raise NoHypergradient(f"a kernel that is one of {_NAMES}; got kernel={name!r}")
    return Kernel(
        "poly" if name == "polynomial" else name,
        1 / n_features if gamma is None else float(gamma),
        float(estimator.coef0),
        float(estimator.degree),
    )


def _lacks_of_kernel(estimator: Any) -> set[str]:
    kernel = _kernel(estimator)
    if np.ndim(estimator.alpha) > 0:
        raise NoHypergradient("one alpha for all targets")
    lacks = set() if kernel.has_coef0 else {"coef0"}
    if not kernel.has_gamma or estimator.gamma is None:
        lacks.add("gamma")
    return lacks


@register(
    KernelRidge,
    params=["alpha", "gamma", "coef0"],
    output="target",
    proxy="squared_error",
    lacks=_lacks_of_kernel,
)
def kernel_ridge(
    estimator: Any, train: Samples, test: Samples, loss: Loss, names: Sequence[str]
) -> HyperGradient:
    """Solve for dual coefficients, and with the same factor for their adjoint."""
    X, Z = train.X, test.X
    kernel = _kernel(estimator, X.shape[1])
    q, q_test = kernel.base(X, X), kernel.base(Z, X)
    K, K_test = kernel.value(q), kernel.value(q_test)
    Y, of_columns = _columns(train.y, lambda p: loss(test, p))
    ridge = DualRidge(K, float(estimator.alpha), train.sample_weight)
    back = adjoint(ridge, K_test, Y, of_columns)
    own = through_kernel(kernel, q, K, back.own, X, X)
    cross = through_kernel(kernel, q_test, K_test, back.cross, Z, X)
    gradient = {
        "alpha": back.alpha,
        "gamma": own.by_gamma + cross.by_gamma,
        "coef0": own.by_coef0 + cross.by_coef0,
    }
    of_own, of_cross = own.inputs, cross.inputs
    if of_own is None or of_cross is None:
        return HyperGradient(back.loss, gradient)

    def inputs() -> tuple[Array, Array]:
        (as_first, as_second), (in_test, in_train) = of_own(), of_cross()
        return as_first + as_second + in_train, in_test

    return HyperGradient(back.loss, gradient, inputs)


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
