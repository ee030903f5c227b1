"""Residual additions that read integers on both sides.

`skips` quantizes the side that is quantized anyway. Where the output of the convolution beside it is quantized too, the
runtime adds while the convolution stores, instead of in an op of its own. That costs some error and does not always
pay, so it is done only where it was measured to (`Policy.integer_sums`).

The range of that output comes from the sampled rows of what the convolution reads, so no value more has to be watched.
That takes a kernel of one position, as the last convolution of a bottleneck block has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Graph, Node, OpKind
from maxdrop.data.plan import Quantizer, UseRef
from maxdrop.data.spec import QuantizerSpec, QuantParams
from maxdrop.data.statistics import TensorStatistics
from maxdrop.ptq.basis import Basis
from maxdrop.ptq.numerics import params_from_range
from maxdrop.ptq.ranges.mse import mse_range
from maxdrop.ptq.skips import behind_bias
from maxdrop.ptq.weights import canonical

F32 = NDArray[np.float32]

_MARGIN = 1.5
"""The range reaches so much further than the sampled rows: the largest values of all samples are rarely among them."""

_COARSER = 2 * _MARGIN
"""How much larger than the step of the sum the steps of what is added may be: one bit for the sign, and the margin."""

_SPEC = QuantizerSpec(dtype="int8")

_LEAST_SHARE = 1e-3
"""Added elements for each multiply-accumulate below which additions are no notable part of the time."""


def sum_quantizers(basis: Basis, activations: Sequence[Quantizer], int8: Collection[str]) -> list[Quantizer]:
    """Quantizers of outputs of convolutions for the additions that read them.

    Args:
        basis: of the plan.
        activations: all other quantizers of activations of the plan.
        int8: all ops of the plan that are int8.
    """
    quantized = {use for quantizer in activations for use in quantizer.uses}
    steps = {q.value: q.params.scale[0] for q in activations if not q.spec.axes and not q.params.factors}
    found = []
    for node, sources in _additions(basis.graph, int8):
        if node.name in basis.policy.ignored:
            continue
        uses = [UseRef(node=node.name, index=index) for index in (0, 1)]
        sides = {use: sources[use.index] for use in uses if use not in quantized and use.index in sources}
        step = max((steps[value] for value in _stored_as(basis.graph, node) if value in steps), default=0.0)
        if len(sides) + len(quantized.intersection(uses)) < len(uses) or not step:
            continue
        made = [_quantizer(basis, node.inputs[use.index], use, source, step) for use, source in sides.items()]
        if all(quantizer is not None for quantizer in made):
            found += [quantizer for quantizer in made if quantizer is not None]
    return found


def may_have_integer_sums(graph: Graph, int8: Collection[str]) -> bool:
    """Whether additions behind convolutions of one position are a notable part of the work."""
    added = sum(_elements(graph, node) for node, _ in _additions(graph, int8))
    return added > _LEAST_SHARE * sum(node.macs for node in graph)


def _additions(graph: Graph, int8: Collection[str]) -> Iterator[tuple[Node, dict[int, Node]]]:
    """Additions of two values of one shape, each with its inputs that are an int8 convolution of one position."""
    for node in graph:
        if node.kind is not OpKind.ADD or len({graph.value(v).shape for v in node.inputs}) > 1:
            continue
        sources = {index: behind_bias(graph, value) for index, value in enumerate(node.inputs)}
        found = {i: source for i, source in sources.items() if source.name in int8 and _is_one_position(graph, source)}
        if found:
            yield node, found


def _is_one_position(graph: Graph, node: Node) -> bool:
    contraction = node.contraction
    if node.kind is not OpKind.CONVOLUTION or contraction is None or contraction.weight_input is None:
        return False
    shape = graph.value(node.inputs[contraction.weight_input]).shape or ()
    named = {*contraction.weight_axes, contraction.weight_channel_axis}
    return contraction.groups == 1 and all(size == 1 for axis, size in enumerate(shape) if axis not in named)


def _stored_as(graph: Graph, node: Node) -> set[str]:
    """The sum, and what a rectifier makes of it."""
    rectified = [r.outputs[0] for r in graph.readers(node) if r.kind is OpKind.RELU]
    return {node.outputs[0], *rectified}


def _elements(graph: Graph, node: Node) -> int:
    return int(np.prod([size or 1 for size in graph.value(node.outputs[0]).shape or ()], dtype=np.int64))


def _quantizer(basis: Basis, value: str, use: UseRef, source: Node, step: float) -> Quantizer | None:
    """None where 8 bits are too coarse beside `step`, in which the sum is stored anyway."""
    params = basis.remember(("sum", value), lambda: _params(basis, value, source))
    if params is None or params.scale[0] > _COARSER * step:
        return None
    name = f"{use.node}:{use.index}/sum"
    return Quantizer(
        id=name, value=value, uses=(use,), serves=(), constant=False, spec=_SPEC, params=params, group=name
    )  # fmt: skip


def _params(basis: Basis, value: str, source: Node) -> QuantParams | None:
    """Scale for the output of `source` with its biases, clipped where the sampled rows gain from finer steps."""
    rows = _output_rows(basis, value, source)
    if rows is None or not rows.any():
        return None
    reach = np.asarray([np.abs(rows).max() * _MARGIN], np.float32)
    ends = (-reach, reach, rows.min(axis=0), rows.max(axis=0), rows.mean(axis=0))
    statistics = TensorStatistics(*ends, rows=rows, row_sample=np.zeros(len(rows), np.int32))
    return params_from_range(*mse_range(statistics, _SPEC), _SPEC)


def _output_rows(basis: Basis, value: str, source: Node) -> F32 | None:
    """`value`, the output of `source` with its biases, at the sampled positions: float32 (r, output channels)."""
    contraction, graph = source.contraction, basis.graph
    if contraction is None or contraction.weight_input is None or source.inputs[0] not in basis.statistics:
        return None
    weight = canonical(graph.constant(source.inputs[contraction.weight_input]), contraction)[0, :, :, 0]
    read = basis.input_statistics(source).rows
    if read.shape[1] != weight.shape[1]:
        return None
    rows = read @ weight.astype(np.float32).T
    while value != source.outputs[0]:
        moving, bias = sorted(graph.producer(value).inputs, key=lambda v: graph.value(v).is_constant)
        added = graph.constant(bias).astype(np.float32).ravel() if graph.value(bias).is_constant else None
        if added is None or added.size not in (1, rows.shape[1]):
            return None
        rows, value = rows + added, moving
    return np.asarray(rows, np.float32)
