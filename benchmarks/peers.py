"""Other optimisers behind one call: ``peer(flat, evaluate, n_iter, seed)``.

Each is driven through its public interface, at its defaults, as its documentation shows. What they
get is translated to their advantage: log scales stay log scales, lists of numbers become whole
numbers in order, scipy distributions that they have no word for become uniform through their
quantiles, and a list of dicts becomes one space with a choice of the branch; conditions are stated
where there is a language for them (Optuna, Hyperopt, SMAC), and otherwise parameters of other
branches are ignored. What our searches try first, the estimator's own values, everyone tries first.
A candidate that fails is reported in the tool's own way; where it has none, as the worst so far.
"""

import functools
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import ParameterSampler

Evaluate = Callable[[dict[str, Any]], float]


# ----------------------------------------------------------------- one space for all of them


@dataclass(frozen=True)
class Param:
    """One coordinate as other tools know it.

    Attributes
    ----------
    name : str
        Unique in the space.
    key : str or None
        The estimator's parameter; None for the choice of the branch.
    kind : {"float", "log", "int", "choice"}
    low, high : float
        Bounds, both included; of a choice, positions of the first and last option.
    decode : callable
        From the tool's value to the estimator's.
    encode : callable
        Back; None if the value is outside.
    """

    name: str
    key: str | None
    kind: str
    low: float
    high: float
    decode: Callable[[Any], Any]
    encode: Callable[[Any], Any]


