"""How much each op's quantization disturbs the output: one op quantized at a time, all others float.

The reference of such a run is the float output itself, so a few samples rank the ops reliably, where taking one op
out of the fully quantized model compares two noisy totals. Measured on activations; the share of the weights follows
from the ratio of both errors at the op's own output, because what lies behind the op amplifies both alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Graph
from maxdrop.data.plan import QuantizationPlan, Quantizer
from maxdrop.data.protocols import Switchable
from maxdrop.data.statistics import Statistics
from maxdrop.ptq.numerics import fake_quantize, nmse
from maxdrop.ptq.weights import canonical

Outputs = list[NDArray[Any]]


def output_distance(reference: Outputs, other: Outputs) -> float:
    """Mean over the outputs of their NMSE. It hides nothing that a metric may see, such as a change of length."""
    pairs = [(r, o) for r, o in zip(reference, other, strict=True) if np.issubdtype(r.dtype, np.floating)]
    if not pairs:
        return float(np.mean([np.mean(r != o) for r, o in zip(reference, other, strict=True)]))
    return float(np.mean([min(nmse(r, o), 1e6) for r, o in pairs]))


def measure_sensitivity(
    switchable: Switchable, samples: Sequence[Any], progress: Callable[[int], None]
) -> dict[str, float]:
    """Output NMSE with each op alone quantized, averaged over the samples.

    Args:
        switchable: the float model with switches.
        samples: a few calibration samples.
        progress: called with the number of forwards that are done.
    """
    totals = dict.fromkeys(switchable.ops, 0.0)
    done = 0
    for sample in samples:
        reference = switchable.run(sample, ())
        for op in switchable.ops:
            totals[op] += output_distance(reference, switchable.run(sample, (op,)))
            done += 1
            progress(done)
    return {op: total / len(samples) for op, total in totals.items()}


def add_weight_error(
    sensitivity: dict[str, float], graph: Graph, plan: QuantizationPlan, statistics: Statistics
) -> dict[str, float]:
    """Sensitivities with the error of the weights added to that of the activations."""
    weights = {q.uses[0].node: q for q in plan.quantizers if q.constant}
    activations = {use.node: q for q in plan.quantizers if not q.constant for use in q.serves}
    return {
        op: value * (1.0 + _weight_ratio(graph, statistics, activations.get(op), weights.get(op)))
        for op, value in sensitivity.items()
    }


def _weight_ratio(
    graph: Graph, statistics: Statistics, activation: Quantizer | None, weight: Quantizer | None
) -> float:
    """Power of the weights' error over that of the activation's error, at the op's own output."""
    if activation is None or weight is None or activation.spec.axes:
        return 0.0
    op = weight.uses[0].node
    contraction = graph.node(op).contraction
    if contraction is None:
        return 0.0
    tensor = statistics[graph.node(op).inputs[contraction.activation_inputs[0]]]
    w = graph.constant(weight.value)
    if w.shape[contraction.weight_channel_axis] * contraction.groups != tensor.rows.shape[1]:
        return 0.0
    rows = tensor.rows
    noise = np.square(fake_quantize(rows, activation.params, activation.spec) - rows).mean(axis=0)
    power = np.square(rows).mean(axis=0)
    by_weight = _channel_power(fake_quantize(w, weight.params, weight.spec) - w, contraction) @ power
    by_activation = _channel_power(w, contraction) @ noise
    return float(by_weight / by_activation) if by_activation > 0.0 else 0.0


def _channel_power(weight: NDArray[Any], contraction: Any) -> NDArray[np.float64]:
    """Sum of squares of everything that multiplies each input channel, float64 (C,)."""
    squares = np.square(canonical(weight, contraction), dtype=np.float64)
    return np.asarray(squares.sum(axis=(1, 3)).ravel())
