"""Counts what a tool does with OpenVINO and with the validation function, without changing either."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import openvino as ov

from benchmarks.task import Validate


@dataclass
class Counts:
    """What was counted. `forwards` holds all, those of the validation function included."""

    compiles: int = 0
    forwards: int = 0
    validation_forwards: int = 0
    validation_calls: int = 0
    sample_evaluations: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _inside: threading.local = field(default_factory=threading.local, repr=False)

    def add(self, name: str) -> None:
        """Adds one to a counter; safe in threads."""
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)

    def forward(self) -> None:
        """Counts one inference request, and whose it is."""
        self.add("forwards")
        if getattr(self._inside, "validating", False):
            self.add("validation_forwards")

    def as_dict(self) -> dict[str, int]:
        """The counters; own forwards are those made outside the validation function."""
        return {
            "compiles": self.compiles,
            "own_forwards": self.forwards - self.validation_forwards,
            "validation_forwards": self.validation_forwards,
            "validation_calls": self.validation_calls,
            "sample_evaluations": self.sample_evaluations,
        }

    def wrap(self, validate: Validate, per_item: bool) -> Callable[[ov.CompiledModel, Iterable[Any]], Any]:
        """The validation function that a tool is given; it gets the tool's compiled model itself."""

        def counted(compiled: ov.CompiledModel, items: Iterable[Any]) -> Any:
            self.add("validation_calls")
            self._inside.validating = True
            try:
                value, values = validate(compiled, _Counted(items, self))
            finally:
                self._inside.validating = False
            return (value, values) if per_item else value

        return counted


class _Counted:
    """An iterable that counts the items taken from it."""

    def __init__(self, items: Iterable[Any], counts: Counts) -> None:
        self._items = items
        self._counts = counts

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self._counts.add("sample_evaluations")
            yield item


# class, method, the counter's method; CompiledModel.__call__ ends in InferRequest.infer
def _hooks(counts: Counts) -> list[tuple[type, str, Callable[[], None]]]:
    hooks: list[tuple[type, str, Callable[[], None]]] = [
        (ov.Core, "compile_model", lambda: counts.add("compiles")),
        (ov.InferRequest, "infer", counts.forward),
        (ov.InferRequest, "start_async", counts.forward),
        (ov.AsyncInferQueue, "start_async", counts.forward),
    ]
    try:
        from onnxruntime import InferenceSession
    except ImportError:
        return hooks
    return [*hooks, (InferenceSession, "run", counts.forward)]


@contextmanager
def counting() -> Iterator[Counts]:
    """Counts in this process for as long as the context is open."""
    counts = Counts()
    originals: list[tuple[type, str, Any]] = []
    for owner, name, count in _hooks(counts):
        original = getattr(owner, name)
        originals.append((owner, name, original))
        setattr(owner, name, _counted_method(original, count))
    try:
        yield counts
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _counted_method(original: Any, count: Callable[[], None]) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        count()
        return original(self, *args, **kwargs)

    return method
