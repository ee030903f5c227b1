"""Structures that decide how an op is treated, described as data.

Each pattern is a row: where a walk starts, which kinds it may pass, and where it must end. A new structure is a
new row, not new code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from maxdrop.data.graph import Graph, Node, OpKind

_K = OpKind
_CONTRACTIONS = frozenset(
    {_K.CONVOLUTION, _K.GROUP_CONVOLUTION, _K.DEPTHWISE_CONVOLUTION, _K.CONV_TRANSPOSE, _K.MATMUL}
)
_POINTWISE = frozenset(
    {
        _K.ADD,
        _K.SUBTRACT,
        _K.MULTIPLY,
        _K.DIVIDE,
        _K.RELU,
        _K.SIGMOID,
        _K.ACTIVATION,
        _K.CONVERT,
        _K.LAYOUT,
        _K.OTHER,
    }
)


class Pattern(NamedTuple):
    """A walk against the flow of data: from `end` back to `start`, over nodes of the kinds in `through`.

    Attributes:
        name: what the structure is called.
        end: kind of the node at which the walk begins.
        through: kinds that may lie between.
        start: kinds at which the walk is complete.
        rejoins: the start must read what the end reads too (a gate on its own input).
        limit: the most nodes between.
        reason: why convolutions and products on the walk stay float; empty when they need not.
    """

    name: str
    end: OpKind
    through: frozenset[OpKind]
    start: frozenset[OpKind]
    rejoins: bool
    limit: int
    reason: str


SQUEEZE_EXCITE = Pattern(
    name="squeeze-excite",
    end=_K.MULTIPLY,
    through=_CONTRACTIONS | _POINTWISE,
    start=frozenset({_K.REDUCE, _K.AVERAGE_POOL}),
    rejoins=True,
    limit=14,
    reason="squeeze-excite: one pixel of work, a conversion costs more than int8 gains",
)
FLOAT_REGIONS = (SQUEEZE_EXCITE,)
"""Patterns whose convolutions and products stay float by default."""


def matches(graph: Graph, pattern: Pattern) -> Iterator[tuple[Node, list[Node]]]:
    """Every node of kind `pattern.end` that a walk leads to, with all nodes between it and the start."""
    for node in graph:
        if node.kind is not pattern.end:
            continue
        for value in node.inputs:
            others = {other for other in node.inputs if other != value} if pattern.rejoins else None
            path = _walk(graph, pattern, value, others)
            if path is not None:
                yield node, path
                break


def _walk(graph: Graph, pattern: Pattern, value: str, others: set[str] | None) -> list[Node] | None:
    """Nodes from `value` back to the start, or None. Follows one data input at a time, depth first."""
    stack: list[tuple[str, list[Node]]] = [(value, [])]
    seen: set[str] = set()
    while stack:
        current, path = stack.pop()
        if current in seen or graph.value(current).is_constant:
            continue
        seen.add(current)
        node = graph.producer(current)
        if node.kind in pattern.start and (others is None or others & set(node.inputs)):
            return [*path, node]
        if node.kind in pattern.through and len(path) < pattern.limit:
            stack.extend((source, [*path, node]) for source in reversed(node.inputs))
    return None


def float_regions(graph: Graph) -> dict[str, str]:
    """Ops that stay float because of the structure that they are part of, with the reason."""
    found: dict[str, str] = {}
    for pattern in FLOAT_REGIONS:
        for _, path in matches(graph, pattern):
            found.update({node.name: pattern.reason for node in path if node.contraction is not None})
    return found
