"""What a finished search leaves beside its model: the last note of the trace, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maxdrop.data.trace import read_trace
from maxdrop.report.facts import RESULT_NOTE, result_note
from maxdrop.report.page import write_report
from maxdrop.result import AccuracyControlResult


def finish_report(result: AccuracyControlResult, float_model: Any, folder: Path) -> Path:
    """Write report.html to the folder of a finished search, and return its path.

    Args:
        result: of the search, whose trace lies in `folder`.
        float_model: what the search began with.
        folder: of the search.
    """
    if RESULT_NOTE not in result.trace.notes:
        macs = {node.name: node.macs for node in result.backend.graph(float_model)}
        result.trace.add(
            result_note(
                stop_reason=result.stop_reason,
                float_seconds=result.latency.float_seconds,
                seconds=result.latency.seconds,
                speedup=result.speedup,
                speedup_interval=result.latency.interval,
                drop_interval=result.drop_interval,
                int8_macs_share=sum(macs[op] for op in result.plan.int8_ops) / (sum(macs.values()) or 1),
                holdout_drop=result.holdout_drop,
                remarks=result.notes,
            )
        )
    return write_report(folder)


def finished_trials(folder: Path) -> int:
    """Number of trials in the trace of an earlier run; 0 when there was none."""
    path = folder / "trace.jsonl"
    if not path.is_file() or not path.stat().st_size:
        return 0
    return sum(trial.state != "failed" for trial in read_trace(path)[1])


def resume_line(before: int, result: AccuracyControlResult) -> str:
    """Says how much of an earlier run was used."""
    now = sum(trial.state != "failed" for trial in result.trace.trials)
    return f"resumed: {before} evaluations reused, {now - before} run" if before else f"{now} evaluations run"
