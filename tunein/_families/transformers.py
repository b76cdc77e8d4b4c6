"""Transformers in front of a model: which parameters move their output smoothly."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.decomposition import NMF, DictionaryLearning, MiniBatchDictionaryLearning, MiniBatchNMF
from sklearn.kernel_approximation import (
    AdditiveChi2Sampler,
    Nystroem,
    PolynomialCountSketch,
    RBFSampler,
    SkewedChi2Sampler,
)
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import TargetEncoder

# Parameters of kernels that may be moved.
_OF_KERNEL = {
    "rbf": ("gamma",),
    "laplacian": ("gamma",),
    "poly": ("gamma", "coef0"),
    "polynomial": ("gamma", "coef0"),
    "sigmoid": ("gamma", "coef0"),
}

# What they make of training samples while fitting is not what they make of them later, so the
# samples that the model was fitted to are not at hand.
_OF_TWO_MINDS = (
    TargetEncoder,
    NMF,
    MiniBatchNMF,
    DictionaryLearning,
    MiniBatchDictionaryLearning,
)


def _is_drawn_once(transformer: Any) -> bool:
    """Tell whether fitting again draws the same."""
    return isinstance(transformer.random_state, numbers.Integral)


def _of_kernel(transformer: Any, param: str) -> bool:
    kernel = transformer.kernel
    known = _OF_KERNEL.get(kernel, ()) if isinstance(kernel, str) else ()
    return param in known and _is_drawn_once(transformer)


def _of_sketch(transformer: Any, param: str) -> bool:
    # It takes the root of either; at zero that has no slope.
    return getattr(transformer, param) > 0 and _is_drawn_once(transformer)


@dataclass(frozen=True)
class Smooth:
    """Parameters of a transformer whose output is a smooth function of them.

    Attributes
    ----------
    params : tuple of str
        Their names.
    holds : callable
        ``(transformer, param) -> bool``: whether that is so as the transformer is set.
    """

    params: tuple[str, ...]
    holds: Callable[[Any, str], bool] = lambda transformer, param: _is_drawn_once(transformer)


_SMOOTH: dict[type, Smooth] = {
    Nystroem: Smooth(("gamma", "coef0"), _of_kernel),
    RBFSampler: Smooth(("gamma",)),
    SkewedChi2Sampler: Smooth(("skewedness",)),
    PolynomialCountSketch: Smooth(("gamma", "coef0"), _of_sketch),
    AdditiveChi2Sampler: Smooth(("sample_interval",), lambda transformer, param: True),
}


def is_smooth(transformer: Any, name: str) -> bool:
    """Tell whether a transformer's output is smooth in a parameter, as it is set now.

    Parameters
    ----------
    transformer : estimator
        A step in front of the last; a union of others too.
    name : str
        Name of its parameter, or of a parameter inside of it.
    """
    path, _, param = name.rpartition("__")
    for part in path.split("__") if path else ():
        if not isinstance(transformer, FeatureUnion | ColumnTransformer | Pipeline):
            return False
        transformer = transformer.get_params().get(part)
    smooth = _SMOOTH.get(type(transformer))
    if smooth is None or param not in smooth.params:
        return False
    value = getattr(transformer, param)
    if not isinstance(value, numbers.Real):  # None or 'scale': the data decide
        return False
    return smooth.holds(transformer, param)


def of_two_minds(transformer: Any) -> str | None:
    """Return the class, in a transformer, whose ``fit_transform`` is not its ``transform``."""
    inside = [transformer]
    if hasattr(transformer, "get_params"):
        inside += transformer.get_params().values()
    return next((type(each).__name__ for each in inside if isinstance(each, _OF_TWO_MINDS)), None)
