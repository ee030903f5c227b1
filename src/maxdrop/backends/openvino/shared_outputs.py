"""Many tensors read from few outputs, because each output costs time at every inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as opset

from maxdrop.backends.openvino.shapes import Shape, partial_shape

Array = NDArray[Any]
Reader = Callable[[Sequence[Array]], Array]


class _Group:
    """Tensors that share one output.

    Args:
        number: of the output.
        batch: what their first sizes have in common; None where all sizes are known.
    """

    def __init__(self, number: int, batch: Any) -> None:
        self.batch = batch
        self._number = number
        self._parts: list[Any] = []
        self._length = 0

    def add(self, output: Any, sizes: Shape) -> Reader:
        """Returns a function that finds the tensor among the outputs."""
        flat = np.array([1 if self.batch is None else 0, -1], np.int64)  # 0 keeps the size
        self._parts.append(opset.reshape(output, opset.constant(flat), self.batch is not None).output(0))
        shape = [-1 if size is None else size for size in sizes]
        start, number = self._length, self._number
        self._length = stop = start + prod(size or 1 for size in sizes)
        return lambda found: found[number][:, start:stop].reshape(shape)

    def result(self) -> Any:
        """The shared output."""
        return opset.result(opset.concat(self._parts, 1))


class SharedOutputs:
    """Puts tensors into groups; one that fits no group gets an output of its own."""

    def __init__(self) -> None:
        self._groups: list[_Group | Any] = []

    def add(self, output: Any) -> Reader:
        """Returns a function that finds the tensor among the outputs."""
        sizes = partial_shape(output) or ()
        first = output.get_partial_shape()[0] if sizes and sizes[0] is None else None
        batch = first.get_symbol() if first is not None and first.has_symbol() else None
        if sizes.count(None) > (batch is not None):
            number = len(self._groups)
            self._groups.append(opset.result(output))
            return lambda found: found[number]
        group = next((g for g in self._groups if isinstance(g, _Group) and g.batch == batch), None)
        if group is None:
            group = _Group(len(self._groups), batch)
            self._groups.append(group)
        return group.add(output, sizes)

    def results(self) -> list[Any]:
        """The outputs, in the order of their numbers."""
        return [group.result() if isinstance(group, _Group) else group for group in self._groups]


def mark_batches(model: ov.Model) -> None:
    """Give unknown first sizes of the inputs symbols, which follow them through the model."""
    for parameter in model.get_parameters():
        shape = parameter.get_partial_shape()
        if shape.rank.is_static and len(shape) and shape[0].is_dynamic:
            size = shape[0]
            size.set_symbol(ov.Symbol())
            shape[0] = size
            parameter.set_partial_shape(shape)
    model.validate_nodes_and_infer_types()
