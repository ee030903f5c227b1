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
from maxdrop.backends.openvino.shared_outputs import Array, Found, SharedOutputs, mark_batches
from maxdrop.data.statistics import Request

ROWS_PER_SAMPLE = 9


@dataclass(frozen=True)
class Reduced:
    """One value; B samples (one for each inference where there is no batch axis), C channels.

    Attributes:
        low, high, mean: (B, C): of each channel of each sample. `low` is 0 where the value cannot be negative.
        rows: (b, r, C) each, b adding up to B: a few positions with all their channels.
    """

    low: Array
    high: Array
    mean: Array
    rows: Sequence[Array]


class Watch:
    """Outputs that a model gets for some requests in place of its own, and how to read them.

    Args:
        model: gets the outputs.
        requests: what to watch; values of unknown rank are left out.
        sizes: of each value for a typical sample, as far as they are known.
        precision: in which the model will run.

    Attributes:
        requests: what is watched.
        outputs: their numbers.
        simulated: whether the model is quantized, and the int8 kernels have to be kept out.
    """

    def __init__(
        self, model: ov.Model, requests: Sequence[Request], sizes: Mapping[str, Shape], precision: str = "f32"
    ) -> None:
        mark_batches(model)
        names = Names(model)
        self.requests = [r for r in requests if not names.output(r.value).get_partial_shape().rank.is_dynamic]
        # OpenVINO 2026.4 scales twice what a reduction reads from an int8 kernel, and mixes up int8 weights of float
        # convolutions when it runs more than one stream.
        self.simulated = any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
        shared = SharedOutputs(low_precision=precision != "f32" and not self.simulated)
        self._readers = []
        for request in self.requests:
            output = names.output(request.value)
            if self.simulated:
                set_readers_apart(output, f"{request.key}/watched")
            shape = sizes.get(request.value) or partial_shape(output) or ()
            self._readers.append(_reduce(output, request.channel_axis, shape, shared))
        # The runtime computes the first output before it begins with what only the next ones need. With the model's own
        # ones gone, a value is reduced as soon as it is there, and its memory is free again.
        for result in model.get_results():
            model.remove_result(result)
        model.add_results(shared.results())
        self.outputs = range(len(model.outputs))

    def read(self, found: Found) -> list[Reduced]:
        """What `outputs` held after one inference or several, for each of `requests`."""
        return [reader(found) for reader in self._readers]


def _reduce(value: Any, channel_axis: int, shape: Shape, shared: SharedOutputs) -> Callable[[Found], Reduced]:
    value, shape, padding = _above_padding(value, shape, channel_axis)
    non_negative = _is_non_negative(value)
    if not shape:
        value, shape = opset.unsqueeze(value, opset.constant(np.array([0], np.int64))).output(0), (1,)
    rank = len(shape)
    channel = channel_axis % rank
    exact = value.get_node().get_type_name() == "Parameter"
    if value.get_element_type() != ov.Type.f32:
        value = opset.convert(value, "f32").output(0)
    if value.get_partial_shape()[channel].is_dynamic:
        # What varies from sample to sample, like the tokens in a product of activations, is no channel.
        value = opset.unsqueeze(value, opset.constant(np.array([rank], np.int64))).output(0)
        shape, channel, rank = (*shape, 1), rank, rank + 1
    if rank == 1 or channel == 0:  # no axis of samples
        value = opset.unsqueeze(value, opset.constant(np.array([0], np.int64))).output(0)
        shape, channel, rank = (1, *shape), channel + 1, rank + 1
    rest = [axis for axis in range(1, rank) if axis != channel]
    channels = value.get_partial_shape()[channel].get_length()
    if not rest:
        whole = shared.add(value, exact=exact)

        def read_whole(found: Found) -> Reduced:
            rows = _by_channel(whole(found), channels)
            return Reduced(rows, rows, rows, [rows[:, None]])

        return read_whole
    if value.get_partial_shape()[1:].is_dynamic and channel == rank - 1:
        return _reduce_together(value, shape, non_negative, shared)
    high, mean = (shared.add(x, exact=exact) for x in _highest_and_mean(value, channel, rest))
    low = None if non_negative else shared.add(_lowest(value, rest), exact=exact)
    rows = shared.add(_every_nth(value, shape, rest), exact=exact)
    order = [0, *rest, channel]

    def read(found: Found) -> Reduced:
        top = _by_channel(high(found), channels)
        bottom = np.zeros_like(top) if low is None else _by_channel(low(found), channels)
        if padding < 1.0:
            bottom, top = np.minimum(bottom, 0.0), np.maximum(top, 0.0)
        average = _by_channel(mean(found), channels) * np.float32(padding)
        some = [part.transpose(order).reshape(len(part), -1, channels) for part in rows(found)]
        return Reduced(bottom, top, average, some)

    return read


def _reduce_together(value: Any, shape: Shape, non_negative: bool, shared: SharedOutputs) -> Callable[[Found], Reduced]:
    """Like `_reduce` for a value of partly unknown sizes whose channels are its last axis: all in one output.

    The runtime computes one output after the other, so that what an output of several values reads stays in memory.
    """
    rest = list(range(1, len(shape) - 1))
    channels = value.get_partial_shape()[-1].get_length()
    axes = opset.constant(np.array(rest, np.int64))
    reductions = [opset.reduce_max, opset.reduce_mean, *([] if non_negative else [opset.reduce_min])]
    layout = opset.constant(np.array([0, -1, channels], np.int64))
    parts = [opset.reshape(op(value, axes, True), layout, True) for op in reductions]
    parts.append(opset.reshape(_every_nth(value, shape, rest), layout, True))
    together = shared.add(opset.concat(parts, 1).output(0))

    def read(found: Found) -> Reduced:
        blocks = together(found)
        reduced = np.concatenate([block[:, : len(reductions)] for block in blocks])
        low = np.zeros_like(reduced[:, 0]) if non_negative else reduced[:, 2]
        return Reduced(low, reduced[:, 0], reduced[:, 1], [block[:, len(reductions) :] for block in blocks])

    return read


def _by_channel(parts: Sequence[Array], channels: int) -> Array:
    """(samples, channels)."""
    found = [part.reshape(-1, channels) for part in parts]
    return found[0] if len(found) == 1 else np.concatenate(found)


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
