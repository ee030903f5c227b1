"""maxdrop inspect and maxdrop probe: what is int8, and what can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from maxdrop.commands import options as opt
from maxdrop.options import TargetDevice


def inspect(
    model: Annotated[
        Path, typer.Argument(help="Float or quantized model, .xml or .onnx.", metavar="MODEL", show_default=False)
    ],
    plan: Annotated[
        Path | None, typer.Option(help="Apply this plan.json to the float MODEL first.", show_default=False)
    ] = None,
    target_device: opt.Target = TargetDevice.ANY,
    compile_config: opt.CompileConfig = None,
    as_json: opt.AsJson = False,
) -> None:
    """Show which ops are int8, as planned and as the runtime executes them, and why the others are float."""
    from dataclasses import asdict

    from maxdrop.commands.artifacts import plan_path
    from maxdrop.commands.show import console, inspection_table
    from maxdrop.inspection import inspect_model

    found = inspect_model(
        model,
        None if plan is None else plan_path(plan),
        target=target_device.value,
        compile_config=opt.parse_config(compile_config),
    )
    shares = {"planned_share": found.planned_share, "executed_share": found.executed_share}
    if as_json:
        typer.echo(json.dumps({**asdict(found), **shares}, indent=1))
        return
    console().print(inspection_table(found))
    typer.echo(f"{model}: {found.origin}")
    typer.echo(f"int8 share of the multiply-accumulates: planned {found.planned_share:.1%}, ", nl=False)
    typer.echo(f"executed {found.executed_share:.1%}")


def probe(as_json: opt.AsJson = False) -> None:
    """Show which op this machine runs in int8 with which scheme, by compiling tiny models."""
    from maxdrop.backends.openvino.probe import probe as run_probe
    from maxdrop.commands.show import console

    found = run_probe()
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    typer.echo(f"{found['machine']}, {found['cores']} cores; {', '.join(found['isa'])}; OpenVINO {found['openvino']}")
    console().print(_probe_table(found["rows"]))


def _probe_table(rows: list[dict[str, Any]]) -> Any:
    """One line for each op and activation scheme, one column for each weight scheme."""
    from maxdrop.commands.show import kind, table

    weights = [w for w in dict.fromkeys(row["weights"] for row in rows) if w]
    made = table("op", "activations", *(f"weights {weight}" for weight in weights))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        lines.setdefault((row["op"], row["activations"]), {})[row["weights"]] = kind(row["int8"])
    for (op, activations), found in lines.items():
        made.add_row(op, activations, *([f"{found['']} (no weights)"] if "" in found else [found[w] for w in weights]))
    return made
