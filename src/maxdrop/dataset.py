"""`Dataset`: where samples come from, and how they become model inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from maxdrop.errors import ValidationError


class Dataset:
    """Samples for calibration or validation.

    Args:
        data_source: a list, an array, a torch DataLoader, any iterable that can be iterated again and again, or
            a function without arguments that returns a fresh iterator (for generators).
        transform_func: turns an item into model inputs: an array for one input, a tuple or list in the order of
            the inputs, or a dict by input name. Without it the items are the inputs.

    The object is only read: nothing is stored in it or changed.
    """

    def __init__(
        self,
        data_source: Iterable[Any] | Callable[[], Iterable[Any]],
        transform_func: Callable[[Any], Any] | None = None,
    ) -> None:
        if not callable(data_source) and not _is_iterable(data_source):
            message = (
                f"data_source must be an iterable or a function that returns one, but got {type(data_source).__name__}"
            )
            raise ValidationError(message)
        self._source = data_source
        self._transform = transform_func

    def get_data(self, indices: Sequence[int] | None = None) -> Items:
        """Raw items, as the validation function sees them; all, or those at `indices`."""
        return Items(self._source, None, indices)

    def get_inference_data(self, indices: Sequence[int] | None = None) -> Items:
        """Model inputs; all, or those at `indices`."""
        return Items(self._source, self._transform, indices)

    def get_length(self) -> int | None:
        """Number of items, None when the source does not know."""
        return _length(self._source)

    def get_batch_size(self) -> int | None:
        """The source's `batch_size`, None when it has none."""
        size = getattr(self._source, "batch_size", None)
        return int(size) if size is not None else None

    @property
    def source(self) -> Any:
        """What the items come from, as it was given."""
        return self._source

    @property
    def has_positions(self) -> bool:
        """Whether an item can be taken by its position without going through those before it."""
        return hasattr(self._source, "__getitem__") and self.get_length() is not None

    @property
    def is_one_shot(self) -> bool:
        """Whether the source can be iterated only once, as a generator object."""
        return not callable(self._source) and iter(self._source) is self._source


class Items:
    """A view of a data source that can be iterated any number of times.

    Args:
        source: see `Dataset`.
        transform: applied to each item.
        indices: positions to take, in ascending order; None for all.
    """

    def __init__(self, source: Any, transform: Callable[[Any], Any] | None, indices: Sequence[int] | None) -> None:
        self._source = source
        self._transform = transform
        self._indices = None if indices is None else sorted(indices)

    def __iter__(self) -> Iterator[Any]:
        items = self._selected()
        return map(self._transform, items) if self._transform is not None else items

    def __len__(self) -> int:
        if self._indices is not None:
            return len(self._indices)
        length = _length(self._source)
        if length is None:
            message = f"{type(self._source).__name__} has no len()"
            raise TypeError(message)
        return length

    def _selected(self) -> Iterator[Any]:
        source = self._source() if callable(self._source) and not hasattr(self._source, "__iter__") else self._source
        if self._indices is None:
            return iter(source)
        if hasattr(source, "__getitem__"):
            return (source[i] for i in self._indices)
        wanted = set(self._indices)
        stop = self._indices[-1] + 1 if self._indices else 0
        return (item for i, item in enumerate(islice(source, stop)) if i in wanted)


def _is_iterable(source: Any) -> bool:
    return hasattr(source, "__iter__") or hasattr(source, "__getitem__")


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except TypeError:
        return None
