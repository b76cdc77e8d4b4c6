"""What a search can ask of fits beside their scores: which slopes there are, and of which loss."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn import metrics
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import GammaRegressor, PoissonRegressor, TweedieRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from tunein._families import (
    LOSSES,
    Chain,
    HyperGradient,
    Loss,
    Rule,
    Samples,
    active_names,
    final_rule,
    hypergradient,
)
from tunein._fronts import Passage
from tunein._sklearn import (
    _check_method_params,
    _safe_split,
    metric_of,
    name_of_sample_weight,
)
from tunein._space import Space

# Losses that are the metrics themselves, whose scorers have no further arguments: with the sign
# that makes greater better, and what the metric looks at.
_LOSS_OF_METRIC = {
    (metrics.mean_squared_error, -1, "predict"): "squared_error",
    (metrics.root_mean_squared_error, -1, "predict"): "root_squared_error",
    (metrics.r2_score, 1, "predict"): "r2",
    (metrics.explained_variance_score, 1, "predict"): "explained_variance",
    (metrics.mean_absolute_error, -1, "predict"): "absolute_error",
    (metrics.mean_squared_log_error, -1, "predict"): "squared_log_error",
    (metrics.mean_poisson_deviance, -1, "predict"): "poisson_deviance",
    (metrics.mean_gamma_deviance, -1, "predict"): "gamma_deviance",
    (metrics.log_loss, -1, "predict_proba"): "log_loss",
    (metrics.brier_score_loss, -1, "predict_proba"): "brier",
}

# Points of a space at which is looked which parameters have a derivative there.
_N_LOOKED_AT = 64


@dataclass(frozen=True)
class Differentiable:
    """Which parameters of a space have a hypergradient.

    Attributes
    ----------
    exact : frozenset of str
        Those that have one at some points.
    missing : frozenset of str
        Those that have none at some points.
    rules : tuple of Rule
        The rules of the estimators met.
    """

    exact: frozenset[str]
    missing: frozenset[str]
    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, space: Space, estimator: Any) -> Differentiable:
        """Look at points of the space."""
        # Numbers do not change which estimator it is, nor how it is set.
        is_plain = all(n == 1 or kind == "continuous" for n, kind in _coordinates(space))
        points = space.sample(np.random.default_rng(0), 1 if is_plain else _N_LOOKED_AT)
        exact: set[str] = set()
        missing: set[str] = set()
        rules: list[Rule] = []
        for unit in points:
            params = space.decode(unit)
            try:
                candidate = clone(estimator).set_params(**clone(params, safe=False))
            except Exception:  # an invalid combination: its fit says so when it is tried
                continue
            rule = final_rule(candidate)
            if rule is not None and rule not in rules:
                rules.append(rule)
            active = active_names(candidate, params)
            slopes = space.slopes(unit, dict.fromkeys(active, 1.0))
            for name, n, slope in zip(space.names, space.n_levels, slopes, strict=True):
                if name is not None and name in params and n > 1:
                    (missing if np.isnan(slope) else exact).add(name)
            missing |= {"the choice of a dict"} if None in space.names else set()
        return cls(frozenset(exact), frozenset(missing), tuple(rules) if exact else ())

    @property
    def all_exact(self) -> bool:
        """Whether every parameter has one everywhere."""
        return not self.missing

    def describe_missing(self, estimator: Any) -> str:
        """Say which parameters have none."""
        name = type(Chain.of(estimator).last).__name__
        if not self.exact:
            return f"{name} has none for {sorted(self.missing)}."
        return f"{sorted(self.missing)} of {name} have none, or not everywhere."


def _coordinates(space: Space) -> list[tuple[float, str]]:
    return list(zip(space.n_levels, space.kinds, strict=True))


def descended(
    wanted: str, scorer: Any, estimator: Any, rules: tuple[Rule, ...]
) -> tuple[Loss, bool]:
    """Return the loss to descend, and whether it stands in for the scorer.

    Raises
    ------
    ValueError
        If the wanted loss is not of what the estimators predict.
    """
    outputs = {rule.output for rule in rules}
    if len(outputs) > 1:
        raise ValueError(
            "The search space has regressors and classifiers; no loss is common to both. "
            "Use gradient='surrogate'."
        )
    own = _loss_of(scorer, estimator, rules)
    if wanted == "auto":
        if own is not None:
            return own, False
        proxies = {rule.proxy for rule in rules}
        common = "platt_log_loss" if outputs == {"decision"} else "squared_error"
        return Loss(proxies.pop() if len(proxies) == 1 else common), True
    loss = Loss(wanted)
    if {loss.output} != outputs:
        accepted = sorted(name for name, (output, _) in LOSSES.items() if {output} == outputs)
        raise ValueError(
            f"loss={wanted!r} is not of what the estimator predicts. Use one of {accepted}, or "
            f"'auto'."
        )
    return loss, loss != own


def _loss_of(scorer: Any, estimator: Any, rules: tuple[Rule, ...]) -> Loss | None:
    """Return the loss that is the scorer's own, if there is one."""
    last = Chain.of(estimator).last
    metric = metric_of(scorer, last)
    if metric == "score":  # of generalised linear models, D^2
        powers = {PoissonRegressor: 1.0, GammaRegressor: 2.0}
        power = powers.get(type(last), last.power if isinstance(last, TweedieRegressor) else None)
        return None if power is None else Loss("d2_deviance", float(power))
    name = _LOSS_OF_METRIC.get(metric)
    if name is None or {LOSSES[name][0]} != {rule.output for rule in rules}:
        return None
    # Probabilities are the softmax of decisions only where log loss is what is minimised.
    if name in ("log_loss", "brier") and any(rule.proxy != "log_loss" for rule in rules):
        return None
    return Loss(name)


