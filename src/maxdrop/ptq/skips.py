"""Skip connections of residual blocks: they read the quantized value too, where the runtime then saves a conversion.

An addition beside an int8 convolution takes integers for nothing: the value is there as bytes, for the convolutions
that read it. If the skip connection reads the float value instead, the runtime keeps both, and executes the quantizer
as an op of its own. The products of transformers gain nothing, and their residual streams carry extremes.
"""

from __future__ import annotations

from collections.abc import Collection

from maxdrop.data.graph import Graph, Node, OpKind
from maxdrop.data.plan import UseRef
from maxdrop.data.spec import QuantizerSpec, QuantParams
from maxdrop.ptq.basis import Basis
from maxdrop.ptq.numerics import fake_quantize, nmse

MOST_ERROR = 1e-3
"""Error that the skip connection may take on, as a share of the value's power: the range suits the int8 readers, and
what they can do without may matter behind the addition."""


def skip_uses(
    basis: Basis, value: str, spec: QuantizerSpec, params: QuantParams, int8: Collection[str]
) -> tuple[UseRef, ...]:
    """Inputs of additions that read `value` and shall get it quantized.

    Args:
        basis: of the plan.
        value: the value that a quantizer for whole tensors reads.
        spec: of this quantizer.
        params: of this quantizer.
        int8: all ops of the plan that are int8.
    """
    graph = basis.graph
    found = []
    for use in graph.value(value).uses:
        node = graph.node(use.node)
        if node.kind is not OpKind.ADD or node.name in basis.policy.ignored:
            continue
        other = node.inputs[1 - use.index]
        same_shape = graph.value(other).shape == graph.value(value).shape
        source = behind_bias(graph, other)
        if other != value and same_shape and source.kind is OpKind.CONVOLUTION and source.name in int8:
            found.append(UseRef(node=use.node, index=use.index))
    return tuple(found) if found and _error(basis, value, spec, params) <= MOST_ERROR else ()


def behind_bias(graph: Graph, value: str) -> Node:
    """What yields `value`, apart from a bias."""
    node = graph.producer(value)
    while node.kind is OpKind.ADD:
        whole = [v for v in node.inputs if graph.value(v).shape == graph.value(node.outputs[0]).shape]
        if len(whole) != 1:
            return node
        node = graph.producer(whole[0])
    return node


def _error(basis: Basis, value: str, spec: QuantizerSpec, params: QuantParams) -> float:
    if value not in basis.statistics:
        return 1.0
    rows = basis.statistics[value].rows
    return basis.remember(("skip", value, spec, params), lambda: nmse(rows, fake_quantize(rows, params, spec)))
