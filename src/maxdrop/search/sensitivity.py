"""How much each op's quantization disturbs the output: one op quantized at a time, all others float.

The reference of such a run is the float output itself, so a few samples rank the ops reliably, where taking one op
out of the fully quantized model compares two noisy totals. Measured on activations; the share of the weights follows
from the ratio of both errors at the op's own output, because what lies behind the op amplifies both alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Contraction, Graph
from maxdrop.data.plan import Arrays, QuantizationPlan, Quantizer
from maxdrop.data.protocols import Switchable
from maxdrop.data.statistics import Statistics
from maxdrop.ptq.numerics import dequantize, fake_quantize, nmse, weight_codes
from maxdrop.ptq.rounding import HELD_OUT
from maxdrop.ptq.weights import canonical, channel_power

F32 = NDArray[np.float32]
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
    rows = []
    for number, sample in enumerate(samples):
        reference, row = switchable.run(sample, ()), {}
        for done, op in enumerate(switchable.ops):
            row[op] = op_distance(switchable, sample, reference, op)
            progress(number * len(switchable.ops) + done + 1)
        rows.append(row)
    return mean_over_samples(rows)


def op_distance(switchable: Switchable, sample: Any, reference: Outputs, op: str) -> float:
    """Output NMSE of one sample with `op` alone quantized; `reference` is the output with nothing quantized."""
    return output_distance(reference, switchable.run(sample, (op,)))


def mean_over_samples(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each op's distances, summed in the order of the samples so that every executor gets equal bits."""
    return {op: sum(row[op] for row in rows) / len(rows) for op in rows[0]}


def add_weight_error(
    sensitivity: dict[str, float],
    graph: Graph,
    plan: QuantizationPlan,
    statistics: Statistics,
    arrays: Arrays | None = None,
) -> dict[str, float]:
    """Sensitivities with the error of the weights added to that of the activations.

    Args:
        sensitivity: by op, of the activations alone.
        graph: the float model.
        plan: in which all these ops are int8.
        statistics: of the plan's values.
        arrays: what the plan names; without them weights count as rounded to the nearest.
    """
    noise = op_noise(graph, plan, statistics, arrays, list(sensitivity))
    ratios = {op: weights / activations if activations > 0.0 else 0.0 for op, (activations, weights) in noise.items()}
    return {op: value * (1.0 + ratios[op]) for op, value in sensitivity.items()}


def op_noise(
    graph: Graph, plan: QuantizationPlan, statistics: Statistics, arrays: Arrays | None, ops: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Power of the error at each op's own output, by its activation and by its weight, as sampled rows predict it.

    Both are in units of their own for each op, and 0 where they cannot be told.
    """
    weights = {q.uses[0].node: q for q in plan.quantizers if q.constant}
    activations = {use.node: q for q in plan.quantizers if not q.constant for use in q.serves}
    return {op: _noise(graph, statistics, arrays, activations.get(op), weights.get(op)) for op in ops}


def _noise(
    graph: Graph, statistics: Statistics, arrays: Arrays | None, activation: Quantizer | None, weight: Quantizer | None
) -> tuple[float, float]:
    if activation is None or weight is None:
        return 0.0, 0.0
    op = weight.uses[0].node
    contraction = graph.node(op).contraction
    if contraction is None:
        return 0.0, 0.0
    rows = statistics[graph.node(op).inputs[contraction.activation_inputs[0]]].rows
    w = graph.constant(weight.value)
    if w.shape[contraction.weight_channel_axis] * contraction.groups != rows.shape[1]:
        return 0.0, 0.0
    spec = activation.spec
    spec = spec.model_copy(update={"axes": (1,) if spec.axes else (), "smooth_axis": 1 if spec.smooth_axis else None})
    noise = np.square(fake_quantize(rows, activation.params, spec) - rows).mean(axis=0)
    power = np.square(rows).mean(axis=0)
    by_weight = float(channel_power(fake_quantize(w, weight.params, weight.spec) - w, contraction) @ power)
    if weight.codes is not None and arrays is not None:
        by_weight *= _gain_of_codes(weight, w, contraction, rows, arrays)
    return float(channel_power(w, contraction) @ noise), by_weight


def _gain_of_codes(weight: Quantizer, w: NDArray[Any], contraction: Contraction, rows: F32, arrays: Arrays) -> float:
    """Error that is left by weights rounded together, as a share of that of the nearest ones.

    Their errors depend on each other, so that the powers of single channels say nothing.
    """
    unseen = rows[HELD_OUT]
    chosen = dequantize(weight_codes(weight, w, arrays), weight.params, weight.spec)
    errors = [canonical(q - w, contraction)[0] for q in (chosen, fake_quantize(w, weight.params, weight.spec))]
    after, before = (float(np.square(unseen @ error[:, :, 0].T).sum()) for error in errors)
    return after / before if before > 0.0 else 1.0
