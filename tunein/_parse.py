"""The border at which a user's search space becomes dimensions: every form, every refusal."""

from __future__ import annotations

import difflib
import itertools
import math
import numbers
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import stats
from sklearn.base import clone

from tunein._dimensions import (
    _TAIL,
    Categorical,
    Choice,
    Dimension,
    Integer,
    Interval,
    Levels,
    Quantile,
    Real,
    Steps,
    is_number,
)

# Draws that stand for an object that can only draw; its own quantiles are known to 1 in 30.
_EMPIRICAL_DRAWS = 1024

# Combinations of swapped steps under which a parameter is looked for before it is refused.
_MAX_SETTINGS = 1000

# Above this many whole numbers a discrete distribution is read at its quantiles only, and so many
# of them: scipy looks for each by itself if the distribution has no formula for it.
_MAX_TABLE, _MAX_QUANTILES = 100_000, 1_000

# Bounds of whole numbers, beyond which their distances and ratios are no floats.
_LARGEST = 1e300

# Characters of a value that an error shows.
_LONGEST_SHOWN = 300


class _Refusal(ValueError):
    """An error that names the parameter already."""


def shown(value: Any) -> str:
    """Return what an error says of a value, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # of a foreign __repr__, or a number of thousands of digits
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def parse_dimension(value: Any, where: str) -> Dimension:
    """Turn what a user wrote for one parameter into a dimension.

    Parameters
    ----------
    value : object
        A list, tuple, range or array of choices; a frozen scipy distribution; an object with
        ``rvs``; `Real`, `Integer`, `Categorical`; a scikit-optimize dimension or an Optuna
        distribution.
    where : str
        How an error names the parameter, as ``"param_distributions['C']"``.

    Returns
    -------
    dimension : Dimension

    Raises
    ------
    TypeError, ValueError
        If the value is none of these, or is empty, reversed or without finite quantiles.
    """
    own = _translate(value)
    for kind, parse in _PARSERS.items():
        if isinstance(own, kind):
            return parse(own, where)
    if hasattr(own, "ppf") and hasattr(own, "cdf") and hasattr(own, "support"):
        try:
            return _parse_distribution(own, where)
        except _Refusal as refusal:
            raise ValueError(str(refusal)) from None
        except Exception as error:  # scipy checks its arguments only when it has to compute
            name = getattr(getattr(own, "dist", own), "name", type(own).__name__)
            raise ValueError(
                f"{where}: the distribution {name!r} has no usable quantiles: {error}. Check its "
                f"arguments, or use Real, Integer or a list."
            ) from error
    if hasattr(own, "rvs"):
        return _parse_sampler(own, where)
    return _parse_choices(own, where)


@dataclass(frozen=True)
class Fork:
    """A choice on which further parameters depend.

    Attributes
    ----------
    choice : Levels
    branches : list of Tree
        The further parameters of each level.
    """

    choice: Levels
    branches: list[Tree]


# Parameters by name, sorted; the name of a choice among dicts is None.
Tree: TypeAlias = "dict[str | None, Dimension | Fork]"


def parse_space(param_distributions: Any, estimator: Any = None) -> Tree:
    """Turn what a user wrote for all parameters into dimensions, and check names.

    Parameters
    ----------
    param_distributions : dict or list of dict
    estimator : estimator object or None
        If given, names are checked against it.

    Returns
    -------
    tree : Tree

    Raises
    ------
    TypeError, ValueError
        Naming the parameter and the remedy.
    """
    try:
        return _parse_tree(param_distributions, "param_distributions", estimator)
    except RecursionError:
        raise ValueError(
            "param_distributions: the choices are nested too deeply, or hold themselves."
        ) from None


def _parse_tree(param_distributions: Any, name: str, estimator: Any) -> Tree:
    if isinstance(param_distributions, Mapping):
        return _parse_dict(param_distributions, name, {}, estimator)
    if not isinstance(param_distributions, list):
        raise TypeError(
            f"{name} must be a dict or a list of dicts, got {shown(param_distributions)} of type "
            f"{type(param_distributions).__name__}."
        )
    if not param_distributions:
        raise ValueError(f"{name}=[] holds no search space. Give at least one dict.")
    branches = [
        _parse_dict(one, f"{name}[{i}]", {}, estimator) for i, one in enumerate(param_distributions)
    ]
    if len(branches) == 1:
        return branches[0]
    weights = _branch_weights(param_distributions, branches)
    return {None: Fork(Levels(range(len(branches)), weights=weights), branches)}


def _parse_dict(given: Any, where: str, outer: dict[str, Dimension], estimator: Any) -> Tree:
    """Parse one dict, whose parameters come on top of those of `outer`."""
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{where} must be a dict, got {shown(given)} of type {type(given).__name__}."
        )
    for parameter in given:
        if not isinstance(parameter, str):
            raise TypeError(f"{where} has the key {shown(parameter)}; parameter names are strings.")
        if parameter in outer:
            raise ValueError(
                f"{where}[{parameter!r}]: {parameter!r} is a parameter of the dict around this "
                f"choice already. Give it in one place, or in each option that has it."
            )
    flat, tree = dict(outer), dict[str | None, Dimension | Fork]()
    for parameter, value in sorted(given.items()):
        at = f"{where}[{parameter!r}]"
        flat[parameter] = (
            _options(value, at) if isinstance(value, Choice) else parse_dimension(value, at)
        )
        tree[parameter] = flat[parameter]
    if estimator is not None:
        check_names(flat, [name for name in flat if name not in outer], where, estimator)
    for parameter, value in given.items():
        choice = flat[parameter]
        if isinstance(value, Choice) and isinstance(choice, Levels):
            branches = [
                _parse_dict(
                    inner,
                    f"{where}[{parameter!r}].options[{i}][1]",
                    {**flat, parameter: Levels([option])},
                    estimator,
                )
                for i, (option, inner) in enumerate(value.options)
            ]
            tree[parameter] = Fork(choice, branches)
    _refuse_doubles(tree, where)
    return tree


def _options(value: Choice, where: str) -> Levels:
    """Return the values of a choice."""
    if isinstance(value.options, Mapping):
        raise TypeError(
            f"{where}: the options of a Choice are a list of pairs, as [('rbf', {{'gamma': [0.1, "
            f"1]}}), ('linear', {{}})], got the dict {shown(value.options)}. Its .items() will do "
            f"if its values are dicts."
        )
    options = _listed(value.options, where)
    for i, option in enumerate(options):
        if not (isinstance(option, tuple) and len(option) == 2 and isinstance(option[1], Mapping)):
            raise TypeError(
                f"{where}: option {i} of a Choice must be a pair of a value and a dict of the "
                f"parameters that come with it, as ('rbf', {{'gamma': [0.1, 1]}}) or "
                f"('linear', {{}}), got {shown(option)}."
            )
    return Levels(_listed([option for option, _ in options], where))


def _refuse_doubles(tree: Tree, where: str) -> None:
    """Refuse a parameter that two choices of one dict bring along: a candidate could have both."""
    owner: dict[str, str] = {}
    for parameter, node in tree.items():
        for name in _names_below(node):
            if owner.setdefault(name, str(parameter)) != parameter:
                raise ValueError(
                    f"{where}: both {owner[name]!r} and {parameter!r} have options with the "
                    f"parameter {name!r}, and a candidate might get it twice. Give it in one place."
                )


def _names_below(node: Dimension | Fork) -> set[str]:
    """Return the names of all parameters that hang on a choice."""
    if not isinstance(node, Fork):
        return set()
    names: set[str] = set()
    for branch in node.branches:
        for name, inner in branch.items():
            names |= {str(name)} | _names_below(inner)
    return names


def _branch_weights(given: list[Any], branches: list[Tree]) -> list[float]:
    """Return how likely each of several dicts is, as in ``RandomizedSearchCV``."""
    only_lists = not any(
        hasattr(value, "rvs") or isinstance(value, Choice)
        for one in given
        for value in one.values()
    )
    sizes = [
        math.prod((float(getattr(node, "n_levels", 1)) for node in branch.values()), start=1.0)
        for branch in branches
    ]
    return sizes if only_lists and all(map(math.isfinite, sizes)) else [1.0] * len(branches)


def check_names(branch: dict[str, Dimension], names: list[str], where: str, estimator: Any) -> None:
    """Refuse a parameter that the estimator would not take under any choice of its parents.

    Parameters
    ----------
    branch : dict of str to Dimension
        All parameters that candidates with these ones have.
    names : list of str
        Those to be checked.
    where : str
        How an error names the dict.
    estimator : estimator object

    Raises
    ------
    ValueError
        Naming the parameter, its likely spelling, and what the estimator accepts.
    """
    known = estimator.get_params(deep=True)
    for name in names:
        parents = _parents(branch, name)
        # An option of a `Choice` says for certain which estimator the parameter is of.
        swapped = any(parent not in names for parent in parents) and all(
            len(parent) == 1 for parent in parents.values()
        )
        # Not every estimator lists what it takes (xgboost), and a swapped step brings its own.
        if (name in known and not swapped) or any(
            _having(estimator, setting) is not None
            for setting in _settings(parents, name, branch[name])
        ):
            continue
        own = {parent: levels.values[0] for parent, levels in parents.items()} if swapped else {}
        with_own = _having(estimator, own)
        valid = known if with_own is None else with_own.get_params(deep=True)
        close = difflib.get_close_matches(name, valid, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"{where}[{name!r}]: Invalid parameter {name!r} for estimator {estimator}.{hint} "
            f"Valid parameters are: {sorted(valid)}."
        )


def _parents(branch: dict[str, Dimension], name: str) -> dict[str, Levels]:
    """Return the parameters that a parameter may belong to."""
    return {
        parent: dimension
        for parent, dimension in branch.items()
        if name.startswith(f"{parent}__") and isinstance(dimension, Levels)
    }


def _settings(
    parents: dict[str, Levels], name: str, dimension: Dimension
) -> Iterator[dict[str, Any]]:
    """Yield a value of a parameter with every choice of the parameters that it belongs to."""
    choices = itertools.product(*(levels.values for levels in parents.values()))
    for choice in itertools.islice(choices, _MAX_SETTINGS):
        yield {**dict(zip(parents, choice, strict=True)), name: dimension.decode(0.5)}


def _having(estimator: Any, setting: dict[str, Any]) -> Any:
    """Return a copy of an estimator with some parameters set; None if it does not take them."""
    try:
        return clone(estimator).set_params(**clone(setting, safe=False))
    except Exception:  # set_params of a foreign estimator may refuse with any error
        return None


def _parse_real(value: Real, where: str) -> Dimension:
    _check_bounds(value, where)
    return Interval(value.low, value.high, value.log)


def _parse_integer(value: Integer, where: str) -> Dimension:
    _check_bounds(value, where)
    for field in ("low", "high", "step"):
        number = getattr(value, field)
        if number != int(number):
            raise ValueError(
                f"{where}: {value} needs whole numbers, got {field}={number!r}. "
                f"Use Real, or a list of the values."
            )
        if abs(number) > _LARGEST:
            raise ValueError(
                f"{where}: {shown(value)} needs numbers up to {_LARGEST:g}, got "
                f"{field}={shown(number)}."
            )
    if value.step < 1:
        raise ValueError(f"{where}: {value} needs step >= 1, got step={value.step!r}.")
    if value.step > value.high - value.low:
        raise ValueError(
            f"{where}: {value} needs a step that leads from low to high at most, got "
            f"step={value.step!r}, which leaves one value. For that use a list, [{value.low}]."
        )
    return Steps.between(int(value.low), int(value.high), int(value.step), value.log)


def _check_bounds(value: Real | Integer, where: str) -> None:
    fields = ("low", "high", "step") if isinstance(value, Integer) else ("low", "high")
    for field in fields:
        number = getattr(value, field)
        if not is_number(number):
            raise TypeError(
                f"{where}: {shown(value)} needs finite numbers, got {field}={shown(number)} of "
                f"type {type(number).__name__}."
            )
    _check_flag(value, "log", where)
    if value.low >= value.high:
        raise ValueError(
            f"{where}: {value} needs low < high, got low={value.low!r} and high={value.high!r}. "
            f"For a single value use a list, [{value.low!r}]."
        )
    if value.log and value.low <= 0:
        remedy = "1" if isinstance(value, Integer) else "1e-3"
        raise ValueError(
            f"{where}: {value} needs low > 0, got low={value.low!r}. "
            f"Use low={remedy}, or log=False."
        )
    start, end = float(value.low), float(value.high)
    are_close = math.log(start) >= math.log(end) if value.log else start / 2 >= end / 2
    # Only an Integer that is not logarithmic is counted without rounding.
    if are_close and (isinstance(value, Real) or value.log):
        raise ValueError(
            f"{where}: {shown(value)} has bounds that differ by rounding alone. Use a list."
        )


def _check_flag(value: Real | Integer | Categorical, field: str, where: str) -> None:
    flag = getattr(value, field)
    if not isinstance(flag, int | np.bool_):
        raise TypeError(
            f"{where}: {shown(value)} needs {field}=True or {field}=False, got {shown(flag)} of "
            f"type {type(flag).__name__}."
        )


def _parse_categorical(value: Categorical, where: str) -> Dimension:
    _check_flag(value, "ordered", where)
    return Levels(_listed(value.choices, where), ordered=bool(value.ordered))


def _parse_choices(value: Any, where: str) -> Dimension:
    if isinstance(value, range) and abs(value.stop - value.start) > _MAX_TABLE * abs(value.step):
        return _parse_range(value, where)
    choices = _listed(value, where)
    if all(is_number(choice) for choice in choices):
        return Levels.sorted_numbers(choices)
    return Levels(choices)


def _parse_range(value: range, where: str) -> Dimension:
    """Parse a range that is too long for a table; it has the same cells."""
    if not value:
        raise ValueError(f"{where}: no choices in {shown(value)}. Give at least one value.")
    low, high = sorted((value[0], value[-1]))
    return parse_dimension(Integer(low, high, step=abs(value.step)), where)


def _listed(choices: Any, where: str) -> list[Any]:
    # Columns of pandas and polars have positions, though they are no Sequence.
    is_sequence = isinstance(choices, Sequence) or hasattr(choices, "to_list")
    is_sequence = is_sequence or (isinstance(choices, np.ndarray) and choices.ndim > 0)
    if isinstance(choices, str | bytes) or not is_sequence:
        # A set has no order that a seed could repeat, and an iterator can be read only once.
        several = isinstance(choices, Set | Iterator)
        single = f"A single value goes into a list, [{shown(choices)}]."
        raise TypeError(
            f"{where}: expected a list, tuple or array of choices, or a distribution, got "
            f"{shown(choices)} of type {type(choices).__name__}. "
            f"{'Use list(...).' if several else single}"
        )
    if len(choices) == 0:
        raise ValueError(f"{where}: no choices in {shown(choices)}. Give at least one value.")
    if any(isinstance(choice, Choice) for choice in choices):
        raise TypeError(
            f"{where}: a Choice among the values of another; it stands for a parameter by itself, "
            f"as in {{'clf': Choice([...])}}. Give each of its options a pair of its own."
        )
    return list(choices)


def _parse_distribution(distribution: Any, where: str) -> Dimension:
    generator = getattr(distribution, "dist", distribution)
    low, high = (float(end) for end in distribution.support())
    if not low <= high:  # also when either is NaN
        raise _Refusal(
            f"{where}: the distribution has no support ({low}, {high}); its arguments are "
            f"invalid. Check shape, loc and scale."
        )
    if isinstance(generator, stats.rv_discrete):
        return _parse_discrete(distribution, where, low, high)
    probes = np.asarray(distribution.ppf([_TAIL, 0.25, 0.5, 0.75, 1 - _TAIL]), dtype=float)
    if not np.isfinite(probes).all():
        raise _Refusal(
            f"{where}: the distribution has no finite quantiles between {_TAIL} and {1 - _TAIL} "
            f"(got {probes.tolist()}). Use one with bounds, as scipy.stats.uniform or loguniform."
        )
    # Their quantiles in closed form take a microsecond; scipy's take a hundred.
    name, finite = getattr(generator, "name", None), math.isfinite(low) and math.isfinite(high)
    if finite and low < high and name == "uniform":
        return Interval(low, high)
    shifted = not math.isclose(probes[2], math.sqrt(abs(low * high)), rel_tol=1e-9)  # by loc
    if finite and 0 < low < high and name in ("loguniform", "reciprocal") and not shifted:
        return Interval(low, high, log=True)
    return Quantile(distribution)


def _parse_discrete(distribution: Any, where: str, low: float, high: float) -> Dimension:
    if getattr(getattr(distribution, "dist", None), "name", None) == "randint":
        return Steps(int(low), 1, int(high - low) + 1)
    if hasattr(getattr(distribution, "dist", distribution), "xk"):
        table = np.asarray(getattr(distribution, "dist", distribution).xk, dtype=float)
        values, finite = table - table.min() + low, True  # loc shifts the table
    else:
        finite = math.isfinite(low) and math.isfinite(high)
        ends = distribution.ppf([0.0 if math.isfinite(low) else _TAIL, 1 - _TAIL])
        first = low if math.isfinite(low) else float(ends[0])
        last = high if math.isfinite(high) and high - first < _MAX_TABLE else float(ends[1])
        if not (math.isfinite(first) and math.isfinite(last)):
            raise _Refusal(
                f"{where}: the distribution has no finite quantiles between {_TAIL} and "
                f"{1 - _TAIL}. Use one with bounds, as scipy.stats.randint."
            )
        if last - first < _MAX_TABLE:
            values = first + np.arange(last - first + 1)
        else:
            finite = False
            values = np.unique(distribution.ppf((np.arange(_MAX_QUANTILES) + 0.5) / _MAX_QUANTILES))
    weights = np.asarray(distribution.pmf(values), dtype=float)
    values, weights = values[weights > 0], weights[weights > 0]
    whole = bool(np.all(values == np.floor(values)))
    points = [int(value) if whole else float(value) for value in values]
    return Levels(points, ordered=True, weights=weights, finite=finite)


def _parse_sampler(sampler: Any, where: str) -> Dimension:
    """Stand draws in for the quantile function of an object that only has ``rvs``."""
    rng = np.random.RandomState(0)  # the space is a function of what the user wrote alone
    try:
        draws = [sampler.rvs(random_state=rng) for _ in range(_EMPIRICAL_DRAWS)]
    except TypeError as error:
        raise TypeError(
            f"{where}: {shown(sampler)} of type {type(sampler).__name__} could not be drawn from "
            f"with rvs(random_state=...): {error}."
        ) from error
    except Exception as error:  # of a foreign rvs
        raise ValueError(
            f"{where}: {shown(sampler)} of type {type(sampler).__name__} could not be drawn from: "
            f"{type(error).__name__}: {error}."
        ) from error
    counts = Counter(map(_identity, draws))
    values = list({_identity(draw): draw for draw in draws}.values())
    ordered = all(is_number(value) for value in values)
    if ordered:
        values.sort()
    weights = [counts[_identity(value)] for value in values]
    return Levels(values, ordered=ordered, weights=weights, finite=False)


def _identity(draw: Any) -> tuple[type, Any]:
    """Return what equal draws share: a new object each time may still be the same choice."""
    if isinstance(draw, np.ndarray):
        return type(draw), (draw.dtype.str, draw.shape, draw.tobytes())
    plain = isinstance(draw, str | bytes | numbers.Number | None)
    return type(draw), draw if plain else repr(draw)


_PARSERS: dict[type, Callable[[Any, str], Dimension]] = {
    Real: _parse_real,
    Integer: _parse_integer,
    Categorical: _parse_categorical,
    Dimension: lambda dimension, where: dimension,
}


_FOREIGN = {("skopt", name) for name in ("Real", "Integer", "Categorical")} | {
    ("optuna", f"{name}Distribution") for name in ("Int", "Float", "Categorical")
}


def _translate(value: Any) -> Any:
    """Recognise scikit-optimize's dimensions and Optuna's distributions, importing neither."""
    bases = [(base.__module__.partition(".")[0], base.__name__) for base in type(value).__mro__]
    package, name = next((base for base in bases if base in _FOREIGN), ("", ""))
    if package == "optuna" and getattr(value, "low", 0) == getattr(value, "high", 1):
        return [value.low]
    if package == "skopt" and name in ("Real", "Integer"):
        log = value.prior == "log-uniform"
        return (Real if name == "Real" else Integer)(value.low, value.high, log)
    if package == "skopt" and name == "Categorical":
        return Levels(value.categories, weights=value.prior)
    if package == "optuna" and name == "IntDistribution":
        return Integer(value.low, value.high, value.log, value.step)
    if package == "optuna" and name == "FloatDistribution":
        if value.step is not None:
            return Steps.between(value.low, value.high, value.step)
        return Real(value.low, value.high, value.log)
    if package == "optuna" and name == "CategoricalDistribution":
        return Categorical(list(value.choices))
    return value
