"""Which values a calibration pass has to watch, so that no later decision needs another pass."""

from __future__ import annotations

from collections.abc import Iterable

from maxdrop.data.graph import Graph, OpKind
from maxdrop.data.statistics import Request


def calibration_requests(graph: Graph, int8_ops: Iterable[str]) -> list[Request]:
    """Every activation that some plan could quantize, once each.

    These are the data inputs of the ops, and the branches of every Concat that such an input comes from, since a
    quantizer may move onto them.

    Args:
        graph: the float model.
        int8_ops: the ops that are int8 unless a candidate says otherwise.
    """
    wanted = set(int8_ops)
    requests: dict[str, Request] = {}
    for node in graph.contractions:
        contraction = node.contraction
        if contraction is None or node.name not in wanted:
            continue
        for index, axis in zip(contraction.activation_inputs, contraction.channel_axes, strict=True):
            _add(graph, node.inputs[index], axis, requests)
    return list(requests.values())


def _add(graph: Graph, value: str, axis: int, requests: dict[str, Request]) -> None:
    found = graph.value(value)
    if not found.is_float or found.is_constant or value in requests:
        return
    requests[value] = Request(value, axis)
    source = value
    while graph.producer(source).kind in {OpKind.LAYOUT, OpKind.MAX_POOL, OpKind.PAD, OpKind.SLICE}:
        source = graph.producer(source).inputs[0]
    if graph.producer(source).kind is OpKind.CONCAT:
        for branch in graph.producer(source).inputs:
            _add(graph, branch, axis, requests)
