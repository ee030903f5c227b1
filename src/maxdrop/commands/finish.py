"""What a command says of a search: what it will cost, and what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from maxdrop.data.trace import read_trace

if TYPE_CHECKING:
    from maxdrop.result import AccuracyControlResult
    from maxdrop.search.forecast import Forecast

TRACE = "trace.jsonl"


def finished_trials(folder: Path) -> int:
    """Number of trials in the trace of an earlier run; 0 when there was none."""
    path = folder / TRACE
    if not path.is_file() or not path.stat().st_size:
        return 0
    return sum(trial.state != "failed" for trial in read_trace(path)[1])


def resume_line(before: int, result: AccuracyControlResult) -> str:
    """Says how much of an earlier run was used."""
    now = sum(trial.state != "failed" for trial in result.trace.trials)
    return f"resumed: {before} evaluations reused, {now - before} run" if before else f"{now} evaluations run"


def report_cost(cost: Forecast, folder: Path, as_json: bool) -> None:
    """Print what a search will cost."""
    if as_json:
        typer.echo(cost.model_dump_json(indent=1))
        return
    from maxdrop.commands.show import console, cost_table

    typer.echo(cost.summary())
    console().print(cost_table(cost))
    if (folder / TRACE).exists():
        typer.echo(f"{folder} holds an earlier search; what the same command has done there is not done again")
    typer.echo("nothing was started")


def report_result(result: AccuracyControlResult, folder: Path, before: int, as_json: bool) -> None:
    """Print what a search found, of which `before` trials were known."""
    files = {"model": folder / "model.xml", "report": folder / "report.html"}
    if as_json:
        typer.echo(json.dumps({**_facts(result, before), **{k: str(path) for k, path in files.items()}}, indent=1))
        return
    typer.echo(result.summary())
    typer.echo(resume_line(before, result))
    typer.echo(f"model       {files['model']}\nreport      {files['report']}")


def _facts(result: AccuracyControlResult, before: int) -> dict[str, object]:
    return {
        "reached": result.reached,
        "stop_reason": result.stop_reason,
        "metric": result.metric,
        "float_metric": result.float_metric,
        "drop": result.drop,
        "drop_interval": result.drop_interval,
        "drop_upper": result.drop_upper,
        "holdout_drop": result.holdout_drop,
        "metrics": result.metrics,
        "drops": result.drops,
        "seconds": result.latency.seconds,
        "float_seconds": result.latency.float_seconds,
        "speedup": result.speedup,
        "speedup_interval": result.latency.interval,
        "int8_ops": len(result.plan.int8_ops),
        "float_ops": result.plan.float_ops,
        "reverted": result.reverted,
        "validations": sum(trial.validations for trial in result.trace.trials),
        "reused_trials": before,
        "trials": len(result.trace.trials),
        "notes": result.notes,
    }