@dataclass(frozen=True)
class FoldProbe:
    """Asks the fit of a fold for its hypergradient.

    Attributes
    ----------
    loss : Loss
        What is descended.
    is_proxy : bool
        Whether it stands in for the scorer.
    names : tuple of str
        Parameters that have a derivative somewhere in the space.
    is_complete : bool
        Whether all parameters of the space have one everywhere.
    """

    loss: Loss
    is_proxy: bool
    names: tuple[str, ...]
    is_complete: bool

    def of_trial(self, note: Mapping[str, Any] | None) -> FoldProbe | None:
        """Return what asks the fits of a trial that was proposed with a note of the search.

        Once the descent is over nobody goes by slopes.
        """
        return None if note is not None and "descended" in note else self

    def __call__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        train: Any,
        test: Any,
        fit_params: Mapping[str, Any],
        score_params: Mapping[str, Any],
        passage: Passage | None = None,
        **kwargs: Any,
    ) -> tuple[HyperGradient | None, str | None]:
        """Return it, or why there is none."""
        if final_rule(estimator) is None:  # one of another branch, of which none is expected
            return None, None
        if self._fits_front_with(estimator, fit_params):
            return None, (
                "NoHypergradient: transformers that are fitted without parameters of fit, such as "
                f"weights; got {sorted(fit_params)}"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # polishing is ours to check
                weight = _weight_of_fit(estimator, fit_params)
                sides = (
                    _samples(estimator, X, y, train, None, weight),
                    _samples(estimator, X, y, test, train, score_params.get("sample_weight")),
                )
                done = passage.sides(sides[0].X, sides[1].X) if passage is not None else None
                found = hypergradient(estimator, *sides, self.loss, self.names, done)
        except Exception as error:  # the score stands without it; the reason is kept
            return None, f"{type(error).__name__}: {error}"
        if not np.isfinite([found.loss, *found.gradient.values()]).all():
            return None, "the loss or its derivative is not finite"
        return replace(found, inputs=None), None

    def _fits_front_with(self, estimator: Any, fit_params: Mapping[str, Any]) -> bool:
        """Tell whether parameters of fit reach transformers whose slopes are asked for."""
        last = Chain.of(estimator).prefix  # empty, and so with all names, if there is no pipeline
        is_front = any(not name.startswith(last) for name in self.names)
        return is_front and any(not key.startswith(last) for key in fit_params)


def _samples(estimator: Any, X: Any, y: Any, rows: Any, train: Any, sample_weight: Any) -> Samples:
    """Return one side of a fold, as ``_fit_and_score`` cuts it."""
    own_X, own_y = _cut(estimator, X, y, rows, train)
    own_y = np.asarray(own_y)
    if is_classifier(estimator) and own_y.ndim == 2 and own_y.shape[1] == 1:
        own_y = own_y.ravel()  # as the estimator does, with a warning
    weight = np.ones(len(own_y))
    if sample_weight is not None:
        cut = _check_method_params(X, params={"sample_weight": sample_weight}, indices=rows)
        weight = np.asarray(cut["sample_weight"], dtype=np.float64)
    return Samples(own_X, own_y, weight)


def _cut(estimator: Any, X: Any, y: Any, rows: Any, train: Any) -> tuple[Any, Any]:
    if type(X) is type(y) is np.ndarray and not get_tags(estimator).input_tags.pairwise:
        return X[rows], y[rows]  # to find out that this is all takes longer, for few samples
    return _safe_split(estimator, X, y, rows, train)  # type: ignore[no-any-return]


def _weight_of_fit(estimator: Any, fit_params: Mapping[str, Any]) -> Any:
    """Return the sample weights that reach the fit of the last step; None if none do."""
    if not isinstance(estimator, Pipeline):
        return fit_params.get("sample_weight")
    chain = Chain.of(estimator)
    own = fit_params.get(f"{chain.prefix}sample_weight")
    routed = name_of_sample_weight(chain.last)
    return fit_params.get(routed) if own is None and routed else own
