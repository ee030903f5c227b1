"""One row for each comparison: what a reader wants to know first."""

from collections.abc import Sequence
from typing import Any

from benchmarks.report import title

_RATIOS = {
    "wall time": "wall time of the call, s",
    "CPU time": "CPU time of the call, s",
    "sample evaluations": "sample evaluations",
    "peak memory": "peak memory, MB",
}
_BOTH = {"drop": "drop", "drop, held out": "drop on held-out items", "SQNR, dB": "output SQNR, dB"}
_HINTS = ("LATENCY", "THROUGHPUT")


def brief_markdown(comparisons: Sequence[dict[str, Any]]) -> str:
    """A Markdown table with the ratios A / B, and with drop and SQNR of A and of B.

    Args:
        comparisons: results with their summaries.
    """
    head = ["", *_RATIOS, *_BOTH, *(f"{what}, {hint}" for hint in _HINTS for what in ("A / B", "A / float"))]
    rows = [head, ["---"] * len(head), *(_row(data) for data in comparisons)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _row(data: dict[str, Any]) -> list[str]:
    lines = {line["name"]: line for line in data["summary"]["measures"]}
    ratios = [_ratio(lines[name]["ratio"]) for name in _RATIOS.values()]
    both = [" / ".join(_middle(lines[name][side], lines[name]["form"]) for side in "AB") for name in _BOTH.values()]
    of_a = {line["hint"]: line for line in data["summary"]["latencies"] if line["model"] == "A"}
    speeds = [_ratio(of_a.get(hint, {}).get(key)) for hint in _HINTS for key in ("to_B", "to_float")]
    return [title(data), *ratios, *both, *speeds]


def _ratio(stat: Sequence[float] | None) -> str:
    return "-" if not stat else "{:.2f} [{:.2f}, {:.2f}]".format(*stat)


def _middle(stat: Sequence[float] | None, form: str) -> str:
    return form.format(stat[0]) if stat and stat[0] == stat[0] else "-"
