"""The documentation runs, its links lead somewhere, and its reference is complete."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import maxdrop as md
from maxdrop import cli, delivery, demo

ROOT = Path(__file__).parent.parent
PAGES = [
    path
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    if path.name != "benchmarks.md"
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """(line, content) of the fenced blocks of one language."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, found.start()) + 1, found[2])
        for found in BLOCK.finditer(text)
        if found[1] == language
    ]  # fmt: skip


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working folder, and few items, so that every page runs in seconds."""
    calibration, validation = demo.calibration_items()[:8], demo.validation_items()[:24]
    monkeypatch.setattr(demo, "calibration_items", lambda: list(calibration))
    monkeypatch.setattr(demo, "validation_items", lambda: list(validation))
    monkeypatch.setattr(delivery, "_LATENCY_BLOCKS", 3)
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # so few items cannot tell much, and are said to be too few
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
@pytest.mark.usefixtures("small_demo")
def test_python_blocks_run(page: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "documentation"}
    for line, code in blocks(page, "python"):
        exec(compile("\n" * line + code, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist(page: Path) -> None:
    known: Any = get_command(cli.app)
    for line, code in blocks(page, "sh"):
        for command in code.replace("\\\n", " ").splitlines():
            words = shlex.split(command, comments=True)
            if words[:1] != ["maxdrop"]:
                continue
            assert words[1] in known.commands, f"{page.name}:{line}: {command}"
            options = {opt for p in known.commands[words[1]].params for opt in (*p.opts, *p.secondary_opts)}
            wrong = [w for w in words[2:] if w.startswith("-") and not w.lstrip("-").isdigit() and w not in options]
            assert wrong == [], f"{page.name}:{line}: {command}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    broken = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert broken == []


def shown(default: object) -> str:
    """A default as the reference writes it."""
    if isinstance(default, enum.Enum):
        return f"{type(default).__name__}.{default.name}"
    if default == control_limit():
        return "sys.maxsize"
    if dataclasses.is_dataclass(default):
        return f"{type(default).__name__}()"
    return repr(default)


def control_limit() -> int:
    return md.AdvancedAccuracyRestorerParameters().max_num_iterations


def parameters(of: Callable[..., Any]) -> dict[str, str]:
    """{parameter: default as the reference shows it}; "" for required ones."""
    made: dict[str, str] = {}
    for name, parameter in inspect.signature(of).parameters.items():
        default = parameter.default
        fields = {f.name: f for f in dataclasses.fields(of)} if dataclasses.is_dataclass(of) else {}
        factory = fields[name].default_factory if name in fields else dataclasses.MISSING
        if factory is not dataclasses.MISSING:
            default = factory()
        made[name] = "" if default is inspect.Parameter.empty else shown(default)
    return made


DOCUMENTED: list[Any] = [
    md.quantize,
    md.control_accuracy,
    md.predict_cost,
    md.quantize_with_accuracy_control,
    md.Dataset,
    md.IgnoredScope,
    md.Subgraph,
    md.AdvancedQuantizationParameters,
    md.AdvancedAccuracyRestorerParameters,
    md.AdvancedBiasCorrectionParameters,
    md.AdvancedSmoothQuantParameters,
]


@pytest.mark.parametrize("of", DOCUMENTED, ids=lambda of: str(of.__name__))
def test_reference_has_every_parameter_with_its_default(of: Any) -> None:
    section = REFERENCE.split(f"\n### {of.__name__}\n", 1)[1].split("\n### ", 1)[0].split("\n## ", 1)[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:`([^`]*)`)? *\|", section, re.MULTILINE))
    assert rows == parameters(of)


@pytest.mark.parametrize("name", md.__all__)
def test_reference_names_everything_public(name: str) -> None:
    assert f"`{name}`" in REFERENCE or f"\n### {name}\n" in REFERENCE


def test_reference_names_every_member_of_enums_and_results() -> None:
    enums = [md.DropType, md.ModelType, md.OverflowFix, md.QuantizationPreset, md.RestoreMode, md.TargetDevice]
    wanted = [f"`{kind.__name__}`" for kind in enums]
    wanted += [f"`{name}`" for kind in enums for name in kind.__members__]
    wanted += [
        f"`{f.name}`" for f in dataclasses.fields(md.AccuracyControlResult) if f.name not in {"arrays", "backend"}
    ]
    assert [name for name in wanted if name not in REFERENCE] == []


def test_reference_names_every_command() -> None:
    known: Any = get_command(cli.app)
    assert [name for name in known.commands if f"maxdrop {name}" not in REFERENCE] == []
