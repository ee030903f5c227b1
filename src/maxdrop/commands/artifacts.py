"""maxdrop apply and maxdrop report: from what a search left on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maxdrop.commands import options as opt
from maxdrop.errors import PlanError


def apply(
    plan: Annotated[Path, typer.Argument(help="plan.json, or its folder.", metavar="PLAN", show_default=False)],
    model: opt.Model,
    output: opt.ModelOutput,
) -> None:
    """Build the quantized model again from its plan (plan.json and plan.npz) and the float MODEL."""
    from maxdrop.backends.registry import open_model
    from maxdrop.data.plan import load_plan

    path = plan_path(plan)
    target = opt.model_path(model, output)
    loaded, arrays = load_plan(path)
    backend, opened = open_model(model, loaded.policy.target)
    built = backend.apply(opened, loaded, arrays)
    target.parent.mkdir(parents=True, exist_ok=True)
    backend.save(built, target)
    typer.echo(f"{target}: {len(loaded.int8_ops)} ops int8, {len(loaded.float_ops)} float")


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a search.", metavar="OUT", show_default=False)],
) -> None:
    """Make report.html again from the plan and the trace in OUT; no model is needed."""
    from maxdrop.report.page import write_report

    typer.echo(str(write_report(folder)))


def plan_path(plan: Path) -> Path:
    """The plan file that the user means.

    Raises:
        PlanError: there is none.
    """
    path = plan / "plan.json" if plan.is_dir() else plan
    if not path.is_file():
        message = f"a plan must be a plan.json or the folder of one, but there is none at {path}"
        raise PlanError(message)
    return path
