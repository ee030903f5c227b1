"""The calibration pass: reductions inside the graph, so that activations are not copied out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as opset

from maxdrop.backends.openvino.apart import set_readers_apart
from maxdrop.backends.openvino.naming import Names
from maxdrop.backends.openvino.shapes import known_sizes, partial_shape
from maxdrop.backends.openvino.streaming import run_in_order, run_overlapped
from maxdrop.data.statistics import Request, TensorStatistics

ROWS_PER_SAMPLE = 9
_F32 = np.float32


def observe(
    model: ov.Model, requests: Sequence[Request], samples: Iterable[Any], progress: Callable[[int], None]
) -> dict[str, TensorStatistics]:
    """Run every sample once and reduce the requested values.

    Values of unknown rank, and values that no sample reaches, are left out.

    Args:
        model: the float model; stays as it is.
        requests: what to watch.
        samples: inputs; see `feed.infer` for their forms.
        progress: called after each sample with the number done.
    """
    source = iter(samples)
    first = next(source, None)
    if first is None:
        return {}
    watched, known = _watched(model, requests, first)
    collectors = [_Collector(r) for r in known]
    outputs = range(len(watched.outputs) - 4 * len(known), len(watched.outputs))
    # A stateful model's samples depend on the ones before them, so they run one after another.
    run = run_overlapped
    if _is_quantized(watched):
        run = partial(run_in_order, simulated=True)
    elif watched.get_sinks():
        run = run_in_order
    for number, found in enumerate(run(watched, chain([first], source), outputs)):
        for i, collector in enumerate(collectors):
            collector.add(*found[4 * i : 4 * i + 4])
        progress(number + 1)
    return {c.request.key: c.result() for c in collectors if c.count}


def _watched(model: ov.Model, requests: Sequence[Request], sample: Any) -> tuple[ov.Model, list[Request]]:
    """A copy of the model with four more outputs for each request whose rank is known."""
    sizes = known_sizes(model, sample)
    watched = model.clone()
    names = Names(watched)
    known = [r for r in requests if not names.output(r.value).get_partial_shape().rank.is_dynamic]
    quantized = _is_quantized(watched)
    for request in known:
        output = names.output(request.value)
        if quantized:
            set_readers_apart(output, f"{request.key}/watched")
        shape = sizes.get(request.value) or partial_shape(output) or ()
        watched.add_results([opset.result(x) for x in _reductions(output, request.channel_axis, shape)])
    return watched, known


def _is_quantized(model: ov.Model) -> bool:
    """Whether the int8 kernels have to be kept out.

    OpenVINO 2026.4 scales twice what a reduction reads from one, and mixes up int8 weights of float convolutions when
    it runs more than one stream.
    """
    return any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())


def _reductions(value: Any, channel_axis: int, shape: tuple[int | None, ...]) -> list[Any]:
    """Minimum, maximum and mean of each channel of each sample, and a few positions with all channels."""
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
    if not rest:
        return [value] * 4
    axes = opset.constant(np.array(rest, np.int64))
    reduced = [op(value, axes, False) for op in (opset.reduce_min, opset.reduce_max, opset.reduce_mean)]
    order = opset.constant(np.array([*batch, *rest, channel], np.int64))
    rows = opset.transpose(_every_nth(value, shape, rest), order)
    return [node.output(0) for node in (*reduced, rows)]


def _every_nth(value: Any, shape: tuple[int | None, ...], axes: list[int]) -> Any:
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


class _Collector:
    """Aggregates one value over the samples."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.count = 0
        self._low: list[NDArray[Any]] = []
        self._high: list[NDArray[Any]] = []
        self._sum: NDArray[np.float64] | None = None
        self._channel_low: NDArray[Any] | None = None
        self._channel_high: NDArray[Any] | None = None
        self._rows: list[NDArray[Any]] = []
        self._row_sample: list[int] = []
        self._stride = 1
        self._bytes = 0

    def add(self, low: Any, high: Any, mean: Any, rows: Any) -> None:
        """Take the reductions of one inference, which may hold several samples."""
        channels = low.shape[-1] if low.ndim else 1
        low, high, mean = (np.reshape(x, (-1, channels)) for x in (low, high, mean))
        if low.size == 0:
            return
        rows = np.reshape(rows, (-1, channels))
        if not self.request.batchwise:
            low, high = low.min(axis=0, keepdims=True), high.max(axis=0, keepdims=True)
            mean = mean.mean(axis=0, keepdims=True, dtype=np.float64)
        batch = len(low)
        self._low.append(low.min(axis=1).copy())
        self._high.append(high.max(axis=1).copy())
        total = mean.sum(axis=0, dtype=np.float64)
        self._sum = total if self._sum is None else self._sum + total
        lowest, highest = low.min(axis=0), high.max(axis=0)
        self._channel_low = lowest if self._channel_low is None else np.minimum(self._channel_low, lowest)
        self._channel_high = highest if self._channel_high is None else np.maximum(self._channel_high, highest)
        for part in np.reshape(rows, (batch, -1, channels)):
            self._keep(part)

    def _keep(self, part: NDArray[Any]) -> None:
        """Keep a sample's rows if its turn; once the cap is reached, keep half as many samples."""
        if self.count % self._stride == 0:
            if len(part) > 2 * ROWS_PER_SAMPLE:
                part = part[:: -(-len(part) // ROWS_PER_SAMPLE)]
            self._rows.append(part.astype(_F32))
            self._row_sample.append(self.count)
            self._bytes += self._rows[-1].nbytes
            if self._bytes > self.request.most_bytes and len(self._rows) > 2:
                self._thin()
        self.count += 1

    def _thin(self) -> None:
        self._stride *= 2
        kept = [i for i, n in enumerate(self._row_sample) if n % self._stride == 0]
        self._rows = [self._rows[i] for i in kept]
        self._row_sample = [self._row_sample[i] for i in kept]
        self._bytes = sum(part.nbytes for part in self._rows)

    def result(self) -> TensorStatistics:
        """Statistics over all samples."""
        sizes = [len(r) for r in self._rows]
        total = self._sum if self._sum is not None else np.zeros(0)
        return TensorStatistics(
            np.concatenate(self._low).astype(_F32),
            np.concatenate(self._high).astype(_F32),
            np.asarray(self._channel_low, _F32),
            np.asarray(self._channel_high, _F32),
            (total / self.count).astype(_F32),
            np.concatenate(self._rows),
            np.repeat(np.asarray(self._row_sample, np.int32), sizes),
        )
