"""The command line: `maxdrop COMMAND`; each command is in its own file in `maxdrop.commands`."""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from maxdrop.commands import artifacts, look
from maxdrop.commands.control import NOT_REACHED, control
from maxdrop.commands.demo import demo
from maxdrop.commands.quantize import quantize
from maxdrop.errors import (
    MaxdropError,
    ParameterNotSupportedError,
    TargetNotReachedError,
    UnsupportedBackendError,
    ValidationError,
)
from maxdrop.version import VERSION

BAD_USAGE = 2
FAILED = 1

_EXIT_CODES: dict[type[MaxdropError], int] = {
    ValidationError: BAD_USAGE,
    ParameterNotSupportedError: BAD_USAGE,
    UnsupportedBackendError: BAD_USAGE,
    TargetNotReachedError: NOT_REACHED,
}


class _Commands(TyperGroup):
    """Prints the package's own errors as one message; everything else keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except MaxdropError as error:
                typer.echo(f"error: {error}", err=True)
                code = next((code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)), FAILED)
                raise typer.Exit(code) from None


def _show_warning(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
    """A warning in one line, without the place in the code that it came from."""
    prefix = "warning" if issubclass(category, UserWarning) else category.__name__
    typer.echo(f"{prefix}: {message}", err=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(VERSION)
        raise typer.Exit


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The fastest 8-bit model whose metric falls by no more than you allow.",
)
for _command in (demo, quantize, control, artifacts.apply, artifacts.report, look.inspect, look.probe):
    app.command()(_command)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
