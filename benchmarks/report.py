"""The tables of a comparison, for the console and as Markdown, and the facts about the machine."""

import os
import platform
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.summary import Stat


def machine() -> dict[str, Any]:
    """What the numbers depend on and the code does not say."""
    return {
        "cpu": _cpu_name(),
        "isa": sorted(_FLAGS & set(_cpu_info().get("flags", "").split())),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def tables(data: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, head and rows of every table of a comparison with its summary."""
    sides = {side: f"{side}: {data['options'][key]}" for side, key in (("A", "tool"), ("B", "peer"))}
    summary = data["summary"]
    rows = [
        [line["name"], *(_stat(line[side], line["form"]) for side in "AB"), _stat(line["ratio"], "{:.3f}")]
        for line in summary["measures"]
    ]
    found = [("Cost and accuracy: median [lowest, highest] of the rounds", ["", *sides.values(), "A / B"], rows)]
    rows = [
        [
            line["hint"],
            _model_name(line["model"], sides),
            _stat(line["ms"], "{:.3f}"),
            *(_stat(line.get(key), "{:.3f}") for key in ("to_float", "to_plain", "to_B")),
        ]
        for line in summary["latencies"]
    ]
    head = ["hint", "model", "ms per inference", "to float", "to its plain int8", "A / B"]
    if rows:
        found.append(("Latency: median [lowest, highest] of the blocks; ratios with 95 % intervals", head, rows))
    columns = {"rounds": "rounds with a result", "distinct": "different results"}
    if data["options"]["mode"] == "control":
        columns |= {"validation": "drop > max_drop", "held_out": "the same on held-out items"}
    rows = [[sides[side], *(str(each[key]) for key in columns)] for side, each in summary["verdicts"].items()]
    found.append(("Results", ["", *columns.values()], rows))
    if summary["failures"]:
        rows = [[str(bad["round"] + 1), bad["side"], bad["status"], bad["message"]] for bad in summary["failures"]]
        found.append(("Failures", ["round", "side", "what", "message"], rows))
    return found


def title(data: dict[str, Any]) -> str:
    """One line that says what was compared."""
    options = data["options"]
    drop = f", max_drop {options['max_drop']:g}" if options["mode"] == "control" else ""
    arguments = "".join(f", {key}={value}" for key, value in options["arguments"].items())
    return f"{options['task']}: {options['mode']}{drop}{arguments}, {options['tool']} and {options['peer']}"


def print_tables(data: dict[str, Any], console: Console) -> None:
    """The tables on the console."""
    console.rule(title(data))
    for name, head, rows in tables(data):
        table = Table(*map(escape, head), title=escape(name), title_justify="left")
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)


def markdown(data: dict[str, Any]) -> str:
    """The tables as Markdown, with what is needed to run them again."""
    options, facts = data["options"], data["machine"]
    lines = [f"### {title(data)}", ""]
    lines += [f"Metric: {data['task']['metric']}. Rounds: {options['rounds']}; seed {options['seed']}.", ""]
    for name, head, rows in tables(data):
        cells = [head, ["---"] * len(head), *([_escape(cell) for cell in row] for row in rows)]
        lines += [f"{name}.", "", *(f"| {' | '.join(row)} |" for row in cells), ""]
    versions = ", ".join(f"{name} {text}" for name, text in data["versions"].items())
    lines += [f"{facts['cpu']}, {facts['cores']} cores ({', '.join(facts['isa'])}); {versions}.", ""]
    return "\n".join(lines)


def overall_markdown(lines: list[dict[str, Any]]) -> str:
    """The table over several comparisons."""
    head = ["A / B", "comparisons", "geometric mean", "worst", "Wilcoxon p"]
    cells = [head, ["---"] * len(head)]
    for line in lines:
        numbers = (f"{line[key]:.3f}" for key in ("mean", "worst", "p"))
        cells.append([line["name"], str(line["count"]), *numbers])
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


_FLAGS = {
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
}


def _cpu_info() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _cpu_name() -> str:
    return _cpu_info().get("model name") or platform.processor() or platform.machine()


def _stat(stat: Stat | None, form: str) -> str:
    if stat is None:
        return "-"
    middle, low, high = (form.format(value) for value in stat)
    return middle if low == high else f"{middle} [{low}, {high}]"


def _model_name(name: str, sides: dict[str, str]) -> str:
    if name.startswith("plain "):
        return f"{sides[name.removeprefix('plain ')]}, plain int8"
    return sides.get(name, name)


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", "<br>")