class Flat:
    """A space as one list of parameters, some of which only some branches have."""

    def __init__(self, space: Any) -> None:
        self.space = space
        self.branches = space if isinstance(space, list) else [space]
        self.params: list[Param] = []
        self.active: dict[str, set[int]] = {}
        if len(self.branches) > 1:
            n = len(self.branches)
            self._add(Param("branch", None, "choice", 0, n - 1, int, int), set(range(n)))
        seen: list[tuple[str, Any, Param]] = []
        for b, branch in enumerate(self.branches):
            for key, given in branch.items():
                twin = next((p for k, g, p in seen if k == key and same(g, given)), None)
                if twin is None:
                    name = key if all(key != p.name for p in self.params) else f"{key}@{b}"
                    twin = translate(name, key, given)
                    seen.append((key, given, twin))
                    self._add(twin, set())
                self.active[twin.name].add(b)

    def _add(self, param: Param, branches: set[int]) -> None:
        self.params.append(param)
        self.active[param.name] = branches

    def of_branch(self, b: int) -> list[Param]:
        return [p for p in self.params if p.key is not None and b in self.active[p.name]]

    @property
    def free(self) -> list[Param]:
        """The parameters with more than one value."""
        return [p for p in self.params if p.high > p.low]

    @property
    def fixed(self) -> dict[str, Any]:
        """The others, with it."""
        return {p.name: p.low for p in self.params if p.high == p.low}

    def decode(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the estimator's parameters; values of other branches are ignored."""
        b = int(values.get("branch", 0))
        return {p.key: p.decode(values[p.name]) for p in self.of_branch(b)}

    def own(self, estimator: Any) -> dict[str, Any] | None:
        """Return the estimator's own values in this space, if it holds them."""
        current = estimator.get_params(deep=True)
        for b in range(len(self.branches)):
            mine = self.of_branch(b)
            if any(p.key not in current for p in mine):
                continue
            values = {p.name: p.encode(current[p.key]) for p in mine}
            if None not in values.values():
                return ({"branch": b} if len(self.branches) > 1 else {}) | values
        return None

    def complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in the parameters of other branches, for tools without conditions."""
        return {p.name: values.get(p.name, middle(p)) for p in self.params}


def middle(p: Param) -> Any:
    if p.kind == "log":
        return math.sqrt(p.low * p.high)
    return (p.low + p.high) / 2 if p.kind == "float" else int((p.low + p.high) // 2)


def same(one: Any, two: Any) -> bool:
    if isinstance(one, list) or isinstance(two, list):
        return one is two or repr(one) == repr(two)
    return one is two or (one.dist.name, one.args, one.kwds) == (two.dist.name, two.args, two.kwds)


def translate(name: str, key: str, given: Any) -> Param:
    if isinstance(given, list):
        return of_list(name, key, given)
    family, args = given.dist.name, given.args
    low, high = (float(end) for end in given.support())
    if family in ("loguniform", "reciprocal", "uniform") and not given.kwds:
        kind = "float" if family == "uniform" else "log"
        return Param(name, key, kind, low, high, inside(low, high), within(low, high))
    if family == "randint" and not given.kwds:
        low, high = int(args[0]), int(args[1]) - 1
        return Param(name, key, "int", low, high, int, within(low, high))
    whole = hasattr(given.dist, "pmf")
    return Param(
        name, key, "float", 0.0, 1.0,
        lambda u: plain(given.ppf(min(max(float(u), 1e-3), 1 - 1e-3)), whole),
        lambda value: float(given.cdf(value)),
    )  # fmt: skip


def of_list(name: str, key: str, values: list[Any]) -> Param:
    numeric = len(values) > 2 and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in values
    )
    table = sorted(values) if numeric else values
    return Param(
        name, key, "int" if numeric else "choice", 0, len(values) - 1,
        lambda i: table[int(i)],
        lambda value: next((i for i, v in enumerate(table) if alike(v, value)), None),
    )  # fmt: skip


def plain(value: Any, whole: bool) -> Any:
    return int(value) if whole else float(value)


def inside(low: float, high: float) -> Callable[[Any], float]:
    return lambda value: min(max(float(value), low), high)


def within(low: float, high: float) -> Callable[[Any], Any]:
    def encode(value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if number and low <= value <= high else None

    return encode


def alike(one: Any, two: Any) -> bool:
    if hasattr(one, "get_params"):
        return type(one) is type(two) and repr(one) == repr(two)
    return type(one) is type(two) and one == two


class WorstSoFar:
    """Scores for tools that take nothing but numbers."""

    def __init__(self) -> None:
        self.worst = math.inf

    def __call__(self, score: float) -> float:
        if math.isfinite(score):
            self.worst = min(self.worst, score)
            return score
        return self.worst if math.isfinite(self.worst) else 0.0


# ----------------------------------------------------------------- the optimisers


def random(flat: Flat, evaluate: Evaluate, n_iter: int, seed: int, own: Any) -> None:
    n = n_iter
    if own is not None:
        evaluate(flat.decode(own))
        n -= 1
    for params in ParameterSampler(flat.space, n, random_state=seed):
        evaluate(params)


def scikit_optimize(n_points: int) -> Callable[..., None]:
    def run(flat: Flat, evaluate: Evaluate, n_iter: int, seed: int, own: Any) -> None:
        import skopt
        from skopt.space import Categorical, Integer, Real

        make = {
            "float": lambda p: Real(p.low, p.high, name=p.name),
            "log": lambda p: Real(p.low, p.high, prior="log-uniform", name=p.name),
            "int": lambda p: Integer(p.low, p.high, name=p.name),
            "choice": lambda p: Categorical(list(range(int(p.high) + 1)), name=p.name),
        }
        # One option is no choice; the tool asks for two.
        free, fixed = flat.free, flat.fixed
        optimizer = skopt.Optimizer([make[p.kind](p) for p in free], random_state=seed)
        finite = WorstSoFar()

        def scored(x: list[Any]) -> float:
            values = {p.name: v for p, v in zip(free, x, strict=True)}
            return -finite(evaluate(flat.decode(values | fixed)))

        n_done = 0
        if own is not None:
            start = flat.complete(own)
            x = [start[p.name] for p in free]
            optimizer.tell(x, scored(x))
            n_done = 1
        while n_done < n_iter:
            batch = optimizer.ask(n_points=n_points) if n_points > 1 else [optimizer.ask()]
            optimizer.tell(batch, [scored(x) for x in batch])
            n_done += len(batch)

    return run


def optuna(make_sampler: Callable[[Any, int], Any], n_points: int = 1) -> Callable[..., None]:
    def run(flat: Flat, evaluate: Evaluate, n_iter: int, seed: int, own: Any) -> None:
        import optuna as library

        library.logging.set_verbosity(library.logging.ERROR)

        def suggest(trial: Any, p: Param) -> Any:
            if p.kind == "choice":
                return trial.suggest_categorical(p.name, list(range(int(p.high) + 1)))
            if p.kind == "int":
                return trial.suggest_int(p.name, int(p.low), int(p.high))
            return trial.suggest_float(p.name, p.low, p.high, log=p.kind == "log")

        def suggest_all(trial: Any) -> dict[str, Any]:
            first = [p for p in flat.params if p.key is None]
            values = {p.name: suggest(trial, p) for p in first}
            for p in flat.of_branch(int(values.get("branch", 0))):
                values[p.name] = suggest(trial, p)
            return flat.decode(values)

        study = library.create_study(
            direction="maximize", sampler=make_sampler(library.samplers, seed)
        )
        if own is not None:
            study.enqueue_trial(own)
        if n_points == 1:
            study.optimize(lambda trial: evaluate(suggest_all(trial)), n_trials=n_iter)
            return
        for _ in range(-(-n_iter // n_points)):
            trials = [study.ask() for _ in range(n_points)]
            batch = [suggest_all(trial) for trial in trials]
            for trial, params in zip(trials, batch, strict=True):
                score = evaluate(params)
                failed = library.trial.TrialState.FAIL
                if math.isfinite(score):
                    study.tell(trial, score)
                else:
                    study.tell(trial, state=failed)

    return run


def hyperopt(flat: Flat, evaluate: Evaluate, n_iter: int, seed: int, own: Any) -> None:
    from hyperopt import STATUS_FAIL, STATUS_OK, fmin, hp, tpe
    from hyperopt.fmin import generate_trials_to_calculate

    logging.getLogger("hyperopt").setLevel(logging.ERROR)

    def node(p: Param, b: int) -> Any:
        label = f"{p.name}#{b}"
        if p.kind == "choice":
            return hp.choice(label, list(range(int(p.high) + 1)))
        if p.kind == "int":
            return hp.uniformint(label, p.low, p.high) if p.high > p.low else int(p.low)
        if p.kind == "log":
            return hp.loguniform(label, math.log(p.low), math.log(p.high))
        return hp.uniform(label, p.low, p.high)

    trees = [
        {"branch": b} | {p.name: node(p, b) for p in flat.of_branch(b)}
        for b in range(len(flat.branches))
    ]

    def objective(values: dict[str, Any]) -> dict[str, Any]:
        score = evaluate(flat.decode(values))
        if math.isfinite(score):
            return {"loss": -score, "status": STATUS_OK}
        return {"status": STATUS_FAIL}

    trials = None
    if own is not None:
        b = own.get("branch", 0)
        start = {f"{p.name}#{b}": own[p.name] for p in flat.of_branch(b)}
        if len(trees) > 1:
            start["branch"] = b
        trials = generate_trials_to_calculate([start])
        # The tool wants to hear of the parameters of other branches, too.
        every = [f"{p.name}#{c}" for c in range(len(trees)) for p in flat.of_branch(c)]
        misc = trials._dynamic_trials[0]["misc"]
        for label in every:
            misc["idxs"].setdefault(label, [])
            misc["vals"].setdefault(label, [])
    fmin(
        objective,
        hp.choice("branch", trees) if len(trees) > 1 else trees[0],
        algo=tpe.suggest,
        max_evals=n_iter,
        rstate=np.random.default_rng(seed),
        trials=trials,
        show_progressbar=False,
        verbose=False,
    )


def smac(flat: Flat, evaluate: Evaluate, n_iter: int, seed: int, own: Any) -> None:
    import ConfigSpace as cs
    from ConfigSpace.conditions import InCondition
    from smac import HyperparameterOptimizationFacade as Facade
    from smac import Scenario

    make = {
        "float": lambda p: cs.UniformFloatHyperparameter(p.name, p.low, p.high),
        "log": lambda p: cs.UniformFloatHyperparameter(p.name, p.low, p.high, log=True),
        "int": lambda p: cs.UniformIntegerHyperparameter(p.name, int(p.low), int(p.high)),
        "choice": lambda p: cs.CategoricalHyperparameter(p.name, list(range(int(p.high) + 1))),
    }
    free, fixed = flat.free, flat.fixed
    space = cs.ConfigurationSpace(seed=seed)
    nodes = {p.name: make[p.kind](p) for p in free}
    space.add(list(nodes.values()))
    if "branch" in nodes:
        for p in free:
            mine = sorted(flat.active[p.name])
            if len(mine) < len(flat.branches):
                space.add(InCondition(nodes[p.name], nodes["branch"], mine))

    finite = WorstSoFar()

    def objective(config: Any, seed: int = 0) -> float:
        # Its own way, an infinite cost of what raises, ends its search: "y contains NaN".
        return -finite(evaluate(flat.decode(dict(config) | fixed)))

    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            space, deterministic=True, n_trials=n_iter, seed=seed, output_directory=folder
        )
        additional = []
        if own is not None:
            values = {name: value for name, value in own.items() if name in nodes}
            additional = [cs.Configuration(space, values=values)]
        design = Facade.get_initial_design(scenario, additional_configs=additional)
        facade = Facade(
            scenario, objective, initial_design=design, overwrite=True, logging_level=60
        )
        facade.optimize()


@functools.cache
def compare_by_hash() -> None:
    """Let HEBO's evolution find duplicates by a hash: the same ones, in half the time of a search.

    It compares all pairs of a population in Python, which would make the benchmark take days.
    """
    from pymoo.core.mixed import MixedVariableDuplicateElimination

    def mark(self: Any, pop: Any, other: Any, is_duplicate: Any) -> Any:
        keys = [tuple(sorted(one.X.items())) for one in pop]
        seen = set() if other is None else {tuple(sorted(one.X.items())) for one in other}
        for i in reversed(range(len(keys))):
            is_duplicate[i] |= keys[i] in seen
            if other is None:
                seen.add(keys[i])
        return is_duplicate

    MixedVariableDuplicateElimination._do = mark


def hebo(flat: Flat, evaluate: Evaluate, n_iter: int, seed: int, own: Any) -> None:
    import pandas as pd
    import torch
    from hebo.design_space.design_space import DesignSpace
    from hebo.optimizers.hebo import HEBO

    torch.set_num_threads(1)
    compare_by_hash()
    np.random.seed(seed % 2**32)  # noqa: NPY002  what the tool draws from
    torch.manual_seed(seed)
    make = {
        "float": lambda p: {"type": "num", "lb": p.low, "ub": p.high},
        "log": lambda p: {"type": "pow", "lb": p.low, "ub": p.high, "base": 10},
        "int": lambda p: {"type": "int", "lb": p.low, "ub": p.high},
        "choice": lambda p: {"type": "cat", "categories": list(range(int(p.high) + 1))},
    }
    free, fixed = flat.free, flat.fixed
    space = DesignSpace().parse([{"name": p.name, **make[p.kind](p)} for p in free])
    optimizer = HEBO(space, scramble_seed=seed)
    finite = WorstSoFar()
    for i in range(n_iter):
        if i == 0 and own is not None:
            start = flat.complete(own)
            table = pd.DataFrame([{p.name: start[p.name] for p in free}])
        else:
            table = optimizer.suggest(n_suggestions=1)
        values = table.iloc[0].to_dict()
        score = finite(evaluate(flat.decode(values | fixed)))
        optimizer.observe(table, np.array([[-score]]))


PEERS: dict[str, Callable[..., None]] = {
    "random": random,
    "skopt": scikit_optimize(1),
    # Said outright: from Optuna 5 on, the default is multivariate.
    "optuna-tpe": optuna(lambda samplers, seed: samplers.TPESampler(seed=seed, multivariate=False)),
    "optuna-tpe-mv": optuna(
        lambda samplers, seed: samplers.TPESampler(seed=seed, multivariate=True)
    ),
    "optuna-tpe-group": optuna(
        lambda samplers, seed: samplers.TPESampler(seed=seed, multivariate=True, group=True)
    ),
    "optuna-gp": optuna(lambda samplers, seed: samplers.GPSampler(seed=seed)),
    "skopt-4": scikit_optimize(4),  # four points open at once
    "optuna-gp-4": optuna(lambda samplers, seed: samplers.GPSampler(seed=seed), 4),
    "hyperopt": hyperopt,
    "smac": smac,
    "hebo": hebo,
}


@functools.cache
def quiet() -> None:
    """Let the tools say what they want, elsewhere."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
