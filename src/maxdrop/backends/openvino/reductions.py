"""What a calibration pass adds to the graph: reductions of the watched values, in as few outputs as possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as opset

from maxdrop.backends.openvino.apart import set_readers_apart
from maxdrop.backends.openvino.naming import Names
from maxdrop.backends.openvino.shapes import partial_shape
from maxdrop.data.statistics import Request

ROWS_PER_SAMPLE = 9

Array = NDArray[Any]
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Reduced:
    """One value of one inference; B samples (one where there is no batch axis), C channels.

    Attributes:
        low, high, mean: (B, C): of each channel of each sample. `low` is 0 where the value cannot be negative.
        rows: (B, r, C): a few positions with all their channels.
    """

    low: Array
    high: Array
    mean: Array
    rows: Array


class Watch:
    """Outputs that are added to a model for some requests, and how to read them.

    Args:
        model: gets the outputs.
        requests: what to watch; values of unknown rank are left out.
        sizes: of each value for a typical sample, as far as they are known.

    Attributes:
        requests: what is watched.
        outputs: numbers of the outputs that were added.
        simulated: whether the model is quantized, and the int8 kernels have to be kept out.
    """

    def __init__(self, model: ov.Model, requests: Sequence[Request], sizes: Mapping[str, Shape]) -> None:
        _mark_batches(model)
        names = Names(model)
        self.requests = [r for r in requests if not names.output(r.value).get_partial_shape().rank.is_dynamic]
        # OpenVINO 2026.4 scales twice what a reduction reads from an int8 kernel, and mixes up int8 weights of float
        # convolutions when it runs more than one stream.
        self.simulated = any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
        before = len(model.outputs)
        gathered = _Gathered()
        self._readers = []
        for request in self.requests:
            output = names.output(request.value)
            if self.simulated:
                set_readers_apart(output, f"{request.key}/watched")
            shape = sizes.get(request.value) or partial_shape(output) or ()
            self._readers.append(_reduce(output, request.channel_axis, shape, gathered))
        model.add_results(gathered.results())
        self.outputs = range(before, len(model.outputs))

    def read(self, found: Sequence[Array]) -> list[Reduced]:
        """What `outputs` held after an inference, for each of `requests`."""
        return [reader(found) for reader in self._readers]


Reader = Callable[[Sequence[Array]], Array]


class _Group:
    """Tensors that share one output, because each output costs time at every inference.

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


class _Gathered:
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


def _mark_batches(model: ov.Model) -> None:
    """Give unknown first sizes of the inputs symbols, which follow them through the model."""
    for parameter in model.get_parameters():
        shape = parameter.get_partial_shape()
        if shape.rank.is_static and len(shape) and shape[0].is_dynamic:
            size = shape[0]
            size.set_symbol(ov.Symbol())
            shape[0] = size
            parameter.set_partial_shape(shape)
    model.validate_nodes_and_infer_types()


def _reduce(value: Any, channel_axis: int, shape: Shape, gathered: _Gathered) -> Callable[[Sequence[Array]], Reduced]:
    value, shape, padding = _above_padding(value, shape, channel_axis)
    non_negative = _is_non_negative(value)
    if not shape:
        value, shape = opset.unsqueeze(value, opset.constant(np.array([0], np.int64))).output(0), (1,)
    rank = len(shape)
    channel = channel_axis % rank
    if value.get_element_type() != ov.Type.f32:
        value = opset.convert(value, "f32").output(0)
    if value.get_partial_shape()[channel].is_dynamic:
        # What varies from sample to sample, like the tokens in a product of activations, is no channel.
        value = opset.unsqueeze(value, opset.constant(np.array([rank], np.int64))).output(0)
        shape, channel, rank = (*shape, 1), rank, rank + 1
    batch = [0] if rank > 1 and channel != 0 else []
    rest = [axis for axis in range(rank) if axis != channel and axis not in batch]
    channels = value.get_partial_shape()[channel].get_length()
    if not rest:
        whole = gathered.add(value)

        def read_whole(found: Sequence[Array]) -> Reduced:
            rows = whole(found).reshape(-1, channels)
            return Reduced(rows, rows, rows, rows[:, None])

        return read_whole
    high, mean = (gathered.add(x) for x in _highest_and_mean(value, channel, rest))
    lowest = opset.reduce_min(value, opset.constant(np.array(rest, np.int64)), False)
    low = None if non_negative else gathered.add(lowest.output(0))
    rows = gathered.add(_every_nth(value, shape, rest))
    order = [*batch, *rest, channel]

    def read(found: Sequence[Array]) -> Reduced:
        top = high(found).reshape(-1, channels)
        bottom = np.zeros_like(top) if low is None else low(found).reshape(-1, channels)
        if padding < 1.0:
            bottom, top = np.minimum(bottom, 0.0), np.maximum(top, 0.0)
        average = mean(found).reshape(-1, channels) * np.float32(padding)
        return Reduced(bottom, top, average, rows(found).transpose(order).reshape(len(top), -1, channels))

    return read


