"""The parent's side of a controlled run: search in one fresh process, score what was saved in others."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.child import run_child
from benchmarks.task import cache_folder, load_task

_TOOLS = {"maxdrop": "control", "nncf": "control_with_nncf"}


@dataclass(frozen=True)
class Run:
    """One search.

    Attributes:
        task: its name.
        setup: how int8 is made; see `hard`.
        max_drop: the allowed absolute drop.
        seed: of the split of the items and of the search.
        time_budget: seconds; 0 for no limit.
        calibration: number of items that set the ranges.
        limit: at most so many items of each kind, to try things out; 0 for all.
    """

    task: str
    setup: str
    max_drop: float
    seed: int
    time_budget: float = 0.0
    calibration: int = 64
    limit: int = 0

    @property
    def label(self) -> str:
        """Names the run, and its folder."""
        budget = f"-{self.time_budget:g}s" if self.time_budget else ""
        return f"{self.task.replace(':', '.')}-{self.setup}-{self.max_drop:g}-{self.seed}{budget}"


class Runs:
    """Carries out runs, and remembers the float model's scores, which several of them need.

    Args:
        name: of the study; its files are kept under it.
        limit_seconds: a process that takes longer is stopped.
        tool: who searches, `maxdrop` or `nncf`.
    """

    def __init__(self, name: str, limit_seconds: float = 3600.0, tool: str = "maxdrop") -> None:
        self._folder = cache_folder() / "studies" / name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._limit_seconds = limit_seconds
        self._tool = f"benchmarks.studies.controlled:{_TOOLS[tool]}"
        self._float: dict[tuple[str, int, int], dict[str, Any]] = {}

    def folder(self, run: Run) -> Path:
        """What the search saved."""
        return self._folder / run.label

    def carry_out(self, run: Run) -> dict[str, Any]:
        """Search, then score the saved model and the float model, each in a process of its own.

        The record has the tool's own notes, and `drop` and `held_out_drop` as they were measured again. A process
        that fails leaves a `failed` with its message instead.
        """
        key = (run.task, run.seed, run.limit)
        if key not in self._float:
            path = load_task(run.task).model()
            self._float[key] = self._judge(f"{run.task.replace(':', '.')}-float-{run.seed}", path, run)
        floating = self._float[key]
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        arguments = {
            "setup": run.setup,
            "seed": str(run.seed),
            "folder": str(folder),
            "calibration": str(run.calibration),
            "time_budget": str(run.time_budget),
        }
        spec = {
            **self._spec("tool", run),
            "tool": self._tool,
            "mode": "control",
            "max_drop": run.max_drop,
            "per_item": True,
            "arguments": arguments,
            "model_out": str(folder / "returned.xml"),
        }
        made = run_child(run.label, spec, self._folder, self._limit_seconds)
        result = self._judge(f"{run.label}-judge", folder / "model.xml", run) if made.status == "ok" else {}
        record = {**asdict(run), "label": run.label}
        failures = [made.message if made.status != "ok" else "", floating.get("failed"), result.get("failed")]
        if any(failures):
            return record | {"failed": "; ".join(text for text in failures if text)}
        counts = {name: made.record[name] for name in ("compiles", "own_forwards", "sample_evaluations")}
        return {
            **record,
            **counts,
            "notes": made.record["notes"],
            "float": floating,
            "result": result,
            "drop": floating["metric"] - result["metric"],
            "held_out_drop": floating["held_out"] - result["held_out"],
        }

    def _judge(self, name: str, model: Path, run: Run) -> dict[str, Any]:
        spec = {**self._spec("judge", run), "model": str(model)}
        outcome = run_child(name, spec, self._folder, self._limit_seconds)
        if outcome.status != "ok":
            return {"failed": f"{name}: {outcome.status}: {outcome.message}"}
        wanted = ("metric", "held_out", "items", "held_out_items")
        return {key: outcome.record[key] for key in wanted} | {"int8_share": outcome.record["coverage"]["int8_share"]}

    def _spec(self, kind: str, run: Run) -> dict[str, Any]:
        return {"kind": kind, "task": run.task, "seed": run.seed, "config": {}, "limit": run.limit}


def grid_of_runs(tasks: list[str], setups: list[str], limits: list[float], count: int, limit: int = 0) -> Iterator[Run]:
    """The first `count` runs over tasks and limits; every further seed takes the next setup."""
    seed = made = 0
    while made < count:
        for max_drop in limits:
            for task in tasks:
                if made < count:
                    yield Run(task, setups[seed % len(setups)], max_drop, seed, limit=limit)
                    made += 1
        seed += 1
