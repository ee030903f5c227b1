"""Sequential bias correction: mean errors of the outputs, measured in the fully quantized model.

The closed form (`bias_correction`) looks at each op alone, with the float model's inputs. Here the mean of each
output channel is measured in the float and in the quantized model, a group of ops after the other, the first ones
already corrected: what ops in front still leave, and borders padded with zeros, count too. Nagel et al., "Data-Free
Quantization through Weight Equalization and Bias Correction" (arXiv 1906.04721), section 4.2.

The one step of quantization that runs quantized models. A shift stays an edit that belongs to its op, so a candidate
that reverts the op loses it, and nothing is measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Graph, OpKind
from maxdrop.data.plan import Candidate
from maxdrop.data.protocols import Backend
from maxdrop.data.schema import Frozen
from maxdrop.data.statistics import Request, Statistics
from maxdrop.ptq.build import Planner
from maxdrop.ptq.numerics import nmse

F32 = NDArray[np.float32]
Shifts = dict[str, F32]

SAMPLES = 40
"""Calibration samples that are enough to measure and check with."""

CHECKED = 8
"""Samples, none of them measured with, that decide whether the measured shifts are better than the closed form."""


class BiasTable(Frozen):
    """Measured shifts as plain data: one number for each output channel, by op."""

    shifts: dict[str, tuple[float, ...]]

    @classmethod
    def of(cls, shifts: Mapping[str, F32]) -> BiasTable:
        """The same numbers, each in the fewest digits that give back its float32."""
        return cls(shifts={op: tuple(float(str(x)) for x in shift) for op, shift in shifts.items()})

    @property
    def arrays(self) -> Shifts:
        """Float32 (output channels,) by op."""
        return {op: np.asarray(shift, np.float32) for op, shift in self.shifts.items()}


def measure_shifts(
    planner: Planner, backend: Backend[Any], model: Any, samples: Sequence[Any], progress: Callable[[int], None]
) -> Shifts:
    """What to add to each output channel of each int8 op with a weight, float32 (output channels,) by op.

    Empty where the quantized model's outputs would not become better by it on samples of their own.

    Args:
        planner: whose plan of the fully quantized model is corrected.
        backend: of the model.
        model: the float model.
        samples: a few dozen calibration samples.
        progress: called with the number of inferences that are done.
    """
    measured, checked = split_samples(samples)
    run = _Runs(backend, progress)
    requests = _output_requests(planner)
    exact = run(model, list(requests.values()), measured)
    shifts: Shifts = {}
    for group in levels(planner.graph, requests):
        current = planner.with_bias_shifts(shifts)
        quantized = backend.apply(model, current(Candidate()), current.arrays, observable=True)
        found = run(quantized, [requests[op] for op in group], measured)
        shifts.update(_differences(requests, group, exact, found))
    ends = end_requests(planner.graph)
    reference = run(model, ends, checked)

    def error(shifts: Mapping[str, F32]) -> float:
        current = planner.with_bias_shifts(shifts)
        quantized = backend.apply(model, current(Candidate()), current.arrays, observable=True)
        return _error(reference, run(quantized, ends, checked))

    return shifts if error(shifts) <= error({}) else {}


def split_samples(samples: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Samples to measure with, and `CHECKED` others to check on; too few samples serve for both."""
    if len(samples) < 2 * CHECKED:
        return list(samples), list(samples)
    chosen = set(np.linspace(0, len(samples) - 1, CHECKED).round().astype(int).tolist())
    parts: tuple[list[Any], list[Any]] = [], []
    for number, sample in enumerate(samples):
        parts[number in chosen].append(sample)
    return parts


class _Runs:
    """Passes over samples, counted together."""

    def __init__(self, backend: Backend[Any], progress: Callable[[int], None]) -> None:
        self._backend = backend
        self._progress = progress
        self._done = 0

    def __call__(self, model: Any, requests: Sequence[Request], samples: Sequence[Any]) -> Statistics:
        before = self._done
        found = self._backend.observe(model, requests, samples, lambda done: self._progress(before + done))
        self._done += len(samples)
        return found


def _output_requests(planner: Planner) -> dict[str, Request]:
    """By op, in topological order: its output, before anything is added to it."""
    found = {}
    for op in planner.int8_ops:
        node = planner.graph.node(op)
        if node.contraction is not None and node.contraction.weight_input is not None:
            found[op] = Request(node.outputs[0], node.contraction.output_axis)
    return found


def end_requests(graph: Graph) -> list[Request]:
    """The model's outputs: one of several channels to a sample, or a vector.

    In front of a final Softmax, behind which a few samples that tip over are nearly all of the error.
    """
    values = [_before_softmax(graph, node.inputs[0]) for node in graph if node.kind is OpKind.RESULT]
    known = {value: graph.value(value).shape for value in values if graph.value(value).is_float}
    return [Request(value, 1 if len(shape) > 1 else 0) for value, shape in known.items() if shape]


def _before_softmax(graph: Graph, value: str) -> str:
    producer = graph.producer(value)
    return producer.inputs[0] if producer.kind is OpKind.SOFTMAX else value


def levels(graph: Graph, ops: Iterable[str]) -> list[list[str]]:
    """The ops in steps, so that no op of a step lies behind another one of it.

    Correcting an op together with one in front of it would count the mean error of the first twice.
    """
    wanted = set(ops)
    depth: dict[str, int] = {}
    levels: dict[int, list[str]] = {}
    for node in graph:
        sources = (graph.value(value).producer for value in node.inputs)
        here = max((depth[source] for source in sources), default=0)
        if node.name in wanted:
            levels.setdefault(here, []).append(node.name)
        depth[node.name] = here + (node.name in wanted)
    return [levels[key] for key in sorted(levels)]


def _differences(requests: Mapping[str, Request], group: Sequence[str], exact: Statistics, found: Statistics) -> Shifts:
    shifts = {}
    for op in group:
        value = requests[op].value
        if value not in exact or value not in found:
            continue
        shift = exact[value].channel_mean.astype(np.float64) - found[value].channel_mean
        if np.isfinite(shift).all():
            shifts[op] = shift.astype(np.float32)
    return shifts


def _error(reference: Statistics, found: Statistics) -> float:
    """Mean NMSE of the outputs on sampled positions."""
    pairs = [(tensor.rows, found[value].rows) for value, tensor in reference.tensors.items() if value in found]
    same = [(a.astype(np.float64), b) for a, b in pairs if a.shape == b.shape]
    return float(np.mean([nmse(a, b) for a, b in same])) if same else 0.0
