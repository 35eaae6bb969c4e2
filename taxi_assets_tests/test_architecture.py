"""Rules for imports: to lower layers, to public modules and declared libraries, without cycles.

The rules are in `taxi_assets_tests/imports.py`; the picture of the result is in docs/architecture.md.
"""

import importlib.util
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import distribution, packages_distributions
from types import ModuleType

import pytest

from taxi_assets_tests.imports import (
    LAYERS,
    REPOSITORY,
    cycles,
    external,
    imported_names,
    internal,
    parse_package,
    private,
    top,
    upward,
)

IMPORTS = parse_package()

# Violations that are known. A row is deleted with its violation; no row is added without a reason.
UPWARD: dict[tuple[str, str], str] = {}
PRIVATE: dict[tuple[str, str], str] = {
    ("history", "dagster._core.storage.local_compute_log_manager.LocalComputeLogManager"): "no public name",
    ("history", "dagster._core.storage.root.LocalArtifactStorage"): "no public name",
    ("history", "dagster._core.storage.sqlite_storage.DagsterSqliteStorage"): "no public name",
}
UNDECLARED: dict[tuple[str, str], str] = {}
CYCLES: dict[tuple[str, ...], str] = {}


def test_imports_lead_to_lower_layers():
    compare(upward(internal(IMPORTS)), UPWARD)


def test_no_private_module_of_a_library_is_imported():
    compare(private(external(IMPORTS)), PRIVATE)


def test_every_imported_library_is_declared():
    compare(
        {
            (module, name)
            for module, names in external(IMPORTS).items()
            for name in names
            if not is_standard(name) and not distributions(name) & declared()
        },
        UNDECLARED,
    )


def test_modules_do_not_import_each_other():
    compare(cycles(internal(IMPORTS)), CYCLES)


def test_every_package_has_a_layer_and_a_docstring():
    assert {top(module) for module in IMPORTS if module} == {name for names in LAYERS for name in names}
    files = (REPOSITORY / "taxi_assets").rglob("__init__.py")
    assert [str(path) for path in files if not path.read_text(encoding="utf-8").startswith('"""')] == []


def test_the_page_and_the_picture_match_the_code():
    page = module_of("docs/architecture.py")
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.rendered(text) == text, "run: python docs/architecture.py"
    assert page.PICTURE.read_text(encoding="utf-8") == page.picture(), "run: python docs/architecture.py"
    assert set(re.findall(r"<!-- (\w+) -->", text)) - {"end"} == set(page.SECTIONS)


# How the rules are checked, on packages of a few lines


def package(tmp_path, **sources):
    for name, source in sources.items():
        path = tmp_path / "taxi_assets" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return parse_package(tmp_path / "taxi_assets")


@pytest.mark.parametrize(
    "source",
    [
        "import taxi_assets.assets.raw_trips",
        "from taxi_assets.assets import raw_trips",
        "from taxi_assets.assets.raw_trips import name",
        "def f():\n    from taxi_assets.assets.raw_trips import name",
        "if TYPE_CHECKING:\n    from taxi_assets.assets.raw_trips import name",
    ],
)
def test_an_import_of_a_higher_layer_is_found_wherever_it_stands(tmp_path, source):
    imports = package(tmp_path, core__month=source, assets__raw_trips="import taxi_assets.core.month")
    assert upward(internal(imports)) == {("core.month", "assets.raw_trips")}


def test_packages_of_one_layer_do_not_import_each_other(tmp_path):
    imports = package(
        tmp_path, datasets__a="import taxi_assets.sinks.b", sinks__b="", sinks__c="import taxi_assets.sinks.b"
    )
    assert upward(internal(imports)) == {("datasets.a", "sinks.b")}


def test_a_package_without_a_layer_is_named(tmp_path):
    imports = package(tmp_path, novel__a="import taxi_assets.core.b", core__b="")
    with pytest.raises(LookupError, match="taxi_assets/novel has no layer: add it to LAYERS"):
        upward(internal(imports))


def test_a_private_module_is_found_and_a_special_one_is_not():
    assert private({"a": ["dagster._core.x", "dagster.x", "__future__.annotations"]}) == {("a", "dagster._core.x")}


def test_a_circle_is_found_through_other_modules():
    assert cycles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == {("a", "b", "c")}
    assert cycles({"a": ["b"], "b": ["c"], "c": []}) == set()


def test_a_relative_import_is_refused():
    with pytest.raises(ValueError, match="line 1: relative import"):
        list(imported_names("from . import month"))


def test_a_library_is_looked_up_by_the_module_that_is_imported():
    assert distributions("google.cloud.storage.Client") == {"google-cloud-storage"}
    assert distributions("dagster.asset") == {"dagster"}
    assert distributions("dagster_celery.celery_executor") == {"dagster-celery"}  # installed or not
    assert not distributions("pytest.raises") & declared()


def test_a_known_violation_that_is_fixed_must_leave_the_list():
    with pytest.raises(AssertionError, match="fixed: delete the row"):
        compare({("a", "b")}, {("a", "b"): "reason", ("a", "c"): "reason"})
    with pytest.raises(AssertionError, match="new violation"):
        compare({("a", "b")}, {})


def compare(found, known):
    assert sorted(map(str, found - known.keys())) == [], "new violation: change the import"
    assert sorted(map(str, known.keys() - found)) == [], "fixed: delete the row in test_architecture.py"


def is_standard(name: str) -> bool:
    return name.split(".")[0] in sys.stdlib_module_names


@cache
def declared() -> frozenset[str]:
    """Return the distributions that the package may import: its dependencies and those of the extra `deploy`."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["deploy"]]
    return frozenset(re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in lines)


@cache
def installed() -> dict[str, list[str]]:
    return dict(packages_distributions())


@cache
def distributions(name: str) -> frozenset[str]:
    """Return the distributions that have the module; by the module's own name where it is not installed."""
    parts = name.split(".")
    candidates = set(installed().get(parts[0], [parts[0]]))
    if len(candidates) > 1:  # a namespace of several distributions: the one with the longest part of the name
        for length in range(len(parts), 0, -1):
            stem = "/".join(parts[:length])
            if found := {each for each in candidates if files(each) & {f"{stem}.py", f"{stem}/__init__.py"}}:
                candidates = found
                break
    return frozenset(each.lower().replace("_", "-") for each in candidates)


@cache
def files(name: str) -> frozenset[str]:
    return frozenset(path.as_posix() for path in distribution(name).files or ())


@cache
def module_of(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("architecture", REPOSITORY / name)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
