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
Found = Sequence[Sequence[Array]]
"""For each output what it held: one array, or one for each of several inferences that cannot be joined."""

Reader = Callable[[Found], list[Array]]


class _Group:
    """Tensors that share one output.

    Args:
        number: of the output.
        batch: what their first sizes have in common; None where all sizes are known.
        exact: whether they are not to be rounded.

    Attributes:
        length: elements of all tensors, for one index of the batch.
    """

    def __init__(self, number: int, batch: Any, exact: bool) -> None:
        self.batch = batch
        self.exact = exact
        self._number = number
        self._parts: list[Any] = []
        self.length = 0

    def add(self, output: Any, sizes: Shape) -> Reader:
        """Returns a function that finds the tensor among the outputs."""
        flat = np.array([1 if self.batch is None else 0, -1], np.int64)  # 0 keeps the size
        self._parts.append(opset.reshape(output, opset.constant(flat), self.batch is not None).output(0))
        shape = (-1, *(size or 1 for size in sizes[1:]))  # several inferences may be read at once
        start, number = self.length, self._number
        self.length = stop = start + prod(size or 1 for size in sizes)
        return lambda found: [part[:, start:stop].reshape(shape) for part in found[number]]

    def output(self) -> Any:
        """The tensors, one behind the other."""
        return opset.concat(self._parts, 1).output(0)


class SharedOutputs:
    """Puts tensors into groups; one that fits no group gets an output of its own.

    Args:
        low_precision: whether what leads to the outputs may be computed in the precision that the model runs in.
    """

    def __init__(self, *, low_precision: bool = False) -> None:
        self._groups: list[_Group | Any] = []
        self._low_precision = low_precision

    def add(self, output: Any, *, exact: bool = False) -> Reader:
        """Returns a function that finds the tensor among the outputs; `exact` ones are in float32 in any case."""
        sizes = partial_shape(output) or ()
        first = output.get_partial_shape()[0] if sizes and sizes[0] is None else None
        batch = first.get_symbol() if first is not None and first.has_symbol() else None
        if sizes.count(None) > (batch is not None):
            number = len(self._groups)
            self._groups.append(output)
            return lambda found: list(found[number])
        fitting = (g for g in self._groups if isinstance(g, _Group) and (g.batch, g.exact) == (batch, exact))
        group = next(fitting, None)
        if group is None:
            group = _Group(len(self._groups), batch, exact)
            self._groups.append(group)
        return group.add(output, sizes)

    def results(self) -> list[Any]:
        """The outputs, in the order of their numbers."""
        low_precision = self._low_precision and all(isinstance(group, _Group) for group in self._groups)
        return [opset.result(_output(group, low_precision)) for group in self._groups]


def _output(group: _Group | Any, low_precision: bool) -> Any:
    if not isinstance(group, _Group):
        return group
    output = group.output()
    return _behind_convolution(output, group.length) if low_precision and not group.exact else output


def _behind_convolution(output: Any, width: int) -> Any:
    """`output`, (batch, width), times one, by a depthwise convolution.

    The runtime keeps what follows the last convolution or product of a model in float32, and converts what the
    reductions read, which takes longer than they do. So there is a convolution behind these, too. One output that is
    read without it is enough for the conversions to stay; then it is of no use.
    """
    last = opset.constant(np.array([2], np.int64))
    ones = opset.constant(np.ones((width, 1, 1, 1), np.float32))
    same = opset.group_convolution(opset.unsqueeze(output, last), ones, [1], [0], [0], [1])
    return opset.squeeze(same, last).output(0)


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
