"""What each op is worth in int8, in the terms of the user's objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Literal

from maxdrop.data.graph import Graph

Objective = Literal["latency", "throughput", "size", "ops"]
"""What a search makes as good as it can: seconds of one inference alone, seconds per inference with all streams busy,
bytes of the file, or the number of int8 ops."""

Seconds = tuple[Mapping[str, float], Mapping[str, float]]
"""Seconds of each op of the float model, and of each op of the int8 model."""


def gain_by_op(
    graph: Graph, ops: Sequence[str], objective: Objective, seconds: Seconds | None = None
) -> dict[str, float]:
    """The share of the whole that int8 saves on each of `ops`.

    Args:
        graph: the float model.
        ops: what may be int8.
        objective: what counts.
        seconds: measured time of each op; None counts multiply-accumulates instead. An op that was not told apart gets
            its part of the whole gain by its multiply-accumulates.
    """
    if objective == "ops":
        return {op: 1.0 / len(ops) for op in ops}
    if objective == "size":
        return _shares({op: _bytes_saved(graph, op) for op in ops})
    work = _shares({op: float(graph.node(op).macs) for op in ops})
    return work if seconds is None else _measured(work, *seconds)


def _measured(work: dict[str, float], floats: Mapping[str, float], int8: Mapping[str, float]) -> dict[str, float]:
    known = [op for op in work if op in floats and op in int8]
    total = sum(floats.values())
    saved = {op: max(0.0, floats[op] - int8[op]) / total for op in known} if total > 0.0 else {}
    seen = sum(work[op] for op in saved)
    typical = sum(saved.values()) / seen if seen > 0.0 else 1.0
    # Rounded, so that a plan does not hang on the last digits of a clock.
    return {op: float(f"{saved.get(op, typical * work[op]):.2g}") for op in work}


def _shares(amounts: dict[str, float]) -> dict[str, float]:
    total = sum(amounts.values())
    return {op: amount / total if total > 0.0 else 0.0 for op, amount in amounts.items()}


def _bytes_saved(graph: Graph, op: str) -> float:
    """What the op's weight takes more in float than in int8."""
    node = graph.node(op)
    if node.contraction is None or node.contraction.weight_input is None:
        return 0.0
    weight = graph.value(node.inputs[node.contraction.weight_input])
    wide = 2 if weight.dtype.endswith("16") else 4
    return float(prod(size or 1 for size in weight.shape or ()) * (wide - 1))
