"""From the rounds of a comparison to medians, spreads and ratios: plain data in, plain data out."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from benchmarks.latency import HINTS, ratio_interval

Row = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """One line of the table: its name, how to read it from a side's row and the float model's, its format."""

    name: str
    read: Callable[[Row, Row], float]
    form: str = "{:.1f}"
    is_cost: bool = True  # only of costs is a ratio worth showing


MEASURES = (
    Measure("wall time of the call, s", lambda side, _: side["seconds"], "{:.2f}"),
    Measure("CPU time of the call, s", lambda side, _: side["cpu_seconds"], "{:.2f}"),
    Measure("validation calls", lambda side, _: side["validation_calls"], "{:.0f}"),
    Measure("sample evaluations", lambda side, _: side["sample_evaluations"], "{:.0f}"),
    Measure("own forwards", lambda side, _: side["own_forwards"], "{:.0f}"),
    Measure("compiles", lambda side, _: side["compiles"], "{:.0f}"),
    Measure("peak memory, MB", lambda side, _: side["peak_bytes"] / 1e6, "{:.0f}"),
    Measure("of it after imports and data, MB", lambda side, _: _added_bytes(side) / 1e6, "{:.0f}"),
    Measure("metric, float", lambda _, base: base["metric"], "{:.4f}", False),
    Measure("metric, result", lambda side, _: side["metric"], "{:.4f}", False),
    Measure("drop", lambda side, base: base["metric"] - side["metric"], "{:.4f}", False),
    Measure("output SQNR, dB", lambda side, _: side.get("sqnr", float("nan")), "{:.1f}", False),
    Measure("drop on held-out items", lambda side, base: base["held_out"] - side["held_out"], "{:.4f}", False),
    Measure("MACs in int8, %", lambda side, _: 100 * side["coverage"]["int8_share"], "{:.1f}", False),
    Measure("float convolutions and products", lambda side, _: len(side["coverage"]["float_ops"]), "{:.0f}", False),
    Measure("file, MB", lambda side, _: side["file_bytes"] / 1e6),
)

Stat = tuple[float, float, float]  # middle, low, high


def measures(data: dict[str, Any]) -> list[dict[str, Any]]:
    """One line per measure: median and spread of both sides, and of the ratio A / B within rounds."""
    lines = []
    for measure in MEASURES:
        values: dict[str, list[float]] = {"A": [], "B": []}
        ratios = []
        for row in data["rounds"]:
            found = {s: measure.read(row[s], row["float"]) for s in "AB" if row[s]["status"] == "ok"}
            for side, value in found.items():
                values[side].append(value)
            if measure.is_cost and len(found) == 2 and found["B"] > 0 and found["A"] > 0:
                ratios.append(found["A"] / found["B"])
        stats = {side: _spread(numbers) for side, numbers in values.items()}
        lines.append({"name": measure.name, "form": measure.form, **stats, "ratio": _spread(ratios)})
    return lines


def latencies(data: dict[str, Any]) -> list[dict[str, Any]]:
    """One line per hint and model: milliseconds, and ratios to float and to plain int8 with intervals."""
    lines = []
    for hint in HINTS:
        pooled: dict[str, list[float]] = {}
        rounds = [row["latency"][hint] for row in data["rounds"] if hint in row["latency"]]
        everywhere = set.intersection(*(set(each) for each in rounds)) if rounds else set()
        for each in rounds:
            for name in each:
                if name in everywhere:  # only paired blocks make a ratio
                    pooled.setdefault(name, []).extend(each[name])
        for name, values in pooled.items():
            line: dict[str, Any] = {"hint": hint, "model": name, "ms": _spread(values)}
            line["to_float"] = ratio_interval(values, pooled["float"])
            if (plain := f"plain {name}") in pooled:
                line["to_plain"] = ratio_interval(values, pooled[plain])
            if name == "A" and "B" in pooled:
                line["to_B"] = ratio_interval(values, pooled["B"])
            lines.append(line)
    return lines


def failures(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Every side of every round that gave no usable model."""
    bad = []
    for row in data["rounds"]:
        sides = {"A": row["A"], "B": row["B"], **{f"plain {s}": p for s, p in row.get("plain", {}).items()}}
        for side, result in sides.items():
            if result["status"] != "ok":
                what = {"status": result["status"], "message": result["message"]}
                bad.append({"round": row["round"], "side": side, **what})
        if "failed" in row["latency"]:
            what = {"status": "latency", "message": row["latency"]["failed"]}
            bad.append({"round": row["round"], "side": "all", **what})
    return bad


def verdicts(data: dict[str, Any]) -> dict[str, Any]:
    """Rounds with a result, how many different results, how many drop too far on validation and held-out items."""
    allowed = data["options"]["max_drop"] + 1e-9
    counted = {}
    for side in "AB":
        good = [(row[side], row["float"]) for row in data["rounds"] if row[side]["status"] == "ok"]
        counted[side] = {
            "rounds": len(good),
            "distinct": len({each["result_digest"] for each, _ in good}),
            "validation": sum(base["metric"] - each["metric"] > allowed for each, base in good),
            "held_out": sum(base["held_out"] - each["held_out"] > allowed for each, base in good),
        }
    return counted


def summarize(data: dict[str, Any]) -> dict[str, Any]:
    """Everything that the tables show."""
    return {
        "measures": measures(data),
        "latencies": latencies(data),
        "failures": failures(data),
        "verdicts": verdicts(data),
    }


def overall(comparisons: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over several comparisons: the geometric mean of the ratios A / B, the worst, and Wilcoxon's p value."""
    ratios: dict[str, list[float]] = {}
    for data in comparisons:
        for line in data["summary"]["measures"]:
            if line["ratio"]:
                ratios.setdefault(line["name"], []).append(line["ratio"][0])
        for line in data["summary"]["latencies"]:
            if "to_B" in line:
                ratios.setdefault(f"latency, hint {line['hint']}", []).append(line["to_B"][0])
    return [_overall_line(name, values) for name, values in ratios.items()]


def _overall_line(name: str, ratios: list[float]) -> dict[str, Any]:
    logs = np.log(np.asarray(ratios, float))
    p_value = float(np.asarray(wilcoxon(logs))[1]) if np.any(logs) else 1.0
    mean = float(np.exp(np.mean(logs)))
    return {"name": name, "count": len(ratios), "mean": mean, "worst": max(ratios), "p": p_value}


def _added_bytes(side: Row) -> float:
    added: float = side["peak_bytes"] - side["memory_before_bytes"]
    return max(0.0, added)


def _spread(values: list[float]) -> Stat | None:
    return (median(values), min(values), max(values)) if values else None
