from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from maxdrop.dataset import Dataset
from maxdrop.errors import ValidationError

ITEMS = [10, 11, 12, 13, 14]


class Loader:
    """Iterable again and again, with a length, without positions: a DataLoader."""

    batch_size = 4

    def __iter__(self) -> Iterator[int]:
        return iter(ITEMS)

    def __len__(self) -> int:
        return len(ITEMS)


class Positions:
    """The old protocol: positions and nothing else."""

    def __getitem__(self, index: int) -> int:
        return ITEMS[index]


class CallableLoader(Loader):
    def __call__(self) -> Iterable[int]:
        raise AssertionError("an iterable is iterated, not called")


def generator() -> Iterator[int]:
    yield from ITEMS


SOURCES: list[Callable[[], Any]] = [
    lambda: list(ITEMS),
    lambda: tuple(ITEMS),
    lambda: np.array(ITEMS),
    Loader,
    Positions,
    CallableLoader,
    lambda: generator,
    lambda: lambda: list(ITEMS),
]


@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_source(source: Callable[[], Any]) -> None:
    dataset = Dataset(source(), lambda x: 2 * x)
    for _ in range(2):
        assert list(dataset.get_data()) == ITEMS
        assert list(dataset.get_inference_data()) == [2 * x for x in ITEMS]
        assert list(dataset.get_data([3, 1])) == [11, 13]
        assert list(dataset.get_inference_data([0])) == [20]
        assert list(dataset.get_data([])) == []
    assert not dataset.is_one_shot


def test_without_a_transform_items_are_inputs() -> None:
    item = {"x": np.zeros(3)}
    assert next(iter(Dataset([item]).get_inference_data())) is item


def test_one_view_can_be_iterated_twice() -> None:
    view = Dataset(generator).get_data([1, 2])
    assert (list(view), list(view)) == ([11, 12], [11, 12])


@pytest.mark.parametrize(("source", "length"), [(ITEMS, 5), (Loader(), 5), (generator, None), (iter(ITEMS), None)])
def test_length(source: Any, length: int | None) -> None:
    dataset = Dataset(source)
    assert dataset.get_length() == length
    assert len(dataset.get_data([0, 1])) == 2
    if length is None:
        with pytest.raises(TypeError, match="no len"):
            len(dataset.get_data())
    else:
        assert len(dataset.get_data()) == length


def test_batch_size() -> None:
    assert Dataset(Loader()).get_batch_size() == 4
    assert Dataset(ITEMS).get_batch_size() is None


@pytest.mark.parametrize("source", [generator(), iter(ITEMS), map(str, ITEMS)])
def test_one_shot_iterators_are_recognised(source: Any) -> None:
    assert Dataset(source).is_one_shot


@pytest.mark.parametrize("source", [None, 5, object()])
def test_what_holds_no_samples_is_refused(source: Any) -> None:
    with pytest.raises(ValidationError, match=type(source).__name__):
        Dataset(source)


def test_the_transform_runs_only_on_what_is_taken() -> None:
    seen: list[int] = []
    dataset = Dataset(ITEMS, seen.append)
    next(iter(dataset.get_inference_data()))
    assert seen == [10]
    list(dataset.get_inference_data([2]))
    assert seen == [10, 12]
    list(dataset.get_data())
    assert seen == [10, 12]
