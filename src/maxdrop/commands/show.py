"""Tables on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from maxdrop.inspection import Inspection
    from maxdrop.search.forecast import Forecast

_WIDTH_OF_FILES = 160


def console() -> Console:
    """Standard output; wide enough for whole lines when it is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_FILES, highlight=False)


def table(*columns: str, title: str | None = None, right: tuple[str, ...] = ()) -> Table:
    """An empty table with a plain look."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    return made


def inspection_table(inspection: Inspection) -> Table:
    """One row for each op that multiplies and sums."""
    from rich.text import Text

    total = sum(op.macs for op in inspection.ops) or 1
    tuned = ["tuned"] if any(op.form for op in inspection.ops) else []
    made = table("op", "type", "MACs", "planned", "executed", "why float", *tuned, right=("MACs",))
    for op in inspection.ops:
        cells: list[Any] = [op.name, op.type, f"{op.macs / total:.2%}", kind(op.planned), kind(op.executed), op.reason]
        made.add_row(*(Text(cell) for cell in [*cells, *([op.form] if tuned else [])]))
    return made


def cost_table(cost: Forecast) -> Table:
    """One row for each step of a search, with forwards and seconds at least, typically and at most."""
    from maxdrop.search.forecast import in_words

    cases = {"at least": cost.least, "typically": cost.typical, "at most": cost.most}
    made = table("step", *cases, right=tuple(cases))
    for name in (step.name for step in cost.most.steps):
        cells = []
        for work in cases.values():
            step = next((s for s in work.steps if s.name == name), None)
            if step is None:
                cells.append("-")
                continue
            forwards = "?" if step.forwards is None else f"{step.forwards}"
            seconds = "" if step.seconds is None else f", {in_words(step.seconds)}"
            cells.append(f"{step.compiles} compiles, {forwards} forwards{seconds}")
        made.add_row(name, *cells)
    return made


def kind(int8: bool) -> str:
    """The word for a precision."""
    return "int8" if int8 else "float"
