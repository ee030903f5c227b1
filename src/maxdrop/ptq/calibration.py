"""Which values a calibration pass has to watch, so that no later decision needs another pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from maxdrop.data.graph import Graph, OpKind
from maxdrop.data.spec import Policy
from maxdrop.data.statistics import Request


def calibration_requests(graph: Graph, int8_ops: Iterable[str], policy: Policy | None = None) -> list[Request]:
    """Every activation that some plan could quantize, once for each axis that an op sums over.

    These are the data inputs of the ops, and the branches of every Concat that such an input comes from, since a
    quantizer may move onto them; and the model's outputs where these are to be quantized.

    Args:
        graph: the float model.
        int8_ops: the ops that are int8 unless a candidate says otherwise.
        policy: says how samples are counted, how much memory there is, and whether outputs are quantized.
    """
    policy = policy or Policy()
    wanted = set(int8_ops)
    requests: dict[str, Request] = {}
    for node in graph.contractions:
        contraction = node.contraction
        if contraction is None or node.name not in wanted:
            continue
        for index, axis in zip(contraction.activation_inputs, contraction.channel_axes, strict=True):
            _add(graph, node.inputs[index], axis, requests)
    for value in output_values(graph) if policy.quantize_outputs and wanted else ():
        _add(graph, value, -1, requests, only_range=True)
    most = policy.statistics_memory_mb * 2**20 // max(len(requests), 1)
    return [replace(r, batchwise=policy.batchwise_statistics, most_bytes=most) for r in requests.values()]


def output_values(graph: Graph) -> list[str]:
    """The floating-point values that the model returns."""
    read = dict.fromkeys(node.inputs[0] for node in graph if node.kind is OpKind.RESULT)
    return [value for value in read if graph.value(value).is_float and not graph.value(value).is_constant]


def _add(graph: Graph, value: str, axis: int, requests: dict[str, Request], *, only_range: bool = False) -> None:
    found = graph.value(value)
    if not found.is_float or found.is_constant:
        return
    first = requests.get(value)
    if first is not None:
        if not only_range and _axis(graph, value, axis) != _axis(graph, value, first.channel_axis):
            second = Request(value, axis, is_second=True)
            requests.setdefault(second.key, second)
        return
    requests[value] = Request(value, axis)
    source = value
    while graph.producer(source).kind in {OpKind.LAYOUT, OpKind.MAX_POOL, OpKind.PAD, OpKind.SLICE}:
        source = graph.producer(source).inputs[0]
    if graph.producer(source).kind is OpKind.CONCAT:
        for branch in graph.producer(source).inputs:
            _add(graph, branch, axis, requests, only_range=True)


def _axis(graph: Graph, value: str, axis: int) -> int:
    shape = graph.value(value).shape
    return axis % len(shape) if shape else axis
