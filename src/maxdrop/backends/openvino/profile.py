"""Time of each op, from the runtime's own counters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov

from maxdrop.backends.openvino.executed import info, origins
from maxdrop.backends.openvino.feed import infer
from maxdrop.data.graph import Graph, Node, OpKind

COUNTERS = {"PERF_COUNT": "YES"}
"""What a model must be compiled with."""

_WARM_UP = 3
_QUANTILE = 0.25
"""Other work on the machine only ever adds to a time."""

_CONVERSIONS = frozenset({"Reorder", "FakeQuantize", "Convert", "Subgraph", "Eltwise"})
_FUSED = frozenset({OpKind.ADD, OpKind.SUBTRACT, OpKind.MULTIPLY, OpKind.DIVIDE, OpKind.RELU})


def kernel_names(graph: Graph) -> dict[str, str]:
    """The op that a kernel belongs to, by the names that the kernel may bear.

    The runtime merges a bias, a normalisation and a rectifier into the kernel of the op above, and names the kernel
    after any of them.
    """
    found: dict[str, str] = {}
    for node in graph:
        if not node.macs:
            continue
        found[node.name] = node.name
        below = _sole_reader(graph, node)
        while below is not None and below.kind in _FUSED:
            found.setdefault(below.name, node.name)
            below = _sole_reader(graph, below)
    return found


def _sole_reader(graph: Graph, node: Node) -> Node | None:
    readers = [graph.node(use.node) for use in graph.value(node.outputs[0]).uses]
    readers = [reader for reader in readers if reader.kind is not OpKind.SHAPE]
    return readers[0] if len(readers) == 1 else None


def op_seconds(
    compiled: Sequence[ov.CompiledModel], sample: Any, names: Mapping[str, str], runs: int
) -> list[dict[str, float]]:
    """Seconds of each op in one inference of each model; the models take turns.

    The runtime puts conversions between kernels of different precision; their time belongs to the op that reads them.
    An op that the runtime hides in a kernel of others is left out.

    Args:
        compiled: with performance counters.
        sample: what they read.
        names: of kernels, see `kernel_names`.
        runs: inferences of each model.
    """
    requests = [model.create_infer_request() for model in compiled]
    times: list[dict[str, list[float]]] = [{} for _ in requests]
    for run in range(-_WARM_UP, runs):
        for request, found in zip(requests, times, strict=True):
            if run == -_WARM_UP:
                infer(request, sample, 0)
                continue
            request.infer()
            for entry in request.get_profiling_info() if run >= 0 else ():
                found.setdefault(entry.node_name, []).append(entry.real_time.total_seconds())
    typical = [{name: float(np.quantile(each, _QUANTILE)) for name, each in found.items()} for found in times]
    return [_by_op(model, found, names) for model, found in zip(compiled, typical, strict=True)]


def _by_op(compiled: ov.CompiledModel, times: Mapping[str, float], names: Mapping[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for node in compiled.get_runtime_model().get_ops():
        op = next((names[name] for name in origins(node) if name in names), None)
        if op is not None:
            spent = [times.get(each.get_friendly_name(), 0.0) for each in (node, *_conversions(node, names))]
            found[op] = found.get(op, 0.0) + sum(spent)
    return found


def _conversions(node: Any, names: Mapping[str, str]) -> Iterator[Any]:
    """The nodes that make a kernel's inputs fit, and that nothing else reads."""
    for port in node.inputs():
        source = port.get_source_output()
        above = source.get_node()
        sole = len(source.get_target_inputs()) == 1
        if sole and info(above, "layerType") in _CONVERSIONS and not any(name in names for name in origins(above)):
            yield above
            yield from _conversions(above, names)
