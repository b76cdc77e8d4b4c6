"""Every public name is documented, fully and in numpydoc's form."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import tunein

validate = pytest.importorskip("numpydoc.validate").validate

# Not asked for: what a reader of a short docstring would only be kept from the rest by. ES01 and
# SA01, an extended summary and a See Also everywhere; RT02, as scikit-learn names what it returns;
# EX01 of methods, whose example is that of the class.
NOT_ASKED = {"ES01", "SA01", "RT02", "EX01"}

SEARCHES = [tunein.BayesSearchCV, tunein.HyperGradSearchCV, tunein.TPESearchCV]


def public_names():
    for name in tunein.__all__:
        yield f"tunein.{name}"
        for method, function in inspect.getmembers(getattr(tunein, name), callable):
            # What scikit-learn documents is documented there.
            is_ours = (getattr(function, "__module__", None) or "").startswith("tunein")
            if is_ours and not method.startswith("_"):
                yield f"tunein.{name}.{method}"


PUBLIC = sorted(public_names())


def test_there_is_something_to_validate():
    assert "tunein.BayesSearchCV.fit" in PUBLIC
    assert "tunein.Real.rvs" in PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_documentation_is_complete_and_in_form(name):
    errors = [(code, text) for code, text in validate(name)["errors"] if code not in NOT_ASKED]
    assert errors == []


@pytest.mark.parametrize("name", tunein.__all__)
def test_every_class_has_an_example(name):
    assert "EX01" not in [code for code, _ in validate(f"tunein.{name}")["errors"]]


@pytest.mark.parametrize("name", PUBLIC)
def test_defaults_in_the_documentation_are_those_of_the_signature(name):
    documented = validate(name)["docstring"]
    path = name.split(".")[1:]
    target = tunein
    for part in path:
        target = getattr(target, part)
    for parameter in inspect.signature(target).parameters.values():
        if parameter.name == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        line = re.search(rf"^\s*(?:\w+, )*{parameter.name}(?:, \w+)* : (.+)$", documented, re.M)
        assert line, f"{parameter.name} has no line of its own"
        stated = re.search(r"default=(\S+)$", line[1])
        if parameter.default is parameter.empty:
            assert stated is None, parameter.name
        else:
            assert stated, parameter.name
            assert stated[1].removeprefix("np.") == repr(parameter.default), parameter.name


@pytest.mark.parametrize("search_class", SEARCHES)
def test_all_that_a_fitted_search_has_is_documented(search_class):
    from sklearn.datasets import load_iris
    from sklearn.naive_bayes import GaussianNB

    search = search_class(GaussianNB(), {"var_smoothing": [1e-9, 1e-3]}, n_iter=2, cv=2)
    X, y = load_iris(return_X_y=True, as_frame=True)
    search.fit(X, y)
    section = re.search(r"Attributes\n\s+-+\n(.*?)\n\s+See Also", search_class.__doc__, re.S)[1]
    documented = set(re.findall(r"^\s{4}(\w+_) :", section, re.M))
    fitted = {name for name in dir(search) if name.endswith("_") and not name.startswith("_")}
    assert fitted == documented


@pytest.mark.parametrize("search_class", SEARCHES)
def test_nothing_was_left_to_fill_in(search_class):
    assert set(re.findall(r"\{\w+\}", search_class.__doc__)) == {"{fingerprint}"}


def test_searches_say_the_same_of_what_they_share():
    def section(search_class):
        return re.search(r"Parameters\n(.*?)See Also", search_class.__doc__, re.S)[1]

    assert section(tunein.BayesSearchCV) == section(tunein.TPESearchCV)


def test_all_public_names_are_listed_in_order():
    assert tunein.__all__ == sorted(tunein.__all__)
    assert len(set(tunein.__all__)) == len(tunein.__all__)
    imported = {
        name
        for name, value in vars(tunein).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert imported == set(tunein.__all__)


def test_links_between_pages_lead_somewhere_and_to_every_page():
    root = Path(__file__).parent.parent
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    linked = set()
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", page.read_text("utf-8")):
            path = (page.parent / target).resolve() if target else page
            assert path.is_file(), f"{page.name}: {target}"
            linked.add(path)
    assert {page.name for page in pages[1:]} <= {path.name for path in linked}


def test_the_version_is_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", tunein.__version__)


def test_the_package_says_that_it_is_typed():
    assert (Path(tunein.__file__).parent / "py.typed").is_file()
