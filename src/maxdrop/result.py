"""What accuracy control returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maxdrop.data.plan import Arrays, QuantizationPlan, save_plan
from maxdrop.data.protocols import Backend
from maxdrop.data.trace import Note, Trace
from maxdrop.report.facts import RESULT_NOTE, result_note
from maxdrop.search.speed import Comparison


@dataclass(frozen=True, repr=False)
class AccuracyControlResult:
    """The fastest model within the limit, and how it was found.

    Attributes:
        model: same type as the input; exported, re-read and scored by the validation function.
        reached: False when the float model is all that passes.
        stop_reason: why the search ended.
        metric: of `model`, as the validation function returned it.
        float_metric: of the float model.
        drop: in the terms of `drop_type`; positive is worse. With several metrics the largest share of a limit that
            is used up.
        int8_drop: drop of the fully quantized model, None when it was not scored.
        drop_interval: 95 % paired bootstrap interval of the drop; None without per-item values whose mean is the
            metric.
        latency: of the float model against `model` on one sample, with the user's compile configuration.
        plan: what was quantized, and how.
        trace: every candidate that was tried.
        int8_macs_share: share of the multiply-accumulates that the plan runs in int8.
        drop_upper: upper end of the drop's one-sided interval, where `confidence` put the limit on it.
        holdout_drop: drop on the validation items that the search did not see; None without `holdout`, and where a
            relative drop has no meaning because the float model scores 0 on them.
        metrics: of `model` by name, where the validation function returns several.
        float_metrics: the same of the float model.
        drops: of every metric that has a limit, where there are several.
        notes: what limits the trust in the result.
    """

    model: Any
    reached: bool
    stop_reason: str
    metric: float
    float_metric: float
    drop: float
    int8_drop: float | None
    drop_interval: tuple[float, float] | None
    latency: Comparison
    plan: QuantizationPlan
    arrays: Arrays
    trace: Trace
    backend: Backend[Any]
    int8_macs_share: float
    drop_upper: float | None = None
    holdout_drop: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    float_metrics: dict[str, float] = field(default_factory=dict)
    drops: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line: the fields hold thousands of numbers."""
        return (
            f"<AccuracyControlResult reached={self.reached} metric={self.metric:.6g} drop={self.drop:.6g} "
            f"speedup={self.speedup:.2f} int8_ops={len(self.plan.int8_ops)} float_ops={len(self.plan.float_ops)} "
            f"stop_reason={self.stop_reason!r}>"
        )

    def __str__(self) -> str:
        """What `summary` says."""
        return self.summary()

    @property
    def speedup(self) -> float:
        """Latency of the float model over that of the result."""
        return self.latency.speedup

    @property
    def reverted(self) -> list[str]:
        """Ops that accuracy control keeps in float, in topological order."""
        return [op for op in self.plan.float_ops if op in self.plan.candidate.precisions]

    def summary(self) -> str:
        """A few lines for people."""
        scored = sum(trial.validations for trial in self.trace.trials)
        verdict = "within the limit" if self.reached else "this is the float model"
        lines = [
            *self._metric_lines(verdict),
            f"latency     {self.latency.seconds * 1e3:.3f} ms (float {self.latency.float_seconds * 1e3:.3f} ms), "
            f"{self.speedup:.2f}x as fast ({self.latency.interval[0]:.2f} to {self.latency.interval[1]:.2f})",
            f"int8        {len(self.plan.int8_ops)} ops; float {len(self.plan.float_ops)}, "
            f"{len(self.reverted)} of them for accuracy",
            f"validations {scored:.3g}; {self.stop_reason}",
        ]
        lines += [f"note        {note}" for note in self.notes]
        lines += [f"  float: {op}" for op in self.reverted]
        return "\n".join(lines)

    def _metric_lines(self, verdict: str) -> list[str]:
        extra = []
        if self.drop_upper is not None:
            extra.append(f"upper end   {self.drop_upper:.6g} of the drop, which is what is limited")
        if self.holdout_drop is not None:
            extra.append(f"held out    drop {self.holdout_drop:.6g} on items that the search did not see")
        if self.drops:
            both = {name: f"{self.metrics[name]:.6g} (float {self.float_metrics[name]:.6g})" for name in self.drops}
            return [f"{name:<11} {both[name]}, drop {drop:.6g}: {verdict}" for name, drop in self.drops.items()] + extra
        interval = self.drop_interval
        span = "" if interval is None else f" (95 % interval {interval[0]:.4g} to {interval[1]:.4g})"
        first = f"metric      {self.metric:.6g} (float {self.float_metric:.6g}), drop {self.drop:.6g}{span}: {verdict}"
        return [first, *extra]

    def save(self, folder: str | Path) -> Path:
        """Write model, plan, trace and report to `folder`, and return the model's path."""
        from maxdrop.report.page import write_report  # draws with matplotlib, which takes a second to import

        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        path = target / "model.xml"
        self.backend.save(self.model, path)
        save_plan(self.plan, self.arrays, target / "plan.json")
        if RESULT_NOTE not in self.trace.notes:
            self.trace.add(self._note())
        self.trace.copy_to(target / "trace.jsonl")
        write_report(target)
        return path

    def _note(self) -> Note:
        return result_note(
            stop_reason=self.stop_reason,
            float_seconds=self.latency.float_seconds,
            seconds=self.latency.seconds,
            speedup=self.speedup,
            speedup_interval=self.latency.interval,
            drop_interval=self.drop_interval,
            int8_macs_share=self.int8_macs_share,
            holdout_drop=self.holdout_drop,
            remarks=self.notes,
        )
