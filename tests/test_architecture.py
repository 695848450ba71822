"""The table of docs/architecture.md, held against every import in harness/."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "harness"

# the same as in docs/architecture.md; a folder ends with a slash
TABLE: dict[int, tuple[str, ...]] = {
    0: ("errors", "units", "signals", "interrupts", "agent/", "starter/"),
    1: ("model/", "metrics", "stats/", "toml_schema", "in_use", "cache", "alignment"),
    2: ("emulation/", "judging", "margins", "model_files"),
    3: (
        "connect/",
        "instruments/",
        "store/",
        "runtimes/",
        "results",
        "recorded",
        "gate",
        "progress",
        "budget_lines",
        "suite_settings",
        "soak_settings",
    ),
    4: (
        "registry",
        "plan",
        "budgets",
        "baselines",
        "calibrations",
        "pairing",
        "bundles",
        "leases",
        "remote/",
    ),
    5: ("deploy", "board", "selection", "against", "report/"),
    6: ("measure/", "estimate/"),
    7: ("soak/",),
    8: (
        "session",
        "kinds",
        "workbench",
        "soaking",
        "estimating",
        "counting",
    ),
    9: ("fitting/",),
    10: ("desk", "fixtures", "plugin", "cli/"),
}
LEVELS = {name.rstrip("/"): level for level, names in TABLE.items() for name in names}

# what an adapter on the device may have beside the standard library: the runtime that it is for
ADAPTER_IMPORTS = {"numpy", "onnxruntime", "ai_edge_litert", "tflite_runtime"}
# what a function of the agent may ask for: it is there where a runtime's environment brings it
LATE_AGENT_IMPORTS = {"numpy"}
AGENT_ON_DEVICE = "hil_agent"  # what the archive calls harness.agent
# what collecting tests must not wait for
HEAVY = ("pandas", "matplotlib", "fabric", "paramiko", "sqlalchemy", "rich", "pyarrow", "scipy", "jinja2")

Import = tuple[str, int]  # dotted name, line


def module_name(path: Path) -> str:
    """Return a file's dotted module name; a package's is that of its folder."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


# the starter's suites are data: `harness init` copies them
SOURCES = {
    module_name(path): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "suites" not in path.parts and "__pycache__" not in path.parts
}


