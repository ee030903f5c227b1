"""What a report says: read from plan.json, trace.jsonl and, where it is present, stats.npz."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from maxdrop.data.plan import QuantizationPlan, load_plan
from maxdrop.data.spec import Precision
from maxdrop.data.statistics import Statistics
from maxdrop.data.trace import Note, Trial, read_trace
from maxdrop.errors import TraceError

RESULT_NOTE = "result"

Outcome = Literal["reached", "not reached", "unfinished"]


@dataclass(frozen=True)
class QuantizedValue:
    """One quantizer of an activation: the range it covers, and the range that calibration saw."""

    value: str
    scheme: str
    covers: tuple[float, float]
    seen: tuple[float, float] | None
    serves: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Everything on the page.

    Attributes:
        header: of the trace: versions, model fingerprint, settings.
        trials: every evaluated candidate, in order.
        chosen: the trial of the result; None for the float model and for an unfinished search.
        sensitivity: output error of each op when it alone is int8; empty when the search needed none.
        plan: of the result; None while the search is unfinished.
        measured: the note that `result_note` makes; empty when there is none.
        values: the quantized activations of the plan.
        variants: (int8 families of ops, speed-up over float), where it was measured on what int8 pays.
    """

    header: dict[str, Any]
    trials: list[Trial]
    chosen: Trial | None
    sensitivity: dict[str, float]
    plan: QuantizationPlan | None
    measured: dict[str, Any] = field(default_factory=dict)
    values: tuple[QuantizedValue, ...] = ()
    variants: tuple[tuple[str, float], ...] = ()

    @property
    def max_drop(self) -> float:
        """The limit on the drop of a trial; 1 where several metrics have limits and drops are shares of them."""
        return float(self.header["settings"]["criterion"]["max_drop"])

    @property
    def drop_type(self) -> str:
        """How drops are counted."""
        return str(self.header["settings"]["criterion"]["drop_type"])

    @property
    def float_trial(self) -> Trial | None:
        """The trial of the float model."""
        return next((t for t in self.trials if t.candidate is None and t.state == "complete"), None)

    @property
    def outcome(self) -> Outcome:
        """Whether the result is an int8 model within the limit."""
        if self.plan is None:
            return "unfinished"
        return "reached" if self.chosen is not None and self.passes(self.chosen) else "not reached"

    @property
    def float_ops(self) -> set[str]:
        """The ops that are float in the result."""
        return set(self.plan.float_ops) if self.plan is not None else set()

    @property
    def reverted(self) -> set[str]:
        """The ops that are float for the sake of accuracy."""
        return set(self.plan.candidate.precisions) if self.plan is not None else set()

    def passes(self, trial: Trial) -> bool:
        """Whether the drop of `trial` is within the limit."""
        return trial.state == "complete" and trial.bound is not None and trial.bound <= self.max_drop


def result_note(
    *,
    stop_reason: str,
    float_seconds: float,
    seconds: float,
    speedup: float,
    speedup_interval: tuple[float, float],
    drop_interval: tuple[float, float] | None,
    int8_macs_share: float,
    holdout_drop: float | None = None,
    remarks: Sequence[str] = (),
) -> Note:
    """What a report needs beyond plan and trials; to be appended to the trace at the end of a search.

    Args:
        stop_reason: why the search ended.
        float_seconds: latency of the float model.
        seconds: latency of the result.
        speedup: latency of the float model over that of the result.
        speedup_interval: 95 % interval of it.
        drop_interval: 95 % interval of the drop, None where it is not known.
        int8_macs_share: share of the multiply-accumulates that are int8 in the result.
        holdout_drop: drop on the items that the search did not see, None where there are none.
        remarks: what limits the trust in the result.
    """
    content = {
        "stop_reason": stop_reason,
        "float_seconds": float_seconds,
        "seconds": seconds,
        "speedup": speedup,
        "speedup_interval": speedup_interval,
        "drop_interval": drop_interval,
        "int8_macs_share": int8_macs_share,
        "holdout_drop": holdout_drop,
        "remarks": list(remarks),
    }
    return Note(name=RESULT_NOTE, content=content)


def read_facts(folder: Path) -> Facts:
    """Read the folder of a search, finished or not.

    Raises:
        TraceError: there is no trace in it, or it is damaged.
        PlanError: the plan is of another version.
    """
    path = folder / "trace.jsonl"
    if not path.is_file():
        message = f"the folder of a search must hold trace.jsonl, but {folder} does not; give the folder of `--output`"
        raise TraceError(message)
    header, trials, notes = read_trace(path)
    plan = load_plan(folder / "plan.json")[0] if (folder / "plan.json").is_file() else None
    statistics = Statistics.load(folder / "stats.npz") if (folder / "stats.npz").is_file() else None
    return Facts(
        header=header,
        trials=trials,
        chosen=None if plan is None else _trial_of(plan, trials),
        sensitivity={op: float(error) for op, error in notes.get("sensitivity", {}).items()},
        plan=plan,
        measured=notes.get(RESULT_NOTE, {}),
        values=() if plan is None else tuple(_values(plan, statistics)),
        variants=tuple((v["name"], float(v["speedup"])) for v in notes.get("payoff", {}).get("variants", ())),
    )


def _trial_of(plan: QuantizationPlan, trials: list[Trial]) -> Trial | None:
    key = plan.key()
    return next((t for t in trials if t.state == "complete" and t.plan_key == key), None)


def _values(plan: QuantizationPlan, statistics: Statistics | None) -> list[QuantizedValue]:
    made = []
    for quantizer in plan.quantizers:
        if quantizer.constant:
            continue
        spec, params = quantizer.spec, quantizer.params
        pairs = list(zip(params.scale, params.zero_point, strict=True))
        seen = statistics[quantizer.value] if statistics is not None and quantizer.value in statistics else None
        made.append(
            QuantizedValue(
                value=quantizer.value,
                scheme=f"{spec.dtype} {'symmetric' if spec.symmetric else 'asymmetric'}"
                + (" per channel" if spec.axes else ""),
                covers=(
                    min(scale * (spec.quant_min - zero) for scale, zero in pairs),
                    max(scale * (spec.quant_max - zero) for scale, zero in pairs),
                ),
                seen=None if seen is None else (float(seen.sample_min.min()), float(seen.sample_max.max())),
                serves=tuple(dict.fromkeys(use.node for use in quantizer.serves)),
            )
        )
    return made


def describe(trial: Trial) -> str:
    """What a trial tried, in words."""
    if trial.candidate is None:
        return "the float model"
    kept = sorted(op for op, p in trial.candidate.precisions.items() if p is not Precision.INT8)
    if not kept:
        return "all int8"
    shown = ", ".join(kept[:6]) + (f" and {len(kept) - 6} more" if len(kept) > 6 else "")
    return f"{len(kept)} float: {shown}"


def flat_settings(header: dict[str, Any]) -> list[tuple[str, str]]:
    """Settings and versions as (name, value), the nested ones with dotted names."""
    rows = [(f"version of {name}", str(version)) for name, version in header["versions"].items()]
    rows.append(("fingerprint of the float model", str(header["model"])))
    return rows + list(_flatten("", header["settings"]))


def _flatten(prefix: str, content: dict[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            rows += _flatten(f"{prefix}{key}.", value)
        else:
            rows.append((f"{prefix}{key}", json.dumps(value)))
    return rows
