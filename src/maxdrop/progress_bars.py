"""The look of progress; imported only where progress is shown."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from maxdrop.search.forecast import in_words


class _Time(ProgressColumn):
    """Time left of a stage; the time that it has taken where its length is not known."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text(in_words(task.elapsed or 0.0))
        left = task.time_remaining
        return Text("" if left is None else f"{in_words(left)} left")


class _Bars(Progress):
    """Bars below a line that says how the search stands."""

    def __init__(self, console: Console, standing: str) -> None:
        self._standing = standing
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Time())
        # On a terminal the results take the place of the bars; in a file what is drawn last stays.
        super().__init__(*columns, console=console, transient=console.is_terminal)

    def get_renderables(self) -> Iterable[RenderableType]:
        if self._standing:
            yield Text(self._standing)
        yield from super().get_renderables()


def make_bars(console: Console, standing: str) -> Progress:
    """Bars to add stages to.

    Args:
        console: to show them on.
        standing: the line above them; empty for none.
    """
    return _Bars(console, standing)
