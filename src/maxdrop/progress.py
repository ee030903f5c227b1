"""Progress on the terminal: the stage, how far it is, the time left, and how the search stands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Tick = Callable[[int], None]


class ProgressReporter:
    """Shows stages on standard error.

    Args:
        enabled: True or False; None shows progress only where standard error is a terminal.
        console: to show it on; None takes standard error.
    """

    def __init__(self, enabled: bool | None = None, console: Console | None = None) -> None:
        self._enabled = enabled
        self._console = console
        self._bars: Progress | None = None
        self._standing: Callable[[], str] = str

    def follow(self, standing: Callable[[], str]) -> None:
        """Show from now on what `standing` says, above the stage; it is asked whenever a stage begins."""
        self._standing = standing

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Tick]:
        """A stage of the work, maybe inside another; call what it yields with the number of items that are done."""
        if not self._is_shown:
            yield lambda done: None
        elif self._bars is not None:
            task = self._bars.add_task(name, total=total)
            try:
                yield self._tick(self._bars, task)
            finally:
                self._bars.remove_task(task)
        else:
            yield from self._shown(name, total)

    def _shown(self, name: str, total: int | None) -> Iterator[Tick]:
        from rich.console import Console

        from maxdrop.progress_bars import make_bars

        with make_bars(self._console or Console(stderr=True), self._standing()) as self._bars:
            try:
                yield self._tick(self._bars, self._bars.add_task(name, total=total))
            finally:
                self._bars = None

    @staticmethod
    def _tick(bars: Progress, task: object) -> Tick:
        return lambda done: bars.update(task, completed=done)  # type: ignore[arg-type]

    @property
    def _is_shown(self) -> bool:
        # Not what rich takes for a terminal: settings such as FORCE_COLOR would fill the logs of a CI run with bars.
        return sys.stderr.isatty() if self._enabled is None else self._enabled
