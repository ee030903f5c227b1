"""Could an op that was kept float for accuracy have been int8? Tries every single one and every block on all items.

`python -m benchmarks.studies.minimality TASK --max-drop X` searches, then quantizes the ops again that the search left
float: each alone, and each run of neighbours in the order in which the search gives ops back. What passes although the
search says that it was complete was missed. A search that ended by its budget, or because it expected too little from
going on, says so; what passes then is left over, not missed.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import maxdrop as md
from benchmarks.studies.hard import control_arguments, names, quantize_options
from benchmarks.studies.output import grid, say, write_json
from benchmarks.task import Task, cache_folder, load_task
from maxdrop.data.plan import Candidate, load_plan
from maxdrop.data.spec import Precision
from maxdrop.data.statistics import Statistics
from maxdrop.data.trace import Trial, read_trace
from maxdrop.preparation import open_and_resolve
from maxdrop.ptq.build import Planner
from maxdrop.search.loop import COMPLETE

_REVERTED = (Precision.FLOAT, Precision.INT8_WEIGHTS)


@dataclass(frozen=True)
class Attempt:
    """Some ops that the search kept float, quantized again.

    Attributes:
        ops: in the order in which the search gives ops back.
        drop: on all validation items.
        passes: whether that is within the limit.
        seen: what the search knew of this candidate: the state of its trial, or `not tried`.
        worth: share of the model's time that the search expected from it, before any chance of failure.
    """

    ops: tuple[str, ...]
    drop: float
    passes: bool
    seen: str
    worth: float


def search(
    task: Task,
    setup: str,
    max_drop: float,
    seed: int,
    items: int,
    folder: Path,
    max_validations: int | None = None,
    calibration: int = 64,
) -> None:
    """One search whose files are left in `folder`; validation uses the first `items`, or all."""
    split = task.split(seed)
    md.control_accuracy(
        str(task.model()),
        md.Dataset(split.calibration[:calibration], task.transform),
        md.Dataset(_validation(task, seed, items), task.transform),
        task.validate,
        max_drop=max_drop,
        seed=seed,
        max_validations=max_validations,
        output_dir=folder,
        progress=False,
        **control_arguments(setup),
    )


def examine(task: Task, setup: str, seed: int, items: int, folder: Path, max_blocks: int) -> dict[str, Any]:
    """Quantize again what the finished search in `folder` left float; for JSON."""
    plan, _ = load_plan(folder / "plan.json")
    header, trials, notes = read_trace(folder / "trace.jsonl")
    limit = float(header["settings"]["criterion"]["max_drop"])
    prepared = open_and_resolve(str(task.model()), quantize_options(setup))
    planner = Planner(prepared.graph, plan.policy, Statistics.load(folder / "stats.npz"))
    if planner(plan.candidate).key() != plan.key():
        raise RuntimeError("the plan cannot be made again from its own statistics; was it made by another version?")
    validation = _validation(task, seed, items)

    def metric(model: Any) -> float:
        return float(task.validate(prepared.backend.compile(model, {}), validation)[0])

    floating = metric(prepared.model)
    kept = [op for op, precision in plan.candidate.precisions.items() if precision in _REVERTED]
    ranked = notes.get("retuned", {}) if plan.policy.tuned else notes
    sensitivity, gain = ranked.get("sensitivity", {}), notes.get("gain", {})
    kept.sort(key=lambda op: (sensitivity.get(op, 0.0) / (gain.get(op, 0.0) + 1e-9), op))
    attempts = []
    for ops in _sets(kept, max_blocks):
        candidate = plan.candidate.with_precision(dict.fromkeys(ops, Precision.INT8))
        built = planner(candidate)
        drop = floating - metric(prepared.backend.apply(prepared.model, built, planner.arrays))
        worth = sum(gain.get(op, 0.0) for op in ops)
        attempts.append(Attempt(ops, drop, drop <= limit, _seen(trials, built.key()), worth))
        say(f"  {len(ops)} ops: drop {drop:.5f}{' PASSES' if drop <= limit else ''}")
    stop = str(notes.get("result", {}).get("stop_reason", ""))
    return {
        "task": task.name,
        "setup": setup,
        "seed": seed,
        "max_drop": limit,
        "kept": kept,
        "stop_reason": stop,
        "verdict": _verdict(stop),
        "validations": sum(t.validations for t in trials),
        "chosen_drop": _chosen_drop(trials, plan.candidate),
        "attempts": [asdict(attempt) for attempt in attempts],
        "missed": [list(a.ops) for a in attempts if a.passes and _verdict(stop) == "complete"],
        "left_over": [list(a.ops) for a in attempts if a.passes and _verdict(stop) != "complete"],
        "largest_left_over": max((a.worth for a in attempts if a.passes), default=0.0),
    }


def show(data: dict[str, Any]) -> str:
    """The table as Markdown."""
    attempts = sorted(data["attempts"], key=lambda a: (not a["passes"], len(a["ops"]), a["drop"]))
    rows = [
        [
            f"{len(a['ops'])}: {a['ops'][0]}" + (f" .. {a['ops'][-1]}" if len(a["ops"]) > 1 else ""),
            f"{a['drop']:.5f}",
            "**yes**" if a["passes"] else "no",
            a["seen"],
            f"{a['worth']:.1%}",
        ]
        for a in attempts
    ]
    singles = sum(len(a["ops"]) == 1 for a in attempts)
    passing = {len(a["ops"]) == 1: 0 for a in attempts}
    for a in attempts:
        passing[len(a["ops"]) == 1] += a["passes"]
    head = [
        f"### {data['task']}, setup `{data['setup']}`, max_drop {data['max_drop']:g}, seed {data['seed']}",
        "",
        f"The search kept {len(data['kept'])} ops float in {data['validations']:.3g} validations and ended because:"
        f" {data['stop_reason']}.",
        f"Quantized again: {singles} single ops, of which {passing.get(True, 0)} pass; "
        f"{len(attempts) - singles} blocks, of which {passing.get(False, 0)} pass."
        f" Missed: {len(data['missed'])}; left over by a search that ended early: {len(data['left_over'])}, the largest"
        f" {data['largest_left_over']:.1%} of the time.",
        "",
    ]
    return "\n".join(head) + grid(["ops", "drop", "passes", "the search", "share of the time"], rows[:40])


def _validation(task: Task, seed: int, items: int) -> Sequence[Any]:
    validation = task.split(seed).validation
    return validation[:items] if items else validation


def _sets(kept: Sequence[str], max_blocks: int) -> list[tuple[str, ...]]:
    """Every op alone, then every run of neighbours but the whole, the shortest first."""
    runs = [tuple(kept[start : start + size]) for size in range(2, len(kept)) for start in range(len(kept) - size + 1)]
    return [(op,) for op in kept] + runs[:max_blocks]


def _verdict(stop_reason: str) -> str:
    """`complete`, `not worth it` where too little was expected from going on, or `ended early`."""
    if stop_reason == COMPLETE:
        return "complete"
    return "not worth it" if stop_reason.startswith(COMPLETE) else "ended early"


def _seen(trials: Sequence[Trial], key: str) -> str:
    for trial in trials:
        if trial.plan_key == key:
            evidence = f" ({trial.evidence.test})" if trial.evidence is not None else ""
            return f"{trial.state}{evidence}"
    return "not tried"


def _chosen_drop(trials: Sequence[Trial], candidate: Candidate) -> float | None:
    return next((t.drop for t in trials if t.candidate == candidate), None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; exits with 1 when something was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--max-drop", type=float, default=0.005)
    parser.add_argument("--setup", choices=names(), default="clipped")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--items", type=int, default=0, help="validation items; 0 for all")
    parser.add_argument("--max-validations", type=int, help="of the search; more lets it come to its end")
    parser.add_argument("--max-blocks", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="of a search that this script made; none starts a new one")
    chosen = parser.parse_args(arguments)
    task = load_task(chosen.task)
    label = f"minimality-{chosen.task.replace(':', '.')}-{chosen.setup}-{chosen.max_drop:g}-{chosen.seed}"
    folder = chosen.folder or cache_folder() / "studies" / label
    if chosen.folder is None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        say(f"searching: {label}")
        search(task, chosen.setup, chosen.max_drop, chosen.seed, chosen.items, folder, chosen.max_validations)
    data = examine(task, chosen.setup, chosen.seed, chosen.items, folder, chosen.max_blocks)
    write_json(label, data)
    print(show(data))
    raise SystemExit(bool(data["missed"]))


if __name__ == "__main__":
    main()
