"""Who overfits the validation items more? NNCF on runs of `guarantee`, counted beside maxdrop's.

`python -m benchmarks.studies.held_out --tasks demo ocr-cls efflite0` hands NNCF the same models, items, limits and
setups, scores what it saved in other processes, and pairs the runs with those that `guarantee` has stored.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.studies.guarantee import LIMITS, SETUPS, TASKS
from benchmarks.studies.hard import names
from benchmarks.studies.output import grid, say, stored_runs, write_json
from benchmarks.studies.runs import Runs, grid_of_runs

Record = dict[str, Any]


def show(ours: Sequence[Record], peers: Sequence[Record]) -> str:
    """The table as Markdown; `ours` may have runs that the peer was not asked for."""
    by_label = {record["label"]: record for record in ours}
    pairs = [(by_label[peer["label"]], peer) for peer in peers if peer["label"] in by_label]
    groups = {"all": pairs}
    for key in ("task", "setup", "max_drop"):
        for value in sorted({peer[key] for _, peer in pairs}):
            groups[f"{key} {value}"] = [pair for pair in pairs if pair[1][key] == value]
    rows = [[name, *_row(group)] for name, group in groups.items()]
    head = ["", "runs", "NNCF without a result", "**held out beyond**: maxdrop", "NNCF", "both"]
    head += ["by, mean: maxdrop", "NNCF", "beyond the limit: maxdrop", "NNCF", "seconds: maxdrop", "NNCF"]
    return "\n".join([grid(head, rows), "", "All but the first two columns are of the runs where both have a result."])


def _row(pairs: Sequence[tuple[Record, Record]]) -> list[str]:
    ended = [pair for pair in pairs if "failed" not in pair[0] and "failed" not in pair[1]]
    beyond = [[_excess(record, "held_out_drop") for record in pair] for pair in ended]
    validated = [[_excess(record, "drop") for record in pair] for pair in ended]
    counts = [sum(pair[side] > 0.0 for pair in beyond) for side in (0, 1)]
    both = sum(min(pair) > 0.0 for pair in beyond)
    excess = [_mean([pair[side] for pair in beyond if pair[side] > 0.0]) for side in (0, 1)]
    violations = [sum(pair[side] > 0.0 for pair in validated) for side in (0, 1)]
    seconds = [_mean([pair[side]["notes"]["seconds"] for pair in ended]) for side in (0, 1)]
    missing = sum("failed" in peer for _, peer in pairs)
    return [*map(str, (len(pairs), missing, *counts, both)), *excess, *map(str, violations), *seconds]


def _excess(record: Record, key: str) -> float:
    return float(record[key] - record["max_drop"])


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3g}" if values else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--setups", nargs="+", choices=names(), default=list(SETUPS))
    parser.add_argument("--limits", nargs="+", type=float, default=list(LIMITS))
    parser.add_argument("--runs", type=int, default=0, help="at most so many; 0 for one of each task, limit and setup")
    parser.add_argument("--minutes", type=float, default=15.0, help="NNCF is stopped after that in each run")
    parser.add_argument("--against", default="guarantee", help="stored runs of maxdrop")
    parser.add_argument("--resume", action="store_true", help="keep the stored runs that have the same label")
    parser.add_argument("--name", default="held-out", help="of the result file")
    chosen = parser.parse_args(arguments)
    count = chosen.runs or len(chosen.tasks) * len(chosen.limits) * len(chosen.setups)
    picked = list(grid_of_runs(chosen.tasks, chosen.setups, chosen.limits, count))
    known = {record["label"]: record for record in stored_runs(chosen.name)} if chosen.resume else {}
    runs, records = Runs(chosen.name, 60.0 * chosen.minutes, "nncf"), []
    for number, run in enumerate(picked, 1):
        record = known.get(run.label) or runs.carry_out(run)
        records.append(record)
        say(f"{number}/{len(picked)} {run.label}: {_line(record)}")
        write_json(chosen.name, {"runs": records, "minutes": chosen.minutes})
    print(show(stored_runs(chosen.against), records))


def _line(record: Record) -> str:
    if "failed" in record:
        return f"no result: {record['failed'].splitlines()[-1]}"
    return f"drop {record['drop']:.4f}, held out {record['held_out_drop']:.4f}, {record['notes']['seconds']:.0f} s"


if __name__ == "__main__":
    main()
