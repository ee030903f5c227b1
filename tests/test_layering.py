"""Imports point down only, and frameworks are imported in their own folder and nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path

import maxdrop

ROOT = Path(maxdrop.__file__).parent
BASE = {"errors", "version"}
ALLOWED = {
    "data": {"data"},
    "ptq": {"data", "ptq"},
    "search": {"data", "ptq", "search"},
    "executors": {"data", "ptq", "search", "executors"},
    "backends": {"data", "ptq.numerics", "backends"},
    "report": {"data", "ptq", "report"},
}
FRAMEWORKS = {"openvino": {"backends/openvino", "demo"}, "onnx": set(), "onnxruntime": set(), "torch": set()}


def imports(path: Path) -> set[str]:
    """Names of the modules that a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def modules() -> list[tuple[str, set[str]]]:
    return [(p.relative_to(ROOT).as_posix(), imports(p)) for p in sorted(ROOT.rglob("*.py"))]


def test_imports_point_down_only() -> None:
    wrong = []
    for name, imported in modules():
        allowed = ALLOWED.get(name.split("/")[0])
        if allowed is None:
            continue
        own = [m.removeprefix("maxdrop.") for m in imported if m.startswith("maxdrop.")]
        wrong += [
            (name, module)
            for module in own
            if module not in BASE and not any(module == a or module.startswith(a + ".") for a in allowed)
        ]
    assert wrong == []


def test_frameworks_stay_in_their_folders() -> None:
    wrong = [
        (name, module)
        for name, imported in modules()
        for module in imported
        for framework, folders in FRAMEWORKS.items()
        if module.split(".")[0] == framework and not any(name.startswith(f) for f in folders)
    ]
    assert wrong == []


def test_exported_names_exist_and_are_sorted() -> None:
    assert maxdrop.__all__ == sorted(maxdrop.__all__)
    assert all(hasattr(maxdrop, name) for name in maxdrop.__all__)
