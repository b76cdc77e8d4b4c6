"""The shape of the package: who imports whom, and what lies where."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tunein

PACKAGE = Path(tunein.__file__).parent
REPOSITORY = PACKAGE.parent

# From the mathematics up to the doors. A module may import those of lower rank, and of its own if
# the rank is shared by a family.
RANKS = {
    "tunein._math": 0,
    "tunein._sklearn": 0,
    "tunein._clock": 0,
    "tunein._docstrings": 0,
    "tunein._abroad": 0,
    "tunein._dimensions": 1,
    "tunein._parse": 1,
    "tunein._space": 1,
    "tunein._families": 1,
    "tunein._repeats": 1,
    "tunein._warm": 2,
    "tunein._history": 2,
    "tunein._fingerprint": 2,
    "tunein._fold_files": 2,
    "tunein._fronts": 2,
    "tunein._evaluation": 3,
    "tunein._racing": 3,
    "tunein._halving": 3,
    "tunein._results": 3,
    "tunein._surrogate": 3,
    "tunein._probe": 3,
    "tunein._cost": 3,
    "tunein._events": 4,
    "tunein._workers": 4,
    "tunein._callbacks": 4,
    "tunein._kept": 4,
    "tunein._watch": 5,
    "tunein._journal": 5,
    "tunein._earlier": 6,
    "tunein._loop": 7,
    "tunein._search": 8,
    "tunein._cost_aware": 9,
    "tunein._bayes": 10,
    "tunein._hypergrad": 10,
    "tunein._tpe": 10,
    "tunein._penalties": 10,
    "tunein": 11,
}
FAMILIES = {
    "tunein._math": "math",
    "tunein._families": "families",
    "tunein._dimensions": "space",
    "tunein._parse": "space",
}
FAMILIES |= {"tunein._space": "space", "tunein._workers": "workers"}
FAMILIES |= {"tunein._racing": "racing", "tunein._halving": "racing"}


def module_name(path):
    parts = ["tunein", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = sorted(FILES)
every_module = pytest.mark.parametrize("module", MODULES)


def imports_of(module):
    """Return what a module imports, at any depth: (module, name), or (module, None)."""
    found = []
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            found.extend((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            found.extend((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("__import__", "import_module")
        ):
            raise AssertionError(f"{module} imports by a call: {ast.unparse(node)}")
    return found


def roots_of(module):
    return {name.partition(".")[0] for name, _ in imports_of(module)}


def ours(module):
    """Return which modules of the package a module imports."""
    targets = set()
    for name, what in imports_of(module):
        if name.partition(".")[0] == "tunein":
            targets.add(f"{name}.{what}" if f"{name}.{what}" in FILES else name)
    return targets


def room(module):
    """Return the module, or the package that it is one of."""
    packages = ("tunein._math", "tunein._families", "tunein._workers")
    return next((package for package in packages if module.startswith(package)), module)


# --------------------------------------------------------------------- inside


def test_there_are_no_import_cycles():
    list(TopologicalSorter({module: ours(module) for module in MODULES}).static_order())


def test_every_module_has_its_place():
    assert {room(module) for module in MODULES} == set(RANKS)


@every_module
def test_imports_go_one_way(module):
    here = room(module)
    for target in map(room, ours(module)):
        family = FAMILIES.get(here)
        if family is not None and family == FAMILIES.get(target):
            continue
        assert RANKS[target] < RANKS[here], f"{module} must not import {target}"


@every_module
def test_a_private_name_is_imported_by_nobody_else_unless_it_is_a_module(module):
    """But within a family of modules."""
    here = FAMILIES.get(room(module))
    for name, what in imports_of(module):
        if name.partition(".")[0] != "tunein" or what is None or not what.startswith("_"):
            continue
        is_module = f"{name}.{what}" in FILES
        is_of_scikit_learn = name == "tunein._sklearn"  # which lends such names under their own
        is_family = here is not None and here == FAMILIES.get(room(name))
        assert is_module or is_of_scikit_learn or is_family, f"{module}: {name}.{what}"


# --------------------------------------------------------------------- strangers


@every_module
def test_only_the_run_time_dependencies_are_imported(module):
    allowed = {"tunein", "numpy", "scipy", "sklearn", "joblib", *sys.stdlib_module_names}
    assert roots_of(module) <= allowed


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) == "tunein._math"])
def test_mathematics_needs_numpy_and_scipy_only(module):
    assert roots_of(module) <= {"numpy", "scipy", "tunein", *sys.stdlib_module_names}
    assert {room(target) for target in ours(module)} <= {"tunein._math"}


@every_module
def test_joblib_is_spoken_to_in_one_place(module):
    assert ("joblib" in roots_of(module)) == (room(module) == "tunein._workers")


@every_module
def test_private_names_of_scikit_learn_are_imported_in_one_place(module):
    private = {
        f"{name}.{what}"
        for name, what in imports_of(module)
        if name.partition(".")[0] == "sklearn"
        and any(part.startswith("_") for part in [*name.split("."), what or ""])
    }
    if module == "tunein._sklearn":
        assert private
    else:
        assert not private


def test_nothing_needless_is_loaded():
    strangers = {"matplotlib", "optuna", "skopt", "polars", "distributed"}
    code = f"import sys, tunein; print(sorted({strangers} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "[]"


def test_mathematics_can_be_used_without_scikit_learn():
    names = [module for module in MODULES if room(module) == "tunein._math"]
    sources = "".join(FILES[name].read_text() for name in names)
    assert "sklearn" not in sources
    assert "estimator" not in {
        node.id
        for name in names
        for node in ast.walk(ast.parse(FILES[name].read_text()))
        if isinstance(node, ast.Name)
    }


# --------------------------------------------------------------------- around


def project():
    path = REPOSITORY / "pyproject.toml"
    if not path.exists():
        pytest.skip("the package is installed without its repository")
    return tomllib.loads(path.read_text())


def test_the_run_time_dependencies_are_four():
    names = [
        next(iter(requirement.replace(">", " ").replace("=", " ").replace("<", " ").split()))
        for requirement in project()["project"]["dependencies"]
    ]
    assert sorted(names) == ["joblib", "numpy", "scikit-learn", "scipy"]


def test_every_folder_of_the_package_is_shipped():
    shipped = project()["tool"]["setuptools"]["packages"]
    folders = {module for module, path in FILES.items() if path.name == "__init__.py"}
    assert set(shipped) == folders


def tracked():
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=REPOSITORY
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git repository")
    return [Path(name) for name in done.stdout.split("\0") if name]


def test_the_top_level_holds_what_it_should_and_no_more():
    top = {path.parts[0] for path in tracked()}
    allowed = {"pyproject.toml", "README.md", "LICENSE", "tunein", "tests", "benchmarks", "docs"}
    assert {name for name in top if not name.startswith(".")} <= allowed
    assert {"pyproject.toml", "README.md", "LICENSE", "tunein", "tests"} <= top


def test_nothing_built_or_cached_is_kept():
    for path in tracked():
        assert path.suffix not in {".pyc", ".so", ".egg", ".whl"}, path
        assert not {"__pycache__", "build", "dist", ".hypothesis", ".venv"} & set(path.parts), path


def test_every_module_has_a_suite_that_is_named_after_it_or_that_cuts_across():
    """Mirrors the tree: dimensions, parse, space, history, gp, parzen, acquisition,
    penalties.
    """
    suites = {path.stem for path in (REPOSITORY / "tests").glob("test_*.py")}
    if not suites:
        pytest.skip("the package is installed without its tests")
    for name in (
        "dimensions",
        "parse",
        "space",
        "history",
        "gp",
        "parzen",
        "acquisition",
        "penalties",
    ):
        assert f"test_{name}" in suites
    assert {
        "test_contract",
        "test_methods",
        "test_properties",
        "test_reductions",
        "test_architecture",
    } <= suites
