"""The comparison of two tools: rounds in alternating order, every step in a fresh process, nothing lost."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.child import Outcome, run_child
from benchmarks.peers import WANT_PER_ITEM
from benchmarks.task import cache_folder, load_task

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """One comparison.

    Attributes:
        task: Name of the task.
        tool: The side called A.
        peer: The side called B.
        mode: `quantize` or `control`.
        max_drop: The allowed absolute drop, in mode `control`.
        rounds: How often both sides run.
        seed: Seed of the split of the items.
        vary_split: Another split every round.
        swap: Side B starts the first round.
        per_item: Give both sides a validation function that returns values per item; None: if B wants it.
        precision: `INFERENCE_PRECISION_HINT`; empty for the runtime's own choice.
        arguments: `model_type` and `preset` for both sides.
        limit_seconds: A child process that takes longer is stopped and reported.
        blocks: Latency blocks per model, hint and round; 0 for no timing.
        runs: Inferences per block.
        limit: At most so many items of each kind; 0 for all.
    """

    task: str
    tool: str = "maxdrop"
    peer: str = "nncf"
    mode: str = "quantize"
    max_drop: float = 0.01
    rounds: int = 3
    seed: int = 0
    vary_split: bool = False
    swap: bool = False
    per_item: bool | None = None
    precision: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    limit_seconds: float = 2400.0
    blocks: int = 10
    runs: int = 100
    limit: int = 0

    @property
    def config(self) -> dict[str, str]:
        """The compile configuration for both sides and for the scoring."""
        return {"INFERENCE_PRECISION_HINT": self.precision} if self.precision else {}

    @property
    def sides(self) -> dict[str, str]:
        """A and B, and the tools that they are."""
        return {"A": self.tool, "B": self.peer}

    def label(self) -> str:
        """A file name for the results."""
        peers = f"{self.tool}-vs-{self.peer}".replace(":", ".")
        drop = f"-{self.max_drop:g}" if self.mode == "control" else ""
        arguments = "".join(f"-{value}" for value in self.arguments.values())
        swap = "-swapped" if self.swap else ""
        return f"{self.task.replace(':', '.')}-{self.mode}{drop}{arguments}-{peers}{swap}"


class Comparison:
    """Runs the rounds of one comparison and keeps what came out of each."""

    def __init__(
        self,
        options: Options,
        results: Path,
        say: Say,
        plain: bool = True,
        given_up: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a comparison.

        Args:
            options: what is compared.
            results: folder for the JSON file.
            say: prints progress.
            plain: in mode `control`, also time the plain int8 model of both sides.
            given_up: sides that are not run at all, and why.
        """
        self.options = options
        self.with_plain = plain and options.mode == "control"
        self.work = cache_folder() / "runs" / options.label()
        self.work.mkdir(parents=True, exist_ok=True)
        self.results = results
        self.say = say
        self.rounds: list[dict[str, Any]] = []
        self._plain: dict[tuple[str, int], dict[str, Any]] = {}
        self._float: dict[int, dict[str, Any]] = {}
        self.given_up = dict(given_up or {})

    def run(self) -> dict[str, Any]:
        """Runs all rounds; the results so far are written after every one."""
        options = self.options
        self.model = load_task(options.task).model()  # built here once, so that no side pays for it
        for number in range(options.rounds):
            self.rounds.append(self._round(number))
            self._write()
        return self.as_dict()

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        task = load_task(self.options.task)
        return {
            "options": asdict(self.options),
            "task": {"name": task.name, "metric": task.metric},
            "rounds": self.rounds,
        }

    def _round(self, number: int) -> dict[str, Any]:
        options = self.options
        seed = options.seed + (number if options.vary_split else 0)
        order = ["A", "B"] if (number % 2 == 0) != options.swap else ["B", "A"]
        row: dict[str, Any] = {"round": number, "seed": seed, "order": order}
        if seed not in self._float:
            self._float[seed] = self._judged(f"float-{seed}", self.model, seed)
        row["float"] = self._float[seed]
        for side in order:
            row[side] = self._side(side, number, seed)
        if self.with_plain:
            row["plain"] = {side: self._plain_model(side, seed) for side in order}
        row["latency"] = self._latency(row, number, seed)
        same = {row[side].get("data_digest") for side in order if row[side]["status"] == "ok"}
        if len(same) > 1:
            raise RuntimeError("both sides must get the same items, but their hashes differ")
        return row

    def _side(self, side: str, number: int, seed: int) -> dict[str, Any]:
        tool = self.options.sides[side]
        if side in self.given_up:
            return Outcome("skipped", message=self.given_up[side]).as_dict()
        self.say(f"round {number + 1} side {side}: {tool} {self.options.mode} {self.options.task}")
        row = self._tool(f"{side}-{number}", tool, self.options.mode, seed)
        self.say(f"  {row['status']}: {row.get('seconds', row['elapsed']):.1f} s {row['message']}")
        if row["status"] == "timeout":
            self.given_up[side] = f"{row['message']} in round {number + 1}, not repeated"
        return row

    def _tool(self, name: str, tool: str, mode: str, seed: int) -> dict[str, Any]:
        options = self.options
        per_item = bool({options.tool, options.peer} & WANT_PER_ITEM)
        model = self.work / f"{name}.xml"
        spec = {
            **self._spec("tool", seed),
            "tool": tool,
            "mode": mode,
            "max_drop": options.max_drop,
            "per_item": per_item if options.per_item is None else options.per_item,
            "arguments": options.arguments,
            "model_out": str(model),
        }
        made = run_child(name, spec, self.work, options.limit_seconds)
        row = {**made.as_dict(), **made.record, "model": str(model)}
        del row["record"]
        if made.status == "ok":
            row |= self._judged(f"{name}-judge", model, seed)
        return row

    def _judged(self, name: str, model: Path, seed: int) -> dict[str, Any]:
        spec = {**self._spec("judge", seed), "model": str(model)}
        outcome = run_child(name, spec, self.work, self.options.limit_seconds)
        status = "ok" if outcome.status == "ok" else "wrong"
        return {"status": status, "message": outcome.message, **outcome.record}

    def _plain_model(self, side: str, seed: int) -> dict[str, Any]:
        """The side's own plain int8 model, made once per split; the yardstick for latency in mode control."""
        tool = self.options.sides[side]
        if (tool, seed) not in self._plain:
            self.say(f"  plain int8 of {tool}")
            name = f"plain-{side}-{seed}"
            self._plain[tool, seed] = self._tool(name, tool, "quantize", seed)
        return self._plain[tool, seed]

    def _latency(self, row: dict[str, Any], number: int, seed: int) -> dict[str, Any]:
        options = self.options
        models = {"float": str(self.model)}
        candidates = {"A": row["A"], "B": row["B"]}
        candidates |= {f"plain {side}": plain for side, plain in row.get("plain", {}).items()}
        models |= {name: each["model"] for name, each in candidates.items() if each["status"] == "ok"}
        if not options.blocks:
            return {}
        self.say(f"  latency of {', '.join(models)}")
        spec = {
            **self._spec("latency", seed),
            "models": models,
            "blocks": options.blocks,
            "runs": options.runs,
        }
        outcome = run_child(f"latency-{number}", spec, self.work, options.limit_seconds)
        return outcome.record if outcome.status == "ok" else {"failed": outcome.message}

    def _spec(self, kind: str, seed: int) -> dict[str, Any]:
        options = self.options
        common = {"kind": kind, "task": options.task, "seed": seed}
        return {**common, "config": options.config, "limit": options.limit}

    def _write(self) -> None:
        self.results.mkdir(parents=True, exist_ok=True)
        path = self.results / f"{self.options.label()}.json"
        path.write_text(json.dumps(self.as_dict(), indent=1))
