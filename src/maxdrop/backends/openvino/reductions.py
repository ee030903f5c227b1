"""What a calibration pass adds to the graph: reductions of the watched values, in as few outputs as possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as opset

from maxdrop.backends.openvino.apart import set_readers_apart
from maxdrop.backends.openvino.naming import Names
from maxdrop.backends.openvino.shapes import Shape, partial_shape
from maxdrop.backends.openvino.shared_outputs import Array, SharedOutputs, mark_batches
from maxdrop.data.statistics import Request

ROWS_PER_SAMPLE = 9


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
        mark_batches(model)
        names = Names(model)
        self.requests = [r for r in requests if not names.output(r.value).get_partial_shape().rank.is_dynamic]
        # OpenVINO 2026.4 scales twice what a reduction reads from an int8 kernel, and mixes up int8 weights of float
        # convolutions when it runs more than one stream.
        self.simulated = any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
        before = len(model.outputs)
        shared = SharedOutputs()
        self._readers = []
        for request in self.requests:
            output = names.output(request.value)
            if self.simulated:
                set_readers_apart(output, f"{request.key}/watched")
            shape = sizes.get(request.value) or partial_shape(output) or ()
            self._readers.append(_reduce(output, request.channel_axis, shape, shared))
        model.add_results(shared.results())
        self.outputs = range(before, len(model.outputs))

    def read(self, found: Sequence[Array]) -> list[Reduced]:
        """What `outputs` held after an inference, for each of `requests`."""
        return [reader(found) for reader in self._readers]


def _reduce(value: Any, channel_axis: int, shape: Shape, shared: SharedOutputs) -> Callable[[Sequence[Array]], Reduced]:
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
        whole = shared.add(value)

        def read_whole(found: Sequence[Array]) -> Reduced:
            rows = whole(found).reshape(-1, channels)
            return Reduced(rows, rows, rows, rows[:, None])

        return read_whole
    high, mean = (shared.add(x) for x in _highest_and_mean(value, channel, rest))
    low = None if non_negative else shared.add(_lowest(value, rest))
    rows = shared.add(_every_nth(value, shape, rest))
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


def _lowest(value: Any, rest: list[int]) -> Any:
    return opset.reduce_min(value, opset.constant(np.array(rest, np.int64)), False).output(0)


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
    if pad.get_input_size() < 4:
        return True
    filler = _constant(pad.input_value(3))
    return filler is not None and not filler.any()


def _is_non_negative(value: Any) -> bool:
    """Whether a rectifier, in one of the ways that it is written, made the value."""
    constant = _constant(value)
    if constant is not None:
        return bool((constant >= 0.0).all())
    node = value.get_node()
    kind = node.get_type_name()
    if kind in {"Maximum", "Minimum"}:
        enough = any if kind == "Maximum" else all
        return enough(_is_non_negative(source) for source in node.input_values())
    return kind == "Relu" or (kind == "Clamp" and float(node.get_attributes()["min"]) >= 0.0)


def _constant(value: Any) -> Array | None:
    node = value.get_node()
    return node.get_data() if node.get_type_name() == "Constant" else None


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
