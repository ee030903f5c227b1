"""Options from dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer
from typer.testing import CliRunner

from maxdrop.commands.expand import expand


@dataclass(frozen=True)
class Cake:
    """What to bake."""

    panel: ClassVar[str] = "Cake heading"

    flour: Annotated[int, typer.Option(help="Grams.")]
    nuts: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None


@expand
def bake(oven: Annotated[str, typer.Argument(metavar="OVEN")], cake: Cake, hot: bool = False) -> None:
    """Bake a cake."""
    typer.echo(f"{oven} {cake} {hot}")


app = typer.Typer()
app.command()(bake)


def test_fields_become_options() -> None:
    done = CliRunner().invoke(app, ["gas", "--flour", "3", "--nuts", "a", "--nuts", "b", "--hot"])
    assert done.output.strip() == "gas Cake(flour=3, nuts=['a', 'b']) True"


def test_defaults_and_requirements_are_those_of_the_fields() -> None:
    assert CliRunner().invoke(app, ["gas", "--flour", "3"]).output.strip() == "gas Cake(flour=3, nuts=None) False"
    assert CliRunner().invoke(app, ["gas"]).exit_code == 2


def test_help_has_the_heading_and_the_command_its_docstring() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    assert "Cake heading" in text
    assert "Bake a cake." in text
