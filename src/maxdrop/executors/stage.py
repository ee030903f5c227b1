"""How executors show progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Tick = Callable[[int], None]
"""Called with the number of pieces that are done."""

Stage = Callable[[str, int], AbstractContextManager[Tick]]
"""Shows a stage of the work, by name and number of pieces."""


@contextmanager
def unseen(name: str, total: int) -> Iterator[Tick]:
    """Shows nothing."""
    yield lambda done: None