def without_types(tree: ast.AST) -> ast.AST:
    """Return `tree` without the bodies of `if TYPE_CHECKING:`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return tree


def lines_of_functions(source: str) -> set[int]:
    """Return the numbers of the lines inside functions."""
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef))
    return {line for n in functions for line in range(n.lineno, (n.end_lineno or n.lineno) + 1)}


def imports_of(module: str, source: str, *, is_package: bool, types: bool = True) -> Iterator[Import]:
    """Yield everything that `source` imports, wherever it stands, by statement or by a literal name."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    tree = ast.parse(source)
    for node in ast.walk(tree if types else without_types(tree)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            full = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{full}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield (node.args[0].value, node.lineno)


def all_imports(module: str, *, types: bool = True) -> list[Import]:
    path = SOURCES[module]
    source = path.read_text(encoding="utf-8")
    return list(imports_of(module, source, is_package=path.name == "__init__.py", types=types))


def room(module: str) -> str:
    """Return the row's entry that a module belongs to: its file or folder at the top of harness/."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def target_module(name: str) -> str | None:
    """Return the module of ours that an import of `name` means: itself, or the one that holds it."""
    if name.split(".")[0] != "harness":
        return None
    return name if name in SOURCES else name.rpartition(".")[0]


def may_import(importer: str, target: str) -> bool:
    """Return whether a module in room `importer` may import one in room `target`."""
    if importer == target:
        return True
    if LEVELS[target] < LEVELS[importer]:
        return True
    is_file = {name for names in TABLE.values() for name in names if not name.endswith("/")}
    return LEVELS[target] == LEVELS[importer] and {importer, target} <= is_file


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return one path for each cycle that a depth-first walk meets."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
            return
        if module in done:
            return
        for target in sorted(edges.get(module, ())):
            walk(target, [*path, module])
        done.add(module)

    for module in sorted(edges):
        walk(module, [])
    return found


def test_the_page_and_this_table_are_the_same():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", page, re.MULTILINE)
    assert {int(level): tuple(re.findall(r"`([^`]+)`", names)) for level, names in rows} == TABLE


def test_every_module_is_in_the_table_and_every_row_exists():
    there = {room(module) for module in SOURCES} - {""}
    assert there == set(LEVELS)
    folders = {name.rstrip("/") for names in TABLE.values() for name in names if name.endswith("/")}
    assert folders == {name for name in there if (PACKAGE / name).is_dir()}


def test_the_top_imports_nothing_of_ours():
    assert [name for name, _ in all_imports("harness") if name.startswith("harness")] == []


@pytest.mark.parametrize("module", [name for name in SOURCES if name != "harness"])
def test_imports_point_down(module):
    wrong = []
    for name, line in all_imports(module):
        target = target_module(name)
        if target is None:
            continue
        to = room(target)
        if to and not may_import(room(module), to):
            wrong.append(
                f"{module}:{line} (level {LEVELS[room(module)]}) imports {name} (level {LEVELS[to]})"
            )
    assert wrong == []


def test_no_imports_form_a_cycle():
    edges: dict[str, set[str]] = {}
    for module in SOURCES:
        # what is imported for its type alone is never run
        targets = {target_module(name) for name, _ in all_imports(module, types=False)}
        edges[module] = {t for t in targets if t and t not in (module, "harness")}
    assert cycles(edges) == []


@pytest.mark.parametrize("module", [name for name in SOURCES if room(name) == "agent"])
def test_the_agent_needs_the_standard_library_and_its_own_folder_alone(module):
    allowed = {AGENT_ON_DEVICE, *sys.stdlib_module_names}
    if module.startswith("harness.agent.adapters."):
        allowed |= ADAPTER_IMPORTS
    late = lines_of_functions(SOURCES[module].read_text(encoding="utf-8"))
    foreign = []
    for name, line in all_imports(module):
        here = allowed | LATE_AGENT_IMPORTS if line in late else allowed
        if not name.startswith("harness.agent") and name.split(".")[0] not in here:
            foreign.append(f"{module}:{line} imports {name}")
    assert foreign == []


def test_collecting_tests_loads_nothing_heavy():
    code = f"import sys, harness.plugin; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_every_folder_with_code_is_packaged():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {name for name, path in SOURCES.items() if path.name == "__init__.py"}
    folders = {module_name(path.parent / "__init__.py") for path in SOURCES.values()}
    assert folders == packages, "a folder with modules has no __init__.py"
    assert set(project["tool"]["setuptools"]["packages"]) == packages


# --- the walker itself


def test_the_walker_sees_what_hides():
    source = """
import harness.model
from harness import plan as plans
from . import sibling
from ..store import reader
def later():
    from harness.session import Session
    importlib.import_module("harness.cli")
if TYPE_CHECKING:
    import harness.report.data
"""
    found = {name for name, _ in imports_of("harness.measure.load", source, is_package=False)}
    assert found == {
        "harness.model",
        "harness.plan",
        "harness.measure.sibling",
        "harness.store.reader",
        "harness.session.Session",
        "harness.cli",
        "harness.report.data",
    }
    lazily = {name for name, _ in imports_of("harness.measure.load", source, is_package=False, types=False)}
    assert found - lazily == {"harness.report.data"}
    packaged = {name for name, _ in imports_of("harness.measure", "from . import load", is_package=True)}
    assert packaged == {"harness.measure.load"}


@pytest.mark.parametrize(
    ("importer", "target", "allowed"),
    [
        ("gate", "judging", True),
        ("judging", "gate", False),
        ("units", "errors", True),  # two files of one level
        ("connect", "store", False),  # two folders of one level
        ("gate", "connect", False),
        ("store", "store", True),
        ("report", "session", False),
        ("session", "report", True),
    ],
)
def test_the_rule(importer, target, allowed):
    assert may_import(importer, target) is allowed


def test_a_cycle_is_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "a"]]
    assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
