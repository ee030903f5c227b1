"""What a command says of a finished search."""

from __future__ import annotations

from pathlib import Path

from maxdrop.data.trace import read_trace
from maxdrop.result import AccuracyControlResult


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
