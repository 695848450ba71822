"""The agent keeps to Python 3.9's syntax, and to the stdlib and its own modules."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

AGENT = Path(__file__).parents[3] / "harness" / "agent"
FILES = sorted(AGENT.rglob("*.py"))
# a runtime's adapter may import its own runtime, and numpy, which comes with it
RUNTIME_IMPORTS = {
    "onnxruntime.py": {"onnxruntime"},
    "litert.py": {"ai_edge_litert"},
    "tflite_runtime.py": {"tflite_runtime"},
    "tflite.py": {"numpy"},
}


def imported(tree: ast.AST, *, late: bool) -> set[str]:
    """Return the top packages that are imported; with `late`, only those inside functions."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    roots: list[ast.AST] = list(functions) if late else [tree]
    found = set()
    for root in roots:
        for node in ast.walk(root):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").split(".")[0])
    return found


def ids(path: Path) -> str:
    return str(path.relative_to(AGENT))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_syntax_is_python_3_9(path: Path) -> None:
    ast.parse(path.read_text("utf-8"), feature_version=(3, 9))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_imports_are_stdlib_or_siblings(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    foreign = (
        imported(tree, late=False) - set(sys.stdlib_module_names) - RUNTIME_IMPORTS.get(path.name, set())
    )
    if path.name in ("model.py", "samples.py"):
        assert foreign <= imported(tree, late=True)  # numpy, where the environment has it
        foreign -= {"numpy"}
    if path.name == "bootstrap.py":
        foreign -= {"hil_agent"}
    assert foreign == set()


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_annotations_are_not_evaluated(path: Path) -> None:
    text = path.read_text("utf-8")
    needs = any(
        isinstance(node, ast.AnnAssign | ast.arg) and node.annotation for node in ast.walk(ast.parse(text))
    )
    assert not needs or path.name == "bootstrap.py" or "from __future__ import annotations" in text


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_no_newer_runtime_features(path: Path) -> None:
    """`X | Y` outside annotations, zip(strict=…) and dataclass(slots=…) parse as 3.9 but fail there."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            assert not {"strict", "slots", "kw_only"} & {k.arg for k in node.keywords}, ast.unparse(node)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            assert not isinstance(node.args[1], ast.BinOp), ast.unparse(node)


def test_no_eval_and_no_pickle() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text("utf-8"))
        called = {
            n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        assert not {"eval", "exec", "compile", "__import__"} & called, path
        assert not {"pickle", "marshal", "shelve"} & imported(tree, late=False), path
