"""The validation data as a search uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from maxdrop.dataset import Dataset, Items
from maxdrop.errors import ValidationError
from maxdrop.progress import ProgressReporter, Tick


class ValidationItems:
    """Some items of a dataset, addressed by their position among these.

    Args:
        dataset: of all items.
        kept: which of them; None for all.
    """

    def __init__(self, dataset: Dataset, kept: Sequence[int] | None = None) -> None:
        self._dataset = dataset
        self._kept = kept

    @property
    def count(self) -> int | None:
        """Number of items, None when it is not known."""
        return self._dataset.get_length() if self._kept is None else len(self._kept)

    @property
    def positions(self) -> int | None:
        """Number of items that can be taken by position; None if they cannot."""
        return self.count if self._dataset.has_positions else None

    def items(self, positions: Sequence[int] | None = None) -> Items:
        """All items, or those at `positions`, in ascending order."""
        if positions is None:
            return self._dataset.get_data(self._kept)
        return self._dataset.get_data(positions if self._kept is None else [self._kept[i] for i in positions])


class _Counted:
    """Items that report how many were taken."""

    def __init__(self, items: Items, tick: Tick) -> None:
        self._items = items
        self._tick = tick

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        for number, item in enumerate(self._items):
            self._tick(number)
            yield item


def with_progress(validate: Callable[[Any, Any], Any], progress: ProgressReporter) -> Callable[[Any, Items], Any]:
    """The user's function, showing how many items it has taken."""

    def shown(compiled: Any, items: Items) -> Any:
        try:
            total: int | None = len(items)
        except TypeError:
            total = None
        with progress.stage("validating", total) as tick:
            return validate(compiled, _Counted(items, tick))

    return shown


def check_function(validate: object) -> None:
    """Refuse what cannot be called, before any work is done.

    Raises:
        ValidationError: it is no function.
    """
    if not callable(validate):
        message = (
            "`validation_fn` must be a function (compiled_model, items) -> metric, but got "
            f"{type(validate).__name__}: {validate!r:.100}"
        )
        raise ValidationError(message)


def check_datasets(calibration: Dataset, validation: Dataset) -> None:
    """Refuse datasets that can be iterated only once or hold nothing.

    Raises:
        ValidationError: one of them is like that.
    """
    for name, dataset in (("calibration", calibration), ("validation", validation)):
        if dataset.is_one_shot:
            message = (
                f"the {name} dataset must be iterable more than once, but its source is a one-shot iterator; "
                "pass a list, or a function that returns a fresh iterator"
            )
            raise ValidationError(message)
        if not any(True for _ in dataset.get_data()):
            message = f"the {name} dataset must hold at least one item, but iterating it gave none"
            raise ValidationError(message)