def _highest_and_mean(value: Any, channel: int, rest: list[int]) -> list[Any]:
    """Of each channel of each sample; pooling takes less than half of the time of a reduction, where it can be used."""
    sizes = partial_shape(value) or ()
    spatial = list(sizes[2:])
    if channel == 1 and 3 <= len(sizes) <= 5 and None not in spatial:
        ones, zeros = [1] * len(spatial), [0] * len(spatial)
        highest = opset.max_pool(value, ones, ones, zeros, zeros, spatial).output(0)
        mean = opset.avg_pool(value, ones, zeros, zeros, spatial, True).output(0)
        return [highest, mean]
    axes = opset.constant(np.array(rest, np.int64))
    return [op(value, axes, False).output(0) for op in (opset.reduce_max, opset.reduce_mean)]


def _above_padding(value: Any, shape: Shape, channel_axis: int) -> tuple[Any, Shape, float]:
    """The value that a Pad with zeros reads, its sizes, and its share of the padded positions.

    The runtime makes a Pad part of the convolution behind it, unless somebody else reads it too.
    """
    pad = value.get_node()
    if pad.get_type_name() != "Pad" or pad.get_attributes()["pad_mode"] != "constant" or not _is_zero(pad):
        return value, shape, 1.0
    inner = pad.input_value(0)
    within, whole = partial_shape(inner), partial_shape(value)
    if within is None or whole is None or None in (*within[1:], *whole[1:]) or within[0] != whole[0]:
        return value, shape, 1.0
    channel = channel_axis % len(whole)
    if within[channel] != whole[channel]:
        return value, shape, 1.0
    share = prod(x or 1 for x in within[1:]) / prod(x or 1 for x in whole[1:])
    return inner, (*shape[:1], *within[1:]), share


def _is_zero(pad: Any) -> bool:
    """Whether a Pad adds zeros."""
    return pad.get_input_size() < 4 or _constant_at_least(pad.input_value(3), 0.0, and_most=0.0)


def _is_non_negative(value: Any) -> bool:
    """Whether a rectifier, in one of the ways that it is written, made the value."""
    node = value.get_node()
    kind = node.get_type_name()
    inputs = [port.get_source_output() for port in node.inputs()]
    if kind == "Maximum":
        return any(_constant_at_least(x, 0.0) for x in inputs)
    if kind == "Minimum":
        return all(_constant_at_least(x, 0.0) or _is_non_negative(x) for x in inputs)
    return kind == "Relu" or (kind == "Clamp" and float(node.get_attributes()["min"]) >= 0.0)


def _constant_at_least(value: Any, least: float, *, and_most: float = np.inf) -> bool:
    node = value.get_node()
    if node.get_type_name() != "Constant":
        return False
    data = node.get_data()
    return bool(((data >= least) & (data <= and_most)).all())


def _every_nth(value: Any, shape: Shape, axes: list[int]) -> Any:
    """A grid of positions, about ROWS_PER_SAMPLE of them for the sizes of the first sample."""
    wide = sum((shape[axis] or 2) > 1 for axis in axes)
    per_axis = round(ROWS_PER_SAMPLE ** (1 / max(wide, 1)))
    steps = [max(1, -(-(shape[axis] or 1) // per_axis)) for axis in axes]
    starts = [
        step // 2 if value.get_partial_shape()[axis].is_static else 0 for step, axis in zip(steps, axes, strict=True)
    ]
    ends = np.full(len(axes), np.iinfo(np.int64).max, np.int64)
    i64 = [opset.constant(np.asarray(x, np.int64)) for x in (starts, ends, steps, axes)]
    return opset.slice(value, i64[0], i64[1], i64[2], i64[3]).output(0)
