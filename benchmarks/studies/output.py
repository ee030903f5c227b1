"""Where the studies write, and how they print."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openvino as ov

from benchmarks.report import machine

RESULTS = Path(__file__).parents[1] / "results" / "studies"


def write_json(name: str, data: dict[str, Any], folder: Path | None = None) -> Path:
    """Write a study's result with the machine and the runtime beside it; returns the path."""
    target = (folder or RESULTS) / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    facts = {"machine": machine(), "versions": {"openvino": str(ov.get_version())}}
    target.write_text(json.dumps({**data, **facts}, indent=1))
    return target


def stored_runs(name: str) -> list[dict[str, Any]]:
    """The runs in a study's result; none where there is no such file."""
    path = RESULTS / f"{name}.json"
    runs: list[dict[str, Any]] = json.loads(path.read_text())["runs"] if path.exists() else []
    return runs


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def say(line: str) -> None:
    """Progress, apart from the tables."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
