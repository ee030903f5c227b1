"""Progress on the terminal: stage, count, estimate of the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tick = Callable[[int], None]


class ProgressReporter:
    """Shows stages on stderr.

    Args:
        enabled: True or False; None shows progress only where stderr is a terminal.
    """

    def __init__(self, enabled: bool | None = None) -> None:
        self._enabled = enabled

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Tick]:
        """A stage of the work; call what it yields with the number of items that are done."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        shown = console.is_terminal if self._enabled is None else self._enabled
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not shown) as bar:
            task = bar.add_task(name, total=total)
            yield lambda done: bar.update(task, completed=done)
