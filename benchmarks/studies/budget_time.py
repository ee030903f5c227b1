"""Does a time budget hold, and does more time never give a worse model?

`python -m benchmarks.studies.budget_time efflite0 --budgets 10,30,60` searches once for each budget, in fresh
processes. Each must return within the budget and one evaluation, the time to build and to time the result included.
What no budget can cut short is let pass: calibration, the float model's score and the result, where nothing else ran.
"""

import argparse
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from benchmarks.studies.guarantee import problems
from benchmarks.studies.hard import names
from benchmarks.studies.output import grid, say, write_json
from benchmarks.studies.runs import Run, Runs

_SLACK = 1e-9


def check(records: Sequence[dict[str, Any]]) -> list[str]:
    """What is wrong with runs in the order of their budgets."""
    found = [f"{r['time_budget']:g} s: {problem}" for r in records for problem in problems(r)]
    ran = [r for r in records if "failed" not in r]
    for record in ran:
        notes = record["notes"]
        late = overrun(record) - notes["longest_trial"]
        if late > 0.0 and notes["scored_int8"]:
            found.append(
                f"{record['time_budget']:g} s: returned {late:.1f} s later than one evaluation after the budget"
            )
    for less, more in pairwise(ran):
        if more["notes"]["given_away"] > less["notes"]["given_away"] + _SLACK:
            found.append(f"{more['time_budget']:g} s gave a slower model than {less['time_budget']:g} s")
    return found


def overrun(record: dict[str, Any]) -> float:
    """Seconds from the end of the budget to the return; below 0 when there was time left."""
    return float(record["notes"]["seconds"] - record["time_budget"])


def show(data: dict[str, Any]) -> str:
    """The table as Markdown."""
    rows = []
    for record in data["runs"]:
        if "failed" in record:
            rows.append([f"{record['time_budget']:g}", "failed", *[""] * 8])
            continue
        notes = record["notes"]
        rows.append(
            [
                f"{record['time_budget']:g}",
                f"{notes['seconds']:.1f}",
                f"{overrun(record):+.1f}",
                f"{notes['longest_trial']:.1f}",
                f"{notes['seconds_after_last_score']:.1f}",
                str(notes["candidates"]),
                "8-bit" if notes["reached"] else "float",
                f"{record['drop']:.4f}",
                f"{notes['given_away']:.1%}",
                notes["stop_reason"],
            ]
        )
    head = ["budget, s", "took", "after the budget", "longest evaluation", "after the last score", "candidates"]
    head += ["result", "drop", "time given away", "ended because"]
    return "\n".join([grid(head, rows), "", *(f"- {problem}" for problem in data["problems"])])


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; exits with 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--budgets", default="10,30,60", help="seconds, comma-separated")
    parser.add_argument("--max-drop", type=float, default=0.002)
    parser.add_argument("--setup", choices=names(), default="clipped")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--items", type=int, default=0, help="at most so many items of each kind; 0 for all")
    chosen = parser.parse_args(arguments)
    budgets = sorted(float(text) for text in chosen.budgets.split(","))
    name = f"budget-time-{chosen.task.replace(':', '.')}-{chosen.setup}-{chosen.max_drop:g}"
    runs, records = Runs(name), []
    for budget in budgets:
        run = Run(chosen.task, chosen.setup, chosen.max_drop, chosen.seed, budget, limit=chosen.items)
        records.append(runs.carry_out(run))
        say(f"{run.label} done")
    data = {"runs": records, "problems": check(records)}
    write_json(name, data)
    print(show(data))
    raise SystemExit(bool(data["problems"]))


if __name__ == "__main__":
    main()
