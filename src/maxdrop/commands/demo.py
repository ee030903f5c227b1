"""maxdrop demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from maxdrop.demo.walkthrough import Walkthrough


def demo(
    output_dir: Annotated[Path, typer.Option(help="Folder; run again with the same one to see a resume.")] = Path(
        "out/demo"
    ),
    max_drop: Annotated[float, typer.Option(help="Largest allowed drop of the accuracy.")] = 0.005,
) -> None:
    """Run the whole flow on the bundled model and data, without a network."""
    from maxdrop.commands.show import console, table
    from maxdrop.demo.walkthrough import walk_through

    typer.echo(f"A small network that reads handwritten digits. Its accuracy may fall by {max_drop:g}.")
    walk = walk_through(output_dir, max_drop)
    out = console()
    out.print(_comparison(walk))
    floats = table("op that stays float", "why", title=f"{len(walk.result.plan.float_ops)} ops stay float")
    for op, reason in walk.result.plan.float_ops.items():
        floats.add_row(op, reason)
    out.print(floats)
    typer.echo("Reached: " if walk.result.reached else "Not reached: ", nl=False)
    typer.echo(walk.result.stop_reason)
    typer.echo(walk.resumed)
    typer.echo(f"model   {output_dir / 'model.xml'}\nreport  {walk.report}")


def _comparison(walk: Walkthrough) -> Table:
    from maxdrop.commands.show import table

    made = table("", *(column.name for column in walk.columns), right=tuple(column.name for column in walk.columns))
    made.add_row("accuracy", *(f"{column.metric:.4f}" for column in walk.columns))
    made.add_row("drop", *(f"{column.drop:+.4f}" for column in walk.columns))
    made.add_row("within the limit", *("yes" if column.passes else "NO" for column in walk.columns))
    made.add_row("latency, one image", *(f"{column.seconds * 1e3:.3f} ms" for column in walk.columns))
    made.add_row("speed", *(f"{column.speedup:.2f}x" for column in walk.columns))
    made.add_row("int8 share of MACs", *(f"{column.int8_share:.1%}" for column in walk.columns))
    made.add_row("ops int8 / float", *(f"{column.int8_ops} / {column.float_ops}" for column in walk.columns))
    return made
