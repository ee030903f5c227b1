"""Is the drop real? Many searches over models, setups, limits and splits, each checked in fresh processes.

`python -m benchmarks.studies.guarantee --runs 60` searches, scores every saved model and its float model again in
other processes, and counts results beyond the limit: there must be none. `--only LABEL` repeats one run.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.studies.hard import names
from benchmarks.studies.output import grid, say, stored_runs, write_json
from benchmarks.studies.runs import Run, Runs, grid_of_runs

TASKS = ("demo", "efflite0", "minilm", "ocr-rec", "ocr-cls")
LIMITS = (0.0, 0.001, 0.002, 0.005)
SETUPS = ("minmax", "clipped", "coarse")
Record = dict[str, Any]


def problems(record: Record) -> list[str]:
    """What is wrong with a run; empty when every promise held."""
    if "failed" in record:
        return [f"failed: {record['failed'].splitlines()[-1]}"]
    notes = record["notes"]
    found = []
    if record["drop"] > record["max_drop"]:
        found.append(f"drop {record['drop']:.6g} beyond the limit")
    if notes["metric"] != record["result"]["metric"] or notes["float_metric"] != record["float"]["metric"]:
        found.append(f"reported {notes['metric']!r}, measured again {record['result']['metric']!r}")
    if not notes["reached"] and record["result"]["metric"] != record["float"]["metric"]:
        found.append("said to be the float model, but scores differently")
    return found


def summarize(records: Sequence[Record]) -> dict[str, Any]:
    """Counts over some runs."""
    ran = [r for r in records if "failed" not in r]
    reached = [r for r in ran if r["notes"]["reached"]]
    int8_failed = [r for r in ran if (r["notes"]["int8_drop"] or 0.0) > r["max_drop"]]
    held_out = [r for r in reached if r["held_out_drop"] > r["max_drop"]]
    return {
        "runs": len(records),
        "failed": len(records) - len(ran),
        "int8_beyond": len(int8_failed),
        "searched": sum(r["notes"]["searched"] for r in ran),
        "reached": len(reached),
        "violations": sum(r["drop"] > r["max_drop"] for r in ran),
        "problems": sum(bool(problems(r)) for r in records),
        "held_out_violations": len(held_out),
        "held_out_excess": _mean([r["held_out_drop"] - r["max_drop"] for r in held_out]),
        "validations": _mean([r["notes"]["validations"] for r in ran if r["notes"]["searched"]]),
        "most_validations": max((r["notes"]["validations"] for r in ran), default=0.0),
        "compiles": _mean([r["compiles"] for r in ran if r["notes"]["searched"]]),
        "kept_float": _mean([r["notes"]["kept_float"] for r in reached if r["notes"]["searched"]]),
        "seconds": _mean([r["notes"]["seconds"] for r in ran]),
    }


def show(data: dict[str, Any]) -> str:
    """The tables as Markdown."""
    records = data["runs"]
    groups = {"all": records}
    for key in ("task", "setup", "max_drop"):
        for value in sorted({r[key] for r in records}):
            groups[f"{key} {value}"] = [r for r in records if r[key] == value]
    columns = {
        "runs": "runs",
        "plain int8 beyond": "int8_beyond",
        "searched": "searched",
        "8-bit result": "reached",
        "**beyond the limit**": "violations",
        "other problems": "problems",
        "held out beyond": "held_out_violations",
        "by, mean": "held_out_excess",
        "validations, mean": "validations",
        "most": "most_validations",
        "compiles": "compiles",
        "ops kept float": "kept_float",
        "seconds": "seconds",
    }
    rows = []
    for name, group in groups.items():
        summary = summarize(group)
        summary["problems"] -= summary["violations"]
        rows.append([name, *(_cell(summary[key]) for key in columns.values())])
    text = [grid(["", *columns], rows), ""]
    text.append("Validations, compiles and ops kept float are means over the runs that searched.")
    for record in records:
        text += [f"- `--only {record['label']}`: {problem}" for problem in problems(record)]
    return "\n".join(text)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:d}" if isinstance(value, int) else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; exits with 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--setups", nargs="+", choices=names(), default=list(SETUPS))
    parser.add_argument("--limits", nargs="+", type=float, default=list(LIMITS))
    parser.add_argument("--items", type=int, default=0, help="at most so many items of each kind; 0 for all")
    parser.add_argument("--only", metavar="LABEL", help="the one run with this label")
    parser.add_argument("--resume", action="store_true", help="keep the stored runs that have the same label")
    parser.add_argument("--name", default="guarantee", help="of the result file")
    chosen = parser.parse_args(arguments)
    picked: list[Run] = list(grid_of_runs(chosen.tasks, chosen.setups, chosen.limits, chosen.runs, chosen.items))
    if chosen.only:
        picked = [run for run in picked if run.label == chosen.only]
        if not picked:
            parser.error(f"no run of this grid is called {chosen.only}; give the same --runs, --tasks and --setups")
    known = {r["label"]: r for r in stored_runs(chosen.name)} if chosen.resume else {}
    runs, records = Runs(chosen.name), []
    for number, run in enumerate(picked, 1):
        record = known.get(run.label)
        if record is None or record["limit"] != run.limit or "failed" in record:
            record = runs.carry_out(run)
        records.append(record)
        say(f"{number}/{len(picked)} {run.label}: {_line(record)}")
        write_json(chosen.name, {"runs": records, "summary": summarize(records)})
    print(show({"runs": records}))
    raise SystemExit(any(problems(record) for record in records))


def _line(record: Record) -> str:
    if bad := problems(record):
        return "; ".join(bad)
    notes = record["notes"]
    int8 = "not scored" if notes["int8_drop"] is None else f"{notes['int8_drop']:.4f}"
    return (
        f"int8 drop {int8}, result {record['drop']:.4f}, held out {record['held_out_drop']:.4f}, "
        f"{notes['validations']:.3g} validations, {notes['kept_float']} ops float, {notes['stop_reason']}"
    )


if __name__ == "__main__":
    main()
